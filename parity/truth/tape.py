"""Reverse differentiation of what was computed, over scalars and over arrays.

A `Node` is a scalar, an Arb ball, that remembers how it was made. NumPy object arrays of nodes run the layers' own
lines, and that is how the truth is found: the only rules of differentiation in it are those of single scalar
operations, so it owes nothing to a layer's hand-written backward pass.

A `Taped` is a whole array that remembers how it was made, of any arithmetic that answers to NumPy's protocols: budgets,
for `parity.enclose`. A sum is one operation there, whose terms have no order; a chain of scalar additions has one.

Both differentiate single operations by the same PULLBACKS.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from parity.records.record import Undecided

Value = Any  # flint.arb in a Node; Budget, or any other array, in a Taped
Pull = Callable[[Value], Sequence[Value]]
"""From the gradient of a result to what it contributes to the gradient of each parent."""

_recording = True
_room = math.inf


@contextmanager
def untaped() -> Iterator[None]:
    """Make nodes without a memory, for long computations that are not differentiated."""
    global _recording
    before, _recording = _recording, False
    try:
        yield
    finally:
        _recording = before


@contextmanager
def at_most(nodes: int) -> Iterator[None]:
    """Let no more than so many nodes be made by operations; OverflowError at the next."""
    global _room
    before, _room = _room, nodes
    try:
        yield
    finally:
        _room = before


def _sigmoid(x: Value) -> Value:
    return x.__special__("sigmoid") if hasattr(x, "__special__") else 1 / (1 + (-x).exp())


PULLBACKS: dict[str, tuple[Callable[..., Value], ...]] = {
    "add": (lambda g, y, a, b: g, lambda g, y, a, b: g),
    "subtract": (lambda g, y, a, b: g, lambda g, y, a, b: -g),
    "negative": (lambda g, y, x: -g,),
    "multiply": (lambda g, y, a, b: g * b, lambda g, y, a, b: g * a),
    "divide": (lambda g, y, a, b: g / b, lambda g, y, a, b: -g * (y / b)),
    "exp": (lambda g, y, x: g * y,),
    "log": (lambda g, y, x: g / x,),
    "log1p": (lambda g, y, x: g / (1 + x),),
    "sqrt": (lambda g, y, x: g / (2 * y),),
    "tanh": (lambda g, y, x: g * (1 - y * y),),
    "sigmoid": (lambda g, y, x: g * (y * (1 - y)),),
    "log_sigmoid": (lambda g, y, x: g * _sigmoid(-x),),
}
"""Of y = f(operands), with g the gradient of y: for each operand g times the derivative of y by it.

In the forms that frameworks use: for balls the form does not matter, for budgets it is what rounding is granted for.
"""


class Node:
    """One scalar: its value, its parents, and (after `differentiate`) its gradient."""

    __slots__ = ("grad", "parents", "pull", "value")
    __hash__ = object.__hash__
    shape = ()
    ndim = 0
    dtype = np.dtype(object)

    def __init__(self, value: Value, parents: tuple[Node, ...] = (), pull: Pull | None = None) -> None:
        self.value = value
        self.parents = parents
        self.pull = pull
        self.grad: Value = 0

    def lift(self, number: float | int | Fraction) -> Node:
        """An exact number as a node of this arithmetic."""
        return Node(_convert(number, self.value))

    def __special__(self, name: str, *args: Any) -> Any:
        return getattr(self, name)(*args)

    def __float__(self) -> float:
        return float(self.value)

    def __repr__(self) -> str:
        return f"Node({self.value})"

    def __add__(self, other: Any) -> Node:
        if (b := _node(other, self)) is NotImplemented:
            return NotImplemented
        return _made("add", self.value + b.value, self, b)

    __radd__ = __add__

    def __neg__(self) -> Node:
        return _made("negative", -self.value, self)

    def __sub__(self, other: Any) -> Node:
        if (b := _node(other, self)) is NotImplemented:
            return NotImplemented
        return _made("subtract", self.value - b.value, self, b)

    def __rsub__(self, other: Any) -> Node:
        if (a := _node(other, self)) is NotImplemented:
            return NotImplemented
        return _made("subtract", a.value - self.value, a, self)

    def __mul__(self, other: Any) -> Node:
        if (b := _node(other, self)) is NotImplemented:
            return NotImplemented
        return _made("multiply", self.value * b.value, self, b)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Node:
        if (b := _node(other, self)) is NotImplemented:
            return NotImplemented
        return _made("divide", self.value / b.value, self, b)

    def __rtruediv__(self, other: Any) -> Node:
        if (a := _node(other, self)) is NotImplemented:
            return NotImplemented
        return _made("divide", a.value / self.value, a, self)

    def exp(self) -> Node:
        return _made("exp", self.value.exp(), self)

    def log(self) -> Node:
        return _made("log", self.value.log(), self)

    def log1p(self) -> Node:
        return _made("log1p", self.value.log1p(), self)

    def sqrt(self) -> Node:
        return _made("sqrt", self.value.sqrt(), self)

    def tanh(self) -> Node:
        return _made("tanh", self.value.tanh(), self)

    def sigmoid(self) -> Node:
        return _made("sigmoid", _sigmoid(self.value), self)

    def log_sigmoid(self) -> Node:
        return _made("log_sigmoid", -(-self.value).exp().log1p(), self)

    def _sign(self, other: Any) -> int:
        """The sign of self - other, certain or Undecided.

        Arb answers False to every comparison of overlapping balls, so a single answer of it decides nothing.
        """
        a, b = self.value, _node(other, self).value
        if a > b:
            return 1
        if a < b:
            return -1
        if a == b:
            return 0
        raise Undecided(f"{a} against {b}")

    def __gt__(self, other: Any) -> bool:
        return self._sign(other) > 0

    def __ge__(self, other: Any) -> bool:
        return self._sign(other) >= 0

    def __lt__(self, other: Any) -> bool:
        return self._sign(other) < 0

    def __le__(self, other: Any) -> bool:
        return self._sign(other) <= 0

    def __eq__(self, other: object) -> bool:
        return self._sign(other) == 0

    def __ne__(self, other: object) -> bool:
        return self._sign(other) != 0


def _made(operation: str, y: Value, *operands: Node) -> Node:
    global _room
    if not _recording:
        return Node(y)
    _room -= 1
    if _room < 0:
        raise OverflowError("more nodes than were allowed")
    values = [operand.value for operand in operands]
    return Node(y, operands, lambda g: [pull(g, y, *values) for pull in PULLBACKS[operation]])


def _convert(number: float | int | Fraction, like: Value) -> Value:
    if isinstance(number, Fraction):
        return type(like)(number.numerator) / number.denominator
    return type(like)(number)


def _node(other: Any, like: Node) -> Any:
    """`other` as a node. Arrays are left to NumPy's protocols; NumPy's float scalars are refused, float32 and all."""
    if type(other) is Node:
        return other
    if isinstance(other, (np.integer, bool)):
        other = int(other)
    if not isinstance(other, np.generic):
        if isinstance(other, (int, float)):
            return Node(_convert(other, like.value))
        if hasattr(other, "__array_ufunc__"):
            return NotImplemented
    raise TypeError(f"Node: expected a Node, a Python int or float, got {type(other).__name__}")


class Taped(np.lib.mixins.NDArrayOperatorsMixin):
    """One array: its value, which must not be written, its parents, and (after `differentiate`) its gradient."""

    __slots__ = ("grad", "parents", "pull", "value")

    def __init__(self, value: Value, parents: tuple[Taped, ...] = (), pull: Pull | None = None) -> None:
        self.value = value
        self.parents = parents
        self.pull = pull
        self.grad: Value = 0

    shape = property(lambda self: self.value.shape)
    ndim = property(lambda self: self.value.ndim)
    size = property(lambda self: self.value.size)
    dtype = property(lambda self: self.value.dtype)
    mT = property(lambda self: _gathered(lambda a: a.mT, self))  # noqa: N815  NumPy's name

    def __len__(self) -> int:
        return len(self.value)

    def __getitem__(self, index: Any) -> Taped:
        return _gathered(lambda a: a[index], self)

    def __setitem__(self, index: Any, value: Any) -> None:
        raise TypeError("item assignment: expected np.where or np.concatenate in what is differentiated")

    def copy(self) -> Taped:
        return _gathered(lambda a: a.copy(), self)

    def reshape(self, *shape: Any) -> Taped:
        return _gathered(lambda a: a.reshape(*shape), self)

    def sum(self, axis: Any = None, keepdims: bool = False) -> Taped:
        axes = range(self.ndim) if axis is None else [a % self.ndim for a in np.atleast_1d(axis).tolist()]
        kept = tuple(1 if a in axes else n for a, n in enumerate(self.shape))
        from_last = tuple(a - self.ndim for a in axes)

        def pull(g: Value) -> Sequence[Value]:
            return [np.broadcast_to(g.reshape(kept), self.shape)]

        return Taped(self.value.sum(axis=from_last, keepdims=keepdims), (self,), pull)

    def __special__(self, name: str, *args: Any) -> Any:
        value = self.value.__special__(name, *args)
        # A lifted constant and a shift have no derivative.
        return _elementwise(name, value, (self,)) if name in PULLBACKS else value

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method != "__call__" or kwargs:
            return NotImplemented
        if ufunc is np.matmul:
            return _matmul(*inputs)
        y = ufunc(*map(_value, inputs))
        return _elementwise(ufunc.__name__, y, inputs) if ufunc.__name__ in PULLBACKS else y

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        rule = FUNCTIONS.get(function)
        return NotImplemented if rule is None else rule(*args, **kwargs)


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


def _matmul(a: Any, b: Any) -> Taped:
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


FUNCTIONS: dict[Any, Callable[..., Any]] = {
    np.where: lambda condition, a, b: _gathered(lambda v, w: np.where(condition, v, w), a, b),
    np.sum: Taped.sum,
    np.expand_dims: lambda a, axis: _gathered(lambda v: np.expand_dims(v, axis), a),
    np.reshape: Taped.reshape,
    np.broadcast_to: lambda a, shape: _gathered(lambda v: np.broadcast_to(v, shape), a),
    np.concatenate: lambda arrays, axis=0: _gathered(lambda *parts: np.concatenate(parts, axis), *arrays),
    np.pad: lambda a, width: _gathered(lambda v: np.pad(v, width), a),
    np.einsum: _einsum,
    np.ndim: lambda a: a.ndim,
    np.shape: lambda a: a.shape,
    np.copy: Taped.copy,
    sliding_window_view: lambda a, window, axis=None: _gathered(lambda v: sliding_window_view(v, window, axis), a),
}


def differentiate(outputs: Iterable[Any], seeds: Iterable[Value], total: Callable[[list[Value]], Value] = sum) -> int:
    """Set `grad` of every node behind `outputs` to the derivative of sum(seed * output); returns the number of nodes.

    `total` adds up what the gradient of one node has from each of its uses.
    """
    pairs = [(output, seed) for output, seed in zip(outputs, seeds, strict=True) if isinstance(output, (Node, Taped))]
    order: list[Any] = []
    seen: set[int] = set()
    stack: list[tuple[Any, bool]] = [(output, False) for output, _ in pairs]
    while stack:
        node, done = stack.pop()
        if done:
            order.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack.extend((parent, False) for parent in node.parents)
    for node in order:
        node.grad = []
    for output, seed in pairs:
        output.grad.append(seed)
    for node in reversed(order):
        node.grad = total(node.grad)
        if node.parents:
            for parent, contribution in zip(node.parents, node.pull(node.grad), strict=True):
                parent.grad.append(contribution)
    return len(order)


def together(contributions: list[Value]) -> Value:
    """The sum of arrays in no particular order."""
    if len(contributions) < 3:
        return contributions[0] if len(contributions) == 1 else contributions[0] + contributions[1]
    return np.concatenate([np.expand_dims(c, -1) for c in contributions], axis=-1).sum(axis=-1)
