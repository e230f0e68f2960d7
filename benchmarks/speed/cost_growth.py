"""How refnet's cost grows: with width, depth, batch and runs of a training, with its updates, and with the cases of the
catalogue."""

from __future__ import annotations

import math
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

import refnet
from benchmarks.speed.contenders import CAPTURED, ENSEMBLE, PLAIN, Contender
from benchmarks.speed.initial_state import data, refnet_network
from benchmarks.speed.networks import RATE, Network, loss_module, perceptron
from benchmarks.speed.timed_rounds import ROUND, Entry, Outcome, enter, race
from refnet import nn

FEW = 5
"""Rounds, at most."""

TRAINED = perceptron(64, 64, 10, batch=32)
"""What is varied; runs are of 2-2-2."""

AXES: dict[str, Callable[[int], Network]] = {
    "width": lambda width: perceptron(64, width, 10, batch=32),
    "depth": lambda depth: perceptron(64, *(64,) * depth, 10, batch=32),
    "batch": lambda batch: perceptron(64, 64, 10, batch=batch),
    "runs": lambda runs: perceptron(2, 2, 2, batch=1, runs=runs),
}

VALUES: dict[str, tuple[int, ...]] = {
    "width": (8, 32, 128, 512, 2048),
    "depth": (1, 2, 4, 8, 16),
    "batch": (1, 8, 64, 512, 4096),
    "runs": (1, 4, 16, 64, 256, 1024, 4096),
    "updates": (100, 300, 1_000, 3_000, 10_000),
    "cases": (75, 150, 300, 600),
}
"""For each axis, what is measured."""

QUICK: dict[str, tuple[int, ...]] = {
    "width": (8, 128),
    "depth": (1, 4),
    "batch": (1, 64),
    "runs": (1, 16),
    "updates": (100, 1_000),
    "cases": (10, 20),
}

OF = {
    "width": "a step of 64-WIDTH-10, batch 32",
    "depth": "a step of 64-...-64-10, batch 32, DEPTH hidden layers",
    "batch": "a step of 64-64-10, batch BATCH",
    "runs": "a step of RUNS trainings of 2-2-2, batch 1",
    "updates": "UPDATES updates of 64-64-10, batch 32, one call of refnet.fit",
    "cases": "judging CASES cases, refnet in float64, one worker process with its start",
}
"""What the seconds are of."""


@dataclass(frozen=True, eq=False)
class Point:
    """What was found at one value of an axis.

    Attributes:
        seconds: (rounds,); of what OF says.
        exponent: p of seconds ~ value^p between the value before and this one; NaN at the first.
        memory: bytes that a training needed at its peak beside the network, the data and its losses; NaN where that
            is not measured.
        reason: why nothing was measured.
    """

    axis: str
    value: int
    contender: str
    seconds: NDArray[np.float64]
    exponent: float = math.nan
    memory: float = math.nan
    reason: str = ""

    @property
    def median(self) -> float:
        return float(np.median(self.seconds)) if self.seconds.size else math.nan


def measure(
    dtype: str,
    rounds: int,
    turn: float = ROUND,
    values: dict[str, tuple[int, ...]] = VALUES,
    told: Callable[[str], object] = lambda text: None,
) -> list[Point]:
    """Every axis in turn; on an axis all values and contenders in turn, in FEW rounds at most."""
    rounds = min(rounds, FEW)
    points: list[Point] = []
    for axis, make in AXES.items():
        told(f"growth: {axis}")
        points += _steps(axis, make, values[axis], dtype, rounds, turn)
    told("growth: updates")
    points += _updates(values["updates"], dtype, rounds)
    told("growth: cases")
    points += _cases(values["cases"], rounds)
    return list(_with_exponents(points))


def _steps(
    axis: str, make: Callable[[int], Network], values: Sequence[int], dtype: str, rounds: int, turn: float
) -> list[Point]:
    contenders = (ENSEMBLE,) if axis == "runs" else (PLAIN, CAPTURED)
    made = [
        (value, enter(replace(contender, compared=False), replace(make(value), dtype=dtype), turn))
        for value in values
        for contender in contenders
    ]
    race([entry for _, entry in made if isinstance(entry, Entry)], rounds)
    return [_point(axis, value, entry.outcome() if isinstance(entry, Entry) else entry) for value, entry in made]


def _point(axis: str, value: int, outcome: Outcome) -> Point:
    reason = "" if outcome.status == "measured" else f"{outcome.status}: {outcome.reason}"
    return Point(axis, value, outcome.contender.name, outcome.seconds * outcome.runs, reason=reason)


def _updates(values: Sequence[int], dtype: str, rounds: int) -> list[Point]:
    network = replace(TRAINED, dtype=dtype)
    seconds: dict[tuple[int, Contender], list[float]] = {
        (value, contender): [] for value in values for contender in (PLAIN, CAPTURED)
    }
    for _ in range(rounds):
        for (value, contender), found in seconds.items():
            training = contender.build(network)
            begun = time.perf_counter()
            training.run(value)
            found.append(time.perf_counter() - begun)
    return [
        Point("updates", value, contender.name, np.array(found), memory=peak(network, contender is CAPTURED, value))
        for (value, contender), found in seconds.items()
    ]


def peak(network: Network, capture: bool, updates: int) -> int:
    """Bytes that a call of refnet.fit holds at its peak, beside the network, the data and the losses it returns."""

    net, loss = refnet_network(network, 0), loss_module(network, nn)
    opt = refnet.optim.SGD(net.params, lr=RATE)
    inputs, targets = data(network)
    tracemalloc.start()
    try:
        history = refnet.fit(net, loss, opt, inputs, targets, batch_size=None, iterations=updates, capture=capture)
        return tracemalloc.get_traced_memory()[1] - history.loss.nbytes
    finally:
        tracemalloc.stop()


def _cases(values: Sequence[int], rounds: int) -> list[Point]:
    from parity.families.listing import catalogue
    from parity.run import judging

    cases = catalogue()
    sizes = sorted({min(value, len(cases)) for value in values})
    seconds: dict[int, list[float]] = {size: [] for size in sizes}
    for _ in range(rounds):
        for size, found in seconds.items():
            # Spread over the catalogue, so that each part is of every family in proportion.
            chosen = [cases[k * len(cases) // size] for k in range(size)]
            begun = time.perf_counter()
            judging.run(chosen, ("refnet",), ("float64",), jobs=1)
            found.append(time.perf_counter() - begun)
    return [Point("cases", size, "parity", np.array(found)) for size, found in seconds.items()]


def _with_exponents(points: Sequence[Point]) -> Iterator[Point]:
    before: dict[tuple[str, str], Point] = {}
    for point in points:
        last = before.get((point.axis, point.contender))
        before[point.axis, point.contender] = point
        if last is None:
            yield point
        else:
            power = math.log(point.median / last.median) / math.log(point.value / last.value)
            yield replace(point, exponent=power)
