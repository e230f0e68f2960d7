"""Many runs at once: an array with a hidden leading axis.

`Runs(a)` holds one array a run, stacked along axis 0 of `a`, and behaves like one of them: its shape, axes and indexing know nothing of the
run axis. A naked extra axis would not do, since no layer could tell it from a batch axis. The inner array may be of floats or of any other
arithmetic that answers to NumPy's two protocols.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from refnet import special


class Runs(np.lib.mixins.NDArrayOperatorsMixin):
    """Arrays of R runs: `a` has shape (R, *shape).

    Raises:
        ValueError: `a` has no axis for the runs.
    """

    __slots__ = ("a",)

    def __init__(self, a: Any) -> None:
        if a.ndim == 0:
            raise ValueError("Runs: expected an array with a leading run axis, got a 0-d array")
        self.a = a

    shape = property(lambda self: self.a.shape[1:])
    ndim = property(lambda self: self.a.ndim - 1)
    size = property(lambda self: math.prod(self.a.shape[1:]))
    dtype = property(lambda self: self.a.dtype)
    mT = property(lambda self: Runs(self.a.mT))

    def __repr__(self) -> str:
        return f"Runs({self.a!r})"

    def __bool__(self) -> bool:
        raise TypeError("Runs: expected one decision for all runs, got a condition that may differ between them")

    def __getitem__(self, index: Any) -> Runs:
        return Runs(self.a[(slice(None), *(index if isinstance(index, tuple) else (index,)))])

    def __setitem__(self, index: Any, value: Any) -> None:
        inside = (slice(None), *(index if isinstance(index, tuple) else (index,)))
        self.a[inside] = _aligned(value, self.a[inside].ndim - 1)

    def reshape(self, *shape: Any) -> Runs:
        inside = shape[0] if len(shape) == 1 and isinstance(shape[0], tuple) else shape
        if -1 in inside:
            known = math.prod(n for n in inside if n != -1)
            inside = tuple(self.size // known if n == -1 and known else max(n, 0) for n in inside)
        return Runs(self.a.reshape(self.a.shape[0], *inside))

    def sum(self, axis: Any = None, keepdims: bool = False) -> Runs:
        axes = tuple(range(-self.ndim, 0)) if axis is None else tuple(_inner(x) for x in np.atleast_1d(axis).tolist())
        return Runs(self.a.sum(axis=axes, keepdims=keepdims))

    def copy(self) -> Runs:
        return Runs(self.a.copy())

    def astype(self, dtype: Any) -> Runs:
        return Runs(self.a.astype(dtype))

    def __special__(self, name: str, *args: Any) -> Any:
        if name == "lift":
            (value,) = args
            # One value a run is aligned when it is used; a value for all runs is a constant of the inner arithmetic.
            return value if isinstance(value, Runs) else special.lift(value, self.a)
        if name == "shift":
            return Runs(special.shift(self.a, _inner(*args)))
        return Runs(getattr(special, name)(self.a))

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method != "__call__" or kwargs:
            return NotImplemented
        if ufunc is np.matmul:
            return Runs(_matmul(*inputs))
        ndim = max(np.ndim(i) for i in inputs)
        return Runs(ufunc(*(_aligned(i, ndim) for i in inputs)))

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        rule = FUNCTIONS.get(function)
        return NotImplemented if rule is None else rule(*args, **kwargs)


def _inner(axis: int) -> int:
    if axis >= 0:
        raise ValueError(f"Runs: expected a negative axis, got {axis}")
    return axis


def _aligned(value: Any, ndim: int) -> Any:
    """The inner array with its run axis in front of `ndim` others; a plain operand, the same for all runs, as it is."""
    if not isinstance(value, Runs):
        return value
    missing = ndim - value.ndim
    return value.a if missing == 0 else value.a.reshape(value.a.shape[0], *(1,) * missing, *value.shape)


def _matmul(a: Any, b: Any) -> Any:
    if np.ndim(a) == 1 and np.ndim(b) == 1:
        return (_aligned(a, 1) * _aligned(b, 1)).sum(axis=-1)
    if np.ndim(a) == 1:
        return (np.expand_dims(_aligned(a, 1), -2) @ _aligned(b, np.ndim(b)))[..., 0, :]
    if np.ndim(b) == 1:
        return (_aligned(a, np.ndim(a)) @ np.expand_dims(_aligned(b, 1), -1))[..., 0]
    ndim = max(np.ndim(a), np.ndim(b))
    return np.matmul(_aligned(a, ndim), _aligned(b, ndim))


def _where(condition: Any, a: Any, b: Any) -> Runs:
    ndim = max(np.ndim(v) for v in (condition, a, b))
    return Runs(np.where(_aligned(condition, ndim), _aligned(a, ndim), _aligned(b, ndim)))


def _concatenate(arrays: Sequence[Any], axis: int = 0) -> Runs:
    runs = next(len(a.a) for a in arrays if isinstance(a, Runs))
    parts = [a.a if isinstance(a, Runs) else np.broadcast_to(a, (runs, *np.shape(a))) for a in arrays]
    return Runs(np.concatenate(parts, _inner(axis)))


def _einsum(subscripts: str, *operands: Any) -> Runs:
    inputs, output = subscripts.split("->")
    run = next(c for c in "ZYXWVU" if c not in subscripts)
    marked = ",".join((run if isinstance(o, Runs) else "") + term for term, o in zip(inputs.split(","), operands, strict=True))
    return Runs(np.einsum(f"{marked}->{run}{output}", *(o.a if isinstance(o, Runs) else o for o in operands)))


FUNCTIONS: dict[Any, Callable[..., Any]] = {
    np.where: _where,
    np.sum: Runs.sum,
    np.expand_dims: lambda a, axis: Runs(np.expand_dims(a.a, _inner(axis))),
    np.reshape: lambda a, shape: a.reshape(shape),
    np.broadcast_to: lambda a, shape: Runs(np.broadcast_to(_aligned(a, len(shape)), (len(a.a), *shape))),
    np.concatenate: _concatenate,
    np.pad: lambda a, width: Runs(np.pad(a.a, [(0, 0), *width])),
    np.einsum: _einsum,
    np.ndim: lambda a: a.ndim,
    np.shape: lambda a: a.shape,
    np.copy: lambda a: a.copy(),
    sliding_window_view: lambda a, window, axis: Runs(sliding_window_view(a.a, window, tuple(_inner(x) for x in np.atleast_1d(axis).tolist()))),
}
