"""Arrays that note down what is done to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refnet.arithmetic import special
from refnet.arithmetic.array_like import MEMBERS, MOVES, ArrayLike, Rule
from refnet.generator import Generator


class Uncapturable(Exception):
    """What a step does cannot be repeated from a record of its operations; the message says what it was."""


class Interrupted(Uncapturable):
    """Somebody wants to interrupt while an update is being captured."""


def never() -> bool:
    return False


@dataclass(frozen=True, eq=False)
class Recorded:
    """One call, `function(*args, out)` or as `replay` writes it down, and the array that it filled; `updates` says
    whether the optimizer made it."""

    function: Any
    args: tuple[Any, ...]
    out: NDArray[Any]
    updates: bool
    options: tuple[tuple[str, Any], ...] = ()


@dataclass(eq=False)
class Recorder:
    """The operations of a step, in order.

    Attributes:
        operations: what was done, each on the arrays it was done on: they become the replay's buffers.
        samples: the whole set that a batch is taken from, by the id of the batch.
        generators: the generators that were drawn from, with their state before.
        checks: checks of the samples' values that passed, each with the whole set.
        interrupted: whether to stop, because somebody wants to interrupt.
        quiet: whether an operation was carried out with overflow ignored.
        updates: whether what comes now is the optimizer's.
    """

    operations: list[Recorded] = field(default_factory=list)
    samples: dict[int, NDArray[Any]] = field(default_factory=dict)
    generators: list[tuple[Generator, NDArray[np.uint8]]] = field(default_factory=list)
    checks: list[tuple[Callable[[NDArray[Any]], None], NDArray[Any]]] = field(default_factory=list)
    interrupted: Callable[[], bool] = never
    quiet: bool = False
    updates: bool = False

    def note(self, function: Any, args: tuple[Any, ...], out: Any, **options: Any) -> Traced:
        if self.interrupted():
            raise Interrupted
        out = np.asarray(out)
        if not self.quiet:
            self.quiet = np.geterr()["over"] == "ignore"
        self.operations.append(Recorded(function, args, out, self.updates, tuple(sorted(options.items()))))
        return Traced(out, self)


class Traced(ArrayLike, inner="a"):
    """An array `a` whose operations are carried out and noted down by `recorder`.

    What depends on its values and is no array, such as the truth of a comparison, is refused with `Uncapturable`: a
    replay would repeat it for other values.
    """

    __slots__ = ("a", "recorder")
    __follows__ = True

    def __init__(self, a: NDArray[Any], recorder: Recorder) -> None:
        self.a, self.recorder = a, recorder

    def __repr__(self) -> str:
        return f"Traced({self.a!r})"

    def _moved(self, f: Rule) -> Traced:
        return Traced(f(self.a), self.recorder)

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise Uncapturable("a decision or a Python number is made from the values of an array")

    __bool__ = __int__ = __float__ = __index__ = __complex__ = __array__ = item = tolist = _refuse

    def __getitem__(self, index: Any) -> Traced:
        return Traced(self._view(index), self.recorder)

    def _view(self, index: Any) -> NDArray[Any]:
        parts = index if isinstance(index, tuple) else (index,)
        if not all(
            part is None
            or part is Ellipsis
            or (isinstance(part, (int, slice)) and part is not True and part is not False)
            for part in parts
        ):
            raise Uncapturable("an array is indexed by another")
        # A full integer index gives a scalar, not a view; with an ellipsis it gives an array without axes.
        return self.a[parts if Ellipsis in parts else (*parts, Ellipsis)]

    def __setitem__(self, index: Any, value: Any) -> None:
        view, value = self._view(index), _raw(value)
        np.copyto(view, value, "unsafe")
        self.recorder.note(np.copyto, (value,), view)

    def reshape(self, *shape: Any) -> Traced:
        reshaped = self.a.reshape(*shape)
        if np.shares_memory(reshaped, self.a) or self.a.size == 0:
            return Traced(reshaped, self.recorder)
        self.recorder.note(np.copyto, (self.a,), reshaped.reshape(self.a.shape))
        return Traced(reshaped, self.recorder)

    def sum(self, axis: Any = None, keepdims: bool = False) -> Traced:
        return self._reduce(np.add, axis, keepdims)

    def max(self, axis: Any = None, keepdims: bool = False) -> Traced:
        return self._reduce(np.maximum, axis, keepdims)

    def _reduce(self, ufunc: np.ufunc, axis: Any, keepdims: bool) -> Traced:
        out = ufunc.reduce(self.a, axis=axis, keepdims=keepdims)
        return self.recorder.note(ufunc.reduce, (self.a,), out, axis=axis, keepdims=keepdims)

    def copy(self) -> Traced:
        return self.recorder.note(np.copyto, (self.a,), self.a.copy())

    def astype(self, dtype: Any) -> Traced:
        return self.recorder.note(np.copyto, (self.a,), self.a.astype(dtype))

    def __deepcopy__(self, _: Any) -> Traced:
        return self.copy()

    __copy__ = copy

    def __draws__(self, generator: Generator, where: Any = None) -> Traced:
        if where is not None:
            raise Uncapturable("how many numbers are drawn depends on values")
        if all(generator is not known for known, _ in self.recorder.generators):
            self.recorder.generators.append((generator, generator.get_state()))
        return self.recorder.note(generator.uniform_, (), generator.rand(self.shape))

    def __on_values__(self, check: Callable[[NDArray[Any]], None]) -> None:
        """A check of every sample's values can be made once; one of computed values is an operation of the step."""
        # A micro-batch is a view of the batch.
        samples = self.recorder.samples.get(id(self.a), self.recorder.samples.get(id(self.a.base)))
        check(self.a if samples is None else samples)
        if samples is None:
            self.recorder.note(check, (self.a,), self.a, check=True)
        else:
            self.recorder.checks.append((check, samples))

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **options: Any) -> Any:
        if options or method != "__call__" or ufunc.nout != 1:
            raise Uncapturable(f"np.{ufunc.__name__}.{method} with options or with several results")
        if not all(isinstance(value, _KNOWN) for value in inputs):
            return NotImplemented
        raw = [_raw(value) for value in inputs]
        if out is None:
            result = ufunc(*raw)
        elif not isinstance(out[0], Traced):
            raise Uncapturable("a result goes into an array that is not recorded")
        else:
            result = out[0].a
            ufunc(*raw, out=result)
        arrays = [value for value in raw if isinstance(value, np.ndarray)]
        args = tuple(_number(value, arrays) if type(value) in (bool, int, float) else value for value in raw)
        return self.recorder.note(ufunc, args, result)

    def _refused(self, function: Any, how: str = "") -> Any:
        raise Uncapturable(f"np.{function.__name__}{how} has no rule for recorded arrays")


# What stands in an operation with others, such as `Runs`, is theirs to answer: they bring it back here.
_KNOWN = (Traced, np.ndarray, np.generic, bool, int, float)


Traced.BESIDE = _KNOWN


def _raw(value: Any) -> Any:
    return value.a if isinstance(value, Traced) else value


def _number(value: bool | float, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """A Python number as NumPy takes it beside these arrays."""
    try:
        return np.asarray(value, np.result_type(value, *arrays))
    except OverflowError:
        # Compared with integers that cannot be it, as -100 with unsigned ones: any dtype that holds it will do.
        return np.asarray(value)


def _recorder(*values: Any) -> Recorder:
    return next(value.recorder for value in values if isinstance(value, Traced))


def _where(condition: Any, a: Any, b: Any) -> Traced:
    args = (_raw(condition), _raw(a), _raw(b))
    return _recorder(condition, a, b).note(np.where, args, np.where(*args))


def _concatenate(arrays: Sequence[Any], axis: int = 0) -> Traced:
    raw = tuple(_raw(array) for array in arrays)
    return _recorder(*arrays).note(np.concatenate, raw, np.concatenate(raw, axis), axis=axis)


def _einsum(subscripts: str, *operands: Any) -> Traced:
    raw = tuple(_raw(operand) for operand in operands)
    return _recorder(*operands).note(np.einsum, raw, np.einsum(subscripts, *raw), subscripts=subscripts)


def _pad(a: Traced, width: Any) -> Traced:
    out = np.pad(a.a, width)
    inside = tuple(
        slice(before, before + size)
        for (before, _), size in zip(np.broadcast_to(width, (a.ndim, 2)).tolist(), a.shape, strict=True)
    )
    # The zeros around it stay; only the inside is new each time.
    view: NDArray[Any] = out[inside]
    a.recorder.note(np.copyto, (a.a,), view, pinned=True)
    return Traced(out, a.recorder)


@lru_cache
def _accumulated(axis: int) -> Callable[..., Any]:
    """One function for each axis, so that equal operations are recognized."""
    return lambda a, out: np.cumsum(a, axis, out=out)


def _cumsum(a: Traced, axis: int) -> Traced:
    return a.recorder.note(_accumulated(axis), (a.a,), np.cumsum(a.a, axis))


def _gather_into(a: Any, index: Any, out: NDArray[Any]) -> None:
    out[...] = special.gather(a, index)


def _scatter_into(a: Any, index: Any, out: NDArray[Any]) -> None:
    out[...] = special.scatter(a, index, out.shape[-2])


def _gather(_: Traced, a: Any, index: Any) -> Traced:
    args = (_raw(a), _raw(index))
    return _recorder(a, index).note(_gather_into, args, special.gather(*args))


def _scatter(_: Traced, a: Any, index: Any, rows: int) -> Traced:
    args = (_raw(a), _raw(index))
    return _recorder(a, index).note(_scatter_into, args, special.scatter(*args, rows))


def _lift(like: Traced, value: Any) -> Any:
    if not isinstance(value, Traced):
        return special.lift(value, like.a)
    return value if value.dtype == like.dtype else value.astype(like.dtype)


def _shift(X: Traced, axis: int) -> Any:
    return X.max(axis, keepdims=True) if X.shape[axis] else special.shift(X.a, axis)


# Every ufunc is carried out and noted down alike, listed or not: see `__array_ufunc__`.
Traced.FUNCTIONS = {
    **MEMBERS,
    **MOVES,
    np.sum: Traced.sum,
    np.where: _where,
    np.concatenate: _concatenate,
    np.pad: _pad,
    np.einsum: _einsum,
    np.cumsum: _cumsum,
}


def _one_minus_power(t: Traced, beta: float, like: Any) -> Any:
    made: Traced = special.FORMULAS["one_minus_power"](beta, t.astype(np.dtype(np.float64)))
    return made if made.dtype == like.dtype else made.astype(like.dtype)


def _of_counter(t: Traced, f: Callable[[Any, Any], Any], like: Any) -> Any:
    made: Traced = f(t, t.astype(np.dtype(np.float64)))
    return made if made.dtype == like.dtype else made.astype(like.dtype)


Traced.SPECIALS = {
    "lift": _lift,
    "shift": _shift,
    **special.FORMULAS,
    "maximum": lambda _, a, b: np.maximum(a, b),
    "amax": Traced.max,
    "gather": _gather,
    "scatter": _scatter,
    "one_minus_power": _one_minus_power,
    "of_counter": _of_counter,
}
