"""What a cell costs beside its training, and whether that grows with the number of cells."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.convergence.arms import Arm
from benchmarks.convergence.cells import Cell, Outcome, train
from benchmarks.convergence.executors import Serial, Workers
from benchmarks.convergence.study import Runner, Train
from benchmarks.convergence.study_folder import opened

COUNTS = (10, 100, 1_000)


def report(counts: Sequence[int] = COUNTS) -> Iterator[str]:
    """A line for each number of cells: milliseconds a cell, in all, without its training, and when it is there already.

    The cells are trained one by one, as larger groups would be cheaper and so hide what grows.
    """
    yield "milliseconds a cell of 100 updates of the problem line"
    yield f"{'cells':>8}{'computed':>12}{'without its training':>22}{'found':>10}"
    for count in counts:
        cells = [Cell("line", Arm(1), 0.125, seed, "refnet", 100) for seed in range(count)]
        computed, found = _milliseconds(cells, _one_by_one)
        untrained, _ = _milliseconds(cells, partial(_given, _one_by_one(cells[:1])))
        yield f"{count:>8,}{computed:>12.2f}{untrained:>22.2f}{found:>10.2f}"


def _one_by_one(cells: Sequence[Cell]) -> list[Outcome]:
    return [outcome for cell in cells for outcome in train([cell])]


def _given(outcomes: list[Outcome], cells: Sequence[Cell]) -> list[Outcome]:
    return outcomes * len(cells)


class _Silence:
    """A `Progress` that nobody watches."""

    def begin(self, stage: str, cells: int, later: int) -> None:
        pass

    def advance(self, cells: int) -> None:
        pass

    def end(self, stage: str, computed: int, kept: int) -> None:
        pass

    def say(self, message: str) -> None:
        pass


def _milliseconds(cells: Sequence[Cell], train: Train) -> tuple[float, float]:
    """For each of the cells: of a study that computes them, and of one that finds them."""
    silence = _Silence()
    with TemporaryDirectory() as folder:
        times = []
        for resume in (False, True):
            began = time.perf_counter()
            with opened(Path(folder), {}, {}, resume=resume, say=silence.say) as store, Workers(Serial) as alone:
                Runner(store, alone, train, silence)("", cells)
            times.append((time.perf_counter() - began) / len(cells) * 1e3)
    return times[0], times[1]
