"""NumPy's functions that move elements about, on the arrays of an expression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from refnet.arithmetic.array_like import ArrayLike, NoRule


def inner(value: Any) -> Any:
    """The arrays inside those of an expression, also in lists and tuples."""
    if isinstance(value, (list, tuple)):
        return type(value)(map(inner, value))
    return getattr(value, "inner", value) if isinstance(value, ArrayLike) else value


def first(*values: Any) -> Any:
    return next(v for v in values if isinstance(v, ArrayLike))


def axes_of(x: Any, axis: Any) -> tuple[int, ...]:
    return tuple(range(x.ndim)) if axis is None else tuple(a % x.ndim for a in np.atleast_1d(axis).tolist())


def where(condition: Any, a: Any = None, b: Any = None) -> Any:
    if a is None or b is None:
        raise NoRule("np.where with a condition alone")
    return first(a, b)._like(np.where(condition, inner(a), inner(b)))


def take(a: Any, indices: Any, axis: int | None = None, out: None = None, mode: str = "raise") -> Any:
    if axis is None:
        return a.reshape(-1)[indices]
    return a[(*[slice(None)] * (axis % a.ndim), indices)]


def take_along_axis(a: Any, indices: Any, axis: int | None = -1) -> Any:
    if axis is None:
        return a.reshape(-1)[np.ravel(indices)]
    indices = np.asarray(indices)
    grid: list[Any] = list(np.ogrid[tuple(slice(n) for n in indices.shape)])
    grid[axis % a.ndim] = indices
    return a[tuple(grid)]


def sort(x: Any, axis: int | None = -1, kind: str | None = None, order: None = None, stable: None = None) -> Any:
    """A permutation, which is decided by comparing neighbours."""
    if axis is None:
        x, axis = x.reshape(-1), -1
    order_of = np.argsort(values(x.inner), axis=axis, kind="stable")
    y = take_along_axis(x, order_of, axis)
    moved = y.transpose([a for a in range(x.ndim) if a != axis % x.ndim] + [axis % x.ndim])
    if not bool(np.all(moved[..., :-1] <= moved[..., 1:])):
        raise AssertionError("np.sort: not in order")
    return y


def values(inner: Any) -> Any:
    """The elements as floats, near enough to sort by."""
    while hasattr(inner, "level"):
        inner = inner.value
    balls = getattr(inner, "balls", None)
    if balls is None:
        return inner.x if hasattr(inner, "profile") else np.vectorize(float, otypes=[float])(inner.nodes)
    return np.vectorize(float, otypes=[float])(balls)


def stack(arrays: Sequence[Any], axis: int = 0, **_: None) -> Any:
    return np.concatenate([np.expand_dims(a, axis) for a in arrays], axis=axis)


def concatenate(arrays: Sequence[Any], axis: int | None = 0, **_: None) -> Any:
    parts = [np.reshape(a, -1) for a in arrays] if axis is None else arrays
    return first(*parts)._like(np.concatenate([inner(a) for a in parts], axis or 0))


def swapaxes(x: Any, axis1: int, axis2: int) -> Any:
    order = list(range(x.ndim))
    order[axis1], order[axis2] = order[axis2], order[axis1]
    return x.transpose(order)


def moved_axes(x: Any, source: Any, destination: Any) -> list[int]:
    froms, tos = (list(axes_of(x, given)) for given in (source, destination))
    order = [a for a in range(x.ndim) if a not in froms]
    for to, a in sorted(zip(tos, froms, strict=True)):
        order.insert(to, a)
    return order


def squeeze(x: Any, axis: Any = None) -> Any:
    gone = axes_of(x, axis) if axis is not None else [a for a, n in enumerate(x.shape) if n == 1]
    return x.reshape([n for a, n in enumerate(x.shape) if a not in gone])


def tile(x: Any, reps: Any) -> Any:
    return x[tuple(np.ix_(*(np.arange(n * r) % n for n, r in zip(x.shape, repeats(x, reps), strict=True))))]


def repeats(x: Any, reps: Any) -> list[int]:
    given: list[int] = np.atleast_1d(reps).tolist()
    if len(given) > x.ndim:
        raise NoRule("np.tile with more repetitions than axes")
    return [1] * (x.ndim - len(given)) + given


def repeat(x: Any, repeats: Any, axis: int | None = None) -> Any:
    n = x.size if axis is None else x.shape[axis]
    return take(x, np.repeat(np.arange(n), repeats), axis)


def flip(x: Any, axis: Any = None) -> Any:
    axes = axes_of(x, axis)
    return x[tuple(slice(None, None, -1) if a in axes else slice(None) for a in range(x.ndim))]


def roll(x: Any, shift: Any, axis: Any = None) -> Any:
    return x.reshape(-1)[np.roll(np.arange(x.size).reshape(x.shape), shift, axis)]
