"""Comparisons of which some elements are open: too close for bounds or balls to tell.

An open element of a condition may be true or false, and `np.where` gives it the hull of both branches. The others are
decided. What needs a decision of all elements, such as `if`, `all` and an index, raises `Undecided`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from refnet.arithmetic.array_like import MEMBERS, MOVES, ArrayLike, Rule, Undecided

Booleans = np.ndarray[Any, Any]


class Condition(ArrayLike, inner="value"):
    """An array of truth values.

    Attributes:
        value: as far as they are decided; of the open ones, what the computed values say. open: which are open.
        like: an array of the arithmetic that was compared. why: the comparison, for messages.
    """

    __slots__ = ("like", "open", "value", "why")

    def __init__(self, value: Booleans, open: Booleans, like: Any, why: str) -> None:
        self.value, self.open, self.like, self.why = np.asarray(value), np.asarray(open), like, why

    def _moved(self, f: Rule) -> Condition:
        return Condition(f(self.value), f(self.open), self.like, self.why)

    def __repr__(self) -> str:
        return f"Condition({self.value!r}, open={self.open!r})"

    def _refuse(self, *_: Any, **__: Any) -> Any:
        count = f"{int(self.open.sum())} of {self.open.size} elements"
        raise Undecided(f"{self.why}: expected values further apart than their bounds, got {count} closer")

    __bool__ = __array__ = __int__ = __float__ = __index__ = all = any = _refuse
    nonzero = tolist = item = _refuse

    def numbers(self) -> Any:
        """1.0 and 0.0 in the arithmetic that was compared."""
        return np.where(self, self.like.__special__("lift", 1.0), self.like.__special__("lift", 0.0))

    def astype(self, _: Any) -> Any:
        return self.numbers()

    def sum(self, axis: Any = None, keepdims: bool = False) -> Any:
        return self.numbers().sum(axis=axis, keepdims=keepdims)

    def _each(self, ufunc: np.ufunc, inputs: tuple[Any, ...]) -> Any:
        if ufunc in _BINARY:
            return self._joined(ufunc, *inputs)
        return ufunc(*(x.numbers() if isinstance(x, Condition) else x for x in inputs))

    def _joined(self, ufunc: np.ufunc, a: Any, b: Any) -> Condition:
        # Open where the other possible values of the open operands would give another result.
        (v, v_open), (w, w_open) = _parts(a), _parts(b)
        results = [ufunc(p, q) for p in (v, v ^ v_open) for q in (w, w ^ w_open)]
        differs = results[0] ^ results[1] | results[0] ^ results[2] | results[0] ^ results[3]
        return Condition(results[0], differs, self.like, self.why)


_BINARY = {np.logical_and, np.logical_or, np.logical_xor, np.bitwise_and, np.bitwise_or, np.bitwise_xor}


def _parts(a: Any) -> tuple[Booleans, Booleans]:
    if isinstance(a, Condition):
        return a.value, a.open
    value = np.asarray(a, bool)
    return value, np.zeros(value.shape, bool)


def _not(a: Condition) -> Condition:
    return Condition(~a.value, a.open, a.like, a.why)


def _where(condition: Any, a: Any, b: Any) -> Any:
    if any(isinstance(x, ArrayLike) and not isinstance(x, Condition) for x in (a, b)):
        return NotImplemented  # theirs to answer
    a, b = (x.numbers() if isinstance(x, Condition) else x for x in (a, b))
    like = condition.like if isinstance(condition, Condition) else next(x for x in (a, b) if isinstance(x, ArrayLike))
    return np.where(condition, like.__special__("lift", a), b)


def _concatenate(arrays: Any, axis: int = 0) -> Any:
    if not all(isinstance(x, (Condition, np.ndarray)) for x in arrays):
        return NotImplemented
    first = next(x for x in arrays if isinstance(x, Condition))
    values, opens = zip(*map(_parts, arrays), strict=True)
    return Condition(np.concatenate(values, axis), np.concatenate(opens, axis), first.like, first.why)


Condition.UFUNCS = {np.logical_not: _not, np.invert: _not}
Condition.FUNCTIONS = {
    **MEMBERS,
    **MOVES,
    np.where: _where,
    np.concatenate: _concatenate,
    np.all: Condition.all,
    np.any: Condition.any,
}


def decided(value: Booleans, open: Booleans, like: Any, why: str) -> Any:
    """A plain array where nothing is open, otherwise a Condition."""
    return Condition(value, open, like, why) if np.any(open) else value
