"""Arb balls as whole tensors: the truth at the sizes of real layers.

A `TensorBalls` is an array-like that holds a NumPy object array of `arb`. Matrix products go through `arb_mat`; all
else is done element by element in Arb. `parity.truth.tape.Taped` over it differentiates array operations, so that the
work for one operation is one call, and memory grows with the tensors and not with the number of scalar operations.

It contains the same truth as the scalar way (`parity.truth.ball` with a tape of scalars): every operation returns balls
that contain the exact result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import starmap
from typing import Any, cast

import numpy as np
from flint import arb, arb_mat, ctx

from parity.budget.condition import Condition, decided
from parity.truth import waiting
from parity.truth.ball import PRECISIONS, Objects, ball, certify
from parity.truth.contractions import einsum
from parity.truth.pullbacks import erf_derivative, power
from refnet.arithmetic import special
from refnet.arithmetic.array_like import MEMBERS, MOVES, ArrayLike, Rule, Undecided, named

SLACK = 1 + 2.0**-50
"""More than the conversion of an Arb number to binary64 can lose, which is half a unit in the last place."""

LARGEST_PRODUCT = 2**28
"""Products of numbers in one call into Arb: about a second. Each call prepares the right factor anew: with 32 rows at a
time a product of 1024 x 1024 matrices takes 45 s, with 256 rows 3.5 s."""


class TensorBalls(ArrayLike, inner="balls"):
    """An array of balls.

    Attributes:
        balls: the object array of `arb`. dtype: of the arrays that it stands for.
    """

    __slots__ = ("balls", "dtype")

    def __init__(self, balls: Objects, dtype: np.dtype[Any]) -> None:
        self.balls = balls
        self.dtype = dtype

    @classmethod
    def lift(cls, array: Any) -> Any:
        """Floats as exact balls; arrays of integers or booleans as they are."""
        array = np.asarray(array)
        return array if array.dtype.kind in "iub" else cls(lifted(array), array.dtype)

    def _like(self, balls: Objects) -> TensorBalls:
        return TensorBalls(balls, self.dtype)

    def _moved(self, f: Rule) -> TensorBalls:
        return self._like(_array(f(self.balls)))

    def __repr__(self) -> str:
        return f"TensorBalls({self.balls!r})"

    def __bool__(self) -> bool:
        raise TypeError("TensorBalls: expected a comparison, got balls as a condition")

    def __setitem__(self, index: Any, value: Any) -> None:
        self.balls[index] = _raw(value)

    def sum(self, axis: Any = None, keepdims: bool = False) -> TensorBalls:
        return self._like(_total(self.balls, axis, keepdims))


TensorBalls.BESIDE = (TensorBalls, Condition, np.ndarray, np.generic, bool, int, float)


def _array(value: Any) -> Objects:
    """An element on its own, which NumPy hands out bare, as an array without axes."""
    if isinstance(value, np.ndarray):
        return value
    single = np.empty((), object)
    single[()] = value
    return single


def filled(elements: Sequence[Any], shape: tuple[int, ...]) -> Objects:
    made = np.empty(len(elements), object)
    made[:] = elements
    return made.reshape(shape)


def _total(balls: Objects, axis: Any, keepdims: bool = False) -> Objects:
    # NumPy's types know no initial value of an object array.
    reduce: Any = np.add.reduce
    return _array(reduce(balls, axis, keepdims=keepdims, initial=arb(0)))


def lifted(value: Any) -> Objects:
    """Numbers as exact balls; a Fraction is enclosed."""
    if isinstance(value, Fraction):
        return _array(ball(value))
    array = np.asarray(value)
    if array.dtype == object:
        return filled([x if isinstance(x, arb) else ball(x) for x in array.flat], array.shape)
    return filled(list(map(arb, array.ravel().tolist())), array.shape)


def _raw(operand: Any) -> Any:
    if isinstance(operand, Condition):
        operand = operand.numbers()
    return operand.balls if isinstance(operand, TensorBalls) else lifted(operand)


def _first(*operands: Any) -> TensorBalls:
    return next(x for x in operands if isinstance(x, TensorBalls))


def _each(f: Callable[[Any], Any]) -> Callable[[Objects], Objects]:
    return lambda x: filled([f(element) for element in x.flat], x.shape)


def _elementwise(rule: Callable[..., Objects]) -> Rule:
    return lambda *operands: _first(*operands)._like(_array(rule(*map(_raw, operands))))


def _comparison(ufunc: np.ufunc, holds: Callable[[int], bool]) -> Rule:
    def sign(a: Any, b: Any) -> int:
        # Arb answers False to every comparison of overlapping balls, so a single answer of it decides nothing.
        return holds(1) if a > b else holds(-1) if a < b else holds(0) if a == b else OPEN

    def compare(*operands: Any) -> Any:
        a, b = np.broadcast_arrays(*map(_raw, operands))
        signs = np.fromiter(starmap(sign, zip(a.flat, b.flat, strict=True)), np.int8, a.size).reshape(a.shape)
        return decided(signs == 1, signs == OPEN, _first(*operands), f"np.{ufunc.__name__} of balls")

    return compare


OPEN = 2


def _largest(balls: Objects, axis: int) -> Any:
    """The largest midpoint along an axis, in binary64: a value and not a function of the balls."""
    middle = np.fromiter(map(float, balls.flat), float, balls.size).reshape(balls.shape)
    return middle.max(axis=axis, keepdims=True, initial=-np.inf if middle.shape[axis] else 0.0)


def _matmul(a: Objects, b: Objects) -> Objects:
    stack = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    if a.shape[-1] != b.shape[-2]:
        raise ValueError(f"matmul: expected matching inner axes, got shapes {a.shape} and {b.shape}")
    a, b = (np.broadcast_to(x, stack + x.shape[-2:]) for x in (a, b))
    made = np.empty((*stack, a.shape[-2], b.shape[-1]), object)
    for index in np.ndindex(*stack):
        made[index] = product_of_matrices(a[index], b[index])
    return made


def product_of_matrices(a: Objects, b: Objects) -> Objects:
    """One matrix product."""
    (m, k), n = a.shape, b.shape[1]
    made = np.empty((m, n), object)
    # Some rows at a time: a call into Arb is not interrupted. More bits take longer.
    rows = max(1, LARGEST_PRODUCT * PRECISIONS[0] // (max(1, k * n) * ctx.prec))
    right = arb_mat(k, n, b.ravel().tolist())
    for start in range(0, m, rows):
        left = a[start : start + rows]
        product = arb_mat(len(left), k, left.ravel().tolist()) * right
        made[start : start + rows] = filled(product.entries(), (len(left), n))
        waiting.step(len(left) * n)
    return made


def _concatenate(arrays: Sequence[Any], axis: int = 0) -> TensorBalls:
    return _first(*arrays)._like(np.concatenate([_raw(x) for x in arrays], axis))


def _where(condition: Any, a: Any, b: Any) -> TensorBalls:
    """An open element is the union of both."""
    if not isinstance(condition, Condition):
        return _first(a, b)._like(_array(np.where(condition, _raw(a), _raw(b))))
    made = _array(np.where(condition.value, _raw(a), _raw(b)))
    either, v, w = np.broadcast_arrays(condition.open, _raw(a), _raw(b))
    for index in zip(*np.nonzero(either), strict=True) if made.ndim else [()]:
        made[index] = v[index].union(w[index])
    return TensorBalls(made, next(x.dtype for x in (a, b, condition.like) if isinstance(x, TensorBalls)))


def _pad(a: TensorBalls, width: Any) -> TensorBalls:
    return a._like(np.pad(a.balls, width, constant_values=cast(Any, arb(0))))


def _cumsum(a: TensorBalls, axis: int) -> TensorBalls:
    return a._like(np.add.accumulate(a.balls, axis))


_LARGER = np.frompyfunc(lambda a, b: a.max(b), 2, 1)


def _amax(X: TensorBalls, axis: int, keepdims: bool = False) -> TensorBalls:
    return X._like(_array(_LARGER.reduce(X.balls, axis=axis, keepdims=keepdims)))


def _amax_weights(X: TensorBalls, axis: int) -> TensorBalls:
    """1 or 0 where it is certain that an element is larger than all others or not the largest; 1 / n among n that are
    equal; else between 0 and 1.
    """
    balls = np.moveaxis(X.balls, axis, -1)
    made = np.empty(balls.shape, object)
    before = np.empty_like(balls)
    after = np.empty_like(balls)
    before[..., 1:] = _LARGER.accumulate(balls, -1)[..., :-1]
    after[..., :-1] = _LARGER.accumulate(balls[..., ::-1], -1)[..., ::-1][..., 1:]
    for index in np.ndindex(balls.shape[:-1]):
        x = balls[index]
        last = len(x) - 1
        others = [
            after[index][k] if k == 0 else before[index][k] if k == last else before[index][k].max(after[index][k])
            for k in range(last + 1)
        ]
        if last == 0:
            made[index] = [arb(1)]
            continue
        signs = [1 if a > b else -1 if a < b else 0 if a == b else OPEN for a, b in zip(x, others, strict=True)]
        share = arb(1) / max(1, signs.count(0))
        made[index] = [{1: arb(1), -1: arb(0), 0: share, OPEN: arb(0.5, 0.5)}[sign] for sign in signs]
    return X._like(np.moveaxis(made, -1, axis))


def _scatter(_: TensorBalls, G: Any, index: Any, rows: int) -> TensorBalls:
    # Where nothing goes, NumPy puts the integer 0.
    made = special.scatter(G.balls, index, rows)
    balls = filled([x if isinstance(x, arb) else arb(0) for x in made.flat], made.shape)
    return TensorBalls(balls, G.dtype)


def _exponent(p: Any) -> float | int:
    number = float(p)
    return int(number) if number == int(number) else number


TensorBalls.UFUNCS = {
    np.matmul: _elementwise(_matmul),
    **{ufunc: _elementwise(ufunc) for ufunc in named(("add", "subtract", "multiply", "divide", "negative"))},
    **{
        ufunc: _elementwise(_each(getattr(arb, ufunc.__name__)))
        for ufunc in named(("exp", "log", "log1p", "sqrt", "tanh", "sin", "cos", "expm1"))
    },
    np.absolute: _elementwise(_each(abs)),
    np.power: lambda x, p: x._like(_each(lambda element: power(element, _exponent(p)))(x.balls)),
    np.greater: _comparison(np.greater, lambda sign: sign > 0),
    np.greater_equal: _comparison(np.greater_equal, lambda sign: sign >= 0),
    np.less: _comparison(np.less, lambda sign: sign < 0),
    np.less_equal: _comparison(np.less_equal, lambda sign: sign <= 0),
    np.equal: _comparison(np.equal, lambda sign: sign == 0),
    np.not_equal: _comparison(np.not_equal, lambda sign: sign != 0),
}

TensorBalls.FUNCTIONS = {
    **MEMBERS,
    **MOVES,
    np.where: _where,
    np.concatenate: _concatenate,
    np.pad: _pad,
    np.einsum: einsum,
    np.cumsum: _cumsum,
}

TensorBalls.SPECIALS = {
    "lift": lambda like, value: value if isinstance(value, TensorBalls) else like._like(_raw(value)),
    "shift": lambda X, axis: X._like(lifted(_largest(X.balls, axis))),
    "largest": lambda X, axis: special.largest(X.balls, axis),
    "sigmoid": _elementwise(_each(lambda x: 1 / (1 + (-x).exp()))),
    "log_sigmoid": _elementwise(_each(lambda x: -(-x).exp().log1p())),
    "erf": _elementwise(_each(arb.erf)),
    "erfc": _elementwise(_each(arb.erfc)),
    "erf_derivative": _elementwise(_each(erf_derivative)),
    "maximum": lambda _, a, b: _elementwise(_LARGER)(a, b),
    "amax": _amax,
    "amax_weights": _amax_weights,
    "gather": lambda _, X, index: X._moved(lambda balls: special.gather(balls, index)),
    "scatter": _scatter,
}


def certify_tensor(balls: Objects) -> tuple[Any, Any, Any]:
    """`(hi, lo, open)` of a whole array, as `parity.truth.ball.certify` gives them for one ball.

    hi is the value rounded to binary64, lo the rest rounded likewise, open where the ball is too wide to tell.

    A candidate is read off each midpoint and proved: a number h of binary64 is the one nearest to every point of a ball
    x if |x - h| is less than half the gap below |h|. What this does not settle goes through `certify`.
    """
    x = balls.ravel()
    hi = _middles(x)
    rest = _less(x, hi)
    lo, radius = _middles(rest), _middles(list(map(arb.rad, rest)))
    proved = _proved(hi, (abs(lo) + radius) * SLACK)
    # Of the rest less lo, which is exact, the midpoint alone is rounded: to many more bits than SLACK asks.
    proved_too = _proved(lo, (abs(_middles(_less(rest, lo))) + radius) * SLACK)
    exact = np.fromiter(map(arb.is_zero, rest), bool, x.size)
    lo = np.where(exact, 0.0, lo)
    unsettled = np.zeros(x.size, bool)
    for k in np.flatnonzero(~(proved & (proved_too | exact))):
        try:
            hi[k], lo[k] = certify(x[k])
        except Undecided:
            unsettled[k] = True
    hi[unsettled] = lo[unsettled] = 0.0
    return tuple(a.reshape(balls.shape) for a in (hi, lo, unsettled))  # type: ignore[return-value]


def _middles(balls: Any) -> Any:
    """The midpoints, rounded to binary64."""
    return np.fromiter(map(float, balls), float, len(balls))


def _less(x: Objects, candidates: Any) -> Objects:
    finite = np.where(np.isfinite(candidates), candidates, 0.0)
    return np.asarray(x - filled(list(map(arb, finite.tolist())), x.shape))


def _proved(candidates: Any, size: Any) -> Any:
    """Where the candidates are the nearest to every point of a ball that lies within `size` of them."""
    normal = np.isfinite(candidates) & (abs(candidates) > 2.0**-1021)
    below = np.spacing(np.nextafter(np.where(normal, abs(candidates), 1.0), 0))
    return normal & (size < below / 2)
