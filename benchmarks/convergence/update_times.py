"""What an update costs; for batches that are drawn, as an overhead that does not depend on the batch and a price a
sample. The whole set is not drawn or gathered, and is a case of its own.

An update is all that a user's loop does for it: picking the batch, forward, loss, backward, step; evaluation is not.
Every measurement is the difference of two trainings of different length, so that what is done once is not in it.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

import refnet
from benchmarks.convergence import order_statistics
from benchmarks.convergence.arms import Arm
from benchmarks.convergence.cells import order_options, start
from benchmarks.convergence.problems import Problem, load
from refnet.train import sampler

ENGINES = ("refnet", "torch")

RATE = 2.0**-20
"""No training may diverge: infinities and NaNs have another speed."""

WARM, LONG = 200, 1_000_000
"""Updates of the shorter of two trainings, at least and at most. In the first ones refnet records its updates, full and
short batches, for a replay; in a training as long as the study's it translates them into machine code besides, and
only trainings that are carried out alike may be compared (see `refnet.train.capture`)."""

SECONDS = {"refnet": 0.15, "torch": 0.05}
"""What the shorter training of an engine takes at least, if it has fewer than LONG updates. refnet's is to be long
enough for machine code, and for the updates to take longer than the translation, which varies."""


@dataclass(frozen=True)
class Timing:
    """How long an update on `batch_size` samples takes: median, 20% and 80% quantile over the rounds, in microseconds.
    NaN if the median is not above 0: it was lost in noise.
    """

    problem: str
    engine: str
    batch_size: int
    microseconds: float
    low: float
    high: float


@dataclass(frozen=True)
class Cost:
    """The cost of an update on a drawn batch of n samples, overhead_us + n per_sample_us.

    Attributes:
        overtakes_at: the batch size at which the samples cost as much as the overhead.
        worst_residual: the largest relative difference between a time measured on drawn batches and this.
    """

    problem: str
    engine: str
    overhead_us: float
    per_sample_us: float
    overtakes_at: float
    worst_residual: float


class Prices:
    """What updates take, by problem and engine, as measured; on batches of other sizes, in between."""

    def __init__(self, timings: Iterable[Timing]) -> None:
        self._measured: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
        for timing in timings:
            self._measured[timing.problem, timing.engine][timing.batch_size] = 1e-6 * timing.microseconds

    def __call__(self, problem: str, engine: str, batch_size: int) -> float:
        """Seconds of an update on `batch_size` samples, the whole set included; NaN where nothing was measured."""
        measured = self._measured.get((problem, engine), {})
        if not measured or batch_size in measured:
            return measured.get(batch_size, math.nan)
        drawn = sorted(measured)[:-1]  # the largest is the whole set
        return float(np.interp(batch_size, drawn, [measured[size] for size in drawn])) if drawn else math.nan


def measure(name: str, *, rounds: int = 7, engines: Iterable[str] = ENGINES) -> list[Timing]:
    """The times of batch sizes 1, 2, 4, ... and of the whole set, all in turn in every round, on one thread.

    Only what runs alone on the machine is measured right.

    Raises:
        ValueError: an unknown problem or engine; fewer than 3 rounds.
    """
    problem, engines = load(name), tuple(engines)
    if unknown := set(engines) - set(ENGINES):
        raise ValueError(f"measure: expected engines among {', '.join(ENGINES)}, got {', '.join(sorted(unknown))}")
    if rounds < 3:
        raise ValueError(f"measure: expected at least 3 rounds, got {rounds}")
    n = len(problem.train_inputs)
    sizes = [*(2**k for k in range(n.bit_length()) if 2**k < n), None]
    with suppress(ImportError):
        # A training that is the first to translate has to be longer for it.
        import llvmlite.binding  # noqa: F401
    trainings = {(engine, size): _training(engine, problem, Arm(size)) for engine in engines for size in sizes}
    lengths = {key: _length(train, SECONDS[key[0]]) for key, train in trainings.items()}
    times: dict[tuple[str, int | None], list[float]] = defaultdict(list)
    for _ in range(rounds):
        for key, train in trainings.items():
            times[key].append(_seconds_an_update(train, lengths[key]))
    bands = {key: order_statistics.band(found) for key, found in times.items()}
    return [
        Timing(name, engine, size or n, *(1e6 * seconds if band.median > 0 else math.nan for seconds in band))
        for (engine, size), band in bands.items()
    ]


def costs(timings: Iterable[Timing]) -> list[Cost]:
    """The cost of each problem and engine, in the order in which they come: least squares of the relative residuals of
    all but the whole set, the largest, neither part negative. NaN where fewer than two times are known.
    """
    groups: dict[tuple[str, str], list[Timing]] = {}
    for timing in timings:
        groups.setdefault((timing.problem, timing.engine), []).append(timing)
    return [_cost(problem, engine, group) for (problem, engine), group in groups.items()]


def _cost(problem: str, engine: str, timings: list[Timing]) -> Cost:
    from scipy.optimize import nnls

    timings = sorted(timings, key=lambda timing: timing.batch_size)[:-1] or timings
    timings = [timing for timing in timings if timing.microseconds > 0]
    if len(timings) < 2:
        return Cost(problem, engine, *[math.nan] * 4)
    t, n = (np.array([getattr(timing, what) for timing in timings]) for what in ("microseconds", "batch_size"))
    relative = np.stack([1 / t, n / t], axis=-1)
    parts, _ = nnls(relative, np.ones(len(t)))
    overhead, per_sample = (float(part) for part in parts)
    residual = float(abs(relative @ parts - 1).max())
    return Cost(problem, engine, overhead, per_sample, overhead / per_sample if per_sample else math.inf, residual)


def _length(train: Callable[[int], object], seconds: float) -> int:
    """Updates of the shorter of two trainings: the first ones take longer than the others, so it is tried."""
    updates = WARM
    while updates < LONG and (took := _seconds(train, updates)) < seconds:
        updates = min(max(2 * updates, math.ceil(updates * seconds / took)), LONG)
    return updates


def _seconds_an_update(train: Callable[[int], object], updates: int) -> float:
    return (_seconds(train, 2 * updates) - _seconds(train, updates)) / updates


def _seconds(train: Callable[[int], object], updates: int) -> float:
    began = time.perf_counter()
    train(updates)
    return time.perf_counter() - began


def _training(engine: str, problem: Problem, arm: Arm) -> Callable[[int], object]:
    return {"refnet": _refnet, "torch": _torch}[engine](problem, arm)


def _refnet(problem: Problem, arm: Arm) -> Callable[[int], object]:
    net, generator = start(problem, 0)
    loss, opt = problem.loss(), refnet.optim.SGD(net.params, lr=RATE)
    what = (net, loss, opt, problem.train_inputs, problem.train_targets)
    return lambda updates: refnet.fit(*what, **order_options(arm), iterations=updates, generator=generator)


def _torch(problem: Problem, arm: Arm) -> Callable[[int], object]:
    import torch

    torch.set_num_threads(1)
    _, generator = start(problem, 0)
    net, loss = problem.torch_network(), problem.torch_loss()
    opt = torch.optim.SGD(net.parameters(), lr=RATE)
    inputs, targets = torch.tensor(problem.train_inputs), torch.tensor(problem.train_targets)

    def train(updates: int) -> Any:
        batches = sampler.batches(len(inputs), **order_options(arm), generator=generator)
        for batch in islice(batches, updates):
            opt.zero_grad()
            loss(net(inputs[batch]), targets[batch]).backward()
            opt.step()

    return train
