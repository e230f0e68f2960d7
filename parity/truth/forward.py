"""Arrays, of another arithmetic, with a tangent each: forward mode, the product of a Jacobian and a vector.

With Y = f(X), the tangent of Y is f'(X) applied to the tangent of X. Elementwise functions multiply it by their
derivative, as their pullbacks multiply a gradient; linear ones act on tangents as they do on values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from parity.truth.pullbacks import PULLBACKS, Value
from refnet.arithmetic import special
from refnet.arithmetic.array_like import MEMBERS, MOVES, ArrayLike, Rule, named


class Dual(ArrayLike, inner="value"):
    """An array and its tangent. Neither must be written."""

    __slots__ = ("tangent", "value")

    def __init__(self, value: Value, tangent: Value) -> None:
        self.value, self.tangent = value, tangent

    def _moved(self, f: Rule) -> Dual:
        return Dual(f(self.value), f(self.tangent))

    def __setitem__(self, index: Any, value: Any) -> None:
        raise TypeError("item assignment: expected np.where or np.concatenate in what is differentiated")

    def sum(self, axis: Any = None, keepdims: bool = False) -> Dual:
        axes = range(self.ndim) if axis is None else np.atleast_1d(axis).tolist()
        from_last = tuple(a % self.ndim - self.ndim for a in axes)
        return self._moved(lambda a: a.sum(axis=from_last, keepdims=keepdims))


def _value(operand: Any) -> Any:
    return operand.value if isinstance(operand, Dual) else operand


def _tangents(operands: Sequence[Any]) -> list[Any]:
    """The tangent of each operand, zeros for a constant."""
    like = next(o for o in operands if isinstance(o, Dual)).value
    zero = special.lift(0.0, like)
    return [o.tangent if isinstance(o, Dual) else np.broadcast_to(zero, np.shape(o)) for o in operands]


def _added(parts: Sequence[Value]) -> Value:
    first, *rest = parts
    for part in rest:
        first = first + part
    return first


def _elementwise(operation: str, function: Rule) -> Rule:
    pulls = PULLBACKS[operation]

    def rule(*operands: Any) -> Dual:
        values = [_value(o) for o in operands]
        y = function(*values)
        # dY[.] = sum_k dX_k[.] df/dx_k
        parts = [
            pulls[k](np.broadcast_to(o.tangent, y.shape), y, *values)
            for k, o in enumerate(operands)
            if isinstance(o, Dual)
        ]
        return Dual(y, _added(parts))

    return rule


def _product(function: Callable[..., Value], operands: Sequence[Any]) -> Dual:
    """What is linear in each operand: the tangent is the sum over operands, each with its tangent in its place."""
    values = [_value(o) for o in operands]
    parts = [function(*values[:k], o.tangent, *values[k + 1 :]) for k, o in enumerate(operands) if isinstance(o, Dual)]
    return Dual(function(*values), _added(parts))


def _where(condition: Any, a: Any, b: Any) -> Dual:
    return Dual(np.where(condition, _value(a), _value(b)), np.where(condition, *_tangents((a, b))))


def _concatenate(arrays: Sequence[Any], axis: int = 0) -> Dual:
    return Dual(np.concatenate([_value(a) for a in arrays], axis), np.concatenate(_tangents(arrays), axis))


def _plain(ufunc: np.ufunc) -> Rule:
    """What decides has no tangent."""
    return lambda *operands: ufunc(*(_value(o) for o in operands))


def _asked(primitive: str) -> Rule:
    """A lifted constant, a shift and the weights of a maximum have no tangent."""
    return lambda like, *args: like.value.__special__(primitive, *args)


def _primitive(name: str) -> Rule:
    return _elementwise(name, lambda x: x.__special__(name))


def _amax(x: Dual, axis: int, keepdims: bool = False) -> Dual:
    # dY = sum_i w[i] dX[i], w the weights of the largest
    tangent = (x.tangent * special.amax_weights(x.value, axis)).sum(axis=axis, keepdims=keepdims)
    return Dual(special.amax(x.value, axis, keepdims), tangent)


_DIFFERENTIABLE = (
    *("add", "subtract", "negative", "multiply", "divide", "exp", "log", "log1p", "sqrt", "tanh"),
    *("absolute", "sin", "cos", "expm1", "power"),
)
_COMPARISONS = ("greater", "greater_equal", "less", "less_equal", "equal", "not_equal")

Dual.UFUNCS = {
    np.matmul: lambda a, b: _product(np.matmul, (a, b)),
    **{ufunc: _elementwise(ufunc.__name__, ufunc) for ufunc in named(_DIFFERENTIABLE)},
    **{ufunc: _plain(ufunc) for ufunc in named(_COMPARISONS)},
}

Dual.FUNCTIONS = {
    **MEMBERS,
    **MOVES,
    np.where: _where,
    np.concatenate: _concatenate,
    np.pad: lambda a, width: a._moved(lambda v: np.pad(v, width)),
    np.einsum: lambda subscripts, *operands: _product(lambda *o: np.einsum(subscripts, *o), operands),
    np.cumsum: lambda a, axis: a._moved(lambda v: np.cumsum(v, axis)),
}

Dual.SPECIALS = {
    "lift": _asked("lift"),
    "shift": _asked("shift"),
    "largest": _asked("largest"),
    "sigmoid": _primitive("sigmoid"),
    "log_sigmoid": _primitive("log_sigmoid"),
    "erf": _primitive("erf"),
    "erfc": _primitive("erfc"),
    "erf_derivative": _primitive("erf_derivative"),
    "maximum": lambda _, a, b: _elementwise("maximum", special.maximum)(a, b),
    "amax": _amax,
    "amax_weights": _asked("amax_weights"),
    "gather": lambda _, x, index: x._moved(lambda a: special.gather(a, index)),
    "scatter": lambda _, x, index, rows: x._moved(lambda a: special.scatter(a, index, rows)),
}
