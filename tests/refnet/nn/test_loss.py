"""Losses against torch.nn, live, and against hand arithmetic.

Two right results may differ by what each may be off by. `agree` takes that as a number of roundings of half an epsilon
each, counted from the formula, times the magnitude of the terms that are rounded. A logarithm or exponential counts as
8: each library is granted 4 units in the last place.
"""

from __future__ import annotations

import inspect
import math
import warnings
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from refnet import nn

pytestmark = [pytest.mark.arithmetic, pytest.mark.filterwarnings("error")]

Array = Any

DTYPES = [np.float64, np.float32]
REDUCTIONS = ["none", "mean", "sum"]
REDUCED = ["MSELoss", "L1Loss", "BCELoss", "BCEWithLogitsLoss", "CrossEntropyLoss"]
ELEMENTARY = 8


def agree(got: Array, want: Array, roundings: float, magnitude: Array) -> None:
    """Fail unless `got` is an array like `want`, each within so many roundings of `magnitude`; a NaN fails."""
    got, want = np.asarray(got), np.asarray(want)
    assert (got.dtype, got.shape) == (want.dtype, want.shape)
    eps, tiny = np.finfo(want.dtype).eps, np.finfo(want.dtype).tiny
    with np.errstate(invalid="ignore"):
        apart = abs(got.astype(np.float64) - want)
    bound = np.broadcast_to(roundings * float(eps) * np.asarray(magnitude, np.float64) + tiny, want.shape)
    bad = ~(apart <= bound)
    assert not bad.any(), f"{bad.sum()} of {bad.size} elements apart: {got[bad][:3]}, {want[bad][:3]}, {bound[bad][:3]}"


def ours(name: str, X: Array, T: Array, dY: Array, **options: Any) -> tuple[Array, Array, Array]:
    """Loss and gradients of input and target by refnet, which may write into nothing that it is given."""
    for array in (X, T, dY, *options.values()):
        if isinstance(array, np.ndarray):
            array.flags.writeable = False
    loss = getattr(nn, name)(**options)
    Y, saved = loss.forward(X, T)
    (dX, dT), grads = loss.backward(dY, saved)
    assert grads == {}
    return Y, dX, dT


def theirs(name: str, X: Array, T: Array, dY: Array, **options: Any) -> tuple[Array, Array, Array]:
    """The same by torch."""
    x = torch.tensor(X, requires_grad=True)
    t = torch.tensor(T, requires_grad=np.asarray(T).dtype.kind == "f")
    given = {k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    y = getattr(torch.nn, name)(**given)(x, t)
    y.backward(torch.tensor(dY.copy()))
    return y.detach().numpy(), x.grad.numpy(), None if t.grad is None else t.grad.numpy()


def upstream(rng: np.random.Generator, shape: tuple[int, ...], reduction: str, dtype: Any) -> Array:
    return np.asarray(rng.normal(size=shape if reduction == "none" else ()), dtype)


def test_agree_fails_on_what_it_should() -> None:
    one = np.ones(3)
    agree(one, one + 2**-52, 1, one)
    for wrong in (one + 2**-51, np.array([1, 1, np.nan]), np.array([1, 1, np.inf]), one[:2], one.astype(np.float32)):
        with pytest.raises(AssertionError):
            agree(wrong, one, 1, one)
    with pytest.raises(AssertionError):
        agree(one, one, 1, np.nan)


# Elementwise losses: shapes, options, how inputs and targets are drawn, and how they round. W and P are the weights
# spread over the elements, or 1.

SHAPES = [(0, 4), (1, 4), (3, 4), (7, 4), (2, 3, 4), (5,), ()]
WEIGHTS: dict[str, list[dict[str, tuple[int, ...]]]] = {
    "MSELoss": [{}],
    "L1Loss": [{}],
    "BCELoss": [{}, {"weight": (4,)}, {"weight": (3, 1)}, {"weight": (3, 4)}],
    "BCEWithLogitsLoss": [{}, {"weight": (3, 4)}, {"pos_weight": (4,)}, {"weight": (4,), "pos_weight": (3, 1)}],
}
ELEMENTWISE = [(name, weights) for name, choices in WEIGHTS.items() for weights in choices]


def draw(name: str, rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> tuple[Array, Array]:
    if name == "BCELoss":
        return np.asarray(rng.uniform(0.01, 0.99, shape), dtype), np.asarray(rng.uniform(size=shape), dtype)
    # Targets of logits may lie outside 0 and 1, and so do some of these.
    return np.asarray(rng.normal(size=shape) * 3, dtype), np.asarray(rng.normal(size=shape), dtype)


def roundings(name: str, X: Array, T: Array, W: Array, P: Array) -> tuple[tuple[float, Array], ...]:
    """For the loss of an element, dX and dT: roundings, and the magnitude rounded (dX and dT before dY and 1 / n)."""
    X, T = X.astype(np.float64), T.astype(np.float64)
    if name == "MSELoss":
        return (3, (X - T) ** 2), (4, 2 * abs(X - T)), (4, 2 * abs(X - T))
    if name == "L1Loss":
        return (1, abs(X - T)), (2, np.ones_like(X)), (2, np.ones_like(X))
    if name == "BCELoss":
        A, B = -np.log(X), -np.log1p(-X)
        return (
            (ELEMENTARY + 4, W * (T * A + (1 - T) * B)),
            (7, W * abs(X - T) / (X * (1 - X))),
            # torch has one logarithm here, of a quotient: its argument's two roundings are of size 1.
            (ELEMENTARY + 4, W * (A + B + 1)),
        )
    # torch subtracts |x|-sized terms in the loss, and 1-sized ones in its gradient.
    slope = abs(1 - T) + 2 * P * abs(T) + 1
    size = (abs(1 - T) + P * abs(T) + 1) * (abs(X) + 1)
    return (
        (2 * ELEMENTARY + 6, W * size),
        (ELEMENTARY + 8, W * slope),
        (2 * ELEMENTARY + 6, W * (1 + P) * (abs(X) + 1)),
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("name", "weights"), ELEMENTWISE)
def test_elementwise_losses_are_torchs(name: str, weights: dict[str, Any], reduction: str, dtype: Any) -> None:
    rng = np.random.default_rng(1)
    # Weights have the shapes that fit (3, 4), and with no weights any shape will do.
    for shape in [(3, 4)] if weights else SHAPES:
        X, T = draw(name, rng, shape, dtype)
        options = {k: np.asarray(rng.uniform(0.5, 3, s), dtype) for k, s in weights.items()}
        dY = upstream(rng, shape, reduction, dtype)
        Y, dX, dT = ours(name, X, T, dY, reduction=reduction, **options)
        y, dx, dt = theirs(name, X, T, dY, reduction=reduction, **options)

        W, P = (np.broadcast_to(options.get(k, np.ones(())), shape) for k in ("weight", "pos_weight"))
        (k, size), (kx, size_x), (kt, size_t) = roundings(name, X, T, W, P)
        n = X.size if reduction == "mean" else 1
        if X.size == 0 and reduction == "mean":
            assert np.isnan([Y, y]).all()
            assert np.asarray(Y).dtype == dtype
        else:
            terms = 0 if reduction == "none" else X.size
            agree(Y, y, k + terms, size if reduction == "none" else size.sum() / n)
        agree(dX, dx, kx + 2, abs(dY) * size_x / max(n, 1))
        agree(dT, dt, kt + 2, abs(dY) * size_t / max(n, 1))


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("MSELoss", {"reduction": "mean"}, {"reduction": "sum"}),
        ("L1Loss", {"reduction": "mean"}, {"reduction": "sum"}),
        ("BCELoss", {"weight": np.array([1.0, 2, 3, 4])}, {"weight": np.array([1.0, 2, 4, 3])}),
        ("BCELoss", {"weight": np.array([1.0, 2, 3, 4])}, {}),
        ("BCEWithLogitsLoss", {"pos_weight": np.array([1.0, 2, 3, 4])}, {"weight": np.array([1.0, 2, 3, 4])}),
        ("CrossEntropyLoss", {"label_smoothing": 0.1}, {"label_smoothing": 0.1 + 1e-12}),
        ("CrossEntropyLoss", {"ignore_index": 1}, {"ignore_index": 2}),
        ("CrossEntropyLoss", {"weight": np.array([1.0, 2, 3, 4])}, {"weight": np.array([1.0, 2, 4, 3])}),
        ("CrossEntropyLoss", {"reduction": "sum"}, {"reduction": "mean"}),
    ],
)
def test_another_option_does_not_agree(name: str, right: dict[str, Any], wrong: dict[str, Any]) -> None:
    rng = np.random.default_rng(2)
    X, T = draw(name, rng, (7, 4), np.float64)
    if name == "CrossEntropyLoss":
        T = np.array([0, 1, 2, 3, 2, 1, 1])
    dY = upstream(rng, (), "sum", np.float64)
    expected = theirs(name, X, T, dY, **right)
    for k in (0, 1):
        agree(ours(name, X, T, dY, **right)[k], expected[k], 60, abs(expected[k]) + abs(X).max())
        with pytest.raises(AssertionError):
            agree(ours(name, X, T, dY, **wrong)[k], expected[k], 60, abs(expected[k]) + abs(X).max())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", ["MSELoss", "L1Loss"])
def test_on_the_grid_the_bits_are_torchs(name: str, reduction: str, dtype: Any) -> None:
    """Multiples of 1/64 and 16 elements: nothing is rounded, in any order."""
    rng = np.random.default_rng(3)
    X, T = (np.asarray(rng.integers(-128, 129, (4, 4)) / 64, dtype) for _ in range(2))
    dY = np.asarray(rng.integers(-128, 129, (4, 4) if reduction == "none" else ()) / 64, dtype)
    for mine, torchs in zip(
        ours(name, X, T, dY, reduction=reduction), theirs(name, X, T, dY, reduction=reduction), strict=True
    ):
        np.testing.assert_array_equal(mine, torchs, strict=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0, 2), (1, 2), (3, 2), (2, 3, 4), ()])
def test_half_squared_error_by_rational_arithmetic(shape: tuple[int, ...], dtype: Any) -> None:
    rng = np.random.default_rng(4)
    X, T, dY = (np.asarray(rng.normal(size=s), dtype) for s in (shape, shape, ()))
    Y, dX, dT = ours("HalfSquaredError", X, T, dY)
    pairs = [(Fraction(float(x)), Fraction(float(t))) for x, t in zip(X.flat, T.flat, strict=True)]
    exact = dtype(float(sum(((t - x) ** 2 / 2 for x, t in pairs), Fraction())))
    agree(Y, exact, 3 + X.size, exact)
    slope = np.array([float(Fraction(float(dY)) * (x - t)) for x, t in pairs]).reshape(shape)
    agree(dX, slope.astype(dtype), 3, abs(slope))
    agree(dT, -slope.astype(dtype), 3, abs(slope))
    agree(Y, np.asarray(theirs("MSELoss", X, T, dY, reduction="sum")[0] / 2), 6 + 2 * X.size, exact)


def test_half_squared_error_of_the_worked_example() -> None:
    """The outputs and the error of a 2-2-2 network that many texts print, to 19 digits."""
    X, T = np.array([0.7513650695523157080, 0.7729284653214625885]), np.array([0.01, 0.99])
    Y, dX, _ = ours("HalfSquaredError", X, T, np.float64(-1.5))
    # Rounded inputs move the error by less than one rounding of each.
    agree(Y, np.float64(0.2983711087600026886), 8, 0.2983711087600026886)
    agree(dX, np.array([-1.5 * 0.741365069552315708, 1.5 * 0.2170715346785374115]), 8, [1.2, 1.2])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_l1_at_a_tie(reduction: str, dtype: Any) -> None:
    X, T = np.array([1, -0.0, 0.0, 3, -2], dtype), np.array([1, 0.0, -0.0, 1, 3], dtype)
    dY = np.asarray([0.5, -2, 3, 4, -8] if reduction == "none" else -3, dtype)
    Y, dX, dT = ours("L1Loss", X, T, dY, reduction=reduction)
    assert np.array_equal(Y, {"none": [0, 0, 0, 2, 5], "sum": 7, "mean": dtype(7) / 5}[reduction])
    signed = np.array([0, 0, 0, 1, -1], dtype) * dY / (5 if reduction == "mean" else 1)
    assert np.array_equal(dX, signed)
    assert np.array_equal(dT, -signed)
    torchs = theirs("L1Loss", X, T, dY, reduction=reduction)
    for mine, other in zip((Y, dX, dT), torchs, strict=True):
        agree(mine, other, 6, abs(other))


@pytest.mark.parametrize("name", ["MSELoss", "L1Loss", "HalfSquaredError", "BCEWithLogitsLoss", "CrossEntropyLoss"])
def test_a_nan_stays_one(name: str) -> None:
    X = np.array([[0.5, np.nan, 1.0]])
    T = np.array([1]) if name == "CrossEntropyLoss" else np.array([[0.0, 1.0, 1.0]])
    assert np.isnan(getattr(nn, name)().forward(X, T)[0])


# Binary cross-entropy at its ends.


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weight", [None, 3.0])
def test_bce_at_zero_and_one_is_torchs(weight: float | None, dtype: Any) -> None:
    X = np.repeat(np.array([0, 1, 1e-44, 1e-30, 1e-13, 0.9e-12, 1.1e-12, 1e-7], dtype), 4)
    T = np.tile(np.array([0, 1, 0.25, 0.75], dtype), 8)
    dY = np.asarray(np.random.default_rng(5).normal(size=32), dtype)
    options = {} if weight is None else {"weight": np.full(32, weight, dtype)}
    Y, dX, dT = ours("BCELoss", X, T, dY, reduction="none", **options)
    y, dx, dt = theirs("BCELoss", X, T, dY, reduction="none", **options)
    w = weight or 1
    agree(Y, y, ELEMENTARY + 4, y)
    # torch multiplies a subnormal x - t by dY first, and loses digits to underflow.
    normal = (X == 0) | (np.finfo(dtype).tiny <= X)
    agree(dX[normal], dx[normal], 9, abs(dx[normal]))
    # What the values are: a clamp at 100, and a floor of 1e-12 under x (1 - x).
    at_end = X * (1 - X) == 0
    assert np.array_equal(Y[:8], np.array([0, 100, 25, 75, 100, 0, 75, 25], dtype) * dtype(w))
    slope = np.array([0, -1, -0.25, -0.75, 1, 0, 0.75, 0.25]) / float(np.float32(1e-12))
    agree(dX[:8], (dY[:8] * w * slope).astype(dtype), 4, abs(dY[:8] * w * slope))
    # The target's gradient is that of the clamped loss, where torch's is infinite.
    assert np.isinf(dt[:8]).all()
    agree(dT[:4], dY[:4] * dtype(100 * w), 2, 100 * w * abs(dY[:4]))
    agree(dT[4:8], dY[4:8] * dtype(-100 * w), 2, 100 * w * abs(dY[4:8]))
    inside = ~at_end & (X > 1e-40)
    agree(dT[inside], dt[inside], ELEMENTARY + 8, abs(dt[inside]))


# Logits.


@pytest.mark.parametrize("dtype", DTYPES)
def test_logits_keep_their_relative_accuracy(dtype: Any) -> None:
    """For t = 0: l = log(1 + e^x), l' = 1 / (1 + e^-x); t = 1 is the mirror image."""
    X = np.array([-1000, -80, -40, -17, -1, 0, 1, 17, 40, 80, 1000], dtype)
    loss = np.array([math.log1p(math.exp(x)) if x < 0 else x + math.log1p(math.exp(-x)) for x in X.tolist()])
    slope = np.array([math.exp(x) / (1 + math.exp(x)) if x < 0 else 1 / (1 + math.exp(-x)) for x in X.tolist()])
    zero, one, dY = np.zeros_like(X), np.ones_like(X), np.asarray(np.random.default_rng(6).normal(size=11), dtype)
    P = np.array(2.5, dtype)
    for x, t, sign, p in ((X, zero, 1, 1), (-X, one, -1, 2.5)):
        Y, dX, dT = ours("BCEWithLogitsLoss", x, t, dY, reduction="none", pos_weight=P)
        agree(Y, (p * loss).astype(dtype), 2 * ELEMENTARY + 6, p * loss)
        agree(dX, (sign * p * slope * dY).astype(dtype), 2 * ELEMENTARY + 6, p * slope * abs(dY))
        # dT = log s(-x) - p log s(x), with -log s(-x) = l(x) and -log s(x) = l(-x), X being its own mirror image.
        a, b = loss[::-1], loss
        expected = 2.5 * (a if sign > 0 else b) - (b if sign > 0 else a)
        agree(dT, (expected * dY).astype(dtype), 2 * ELEMENTARY + 6, 2.5 * (a + b) * abs(dY))
        torchs = theirs("BCEWithLogitsLoss", x, t, dY, reduction="none", pos_weight=P)
        for mine, other in zip((Y, dX, dT), torchs, strict=True):
            agree(mine, other, 2 * ELEMENTARY + 6, 7 * (1 + abs(X)) * (1 + abs(dY)))


# Cross-entropy.

CLASSES = 4
INPUTS = [(4,), (0, 4), (1, 4), (3, 4), (7, 4), (2, 4, 3), (2, 4, 2, 3), (0, 4, 3), (2, 4, 0)]


def samples(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[:1] + shape[2:] if len(shape) > 1 else ()


def along_classes(values: Array, shape: tuple[int, ...]) -> Array:
    """(C,) laid along the class axis of `shape`."""
    return np.asarray(values).reshape(-1, *(1,) * (len(shape) - 2))


def cross_entropy_agrees(X: Array, T: Array, dY: Array, **options: Any) -> tuple[Array, Array, Array]:
    """Hold refnet against torch; the definition in the documentation says how large the rounded terms are."""
    Y, dX, dT = ours("CrossEntropyLoss", X, T, dY, **options)
    y, dx, dt = theirs("CrossEntropyLoss", X, T, dY, **options)
    c = min(1, X.ndim - 1)
    e, reduction = options.get("label_smoothing", 0), options.get("reduction", "mean")
    w = along_classes(options.get("weight", np.ones(X.shape[c])), X.shape).astype(np.float64)
    if indices := T.dtype.kind != "f":
        t = np.expand_dims(T, c)
        kept = t != options.get("ignore_index", -100)
        Q = (t == along_classes(np.arange(X.shape[c]), X.shape)) & kept
        n = (Q * w).sum()
    else:
        kept, Q, n = True, T, X.size // X.shape[c]
    A = np.abs(np.where(kept, w * ((1 - e) * Q + e / X.shape[c]), 0))
    P = torch.softmax(torch.tensor(X.astype(np.float64)), c).numpy()
    S = 2 * abs(X).max(axis=c, keepdims=True) + math.log(X.shape[c]) + 1
    share = np.expand_dims(abs(dY), c) if reduction == "none" else abs(dY) / (n if reduction == "mean" and n else 1)

    # exp and log; |S| roundings of its argument relative to each exp; a sum over classes; some products and quotients.
    k = 2 * ELEMENTARY + float(S.max(initial=0)) + X.shape[c] + 10
    size = (A * S).sum(axis=c)
    if reduction == "mean" and n == 0:
        assert np.isnan([Y, y]).all()
        assert np.asarray(Y).dtype == X.dtype
    else:
        terms = 0 if reduction == "none" else size.size
        agree(Y, y, k + terms, size if reduction == "none" else size.sum() / (n if reduction == "mean" else 1))
    agree(dX, dx, k + size.size, share * (P * A.sum(axis=c, keepdims=True) + A))
    if indices:
        assert dT is dt is None
    else:
        agree(dT, dt, k, share * w * S)
    return Y, dX, dT


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("target", ["all", "some ignored", "ignored class", "probabilities"])
def test_cross_entropy_is_torchs(target: str, weighted: bool, smoothing: float, reduction: str, dtype: Any) -> None:
    rng = np.random.default_rng(7)
    for shape in INPUTS:
        X = np.asarray(rng.normal(size=shape) * 3, dtype)
        options: dict[str, Any] = {"reduction": reduction, "label_smoothing": smoothing}
        if weighted:
            options["weight"] = np.asarray(rng.uniform(0.5, 3, CLASSES), dtype)
        if target == "probabilities":
            T = np.asarray(np.moveaxis(rng.dirichlet(np.ones(CLASSES), samples(shape)), -1, min(1, X.ndim - 1)), dtype)
        else:
            T = np.asarray(rng.integers(0, CLASSES, samples(shape)))
        if target == "some ignored":
            T = np.where(rng.random(T.shape) < 0.4, -100, T)
        if target == "ignored class":
            options["ignore_index"] = 2
        cross_entropy_agrees(X, T, upstream(rng, samples(shape), reduction, dtype), **options)


@pytest.mark.parametrize("integer", [np.int64, np.int32, np.uint8])
def test_cross_entropy_takes_any_integers(integer: Any) -> None:
    X, T, dY = np.random.default_rng(8).normal(size=(5, 4)), np.array([0, 3, 2, 2, 1], integer), np.float64(-0.7)
    Y, dX, _ = ours("CrossEntropyLoss", X, T, dY)
    y, dx, _ = ours("CrossEntropyLoss", X, T.astype(np.int64), dY)
    assert np.array_equal(Y, y)
    assert np.array_equal(dX, dx)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 4, 3)])
def test_all_ignored(shape: tuple[int, ...], smoothing: float, weighted: bool) -> None:
    X, T = np.random.default_rng(9).normal(size=shape), np.full(samples(shape), -100)
    options = {"weight": np.array([1.0, 2, 3, 4])} if weighted else {}
    for reduction in REDUCTIONS:
        dY = np.full(T.shape if reduction == "none" else (), 1.5)
        Y, dX, _ = cross_entropy_agrees(X, T, dY, reduction=reduction, label_smoothing=smoothing, **options)
        assert np.isnan(Y) if reduction == "mean" else not np.any(Y)
        assert not dX.any()


def test_ignored_samples_may_be_nan() -> None:
    X, T = np.array([[1.0, 2, 4], [np.nan] * 3, [0, 1, 0]]), np.array([0, -100, 1])
    for smoothing in (0.0, 0.2):
        for reduction in ("mean", "sum"):
            options = {"label_smoothing": smoothing, "reduction": reduction}
            whole = ours("CrossEntropyLoss", X, T, np.float64(1.5), **options)
            without = ours("CrossEntropyLoss", X[::2], T[::2], np.float64(1.5), **options)
            agree(whole[0], without[0], 4, without[0])
            agree(whole[1][::2], without[1], 4, abs(without[1]))
            assert np.isnan(theirs("CrossEntropyLoss", X, T, np.float64(1.5), **options)[1][1]).all()


def test_weights_that_sum_to_zero_make_a_mean_nan() -> None:
    X, T, W = np.array([[1.0, 2, 4], [0, 1, 0]]), np.array([0, 1]), np.array([0.0, 0, 1])
    for engine in (ours, theirs):
        Y, dX, _ = engine("CrossEntropyLoss", X, T, np.float64(1.5), weight=W)
        assert np.isnan(Y)
        assert np.isnan(dX).all()
    cross_entropy_agrees(X, T, np.float64(1.5), weight=W, reduction="sum")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("smoothing", [0.0, 0.25])
def test_extreme_logits(smoothing: float, dtype: Any) -> None:
    X = np.array(
        [[1000, -1000, 0, 999], [-1000, -1000, -1000, -1000], [0, 1000, 1000, -1000], [-90, 0, -104, 15]], dtype
    )
    for T in (np.array([0, 1, 2, 3]), np.array([1, 2, 3, 0])):
        for reduction in REDUCTIONS:
            dY = upstream(np.random.default_rng(10), (4,), reduction, dtype)
            cross_entropy_agrees(X, T, dY, reduction=reduction, label_smoothing=smoothing)
    Q = np.array([[0.5, 0, 0.25, 0.25]] * 4, dtype)
    cross_entropy_agrees(X, Q, np.asarray(-0.6, dtype), label_smoothing=smoothing)


def test_a_logit_of_minus_infinity() -> None:
    """A class that is ruled out: no part in the loss of another class, infinite loss of its own."""
    X = np.array([[1.0, 2.0, -np.inf]])
    for label in (0, 2):
        T = np.array([label])
        Y, dX, _ = ours("CrossEntropyLoss", X, T, np.float64(3))
        y, dx, _ = theirs("CrossEntropyLoss", X, T, np.float64(3))
        agree(dX, dx, 30, np.full((1, 3), 3))
        if label == 2:
            assert Y == y == np.inf
        else:
            agree(Y, y, 30, y)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lead", [10.0, 20.0, 40.0, 80.0])
def test_cross_entropy_keeps_its_relative_accuracy(lead: float, dtype: Any) -> None:
    """Target ahead of two others by `lead`: l = log(1 + r), l' = -r / (1 + r) for it, r = 2 e^-lead."""
    X, T, dY = np.array([[0, lead, 0]], dtype), np.array([1]), dtype(-1.75)
    r = 2 * math.exp(-lead)
    loss, slope = math.log1p(r), np.array([[r / 2, -r, r / 2]]) / (1 + r) * -1.75
    for reduction in ("sum", "mean"):
        Y, dX, _ = ours("CrossEntropyLoss", X, T, dY, reduction=reduction)
        agree(Y, dtype(loss), 2 * ELEMENTARY + 4, loss)
        agree(dX, slope.astype(dtype), ELEMENTARY + 8, abs(slope))


def test_smoothing_and_weights_by_hand() -> None:
    """Equal logits of four classes, e = 1/4, w = (1, 2, 4, 1), t = (0, 2): every log p is -log 4 and every p 1/4."""
    X, T, W = np.zeros((2, 4)), np.array([0, 2]), np.array([1.0, 2, 4, 1])
    # a = w (3/4 q + 1/16): rows sum to 3/4 + 8/16 and 3 + 8/16, the divisor is w_0 + w_2 = 5.
    A = np.array([[13, 2, 4, 1], [1, 2, 52, 1]]) / 16
    Y, dX, _ = ours("CrossEntropyLoss", X, T, np.float64(-2.5), weight=W, label_smoothing=0.25)
    agree(Y, np.float64((5 / 4 + 14 / 4) * math.log(4) / 5), 12, 1.4)
    assert np.array_equal(dX, -0.5 * (np.array([[5], [14]]) / 4 / 4 - A))
    # The same distributions given as probabilities: the mean divides by 2 samples.
    Y, dX, dT = ours("CrossEntropyLoss", X, np.eye(4)[T], np.float64(-2), weight=W, label_smoothing=0.25)
    agree(Y, np.float64((5 / 4 + 14 / 4) * math.log(4) / 2), 12, 3.5)
    assert np.array_equal(dX, -1.0 * (np.array([[5], [14]]) / 4 / 4 - A))
    agree(dT, np.broadcast_to(-0.75 * W * math.log(4), (2, 4)).copy(), 12, 0.75 * W * math.log(4))


# What all losses keep.


def test_upstream_gradients_of_any_layout() -> None:
    rng = np.random.default_rng(11)
    X, T = rng.normal(size=(3, 4)), rng.uniform(size=(3, 4))
    wide = rng.normal(size=(4, 6))
    for dY in (wide[:, ::2].T, np.broadcast_to(wide[:1, :4], (3, 4)), wide[3:0:-1, 1:5], np.eye(3, 4)):
        for name in ("MSELoss", "L1Loss", "BCEWithLogitsLoss"):
            expected = ours(name, X, T, dY.copy(), reduction="none")
            for mine, same in zip(ours(name, X, T, dY, reduction="none"), expected, strict=True):
                assert np.array_equal(mine, same)
            torchs = theirs(name, X, T, dY, reduction="none")
            agree(expected[1], torchs[1], 20, 10 * abs(dY))
    classes = np.array([1, 3, 0])
    for dY in (wide[:3, 0], np.broadcast_to(wide[0, 0], 3), wide[0, 3::-1][:3], np.array([0.0, 1, 0])):
        cross_entropy_agrees(X, classes, dY, reduction="none")


@pytest.mark.parametrize("name", [*REDUCED, "HalfSquaredError"])
def test_float32_stays_so_under_a_python_number(name: str) -> None:
    X, T = np.full((3, 4), 0.25, np.float32), np.full((3, 4), 0.75, np.float32)
    targets = (T, np.array([0, 1, 2])) if name == "CrossEntropyLoss" else (T,)
    for reduction in ("mean", "sum") if name != "HalfSquaredError" else (None,):
        for T in targets:
            loss = getattr(nn, name)(**({"reduction": reduction} if reduction else {}))
            Y, saved = loss.forward(X, T)
            grads = [g for g in loss.backward(1.5, saved)[0] if g is not None]
            assert [np.asarray(a).dtype for a in (Y, *grads)] == [np.float32] * (1 + len(grads))


def test_two_passes_can_be_under_way() -> None:
    rng = np.random.default_rng(12)
    for name in (*REDUCED, "HalfSquaredError"):
        loss = getattr(nn, name)()
        first, second = (rng.uniform(0.1, 0.9, (2, 3, 4)) for _ in range(2))
        one, two = loss.forward(*first), loss.forward(*second)
        for (_, saved), inputs in ((one, first), (two, second)):
            again = loss.backward(np.float64(0.3), loss.forward(*inputs)[1])[0]
            for mine, same in zip(loss.backward(np.float64(0.3), saved)[0], again, strict=True):
                assert np.array_equal(mine, same)


def test_weights_are_buffers_under_torchs_names() -> None:
    W = np.array([0.5, 2.0])
    for name, options in (
        ("CrossEntropyLoss", {}),
        ("CrossEntropyLoss", {"weight": W}),
        ("BCELoss", {"weight": W}),
        ("BCEWithLogitsLoss", {"weight": W, "pos_weight": W + 1}),
        ("BCEWithLogitsLoss", {"pos_weight": W}),
        ("MSELoss", {}),
    ):
        loss = getattr(nn, name)(**options)
        torchs = getattr(torch.nn, name)(**{k: torch.tensor(v) for k, v in options.items()})
        assert list(loss.state_dict()) == list(torchs.state_dict())
        assert loss.params == {}
        assert all(np.array_equal(loss.buffers[k], v) for k, v in options.items())


X34, T34, T3 = np.full((3, 4), 0.5), np.full((3, 4), 0.25), np.array([0, 1, 3])
W4 = np.ones(4)


@pytest.mark.parametrize("name", ["MSELoss", "L1Loss", "HalfSquaredError", "BCELoss", "BCEWithLogitsLoss"])
def test_elementwise_refusals(name: str) -> None:
    loss = getattr(nn, name)()
    for target, error, words in (
        (np.full(3, 0.5), ValueError, r"expected input and target of one shape, got \(3, 1\) and \(3,\)"),
        (np.full((3, 1), 0.5, np.float32), TypeError, "one dtype, got float64 and float32"),
        (np.ones((3, 1), np.int64), TypeError, "expected target of dtype float32 or float64, got int64"),
    ):
        with pytest.raises(error, match=f"{name}.*{words}"):
            loss.forward(np.full((3, 1), 0.5), target)


@pytest.mark.parametrize(
    ("name", "options", "X", "T", "error", "words"),
    [
        ("BCELoss", {}, X34 + 0.75, T34, ValueError, "expected input between 0 and 1, got 1.25"),
        ("BCELoss", {}, X34 * np.nan, T34, ValueError, "expected input between 0 and 1, got nan"),
        ("BCELoss", {}, X34, -T34, ValueError, "expected target between 0 and 1, got -0.25"),
        ("BCELoss", {}, np.array(-1.0), np.array(0.5), ValueError, "expected input between 0 and 1, got -1"),
        ("BCELoss", {"weight": np.ones(3)}, X34, T34, ValueError, r"weight .* broadcasts to \(3, 4\), got \(3,\)"),
        ("BCELoss", {"weight": np.ones((2, 3, 4))}, X34, T34, ValueError, r"broadcasts to \(3, 4\), got \(2, 3, 4\)"),
        ("BCELoss", {"weight": W4.astype(np.float32)}, X34, T34, TypeError, "input and weight of one dtype"),
        ("BCEWithLogitsLoss", {"weight": np.ones((2, 1, 1))}, X34, T34, ValueError, "expected weight of a shape"),
        ("BCEWithLogitsLoss", {"pos_weight": np.ones(3)}, X34, T34, ValueError, "expected pos_weight of a shape"),
        ("BCEWithLogitsLoss", {"pos_weight": W4.astype(np.float32)}, X34, T34, TypeError, "pos_weight of one dtype"),
        ("CrossEntropyLoss", {}, X34, np.array([0, 4, 1]), ValueError, "class indices from 0 to 3 or -100, got 4"),
        ("CrossEntropyLoss", {}, X34, np.array([0, -1, 1]), ValueError, "class indices from 0 to 3 or -100, got -1"),
        ("CrossEntropyLoss", {"ignore_index": -1}, X34, np.array([-1, -100, 1]), ValueError, "or -1, got -100"),
        ("CrossEntropyLoss", {}, X34[0], np.array(4), ValueError, "class indices from 0 to 3 or -100, got 4"),
        ("CrossEntropyLoss", {}, X34, np.array([0.0, 1, 2]), TypeError, "integer dtype for class indices, got float64"),
        ("CrossEntropyLoss", {}, X34, np.array([True] * 3), TypeError, "integer dtype for class indices, got bool"),
        ("CrossEntropyLoss", {}, X34, np.ones((3, 4), int), TypeError, "expected target of dtype float32 or float64"),
        ("CrossEntropyLoss", {}, X34, T34.astype(np.float32), TypeError, "input and target of one dtype"),
        ("CrossEntropyLoss", {}, X34, np.zeros((3, 1), int), ValueError, r"shape \(3,\) .* or \(3, 4\) .*got \(3, 1\)"),
        ("CrossEntropyLoss", {}, X34, np.zeros(4, int), ValueError, r"shape \(3,\) .* or \(3, 4\) .*got \(4,\)"),
        ("CrossEntropyLoss", {"ignore_index": 0}, X34, T34, ValueError, "expected no ignore_index .* got 0"),
        ("CrossEntropyLoss", {"weight": np.ones(3)}, X34, T3, ValueError, r"weight of shape \(4,\), got \(3,\)"),
        ("CrossEntropyLoss", {"weight": np.ones((1, 4))}, X34, T3, ValueError, r"weight of shape \(4,\), got \(1, 4\)"),
        ("CrossEntropyLoss", {"weight": W4.astype(np.float32)}, X34, T3, TypeError, "input and weight of one dtype"),
        ("CrossEntropyLoss", {}, np.array(1.0), np.array(0), ValueError, r"input of shape \(C\).* got \(\)"),
        ("CrossEntropyLoss", {}, np.zeros((3, 0)), T3, ValueError, r"with C > 0, got \(3, 0\)"),
        ("CrossEntropyLoss", {}, np.zeros((3, 4), int), T3, TypeError, "expected input of dtype float32 or float64"),
    ],
)
def test_refusals(name: str, options: dict[str, Any], X: Array, T: Array, error: Any, words: str) -> None:
    loss = getattr(nn, name)(**options)
    with pytest.raises(error, match=f"{name}: .*{words}"):
        loss.forward(X, T)


@pytest.mark.parametrize(
    ("name", "options", "error", "words"),
    [
        *(
            (name, {"reduction": "average"}, ValueError, "reduction .* none, mean, sum, got 'average'")
            for name in REDUCED
        ),
        ("CrossEntropyLoss", {"label_smoothing": 1.5}, ValueError, "label_smoothing from 0 to 1, got 1.5"),
        ("CrossEntropyLoss", {"label_smoothing": math.nan}, ValueError, "label_smoothing from 0 to 1, got nan"),
        ("CrossEntropyLoss", {"weight": np.array([1, 2])}, TypeError, "weight of dtype float32 or float64, got int64"),
        ("BCELoss", {"weight": np.array([1, 2])}, TypeError, "weight of dtype float32 or float64, got int64"),
        ("BCEWithLogitsLoss", {"pos_weight": np.array([1, 2])}, TypeError, "pos_weight of dtype float32 or float64"),
    ],
)
def test_refusals_of_options(name: str, options: dict[str, Any], error: Any, words: str) -> None:
    with pytest.raises(error, match=f"{name}: .*{words}"):
        getattr(nn, name)(**options)


@pytest.mark.parametrize("name", REDUCED)
@pytest.mark.parametrize("size_average", [None, True, False])
@pytest.mark.parametrize("reduce", [None, True, False])
def test_deprecated_arguments_mean_what_they_mean_in_torch(name: str, size_average: Any, reduce: Any) -> None:
    arguments = {"size_average": size_average, "reduce": reduce, "reduction": "none"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = getattr(torch.nn, name)(**arguments)
    assert getattr(nn, name)(**arguments).reduction == theirs.reduction


@pytest.mark.parametrize("name", REDUCED)
def test_arguments_are_torchs(name: str) -> None:
    ours, theirs = (inspect.signature(getattr(kind, name)).parameters for kind in (nn, torch.nn))
    assert [(p.name, p.default, p.kind) for p in ours.values()] == [
        (p.name, p.default, p.kind) for p in theirs.values()
    ]
