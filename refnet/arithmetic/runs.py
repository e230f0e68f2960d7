"""Many runs at once: an array with a hidden leading axis.

`Runs(a)` holds one array a run, stacked along axis 0 of `a`, and behaves like one of them: its shape, axes and indexing
know nothing of the run axis. A naked extra axis would not do, since no layer could tell it from a batch axis. The inner
array may be of floats, of objects, or of any other arithmetic that answers to NumPy's two protocols. On floats every
run comes out with the bits that it has alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from refnet import _check
from refnet.arithmetic import special
from refnet.arithmetic.array_like import MEMBERS, ArrayLike, Rule


class Runs(ArrayLike, inner="a"):
    """Arrays of R runs: `a` has shape (R, *shape).

    Raises:
        ValueError: `a` has no axis for the runs.
    """

    __slots__ = ("a",)
    __follows__ = True

    def __init__(self, a: Any) -> None:
        if a.ndim == 0:
            raise ValueError("Runs: expected an array with a leading run axis, got a 0-d array")
        self.a = a

    shape = property(lambda self: self.a.shape[1:])
    ndim = property(lambda self: self.a.ndim - 1)
    size = property(lambda self: math.prod(self.a.shape[1:]))
    # A shorter way than by `_moved`: layers ask for it in every update.
    mT = property(lambda self: Runs(self.a.mT))  # noqa: N815  NumPy's name

    def __repr__(self) -> str:
        return f"Runs({self.a!r})"

    def __bool__(self) -> bool:
        raise TypeError("Runs: expected one decision for all runs, got a condition that may differ between them")

    def _moved(self, f: Rule) -> Runs:
        return Runs(f(self.a))

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
        axes = tuple(range(-self.ndim, 0)) if axis is None else _inner_axes(axis)
        return Runs(self.a.sum(axis=axes, keepdims=keepdims))

    def astype(self, dtype: Any) -> Runs:
        return Runs(self.a.astype(dtype))

    def __draws__(self, generator: Any, where: Any = None) -> Any:
        raise TypeError("Runs: expected a layer that draws nothing, got one with a generator, which runs cannot share")

    def __on_values__(self, check: Callable[[Any], None]) -> None:
        _check.on_values(self.a, check)

    def _each(self, ufunc: np.ufunc, inputs: tuple[Any, ...]) -> Runs:
        ndim = max(map(_ndim, inputs))
        return Runs(ufunc(*(_aligned(i, ndim) for i in inputs)))


def plain(array: Any) -> Any:
    """The inner array of runs; any other as it is."""
    return array.a if isinstance(array, Runs) else array


def _inner(axis: int) -> int:
    if axis >= 0:
        raise ValueError(f"Runs: expected a negative axis, got {axis}")
    return axis


def _inner_axes(axes: Any) -> tuple[int, ...]:
    return tuple(_inner(axis) for axis in np.atleast_1d(axes).tolist())


def _aligned(value: Any, ndim: int) -> Any:
    """The inner array with its run axis in front of `ndim` others; a plain operand, the same for all runs, as it is."""
    if not isinstance(value, Runs):
        return value
    missing = ndim - value.ndim
    return value.a if missing == 0 else value.a.reshape(value.a.shape[0], *(1,) * missing, *value.shape)


def _ndim(value: Any) -> int:
    """np.ndim, without the way through NumPy's protocol."""
    return value.a.ndim - 1 if isinstance(value, Runs) else np.ndim(value)


def _matmul(a: Any, b: Any) -> Runs:
    if _ndim(b) == 1:
        return _matmul(a, np.expand_dims(b, -1))[..., 0]
    if _ndim(a) == 1:
        return _matmul(np.expand_dims(a, -2), b)[..., 0, :]
    ndim = max(_ndim(a), _ndim(b))
    return Runs(np.matmul(_aligned(a, ndim), _aligned(b, ndim)))


def _where(condition: Any, a: Any, b: Any) -> Runs:
    ndim = max(map(_ndim, (condition, a, b)))
    return Runs(np.where(_aligned(condition, ndim), _aligned(a, ndim), _aligned(b, ndim)))


def _concatenate(arrays: Sequence[Any], axis: int = 0) -> Runs:
    runs = next(len(a.a) for a in arrays if isinstance(a, Runs))
    parts = [a.a if isinstance(a, Runs) else np.broadcast_to(a, (runs, *np.shape(a))) for a in arrays]
    return Runs(np.concatenate(parts, _inner(axis)))


def _einsum(subscripts: str, *operands: Any) -> Runs:
    inputs, arrow, output = subscripts.replace(" ", "").partition("->")
    if not arrow:
        raise ValueError(f"Runs: expected einsum subscripts with '->', got {subscripts!r}")
    run = next(c for c in "ZYXWVU" if c not in subscripts)
    terms = [run * isinstance(o, Runs) + term for term, o in zip(inputs.split(","), operands, strict=True)]
    return Runs(np.einsum(f"{','.join(terms)}->{run}{output}", *(o.a if isinstance(o, Runs) else o for o in operands)))


def _pad(a: Runs, width: Any) -> Runs:
    return Runs(np.pad(a.a, [(0, 0), *np.broadcast_to(width, (a.ndim, 2)).tolist()]))


def _expand_dims(a: Runs, axis: Any) -> Runs:
    return Runs(np.expand_dims(a.a, _inner_axes(axis)))


def _windows(a: Runs, window: Any, axis: Any) -> Runs:
    return Runs(sliding_window_view(a.a, window, _inner_axes(axis)))


def _broadcast_to(a: Runs, shape: tuple[int, ...]) -> Runs:
    return Runs(np.broadcast_to(_aligned(a, len(shape)), (len(a.a), *shape)))


def _cumsum(a: Runs, axis: int) -> Runs:
    return Runs(np.cumsum(a.a, axis=_inner(axis)))


def _maximum(_: Runs, a: Any, b: Any) -> Runs:
    ndim = max(map(_ndim, (a, b)))
    return Runs(special.maximum(_aligned(a, ndim), _aligned(b, ndim)))


def _by_index(function: Rule) -> Rule:
    """A gather or a scatter, run by run where each run has an index of its own."""

    def rule(_: Runs, a: Any, index: Any, *rows: int) -> Runs:
        if not isinstance(index, Runs):
            return Runs(function(a.a, index, *rows))
        runs = [function(a.a[k] if isinstance(a, Runs) else a, own, *rows) for k, own in enumerate(index.a)]
        return Runs(np.concatenate([np.expand_dims(run, 0) for run in runs], axis=0))

    return rule


def _lift(like: Runs, value: Any) -> Any:
    if not isinstance(value, Runs):
        return special.lift(value, like.a)
    # One value a run is aligned when it is used.
    plain = isinstance(value.a, np.ndarray) and value.a.dtype != object
    return Runs(special.lift(value.a, like.a)) if plain else value


Runs.UFUNCS = {np.matmul: _matmul}

Runs.FUNCTIONS = {
    **MEMBERS,
    np.sum: Runs.sum,
    np.where: _where,
    np.expand_dims: _expand_dims,
    np.broadcast_to: _broadcast_to,
    np.concatenate: _concatenate,
    np.pad: _pad,
    np.einsum: _einsum,
    np.cumsum: _cumsum,
    sliding_window_view: _windows,
}

Runs.SPECIALS = {
    "lift": _lift,
    "shift": lambda X, axis: Runs(special.shift(X.a, _inner(axis))),
    "largest": lambda X, axis: Runs(special.largest(X.a, _inner(axis))),
    "total": lambda X, axis, keepdims: Runs(special.total(X.a, _inner_axes(axis), keepdims)),
    "sigmoid": lambda X: Runs(special.sigmoid(X.a)),
    "sigmoids": lambda X: tuple(map(Runs, special.sigmoids(X.a))),
    "log_sigmoid": lambda X: Runs(special.log_sigmoid(X.a)),
    "erf": lambda X: Runs(special.erf(X.a)),
    "erfc": lambda X: Runs(special.erfc(X.a)),
    "erf_derivative": lambda X: Runs(special.erf_derivative(X.a)),
    "maximum": _maximum,
    "amax": lambda X, axis, keepdims: Runs(special.amax(X.a, _inner(axis), keepdims)),
    "amax_weights": lambda X, axis: Runs(special.amax_weights(X.a, _inner(axis))),
    "gather": _by_index(special.gather),
    "scatter": _by_index(special.scatter),
    "one_minus_power": lambda t, beta, like: Runs(special.one_minus_power(beta, t.a, like)),
    "of_counter": lambda t, f, like: Runs(special.of_counter(f, t.a, like)),
}
