"""Arb balls as whole tensors: the truth at the sizes of real layers.

A `TensorBalls` is an array-like that holds a NumPy object array of `arb`. Matrix products go through `arb_mat`; all
else is done element by element in Arb. `parity.truth.tape.Taped` over it differentiates array operations, so that the
work for one operation is one call, and memory grows with the tensors and not with the number of scalar operations.

It contains the same truth as the scalar way (`parity.truth.ball` with a tape of scalars): every operation returns balls
that contain the exact result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from itertools import starmap
from typing import Any, cast

import numpy as np
from flint import arb, arb_mat
from numpy.lib.stride_tricks import sliding_window_view

from parity.records.record import Undecided
from parity.truth.ball import Objects, ball, certify

SLACK = 1 + 2.0**-50
"""More than the conversion of an Arb number to binary64 can lose, which is half a unit in the last place."""


class TensorBalls(np.lib.mixins.NDArrayOperatorsMixin):
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
        return array if array.dtype.kind in "iub" else cls(_lifted(array), array.dtype)

    shape = property(lambda self: self.balls.shape)
    ndim = property(lambda self: self.balls.ndim)
    size = property(lambda self: self.balls.size)
    mT = property(lambda self: self._like(self.balls.mT))  # noqa: N815  NumPy's name

    def _like(self, balls: Objects) -> TensorBalls:
        return TensorBalls(balls, self.dtype)

    def __len__(self) -> int:
        return len(self.balls)

    def __repr__(self) -> str:
        return f"TensorBalls({self.balls!r})"

    def __bool__(self) -> bool:
        raise TypeError("TensorBalls: expected a comparison, got balls as a condition")

    def __getitem__(self, index: Any) -> TensorBalls:
        return self._like(_array(self.balls[index]))

    def __setitem__(self, index: Any, value: Any) -> None:
        self.balls[index] = _raw(value)

    def copy(self) -> TensorBalls:
        return self._like(self.balls.copy())

    def reshape(self, *shape: Any) -> TensorBalls:
        return self._like(self.balls.reshape(*shape))

    def sum(self, axis: Any = None, keepdims: bool = False) -> TensorBalls:
        return self._like(_total(self.balls, axis, keepdims))

    def __special__(self, name: str, *args: Any) -> Any:
        if name == "lift":
            (value,) = args
            return value if isinstance(value, TensorBalls) else self._like(_lifted(value))
        if name == "shift":
            return self._like(_lifted(_largest(self.balls, *args)))
        return self._like(ELEMENTWISE[name](self.balls))

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method != "__call__" or kwargs:
            return NotImplemented
        if not all(isinstance(x, (TensorBalls, np.ndarray, np.generic, bool, int, float)) for x in inputs):
            return NotImplemented
        raw = [_raw(x) for x in inputs]
        if ufunc.__name__ in COMPARISONS:
            return COMPARISONS[ufunc.__name__](*raw)
        rule = ELEMENTWISE.get(ufunc.__name__) or (_matmul if ufunc is np.matmul else None)
        return NotImplemented if rule is None else self._like(_array(rule(*raw)))

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        rule = FUNCTIONS.get(function)
        return NotImplemented if rule is None else rule(*args, **kwargs)


def _array(value: Any) -> Objects:
    """An element on its own, which NumPy hands out bare, as an array without axes."""
    if isinstance(value, np.ndarray):
        return value
    single = np.empty((), object)
    single[()] = value
    return single


def _filled(elements: Sequence[Any], shape: tuple[int, ...]) -> Objects:
    made = np.empty(len(elements), object)
    made[:] = elements
    return made.reshape(shape)


def _total(balls: Objects, axis: Any, keepdims: bool = False) -> Objects:
    # NumPy's types know no initial value of an object array.
    reduce: Any = np.add.reduce
    return _array(reduce(balls, axis, keepdims=keepdims, initial=arb(0)))


def _lifted(value: Any) -> Objects:
    """Numbers as exact balls; a Fraction is enclosed."""
    if isinstance(value, Fraction):
        return _array(ball(value))
    array = np.asarray(value)
    if array.dtype == object:
        return _filled([x if isinstance(x, arb) else ball(x) for x in array.flat], array.shape)
    return _filled(list(map(arb, array.ravel().tolist())), array.shape)


def _raw(operand: Any) -> Any:
    return operand.balls if isinstance(operand, TensorBalls) else _lifted(operand)


def _first(*operands: Any) -> TensorBalls:
    return next(x for x in operands if isinstance(x, TensorBalls))


def _each(f: Callable[[Any], Any]) -> Callable[[Objects], Objects]:
    return lambda x: _filled([f(element) for element in x.flat], x.shape)


ELEMENTWISE: dict[str, Callable[..., Objects]] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.true_divide,
    "negative": np.negative,
    "exp": _each(arb.exp),
    "log": _each(arb.log),
    "log1p": _each(arb.log1p),
    "sqrt": _each(arb.sqrt),
    "tanh": _each(arb.tanh),
    "sigmoid": _each(lambda x: 1 / (1 + (-x).exp())),
    "log_sigmoid": _each(lambda x: -(-x).exp().log1p()),
}


def _comparison(holds: Callable[[int], bool]) -> Callable[[Objects, Objects], Any]:
    def sign(a: Any, b: Any) -> bool:
        # Arb answers False to every comparison of overlapping balls, so a single answer of it decides nothing.
        if a > b:
            return holds(1)
        if a < b:
            return holds(-1)
        if a == b:
            return holds(0)
        raise Undecided(f"{a} against {b}")

    def compare(a: Objects, b: Objects) -> Any:
        a, b = np.broadcast_arrays(a, b)
        return np.fromiter(starmap(sign, zip(a.flat, b.flat, strict=True)), bool, a.size).reshape(a.shape)

    return compare


COMPARISONS = {
    "greater": _comparison(lambda sign: sign > 0),
    "greater_equal": _comparison(lambda sign: sign >= 0),
    "less": _comparison(lambda sign: sign < 0),
    "less_equal": _comparison(lambda sign: sign <= 0),
    "equal": _comparison(lambda sign: sign == 0),
    "not_equal": _comparison(lambda sign: sign != 0),
}


def _largest(balls: Objects, axis: int) -> Any:
    """The largest midpoint along an axis, in binary64: a value and not a function of the balls."""
    middle = np.fromiter(map(float, balls.flat), float, balls.size).reshape(balls.shape)
    return middle.max(axis=axis, keepdims=True, initial=-np.inf if middle.shape[axis] else 0.0)


def _matmul(a: Objects, b: Objects) -> Objects:
    stack = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a, b = (np.broadcast_to(x, stack + x.shape[-2:]) for x in (a, b))
    (m, k), n = a.shape[-2:], b.shape[-1]
    if k != b.shape[-2]:
        raise ValueError(f"matmul: expected matching inner axes, got shapes {a.shape} and {b.shape}")
    made = np.empty((*stack, m, n), object)
    for index in np.ndindex(*stack):
        product = arb_mat(m, k, a[index].ravel().tolist()) * arb_mat(k, n, b[index].ravel().tolist())
        made[index] = _filled(product.entries(), (m, n))
    return made


def _einsum(subscripts: str, *operands: Any) -> TensorBalls:
    """One operand: axes are moved and summed. Two: a stack of matrix products. More: from left to right."""
    inputs, output = subscripts.replace(" ", "").split("->")
    terms, values = inputs.split(","), [_raw(x) for x in operands]
    while len(values) > 1:
        later = set(output).union(*terms[2:])
        kept = "".join(dict.fromkeys(c for c in terms[0] + terms[1] if c in later))
        values[:2] = [_contracted(terms[0], values[0], terms[1], values[1], kept)]
        terms[:2] = [kept]
    return _first(*operands)._like(_reduced(terms[0], values[0], output))


def _reduced(term: str, value: Objects, output: str) -> Objects:
    """The axes of `output`, in its order; the others are summed over, and a repeated one is a diagonal."""
    for c in dict.fromkeys(term):
        while term.count(c) > 1:
            first = term.index(c)
            second = term.index(c, first + 1)
            value = np.diagonal(value, axis1=first, axis2=second)
            term = term[:first] + term[first + 1 : second] + term[second + 1 :] + c
    gone = tuple(k for k, c in enumerate(term) if c not in output)
    if gone:
        value = _total(value, gone)
        term = "".join(c for c in term if c in output)
    return value.transpose([term.index(c) for c in output])


def _contracted(s: str, a: Objects, t: str, b: Objects, output: str) -> Objects:
    both = [c for c in dict.fromkeys(s) if c in t]
    stack = [c for c in both if c in output]
    inner = [c for c in both if c not in output]
    left = [c for c in dict.fromkeys(s) if c not in t and c in output]
    right = [c for c in dict.fromkeys(t) if c not in s and c in output]
    a = _reduced(s, a, "".join([*stack, *left, *inner]))
    b = _reduced(t, b, "".join([*stack, *inner, *right]))
    sizes = dict(zip([*stack, *left, *inner], a.shape, strict=True)) | dict(
        zip([*stack, *inner, *right], b.shape, strict=True)
    )

    def joined(names: Iterable[str]) -> int:
        return int(np.prod([sizes[c] for c in names], dtype=np.int64))

    product = _matmul(
        a.reshape(joined(stack), joined(left), joined(inner)), b.reshape(joined(stack), joined(inner), joined(right))
    )
    order = [*stack, *left, *right]
    return product.reshape([sizes[c] for c in order]).transpose([order.index(c) for c in output])


def _concatenate(arrays: Sequence[Any], axis: int = 0) -> TensorBalls:
    return _first(*arrays)._like(np.concatenate([_raw(x) for x in arrays], axis))


def _where(condition: Any, a: Any, b: Any) -> TensorBalls:
    return _first(a, b)._like(_array(np.where(condition, _raw(a), _raw(b))))


def _pad(a: TensorBalls, width: Any) -> TensorBalls:
    return a._like(np.pad(a.balls, width, constant_values=cast(Any, arb(0))))


def _moved(function: Callable[..., Any]) -> Callable[..., TensorBalls]:
    return lambda a, *args, **kwargs: a._like(function(a.balls, *args, **kwargs))


FUNCTIONS: dict[Any, Callable[..., Any]] = {
    np.where: _where,
    np.sum: TensorBalls.sum,
    np.expand_dims: _moved(np.expand_dims),
    np.reshape: TensorBalls.reshape,
    np.broadcast_to: _moved(np.broadcast_to),
    np.concatenate: _concatenate,
    np.pad: _pad,
    np.einsum: _einsum,
    np.ndim: lambda a: a.ndim,
    np.shape: lambda a: a.shape,
    np.copy: TensorBalls.copy,
    sliding_window_view: _moved(sliding_window_view),
}


def certify_tensor(balls: Objects) -> tuple[Any, Any, Any]:
    """`(hi, lo, open)` of a whole array, as `parity.truth.ball.certify` gives them for one ball.

    hi is the value rounded to binary64, lo the rest rounded likewise, open where the ball is too wide to tell.

    A candidate is read off each midpoint and proved: a number h of binary64 is the one nearest to every point of a ball
    x if |x - h| is less than half the gap below |h|. What this does not settle goes through `certify`.
    """
    x = balls.ravel()
    hi, rest, proved = _proved(x)
    lo, _, proved_too = _proved(rest)
    exact = np.fromiter((r.is_zero() for r in rest), bool, x.size)
    lo = np.where(exact, 0.0, lo)
    unsettled = np.zeros(x.size, bool)
    for k in np.flatnonzero(~(proved & (proved_too | exact))):
        try:
            hi[k], lo[k] = certify(x[k])
        except Undecided:
            unsettled[k] = True
    hi[unsettled] = lo[unsettled] = 0.0
    return tuple(a.reshape(balls.shape) for a in (hi, lo, unsettled))  # type: ignore[return-value]


def _proved(x: Objects) -> tuple[Any, Objects, Any]:
    """Candidates in binary64, what is left of the balls, and where the candidates are proved to be the nearest."""
    candidates = np.fromiter(map(float, x), float, x.size)
    finite = np.isfinite(candidates)
    rest = x - _filled(list(map(arb, np.where(finite, candidates, 0.0).tolist())), x.shape)
    size = np.fromiter((float(r.abs_upper()) for r in rest), float, x.size) * SLACK
    normal = finite & (abs(candidates) > 2.0**-1021)
    below = np.spacing(np.nextafter(np.where(normal, abs(candidates), 1.0), 0))
    return candidates, rest, normal & (size < below / 2)
