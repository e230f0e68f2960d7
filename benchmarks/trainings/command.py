"""The command `python -m benchmarks trainings`."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
import numpy as np

import refnet
from benchmarks.trainings.compare import Outcome, outcome
from refnet.files import write_bytes

CHUNK = 25
"""Trainings that a process does without a word."""


@click.command()
@click.option("--count", type=click.IntRange(1), default=200, show_default=True, help="How many trainings.")
@click.option("--first", type=click.IntRange(0), default=0, show_default=True, help="The seed of the first.")
@click.option("--processes", type=click.IntRange(1), default=1, show_default=True, help="Trainings at a time.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write what was found to this file.")
def trainings(count: int, first: int, processes: int, json_file: Path | None) -> None:
    """Do random trainings plainly and in every captured way.

    Networks, losses, options, layouts of the data, callbacks, schedules and interrupts are drawn from seeds, one after
    the other. Exit code 1 if a single bit of weights, buffers, state, losses, recorded weights, generators or errors
    differs from the plain training.
    """
    begun = time.perf_counter()
    seeds = range(first, first + count)
    chunks = [seeds[k : k + CHUNK] for k in range(0, count, CHUNK)]
    outcomes: list[Outcome] = []
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for done in pool.map(_outcomes, chunks):
            outcomes += done
            for wrong in (one for one in done if one.differs):
                click.echo(f"seed {wrong.seed}: {', '.join(wrong.differs)} ({', '.join(wrong.features)})")
    found = summary(outcomes) | {"first": first, "seconds": round(time.perf_counter() - begun), **_environment()}
    click.echo(
        f"{found['trainings']} trainings, {found['different']} with other bits than the plain one; captured: "
        + ", ".join(f"{way} {number}" for way, number in found["captured"].items())
    )
    if json_file is not None:
        try:
            write_bytes(json_file, (json.dumps(found, indent=1) + "\n").encode())
        except OSError as error:
            raise click.UsageError(f"{json_file}: expected a place to write to, got: {error.strerror}") from None
    sys.exit(1 if found["different"] else 0)


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


def _environment() -> dict[str, str]:
    return {"refnet": refnet.__version__, "numpy": np.__version__}
