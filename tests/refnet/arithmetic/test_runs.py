"""Runs: many arrays at once, each with the bits that it has alone."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from parity.budget.array import Budget, Profile
from parity.truth import ball
from refnet.arithmetic import special
from refnet.arithmetic.runs import Runs

pytestmark = pytest.mark.arithmetic

R = 5


def draw(seed: int, *shape: int, dtype: Any = np.float64) -> Any:
    return (np.random.default_rng(seed).standard_normal((R, *shape)) * 2).astype(dtype)


X, W, V, B = draw(0, 4, 6), draw(1, 6, 3), draw(2, 6), draw(3)
S = draw(4, 2, 4, 6)
PLAIN = np.random.default_rng(5).standard_normal((4, 6))
PLAIN_V = np.random.default_rng(6).standard_normal(6)

ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "add": lambda x, w, v, b, s: x + v + b + PLAIN,
    "subtract": lambda x, w, v, b, s: 1.5 - x - PLAIN_V + (b - 2),
    "multiply": lambda x, w, v, b, s: x * v * PLAIN * b * s,
    "divide": lambda x, w, v, b, s: x / (v * v + 1) / (PLAIN_V * PLAIN_V + b * b) + 1 / (v * v + 1),
    "negative": lambda x, w, v, b, s: -x,
    "exp": lambda x, w, v, b, s: np.exp(x),
    "log": lambda x, w, v, b, s: np.log(x * x + 1),
    "log1p": lambda x, w, v, b, s: np.log1p(x * x),
    "sqrt": lambda x, w, v, b, s: np.sqrt(x * x + 2),
    "tanh": lambda x, w, v, b, s: np.tanh(x),
    "sigmoid": lambda x, w, v, b, s: special.sigmoid(x) * special.log_sigmoid(v),
    "sigmoids": lambda x, w, v, b, s: special.sigmoids(x)[0] - special.sigmoids(v)[1],
    "greater": lambda x, w, v, b, s: x > PLAIN_V,
    "greater_equal": lambda x, w, v, b, s: x >= b,
    "less": lambda x, w, v, b, s: np.less(PLAIN, x),
    "less_equal": lambda x, w, v, b, s: x <= 0,
    "equal": lambda x, w, v, b, s: x == x,
    "not_equal": lambda x, w, v, b, s: x != v,
    "where": lambda x, w, v, b, s: np.where(x > 0, v, PLAIN) + np.where(PLAIN > 0, x, 0) + np.where(v > 0, 1.0, b),
    "lift": lambda x, w, v, b, s: x * special.lift(0.1, x) + special.lift(PLAIN_V, x),
    "maximum as a shift": lambda x, w, v, b, s: x - special.shift(x, -1) - special.shift(s, -3)[0],
}
SUMS: dict[str, Callable[..., Any]] = {
    "matmul": lambda x, w, v, b, s: x @ w,
    "matmul with plain": lambda x, w, v, b, s: PLAIN @ w + (x @ PLAIN.mT)[:, :3],
    "matrix and vector": lambda x, w, v, b, s: x @ v + PLAIN @ v + x @ PLAIN_V,
    "vector and matrix": lambda x, w, v, b, s: v @ w + PLAIN_V @ w,
    "vector and vector": lambda x, w, v, b, s: v @ v + v @ PLAIN_V + PLAIN_V @ v,
    "batched matmul": lambda x, w, v, b, s: s @ w + np.expand_dims(x, -3) @ w,
    "sum": lambda x, w, v, b, s: x.sum() + np.sum(x, axis=-1)[0] + x.sum(axis=(-2, -1)) + np.sum(v) + b.sum(),
    "sum, axes kept": lambda x, w, v, b, s: s.sum(axis=(-3, -1), keepdims=True) * x.sum(axis=-2),
    "einsum": lambda x, w, v, b, s: np.einsum("ij,jk->ik", x, w) + np.einsum("ij,jk->ik", PLAIN, w),
    "einsum of one": lambda x, w, v, b, s: np.einsum("bij->j", s) + np.einsum("ij -> j", x),
}
MOVES: dict[str, Callable[..., Any]] = {
    "mT": lambda x, w, v, b, s: x.mT,
    "reshape": lambda x, w, v, b, s: x.reshape(3, 8).reshape((2, 12)).reshape(-1, 4).reshape(-1),
    "np.reshape": lambda x, w, v, b, s: np.reshape(x, (6, 4)),
    "expand_dims": lambda x, w, v, b, s: np.expand_dims(np.expand_dims(x, -1), (-5, -2)),
    "broadcast_to": lambda x, w, v, b, s: np.broadcast_to(v, (4, 6)) + np.broadcast_to(b, (4, 6)),
    "concatenate": lambda x, w, v, b, s: np.concatenate([x, PLAIN, x[:1]], axis=-2),
    "pad": lambda x, w, v, b, s: np.pad(x, ((1, 0), (0, 2))),
    "pad alike": lambda x, w, v, b, s: np.pad(x, 1),
    "windows": lambda x, w, v, b, s: sliding_window_view(x, (2, 3), axis=(-2, -1)),
    "windows of one axis": lambda x, w, v, b, s: np.lib.stride_tricks.sliding_window_view(v, 2, axis=-1),
    "indexing": lambda x, w, v, b, s: x[1:, ::-2][..., 0] + s[0, ..., 1][:3] + x[0, :3] + v[2],
    "new axes": lambda x, w, v, b, s: x[:, None] + v[None],
    "copy": lambda x, w, v, b, s: x.copy() + np.copy(x),
    "astype": lambda x, w, v, b, s: x.astype(np.float32),
}
EXPRESSIONS = ELEMENTWISE | SUMS | MOVES


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", EXPRESSIONS)
def test_each_run_has_the_bits_that_it_has_alone(name: str, dtype: Any) -> None:
    f, arrays = EXPRESSIONS[name], [a.astype(dtype) for a in (X, W, V, B, S)]
    got = f(*map(Runs, arrays))
    alone = [np.asarray(f(*(a[k] for a in arrays))) for k in range(R)]
    assert isinstance(got, Runs)
    assert got.shape == alone[0].shape
    assert got.dtype == alone[0].dtype
    assert np.array_equal(got.a, np.stack(alone))


@pytest.mark.parametrize("n", [1, 7, 130, 1000])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_long_sums_and_products_have_the_same_bits_too(n: int, dtype: Any) -> None:
    """Beyond the sizes at which NumPy sums in blocks and BLAS changes kernels."""
    x, w, v = draw(7, 3, n, dtype=dtype), draw(8, n, 17, dtype=dtype), draw(9, n, dtype=dtype)
    for f in (
        lambda x, w, v: x.sum(axis=-1),
        lambda x, w, v: x.sum(),
        lambda x, w, v: x.mT.sum(axis=-2),
        lambda x, w, v: x @ w,
        lambda x, w, v: x @ w.mT.mT + x[0] @ w,
        lambda x, w, v: v @ v,
        lambda x, w, v: x @ v,
        lambda x, w, v: np.einsum("in,nj->ij", x, w),
    ):
        got, alone = f(Runs(x), Runs(w), Runs(v)).a, [f(x[k], w[k], v[k]) for k in range(R)]
        assert np.array_equal(got, np.stack(alone))


@pytest.mark.parametrize("name", [name for name in EXPRESSIONS if name != "astype"])
def test_runs_of_budgets(name: str) -> None:
    profile, f = Profile.of("float64"), EXPRESSIONS[name]
    got = f(*(Runs(Budget.exact(a, profile)) for a in (X, W, V, B, S)))
    for k in range(R):
        alone = f(*(Budget.exact(a[k], profile) for a in (X, W, V, B, S)))
        if isinstance(alone, Budget):
            assert np.array_equal(got.a.x[k], alone.x)
            # A grid is that of all runs together, a bound may be that of the more terms.
            assert (got.a.e[k] >= alone.e * (1 - 1e-12)).all()
            assert (got.a.e[k] <= alone.e * (1 + 1e-12) + 1e-300).all()
        else:
            assert np.array_equal(got.a[k], alone)


@pytest.mark.parametrize("name", [name for name in EXPRESSIONS if name != "astype"])
def test_runs_of_balls(name: str) -> None:
    f = EXPRESSIONS[name]
    with ball.precision(128):
        got = f(*(Runs(ball.lift(a)) for a in (X, W, V, B, S)))
        for k in range(R):
            alone = np.asarray(f(*(ball.lift(a[k]) for a in (X, W, V, B, S))))
            assert got.shape == alone.shape
            if alone.dtype == object:
                pairs = zip(ball.values(got.a[k]).flat, ball.values(alone).flat, strict=True)
                assert all(x.overlaps(y) for x, y in pairs)
            else:
                assert np.array_equal(got.a[k], alone)


# ---- writing, lifting, one value a run


def test_writing_reaches_the_array_inside() -> None:
    inner = np.zeros((R, 2, 3))
    runs = Runs(inner)
    runs[...] = 1.0
    runs[0] = Runs(np.arange(5.0))
    runs[1, ::2] = Runs(draw(0, 2))
    runs[1, 1] = Runs(np.full(R, 7.0))
    assert np.array_equal(inner[:, 0], np.repeat(np.arange(5.0)[:, None], 3, axis=1))
    assert np.array_equal(inner[:, 1, ::2], draw(0, 2))
    assert (inner[:, 1, 1] == 7).all()
    runs[...] = np.arange(3.0)
    assert np.array_equal(inner, np.broadcast_to(np.arange(3.0), (R, 2, 3)))


def test_a_view_writes_through_and_a_copy_does_not() -> None:
    runs = Runs(np.zeros((R, 3)))
    runs[1:][0] = 5.0
    runs.copy()[...] = 9.0
    assert runs.a.tolist() == [[0.0, 5.0, 0.0]] * R


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_learning_rate_for_each_run(dtype: Any) -> None:
    p, rates = draw(0, 4, 6, dtype=dtype), np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    runs = Runs(p.copy())
    rate = special.lift(Runs(rates), runs)
    runs[...] = runs - rate * runs
    assert runs.dtype == dtype
    for k in range(R):
        lone = p[k].copy()
        lone[...] = lone - special.lift(float(rates[k]), lone) * lone
        assert np.array_equal(runs.a[k], lone)


def test_a_learning_rate_for_each_run_in_budgets_and_balls() -> None:
    rates = Runs(np.array([0.1, 0.5, 0.3, 0.25, 2.0]))
    budgets = Runs(Budget.exact(np.ones((R, 2), np.float32), Profile.of("float32")))
    lifted = special.lift(rates, budgets) * budgets
    assert (lifted.a.e > 0).tolist() == [[True] * 2, [False] * 2, [True] * 2, [False] * 2, [False] * 2]
    assert special.lift(lifted, budgets) is lifted
    balls = Runs(ball.lift(np.ones((R, 2))))
    first = (special.lift(rates, balls) * balls)[0].a
    assert [node.value == rate for node, rate in zip(first, rates.a, strict=True)] == [True] * R
    assert (special.lift(0.5, balls) * balls)[0].a[3].value == 0.5
    assert ((special.lift(Fraction(1, 3), balls) * balls)[0].a[0].value * 3).contains(1)


def test_constants_of_the_inner_arithmetic_stand_on_either_side() -> None:
    for inner in (ball.lift(np.ones((R, 2))), Budget.exact(np.ones((R, 2)), Profile.of("float64"))):
        runs = Runs(inner)
        half = special.lift(0.5, runs)
        for result in (half * runs, runs * half, (1 - half) * runs, np.where(np.array([True, False]), half, runs)):
            assert isinstance(result, Runs)
            first = result.a[0, 0]
            assert float(first.value if hasattr(first, "value") else first.x) == 0.5


# ---- refusals


def test_a_run_axis_is_needed() -> None:
    with pytest.raises(ValueError, match="expected an array with a leading run axis, got a 0-d array"):
        Runs(np.array(1.0))


def test_runs_are_no_condition() -> None:
    with pytest.raises(TypeError, match="one decision for all runs"):
        bool(Runs(np.ones(2)) > 0)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x.sum(axis=0),
        lambda x: np.sum(x, axis=(-1, 1)),
        lambda x: np.expand_dims(x, 0),
        lambda x: np.concatenate([x, x]),
        lambda x: sliding_window_view(x, 2, axis=1),
        lambda x: special.shift(x, 1),
    ],
)
def test_axes_are_counted_from_the_last(f: Callable[[Any], Any]) -> None:
    with pytest.raises(ValueError, match=r"Runs: expected a negative axis, got [01]"):
        f(Runs(X))


@pytest.mark.parametrize(
    "f",
    [
        np.var,
        np.linalg.norm,
        lambda x: np.maximum.reduce(x),
        lambda x: np.exp(x, out=x),
        lambda x: np.add(x, 1, dtype=float),
    ],
)
def test_what_is_not_listed_is_refused(f: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match=r"no implementation found|NotImplemented"):
        f(Runs(X))


def test_einsum_needs_its_arrow() -> None:
    with pytest.raises(ValueError, match="expected einsum subscripts with '->', got 'ij,jk'"):
        np.einsum("ij,jk", Runs(X), Runs(W))


def test_reshaping_to_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="reshape"):
        Runs(X).reshape(5, -1)
    assert Runs(np.ones((R, 0, 3))).reshape(-1, 3).shape == (0, 3)


def test_shapes_know_nothing_of_the_runs() -> None:
    runs = Runs(X)
    assert (runs.shape, runs.ndim, runs.size, runs.dtype) == ((4, 6), 2, 24, np.float64)
    assert (np.ndim(runs), np.shape(runs)) == (2, (4, 6))
    assert repr(Runs(np.array([1.0]))) == "Runs(array([1.]))"
