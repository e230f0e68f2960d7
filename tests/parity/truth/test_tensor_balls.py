"""Tensors of balls hold the truth that scalars of balls hold."""

from fractions import Fraction

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

pytest.importorskip("flint")

from flint import arb

from parity.records.record import Undecided
from parity.truth import ball
from parity.truth.deferred import Deferred, elements
from parity.truth.tape import differentiate, together
from parity.truth.taped import Taped
from parity.truth.tensor_balls import TensorBalls, certify_tensor
from refnet.arithmetic import special


def softmax(x):
    e = np.exp(x - special.shift(x, -1))
    return e / np.sum(e, axis=-1, keepdims=True)


def attention(q, k, v):
    return softmax((q @ k.mT) * 0.5) @ v


def convolution(x, w):
    return np.einsum(
        "nchwij,ocij->nohw", sliding_window_view(np.pad(x, ((0, 0), (0, 0), (1, 1), (0, 0))), (2, 3), (-2, -1)), w
    )


EXPRESSIONS = {
    "attention": (attention, (2, 4, 3), (2, 5, 3), (2, 5, 2)),
    "convolution": (convolution, (2, 3, 4, 5), (2, 3, 2, 3)),
    "stacks that are spread": (lambda a, b: a @ b, (2, 1, 3, 4), (5, 4, 2)),
    "a vector from the right": (lambda a, b: a @ b, (3, 4), (4,)),
    "a vector from the left": (lambda a, b: a @ b, (4,), (2, 4, 3)),
    "a trace": (lambda a, b: np.einsum("nij,nji->n", a, b), (2, 3, 4), (2, 4, 3)),
    "an index of one operand alone": (lambda a, b: np.einsum("ik,kj->j", a, b), (3, 4), (4, 2)),
    "an outer product": (lambda a, b: np.einsum("i,j->ji", a, b), (3,), (4,)),
    "functions": (
        lambda a: np.log1p(np.exp(a)) + np.tanh(a) * np.sqrt(np.exp(-a)) + np.log(special.sigmoid(a)),
        (3, 4),
    ),
    "log_sigmoid": (special.log_sigmoid, (2, 3)),
    "more functions": (
        lambda a: np.sin(a) * np.cos(a) + np.expm1(a) * np.abs(a) + special.erf(a) + special.erf_derivative(a) * a**3,
        (3, 4),
    ),
    "the larger of two": (lambda a, b: special.maximum(a, b) * special.maximum(a, 0.25), (3, 4), (4,)),
    "the largest": (lambda a: special.amax(a, -2) * special.amax(a, -1, True), (3, 4)),
    "running sums": (lambda a: np.cumsum(a * a, axis=-2), (3, 4)),
    "rows": (lambda a, b: special.gather(a, np.array([[2, 0], [2, 2]])) * b, (3, 4), (4,)),
    "rows put together": (lambda a, b: special.scatter(a, np.array([1, 3, 1]), 5) * b, (2, 3, 4), (4,)),
    "pieces": (lambda a, b: np.concatenate([a[:, 1:], np.where(b > 0, b, 2 * b)], axis=-1) / 3, (2, 4), (2, 3)),
    "a number": (lambda a: np.sum(a * a) - 1, (2, 3)),
    "no elements": (lambda a: np.sum(a, axis=-1), (3, 0)),
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_the_same_truth_as_by_scalars(name):
    f, *shapes = EXPRESSIONS[name]
    draws = np.random.default_rng(len(name))
    arrays = [draws.standard_normal(shape) for shape in shapes]
    with ball.precision(256):
        leaves = [Taped(TensorBalls.lift(a)) for a in arrays]
        value = f(*leaves)
        seed = draws.standard_normal(value.shape)
        differentiate([value], [TensorBalls.lift(seed)], total=together)
        by_tensors = [value.value.balls, *(leaf.grad.balls for leaf in leaves)]

        nodes = [ball.lift(a) for a in arrays]
        result = np.asarray(f(*nodes), dtype=object)
        differentiate(list(result.flat), [arb(float(g)) for g in seed.flat])
        by_scalars = [ball.values(result), *(ball.gradients(n) for n in nodes)]
        for ours, theirs in zip(by_tensors, by_scalars, strict=True):
            assert ours.shape == theirs.shape
            assert all(x.overlaps(y) for x, y in zip(ours.flat, theirs.flat, strict=True))
            hi, lo, unsettled = certify_tensor(ours)
            assert not unsettled.any()
            expected = [ball.certify(x) for x in theirs.flat]
            assert list(zip(hi.flat, lo.flat, strict=True)) == expected


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_put_off_it_is_the_same_truth(name):
    """Some elements alone are those of the whole, and all of them are the whole."""
    f, *shapes = EXPRESSIONS[name]
    draws = np.random.default_rng(len(name))
    arrays = [draws.standard_normal(shape) for shape in shapes]
    with ball.precision(256):
        made = []
        for kind in (TensorBalls, Deferred):
            draws = np.random.default_rng(1)
            leaves = [Taped(kind.lift(a)) for a in arrays]
            value = f(*leaves)
            differentiate([value], [kind.lift(draws.standard_normal(value.shape))], total=together)
            made.append([value.value, *(leaf.grad for leaf in leaves)])
        at_once, put_off = made
        whole = elements([(a, None) for a in put_off])
        places = [np.arange(0, a.size, 2) for a in put_off]
        some = elements(list(zip(put_off, places, strict=True)))
        for here, there, few, where in zip(at_once, whole, some, places, strict=True):
            assert there.shape == here.shape
            assert few.shape == where.shape
            assert all(x.overlaps(y) for x, y in zip(here.balls.flat, there.flat, strict=True))
            assert all(x.overlaps(y) for x, y in zip(here.balls.reshape(-1)[where], few, strict=True))
            assert [ball.certify(x) for x in here.balls.flat] == [ball.certify(x) for x in there.flat]
            assert [ball.certify(x) for x in few] == [ball.certify(x) for x in here.balls.reshape(-1)[where]]


def third(bits):
    with ball.precision(bits):
        return arb(1) / 3


def test_certified_as_single_balls_are():
    """Ties, neighbours of powers of two, subnormal numbers, zeros: as `certify`, which decides each on its own."""
    with ball.precision(512):
        numbers = [
            arb(0),
            arb(1),
            arb(1) + arb(2) ** -53,
            arb(1) - arb(2) ** -54,
            arb(1) - arb(2) ** -55,
            arb(2) ** -1074,
            arb(2) ** -1075,
            arb(2) ** -1022 / 3,
            arb(2) ** -1200,
            arb(1) / 3,
            -(arb(10) ** 300) / 7,
            arb(2).sqrt() * arb(2) ** 1000,
            ball.ball(Fraction(1, 10)),
            arb(1) + arb(2) ** -200,
        ]
        hi, lo, unsettled = certify_tensor(np.array(numbers, dtype=object))
        assert not unsettled.any()
        assert list(zip(hi, lo, strict=True)) == [ball.certify(x) for x in numbers]


def test_what_a_ball_cannot_tell_stays_open():
    with ball.precision(64):
        wide = [third(64), arb(1), arb("nan"), arb("inf"), arb(1, 1)]
        hi, _, unsettled = certify_tensor(np.array(wide, dtype=object))
    assert unsettled.tolist() == [True, False, True, True, True]
    assert hi[1] == 1


def test_a_comparison_is_decided_or_open():
    with ball.precision(64):
        x = TensorBalls(np.array([arb(1) / 3, arb(2)], dtype=object), np.dtype("float64"))
        assert (x > 1).tolist() == [False, True]
        assert (x == x[1]).tolist() == [False, True]
        open_first = np.greater(x, TensorBalls(np.array([arb(1) / 3, arb(1)], dtype=object), x.dtype))
        assert open_first.open.tolist() == [True, False]
        with pytest.raises(Undecided, match="1 of 2 elements"):
            bool(open_first)
        either = np.where(open_first, x, -x).balls
        assert either[0].contains(arb(1) / 4)
        assert either[0].contains(arb(-1) / 4)
        assert either[1] == 2


def test_memory_grows_with_tensors_and_not_with_scalar_operations():
    """A product of n x n matrices has n^3 scalar products and is one operation on the tape."""
    with ball.precision(128):
        a = Taped(TensorBalls.lift(np.eye(16)))
        assert differentiate([np.sum(a @ a)], [TensorBalls.lift(np.ones(()))], total=together) == 3


def test_shapes_that_do_not_fit_are_refused():
    a = TensorBalls.lift(np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"expected matching inner axes, got shapes \(2, 3\) and \(2, 3\)"):
        a @ a
