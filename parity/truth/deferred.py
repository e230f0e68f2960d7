"""Tensors of balls whose operations are put off until it is known which elements are asked for.

A `Deferred` is an array-like over a `Plan`. The lines of a layer or of an expression, and the tape over them, run on it
as on any arithmetic. `elements` then computes what is asked for, and what that needs, by the rules of `TensorBalls`.

A comparison decides at once: both sides of it are computed as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from parity.truth.ball import Objects
from parity.truth.contractions import einsum
from parity.truth.plan import Added, Elementwise, Flags, Given, Moved, Plan, Product, Rows, computed
from parity.truth.tensor_balls import TensorBalls, filled
from refnet.arithmetic import special
from refnet.arithmetic.array_like import MEMBERS, MOVES, ArrayLike, Rule


class Deferred(ArrayLike, inner="plan"):
    """An array of balls that are not computed yet.

    Attributes:
        plan: what is to be computed. dtype: of the arrays that it stands for.
    """

    __slots__ = ("dtype", "plan")

    ndim = property(lambda self: len(self.plan.shape))
    balls = property(lambda self: self.whole().balls)

    def __init__(self, plan: Plan, dtype: np.dtype[Any]) -> None:
        self.plan, self.dtype = plan, dtype

    @classmethod
    def lift(cls, array: Any) -> Any:
        """Floats as exact balls; arrays of integers or booleans as they are."""
        array = np.asarray(array)
        return array if array.dtype.kind in "iub" else cls(Given(array), array.dtype)

    def _like(self, plan: Plan) -> Deferred:
        return Deferred(plan, self.dtype)

    def _moved(self, f: Rule) -> Deferred:
        return self._like(_rearranged(f, self.plan))

    def __repr__(self) -> str:
        return f"Deferred(shape={self.shape})"

    def __bool__(self) -> bool:
        raise TypeError("Deferred: expected a comparison, got balls as a condition")

    def __setitem__(self, index: Any, value: Any) -> None:
        given = _plan(value)

        def written(own: Any, new: Any) -> Any:
            made = own.copy()
            made[index] = new
            return made

        self.plan = Moved(written, (self.plan, given), self.plan.shape)

    def copy(self) -> Deferred:
        # What is written later changes the plan that an array stands for, and no plan.
        return self._like(self.plan)

    def sum(self, axis: Any = None, keepdims: bool = False) -> Deferred:
        axes = tuple(range(self.ndim)) if axis is None else tuple(a % self.ndim for a in np.atleast_1d(axis).tolist())
        return self._reduced(axes, keepdims, lambda rows: rows.sum(axis=-1))

    def _reduced(self, axes: tuple[int, ...], keepdims: bool, rule: Callable[[TensorBalls], TensorBalls]) -> Deferred:
        """What a rule makes of the elements along some axes."""
        others = tuple(k for k in range(self.ndim) if k not in axes)
        count = math.prod(self.shape[k] for k in axes)
        ahead = tuple(self.shape[k] for k in others)
        rows = self._moved(lambda a: a.transpose(*others, *axes).reshape(*ahead, count))
        shape = tuple(1 if k in axes else n for k, n in enumerate(self.shape)) if keepdims else ahead
        return self._like(_rearranged(lambda a: a.reshape(shape), Rows(rule, rows.plan, False)))

    def _along(self, axis: int, rule: Callable[[TensorBalls], TensorBalls]) -> Deferred:
        """What a rule makes of each row along an axis, a row again."""
        rows = self._moved(lambda a: np.moveaxis(a, axis, -1))
        made = self._like(Rows(rule, rows.plan, True))
        return made._moved(lambda a: np.moveaxis(a, -1, axis))

    def whole(self) -> TensorBalls:
        """All elements; computed once."""
        if self.plan.balls is None:
            (self.plan.balls,) = computed([(self.plan, np.ones(self.plan.size, bool))])
        return TensorBalls(self.plan.balls.reshape(self.shape), self.dtype)


Deferred.BESIDE = (Deferred, *(TensorBalls.BESIDE or ())[1:])


def elements(asked: Sequence[tuple[Deferred, Any]]) -> list[Objects]:
    """The elements of some arrays at these places of their flat order; all, in the array's shape, where None is given
    for them."""
    found = computed([(a.plan, _flags(a, places)) for a, places in asked])
    return [
        balls.reshape(a.shape) if places is None else balls for balls, (a, places) in zip(found, asked, strict=True)
    ]


def _flags(a: Deferred, places: Any) -> Flags:
    flags = np.full(a.size, places is None)
    if places is not None:
        flags[places] = True
    return flags


def _rearranged(f: Rule, *plans: Plan) -> Plan:
    shape = f(*(np.broadcast_to(np.int8(0), p.shape) for p in plans)).shape
    return Moved(f, plans, shape)


def _plan(operand: Any) -> Plan:
    if _is_open(operand):
        operand = operand.numbers()
    if isinstance(operand, Deferred):
        return operand.plan
    if isinstance(operand, TensorBalls):
        return Given(operand.balls)
    return Given(filled([operand], ()) if isinstance(operand, Fraction) else operand)


def _is_open(value: Any) -> bool:
    """Whether it is a comparison with open elements, a `Condition`, and no plain array."""
    return hasattr(value, "open") and hasattr(value, "numbers")


def _first(*operands: Any) -> Deferred:
    return next(x for x in operands if isinstance(x, Deferred))


def _elementwise(rule: Rule) -> Rule:
    return lambda *operands: _first(*operands)._like(Elementwise(rule, [_plan(o) for o in operands]))


def _now(rule: Rule) -> Rule:
    """What decides is done at once."""
    return lambda *operands: _deferred_again(rule(*(o.whole() if isinstance(o, Deferred) else o for o in operands)))


def _deferred_again(decided: Any) -> Any:
    """A condition some elements of which are open, as one among deferred arrays."""
    if _is_open(decided):
        like = Deferred(Given(np.zeros(())), decided.like.dtype)
        return type(decided)(decided.value, decided.open, like, decided.why)
    return decided


def _power(x: Deferred, p: Any) -> Deferred:
    return x._like(Elementwise(lambda balls: np.power(balls, p), [x.plan]))


def _matmul(a: Any, b: Any) -> Any:
    like = _first(a, b)
    x, y = (o if isinstance(o, Deferred) else like._like(_plan(o)) for o in (a, b))
    if x.shape[-1] != y.shape[-2]:
        raise ValueError(f"matmul: expected matching inner axes, got shapes {x.shape} and {y.shape}")
    (m, k), n = x.shape[-2:], y.shape[-1]
    if y.ndim == 2:
        # One product, not a stack of them.
        rows = x.reshape(1, math.prod(x.shape[:-1]), k)
        return like._like(Product(rows.plan, y.reshape(1, k, n).plan)).reshape(*x.shape[:-1], n)
    stack = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    count = math.prod(stack)
    left = x._moved(lambda a: np.broadcast_to(a, (*stack, m, k)).reshape(count, m, k))
    right = y._moved(lambda a: np.broadcast_to(a, (*stack, k, n)).reshape(count, k, n))
    return like._like(Product(left.plan, right.plan)).reshape(*stack, m, n)


def _concatenate(arrays: Sequence[Any], axis: int = 0) -> Deferred:
    return _first(*arrays)._like(_rearranged(lambda *a: np.concatenate(a, axis), *map(_plan, arrays)))


def _where(condition: Any, a: Any, b: Any) -> Deferred:
    like = next(x for x in (a, b, getattr(condition, "like", None)) if isinstance(x, Deferred))
    first, second = _plan(a), _plan(b)
    if not _is_open(condition):
        condition = np.array(condition)
        return like._like(_rearranged(lambda v, w: np.where(condition, v, w), first, second))
    # Each element of the condition as a number: 1, 0, or 2 where it is open.
    code = np.where(condition.open, 2, condition.value.astype(int))

    def chosen(codes: TensorBalls, v: Any, w: Any) -> Any:
        kinds = np.fromiter(map(float, codes.balls), float, codes.size)
        return np.where(type(condition)(kinds == 1, kinds == 2, v, condition.why), v, w)

    return like._like(Elementwise(chosen, [Given(code), first, second]))


def _pad(a: Deferred, width: Any) -> Deferred:
    return a._moved(lambda x: np.pad(x, width))


def _amax(x: Deferred, axis: int, keepdims: bool = False) -> Deferred:
    return x._reduced((axis % x.ndim,), keepdims, lambda rows: special.amax(rows, -1))


def _shift(x: Deferred, axis: int) -> Deferred:
    return x._reduced((axis % x.ndim,), True, lambda rows: special.shift(rows, -1)[..., 0])


def _scatter(_: Deferred, g: Deferred, index: Any, rows: int) -> Deferred:
    shape = (*g.shape[: g.ndim - 1 - index.ndim], rows, g.shape[-1])
    places = special.gather(np.arange(math.prod(shape)).reshape(shape), index)
    return g._like(Added(g.plan, places, shape))


_DECIDING = {np.greater, np.greater_equal, np.less, np.less_equal, np.equal, np.not_equal}

Deferred.UFUNCS = {
    **{ufunc: _elementwise(rule) for ufunc, rule in TensorBalls.UFUNCS.items() if ufunc not in _DECIDING},
    **{ufunc: _now(TensorBalls.UFUNCS[ufunc]) for ufunc in _DECIDING},
    np.matmul: _matmul,
    np.power: _power,
}

Deferred.FUNCTIONS = {
    **MEMBERS,
    **MOVES,
    np.where: _where,
    np.concatenate: _concatenate,
    np.pad: _pad,
    np.einsum: einsum,
    np.cumsum: lambda a, axis: a._along(axis, lambda rows: np.cumsum(rows, axis=-1)),
}

Deferred.SPECIALS = {
    "lift": lambda like, value: value if isinstance(value, Deferred) else like._like(_plan(value)),
    "shift": _shift,
    "largest": lambda x, axis: special.largest(x.whole(), axis),
    **{
        name: _elementwise(TensorBalls.SPECIALS[name])
        for name in ("sigmoid", "log_sigmoid", "erf", "erfc", "erf_derivative")
    },
    "maximum": lambda _, a, b: _elementwise(special.maximum)(a, b),
    "amax": _amax,
    "amax_weights": lambda x, axis: x._along(axis, lambda rows: special.amax_weights(rows, -1)),
    "gather": lambda _, x, index: x._moved(lambda a: special.gather(a, index)),
    "scatter": _scatter,
    "of_counter": lambda like, f, t: f(t, like._like(_plan(t))),
}
