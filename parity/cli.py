"""The command line. What takes long to import is imported when it is needed."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from parity.records.record import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from parity.families.case import Case
    from parity.run.certifying import Report
    from parity.run.results import Results
    from parity.run.scoring import Scores

ENGINES = ("refnet", "torch")
DTYPES = ("float64", "float32")

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Where output can't be written to the end."""

FAILURES = 40
"""So many failures are told in words; the table and the files have them all."""

_pattern = click.option(
    "-k",
    "pattern",
    default="",
    metavar="PATTERN",
    help="Only cases whose name contains PATTERN, or matches it with * and ?; patterns may be joined by and, or, not.",
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
    help="Whether to score the yardstick itself on known mistakes. [default: for the whole catalogue]",
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
    from parity.engines import loading
    from parity.families.catalogue import select

    cases = select(pattern)
    if listing:
        _console().out("\n".join(case.name for case in cases))
        return
    for dtype in dtypes:
        if dtype not in DTYPES:
            raise UsageError(f"--dtype: expected {' or '.join(DTYPES)}, got {dtype}")
    chosen = tuple(dict.fromkeys(names)) or ENGINES
    if any(name.partition(":")[0] not in loading.BUILT_IN for name in chosen):
        # Anyone's own engine is looked for in the current folder first, by the workers too.
        sys.path.insert(0, os.getcwd())
    for name in chosen:
        loading.check(name)
    for file in (json_file, junit_file):
        _writable(file)
    if json_file and json_file == junit_file:
        raise UsageError(f"--json and --junit: expected two files, got {json_file} for both")
    results = _run(cases, chosen, tuple(dict.fromkeys(dtypes)) or DTYPES, jobs, timeout)
    try:
        _write(results, json_file, junit_file)
    finally:
        _print(results, verbose)
    sound = True
    if with_faults or (with_faults is None and not pattern):
        from parity.report import scores as report

        scores = _score(cases, "float64", jobs)
        _console().print(report.summary(scores), soft_wrap=True)
        sound = _sound(scores, pattern)
    if not (results.conforms and sound):
        raise SystemExit(1)


@cli.command()
@_pattern
@click.option("--dtype", type=click.Choice(DTYPES), default="float64", show_default=True, help="Computed in.")
@_jobs
def faults(pattern: str, dtype: str, jobs: int | None) -> None:
    """Score the yardstick itself: known mistakes, each to be caught, and harmless rewritings, none to be flagged.

    Every one is made in refnet, in every case that it touches, and judged like any engine.
    """
    from parity.families.catalogue import select
    from parity.report import scores as report

    scores = _score(select(pattern), dtype, jobs)
    console = _console()
    console.print(report.table(scores))
    console.print(report.summary(scores), soft_wrap=True)
    if not _sound(scores, pattern):
        raise SystemExit(1)


def _sound(scores: Scores, pattern: str) -> bool:
    """Whether nothing is to be said against the yardstick: a part of the catalogue need not reveal every mistake."""
    return scores.sound if not pattern else not scores.flagged


def _score(cases: Sequence[Case], dtype: str, jobs: int | None) -> Scores:
    from parity.run import scoring

    with _progress("seeding faults") as (start, done):
        return scoring.run(cases, dtype, jobs or os.cpu_count() or 1, start, done)


def _run(
    cases: Sequence[Case], names: Sequence[str], dtypes: Sequence[str], jobs: int | None, timeout: float
) -> Results:
    from parity.run import judging
    from parity.run.results import Results

    start = time.perf_counter()
    with _progress("judging", len(cases)) as (_, done):
        found = judging.run(cases, names, dtypes, jobs or os.cpu_count() or 1, timeout, done)
    return Results(tuple(names), tuple(found), time.perf_counter() - start, environment())


def _write(results: Results, json_file: Path | None, junit_file: Path | None) -> None:
    from parity.report import machine
    from parity.vectors import store

    if json_file:
        store.replace(json_file, machine.to_json(results).encode())
    if junit_file:
        store.replace(junit_file, machine.to_junit(results).encode())


def _print(results: Results, verbose: bool) -> None:
    from parity.report import terminal

    console = _console()
    console.print(terminal.table(results, verbose, console.width))
    console.print()
    console.print(terminal.LEGEND, style="dim")
    console.print()
    if not results.conforms:
        console.print(terminal.failures(results, None if verbose else FAILURES), soft_wrap=True)
        console.print()
    console.print(terminal.notes(results), soft_wrap=True)
    console.print(terminal.summary(results), soft_wrap=True)


@cli.command()
@_pattern
@click.option("--check", is_flag=True, help="Compute everything again and compare it, bit for bit, with what is kept.")
@_jobs
def certify(pattern: str, check: bool, jobs: int | None) -> None:
    """Compute the certified answers that are kept in the package, where they are missing; or prove the kept ones.

    With a pattern, only those of the catalogue's cases; without, of the worked example too. Needs python-flint. An
    interrupted run goes on where it stopped.
    """
    from parity.families.catalogue import select

    workers = jobs or os.cpu_count() or 1
    with _progress("proving" if check else "certifying") as (start, done):
        from parity.run import certifying

        report = certifying.run(select(pattern), check, workers, start, done)
    if not pattern:
        _certify_example(report, check, workers)
    _console().out(str(report))
    if report.differing:
        raise SystemExit(1)


def _certify_example(report: Report, check: bool, workers: int) -> None:
    from parity import example as worked

    with _progress("the worked example", worked.parts()) as (_, done):
        if check:
            differing = worked.check(workers, done)
            report.differing += [f"the worked example: {name}" for name in differing]
            report.equal += not differing
        elif worked.is_certified():
            report.present += 1
        else:
            worked.certify(workers, done)
            report.computed += 1


@cli.command()
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print everything as JSON: decimals of at least 20 digits beside exact forms.",
)
@click.option(
    "--html",
    "html_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write it as a page to walk through: one HTML file, readable offline.",
)
@click.option(
    "--worksheet",
    "seed",
    type=click.IntRange(min=0),
    metavar="SEED",
    help="With --html: a worksheet to print, with numbers of its own for each SEED, and its certified key.",
)
@click.option(
    "--check",
    "typed",
    metavar="FIGURE",
    help="Say what a figure is that was worked out by hand: right, in print, or a known mistake's.",
)
@click.option("--step", default="", metavar="NAME", help="With --check: the figure that it is meant to be, as E@1.")
@click.option(
    "--own",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="With --check: a JSON file of one's own numbers by name, as {\"w5\": 0.41}; the others are the article's.",
)
def example(
    as_json: bool, html_file: Path | None, seed: int | None, typed: str | None, step: str, own: Path | None
) -> None:
    """The worked example, figure by figure: published, certified, refnet's, torch's, and what recipes yield each.

    With --check, exit code 0 says that the figure is right, 1 that it is not.
    """
    from parity import example as worked

    if typed is not None:
        if as_json or html_file or seed is not None:
            raise UsageError("--check: expected no other output beside it, got --json, --html or --worksheet")
        if not worked.recognise(_console(), typed, step, own):
            raise SystemExit(1)
        return
    if seed is not None and (as_json or not html_file):
        raise UsageError("--worksheet: expected --html FILE beside it, and no --json")
    if step or own:
        raise UsageError(f"{'--step' if step else '--own'}: expected --check FIGURE beside it, got none")
    if html_file:
        _writable(html_file)
        from parity.vectors import store

        page = worked.as_html() if seed is None else worked.worksheet(seed)
        store.replace(html_file, page.encode())
        if not as_json:
            return
    if as_json:
        _console().out(worked.as_json())
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

    class Pipe(Console):
        def on_broken_pipe(self) -> None:
            # The reader of a pipe has gone: nothing more to flush. The shell's code for that, as 1 means a failure.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(141)

    # A pipe has no width of its own.
    return Pipe(width=None if sys.stdout.isatty() else 120, highlight=False, markup=False, emoji=False)


@contextmanager
def _progress(what: str, total: int | None = None) -> Iterator[tuple[Callable[[int], None], Callable[[], None]]]:
    """A bar on standard error. Gives what is told how many steps there are, and what is called after each."""
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with progress.Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda n: bar.update(task, total=n), lambda: bar.advance(task)


def _writable(file: Path | None) -> None:
    """Refuse a place that can't be written to before an hour is spent on what should go there."""
    if file is not None and (file.is_dir() or not os.access(file.resolve().parent, os.W_OK)):
        raise UsageError(f"{file}: expected a file in a folder that exists and is writable")


def main() -> None:
    """The program `parity`, and `python -m parity`."""
    try:
        cli.main(prog_name="parity", standalone_mode=False)
        sys.stdout.flush()
    except OSError as error:
        if error.errno not in FULL:
            raise
        # What is left in the buffer has no place to go to either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        click.echo(f"parity: the output: expected a place to write to, got: {error.strerror}", err=True)
        sys.exit(2)
    except UsageError as error:
        click.echo(f"parity: {error}", err=True)
        sys.exit(2)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        click.echo("parity: interrupted", err=True)
        sys.exit(130)
