"""The command line. What takes long to import is imported when it is needed."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from parity.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from parity.cases.case import Case
    from parity.results import Results

ENGINES = ("refnet", "torch")
DTYPES = ("float64", "float32")

_pattern = click.option(
    "-k",
    "pattern",
    default="",
    metavar="PATTERN",
    help="Only cases whose name contains PATTERN, or matches it with * and ?.",
)
_jobs = click.option(
    "--jobs", type=click.IntRange(min=1), default=None, help="Worker processes. [default: the number of cores]"
)


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="refnet")
@click.pass_context
def cli(context: click.Context) -> None:
    """Hold engines that compute gradients and updates against certified truth.

    Without a command: the whole catalogue, on refnet and on torch, in float64 and float32.

    Exit code: 0 when every engine conforms, 1 when anything fails, 2 for bad usage.
    """
    sys.path.insert(0, os.getcwd())
    if context.invoked_subcommand is None:
        context.invoke(run)


@cli.command()
@_pattern
@click.option(
    "--engine",
    "names",
    multiple=True,
    metavar="NAME",
    help="refnet, torch, torch:DEVICE or package.module:Class. Repeatable. [default: refnet, torch]",
)
@click.option(
    "--dtype", "dtypes", multiple=True, metavar="DTYPE", help="float64 or float32. Repeatable. [default: both]"
)
@click.option("--list", "listing", is_flag=True, help="List the cases and stop.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), metavar="FILE", help="Write all results as JSON.")
@click.option(
    "--junit", "junit_file", type=click.Path(path_type=Path), metavar="FILE", help="Write results as JUnit XML."
)
@click.option("-v", "--verbose", is_flag=True, help="A line for each tensor, not only the worst of each group.")
@click.option(
    "--faults/--no-faults",
    "with_faults",
    default=None,
    help="Also seed known faults and say by how much each is caught. [default: for the whole catalogue]",
)
@_jobs
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=120.0,
    show_default=True,
    help="Seconds that one case may take.",
)
def run(
    pattern: str = "",
    names: Sequence[str] = (),
    dtypes: Sequence[str] = (),
    listing: bool = False,
    json_file: Path | None = None,
    junit_file: Path | None = None,
    verbose: bool = False,
    with_faults: bool | None = None,
    jobs: int | None = None,
    timeout: float = 120.0,
) -> None:
    """Judge engines on the catalogue, or on a part of it."""
    from parity import engines
    from parity.cases import select

    cases = select(pattern)
    if listing:
        for case in cases:
            click.echo(case.name)
        return
    for dtype in dtypes:
        if dtype not in DTYPES:
            raise UsageError(f"--dtype: expected {' or '.join(DTYPES)}, got {dtype}")
    chosen = tuple(dict.fromkeys(names)) or ENGINES
    for name in chosen:
        engines.check(name)
    for file in (json_file, junit_file):
        _writable(file)
    results = _run(cases, chosen, tuple(dict.fromkeys(dtypes)) or DTYPES, jobs, timeout)
    console = _console()
    from parity.report import machine, terminal

    console.print(terminal.table(results, verbose))
    console.print(terminal.LEGEND, style="dim")
    console.print()
    if not results.conforms:
        console.print(terminal.failures(results))
        console.print()
    console.print(terminal.summary(results))
    from parity.vectors import store

    if json_file:
        store.replace(json_file, machine.to_json(results).encode())
    if junit_file:
        store.replace(junit_file, machine.to_junit(results).encode())
    if not results.conforms:
        raise SystemExit(1)


def _run(
    cases: Sequence[Case], names: Sequence[str], dtypes: Sequence[str], jobs: int | None, timeout: float
) -> Results:
    from parity import runner
    from parity.results import Results

    start = time.perf_counter()
    with _progress() as progress:
        task = progress.add_task("judging", total=len(cases))
        found = tuple(
            runner.run(cases, names, dtypes, jobs or os.cpu_count() or 1, timeout, lambda: progress.advance(task))
        )
    return Results(tuple(names), found, time.perf_counter() - start, environment())


@cli.command()
@_pattern
@click.option("--check", is_flag=True, help="Compute everything again and compare it, bit for bit, with what is kept.")
@_jobs
def certify(pattern: str, check: bool, jobs: int | None) -> None:
    """Compute the certified answers that are kept in the package, where they are missing; or prove the kept ones. Needs python-flint.

    An interrupted run goes on where it stopped.
    """
    from parity.cases import select
    from parity.vectors import certifying

    with _progress() as progress:
        report = certifying.run(select(pattern), check, jobs or os.cpu_count() or 1, progress)
    click.echo(str(report))
    if report.differing:
        raise SystemExit(1)


@cli.command()
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print everything as JSON: decimals of at least 20 digits beside exact forms.",
)
def example(as_json: bool) -> None:
    """The worked example, figure by figure: published, certified, refnet's, torch's, and the recipes that yield each."""
    from parity import example as worked

    if as_json:
        import json

        click.echo(json.dumps(worked.as_json(), indent=1))
    else:
        worked.report(_console())


def environment() -> dict[str, str]:
    """Where results were made: versions and processor."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version(), "machine": platform.machine(), "system": platform.system()}
    for package in ("refnet", "numpy", "torch"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _console() -> Console:
    from rich.console import Console

    # A pipe has no width of its own: wide enough that no line is cut.
    return Console(width=None if sys.stdout.isatty() else 160, highlight=False)


def _progress() -> Any:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _writable(file: Path | None) -> None:
    """Refuse a place that can't be written to before an hour is spent on what should go there."""
    if file is not None and (
        file.is_dir() or not file.resolve().parent.is_dir() or not os.access(file.resolve().parent, os.W_OK)
    ):
        raise UsageError(f"{file}: expected a file in a folder that exists and is writable")


def main() -> None:
    """The program `parity`, and `python -m parity`."""
    try:
        cli.main(prog_name="parity", standalone_mode=False)
    except UsageError as error:
        click.echo(f"parity: {error}", err=True)
        sys.exit(2)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        click.echo("parity: interrupted", err=True)
        sys.exit(130)
    except BrokenPipeError:
        # The reader of a pipe has gone: no more to say, and nothing more to flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
