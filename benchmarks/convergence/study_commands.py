"""The commands `convergence` and `report` of `python -m benchmarks`."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self

import click

from benchmarks.convergence.arms import OPTIMIZERS, REGIMES, Extent, Optimizer
from benchmarks.convergence.executors import Serial, Unavailable, Workers, WorkersLost, executor
from benchmarks.convergence.problems import PROBLEMS, REAL
from benchmarks.environment import processor, versions

if TYPE_CHECKING:
    from rich.console import Console

    from benchmarks.convergence.study import Study

STUDIES: dict[Extent, tuple[tuple[str, ...], int]] = {
    "small": (("line", "iris"), 8),
    "full": (tuple(name for name in PROBLEMS if name not in REAL), 20),
    # the fewest runs of which an interval of the differences can be made
    "real": (REAL, 6),
}
"""Of each extent, the problems and the final runs of each arm."""

PACKAGES = ("refnet", "numpy", "torch", "scikit-learn", "mlxtend")


def _executor_spec(context: click.Context, parameter: click.Parameter, value: str) -> str:
    try:
        executor(value, 1)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    return value


@click.command()
@click.option(
    "--problem",
    "problems",
    multiple=True,
    type=click.Choice(PROBLEMS),
    help="Repeatable. [default: line, iris; with --full: all but the last two; with --real: the last two]",
)
@click.option("--regime", "regimes", multiple=True, type=click.Choice(REGIMES), help="Repeatable. [default: all]")
@click.option(
    "--optimizer",
    "optimizers",
    multiple=True,
    type=click.Choice(tuple(OPTIMIZERS)),
    help="Repeatable: every arm is made by each of them, with a rate of its own. momentum is SGD with 0.9. "
    "[default: sgd]",
)
@click.option(
    "--seeds",
    type=click.IntRange(1, 1000),
    help="Final runs of each arm. [default: 8; with --full: 20; with --real: 6]",
)
@click.option(
    "--iterations", type=click.IntRange(min=1), default=10_000, show_default=True, help="Updates of each run."
)
@click.option(
    "--engine",
    type=click.Choice(["refnet", "torch", "both"]),
    default="refnet",
    show_default=True,
    help="Which engine makes the final runs; rates are always chosen by refnet's.",
)
@click.option("--jobs", type=click.IntRange(min=1), help="Processes of the pool. [default: the number of cores]")
@click.option(
    "--executor",
    "spec",
    default="process",
    show_default=True,
    metavar="WHERE",
    callback=_executor_spec,
    help="serial, process (a pool), dask://HOST:PORT (whose workers can import benchmarks) or mpi (under mpiexec -n N "
    "python -m mpi4py.futures -m benchmarks convergence).",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("convergence"),
    show_default=True,
    metavar="DIR",
    help="The study's folder.",
)
@click.option("--resume", is_flag=True, help="Go on with the study in DIR.")
@click.option("--full", is_flag=True, help="More problems, all arms, more seeds.")
@click.option("--real", is_flag=True, help="The problems of real size, all sizes of batch, fewer seeds.")
@click.option(
    "--repeat/--no-repeat",
    default=None,
    help="Also sweep and train with other last bits of the initial weights, and say which sentences change. "
    "[default: with --full]",
)
@click.option(
    "--times/--no-times",
    "timed",
    default=True,
    show_default=True,
    help="Measure what an update takes, for results in seconds; nothing else should run meanwhile.",
)
@click.option(
    "--report/--no-report",
    "drawn",
    default=True,
    show_default=True,
    help="Draw figures and page; the command report does it later from the tables.",
)
def convergence(
    problems: tuple[str, ...],
    regimes: tuple[str, ...],
    optimizers: tuple[Optimizer, ...],
    seeds: int | None,
    iterations: int,
    engine: Any,
    jobs: int | None,
    spec: str,
    out: Path,
    resume: bool,
    full: bool,
    real: bool,
    repeat: bool | None,
    timed: bool,
    drawn: bool,
) -> None:
    """Compare batch, mini-batch and stochastic gradient descent, with --optimizer under momentum and Adam too.

    Each regime's learning rate is chosen by a sweep of its own, on seeds that the final runs do not use. Tables go to
    DIR/tables, figures to DIR/figures, the page is DIR/report.html. A study that was interrupted or killed goes on with
    --resume: no training is done twice.

    Exit code: 0 when the study is complete, 1 when its workers died, 2 for bad usage, 130 when interrupted.
    """
    if full and real:
        raise click.UsageError("--full and --real are two studies: expected one of them")
    from rich.console import Console

    from benchmarks.convergence.study import Study
    from benchmarks.convergence.study_folder import FolderError

    if jobs is not None and spec != "process":
        raise click.UsageError(f"--jobs belongs to --executor process, got --executor {spec}")
    try:
        extent: Extent = "full" if full else "real" if real else "small"
        study = Study(
            problems=tuple(dict.fromkeys(problems)) or STUDIES[extent][0],
            regimes=tuple(regime for regime in REGIMES if regime in regimes or not regimes),
            seeds=seeds or STUDIES[extent][1],
            iterations=iterations,
            engine=engine,
            extent=extent,
            repeat=full if repeat is None else repeat,
            optimizers=tuple(name for name in OPTIMIZERS if name in optimizers) or ("sgd",),
        )
        start = partial(executor, spec, jobs or len(os.sched_getaffinity(0)))
        with Bar(Console(stderr=True, highlight=False, markup=False, emoji=False)) as bar:
            carried_out(study, start, out, bar, resume=resume, timed=timed, drawn=drawn)
    except (FolderError, Unavailable) as error:
        _fail(error, 2)
    except WorkersLost as error:
        _fail(f"{error}; what was computed is kept: go on with --resume", 1)
    except KeyboardInterrupt:
        _fail("interrupted; what was computed is kept: go on with --resume", 130)
    click.echo(out / "report.html" if drawn else out / "tables")


def carried_out(
    study: Study,
    start: Callable[[], AbstractContextManager[Executor]],
    folder: Path,
    bar: Bar,
    *,
    resume: bool,
    timed: bool,
    drawn: bool,
) -> None:
    """Compute all that the study takes, write its tables, and draw its figures and page.

    Raises:
        FolderError, Unavailable: before anything is computed.
        WorkersLost: see `executors.Workers`.
    """
    from benchmarks.convergence import report, side_measurements, study_tables
    from benchmarks.convergence.cells import train
    from benchmarks.convergence.study import Runner, conduct
    from benchmarks.convergence.study_folder import opened

    with ExitStack() as stack:
        # The executor first: one that is not there is to leave no folder behind.
        with Workers(start) as workers:
            store = stack.enter_context(
                opened(folder, study.as_dict(), environment(), resume=resume, say=bar.say),
            )
            results = conduct(study, Runner(store, workers, train, bar))
            for choice in results.choices:
                if not choice.inside:
                    bar.say(f"{choice.problem}, {choice.arm}: the chosen rate, {choice.rate:g}, is at the grid's edge")
            beside = side_measurements.carry_out(
                "theory and twin", side_measurements.beside(study, results), store, workers, bar
            )
        # Now that the workers are gone nothing runs beside what is timed.
        with Workers(Serial) as alone:
            times = side_measurements.carry_out(
                "times", side_measurements.timings(study) if timed else [], store, alone, bar
            )
        study_tables.write(folder / "tables", replace(results, **beside, **times, environment=store.environment))
        if drawn:
            bar.begin("figures and page", 0, 0)
            report.write(folder)


def environment() -> dict[str, Any]:
    """What results were made in, as JSON values."""
    import numpy  # noqa: F401  BLAS is its
    from threadpoolctl import threadpool_info

    blas = [library for library in threadpool_info() if library["user_api"] == "blas"]
    return {
        "date": date.today().isoformat(),
        "python": platform.python_version(),
        **versions(PACKAGES),
        "blas": ", ".join(
            sorted(f"{b['internal_api']} {b['version']} {b.get('architecture', '')}".strip() for b in blas)
        ),
        "threads": 1,
        "system": platform.system(),
        "machine": platform.machine(),
        "processor": processor(),
    }


def _fail(reason: object, code: int) -> NoReturn:
    click.echo(f"Error: {reason}", err=True)
    raise SystemExit(code)


class Bar:
    """A `Progress`: a bar on a terminal, and a line for each stage that has ended.

    The bar's end is that of the stages that are known: it moves on where a grid of rates is extended.
    """

    def __init__(self, console: Console) -> None:
        from rich import progress

        self._console = console
        self._bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            progress.TextColumn("left"),
            progress.TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
            # Groups of cells end minutes apart.
            speed_estimate_period=600,
        )
        self._task = self._bar.add_task("", total=None)
        self._done, self._began = 0, 0.0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def begin(self, stage: str, cells: int, later: int) -> None:
        self._began = time.monotonic()
        self._bar.update(self._task, description=stage, total=self._done + cells + later)

    def advance(self, cells: int) -> None:
        self._done += cells
        self._bar.advance(self._task, cells)

    def end(self, stage: str, computed: int, kept: int) -> None:
        seconds = time.monotonic() - self._began
        self.say(f"{stage}: {computed:,} computed in {seconds:,.1f} s, {kept:,} found in the folder")

    def say(self, message: str) -> None:
        self._console.print(message, soft_wrap=True)


@click.command()
@click.argument("folders", metavar="DIR...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the targets to FILE. [default: print them]",
)
def targets(folders: tuple[Path, ...], out: Path | None) -> None:
    """Print the targets that a study's pilot runs give, in the form of benchmarks/convergence/fixed_targets.json."""
    from benchmarks.convergence import fixed_targets, recorded_study
    from refnet.files import write_bytes

    found: dict[str, Any] = {}
    try:
        for folder in folders:
            found |= fixed_targets.from_pilots(recorded_study.read(folder / "tables"))
        text = fixed_targets.text(found)
        if out is None:
            click.echo(text, nl=False)
        else:
            write_bytes(out, text.encode())
    except (ValueError, OSError) as error:
        _fail(error, 2)


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
def report(folder: Path) -> None:
    """Draw the figures and the page of a study again from DIR/tables."""
    from benchmarks.convergence import report as page

    if not (folder / "tables").is_dir():
        raise click.UsageError(f"{folder}: expected the folder of a study, got one without tables")
    try:
        page.write(folder)
    except (ValueError, OSError) as error:
        _fail(error, 2)
    click.echo(folder / "report.html")
