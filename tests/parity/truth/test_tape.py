"""Reverse differentiation: rules, accumulation, and what scalars and arrays refuse."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest
from flint import arb
from numpy.lib.stride_tricks import sliding_window_view

from parity.budget.array import Budget, Profile
from parity.records.record import Undecided
from parity.truth import ball, tape
from parity.truth.node import Node
from parity.truth.pullbacks import PULLBACKS
from parity.truth.taped import Taped
from refnet.arithmetic import special
from refnet.arithmetic.runs import Runs

ONE: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "negative": (lambda x: -x, lambda x: -x),
    "exp": (np.exp, mpmath.exp),
    "log": (np.log, mpmath.log),
    "log1p": (np.log1p, mpmath.log1p),
    "sqrt": (np.sqrt, mpmath.sqrt),
    "tanh": (np.tanh, mpmath.tanh),
    "sin": (np.sin, mpmath.sin),
    "cos": (np.cos, mpmath.cos),
    "expm1": (np.expm1, mpmath.expm1),
    "absolute": (np.abs, abs),
    "absolute of -x": (lambda x: np.abs(-x), abs),
    "power": (lambda x: x**3, lambda x: x**3),
    "power with a fraction": (lambda x: x**-1.5, lambda x: x ** mpmath.mpf(-1.5)),
    "erf": (special.erf, mpmath.erf),
    "erfc": (special.erfc, mpmath.erfc),
    "erf_derivative": (special.erf_derivative, lambda x: 2 / mpmath.sqrt(mpmath.pi) * mpmath.exp(-x * x)),
    "sigmoid": (special.sigmoid, lambda x: 1 / (1 + mpmath.exp(-x))),
    "log_sigmoid": (special.log_sigmoid, lambda x: -mpmath.log1p(mpmath.exp(-x))),
    "x + number": (lambda x: x + 0.3, lambda x: x + mpmath.mpf(0.3)),
    "number + x": (lambda x: 3 + x, lambda x: 3 + x),
    "x - number": (lambda x: x - 2, lambda x: x - 2),
    "number - x": (lambda x: 0.1 - x, lambda x: mpmath.mpf(0.1) - x),
    "x * number": (lambda x: x * 0.7, lambda x: x * mpmath.mpf(0.7)),
    "number * x": (lambda x: 5 * x, lambda x: 5 * x),
    "x / number": (lambda x: x / 3, lambda x: x / 3),
    "number / x": (lambda x: 2 / x, lambda x: 2 / x),
    "x twice": (lambda x: x * x * x + x, lambda x: x**3 + x),
    "lift": (lambda x: special.lift(Fraction(1, 3), x) * x, lambda x: x / 3),
}


def larger(a: Any, b: Any) -> Any:
    """mpmath's numbers have no arithmetic of refnet's."""
    return max(a, b) if isinstance(a, mpmath.mpf) else special.maximum(a, b)


TWO: dict[str, Callable[[Any, Any], Any]] = {
    "maximum": larger,
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b,
}


def close(x: Any, expected: Any) -> bool:
    """Whether a ball and an mpmath number agree to 40 digits."""
    mid, rad = (arb(str(v)) for v in (expected, mpmath.mpf(10) ** -40 * (1 + abs(expected))))
    return bool(abs(x - mid) < rad)


@pytest.mark.parametrize("x", [0.25, 1.75, 20.0])
@pytest.mark.parametrize("name", ONE)
def test_derivatives_of_one_argument(name: str, x: float) -> None:
    f, expected = ONE[name]
    with ball.precision(300), mpmath.workdps(100):
        node = Node(arb(x))
        y = f(node)
        tape.differentiate([y], [arb(3)])
        assert close(y.value, expected(mpmath.mpf(x)))
        assert close(arb(node.grad), 3 * mpmath.diff(expected, mpmath.mpf(x)))


@pytest.mark.parametrize("name", TWO)
def test_derivatives_of_two_arguments(name: str) -> None:
    f = TWO[name]
    with ball.precision(300), mpmath.workdps(100):
        a, b = Node(arb(1.25)), Node(arb(-0.75))
        tape.differentiate([f(a, b)], [arb(3)])
        point = (mpmath.mpf(1.25), mpmath.mpf(-0.75))
        assert close(arb(a.grad), 3 * mpmath.diff(f, point, (1, 0)))
        assert close(arb(b.grad), 3 * mpmath.diff(f, point, (0, 1)))


def test_every_operation_with_a_pullback_is_tried() -> None:
    assert set(PULLBACKS) == {*TWO, *(name for name in ONE if name.isidentifier())} - {"lift"}


def test_gradients_add_up_over_every_use() -> None:
    x, y = Node(arb(2)), Node(arb(3))
    product = x * y
    total = product + product * x + x
    assert tape.differentiate([total, product, total], [arb(1), arb(10), arb(1)]) == 6
    # 2 (xy + x^2 y + x) + 10 xy
    assert x.grad == 2 * (3 + 2 * 2 * 3 + 1) + 10 * 3
    assert y.grad == 2 * (2 + 4) + 10 * 2


def test_differentiating_again_starts_afresh() -> None:
    x = Node(arb(2))
    y = x * x
    for seed in (1, 5):
        tape.differentiate([y], [arb(seed)])
        assert x.grad == 4 * seed


def test_numbers_among_the_outputs_have_no_gradient() -> None:
    x = Node(arb(2))
    assert tape.differentiate([0, x], [arb(7), arb(1)]) == 1
    assert x.grad == 1


def test_a_deep_tape_needs_no_recursion() -> None:
    x = Node(arb(1))
    y = x
    for _ in range(5000):
        y = y + 1
    assert tape.differentiate([y], [arb(1)]) == 10_001
    assert x.grad == 1


def test_untaped_nodes_remember_nothing() -> None:
    x = Node(arb(2))
    with tape.untaped():
        y = x * x
        assert not y.parents
    assert (x * x).parents == (x, x)


def test_recording_resumes_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), tape.untaped():
        raise ZeroDivisionError
    assert (Node(arb(2)) * 3).parents


def test_nodes_are_counted_where_their_number_is_limited() -> None:
    x = Node(arb(2))
    with tape.at_most(2):
        x * x + x
        with pytest.raises(OverflowError):
            -x
    assert (-x).value == -2


@pytest.mark.parametrize("number", [np.float64(1), np.float32(0.1), np.bool_(True), "1", None, 1j])
@pytest.mark.parametrize("f", [*TWO.values(), lambda a, b: a > b])
def test_what_is_no_exact_number_is_refused(f: Callable[..., Any], number: Any) -> None:
    with pytest.raises(TypeError, match=f"Node: expected .* got {type(number).__name__}"):
        f(Node(arb(1)), number)


@pytest.mark.parametrize("number", [2, 2.0, np.int64(2), np.int8(2)])
def test_exact_numbers_are_taken(number: Any) -> None:
    assert (Node(arb(3)) * number).value == 6
    assert (Node(arb(3)) * True).value == 3


def test_arrays_are_left_to_numpy() -> None:
    node = Node(arb(3))
    for array in (np.array([1.0, 2.0]), np.array([1, 2]), np.float32([1.0, 2.0])):
        for product in (node * array, array * node):
            assert product.dtype == object
            assert [p.value for p in product] == [3, 6]
    assert (np.array([2.0, 4.0]) > node).tolist() == [False, True]
    runs = node - Runs(np.array([[1.0], [2.0]]))
    assert isinstance(runs, Runs)
    assert [x.value for x in runs.a.flat] == [2, 1]


COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
}


@pytest.mark.parametrize("name", COMPARISONS)
def test_comparisons_decide_or_say_so(name: str) -> None:
    compare = COMPARISONS[name]
    third = arb(1) / 3
    for a, b in ((1, 2), (2, 1), (2, 2), (-1, 0)):
        assert compare(Node(arb(a)), Node(arb(b))) is compare(a, b)
        assert compare(Node(arb(a)), b) is compare(a, b)
    assert compare(Node(third), 0.25) is compare(1 / 3, 0.25)
    with pytest.raises(Undecided, match=r"0\.333"):
        compare(Node(third), Node(third))
    with pytest.raises(Undecided):
        compare(Node(arb(0, 1)), 0)


# ---- arrays


X = np.array([[0.5, -1.25, 2.0], [1.5, 0.75, -0.5]])
W = np.array([[1.0, -0.5], [0.25, 2.0], [-1.5, 0.125]])
V = np.array([0.75, -2.0, 1.25])
T = np.array([2, 0])

EXPRESSIONS: dict[str, Callable[..., Any]] = {
    "arithmetic": lambda x, w, v: (x - v) * x / (v + 4) - 0.5 * -x,
    "elementary": lambda x, w, v: np.exp(x) + np.log(x * x + 1) * np.log1p(v * v) - np.tanh(x) / np.sqrt(x * x + 2),
    "special": lambda x, w, v: special.sigmoid(x) * special.log_sigmoid(v) + special.lift(0.1, x),
    "shift": lambda x, w, v: np.exp(x - special.shift(x, -1)),
    "matmul": lambda x, w, v: x @ w + w.mT @ x.mT + V @ w,
    "vectors": lambda x, w, v: (v @ w) * (x @ v) + v @ v,
    "plain factor": lambda x, w, v: X.mT @ x + w @ X,
    "batched matmul": lambda x, w, v: (
        np.expand_dims(x, 0) @ np.broadcast_to(w, (4, 3, 2)) + np.arange(4).reshape(4, 1, 1)
    ),
    "sum": lambda x, w, v: np.sum(x * x, axis=-1) + x.sum(axis=0)[:2] + x.sum(axis=(-2, -1), keepdims=True) + np.sum(v),
    "where": lambda x, w, v: np.where(x > 0, x * x, 3.0) + np.where(np.array([True, False, True]), v, x),
    "indexing": lambda x, w, v: x[:, ::2] + x[T % 2][:, :2] + np.expand_dims(w[T, 0], -1) * x[..., 1:],
    "reshape": lambda x, w, v: x.reshape(3, 2) * w + np.reshape(x, (-1, 2)) - x.mT.copy(),
    "broadcast": lambda x, w, v: np.broadcast_to(v, (2, 3)) * x + np.expand_dims(v, 0) * np.copy(x),
    "concatenate": lambda x, w, v: np.concatenate([x, X, x * v], axis=-1)[:, ::3],
    "pad": lambda x, w, v: np.pad(x, ((1, 0), (0, 2))) * np.arange(15.0).reshape(3, 5) + np.pad(w, 1)[:3, :1],
    "einsum": lambda x, w, v: np.einsum("ij,jk->ki", x, w) + np.einsum("ij->i", x) + np.einsum("ij,j->", x, v),
    "einsum with lone indices": lambda x, w, v: np.einsum("ij,k->k", x, v) * np.einsum("jk,i->i", w, V),
    "windows": lambda x, w, v: sliding_window_view(x, 2, axis=-1) * w[:2] + sliding_window_view(v, (2,), axis=(0,))[0],
    "one-hot": lambda x, w, v: np.where(np.expand_dims(T, -1) == np.arange(3), x, 0).sum(axis=-1),
    "many uses": lambda x, w, v: x + x * v + x * x - x / 2 + np.sum(x) - v,
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_arrays_have_the_gradients_of_their_scalars(name: str) -> None:
    """Budgets differentiated as arrays enclose what balls give as scalars, element by element."""
    f, profile = EXPRESSIONS[name], Profile.of("float64")
    leaves = [Taped(Budget.exact(a, profile)) for a in (X, W, V)]
    y = f(*leaves)
    seed = np.cos(np.arange(y.size)).reshape(y.shape)
    tape.differentiate([y], [Budget.exact(seed, profile)], total=tape.together)
    with ball.precision(300):
        nodes = [ball.lift(a) for a in (X, W, V)]
        z = np.asarray(f(*nodes), object)
        tape.differentiate(z.flat, [arb(s) for s in seed.flat])
        pairs = [(y.value, ball.values(z))]
        used = [k for k, leaf in enumerate(leaves) if isinstance(leaf.grad, Budget)]
        assert used
        pairs += [(leaves[k].grad, ball.gradients(nodes[k])) for k in used]
        for budget, balls in pairs:
            assert budget.shape == balls.shape
            for x, e, true in zip(budget.x.flat, budget.e.flat, balls.flat, strict=True):
                assert abs(arb(float(x)) - true) <= float(e)
                assert e <= 1e-13


def test_arrays_work_in_any_arithmetic() -> None:
    x = Taped(Runs(np.array([[1.0, 2.0], [3.0, 4.0]])))
    y = np.sum(x * x, axis=-1)
    tape.differentiate([y], [Runs(np.array([1.0, 10.0]))])
    assert x.grad.a.tolist() == [[2.0, 4.0], [60.0, 80.0]]


def test_a_gradient_from_many_uses_is_one_sum_in_no_order() -> None:
    profile = Profile.of("float32")
    parts = [Budget.exact(np.float32([x]), profile) * 0.1 for x in (1.0, 3.0, -4.0)]
    assert tape.together(parts).e == np.sum(np.concatenate(parts)).e
    assert tape.together(parts).e > (parts[0] + parts[1] + parts[2]).e
    assert tape.together(parts[:2]).e == (parts[0] + parts[1]).e
    assert tape.together(parts[:1]) is parts[0]


def test_what_is_differentiated_is_not_written() -> None:
    x = Taped(Budget.exact(np.ones(2), Profile.of("float64")))
    with pytest.raises(TypeError, match=r"expected np\.where or np\.concatenate"):
        x[0] = 1.0
    with pytest.raises(TypeError, match="multiply"):
        x *= 2


def test_lengths_and_shapes_are_those_of_the_value() -> None:
    x = Taped(Budget.exact(np.ones((2, 3)), Profile.of("float32")))
    assert (len(x), x.shape, x.ndim, x.size, x.dtype) == (2, (2, 3), 2, 6, np.float32)
    assert (np.ndim(x), np.shape(x)) == (2, (2, 3))
