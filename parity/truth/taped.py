"""Arrays, of another arithmetic, that remember how they were made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from parity.truth.pullbacks import PULLBACKS, Value
from parity.truth.tape import Made
from refnet.arithmetic.array_like import MEMBERS, MOVES, ArrayLike, Rule, named


class Taped(ArrayLike, Made, inner="value"):
    """One array. Its value must not be written."""

    __slots__ = ()

    def _moved(self, f: Rule) -> Taped:
        return _gathered(f, self)

    def __setitem__(self, index: Any, value: Any) -> None:
        raise TypeError("item assignment: expected np.where or np.concatenate in what is differentiated")

    def sum(self, axis: Any = None, keepdims: bool = False) -> Taped:
        axes = range(self.ndim) if axis is None else [a % self.ndim for a in np.atleast_1d(axis).tolist()]
        kept = tuple(1 if a in axes else n for a, n in enumerate(self.shape))
        from_last = tuple(a - self.ndim for a in axes)

        def pull(g: Value) -> Sequence[Value]:
            return [np.broadcast_to(g.reshape(kept), self.shape)]

        return Taped(self.value.sum(axis=from_last, keepdims=keepdims), (self,), pull)


def _value(operand: Any) -> Value:
    return operand.value if isinstance(operand, Taped) else operand


def _elementwise(operation: str, y: Value, operands: Sequence[Any]) -> Taped:
    values = [_value(operand) for operand in operands]
    live = [(pull, o) for pull, o in zip(PULLBACKS[operation], operands, strict=True) if isinstance(o, Taped)]
    return Taped(y, tuple(o for _, o in live), lambda g: [_fitted(pull(g, y, *values), o.shape) for pull, o in live])


def _fitted(g: Value, shape: tuple[int, ...]) -> Value:
    """A gradient summed over the axes along which an operand of this shape was spread."""
    missing = g.ndim - len(shape)
    padded = (1,) * missing + shape
    spread = tuple(a - g.ndim for a, n in enumerate(g.shape) if a < missing or (padded[a] == 1 and n != 1))
    return g.sum(axis=spread, keepdims=True).reshape(shape) if spread else g


def _gathered(f: Callable[..., Any], *operands: Any) -> Taped:
    """y = f(operands), where each element of y is one element of the operands, or a constant.

    f itself says which, by moving the elements' numbers (from 1; 0 is a constant). The gradient of an element is the
    sum over all places that it went to.
    """
    starts = np.cumsum([0, *(o.size if isinstance(o, Taped) else 0 for o in operands)])
    numbers = [
        np.arange(start + 1, start + 1 + o.size).reshape(o.shape)
        if isinstance(o, Taped)
        else np.zeros(np.shape(o), np.int64)
        for start, o in zip(starts, operands, strict=False)
    ]
    source = np.ravel(f(*numbers))
    live = [(start, o) for start, o in zip(starts, operands, strict=False) if isinstance(o, Taped)]
    y = f(*map(_value, operands))
    return Taped(y, tuple(o for _, o in live), lambda g: [_scattered(g, source - start, o) for start, o in live])


def _scattered(g: Value, source: np.ndarray[Any, Any], like: Taped) -> Value:
    """For each element of `like` the sum of the gradients of those places whose source it is."""
    places = np.flatnonzero((source >= 1) & (source <= like.size))
    owners = source[places] - 1
    order = np.argsort(owners, kind="stable")
    places, owners = places[order], owners[order]
    counts = np.bincount(owners, minlength=like.size)
    # One row for each element: its places, filled up with that of a zero behind the last element.
    table = np.full((like.size, int(counts.max(initial=0))), g.size)
    table[owners, np.arange(owners.size) - np.repeat(np.cumsum(counts) - counts, counts)] = places
    return np.concatenate([g.reshape(-1), np.zeros(1)], axis=-1)[table].sum(axis=-1).reshape(like.shape)


def _matmul(a: Any, b: Any) -> Any:
    if np.ndim(b) == 1:
        return _matmul(a, np.expand_dims(b, -1))[..., 0]
    if np.ndim(a) == 1:
        return _matmul(np.expand_dims(a, -2), b)[..., 0, :]
    v, w = _value(a), _value(b)
    pulls: tuple[Callable[[Value], Value], ...] = (
        lambda g: _fitted(g @ w.mT, a.shape),
        lambda g: _fitted(v.mT @ g, b.shape),
    )
    live = [(pull, o) for pull, o in zip(pulls, (a, b), strict=True) if isinstance(o, Taped)]
    return Taped(v @ w, tuple(o for _, o in live), lambda g: [pull(g) for pull, _ in live])


def _einsum(subscripts: str, *operands: Any) -> Taped:
    inputs, output = subscripts.replace(" ", "").split("->")
    terms = inputs.split(",")
    values = [_value(o) for o in operands]

    def pull(g: Value, k: int) -> Value:
        others = [(term, v) for i, (term, v) in enumerate(zip(terms, values, strict=True)) if i != k]
        known = output + "".join(term for term, _ in others)
        own = "".join(c for c in terms[k] if c in known)
        small = np.einsum(f"{','.join([output, *(term for term, _ in others)])}->{own}", g, *(v for _, v in others))
        # An index of this operand alone was summed over: its gradient is the same all along it.
        shape = [n if c in own else 1 for c, n in zip(terms[k], values[k].shape, strict=True)]
        return np.broadcast_to(small.reshape(tuple(shape)), values[k].shape)

    live = [k for k, o in enumerate(operands) if isinstance(o, Taped)]
    return Taped(np.einsum(subscripts, *values), tuple(operands[k] for k in live), lambda g: [pull(g, k) for k in live])


def _differentiable(ufunc: np.ufunc) -> Rule:
    return lambda *inputs: _elementwise(ufunc.__name__, ufunc(*map(_value, inputs)), inputs)


def _plain(ufunc: np.ufunc) -> Rule:
    """What decides has no derivative."""
    return lambda *inputs: ufunc(*map(_value, inputs))


def _asked(primitive: str) -> Rule:
    """A lifted constant and a shift have no derivative."""
    return lambda like, *args: like.value.__special__(primitive, *args)


def _primitive(name: str) -> Rule:
    return lambda x: _elementwise(name, x.value.__special__(name), (x,))


_DIFFERENTIABLE = ("add", "subtract", "negative", "multiply", "divide", "exp", "log", "log1p", "sqrt", "tanh")
_COMPARISONS = ("greater", "greater_equal", "less", "less_equal", "equal", "not_equal")

Taped.UFUNCS = {
    np.matmul: _matmul,
    **{ufunc: _differentiable(ufunc) for ufunc in named(_DIFFERENTIABLE)},
    **{ufunc: _plain(ufunc) for ufunc in named(_COMPARISONS)},
}

Taped.FUNCTIONS = {
    **MEMBERS,
    **MOVES,
    np.where: lambda condition, a, b: _gathered(lambda v, w: np.where(condition, v, w), a, b),
    np.concatenate: lambda arrays, axis=0: _gathered(lambda *parts: np.concatenate(parts, axis), *arrays),
    np.pad: lambda a, width: _gathered(lambda v: np.pad(v, width), a),
    np.einsum: _einsum,
}

Taped.SPECIALS = {
    "lift": _asked("lift"),
    "shift": _asked("shift"),
    "largest": _asked("largest"),
    "sigmoid": _primitive("sigmoid"),
    "log_sigmoid": _primitive("log_sigmoid"),
}
