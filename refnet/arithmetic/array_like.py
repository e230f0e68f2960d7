"""What all arithmetics have in common: arrays that answer to NumPy's protocols by tables of rules.

An arithmetic is a class of arrays on which the layers' own lines run. It derives from `ArrayLike`, names the attribute
that holds its inner array (`class Runs(ArrayLike, inner="a")`), and supplies

- `_moved(f)`: the array whose elements f has moved about, f being told to work on the inner array. Transposing,
  indexing, reshaping, copying, and the functions in MOVES come from it;
- `sum(axis, keepdims)`;
- `UFUNCS`, a rule for each NumPy ufunc in `functions.UFUNCS`; or `_each(ufunc, inputs)`, one rule for all that stand in
  no table, where nothing depends on which function it is;
- `FUNCTIONS`, a rule for each function in `functions.FUNCTIONS` that MEMBERS and MOVES leave open;
- `SPECIALS`, a rule for each primitive in `functions.SPECIALS`;
- `_refused(function, how)`, if an error should say more than NumPy's own.

A rule takes the operands as they were passed, its own arrays and others, and returns an array of the arithmetic or, for
a comparison, what decides. `sigmoids` is a primitive only for arithmetics that set `__follows__`, whose rule for the
sigmoid is to do what is done to floats (see `special.sigmoids`).

A newly listed function costs one entry in `functions.py`, one in each arithmetic's table (none where `_each` or MOVES
does it), its derivative in `parity/truth/pullbacks.py`, and one example in `tests/parity/test_arithmetics.py`, which
runs it in every arithmetic and fails for an entry that is missing or not listed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import reduce
from operator import attrgetter, methodcaller
from typing import Any, ClassVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

Rule = Callable[..., Any]


class NoRule(TypeError, AttributeError):
    """A function or attribute of arrays that an arithmetic has no rule for.

    Attributes:
        what: its name, as in `np.var`, `.T` or `**`.
    """

    def __init__(self, what: str) -> None:
        super().__init__(
            f"expected a function listed in refnet.arithmetic.functions, got {what}, which has no rule for rounding"
        )
        self.what = what


class Undecided(ArithmeticError):
    """A comparison (a kink, a branch) or a rounding that an enclosure does not settle: nobody may guess it."""


def named(names: Iterable[str]) -> tuple[Any, ...]:
    """NumPy's functions of these names, such as `exp` or `lib.stride_tricks.sliding_window_view`."""
    return tuple(reduce(getattr, name.split("."), np) for name in names)


def _move(function: Rule) -> Rule:
    return lambda a, *args, **kwargs: a._moved(lambda inner: function(inner, *args, **kwargs))


MEMBERS: dict[Any, Rule] = {
    np.ndim: lambda a: a.ndim,
    np.shape: lambda a: a.shape,
    np.copy: lambda a: a.copy(),
    np.reshape: lambda a, *args, **kwargs: a.reshape(*args, **kwargs),
    np.sum: lambda a, *args, **kwargs: a.sum(*args, **kwargs),
}
"""Functions that are members of arrays as well."""

MOVES: dict[Any, Rule] = {f: _move(f) for f in (np.expand_dims, np.broadcast_to, sliding_window_view)}
"""Functions that move the elements of one array about."""

_TRANSPOSED, _COPIED = attrgetter("mT"), methodcaller("copy")


class ArrayLike(np.lib.mixins.NDArrayOperatorsMixin):
    """An array of another arithmetic. What a subclass supplies stands in the module's text.

    Attributes:
        BESIDE: the types that may stand in an operation with this one, None for all. What stands there with others is
            theirs to answer.
    """

    __slots__ = ()

    UFUNCS: ClassVar[Mapping[np.ufunc, Rule]] = {}
    FUNCTIONS: ClassVar[Mapping[Any, Rule]] = {}
    SPECIALS: ClassVar[Mapping[str, Rule]] = {}
    BESIDE: ClassVar[tuple[type, ...] | None] = None

    shape: Any
    ndim: Any
    size: Any
    dtype: Any

    def __init_subclass__(cls, *, inner: str, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name in ("shape", "ndim", "size", "dtype"):
            if name not in vars(cls):
                setattr(cls, name, property(attrgetter(f"{inner}.{name}")))

    def _moved(self, f: Rule) -> Any:
        raise NotImplementedError

    def _each(self, ufunc: np.ufunc, inputs: tuple[Any, ...]) -> Any:
        return self._refused(ufunc)

    def _refused(self, function: Any, how: str = "") -> Any:
        """What becomes of a function without a rule; `how` it was called, as in `.reduce` or `(out=...)`."""
        return NotImplemented

    def sum(self, axis: Any = None, keepdims: bool = False) -> Any:
        raise NotImplementedError

    mT = property(lambda self: self._moved(_TRANSPOSED))  # noqa: N815  NumPy's name

    def __len__(self) -> int:
        if self.ndim == 0:
            raise TypeError("len() of unsized object")
        length: int = self.shape[0]
        return length

    def __getitem__(self, index: Any) -> Any:
        return self._moved(lambda a: a[index])

    def copy(self) -> Any:
        return self._moved(_COPIED)

    def reshape(self, *shape: Any) -> Any:
        return self._moved(lambda a: a.reshape(*shape))

    def transpose(self, axes: tuple[int, ...]) -> Any:
        """For expressions; layers have `.mT`, which knows nothing of a hidden axis in front."""
        return self._moved(lambda a: a.transpose(axes))

    def __special__(self, name: str, *args: Any) -> Any:
        return self.SPECIALS[name](self, *args)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if self.BESIDE is not None:
            for value in inputs:
                if not isinstance(value, self.BESIDE):
                    return NotImplemented
        if method != "__call__" or kwargs:
            return self._refused(ufunc, f".{method}" if method != "__call__" else f"({next(iter(kwargs))}=...)")
        rule = self.UFUNCS.get(ufunc)
        return self._each(ufunc, inputs) if rule is None else rule(*inputs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if self.BESIDE is not None and not all(issubclass(t, self.BESIDE) for t in types):
            return NotImplemented
        rule = self.FUNCTIONS.get(function)
        return self._refused(function) if rule is None else rule(*args, **kwargs)
