"""Timing contenders in turn, after making sure that they compute the same thing.

Each round visits every contender once, one further along at each round, so that whatever else the machine is doing
falls on all alike; ratios are taken within a round. What a contender needs before its first figure (building,
compiling, warming up) is timed apart.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.speed import initial_state
from benchmarks.speed.contenders import Contender, Training, Unsupported
from benchmarks.speed.networks import STUDY, Network

ROUND = 0.04
"""Seconds that a contender's turn takes, at least (a single step may take longer)."""

LONGEST = 25
"""How many times ROUND a turn may take so that the fixed cost of a call is no more than a twentieth of it."""

UNBEARABLE = 200
"""How many times ROUND a turn takes before it is not repeated more often than needed."""

COMPARED = 3
"""Updates after which weights are compared, at least."""

COMPARED_RUNS = 8
"""Runs that are compared, of those trained at once, at most: spread evenly."""

AGREEMENT = {"float64": 1e-9, "float32": 1e-3}
"""How far a contender's change of a tensor may be from refnet's, relative to the tensor's largest change. This tells
networks apart; for a verdict on rounding there is `parity`."""

WARM_UP = 2
"""Rounds that are not counted."""

Status = Literal["measured", "not installed", "unsupported", "not comparable"]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of a contender on a network.

    Attributes:
        status, reason: whether it was measured, and if not, why.
        difference: from refnet-plain after a few updates, relative to the tensor's largest change; NaN where nothing
            is compared. same_bits: whether weights and losses are equal.
        set_up: seconds to build it and make the first update, compiling included; warm_up: all seconds before the
            first counted round, those included.
        call: seconds that a call takes beside its steps.
        steps: a round; runs: trainings that each step moves on.
        seconds: (rounds,), of a training's step, all costs of a call included.
        cores: processor seconds used by the whole process in a second of its rounds.
    """

    contender: Contender
    network: Network
    status: Status
    reason: str = ""
    difference: float = math.nan
    same_bits: bool = False
    set_up: float = math.nan
    warm_up: float = math.nan
    call: float = math.nan
    steps: int = 0
    runs: int = 1
    cores: float = math.nan
    seconds: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))

    @property
    def median(self) -> float:
        return float(np.median(self.seconds)) if self.status == "measured" else math.nan

    @property
    def alone(self) -> float:
        """The median without a step's share of what a call costs beside its steps."""
        return max(0.0, self.median - self.call / (self.steps * self.runs)) if self.steps else math.nan


@dataclass(eq=False)
class Entry:
    """A contender at the start of its rounds."""

    contender: Contender
    network: Network
    training: Training
    set_up: float
    difference: float = math.nan
    same_bits: bool = False
    warm_up: float = 0.0
    call: float = math.nan
    steps: int = 1
    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    failure: str = ""

    def turn(self) -> tuple[float, float]:
        """Seconds of `steps` updates: by the clock, and of the processors."""
        processor, wall = time.process_time(), time.perf_counter()
        self.training.run(self.steps)
        return time.perf_counter() - wall, time.process_time() - processor

    def outcome(self) -> Outcome:
        runs = self.contender.subject(self.network).trainings
        told: dict[str, Any] = {
            "difference": self.difference,
            "same_bits": self.same_bits,
            "set_up": self.set_up,
            "warm_up": self.warm_up,
        }
        if self.failure:
            return Outcome(self.contender, self.network, "unsupported", self.failure, **told)
        return Outcome(
            self.contender,
            self.network,
            "measured",
            "; ".join(filter(None, (self.contender.note, self.training.told()))),
            **told,
            call=self.call,
            steps=self.steps,
            runs=runs,
            cores=sum(self.processor) / sum(self.wall),
            seconds=np.array(self.wall) / (self.steps * runs),
        )


def contest(
    contenders: Sequence[Contender],
    network: Network,
    rounds: int,
    turn: float = ROUND,
    told: Callable[[str], object] = lambda text: None,
) -> list[Outcome]:
    """Everyone who takes the network, in the order given; `told` hears what is under way."""
    taking = [contender for contender in contenders if contender.takes(network)]
    entries: list[Entry | Outcome] = []
    for contender in taking:
        told(f"{network.name}: {contender.name} starts")
        entries.append(enter(contender, network, turn))
    told(f"{network.name}: rounds")
    race([entry for entry in entries if isinstance(entry, Entry)], rounds)
    return [entry.outcome() if isinstance(entry, Entry) else entry for entry in entries]


def enter(contender: Contender, network: Network, turn: float = ROUND) -> Entry | Outcome:
    """Build a contender, compare it with refnet, and settle how many steps its turn has; or say why not."""
    begun = time.perf_counter()
    try:
        training = contender.build(network)
        training.run(1)
        entry = Entry(contender, network, training, time.perf_counter() - begun)
        if contender.compared:
            updates = max(COMPARED, training.least + 1)
            value = training.run(updates - 1)
            refusal, entry.difference, entry.same_bits = compare(contender, network, updates, training.weights(), value)
            if refusal:
                return Outcome(
                    contender, network, "not comparable", refusal, difference=entry.difference, set_up=entry.set_up
                )
        _settle(entry, turn)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == contender.package:
            return Outcome(contender, network, "not installed", f"no module {contender.package}")
        return Outcome(contender, network, "unsupported", _told(error))
    except Exception as error:
        return Outcome(contender, network, "unsupported", _told(error))
    entry.warm_up = time.perf_counter() - begun
    return entry


def race(entries: Sequence[Entry], rounds: int) -> None:
    """The warm-up rounds and the counted ones. One that raises is out."""
    with _garbage_set_aside():
        for k in range(-WARM_UP, rounds):
            running = [entry for entry in entries if not entry.failure]
            first = k % len(running) if running else 0
            for entry in (*running[first:], *running[:first]):
                try:
                    wall, processor = entry.turn()
                except Exception as error:
                    entry.failure = _told(error)
                    continue
                if k < 0:
                    entry.warm_up += wall
                else:
                    entry.wall.append(wall)
                    entry.processor.append(processor)


def ratios(over: Outcome, under: Outcome) -> NDArray[np.float64]:
    """(rounds,); how many times as long `over` takes, round by round; empty if one of them was not measured."""
    if over.status == under.status == "measured":
        return over.seconds / under.seconds
    return np.empty(0)


@cache
def reference(network: Network, updates: int) -> tuple[dict[str, NDArray[Any]], NDArray[Any]]:
    """What refnet's plain loop makes of the runs that are compared, each on its own: weights (runs, *shape), and the
    loss (runs,) of the last update."""
    from benchmarks.speed.contenders.on_refnet import lone

    trainings = [lone(network, capture=False, run=run) for run in compared_runs(network)]
    losses = np.array([training.run(updates) for training in trainings])
    weights = [training.weights() for training in trainings]
    return {name: np.stack([run[name] for run in weights]) for name in weights[0]}, losses


def compared_runs(network: Network) -> list[int]:
    step = -(-network.trainings // COMPARED_RUNS)
    return list(range(0, network.trainings, step))


def compare(
    contender: Contender, network: Network, updates: int, weights: dict[str, NDArray[Any]], value: Any
) -> tuple[str, float, bool]:
    """Hold the weights after some updates, and the last loss, against refnet-plain's.

    Updates are compared, not weights, which hide a wrong gradient behind what did not move. Names, shapes, dtypes and
    finiteness come first.

    Returns:
        what is wrong, or nothing; the largest difference; whether all bits are the same.
    """
    subject = contender.subject(network)
    expected, losses = reference(subject, updates)
    runs = compared_runs(subject)
    start = {name: theta[runs] for name, theta in initial_state.start(subject).items()}
    value = np.asarray(value)
    if contender.at_once:
        shapes = {name: (subject.trainings, *theta.shape[1:]) for name, theta in expected.items()}
    else:
        shapes = {name: theta.shape[1:] for name, theta in expected.items()}
    if weights.keys() != shapes.keys():
        return f"expected weights named {', '.join(shapes)}, got {', '.join(weights)}", math.nan, False
    for name, shape in shapes.items():
        got = weights[name]
        if got.shape != shape or got.dtype != network.dtype:
            return f"expected {name} {network.dtype} {shape}, got {got.dtype} {got.shape}", math.nan, False
        if not np.isfinite(got).all():
            return f"{name} is not finite", math.nan, False
    if value.shape != ((subject.trainings,) if contender.at_once else ()) or not np.isfinite(value).all():
        return f"expected a finite loss for each training, got {value}", math.nan, False
    if contender.at_once:
        weights, value = {name: theta[runs] for name, theta in weights.items()}, value[runs]
    worst, where = float((np.abs(value - losses) / losses).max()), "the loss"
    same = bool((value == losses).all())
    for name, theta in expected.items():
        axes = tuple(range(1, theta.ndim))
        moved = np.abs(theta - start[name]).max(axis=axes)
        apart = float((np.abs(weights[name] - theta).reshape(theta.shape).max(axis=axes) / moved).max())
        worst, where = max((worst, where), (apart, name))
        same = same and np.array_equal(weights[name].reshape(theta.shape), theta)
    if not worst <= AGREEMENT[network.dtype]:
        return f"after {updates} updates {where} differs from refnet's by {worst:.1g} of its change", worst, same
    return "", worst, same


def _settle(entry: Entry, turn: float) -> None:
    """Steps of a turn: enough of them for its length, and for a call's own cost to be a twentieth of it."""
    few = entry.steps = entry.training.least
    short = entry.turn()[0]
    if short > UNBEARABLE * turn:
        return  # a call's own cost stays unknown
    # (a short call's own cost is the small difference of two times: a moment's pause in one of them is all of it)
    times = 9 if short <= turn else 3 if short <= LONGEST * turn else 1
    short = min(short, *(entry.turn()[0] for _ in range(times - 1)), math.inf)
    long = short
    while long - short < turn / 4 or (long < 1.5 * short and entry.steps < STUDY):
        entry.steps *= 2
        long = min(entry.turn()[0] for _ in range(times))
    step = (long - short) / (entry.steps - few)
    entry.call = max(0.0, short - few * step)
    for_the_call = min(19 * entry.call, STUDY * step, LONGEST * turn)
    entry.steps = max(few, math.ceil(max(turn, for_the_call) / step))


@contextmanager
def _garbage_set_aside() -> Iterator[None]:
    """What the libraries have made so far is not looked through again: a collection costs a contender only what it
    leaves behind itself."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _told(error: BaseException) -> str:
    """The first line of an error."""
    text = str(error).strip().partition("\n")[0]
    if isinstance(error, Unsupported):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
