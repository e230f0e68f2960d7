"""Certifying the worked example: all recipes in balls, all updates, and how far a right float run may stray from them.

`parity.example.certified_example` says what is kept. Needs python-flint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from parity.example.certified_example import (
    DTYPES,
    GIVEN,
    MOVE,
    POSITIONS,
    SERIES,
    Arrays,
    found_name,
    keep,
    stored,
)
from parity.example.hand_computation import FIGURES
from parity.example.perceptron import CORRECT, PARAMS, RECIPES, UPDATES, WEIGHTS, Example, Recipe, budgets
from parity.example.published import PUBLISHED, Published
from parity.run import pool
from parity.truth import ball, tape
from parity.truth.certify import RADIUS, Disagreement
from refnet.arithmetic.array_like import Undecided

BITS = 256


def certify(jobs: int = 1, done: Callable[[], object] = lambda: None) -> None:
    """Compute everything and keep it, in `jobs` processes; `done` is called after each of TASKS parts.

    Raises as `compute`.
    """
    keep(compute(jobs, done))


def check(jobs: int = 1, done: Callable[[], object] = lambda: None) -> list[str]:
    """Compute everything again; the names of kept arrays that differ from it in a bit, or are missing. None: proved."""
    kept, computed = stored(), compute(jobs, done)
    return sorted(name for name in kept.keys() | computed.keys() if not same(kept.get(name), computed.get(name)))


def same(a: Any, b: Any) -> bool:
    """Whether two arrays are one, bit for bit."""
    return a is not None and b is not None and (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


def compute(jobs: int = 1, done: Callable[[], object] = lambda: None) -> Arrays:
    """Everything that is kept.

    Raises:
        Undecided: a value, or the rounding of a published figure, is not settled at BITS bits.
        Disagreement: a hand-written derivative contradicts the tape.
    """
    tasks = [(recipe, kind) for kind in (None, *DTYPES) for recipe in RECIPES]
    found: dict[tuple[Recipe, str | None], Arrays] = {}

    def ended(task: tuple[Recipe, str | None], part: Arrays | pool.Lost) -> None:
        if isinstance(part, pool.Lost):
            raise RuntimeError(f"certifying the worked example: expected what is kept of {task}, got: {part.reason}")
        found[task] = part
        done()

    pool.run(_part, tasks, jobs, ended)
    parts = [found[task] for task in tasks]
    arrays = {"position": np.array(POSITIONS, np.int32), **moved()}
    for start in range(0, len(parts), len(RECIPES)):
        alike = parts[start : start + len(RECIPES)]
        for name in alike[0]:
            join = _joined if name.startswith("found.") else np.stack
            arrays[name] = join([part[name] for part in alike])
    return arrays


def _part(task: tuple[Recipe, str | None]) -> Arrays:
    recipe, dtype = task
    return trajectory(recipe) if dtype is None else bounds(recipe, dtype)


def _joined(stretches: list[Any]) -> Any:
    rows = [(r, *stretch) for r, found in enumerate(stretches) for stretch in found.tolist()]
    return np.array(rows, np.int32).reshape(-1, 3)


def trajectory(recipe: Recipe, updates: int = UPDATES) -> Arrays:
    """What is certified of the first `updates` updates of a recipe: the kept arrays without their recipe axis."""
    vouch(recipe)
    kept: dict[str, list[Any]] = {}
    found: dict[str, list[list[int]]] = {found_name(published): [] for published in PUBLISHED}
    with ball.precision(BITS), tape.untaped():
        example = Example(recipe, ball.lift)
        for k in range(updates + 1):
            values = {name: ball.values(t) for name, t in example.round().items() if name not in GIVEN}
            for name in values if k in POSITIONS else SERIES:
                group = "series" if name in SERIES else "steps"
                kept.setdefault(f"{group}.{name}", []).append(_pairs(values[name]))
            _search(values, k, found)
    arrays = {name: np.array(stretches, np.int32).reshape(-1, 2) for name, stretches in found.items()}
    for name, pairs in kept.items():
        arrays[f"{name}.hi"], arrays[f"{name}.lo"] = np.stack(pairs, axis=1)
    return arrays


def _pairs(balls: Any) -> np.ndarray[Any, Any]:
    """(2, *shape): hi and lo."""
    return np.array([ball.certify(x) for x in balls.flat]).T.reshape(2, *balls.shape)


def _search(values: Mapping[str, Any], k: int, found: dict[str, list[list[int]]]) -> None:
    """Lengthen, or begin, a stretch for each published figure that is among the values after k updates."""
    for published in PUBLISHED:
        figure, stretches = FIGURES[published.key], found[found_name(published)]
        balls = values.get(figure.tensor)
        x = ball.ball(GIVEN[figure.tensor][figure.index]) if balls is None else balls[figure.index]
        if yields(x, published):
            if stretches and stretches[-1][1] == k - 1:
                stretches[-1][1] = k
            else:
                stretches.append([k, k])


def yields(x: Any, published: Published) -> bool:
    """Whether the ball rounds to the published figure, to as many decimals as it has.

    Raises:
        Undecided: the ball does not tell.
    """
    value, unit = published.value, published.unit
    # Nearly all are settled by this: a float is nearer to the ball than half a unit of any printed figure.
    if abs(float(x) - float(value)) > float(unit):
        return False
    beyond = abs(x - ball.ball(value)) - ball.ball(unit / 2)
    if not (beyond < 0 or beyond > 0):
        raise Undecided(f"{published.text}: {x} is half-way between two figures with that many decimals")
    return bool(beyond < 0)


def vouch(recipe: Recipe) -> None:
    """Hold the hand-written derivatives of the first round against the tape's.

    Under the bug the hidden layer's are no derivatives of E; they are those of the output layer's net inputs, weighted
    with its deltas, at the weights that it moved to.

    Raises:
        Disagreement: an enclosure does not overlap the tape's, or is too wide.
    """
    with ball.precision(BITS):
        example = Example(recipe, ball.lift)
        W_h, b_h, W_o, b_o = (p.copy() for p in example.params.values())
        hidden, squash_h, output, squash_o = example.network.layers
        net_h = hidden.forward(example.input)[0]
        out_h = squash_h.forward(net_h)[0]
        net_o = output.forward(out_h)[0]
        out_o = squash_o.forward(net_o)[0]
        E_o = example.errors(out_o)
        one = ball.ball(1)
        with tape.untaped():
            by_hand = {name: ball.values(t) for name, t in example.round().items() if name.startswith("d")}

        by_tape = _gradients(out_o, [one, one], {"dout_o/dnet_o": net_o})
        by_tape |= _gradients(out_h, [one, one], {"dout_h/dnet_h": net_h})
        outward = {"dE/dout_o": out_o, "dE/dnet_o": net_o, "dE/d2.weight": W_o, "dE/d2.bias": b_o}
        by_tape |= _gradients(E_o, [one, one], outward)
        sources, seeds = list(E_o), [one, one]
        if recipe.order == "sequential":
            sources, seeds = list(output.forward(out_h)[0]), list(by_hand["dE/dnet_o"])
        inward = {"dE/dout_h": out_h, "dE/dnet_h": net_h, "dE/d0.weight": W_h, "dE/d0.bias": b_h}
        by_tape |= _gradients(sources, seeds, inward)
        rows = [
            _gradients([source], [seed], {"row": out_h})["row"] for source, seed in zip(sources, seeds, strict=True)
        ]
        by_tape["dE_o/dout_h"] = np.stack(rows)
        if recipe.biases == "layer":
            by_tape |= {name: np.full(2, by_tape[name].sum()) for name in ("dE/d0.bias", "dE/d2.bias")}
        if by_tape.keys() != by_hand.keys():
            raise Disagreement(f"{recipe}: the tape has {sorted(by_tape)}, the hand-written backward {sorted(by_hand)}")
        for name, balls in by_tape.items():
            for x, y in zip(balls.flat, by_hand[name].flat, strict=True):
                if not x.overlaps(y) or float(y.rad()) > RADIUS:
                    raise Disagreement(f"{recipe}: {name}: the tape has {x}, the hand-written backward {y}")


def _gradients(outputs: Iterable[Any], seeds: Iterable[Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The tape's derivative of sum(seed * output) by each of the inputs."""
    tape.differentiate(outputs, seeds)
    return {name: ball.gradients(x) for name, x in inputs.items()}


def moved() -> Arrays:
    """E with each weight made smaller, and larger, by MOVE."""
    pairs = []
    with ball.precision(BITS), tape.untaped():
        for tensor, index in WEIGHTS.values():
            for by in (-MOVE, MOVE):
                params = {name: p.copy() for name, p in PARAMS.items()}
                params[tensor][index] += by
                E = Example(CORRECT, ball.lift, params).round(steps=False)["E"]
                pairs.append(_pairs(ball.values(E)))
    hi, lo = np.stack(pairs, axis=-1).reshape(2, len(WEIGHTS), 2)
    return {"moved.E.hi": hi, "moved.E.lo": lo}


def bounds(recipe: Recipe, dtype: str, updates: int = UPDATES) -> Arrays:
    """The budget of a free run in `dtype`, at the positions up to `updates`.

    It is spent once the error, or an output, is no larger than its bound. Bounds are kept to 8 significant bits,
    rounded up: more would say nothing, and the last ones depend on the processor's exp.
    """
    kept: dict[str, list[Any]] = {name: [] for name in SERIES}
    example = Example(recipe, budgets(dtype))
    spent = UPDATES + 1
    for k in range(updates + 1):
        if k < spent:
            values = example.round(steps=False)
            if any((values[name].e >= abs(values[name].x)).any() for name in SERIES):
                spent = k
        if k in POSITIONS:
            for name, series in kept.items():
                bound = _rounded_up(values[name].e) if k < spent else np.full(values[name].shape, np.inf)
                series.append(bound)
    stacked = {f"bound.{dtype}.{name}": np.stack(series) for name, series in kept.items()}
    return {f"spent.{dtype}": np.array(spent, np.int32), **stacked}


def _rounded_up(e: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    mantissa, exponent = np.frexp(e)
    return np.asarray(np.ldexp(np.ceil(mantissa * 256), exponent - 8))
