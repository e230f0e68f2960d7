"""refnet and torch side by side: from equal weights, on equal batches in equal order, how far do they drift apart?

Both round; neither is the truth. Before it the two would agree to the last bit, and a training can amplify what they
differ by. `parity` bounds how far each may be from the truth after a number of updates (see `parity.budget`): two right
engines lie within the sum of their bounds. That bound holds for every rounding that the model admits, the worst ones
in concert, so it grows much faster than the drift does, and the budget of a free run is spent once it exceeds a weight.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.convergence.arms import Arm
from benchmarks.convergence.cells import checkpoints, order_options, start, training_data
from benchmarks.convergence.problems import Array, Problem, load
from refnet.train import sampler

if TYPE_CHECKING:
    from parity.engines.base import Engine
    from parity.records.record import Train

ELEMENTS = 2**23
"""The most weights, and the most inputs, that an engine's run in one go may keep: those of all its updates."""


@dataclass(frozen=True)
class Drift:
    """How far refnet and torch are apart after `update` updates.

    Attributes:
        drift_ulps: the largest difference between their weights, in units in the last place of the largest weight.
        budget_ulps: the largest of their budgets' sums, in the same unit. NaN where the budget is spent.
        budget_share: the largest share of its own budget that a weight's difference makes up. NaN likewise.
        certified_updates: the last update of the run that has a budget; never beyond the number that was asked for.
    """

    problem: str
    arm: str
    rate: float
    update: int
    drift_ulps: float
    budget_ulps: float
    budget_share: float
    certified_updates: int


def drift(
    name: str, arm: Arm, *, rate: float, seed: int = 0, iterations: int = 10_000, certify: int = 1_000
) -> list[Drift]:
    """The drift at the checkpoints, and at the last update that has a budget. Needs torch.

    refnet's side is its plain definition, the lines that `refnet.fit` carries out. A run that diverges has a drift of
    infinity or NaN.

    Args:
        rate: constant. certify: for how many updates at most the budget is carried, a few milliseconds each.

    Raises:
        ValueError: an arm whose rate decays, which a record of parity cannot tell; `certify` is less than 1.
    """
    import torch

    from parity.engines.refnet import RefnetEngine
    from parity.engines.torch import TorchEngine
    from parity.verdict import free_run

    if arm.schedule != "constant":
        raise ValueError(f"drift: expected an arm with a constant rate, got {arm.name}")
    if certify < 1:
        raise ValueError(f"drift: expected a budget for at least 1 update, got {certify}")
    # Sums that torch splits among threads have other bits.
    torch.set_num_threads(1)
    record = record_of(load(name), arm, rate, seed, iterations)
    certify = min(certify, iterations)
    bounds = free_run.bounds(record, range(1, certify + 1))
    finite = np.all([np.isfinite(e).reshape(certify, -1).all(axis=1) for e in bounds.values()], axis=0)
    certified = certify if finite.all() else int(finite.argmin())
    updates = sorted({*checkpoints(iterations), certified})
    ours, theirs = (_course(engine, record, updates) for engine in (RefnetEngine(), TorchEngine()))
    rows = []
    for k, update in enumerate(updates):
        unit = np.spacing(max(float(abs(W[k]).max()) for W in ours.values()))
        apart = {key: abs(W[k] - theirs[key][k]) for key, W in ours.items()}
        budget = share = math.nan
        if update <= certified:
            # Nothing has been rounded before the first update.
            both = {key: 2 * bounds[key][update - 1] if update else np.zeros_like(d) for key, d in apart.items()}
            budget = max(float(b.max()) for b in both.values()) / unit
            share = max(_share(d, both[key]) for key, d in apart.items())
        furthest = max(float(d.max()) for d in apart.values()) / unit
        rows.append(Drift(name, arm.name, rate, update, float(furthest), float(budget), share, certified))
    return rows


def _share(apart: Array, both: Array) -> float:
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.where(apart == 0, 0.0, apart / both).max())


def record_of(problem: Problem, arm: Arm, rate: float, seed: int, iterations: int) -> Train:
    """The training as a record of parity: what the cell of this problem, arm, rate and seed goes through."""
    from parity.records.record import Spec, Train

    net, generator = start(problem, seed)
    inputs, targets = training_data(problem, arm, generator)
    batches = islice(sampler.batches(len(inputs), **order_options(arm), generator=generator), iterations)
    samples = np.arange(len(inputs))
    linear = [Spec("Linear", {"in_features": i, "out_features": o}) for i, o in pairwise(problem.units)]
    layers = [layer for pair in zip(linear, [Spec("Tanh")] * len(linear), strict=True) for layer in pair][:-1]
    return Train(
        network=Spec("Sequential", layers=tuple(layers)),
        loss=Spec(type(problem.loss()).__name__),
        optimizer=Spec("SGD", {"lr": rate}),
        arrays={name: P.copy() for name, P in net.params.items()},
        inputs=inputs,
        targets=targets,
        batches=tuple(samples[batch] for batch in batches),
    )


def _course(engine: Engine, record: Train, updates: Sequence[int]) -> dict[str, Array]:
    """`param.NAME` after these updates, (c, *shape)."""
    kept: dict[str, list[Any]] = {f"param.{name}": [] for name in record.arrays}
    arrays = record.arrays
    weights, inputs = sum(P.size for P in arrays.values()), max(map(len, record.batches)) * record.inputs.shape[1]
    segment = max(1, ELEMENTS // max(weights, inputs))
    for first in range(0, record.iterations, segment):
        batches = record.batches[first : first + segment]
        answer = engine.train(replace(record, arrays=arrays, batches=batches))
        # A segment's first row is the last one of the segment before it.
        rows = [update - first for update in updates if (first < update or first == update == 0)]
        rows = [row for row in rows if row <= len(batches)]
        for name, course in kept.items():
            course.extend(answer[name][row] for row in rows)
        arrays = {name: answer[f"param.{name}"][-1] for name in record.arrays}
    return {name: np.stack(course) for name, course in kept.items()}
