"""Where every evaluation is exact, where none has a bound, and what is granted to constants."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from adversary import F32, F64, PROFILES, TINY, ULP, Case, case, largest
from numpy.lib.stride_tricks import sliding_window_view

from benchmarks.adversarial.rounding_machine import machines
from parity.budget.array import Budget, Profile, grid
from parity.budget.formats import FORMATS, Format
from refnet.arithmetic import special

pytestmark = pytest.mark.arithmetic

# ---- exactness


GRID = {
    "affine": lambda x, y: x @ y.mT + y[:, 0],
    "squares": lambda x, y: np.sum((x - y) * (x - y)) / 4,
    "windows": lambda x, y: np.sum(sliding_window_view(np.pad(x * y, 1), (2, 2), axis=(-2, -1)), axis=(-2, -1)),
    "step": lambda x, y: x - 0.25 * (0.5 * y + x),
    "where": lambda x, y: np.where(x > y, x, 0) @ y.mT,
}


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", GRID)
def test_on_a_grid_every_evaluation_has_the_same_bits(name: str, profile: str) -> None:
    random = np.random.default_rng(5)
    case = Case(GRID[name], tuple(random.integers(-4, 5, (2, 3)) / 4 for _ in range(2)))
    result = case.budget(PROFILES[profile])
    assert not result.e.any()
    assert {case.share(machine) for machine in machines(PROFILES[profile], 3)} == {0.0}


def test_numpy_sums_on_a_grid_in_any_order_with_the_same_bits() -> None:
    random = np.random.default_rng(0)
    x = (random.integers(-128, 129, (50, 100)) / 64).astype(np.float32)
    assert not np.sum(Budget.exact(x, F32), axis=-1).e.any()
    assert len({random.permuted(x, axis=-1).sum(axis=-1).tobytes() for _ in range(20)}) == 1


BOUNDARY = case(np.sum, [2.0**53 - 1, 1.0])
ABOVE = case(np.sum, [2.0**53, 1.0])


def test_exactness_ends_with_the_significand() -> None:
    assert ABOVE.budget(F64).e > 0
    assert case(np.sum, [2.0**52, 2.0**52 - 1]).budget(F64).e == 0
    assert largest(BOUNDARY, F64, 2) <= 1
    assert largest(ABOVE, F64, 2) <= 1


def test_one_bit_more_is_not_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Format.fits
    monkeypatch.setattr(Format, "fits", lambda f, m, q: right(f, m / 2, q))
    assert largest(ABOVE, F64, 2) == math.inf


def test_exactness_ends_at_the_smallest_normal_number() -> None:
    """Below it results may be flushed, whatever grid they are on."""
    normal, below = case(lambda x: x - TINY, 3 * TINY), case(lambda x: x - 1.5 * TINY, 2.0 * TINY)
    assert normal.budget(F64).e == 0 < below.budget(F64).e
    assert largest(below, F64) <= 1


@pytest.mark.parametrize(
    "f", [lambda x: x / 3, np.exp, lambda x: x * 0.1, lambda x: x * x], ids=["third", "exp", "tenth", "square"]
)
def test_exactness_ends_where_bits_are_lost(f: Callable[..., Any]) -> None:
    result = f(Budget.exact(np.array([1 + 2.0**-30, 3.0]), F64))
    assert result.e[0] > 0
    assert result.q[0] == 0


def test_the_grid_of_a_number() -> None:
    x = np.array([1.0, -1.5, 6.0, 1 + ULP, 2.0**-1074, 0.0, -0.0, np.inf, np.nan])
    assert grid(x).tolist() == [1.0, 0.5, 2.0, ULP, 2.0**-1074, np.inf, np.inf, 0.0, 0.0]


def test_inputs_of_every_size_are_exact() -> None:
    """Numbers near and below the smallest normal one have full significands too, and are read as they are."""
    x = np.array([1e-300, 5e-324, np.finfo(float).max, -0.0])
    assert not Budget.exact(x, F64).e.any()
    assert not Budget.exact(np.float32([1e-38, 1e-45]), F32).e.any()


@pytest.mark.parametrize(
    ("value", "dtype"),
    [(0.1, "float32"), (1e39, "float32"), (2.0**-150, "float32"), (1 + 2.0**-8, "bfloat16"), (65520.0, "float16")],
)
def test_inputs_outside_the_format_are_refused(value: float, dtype: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"expected values of {dtype}, got {value!r}")):
        Budget.exact(np.array([1.0, value]), Profile.of(dtype))


# ---- where there is no bound


def test_no_bound_holds_where_an_evaluation_may_overflow() -> None:
    largest_number = FORMATS["float32"].max
    cases = {
        "sum": case(np.sum, [largest_number, largest_number, -largest_number]),
        "multiply": case(lambda x: x * x, 2.0**64),
        "exp": case(np.exp, np.float32(88.73)),
        "add": case(lambda x: x + x, largest_number),
        "matmul": case(lambda x: x @ x.mT, [[2.0**64, 2.0**64]]),
    }
    assert {name: float(c.budget(F32).e.max()) for name, c in cases.items()} == dict.fromkeys(cases, math.inf)
    assert {largest(c, F32) for c in cases.values()} == {0.0}
    assert np.isfinite(case(np.exp, np.float32(88.72)).budget(F32).e)


def test_factors_may_overflow_in_their_own_format() -> None:
    profile = Profile.of("float32", product="float16")
    bounds = (Budget.exact(np.array([[1e5, 1.0]], np.float32), profile) @ np.eye(2)).e
    assert bounds[0, 0] == np.inf


@pytest.mark.parametrize("x", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_has_no_finite_bound(x: float) -> None:
    bad, good = Budget.exact(np.array([[x, 1.0]]), F64), Budget.exact(np.array([[2.0, 0.5]]), F64)
    results = [f(bad) for f in (np.exp, np.log, np.log1p, np.sqrt, np.tanh, special.sigmoid, special.log_sigmoid)]
    results += [f(bad, good) for f in (np.add, np.subtract, np.multiply, np.divide)]
    results += [good / bad, bad @ good.mT, np.sum(bad), bad * bad, bad - bad]
    for result in results:
        assert not np.isnan(result.e).any()
        assert np.isinf(result.e[~np.isfinite(result.x)]).all()


def test_an_unbounded_element_touches_only_what_depends_on_it() -> None:
    x = Budget.exact(np.array([[1.0, 2.0], [0.0, 3.0]]), F64, e=[[np.inf, 0.0], [0.0, 0.0]])
    w = np.array([[1.0, 0.0], [1.0, 1.0]])
    assert np.isinf((x @ w).e).tolist() == [[True, True], [False, False]]
    assert (x * 0).e.tolist() == [[np.inf, 0.0], [0.0, 0.0]]
    assert (x + 0).e.tolist() == x.e.tolist()


OVERFLOWING: dict[str, Callable[[Any], Any]] = {
    "product": lambda x: x[:1] * np.exp(x[1:]),
    "on the right": lambda x: np.exp(x[1:]) * x[:1],
    "matrix product": lambda x: np.expand_dims(x[:1], -1) @ np.expand_dims(np.exp(x[1:]), -1),
    "einsum": lambda x: np.einsum("i,i->i", x[:1], np.exp(x[1:])),
    "quotient": lambda x: x[:1] / np.exp(x[1:]),
}


@pytest.mark.parametrize("name", OVERFLOWING)
def test_zero_times_what_may_overflow_has_no_bound(name: str) -> None:
    """In float32 exp(200) is infinite, and 0 times it is no number; in float64 it is 0."""
    x = np.array([0.0, 200.0])
    with np.errstate(all="ignore"):
        assert OVERFLOWING[name](x.astype(np.float32)).item() != 0 or name == "quotient"
    assert np.isinf(OVERFLOWING[name](Budget.exact(x, F32)).e).all()
    assert not OVERFLOWING[name](Budget.exact(x, F64)).e.any()


def test_one_term_is_rounded_to_an_accumulator_that_does_not_hold_it() -> None:
    profile = PROFILES["float64 in float32"]
    moved = abs(float(np.float32(0.1)) - 0.1)
    for x in ([[0.1]], [[0.1, 0.0]]):
        assert (np.sum(Budget.exact(x, profile), axis=-1).e >= moved).all()
    assert not np.sum(Budget.exact([[0.5]], profile), axis=-1).e.any()
    assert not np.sum(Budget.exact([[0.1]], F64), axis=-1).e.any()


def test_no_bound_holds_outside_a_domain() -> None:
    near = Budget.exact(np.array([1.0, 2.1]), F64, e=[0.5, 1.0])
    assert [np.isinf(f(near).e).tolist() for f in (np.log, np.sqrt)] == [[True, False], [False, False]]
    assert np.isinf(np.log1p(near - 1.0).e).tolist() == [True, False]
    around = Budget.exact(np.array([1.0, 0.0, 0.0]), F64, e=[0.6, 1.0, 0.0])
    assert np.isinf(np.sqrt(around).e).tolist() == [True, True, False]
    assert np.isinf((1 / around).e).all()
    assert np.isinf((0 / around).e).all()
    assert (0 / Budget.exact(3.0, F64, e=1.0)).e == 0


# ---- constants


def test_constants_that_the_format_holds_are_exact() -> None:
    b = Budget.exact(np.zeros(2), F32)
    for value in (0.5, 3, -1, 0.0, Fraction(1, 4), np.array([1, 2]), np.array([True, False]), np.float32(0.1)):
        assert not b.constant(value).e.any()


def test_other_constants_are_granted_one_rounding() -> None:
    b = Budget.exact(np.zeros(2), F32)
    for value in (0.1, Fraction(1, 3), 2**24 + 1, 2**60 + 1, np.array([0.1, 0.7])):
        constant = b.constant(value)
        unit = 2 * FORMATS["float32"].u * abs(constant.x)
        assert (constant.e >= unit).all()
        assert (constant.e <= 1.001 * unit).all()
    assert Budget.exact(0.0, F64).constant(Fraction(1, 3)).e > 0
    assert Budget.exact(0.0, F64).constant(2**53 + 1).e > 0
    assert Budget.exact(0.0, F64).constant(np.array([2**53 + 1])).e > 0


def test_a_constant_that_overflows_or_is_none_has_no_bound() -> None:
    b = Budget.exact(0.0, F32)
    assert [float(b.constant(value).e) for value in (1e39, math.inf, math.nan)] == [math.inf] * 3


def test_constants_are_shared_and_cannot_be_written() -> None:
    constant = Budget.exact(0.0, F64).constant(0.5)
    with pytest.raises(ValueError, match="read-only"):
        constant[...] = 1.0
    mine = constant.copy()
    mine[...] = 1.0
    assert Budget.exact(0.0, F64).constant(0.5).x == 0.5
