"""`python -m benchmarks speed`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from rich.console import Console

    from benchmarks.speed.cost_growth import Point
    from benchmarks.speed.timed_rounds import Outcome

Named = TypeVar("Named")

BUSY = 0.9
"""Cores in use: with fewer, other programs have kept the machine busy, and it is said."""


@click.command()
@click.option(
    "--networks", "-k", "networks_", metavar="PATTERNS", help="Only these, by name or pattern, with commas: 2-2-2,cnn*."
)
@click.option(
    "--contenders",
    "contenders_",
    metavar="PATTERNS",
    help="Only these, beside the bare matrix products: refnet*,torch-eager.",
)
@click.option("--rounds", type=click.IntRange(min=3), help="Rounds of each, in turn.  [default: 9; quick: 5]")
@click.option("--quick", is_flag=True, help="Short rounds, and few of them.")
@click.option(
    "--trainings/--no-trainings",
    "whole",
    default=True,
    show_default=True,
    help="Time whole trainings, each in a process of its own.",
)
@click.option("--steps/--no-steps", "stepping", default=True, show_default=True, help="Time a training's step.")
@click.option("--growth", "growing", is_flag=True, help="Also how refnet's cost grows with what it is given.")
@click.option("--optimizers", "moving", is_flag=True, help="Also Adam's plain step beside torch's, on given gradients.")
@click.option(
    "--dtype", type=click.Choice(["float64", "float32"]), help="The dtype of all networks.  [default: each its own]"
)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads of each library.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write trainings.csv, speed.csv, floors.csv, growth.csv, environment.json, and figures as PNG and SVG.",
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON document, and no tables.")
@click.option("--list", "listing", is_flag=True, help="Name the networks and contenders, and stop.")
def speed(
    networks_: str | None,
    contenders_: str | None,
    rounds: int | None,
    quick: bool,
    whole: bool,
    stepping: bool,
    growing: bool,
    moving: bool,
    dtype: str | None,
    threads: int,
    out: Path | None,
    as_json: bool,
    listing: bool,
) -> None:
    """Time trainings of refnet and of its peers: a whole one, of 10,000 updates or fewer, and a step of it.

    A whole training runs in a process of its own, with all that it takes: loading, building, compiling. For a step all
    run in one process, in turn, on one fixed full batch, and each is first held against refnet's weights after a few
    updates. Libraries that are not installed are named and left out.
    """
    from dataclasses import replace

    from benchmarks.speed.contenders import CONTENDERS, LIMIT
    from benchmarks.speed.networks import NETWORKS, STUDY

    chosen_networks = [
        replace(network, dtype=dtype or network.dtype) for network in _chosen("--networks", networks_, NETWORKS)
    ]
    chosen = _chosen("--contenders", contenders_, CONTENDERS)
    if listing:
        _list(chosen_networks, chosen)
        return
    _needs(["threadpoolctl", *(["matplotlib"] if out else [])])
    if out:
        _writable(out)
    from benchmarks.speed import cost_growth, optimizer_steps, speed_tables
    from benchmarks.speed.floors import FLOORS, OTHER_BITS, findings
    from benchmarks.speed.libraries_used import environment
    from benchmarks.speed.thread_limits import limited, settled
    from benchmarks.speed.timed_rounds import ROUND, contest
    from benchmarks.speed.whole_training import TRAINED, WholeTraining, measure

    laps, updates = (1, STUDY // 10) if quick else (min(rounds or 2, 5), STUDY)
    rounds, turn = rounds or (5 if quick else 9), ROUND / 4 if quick else ROUND
    contenders = [contender for contender in CONTENDERS if contender in chosen or contender is LIMIT]
    console = _console()
    outcomes: list[Outcome] = []
    points: list[Point] = []
    trained: list[WholeTraining] = []
    single = [network for network in chosen_networks if not network.many] if whole else []
    names = [name for name in TRAINED if name in {contender.name for contender in chosen}]
    stages = len(single) + stepping * len(chosen_networks) + growing + moving
    with limited(threads), _progress(stages) as (told, done):
        for network in single if names else []:
            trained += measure([network], names, rounds=laps, updates=min(updates, network.updates), told=told)
            done()
        if trained and not as_json:
            console.print(speed_tables.trainings(trained))
        for network in chosen_networks if stepping else []:
            with settled(threads):
                found = contest(contenders, network, rounds, turn, told)
            outcomes += found
            if found and not as_json:
                console.print(speed_tables.speed(found))
            done()
        if growing:
            with settled(threads):
                points = cost_growth.measure(
                    dtype or "float64", rounds, turn, cost_growth.QUICK if quick else cost_growth.VALUES, told
                )
            done()
        moved = []
        if moving:
            with settled(threads):
                moved = optimizer_steps.measure(rounds, turn, told=told)
            done()
        where = {
            **environment(threads),
            "rounds": rounds,
            "seconds of a turn": turn,
            "dtype": dtype or "of each network",
        }
    where["cores used"] = used = _cores(outcomes)
    judged = findings(outcomes, threads) if stepping else []
    if used is not None and used < BUSY:
        # Bits hang on no clock.
        why = "not judged: the machine was busy"
        judged = [f if f.reason == OTHER_BITS else replace(f, met=None, reason=why) for f in judged]
    every = stepping and len(judged) >= len(FLOORS)
    # (in processor seconds, so that a busy machine does not stand against them)
    judged += moved
    if as_json:
        click.echo(_document(trained, outcomes, points, judged, where))
    else:
        if points:
            console.print(speed_tables.growth(points))
        if judged:
            console.print(speed_tables.floors(judged))
        if stepping and not every:
            console.print("The floors are asked on one thread, in the dtypes that --list tells.")
        console.print()
        if used is not None and used < BUSY:
            console.print(speed_tables.busy(used), style="bold yellow")
            console.print()
        if stepping:
            console.print(speed_tables.LEGEND, style="dim", soft_wrap=True)
    if out:
        _write(out, trained, outcomes, points, judged, where)


def _chosen(option: str, patterns: str | None, among: Sequence[Named]) -> list[Named]:
    """Those whose name matches one of the patterns, in their own order."""
    from fnmatch import fnmatchcase

    if patterns is None:
        return list(among)
    names = [thing.name for thing in among]  # type: ignore[attr-defined]
    wanted = [pattern.strip() for pattern in patterns.split(",")]
    for pattern in wanted:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise click.UsageError(f"{option}: expected names or patterns of {', '.join(names)}; got {pattern!r}")
    return [
        thing for thing, name in zip(among, names, strict=True) if any(fnmatchcase(name, pattern) for pattern in wanted)
    ]


def _cores(outcomes: Sequence[Outcome]) -> float | None:
    """Cores that a contender had in its rounds: the median of all that were measured."""
    from statistics import median

    found = [outcome.cores for outcome in outcomes if outcome.status == "measured"]
    return median(found) if found else None


def _list(networks: Sequence[Any], contenders: Sequence[Any]) -> None:
    for network in networks:
        about = f"batch {network.batch}, {network.dtype}, {network.multiplications:,} multiplications a step"
        click.echo(f"{network.name:<22}{about}")
    click.echo()
    for contender in contenders:
        click.echo(f"{contender.name:<22}{contender.about}")


def _needs(packages: Sequence[str]) -> None:
    from importlib.util import find_spec

    if missing := [package for package in packages if find_spec(package) is None]:
        raise click.UsageError(f"expected {' and '.join(packages)} to be installed, did not find {', '.join(missing)}")


def _writable(out: Path) -> None:
    """Refuse a folder that cannot be written to, before minutes are spent on the results."""
    from tempfile import TemporaryFile

    try:
        out.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise click.UsageError(f"--out: expected a folder to write to, got {out}: {error.strerror}") from None


def _document(trained: Any, outcomes: Any, points: Any, judged: Any, where: Any) -> str:
    import json

    from benchmarks.speed import speed_tables

    return json.dumps(
        {
            "environment": where,
            "trainings": list(speed_tables.training_rows(trained)),
            "speed": list(speed_tables.speed_rows(outcomes)),
            "growth": list(speed_tables.growth_rows(points)),
            "floors": list(speed_tables.floor_rows(judged)),
        },
        indent=1,
        allow_nan=False,
    )


def _write(out: Path, trained: Any, outcomes: Any, points: Any, judged: Any, where: Any) -> None:
    import json

    from benchmarks.speed import speed_figures, speed_tables
    from refnet.files import write_bytes

    write_bytes(out / "environment.json", (json.dumps(where, indent=1) + "\n").encode())
    for name, rows in (
        ("trainings", speed_tables.training_rows(trained)),
        ("speed", speed_tables.speed_rows(outcomes)),
        ("floors", speed_tables.floor_rows(judged)),
        ("growth", speed_tables.growth_rows(points)),
    ):
        if content := _csv(list(rows)):
            write_bytes(out / f"{name}.csv", content)
    for name, content in speed_figures.drawn(trained, outcomes, points):
        write_bytes(out / name, content)


def _csv(rows: Sequence[dict[str, Any]]) -> bytes:
    import csv
    import io

    if not rows:
        return b""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _console() -> Console:
    import sys

    from rich.console import Console

    # A pipe has no width of its own.
    return Console(width=None if sys.stdout.isatty() else 140, highlight=False, markup=False, emoji=False)


@contextmanager
def _progress(total: int) -> Iterator[tuple[Callable[[str], None], Callable[[], None]]]:
    """A bar on standard error: what tells it what is under way, and what is called after each network."""
    from rich import progress
    from rich.console import Console

    columns = (
        progress.BarColumn(20),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TextColumn("{task.description}"),
    )
    console = Console(stderr=True)
    with progress.Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total)
        yield (lambda text: bar.update(task, description=text)), (lambda: bar.advance(task))
