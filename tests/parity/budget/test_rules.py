"""Each rule of the model is needed, and none grants more than it has to."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from adversary import F32, F64, PROFILES, TINY, ULP, Case, case, largest

from parity.budget import bounds, elementwise, sums
from parity.budget.array import Budget, Profile
from parity.budget.formats import ULPS, Format
from refnet.arithmetic import special

pytestmark = pytest.mark.arithmetic

# ---- no constant is larger than it has to be: inputs at which an evaluation uses most of its bound

ROUNDING: dict[str, tuple[Case, Profile]] = {
    "add": (case(lambda x, y: x + y, 1.0, 2.0**-60), F64),
    "subtract": (case(lambda x, y: x - y, 1.0, -(2.0**-60)), F64),
    "multiply": (case(lambda x, y: x * y, 1 + ULP, 1 + ULP), F64),
    "divide": (case(lambda x, y: x / y, 1 + 3 * ULP, 1 + 2 * ULP), F64),
    "reciprocal": (case(lambda x: 1 / x, 1 - ULP), F64),
    "sqrt": (case(np.sqrt, 1 + 2 * ULP), F64),
    "exp": (case(np.exp, 2.0**-30), F64),
    "log": (case(np.log, math.e + 1e-9), F64),
    "log1p": (case(np.log1p, math.e - 1 + 1e-9), F64),
    "tanh": (case(np.tanh, math.atanh(0.5) + 1e-9), F64),
    "sin": (case(np.sin, math.pi / 6 + 1e-9), F64),
    "cos": (case(np.cos, math.pi / 3 - 1e-9), F64),
    "expm1": (case(np.expm1, math.log(2) + 1e-9), F64),
    "erf": (case(special.erf, 0.47693628), F64),
    "erfc": (case(special.erfc, [0.0, 0.47693628, -1.0]), F64),
    "erfc far": (case(special.erfc, [math.sqrt(math.log(2**k)) - 1e-9 for k in range(60, 90)]), F64),
    "erf_derivative": (
        case(special.erf_derivative, [math.sqrt(math.log(2**k * 1.128379)) - 1e-9 for k in range(90, 120)]),
        F64,
    ),
    "power": (case(lambda x: np.power(x, 4), 1 + 3 * ULP), F64),
    "negative power": (case(lambda x: np.power(x, -3), [1 + (2 * k + 1) * ULP for k in range(9)]), F64),
    "cumsum": (case(lambda x: np.cumsum(x, axis=-1), [1.0, 2.0**-60, 2.0**-60]), F64),
    "scatter": (
        case(lambda x: special.scatter(x, np.array([1, 1, 1]), 2), [[1.0], [2.0**-60], [2.0**-60]]),
        F64,
    ),
    "sigmoid": (case(special.sigmoid, [-k * math.log(2) - 1e-9 for k in range(55, 60)]), F64),
    "sigmoid near 1": (case(special.sigmoid, np.linspace(30, 40, 10)), F64),
    "log_sigmoid": (case(special.log_sigmoid, [k * math.log(2) - 1e-9 for k in range(40, 50)]), F64),
    "log_sigmoid of -x": (case(special.log_sigmoid, np.linspace(-40, -30, 10)), F64),
    "constant": (case(lambda x: x * (1 + 2.0**-30), 1.0), F32),
    "sum": (case(np.sum, [1.0, 2.0**-60, 2.0**-60]), F64),
    "matmul of 1": (case(lambda x, y: x @ y, [[1 + ULP]], [[1 + ULP]]), F64),
    "matmul of 2": (case(lambda x, y: x @ y, [[1 + ULP, 1 + ULP]], [[1 + ULP], [2.0**-60]]), F64),
    "bias": (case(lambda x, y, b: x @ y + b, [[1 + ULP]], [[1 + ULP]], 2.0**-60), F64),
    "einsum": (case(lambda x, y: np.einsum("i,i->i", x, y), [1 + ULP], [1 + ULP]), F64),
    "storage": (case(lambda x, y: x @ y, [[1.0, 2.0**-20]], [[1.0], [1.0]]), PROFILES["bfloat16 in float32"]),
    "addition to what is stored": (
        case(lambda x, y: x @ y + y, [[1.0, 2.0**-20]], [[1.0], [1.0]]),
        PROFILES["bfloat16 in float32"],
    ),
    "factors": (case(lambda x, y: x @ y, [[1 + 2.0**-20]], [[1 + 2.0**-20]]), PROFILES["float32 by tf32"]),
    "underflow of a product": (case(lambda x, y: x * y, 1.9 * 2.0**-511, 0.52 * 2.0**-511), F64),
    "underflow of exp": (case(np.exp, [-708.4, -720.0]), F64),
    "underflow of a sum": (case(np.sum, [1.99 * TINY, -TINY]), F64),
    "underflow in float16": (case(lambda x, y: x / y, 2047 / 2048 * 2.0**-10, 16.0), PROFILES["float16"]),
}
LOOSE = {"underflow of a sum": 0.2}
"""A sum is granted an underflow for each term and each addition; here one of them underflows."""

E = 2.0**-20
PROPAGATION: dict[str, tuple[Case, Profile]] = {
    "add": (case(lambda x, y: x - y, [1.0] * 9, [3.0] * 9, e=E), F64),
    "multiply": (case(lambda x, y: x * y, [1.5] * 9, [-3.0] * 9, e=E), F64),
    "divide": (case(lambda x, y: x / y, [1.5] * 9, [-3.0] * 9, e=E), F64),
    "divide by much": (case(lambda x, y: x / y, [1.5] * 9, [0.1] * 9, e=0.01), F64),
    "exp": (case(np.exp, [1.0, -5.0] * 4, e=E), F64),
    "exp far": (case(np.exp, [-2.0] * 9, e=0.2), F64),
    "log": (case(np.log, [0.5, 3.0] * 4, e=E), F64),
    "log near 0": (case(np.log, [0.1] * 9, e=0.03), F64),
    "log1p": (case(np.log1p, [0.5, -0.7] * 4, e=E), F64),
    "log1p near -1": (case(np.log1p, [-0.9] * 9, e=0.03), F64),
    "sqrt": (case(np.sqrt, [0.5, 3.0] * 4, e=E), F64),
    "sqrt near 0": (case(np.sqrt, [0.1] * 9, e=0.04), F64),
    "tanh": (case(np.tanh, [0.0, 0.5, -2.0] * 4, e=E), F64),
    "tanh far": (case(np.tanh, [1.5] * 9, e=0.2), F64),
    "sin": (case(np.sin, [0.0, 0.01] * 4, e=E), F64),
    "cos": (case(np.cos, [1.5, -1.0] * 4, e=E), F64),
    "cos near its top": (case(np.cos, [0.0] * 9, e=0.2), F64),
    "expm1": (case(np.expm1, [1.0, -5.0] * 4, e=E), F64),
    "erf": (case(special.erf, [0.0, 2.0, -1.0] * 4, e=E), F64),
    "erf far": (case(special.erf, [1.5] * 9, e=0.2), F64),
    "erfc": (case(special.erfc, [0.0, 2.0, -1.0] * 4, e=E), F64),
    "erf_derivative": (case(special.erf_derivative, [0.7071, -1.5] * 4, e=E), F64),
    "absolute": (case(np.abs, [1.0, -1.0, 0.0] * 4, e=E), F64),
    "power": (case(lambda x: np.power(x, 3), [1.0, -2.0] * 4, e=E), F64),
    "negative power": (case(lambda x: np.power(x, -2), [1.0, -2.0] * 4, e=E), F64),
    "maximum": (case(lambda x, y: special.maximum(x, y), [1.0, 2.0] * 4, [1.0, 1.0] * 4, e=E), F64),
    "amax": (case(lambda x: special.amax(x, -1), [[1.0, 1.0, 0.5]] * 4, e=E), F64),
    "cumsum": (case(lambda x: np.cumsum(x, axis=-1), [[1.0, 1.0, 0.5]] * 9, e=E), F64),
    "scatter": (case(lambda x: special.scatter(x, np.array([0, 0]), 1), [[1.0] * 9, [2.0] * 9], e=E), F64),
    "sigmoid": (case(special.sigmoid, [0.0, 3.0, -3.0] * 4, e=E), F64),
    "sigmoid far": (case(special.sigmoid, [-3.0] * 9, e=0.5), F64),
    "log_sigmoid": (case(special.log_sigmoid, [0.0, 3.0, -3.0] * 4, e=E), F64),
    "log_sigmoid far": (case(special.log_sigmoid, [4.0] * 9, e=0.5), F64),
    "sum": (case(lambda x: np.sum(x, axis=-1), [[1.0, -2.0]] * 9, e=E), F64),
    "matmul": (case(lambda x, y: x @ y, [[1.5, 0.5]] * 9, [[-3.0] * 9, [2.0] * 9], e=E), F64),
    "where": (case(lambda x: np.where(x > 0, x, -x), [1.0, -1.0] * 4, e=E), F64),
}


def used(rule: tuple[Case, Profile]) -> float:
    return largest(*rule, 4)


@pytest.mark.parametrize("name", ROUNDING)
def test_rounding_can_use_most_of_what_it_is_granted(name: str) -> None:
    assert LOOSE.get(name, 0.45) < used(ROUNDING[name]) <= 1


@pytest.mark.parametrize("name", PROPAGATION)
def test_errors_of_inputs_can_grow_to_nearly_the_bound(name: str) -> None:
    assert 0.6 < used(PROPAGATION[name]) <= 1


# ---- each rule is needed: a budget without it, or with half of it, is exceeded


def halved(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args: f(*args) / 2


def units(exact: bounds.Exact) -> Any:
    return exact.units() if callable(exact.units) else exact.units


def patched(module: Any, name: str, faulty: Callable[..., Any]) -> Callable[[pytest.MonkeyPatch], None]:
    """Puts `faulty(right, *args)` in place of the module's function."""
    right = getattr(module, name)
    return lambda m: m.setattr(module, name, lambda *args: faulty(right, *args))


FAULTS: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], dict[str, tuple[Case, Profile]], tuple[str, ...]]] = {
    "half of every rounding": (
        patched(bounds, "rounded", lambda right, exact, f: right(exact._replace(units=units(exact) / 2), f)),
        ROUNDING,
        (
            *("add", "subtract", "multiply", "divide", "reciprocal", "sqrt", "exp", "log", "log1p", "tanh", "sigmoid"),
            *("sin", "cos", "expm1", "erf", "erfc far", "erf_derivative", "power", "negative power"),
        ),
    ),
    **{
        f"half the ULPS of {name}": (lambda m, n=name: m.setitem(ULPS, n, ULPS[n] / 2), ROUNDING, rules)
        for name, rules in {
            "exp": ("exp", "sigmoid"),
            "log": ("log",),
            "log1p": ("log1p",),
            "tanh": ("tanh",),
            "sin": ("sin",),
            "cos": ("cos",),
        }.items()
    },
    "half the ULPS under a log_sigmoid": (
        lambda m: [m.setitem(ULPS, n, ULPS[n] / 2) for n in ("exp", "log1p")] and None,
        ROUNDING,
        ("log_sigmoid",),
    ),
    "half the growth": (lambda m: m.setattr(Format, "growth", halved(Format.growth)), ROUNDING, ("sum", "matmul of 1")),
    "a sum of n has n - 2 additions": (
        lambda m: m.setattr(Format, "growth", lambda f, k, right=Format.growth: right(f, k - 1)),
        ROUNDING,
        ("sum", "bias"),
    ),
    "products are exact": (
        patched(sums, "contract", lambda right, x, s, q, p: right(x, replace(s, products=False), q, p)),
        ROUNDING,
        ("matmul of 1", "einsum"),
    ),
    "results are not stored": (
        patched(sums, "stored", lambda right, x, e, s, exact, p: (e, s)),
        ROUNDING,
        ("storage", "addition to what is stored"),
    ),
    "factors keep their bits": (patched(sums, "factors", lambda right, a: a.e), ROUNDING, ("factors",)),
    "constants are exact": (
        patched(bounds, "constant", lambda right, v, f: (np.float64(v), np.float64(0), np.float64(0))),
        ROUNDING,
        ("constant",),
    ),
    "nothing underflows": (
        lambda m: m.setattr(Format, "tiny", property(lambda f: 0.0)),
        ROUNDING,
        ("underflow of a product", "underflow of exp", "underflow of a sum", "underflow in float16"),
    ),
    "half of every product of bounds": (
        lambda m: [m.setattr(elementwise, n, halved(getattr(elementwise, n))) for n in ("times", "product")] and None,
        PROPAGATION,
        ("multiply", "exp", "sqrt", "tanh", "sigmoid", "log_sigmoid", "cos", "erf", "erfc", "erf_derivative", "power"),
    ),
    "half of a logarithm's error": (
        lambda m: m.setattr(elementwise, "_log_error", halved(elementwise._log_error)),
        PROPAGATION,
        ("log", "log1p"),
    ),
    "divisors are exact": (
        lambda m, right=Budget.UFUNCS[np.divide]: m.setattr(
            Budget,
            "UFUNCS",
            {**Budget.UFUNCS, np.divide: lambda a, b: right(a, Budget(b.x, 0 * b.e, b.q, b.profile))},
        ),
        PROPAGATION,
        ("divide", "divide by much"),
    ),
    "slopes are taken at x": (
        patched(elementwise, "_nearest_to_zero", lambda right, a: abs(a.x)),
        PROPAGATION,
        ("tanh far", "sigmoid far"),
    ),
    "a contraction's terms are exact": (
        patched(sums, "contract", lambda right, x, s, q, p: right(x, replace(s, error=0 * s.error), q, p)),
        PROPAGATION,
        ("sum", "matmul"),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_weakened_rule_is_exceeded(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    patch, table, rules = FAULTS[fault]
    patch(monkeypatch)
    assert {name: used(table[name]) > 1 for name in rules} == dict.fromkeys(rules, True)
