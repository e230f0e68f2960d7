"""What stands in no list of `refnet.arithmetic.functions`, translated into what does.

Each function is written in listed ones, and that is what its rounding is granted for. Where functions tie, the
derivative is torch's: of `maximum` and `minimum` half to each, of `max` and `min` evenly (torch.amax), of `clip` the
whole at a bound (torch.clamp), of `abs` and `sign` 0 at 0. The arrays are those of `parity.notation`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from parity import rearrangements
from parity.rearrangements import axes_of, first, inner
from refnet.arithmetic import functions, special
from refnet.arithmetic.array_like import ArrayLike, NoRule, Rule, named


def same_dtype(x: Any, name: str, dtype: Any) -> None:
    """An expression is computed in one format."""
    if dtype is not None and np.dtype(dtype) not in (np.dtype(x.dtype), np.dtype(float)):
        raise NoRule(f"{name}(dtype=...)")


def _listed(function: Any) -> Rule:
    """A listed function, on the arrays inside."""

    def rule(*args: Any, **kwargs: Any) -> Any:
        arrays = args[0] if isinstance(args[0], (list, tuple)) else args
        like = first(*arrays, *kwargs.values())
        return like._like(function(*map(inner, args), **{k: inner(v) for k, v in kwargs.items()}))

    return rule


# ---- elementwise


def _power(x: Any, p: Any) -> Any:
    if isinstance(p, ArrayLike) or np.ndim(p):
        # x^p = exp(p log x)
        return np.exp(p * np.log(x)) if isinstance(x, ArrayLike) else np.exp(p * math.log(x))
    exponent = float(p)
    if exponent == 2:
        return x * x
    if exponent == 0.5:
        return np.sqrt(x)
    return x._like(np.power(x.inner, int(exponent) if exponent == int(exponent) else exponent))


def _maximum(a: Any, b: Any) -> Any:
    return special.maximum(*(x if isinstance(x, ArrayLike) else np.asarray(x, float) for x in (a, b)))


def _minimum(a: Any, b: Any) -> Any:
    return -_maximum(np.negative(a), np.negative(b))


def _clip(x: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None, **_: None) -> Any:
    low, high = a_min if min is None else min, a_max if max is None else max
    y = x if low is None else np.where(x < low, low, x)
    return y if high is None else np.where(y > high, high, y)


def _sign(x: Any) -> Any:
    return np.where(x > 0, 1.0, np.where(x < 0, -1.0, x * 0.0))


def _logaddexp(x: Any, y: Any) -> Any:
    """max + log1p(exp(min - max))"""
    return _maximum(x, y) + np.log1p(np.exp(-abs(x - y)))


UFUNCS: dict[np.ufunc, Rule] = {
    np.maximum: _maximum,
    np.fmax: _maximum,
    np.minimum: _minimum,
    np.fmin: _minimum,
    np.fabs: np.absolute,
    np.positive: lambda x: x.copy(),
    np.square: lambda x: x * x,
    np.reciprocal: lambda x: 1 / x,
    np.power: _power,
    np.float_power: _power,
    np.sign: _sign,
    np.logaddexp: _logaddexp,
    np.exp2: lambda x: np.exp(x * math.log(2)),
    np.log2: lambda x: np.log(x) / math.log(2),
    np.log10: lambda x: np.log(x) / math.log(10),
    np.sinh: lambda x: (np.expm1(x) - np.expm1(-x)) / 2,
    np.cosh: lambda x: (np.exp(x) + np.exp(-x)) / 2,
    np.tan: lambda x: np.sin(x) / np.cos(x),
    np.hypot: lambda x, y: np.sqrt(x * x + y * y),
    np.deg2rad: lambda x: x * (math.pi / 180),
    np.rad2deg: lambda x: x * (180 / math.pi),
    np.vecdot: lambda x, y: np.sum(x * y, axis=-1),
    np.matvec: lambda x, y: (x @ np.expand_dims(y, -1))[..., 0],
}


# ---- reductions


def _count(x: Any, axis: Any) -> int:
    return math.prod(x.shape[a] for a in axes_of(x, axis))


def _mean(x: Any, axis: Any = None, dtype: Any = None, out: None = None, keepdims: bool = False) -> Any:
    same_dtype(x, "np.mean", dtype)
    return np.sum(x, axis=axis, keepdims=keepdims) / _count(x, axis)


def _average(x: Any, axis: Any = None, weights: Any = None, **how: Any) -> Any:
    if weights is None:
        return _mean(x, axis, **how)
    return np.sum(x * weights, axis=axis) / np.sum(np.broadcast_to(weights, x.shape), axis=axis)


def _var(
    x: Any,
    axis: Any = None,
    dtype: Any = None,
    out: None = None,
    ddof: float = 0,
    keepdims: bool = False,
    correction: float | None = None,
) -> Any:
    same_dtype(x, "np.var", dtype)
    d = x - _mean(x, axis, keepdims=True)
    return np.sum(d * d, axis=axis, keepdims=keepdims) / (
        _count(x, axis) - (ddof if correction is None else correction)
    )


def _std(*args: Any, **kwargs: Any) -> Any:
    return np.sqrt(_var(*args, **kwargs))


def _max(x: Any, axis: Any = None, out: None = None, keepdims: bool = False) -> Any:
    axes = axes_of(x, axis)
    others = [a for a in range(x.ndim) if a not in axes]
    joined = x.transpose(others + list(axes)).reshape(*(x.shape[a] for a in others), _count(x, axis))
    y = special.amax(joined, -1)
    return y.reshape([1 if a in axes else n for a, n in enumerate(x.shape)]) if keepdims else y


def _min(x: Any, *args: Any, **kwargs: Any) -> Any:
    return -_max(-x, *args, **kwargs)


def _prod(x: Any, axis: Any = None, dtype: None = None, out: None = None, keepdims: bool = False) -> Any:
    axes = axes_of(x, axis)
    others = [a for a in range(x.ndim) if a not in axes]
    factors = x.transpose(others + list(axes)).reshape(*(x.shape[a] for a in others), _count(x, axis))
    y = factors[..., 0]
    for k in range(1, factors.shape[-1]):
        y = y * factors[..., k]
    return y.reshape([1 if a in axes else n for a, n in enumerate(x.shape)]) if keepdims else y


def _cumsum(x: Any, axis: Any = None, dtype: None = None, out: None = None) -> Any:
    x, axis = (x.reshape(-1), -1) if axis is None else (x, axis)
    return x._like(np.cumsum(x.inner, axis=axis % x.ndim - x.ndim))


def _norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    matrix = (axis is None and x.ndim == 2) or isinstance(axis, (tuple, list))
    if ord in (None, "fro") or (ord == 2 and not matrix):
        return np.sqrt(np.sum(x * x, axis=axis, keepdims=keepdims))
    if ord == 1 and not matrix:
        return np.sum(abs(x), axis=axis, keepdims=keepdims)
    if ord == np.inf and not matrix:
        return _max(abs(x), axis=axis, keepdims=keepdims)
    raise NoRule(f"np.linalg.norm(ord={ord})")


REDUCTIONS: dict[np.ufunc, dict[str, Rule]] = {
    np.add: {"reduce": np.sum, "accumulate": _cumsum},
    np.multiply: {"reduce": _prod},
    np.maximum: {"reduce": _max},
    np.minimum: {"reduce": _min},
}


# ---- products


def _dot(a: Any, b: Any) -> Any:
    if not np.ndim(a) or not np.ndim(b):
        return a * b
    if np.ndim(b) <= 2:
        return a @ b
    return np.tensordot(a, b, axes=(-1, -2))


def _outer(a: Any, b: Any) -> Any:
    return np.reshape(a, (-1, 1)) * np.reshape(b, (1, -1))


def _tensordot(a: Any, b: Any, axes: Any = 2) -> Any:
    if isinstance(axes, int):
        axes = (list(range(np.ndim(a) - axes, np.ndim(a))), list(range(axes)))
    of_a, of_b = (
        [x % np.ndim(v) for x in np.atleast_1d(given).tolist()] for v, given in zip((a, b), axes, strict=True)
    )
    s = [chr(97 + k) for k in range(np.ndim(a))]
    t = [chr(97 + np.ndim(a) + k) for k in range(np.ndim(b))]
    for i, j in zip(of_a, of_b, strict=True):
        t[j] = s[i]
    kept = [c for k, c in enumerate(s) if k not in of_a] + [c for k, c in enumerate(t) if k not in of_b]
    return np.einsum(f"{''.join(s)},{''.join(t)}->{''.join(kept)}", a, b)


def _einsum(subscripts: str, *operands: Any, optimize: Any = False, **other: Any) -> Any:
    if other or not isinstance(subscripts, str):
        raise NoRule("np.einsum with lists of axes or with options")
    inputs, arrow, output = subscripts.replace(" ", "").partition("->")
    terms = inputs.split(",")
    ranks = [np.ndim(o) - len(term.replace("...", "")) for term, o in zip(terms, operands, strict=True)]
    free = [c for c in "ZYXWVUTSRQ" if c not in subscripts]
    dots = "".join(free[: max((r for r, term in zip(ranks, terms, strict=True) if "..." in term), default=0)])
    terms = [term.replace("...", dots[len(dots) - r :] if r else "") for term, r in zip(terms, ranks, strict=True)]
    if not arrow:
        letters = "".join(terms)
        output = dots + "".join(sorted(c for c in {*letters} - {*dots} if letters.count(c) == 1))
    like = first(*operands)
    output = output.replace("...", dots)
    sizes = {c: n for term, o in zip(terms, operands, strict=True) for c, n in zip(term, np.shape(o), strict=True)}
    like.meter.products += math.prod(sizes.values())
    made = [_diagonal(o, term) for o, term in zip(operands, terms, strict=True)]
    return like._like(np.einsum(f"{','.join(term for _, term in made)}->{output}", *(inner(o) for o, _ in made)))


def _diagonal(a: Any, term: str) -> tuple[Any, str]:
    """An operand without an index twice."""
    for c in dict.fromkeys(term):
        while term.count(c) > 1:
            first = term.index(c)
            second = term.index(c, first + 1)
            rest = [k for k in range(a.ndim) if k not in (first, second)]
            n = a.shape[first]
            a = np.transpose(a, (*rest, first, second))[..., np.arange(n), np.arange(n)]
            term = "".join(term[k] for k in rest) + c
    return a, term


def _triangle(function: Any) -> Rule:
    return lambda x, k=0: np.where(function(np.ones(x.shape[-2:], bool), k), x, 0.0)


def _filled(number: float | None) -> Rule:
    """`np.zeros(shape, like=x)` and the like."""

    def fresh(like: Any, shape: Any, *more: Any, fill_value: Any = None, **_: Any) -> Any:
        value = number if number is not None else more[0] if more else fill_value
        return like._like(special.lift(np.full(shape, float(value)), like.inner))

    return fresh


def _filled_like(number: float | None) -> Rule:
    """`np.zeros_like(x)` and the like."""
    fresh = _filled(number)
    return lambda x, *more, shape=None, **how: fresh(x, x.shape if shape is None else shape, *more, **how)


def _array(like: Any, a: Any, dtype: Any = None, **_: Any) -> Any:
    """`np.array([...], like=x)`, also of a list that has such arrays in it."""
    if isinstance(a, ArrayLike):
        return a.copy()
    if isinstance(a, (list, tuple)) and any(isinstance(x, (ArrayLike, list, tuple)) for x in a):
        return rearrangements.stack([_array(like, x) for x in a])
    return like._like(special.lift(np.asarray(a, float), like.inner))


CREATION: dict[Any, Rule] = {
    **{f: _filled(0.0) for f in (np.zeros, np.empty)},
    np.ones: _filled(1.0),
    np.full: _filled(None),
    **dict.fromkeys((np.array, np.asarray), _array),
}
"""Functions that make an array like the one given with `like=`, which they get first."""

FUNCTIONS: dict[Any, Rule] = {
    **{f: _listed(f) for f in named(("expand_dims", "broadcast_to", "pad", "lib.stride_tricks.sliding_window_view"))},
    np.reshape: lambda x, shape, **how: x.reshape(shape, **how),
    np.ndim: lambda x: x.ndim,
    np.shape: lambda x: x.shape,
    np.size: lambda x, axis=None: x.size if axis is None else x.shape[axis],
    np.copy: lambda x, **_: x.copy(),
    np.sum: lambda x, *args, **kwargs: x.sum(*args, **kwargs),
    np.where: rearrangements.where,
    np.concatenate: rearrangements.concatenate,
    np.einsum: _einsum,
    np.cumsum: _cumsum,
    np.mean: _mean,
    np.average: _average,
    np.var: _var,
    np.std: _std,
    np.max: _max,
    np.min: _min,
    np.amax: _max,
    np.amin: _min,
    np.ptp: lambda x, axis=None, **how: _max(x, axis, **how) - _min(x, axis, **how),
    np.prod: _prod,
    np.linalg.norm: _norm,
    np.linalg.vector_norm: lambda x, axis=None, keepdims=False, ord=2: _norm(
        x.reshape(-1) if axis is None else x, ord, axis, keepdims
    ),
    np.clip: _clip,
    np.dot: _dot,
    np.inner: lambda a, b: np.tensordot(a, b, axes=(-1, -1)) if np.ndim(a) and np.ndim(b) else a * b,
    np.vdot: lambda a, b: np.reshape(a, -1) @ np.reshape(b, -1),
    np.outer: _outer,
    np.linalg.outer: _outer,
    np.tensordot: _tensordot,
    np.trace: lambda x: np.einsum("ii->", x),
    np.diagonal: lambda x: np.einsum("...ii->...i", x),
    np.take: rearrangements.take,
    np.take_along_axis: rearrangements.take_along_axis,
    np.sort: rearrangements.sort,
    np.stack: rearrangements.stack,
    np.vstack: lambda arrays: np.concatenate([np.reshape(a, (-1, np.shape(a)[-1])) for a in arrays], axis=0),
    np.hstack: lambda arrays: np.concatenate(arrays, axis=0 if np.ndim(arrays[0]) == 1 else 1),
    np.transpose: lambda x, axes=None: x.transpose(axes),
    np.matrix_transpose: lambda x: x.mT,
    np.swapaxes: rearrangements.swapaxes,
    np.moveaxis: lambda x, source, destination: x.transpose(rearrangements.moved_axes(x, source, destination)),
    np.ravel: lambda x, order="C": x.reshape(-1, order=order),
    np.squeeze: rearrangements.squeeze,
    np.tile: rearrangements.tile,
    np.repeat: rearrangements.repeat,
    np.flip: rearrangements.flip,
    np.roll: rearrangements.roll,
    np.diff: lambda x, n=1, axis=-1: _differences(x, n, axis),
    np.triu: _triangle(np.triu),
    np.tril: _triangle(np.tril),
    **{f: _filled_like(0.0) for f in (np.zeros_like, np.empty_like)},
    np.ones_like: _filled_like(1.0),
    np.full_like: _filled_like(None),
}


def _differences(x: Any, n: int, axis: int) -> Any:
    before = (*[slice(None)] * (axis % x.ndim), slice(None, -1))
    after = (*[slice(None)] * (axis % x.ndim), slice(1, None))
    return x if n == 0 else _differences(x[after] - x[before], n - 1, axis)


EQUIVALENTS = {
    **dict.fromkeys(("zeros", "ones", "empty", "full"), "np.zeros(shape, like=x), and so on"),
    "argmax": "indices that are found before, and given as an array of integers",
    "median": "np.sort(x)[k]",
    **dict.fromkeys(("erf", "erfc"), "refnet.arithmetic.special.erf(x)"),
    "arcsinh": "np.log(x + np.sqrt(x * x + 1))",
    "arccosh": "np.log(x + np.sqrt(x * x - 1))",
    "arctanh": "(np.log1p(x) - np.log1p(-x)) / 2",
}
"""How to write what has no rule, by the last part of its name."""


def advice(what: str) -> str:
    """What to write for a function that has no rule, by its name."""
    name, argument, _ = what.partition("(")
    if argument:
        return f"expected {name} without this argument, got {what}"
    equivalent = EQUIVALENTS.get(name.rsplit(".", 1)[-1])
    if equivalent:
        return f"{what} has no rule for rounding; write it as {equivalent}"
    ufuncs = sorted({*functions.UFUNCS, *(u.__name__ for u in UFUNCS)})
    others = sorted({f.__name__ for f in FUNCTIONS} | {*functions.FUNCTIONS})
    listed = ", ".join(f"np.{name}" for name in [*ufuncs, *others])
    return f"{what} has no rule for rounding; expected functions among {listed}"
