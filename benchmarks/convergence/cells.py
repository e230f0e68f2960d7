"""One training of the study, its outcome, and how many are trained at once."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any, Literal, Self, get_args

import numpy as np

import refnet
from benchmarks.convergence import problems
from benchmarks.convergence.arms import Arm
from benchmarks.convergence.problems import Array, Problem
from refnet.arithmetic.runs import Runs
from refnet.generator import Generator
from refnet.train import sampler

FORMAT = 3
"""Part of every cell's key: raised when the same cell would no longer give the same outcome, as when a problem's data
or network change."""

AT_ONCE = 512
"""The samples that the trainings of one ensemble see together in an update: few enough to stay in cache."""

Engine = Literal["refnet", "torch"]
MEASURES = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")


@dataclass(frozen=True)
class Cell:
    """What one training of the study depends on, all of it.

    Attributes:
        problem: its name.
        arm: the regime.
        rate: the learning rate, before its schedule.
        seed: decides initial weights and order of the data, through two generators.
        engine: "refnet" or "torch".
        iterations: the number of updates.
        other_bits: whether each initial weight is moved to a neighbouring number, up or down at random: a training
            whose outcome is another one then hangs on rounding.

    Raises:
        ValueError: an unknown problem or engine; a rate that is no float, not finite or negative; a seed that is no
            integer of at least 0, or iterations that are none of at least 1.
    """

    problem: str
    arm: Arm
    rate: float
    seed: int
    engine: Engine = "refnet"
    iterations: int = 10_000
    other_bits: bool = False

    def __post_init__(self) -> None:
        if self.problem not in problems.PROBLEMS:
            raise ValueError(f"Cell: expected a problem among {', '.join(problems.PROBLEMS)}, got {self.problem!r}")
        if self.engine not in get_args(Engine):
            raise ValueError(f"Cell: expected an engine among {', '.join(get_args(Engine))}, got {self.engine!r}")
        if not isinstance(self.rate, float) or not 0 <= self.rate < math.inf:
            raise ValueError(f"Cell: expected rate to be a finite float of at least 0, got {self.rate!r}")
        for what, value, least in (("seed", self.seed, 0), ("iterations", self.iterations, 1)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"Cell: expected {what} to be an integer of at least {least}, got {value!r}")

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "arm": self.arm.as_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        return cls(**{**values, "arm": Arm.from_dict(values["arm"])})

    @property
    def key(self) -> str:
        """32 hexadecimal digits: the cell's content is its name."""
        content = json.dumps({"format": FORMAT, **self.as_dict()}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(content.encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Outcome:
    """What a cell's training went through, at the checkpoints.

    Attributes:
        updates: the checkpoints (c,): numbers of updates done, from 0 to the last (see `checkpoints`).
        train_loss, train_accuracy: (c,), on the full training set.
        test_loss, test_accuracy: (c,), on what is held out. NaN where there is none; so is the accuracy of a
            regression.
        diverged_at: the first checkpoint's update at which a weight or a loss is not finite, else None. From there on
            every measure is NaN.
        path: for the problem `line` alone, its two weights at the checkpoints, as they are (they may be infinite or
            NaN): {"w": (c,), "b": (c,)}; else empty.
    """

    updates: tuple[int, ...]
    train_loss: tuple[float, ...]
    train_accuracy: tuple[float, ...]
    test_loss: tuple[float, ...]
    test_accuracy: tuple[float, ...]
    diverged_at: int | None = None
    path: dict[str, tuple[float, ...]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values; NaN, inf and -inf, which JSON does not have, as these strings."""
        values = asdict(self)
        return {
            **values,
            "updates": list(self.updates),
            **{name: _written(values[name]) for name in MEASURES},
            "path": {name: _written(course) for name, course in self.path.items()},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        return cls(
            updates=tuple(values["updates"]),
            **{name: _read(values[name]) for name in MEASURES},
            diverged_at=values["diverged_at"],
            path={name: _read(course) for name, course in values["path"].items()},
        )


def _written(numbers: Sequence[float]) -> list[float | str]:
    return [number if math.isfinite(number) else str(number) for number in numbers]


def _read(values: Sequence[float | str]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def checkpoints(iterations: int) -> tuple[int, ...]:
    """0, `iterations` and what lies between: ten numbers of updates a decade, rounded, each once."""
    decades = math.ceil(math.log10(iterations)) + 1
    between = (round(10 ** (j / 10)) for j in range(10 * decades))
    return tuple(sorted({0, iterations, *(update for update in between if update < iterations)}))


def train(cells: Sequence[Cell]) -> list[Outcome]:
    """Train `cells`; their outcomes, in the same order.

    Those that differ in rate and seed alone are trained at once (with torch one after the other); no outcome's bits
    depend on what it was trained with. A training that diverges is an outcome like others.

    Raises:
        ValueError: a batch is larger than the problem's training set.
    """
    groups: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in dict.fromkeys(cells):
        n = len(problems.load(cell.problem).train_inputs)
        if (cell.arm.batch_size or 0) > n:
            raise ValueError(
                f"train: expected batches within the {n} training samples of {cell.problem}, got {cell.arm.batch_size}"
            )
        # Shuffled once, each seed goes through other data.
        order = cell.seed if cell.arm.order == "once" else None
        alike = (cell.problem, cell.arm, cell.engine, cell.iterations, cell.other_bits, order)
        groups.setdefault(alike, []).append(cell)

    outcomes: dict[Cell, Outcome] = {}
    # A diverging run overflows, then subtracts infinities: an outcome, not a surprise.
    with np.errstate(over="ignore", invalid="ignore"):
        for group in groups.values():
            problem = problems.load(group[0].problem)
            course = {"refnet": _refnet, "torch": _torch}[group[0].engine]
            for cell, weights in zip(group, course(problem, group), strict=True):
                outcomes[cell] = _outcome(problem, checkpoints(cell.iterations), weights)
    return [outcomes[cell] for cell in cells]


def start(problem: Problem, seed: int, other_bits: bool = False) -> tuple[refnet.nn.Sequential, Generator]:
    """A seed's network, as every regime and rate begins with it, and the generator of its order of the data.

    With `other_bits` each weight is a neighbour, above or below, of the one that it would be.
    """
    initial, order, sides = (Generator(int(word)) for word in np.random.SeedSequence(seed).generate_state(3))
    net = problem.network(initial)
    if other_bits:
        for P in net.params.values():
            P[...] = np.nextafter(P, np.where(sides.rand(*P.shape) < 0.5, -math.inf, math.inf))
    return net, order


def training_data(problem: Problem, arm: Arm, generator: Generator) -> tuple[Array, Array]:
    """Inputs and targets in the order in which an epoch without shuffling goes through them."""
    if arm.order != "once":
        return problem.train_inputs, problem.train_targets
    permutation = generator.randperm(len(problem.train_inputs))
    return problem.train_inputs[permutation], problem.train_targets[permutation]


def order_options(arm: Arm) -> dict[str, Any]:
    """What `refnet.fit` and `refnet.train.sampler.batches` call the arm's order."""
    return {
        "batch_size": arm.batch_size,
        "shuffle": arm.order != "once",
        "replacement": arm.order == "replacement",
        "drop_last": False,
    }


def _refnet(problem: Problem, cells: Sequence[Cell]) -> Iterator[dict[str, Array]]:
    """The weights of each cell at the checkpoints, (c, *shape) by name."""
    arm, iterations = cells[0].arm, cells[0].iterations
    together = max(1, AT_ONCE // (arm.batch_size or len(problem.train_inputs)))
    for first in range(0, len(cells), together):
        some = cells[first : first + together]
        nets, generators = zip(*(start(problem, cell.seed, cell.other_bits) for cell in some), strict=True)
        (inputs, targets), *_ = (training_data(problem, arm, generator) for generator in generators)
        histories = refnet.ensemble(
            nets,
            problem.loss(),
            [arm.make_optimizer(refnet.optim, net.params, cell.rate) for net, cell in zip(nets, some, strict=True)],
            inputs,
            targets,
            **order_options(arm),
            iterations=iterations,
            generators=generators,
            lr_lambda=arm.lr_lambda(iterations),
            record=checkpoints(iterations),
        )
        yield from (history.weights for history in histories)


def _torch(problem: Problem, cells: Sequence[Cell]) -> Iterator[dict[str, Array]]:
    """As `_refnet`: from refnet's initial weights, on the batches that refnet sees."""
    return (_torch_course(problem, cell) for cell in cells)


def _torch_course(problem: Problem, cell: Cell) -> dict[str, Array]:
    import torch

    initial, generator = start(problem, cell.seed, cell.other_bits)
    inputs, targets = (torch.tensor(array) for array in training_data(problem, cell.arm, generator))
    net, loss = problem.torch_network(), problem.torch_loss()
    net.load_state_dict({name: torch.tensor(P) for name, P in initial.params.items()})
    opt = cell.arm.make_optimizer(torch.optim, net.parameters(), cell.rate)
    factor = cell.arm.lr_lambda(cell.iterations)
    schedule = None if factor is None else torch.optim.lr_scheduler.LambdaLR(opt, factor)
    updates = checkpoints(cell.iterations)
    weights = {name: np.empty((len(updates), *P.shape)) for name, P in initial.params.items()}
    rows = {update: row for row, update in enumerate(updates)}

    def keep(update: int) -> None:
        if (row := rows.get(update)) is not None:
            for name, P in net.named_parameters():
                weights[name][row] = P.detach().numpy()

    with _one_torch_thread():
        keep(0)
        batches = sampler.batches(len(inputs), **order_options(cell.arm), generator=generator)
        for k, batch in enumerate(islice(batches, cell.iterations)):
            opt.zero_grad()
            loss(net(inputs[batch]), targets[batch]).backward()
            opt.step()
            if schedule is not None:
                schedule.step()
            keep(k + 1)
    return weights


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    """Sums that torch splits among threads have other bits."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _outcome(problem: Problem, updates: tuple[int, ...], weights: Mapping[str, Array]) -> Outcome:
    """What the weights (c, *shape), by name, amount to."""
    net, loss = problem.network(Generator(0)), problem.loss()
    net.bind({name: Runs(W) for name, W in weights.items()})
    parts = {
        "train": (problem.train_inputs, problem.train_targets),
        "test": (problem.test_inputs, problem.test_targets),
    }
    finite = np.all([np.isfinite(W).reshape(len(updates), -1).all(-1) for W in weights.values()], axis=0)
    # NaN where there is nothing to measure.
    measures = {name: np.full(len(updates), math.nan) for name in MEASURES}
    for part, (inputs, targets) in parts.items():
        if len(inputs):
            outputs, _ = net.forward(inputs)
            measures[f"{part}_loss"] = loss.forward(outputs, targets)[0].a
            measures[f"{part}_accuracy"] = problem.evaluate(outputs.a, targets)
            finite &= np.isfinite(measures[f"{part}_loss"])
    first = len(updates) if finite.all() else int(finite.argmin())
    for values in measures.values():
        values[first:] = math.nan
    path = {"w": weights["0.weight"], "b": weights["0.bias"]} if problem.name == "line" else {}
    return Outcome(
        updates=updates,
        **{name: tuple(values.tolist()) for name, values in measures.items()},
        diverged_at=updates[first] if first < len(updates) else None,
        path={name: tuple(course.ravel().tolist()) for name, course in path.items()},
    )
