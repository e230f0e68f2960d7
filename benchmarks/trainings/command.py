"""The command `python -m benchmarks trainings`."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np

import refnet
from benchmarks.trainings.compare import Outcome, outcome
from refnet.files import write_bytes
from refnet.train.capture.native import object_cache, translator

CHUNK = 25
"""Trainings that a process does without a word."""

KEPT = 10_000
"""Translated loops that a process keeps."""


@click.command()
@click.option("--count", type=click.IntRange(1), default=200, show_default=True, help="How many trainings.")
@click.option("--first", type=click.IntRange(0), default=0, show_default=True, help="The seed of the first.")
@click.option("--processes", type=click.IntRange(1), default=1, show_default=True, help="Trainings at a time.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write what was found to this file.")
@click.option("--resume", is_flag=True, help="Go on from what the file of --json says, which is written as it goes.")
def trainings(count: int, first: int, processes: int, json_file: Path | None, resume: bool) -> None:
    """Run random trainings plainly and in every captured way.

    Networks, losses, optimizers, options, layouts of the data, callbacks, schedules and interrupts are drawn from
    seeds, one after the other. Exit code 1 if a single bit of weights, buffers, state, losses, recorded weights,
    generators or errors differs from the plain training.
    """
    found = _before(json_file, first) if resume else summary(()) | {"first": first, "seconds": 0}
    spent, begun = found["seconds"], time.perf_counter()
    seeds = range(first + found["trainings"], first + count)
    chunks = [seeds[k : k + CHUNK] for k in range(0, len(seeds), CHUNK)]
    context = get_context("spawn")
    with (
        TemporaryDirectory() as cache,
        ProcessPoolExecutor(processes, mp_context=context, initializer=_begin, initargs=(cache,)) as pool,
    ):
        for done in pool.map(_outcomes, chunks):
            for wrong in (one for one in done if one.differs):
                click.echo(f"seed {wrong.seed}: {', '.join(wrong.differs)} ({', '.join(wrong.features)})")
            found = together(found, summary(done))
            found |= {"first": first, "seconds": round(spent + time.perf_counter() - begun), **_environment()}
            _write(json_file, found)
    click.echo(
        f"{found['trainings']} trainings, {found['different']} with other bits than the plain one; captured: "
        + ", ".join(f"{way} {number}" for way, number in found["captured"].items())
    )
    sys.exit(1 if found["different"] else 0)


def _before(json_file: Path | None, first: int) -> dict[str, Any]:
    """What a file has found so far."""
    if json_file is None:
        raise click.UsageError("--resume: expected --json with the file to go on from, got none")
    try:
        found: dict[str, Any] = json.loads(json_file.read_text("utf-8"))
        begun = found["first"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise click.UsageError(f"{json_file}: expected a file that this command has written, got: {error}") from None
    if begun != first:
        raise click.UsageError(f"{json_file}: expected trainings from seed {first} on, got those from {begun} on")
    return found


def _write(json_file: Path | None, found: dict[str, Any]) -> None:
    if json_file is None:
        return
    try:
        write_bytes(json_file, (json.dumps(found, indent=1) + "\n").encode())
    except OSError as error:
        raise click.UsageError(f"{json_file}: expected a place to write to, got: {error.strerror}") from None


def _begin(cache: str) -> None:
    """The processes have a cache of machine code in common, apart from the user's own, which it would fill; and each
    keeps more of it at hand than a user's process."""
    os.environ.setdefault(object_cache.VARIABLE, cache)
    translator.KEPT = KEPT


def _outcomes(seeds: Iterable[int]) -> list[Outcome]:
    return list(map(outcome, seeds))


def summary(outcomes: Iterable[Outcome]) -> dict[str, Any]:
    """What was found, in numbers."""
    outcomes = list(outcomes)

    def counted(values: Iterable[str]) -> dict[str, int]:
        return dict(sorted(Counter(values).items()))

    return {
        "trainings": len(outcomes),
        "different": sum(bool(one.differs) for one in outcomes),
        "seeds of different ones": [one.seed for one in outcomes if one.differs],
        "captured": counted(way for one in outcomes for way in one.captured),
        "features": counted(feature for one in outcomes for feature in set(one.features)),
        "why not": counted(reason for one in outcomes for reason in one.why_plain),
    }


def together(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Two summaries as one."""

    def added(a: Any, b: Any) -> Any:
        if not isinstance(a, dict):
            return a + b
        return dict(sorted((Counter(a) + Counter(b)).items()))

    return {name: added(one[name], value) for name, value in other.items()}


def _environment() -> dict[str, str]:
    return {"refnet": refnet.__version__, "numpy": np.__version__}
