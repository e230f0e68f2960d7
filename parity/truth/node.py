"""Scalars that remember how they were made."""

from __future__ import annotations

import operator
from collections.abc import Callable
from fractions import Fraction
from operator import methodcaller
from typing import Any

import numpy as np

from parity.truth.pullbacks import PULLBACKS, Value, erf_derivative, power, sigmoid
from parity.truth.tape import Made, remembers
from refnet.arithmetic.array_like import Undecided


def _made(operation: str, y: Value, *operands: Node) -> Node:
    if not remembers():
        return Node(y)
    values = [operand.value for operand in operands]
    return Node(y, operands, lambda g: [pull(g, y, *values) for pull in PULLBACKS[operation]])


def _operators(operation: str, f: Callable[[Value, Value], Value]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The operator with the node on its left, and with the node on its right."""

    def left(self: Node, other: Any) -> Any:
        if (b := _node(other, self)) is NotImplemented:
            return NotImplemented
        return _made(operation, f(self.value, b.value), self, b)

    def right(self: Node, other: Any) -> Any:
        if (a := _node(other, self)) is NotImplemented:
            return NotImplemented
        return _made(operation, f(a.value, self.value), a, self)

    return left, right


def _function(operation: str, f: Callable[[Value], Value]) -> Callable[[Node], Node]:
    return lambda self: _made(operation, f(self.value), self)


def _comparison(f: Callable[[int, int], bool]) -> Callable[..., Any]:
    def compare(self: Node, other: Any) -> Any:
        b = _node(other, self)
        return b if b is NotImplemented else f(self._sign(b), 0)

    return compare


class Node(Made):
    """One scalar."""

    __slots__ = ()
    __hash__ = object.__hash__
    shape = ()
    ndim = 0
    dtype = np.dtype(object)

    def lift(self, number: float | int | Fraction) -> Node:
        """An exact number as a node of this arithmetic."""
        return Node(_convert(number, self.value))

    def __special__(self, name: str, *args: Any) -> Any:
        if name == "maximum" and not any(isinstance(arg, np.ndarray) for arg in args):
            # A number goes by NumPy's hands otherwise, which make a Python number of NumPy's own.
            return _node(args[0], self).maximum(args[1])
        if name == "maximum":
            return np.frompyfunc(lambda a, b: _node(a, self).maximum(b), 2, 1)(*args)
        return getattr(self, name)(*args)

    def sum(self, axis: Any = None, keepdims: bool = False) -> Node:
        """Of an array without axes, whose only element NumPy hands out bare."""
        return self

    def __float__(self) -> float:
        return float(self.value)

    def __repr__(self) -> str:
        return f"Node({self.value})"

    __add__ = __radd__ = _operators("add", operator.add)[0]
    __sub__, __rsub__ = _operators("subtract", operator.sub)
    __mul__ = __rmul__ = _operators("multiply", operator.mul)[0]
    __truediv__, __rtruediv__ = _operators("divide", operator.truediv)
    __neg__ = _function("negative", operator.neg)

    # NumPy calls these for an object array: np.exp asks each element for `exp()`.
    exp = _function("exp", methodcaller("exp"))
    log = _function("log", methodcaller("log"))
    log1p = _function("log1p", methodcaller("log1p"))
    sqrt = _function("sqrt", methodcaller("sqrt"))
    tanh = _function("tanh", methodcaller("tanh"))
    sin = _function("sin", methodcaller("sin"))
    cos = _function("cos", methodcaller("cos"))
    expm1 = _function("expm1", methodcaller("expm1"))
    erf = _function("erf", methodcaller("erf"))
    erfc = _function("erfc", methodcaller("erfc"))
    erf_derivative = _function("erf_derivative", erf_derivative)
    sigmoid = _function("sigmoid", sigmoid)
    log_sigmoid = _function("log_sigmoid", lambda x: -(-x).exp().log1p())

    def __pow__(self, exponent: Any) -> Any:
        exponent = float(exponent) if isinstance(exponent, Node) else exponent
        if not isinstance(exponent, (int, float, np.integer)):
            raise TypeError(f"Node: expected a Python number as an exponent, got {type(exponent).__name__}")
        p = int(exponent) if exponent == int(exponent) else float(exponent)
        return _made("power", power(self.value, p), self, Node(type(self.value)(p)))

    def __abs__(self) -> Node:
        # The sign decides which of the two functions it is; at 0 its derivative is 0, as torch's.
        sign = self._sign(0)
        return self * sign if sign == 0 else -self if sign < 0 else self + 0

    def maximum(self, other: Any) -> Any:
        """The larger of the two; at a tie, half of each."""
        other = _node(other, self)
        sign = self._sign(other)
        return (self + other) / 2 if sign == 0 else self if sign > 0 else other

    def amax(self, lane: Any) -> Any:
        """The largest of a sequence, the mean of those that tie."""
        tied = self._largest(lane)
        return sum(tied[1:], tied[0]) / len(tied)

    def amax_weights(self, lane: Any) -> list[Any]:
        """For each of a sequence 1 / n, if it is one of n that are the largest, otherwise 0."""
        tied = self._largest(lane)
        return [Node(_convert(Fraction(any(x is t for t in tied), len(tied)), self.value)) for x in lane]

    def _largest(self, lane: Any) -> list[Any]:
        best: list[Any] = []
        for x in lane:
            sign = 1 if not best else _node(x, self)._sign(best[0])
            best = [x] if sign > 0 else [*best, x] if sign == 0 else best
        return best

    def _sign(self, other: Any) -> int:
        """The sign of self - other, certain or Undecided.

        Arb answers False to every comparison of overlapping balls, so a single answer of it decides nothing. A node
        equals itself, whatever its ball.
        """
        if other is self:
            return 0
        a, b = self.value, _node(other, self).value
        if a > b:
            return 1
        if a < b:
            return -1
        if a == b:
            return 0
        raise Undecided(f"{a} against {b}")

    __gt__ = _comparison(operator.gt)
    __ge__ = _comparison(operator.ge)
    __lt__ = _comparison(operator.lt)
    __le__ = _comparison(operator.le)
    __eq__ = _comparison(operator.eq)
    __ne__ = _comparison(operator.ne)


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
