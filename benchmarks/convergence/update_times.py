"""How long an update takes, on batches that are drawn and on one that is given.

An update on a drawn batch is all that a user's loop does for it: drawing the batch, picking its samples, forward, loss,
backward, step; evaluation is not part of it. A time on batches of n samples is the mean over whole epochs, so that a
last batch that is not full is in it. On small batches the drawing takes far longer than the rest: so the same update is
also measured on one batch that is given, as the whole set is.

Every measurement is the difference of two trainings of different length, so that what is done once is not in it. A time
is published if this process had its core to itself and the rounds agree (`Timing.unmeasured`), and for nothing else is
anything claimed.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np

import refnet
from benchmarks.convergence import order_statistics
from benchmarks.convergence.arms import Arm
from benchmarks.convergence.cells import order_options, start
from benchmarks.convergence.problems import Array, Problem, load
from refnet.train import sampler

ENGINES = ("refnet", "torch")

CORES, SPREAD, RESIDUAL = 0.9, 0.5, 0.2
"""What a published time asks for: the least share of a core that the process had; the largest distance between the 20%
and the 80% quantile of the rounds, as a share of their median. And a published fit: the largest relative residual."""

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
    """How long an update takes: median, 20% and 80% quantile over the rounds, in microseconds.

    Attributes:
        batch_size: samples of an update. drawn: whether they are drawn from the training set, or given.
        cores: processor seconds of this process in a second of its rounds.
        unmeasured: why the times are not known and so are NaN; "" if they are.
    """

    problem: str
    engine: str
    batch_size: int
    drawn: bool
    microseconds: float
    low: float
    high: float
    cores: float
    unmeasured: str = ""


@dataclass(frozen=True)
class Cost:
    """The cost of an update on a given batch of n samples, overhead_us + n per_sample_us.

    Attributes:
        overtakes_at: the batch size at which the samples cost as much as the overhead.
        worst_residual: the largest relative difference between a measured time and this.
        unmeasured: why there is no such formula, and all but the residual are NaN; "" if there is.
    """

    problem: str
    engine: str
    overhead_us: float
    per_sample_us: float
    overtakes_at: float
    worst_residual: float
    unmeasured: str = ""


class Prices:
    """How long updates take, by problem and engine, as they were measured."""

    def __init__(self, timings: Iterable[Timing]) -> None:
        self._measured: dict[tuple[str, str, int | None], float] = {}
        for timing in timings:
            if timing.drawn:
                size = timing.batch_size
            elif timing.batch_size == len(load(timing.problem).train_inputs):
                size = None
            else:
                continue
            self._measured[timing.problem, timing.engine, size] = 1e-6 * timing.microseconds

    def __call__(self, problem: str, engine: str, batch_size: int | None) -> float:
        """Seconds of an update on drawn batches of this size, None for the whole set; NaN where it is not known."""
        return self._measured.get((problem, engine, batch_size), math.nan)


def measure(name: str, *, rounds: int = 7, engines: Iterable[str] = ENGINES) -> list[Timing]:
    """The times of given batches of 1, 2, 4, ... samples and of the whole set, and of drawn batches of 1, 2, 4, ... and
    of the sizes that the study's arms have. All in turn in every round, on one thread.

    Raises:
        ValueError: an unknown problem or engine; fewer than 3 rounds.
    """
    problem, engines = load(name), tuple(engines)
    if unknown := set(engines) - set(ENGINES):
        raise ValueError(f"measure: expected engines among {', '.join(ENGINES)}, got {', '.join(sorted(unknown))}")
    if rounds < 3:
        raise ValueError(f"measure: expected at least 3 rounds, got {rounds}")
    n = len(problem.train_inputs)
    powers = {2**k for k in range(n.bit_length()) if 2**k < n}
    what = [(size, True) for size in sorted(powers | set(problem.batch_sizes))]
    what += [(size, False) for size in sorted(powers | {n})]
    with suppress(ImportError):
        # A training that is the first to translate has to be longer for it.
        import llvmlite.binding  # noqa: F401
    trainings = {(e, size, drawn): _training(e, problem, size, drawn) for e in engines for size, drawn in what}
    lengths = {key: _length(train, SECONDS[key[0]]) for key, train in trainings.items()}
    times: dict[tuple[str, int, bool], list[Lap]] = defaultdict(list)
    for _ in range(rounds):
        for key, train in trainings.items():
            times[key].append(_an_update(train, lengths[key]))
    return [judged(name, *key, laps) for key, laps in times.items()]


@dataclass(frozen=True)
class Lap:
    """A round's measurement: seconds of an update by the clock, and the share of a core while it was measured."""

    seconds: float
    cores: float


def judged(problem: str, engine: str, batch_size: int, drawn: bool, laps: Sequence[Lap]) -> Timing:
    """What the rounds say, or why they say nothing."""
    median, low, high = (1e6 * seconds for seconds in order_statistics.band([lap.seconds for lap in laps]))
    cores = order_statistics.band([lap.cores for lap in laps]).median
    timing = Timing(problem, engine, batch_size, drawn, median, low, high, cores)
    if cores < CORES:
        why = f"other programs kept the machine busy: {cores:.2f} of a core"
    elif low <= 0:
        why = "lost in the noise of the clock"
    elif high - low > SPREAD * median:
        why = f"the rounds do not agree: {(high - low) / median:.0%} between their 20% and 80% quantiles"
    else:
        return timing
    return replace(timing, microseconds=math.nan, low=math.nan, high=math.nan, unmeasured=why)


def costs(timings: Iterable[Timing]) -> list[Cost]:
    """The cost of each problem and engine, in the order in which they come: least squares of the relative residuals of
    the times of given batches, neither part negative.
    """
    groups: dict[tuple[str, str], list[Timing]] = {}
    for timing in timings:
        groups.setdefault((timing.problem, timing.engine), []).append(timing)
    return [_cost(problem, engine, group) for (problem, engine), group in groups.items()]


def _cost(problem: str, engine: str, timings: list[Timing]) -> Cost:
    from scipy.optimize import nnls

    given = [timing for timing in timings if not timing.drawn]
    known = [timing for timing in given if not timing.unmeasured]
    if len(known) < 3 or 2 * len(known) < len(given):
        why = f"of {len(given)} times on given batches {len(known)} could be measured, too few for a formula"
        return Cost(problem, engine, math.nan, math.nan, math.nan, math.nan, why)
    t, n = (np.array([getattr(timing, what) for timing in known]) for what in ("microseconds", "batch_size"))
    relative = np.stack([1 / t, n / t], axis=-1)
    parts, _ = nnls(relative, np.ones(len(t)))
    overhead, per_sample = (float(part) for part in parts)
    residual = float(abs(relative @ parts - 1).max())
    if residual > RESIDUAL:
        why = (
            f"no sum of an overhead and a cost a sample describes the times: the nearest is off by up to {residual:.0%}"
        )
        return Cost(problem, engine, math.nan, math.nan, math.nan, residual, why)
    return Cost(problem, engine, overhead, per_sample, overhead / per_sample if per_sample else math.inf, residual)


def _length(train: Callable[[int], object], seconds: float) -> int:
    """Updates of the shorter of two trainings: the first ones take longer than the others, so it is tried."""
    updates = WARM
    while updates < LONG and (took := _seconds(train, updates)) < seconds:
        updates = min(max(2 * updates, math.ceil(updates * seconds / took)), LONG)
    return updates


def _an_update(train: Callable[[int], object], updates: int) -> Lap:
    began, wall = time.process_time(), time.perf_counter()
    long, short = _seconds(train, 2 * updates), _seconds(train, updates)
    wall, processor = time.perf_counter() - wall, time.process_time() - began
    return Lap((long - short) / updates, processor / wall)


def _seconds(train: Callable[[int], object], updates: int) -> float:
    began = time.perf_counter()
    train(updates)
    return time.perf_counter() - began


def _training(engine: str, problem: Problem, size: int, drawn: bool) -> Callable[[int], object]:
    """Trains for a number of updates: on drawn batches of this size, or on the first `size` samples every time."""
    inputs, targets = problem.train_inputs, problem.train_targets
    if drawn:
        return {"refnet": _refnet, "torch": _torch}[engine](problem, Arm(size), inputs, targets)
    return {"refnet": _refnet, "torch": _torch}[engine](problem, Arm(None), inputs[:size], targets[:size])


def _refnet(problem: Problem, arm: Arm, inputs: Array, targets: Array) -> Callable[[int], object]:
    net, generator = start(problem, 0)
    what = (net, problem.loss(), refnet.optim.SGD(net.params, lr=RATE), inputs, targets)
    return lambda updates: refnet.fit(*what, **order_options(arm), iterations=updates, generator=generator)


def _torch(problem: Problem, arm: Arm, inputs: Array, targets: Array) -> Callable[[int], object]:
    import torch

    torch.set_num_threads(1)
    _, generator = start(problem, 0)
    net, loss = problem.torch_network(), problem.torch_loss()
    opt = torch.optim.SGD(net.parameters(), lr=RATE)
    X, T = torch.tensor(inputs), torch.tensor(targets)

    def train(updates: int) -> Any:
        batches = sampler.batches(len(X), **order_options(arm), generator=generator)
        for batch in islice(batches, updates):
            opt.zero_grad()
            loss(net(X[batch]), T[batch]).backward()
            opt.step()

    return train
