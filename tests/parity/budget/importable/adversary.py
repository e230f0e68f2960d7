"""Expressions on an engine that rounds as badly as the model of rounding lets it.

`Case.share` runs an expression on it and says which part of the budget it uses.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from benchmarks.adversarial.rounded_array import Number, Rounded, filled
from benchmarks.adversarial.rounding_machine import Machine, OverflowsError, machines
from parity.budget.array import Budget, Profile
from parity.budget.formats import FORMATS
from parity.truth import ball


@dataclass(frozen=True)
class Case:
    """An expression at inputs; `e` is how far exact inputs and those of an engine may be off."""

    f: Callable[..., Any]
    inputs: tuple[Any, ...]
    e: tuple[Any, ...] | None = None

    def budget(self, profile: Profile) -> Budget:
        errors = self.e or (None,) * len(self.inputs)
        result = self.f(*(Budget.exact(x, profile, e) for x, e in zip(self.inputs, errors, strict=True)))
        assert result.x.shape == result.e.shape == result.q.shape
        assert (result.e >= 0).all()
        assert (result.e[result.q > 0] == 0).all()
        return result

    def share(self, machine: Machine) -> float:
        """The largest part of its bound that an element of an evaluation on the machine uses."""
        with np.errstate(all="ignore"):
            bounded = self.budget(machine.profile)
        exact, engine = [], []
        for k, x in enumerate(self.inputs):
            e = np.broadcast_to(self.e[k], x.shape) if self.e else np.zeros(x.shape)
            signs = machine.random.integers(2, size=(2, x.size)) * 2 - 1
            true = [
                Fraction(float(v)) + int(s) * Fraction(float(d))
                for v, s, d in zip(x.flat, signs[0], e.flat, strict=True)
            ]
            own = [v + int(s) * Fraction(float(d)) for v, s, d in zip(true, signs[1], e.flat, strict=True)]
            exact.append(filled(x.shape, true))
            engine.append(Rounded(filled(x.shape, map(Number, own)), machine))
        with ball.precision(500):
            truth = ball.values(self.f(*map(ball.lift, exact)))
        try:
            got = self.f(*engine).values()
        except (OverflowsError, ZeroDivisionError):
            return 0.0 if np.isinf(bounded.e).any() else math.inf
        worst = 0.0
        for true, value, x, e in zip(truth.flat, got.flat, bounded.x.flat, bounded.e.flat, strict=True):
            with ball.precision(500):
                errors = [abs(float(ball.ball(Fraction(v)) - true)) for v in (value, float(x)) if math.isfinite(v)]
            for error in errors if math.isfinite(e) else []:
                worst = max(worst, error / float(e) if e else math.inf * error if error else 0.0)
        return worst


def largest(case: Case, profile: Profile, count: int = 4) -> float:
    return max(case.share(machine) for machine in machines(profile, count))


PROFILES = {
    "float64": Profile.of("float64"),
    "float32": Profile.of("float32"),
    "bfloat16": Profile.of("bfloat16"),
    "float16": Profile.of("float16"),
    "bfloat16 in float32": Profile.of("bfloat16", accumulator="float32"),
    "float16 in float32": Profile.of("float16", accumulator="float32"),
    "float64 in float32": Profile.of("float64", accumulator="float32"),
    "float32 by tf32": Profile.of("float32", product="tf32"),
    "float32 by bfloat16": Profile.of("float32", product="bfloat16"),
}


def draw(seed: int, profile: Profile, *shape: int, low: int = -3, high: int = 2) -> Any:
    """Numbers with full significands of the storage format, of both signs."""
    random = np.random.default_rng(seed)
    p = profile.storage.precision
    whole = random.integers(2 ** (p - 1), 2**p, shape).astype(np.float64)
    return np.ldexp(whole, random.integers(low, high, shape) - p) * random.choice([-1, 1], shape)


F64, F32 = PROFILES["float64"], PROFILES["float32"]
ULP = 2.0**-52
TINY = FORMATS["float64"].tiny


def case(f: Callable[..., Any], *inputs: Any, e: Any = None) -> Case:
    return Case(f, tuple(np.asarray(x, np.float64) for x in inputs), None if e is None else (e,) * len(inputs))
