"""Studies made by hand: quick to draw, and with known answers."""

import math
import random
from dataclasses import replace

from benchmarks.convergence.arms import Arm
from benchmarks.convergence.cells import Cell, Outcome, checkpoints
from benchmarks.convergence.engine_drift import Drift
from benchmarks.convergence.problems import load
from benchmarks.convergence.study_tables import Choice, Results, Target
from benchmarks.convergence.theory import GradientVariance, Moment, Stability, Surface
from benchmarks.convergence.update_times import Timing

NAN = math.nan
ARMS = (Arm(None), Arm(50), Arm(4), Arm(1), Arm(None, schedule="decay"), Arm(1, schedule="decay"))
ARMS = (*ARMS, Arm(50, "once"), Arm(1, "once"), Arm(1, "replacement"))
SMALL = (Arm(None), Arm(2), Arm(1), Arm(1, schedule="decay"))
RATES = (0.01, 0.1, 1.0)
SURFACE = Surface("line", w=2.0, b=-1.0, cost=0.25, hessian_ww=2.5, hessian_wb=1.9, hessian_bb=2.0)


def outcome(cell, diverged=False):
    """Falls with updates and rate to a floor that is the lower the larger the batch; starts and wiggles by the seed."""
    draws, arm, updates = random.Random(repr(cell)), cell.arm, checkpoints(cell.iterations)
    samples = arm.batch_size or 100
    start = 1 + random.Random(cell.seed).random()
    floor = 0.1 / samples**2 if arm.schedule == "constant" else 0.001 / samples**2
    losses = [start * math.exp(-u * cell.rate / 20) + floor * draws.uniform(0.5, 2) for u in updates]
    if cell.problem == "line":
        losses = [SURFACE.cost + (loss if arm.batch_size else loss - floor / 2) for loss in losses]
    lost = len(updates) // 2 if diverged else len(updates)
    losses[lost:] = [NAN] * (len(updates) - lost)
    shares = [max(0.25, 1 - loss / 2) for loss in losses[:lost]] + [NAN] * (len(updates) - lost)
    kind, held_out = load(cell.problem).kind, len(load(cell.problem).test_inputs)
    nothing = (NAN,) * len(updates)
    away = [math.sqrt(abs(loss - 0.25)) if loss == loss else math.inf for loss in losses]
    side = draws.choice((-1, 1))
    return Outcome(
        updates=updates,
        train_loss=tuple(losses),
        train_accuracy=nothing if kind == "regression" else tuple(shares),
        test_loss=tuple(1.1 * loss for loss in losses) if held_out else nothing,
        test_accuracy=tuple(0.9 * s for s in shares) if held_out and kind != "regression" else nothing,
        diverged_at=updates[lost] if diverged else None,
        path={"w": tuple(2.0 - d for d in away), "b": tuple(-1 + side * d / 3 for d in away)}
        if cell.problem == "line"
        else {},
    )


def results(
    problems=("line", "iris"),
    arms=ARMS,
    seeds=7,
    iterations=1000,
    engines=("refnet",),
    lost=(),
    beside=True,
    goal=0.3,
    repeat=False,
):
    """A study's results. `lost`: the arms of which every run diverges; at the largest rate single samples do anyway."""
    sweep, finals, choices, targets = [], [], [], []
    for name in problems:
        for arm in arms:
            for rate in RATES:
                cells = [Cell(name, arm, rate, seed, "refnet", iterations) for seed in (1000, 1001, 1002)]
                sweep += [(c, outcome(c, arm in lost or (arm.batch_size == 1 and rate == 1.0))) for c in cells]
            choices.append(Choice(name, arm.name, 0.1, 0.3, 0.1, RATES[0], RATES[-1], True))
            for engine in engines:
                cells = [Cell(name, arm, 0.1, seed, engine, iterations) for seed in range(seeds)]
                finals += [(c, outcome(c, arm in lost)) for c in cells]
        targets.append(Target(name, goal))
    extras = _beside(problems, [arm for arm in arms if arm == Arm(arm.batch_size)]) if beside else {}
    environment = {"date": "2025-01-01", "numpy": "2.4.0", "cores": [1, 2], "blas": {"name": "OpenBLAS"}}
    again = {}
    if repeat:
        cells = [replace(cell, other_bits=True) for cell, _ in finals if cell.engine == engines[0]]
        again = {"choices_again": choices, "finals_again": [(c, outcome(c, c.arm in lost)) for c in cells]}
    return Results(sweep, finals, choices, targets, environment=environment, **extras, **again)


def _beside(problems, plain):
    variance, twins, times = [], [], []
    for name in problems:
        N = len(load(name).train_inputs)
        for updates, sigma2 in ((0, 3.0), (1000, 0.02)):
            for n in (1, 2, 4, 16, N):
                predicted = sigma2 / n * (N - n) / (N - 1)
                measured = 1.01 * predicted if n < N else 1e-33
                variance.append(GradientVariance(name, updates, n, N, 200, measured, 0.02 * predicted, predicted))
        for arm in plain:
            for u in checkpoints(1000):
                budget = 3 * 1.1**u if u <= 200 else NAN
                twins.append(Drift(name, arm.name, 0.1, u, 0.5 * round(2 * u**0.3), budget, 0.01, 200))
        for engine, overhead, per in (("refnet", 20.0, 0.5), ("torch", 200.0, 0.4)):
            sizes = [*sorted({1, 2, 4, 8, 16, 32, 50, 64} - {N}), N]
            for n, drawn in [*((n, True) for n in sizes[:-1]), *((n, False) for n in sizes)]:
                least = overhead + drawn * 2 * n
                times.append(Timing(name, engine, n, drawn, least + per * n, least, least + 2 * per * n, 1.0))
    found = {"variance": variance, "twin": twins, "timing": times}
    if "line" in problems:
        found["surface"] = [SURFACE]
        found["stability"] = [Stability("line", 4.0, 4.0, "4", 0.5, 0.5, "0.5", 0.3)]
        found["moments"] = [
            Moment(
                "line", 0.1, schedule, u, p, end - 1 / (1 + u), 0.1, 400, end - 1 / (1 + u) + 0.01, 0.005, 0.11, 0.004
            )
            for schedule in ("constant", "decay")
            for p, end in (("w", 2.0), ("b", -1.0))
            for u in checkpoints(1000)
        ]
    return found
