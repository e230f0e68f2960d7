"""Primitives that every arithmetic answers in its own way.

Layers are plain NumPy expressions; what an expression cannot say for all arithmetics at once is said here.
Floating-point arrays use the overflow-safe formula below. Arrays of another arithmetic answer through
`__special__(name, *args)`, and object arrays through their elements' method of the same name, so this module knows
none of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refnet.arithmetic import error_function
from refnet.generator import Generator

Array = Any  # float32 / float64 ndarray, object array of balls, budget array or Runs


def _answer(name: str, X: Array, formula: Callable[[Array], Array]) -> Array:
    if isinstance(X, (np.ndarray, np.generic)):
        if X.dtype.kind == "f":
            return formula(X)
        return np.frompyfunc(lambda element: getattr(element, name)(), 1, 1)(X)
    if isinstance(X, float):
        # What `lift` makes of a number beside an array without elements.
        return float(formula(np.float64(X)))
    return X.__special__(name)


def sigmoid(X: Array) -> Array:
    """1 / (1 + exp(-x)), elementwise. Accurate at both ends: where exp overflows, the quotient has already underflowed
    to 0.
    """
    return _answer("sigmoid", X, _sigmoid)


# In a small network these lines are felt: errstate is cheaper as a decorator, and a 0-d array than a Python number.
_FLOATS = (np.float16, np.float32, np.float64, np.longdouble)
_ONE = {np.dtype(t): np.ones((), t) for t in _FLOATS}
_MOST = {np.dtype(t): np.asarray(np.finfo(t).max, t) for t in _FLOATS}


@np.errstate(over="ignore")
def _sigmoid(X: Array) -> Array:
    one = _ONE[X.dtype]
    return one / (one + np.exp(-X))


def sigmoids(X: Array) -> tuple[Array, Array]:
    """`(s(x), s(-x))`, s the sigmoid, elementwise, both from one exponential: e / (1 + e) is s(-x) for e = exp(-x), and
    where exp overflows it is the limit 1. Neither is 1 minus the other, so both are accurate at both ends.

    An arithmetic that knows the sigmoid as a function has it twice; one that only follows what is done (`__follows__`)
    takes this way.
    """
    if isinstance(X, (np.ndarray, np.generic)) and X.dtype.kind == "f":
        return _sigmoids(X)
    if getattr(X, "__follows__", False):
        both: tuple[Array, Array] = X.__special__("sigmoids")
        return both
    return sigmoid(X), sigmoid(-X)


@np.errstate(over="ignore")
def _sigmoids(X: Array) -> tuple[Array, Array]:
    one = _ONE[X.dtype]
    E = np.exp(-X)
    F = np.minimum(E, _MOST[X.dtype])
    return one / (one + E), F / (one + F)


def log_sigmoid(X: Array) -> Array:
    """log(1 / (1 + exp(-x))) = min(x, 0) - log(1 + exp(-|x|)), elementwise, without overflow or cancellation."""
    return _answer("log_sigmoid", X, _log_sigmoid)


def _log_sigmoid(X: Array) -> Array:
    return np.minimum(X, 0) - np.log1p(np.exp(-np.abs(X)))


def erf(X: Array) -> Array:
    """The error function, elementwise; on floats that of `error_function`."""
    return _answer("erf", X, error_function.erf)


def erfc(X: Array) -> Array:
    """1 - erf(x), elementwise; on floats that of `error_function`, accurate where erf(x) rounds to 1."""
    return _answer("erfc", X, error_function.erfc)


def erf_derivative(X: Array) -> Array:
    """2 / sqrt(pi) exp(-x^2), elementwise. No arithmetic but that of floats could write the factor as a number."""
    return _answer("erf_derivative", X, error_function.erf_derivative)


def maximum(A: Array, B: Array) -> Array:
    """The larger of two, elementwise. At a tie each has half of the derivative, as in torch."""
    for X in (A, B):
        if not isinstance(X, (np.ndarray, np.generic, float, int)):
            return X.__special__("maximum", A, B)
    if any(isinstance(X, np.ndarray) and X.dtype == object for X in (A, B)):
        return np.frompyfunc(lambda a, b: a.maximum(b) if hasattr(a, "maximum") else b.maximum(a), 2, 1)(A, B)
    return np.maximum(A, B)


def amax(X: Array, axis: int, keepdims: bool = False) -> Array:
    """The largest element along an axis. Elements that tie share the derivative evenly, as in torch.amax."""
    if not isinstance(X, np.ndarray):
        return X.__special__("amax", axis, keepdims)
    if X.dtype == object:
        Y = _lanes(X, axis, lambda lane: [_leading(lane).amax(lane)])
        return Y if keepdims else Y.reshape([n for k, n in enumerate(X.shape) if k != axis % X.ndim])
    return X.max(axis=axis, keepdims=keepdims)


def amax_weights(X: Array, axis: int) -> Array:
    """The derivative of `amax` by each element: 1 for the largest, 1 / n for n that tie, otherwise 0."""
    if not isinstance(X, np.ndarray):
        return X.__special__("amax_weights", axis)
    if X.dtype == object:
        return _lanes(X, axis, lambda lane: _leading(lane).amax_weights(lane))
    return _amax_weights(X, axis)


def _amax_weights(X: Array, axis: int) -> Array:
    one = _ONE[X.dtype]
    largest = np.where(X.max(axis=axis, keepdims=True) == X, one, one - one)
    return largest / largest.sum(axis=axis, keepdims=True)


def _leading(lane: Any) -> Any:
    """An element that knows what the largest of its kind is; what np.pad and np.where fill in are Python numbers."""
    return next(x for x in lane if hasattr(x, "amax"))


def _lanes(X: Array, axis: int, f: Callable[[Any], Any]) -> Array:
    """f of the elements along an axis, for every place on the others; it gives a sequence."""
    moved = np.moveaxis(X, axis, -1)
    made = [f(moved[index]) for index in np.ndindex(moved.shape[:-1])]
    Y = np.empty((len(made), len(made[0])), object)
    for k, lane in enumerate(made):
        Y[k, :] = lane
    return np.moveaxis(Y.reshape(*moved.shape[:-1], -1), -1, axis)


def gather(X: Array, index: Any) -> Array:
    """Rows: Y[..., n..., i] = X[..., index[n...], i]. `index` is an array of integers, of any shape."""
    for answering in (X, index):
        if not isinstance(answering, np.ndarray):
            return answering.__special__("gather", X, index)
    return X[..., index, :]


def scatter(G: Array, index: Any, rows: int) -> Array:
    """The adjoint of `gather`: Y[..., k, i] is the sum of G[..., n..., i] over all n... with index[n...] = k.

    The rows of one k are added in pairs, and the sums in pairs again: the longest chain of additions grows with the
    logarithm of their number.
    """
    for answering in (G, index):
        if not isinstance(answering, np.ndarray):
            return answering.__special__("scatter", G, index, rows)
    flat = np.where(index < 0, index + rows, index).reshape(-1)
    before, width = G.shape[: G.ndim - 1 - index.ndim], G.shape[-1]
    order = np.argsort(flat, kind="stable")
    keys, sums = flat[order], np.moveaxis(G.reshape(*before, flat.size, width), -2, 0)[order]
    while True:
        first = np.concatenate([[True], keys[1:] != keys[:-1]])[: keys.size]
        if first.all():
            break
        places = np.arange(keys.size)
        odd = (places - np.maximum.accumulate(np.where(first, places, 0))) % 2 == 1
        sums[np.flatnonzero(odd) - 1] += sums[odd]
        keys, sums = keys[~odd], sums[~odd]
    Y = np.zeros((rows, *before, width), G.dtype)
    Y[keys] = sums
    return np.moveaxis(Y, 0, -2)


def one_minus_power(beta: float, t: Array, like: Array) -> Array:
    """1 - beta^t for 0 <= beta < 1 and a counter t = 1, 2, ..., as a constant of the arithmetic and dtype of `like`.

    On floats it is computed in binary64 whatever the dtype, as 2 T / (1 + T) with T = tanh(-t log(beta) / 2), where
    nothing cancels; other arithmetics take the exact power (of each counter, where there are several). A counter of
    another arithmetic (one for each run, or one that is recorded) answers itself.
    """
    if type(t) is not np.ndarray and not isinstance(t, (np.ndarray, np.generic)):
        return t.__special__("one_minus_power", beta, like)
    while type(like) is not np.ndarray and not isinstance(like, (np.ndarray, np.generic)) and hasattr(like, "a"):
        like = like.a
    if isinstance(like, (np.ndarray, np.generic)) and like.dtype.kind == "f":
        if t.ndim == 0:
            # (a single number as a scalar, which is quicker than an array without axes)
            return like.dtype.type(_one_minus_power(beta, np.float64(t)))
        return _one_minus_power(beta, t.astype(np.float64)).astype(like.dtype)
    own = getattr(like, "SPECIALS", {}).get("one_minus_power")
    if own is not None:
        return own(like, beta, t)
    powers = np.frompyfunc(lambda n: 1 - Fraction(beta) ** int(n), 1, 1)(t)
    return lift(powers, like)


def _one_minus_power(beta: float, t: Array) -> Array:
    T = np.tanh(t * (-math.log(beta) / 2 if beta > 0 else math.inf))
    return 2 * T / (1 + T)


def of_counter(f: Callable[[Array, Array], Array], t: Array, like: Array) -> Array:
    """f(t, T) of a counter t = 1, 2, ..., as a constant of the arithmetic and dtype of `like`.

    T is t as a number of the arithmetic. On floats f is computed in binary64 whatever the dtype, and the result
    rounded; f is written in listed functions, of its arguments alone: where t is one for each run, its t is not.
    A counter of another arithmetic answers itself, as in `one_minus_power`.
    """
    if not isinstance(t, (np.ndarray, np.generic)):
        return t.__special__("of_counter", f, like)
    while not isinstance(like, (np.ndarray, np.generic)) and hasattr(like, "a"):
        like = like.a
    if not isinstance(like, (np.ndarray, np.generic)):
        return like.__special__("of_counter", f, t)
    if like.dtype.kind == "f":
        return f(t, t.astype(np.float64)).astype(like.dtype)
    return f(t, lift(t, like))


def rand(generator: Generator, X: Array, where: Array | None = None) -> NDArray[np.float64]:
    """Uniform draws from [0, 1) of the shape of `X` (`Generator.rand`): plain numbers, whatever the arithmetic of X. An
    array that has something to say about it, such as one that records what is done, answers through `__draws__`.

    `where`: draws are made only where it is True, in C order, and are 0 elsewhere.
    """
    own = getattr(X, "__draws__", None)
    if own is not None:
        answered: NDArray[np.float64] = own(generator) if where is None else own(generator, where)
        return answered
    if where is None:
        return generator.rand(X.shape)
    draws = np.zeros(X.shape)
    draws[where] = generator.rand(int(np.count_nonzero(where)))
    return draws


def uniform(generator: Generator, X: Array, low: float, high: float, where: Array | None = None) -> Array:
    """`rand` from [low, high) in the dtype of X, and `low` where nothing is drawn; computed in binary64 between bounds
    of that dtype, as torch does."""
    a, b = (np.asarray(lift(bound, X), np.float64) for bound in (low, high))
    return lift(rand(generator, X, where) * (b - a) + a, X)


def shift(X: Array, axis: int) -> Array:
    """The largest element along `axis` (kept, of size 1) as a value and not as a function of X.

    log-sum-exp and softmax are the same for every shift, so the one chosen to prevent overflow has no derivative and
    needs no certainty. Along an axis without elements the shift is 0.
    """
    if not isinstance(X, np.ndarray):
        return X.__special__("shift", axis)
    if X.dtype == object:
        X = np.asarray(np.frompyfunc(float, 1, 1)(X), np.float64)
    if X.shape[axis] == 0:
        shape = list(X.shape)
        shape[axis] = 1
        return np.zeros(shape, X.dtype)
    return X.max(axis=axis, keepdims=True)


def largest(X: Array, axis: int) -> Array:
    """True at the place of the largest element along `axis`, at the first of equals, and False elsewhere: a choice and
    not a function of X, as `shift` is a value. What is right for every choice of one place may take it.
    """
    if not isinstance(X, np.ndarray):
        return X.__special__("largest", axis)
    if X.dtype == object:
        X = np.asarray(np.frompyfunc(float, 1, 1)(X), np.float64)
    if X.shape[axis] == 0:
        return np.zeros(X.shape, np.bool_)
    return np.expand_dims(X.argmax(axis=axis), axis) == _places(X, axis)


def _places(X: Array, axis: int) -> NDArray[np.int64]:
    """0, 1, ... along `axis`, with axes of size 1 behind it."""
    return np.arange(X.shape[axis]).reshape(-1, *(1,) * (-1 - axis))


def _largest(X: Array, axis: int) -> Array:
    places = -_places(X, axis)
    # Of the places with the largest element the first, which is the largest of the negated ones.
    first = np.where(shift(X, axis) == X, places, -X.shape[axis]).max(axis, keepdims=True)
    return first == places


DIRECT = 16
"""Terms of a sum that are added one after the other; and the most such sums that are added likewise."""

_add: Any = np.add.reduce  # what X.sum calls, without the way there

BLOCK = 1024
"""Terms of a sum of products that are left to one matrix product."""


def total(X: Array, axis: int | tuple[int, ...], keepdims: bool = False) -> Array:
    """The sum along an axis or several (negative), whose longest chain of additions is log2 n + 26 for each axis of n.

    NumPy adds the rows of a leading axis one after the other. Here an axis of more than 16 is cut into pieces of 16,
    and one of more than 256 is halved before that, one half added to the other. A sum along the axis that lies
    contiguous in memory stays NumPy's, which goes by halves too, down to 128 in 8 parts. Arithmetics whose sums have
    no order take their own sum.
    """
    if isinstance(X, np.ndarray):
        if type(axis) is int:
            few = X.shape[axis] <= DIRECT or X.dtype == object
            return _add(X, axis, None, None, keepdims) if few else _along(X, axis, keepdims)
        return X.sum(axis=axis, keepdims=keepdims) if X.dtype == object else _total(X, axis, keepdims)
    if getattr(X, "__follows__", False):
        return X.__special__("total", axis, keepdims)
    return X.sum(axis=axis, keepdims=keepdims)


def _total(X: Array, axis: int | tuple[int, ...], keepdims: bool = False) -> Array:
    axes = (axis,) if isinstance(axis, int) else tuple(sorted(axis, reverse=True))
    if len(axes) == 1:
        return _along(X, axes[0], keepdims)
    if math.prod([X.shape[a] for a in axes]) <= DIRECT:
        return X.sum(axis=axis, keepdims=keepdims)
    for a in axes:
        X = _along(X, a, True)
    return X if keepdims else X.sum(axis=axis)


def _along(X: Array, axis: int, keepdims: bool) -> Array:
    n = X.shape[axis]
    add = _add if type(X) is np.ndarray else _sum
    A = X.a if hasattr(X, "a") else X
    if n <= DIRECT or (A.strides[axis] == A.itemsize and _contiguous(A, axis)):
        return add(X, axis, None, None, keepdims)
    halvings = max((n - 1).bit_length() - 8, 0)
    most = n >> halvings << halvings
    S, k = (X if most == n else _cut(X, axis, 0, most)), most
    for _ in range(halvings):
        k //= 2
        S = _cut(S, axis, 0, k) + _cut(S, axis, k, 2 * k)
    pieces = k // DIRECT
    rest = [_cut(X, axis, most, n)] if most < n else []
    if k % DIRECT:
        rest.append(_cut(S, axis, pieces * DIRECT, k))
        S = _cut(S, axis, 0, pieces * DIRECT)
    at = S.ndim + axis
    S = S.reshape(*S.shape[:at], pieces, DIRECT, *S.shape[at + 1 :])
    made = add(add(S, axis), axis, None, None, keepdims)
    for part in rest:
        made = made + _along(part, axis, keepdims)
    return made


def _sum(X: Array, axis: int, dtype: None = None, out: None = None, keepdims: bool = False) -> Array:
    """What `_add` is, of an array that follows."""
    return X.sum(axis=axis, keepdims=keepdims)


def _contiguous(A: NDArray[Any], axis: int) -> bool:
    """Whether NumPy sums along this axis, whose elements are neighbours, first: no other has steps as small."""
    return all(abs(step) > A.itemsize for a, step in enumerate(A.strides, -A.ndim) if a != axis and A.shape[a] > 1)


def _cut(X: Array, axis: int, start: int, stop: int) -> Array:
    return X[(..., slice(start, stop), *(slice(None),) * (-1 - axis))]


def rows(A: Array) -> Array:
    """All leading axes as one: A (..., i) as (n, i)."""
    return A if A.ndim == 2 else A.reshape(math.prod(A.shape[:-1]), A.shape[-1])


def product(A: Array, B: Array, most: int = BLOCK) -> Array:
    """The matrix product `A @ B`, whose longest chain of additions is log2 n + `most` for an inner axis of n: a longer
    one is halved, and the two products added. How a product of up to that number of terms is added up is up to NumPy's
    library.

    Where B is a single matrix, all rows of A are multiplied at once: matmul would begin anew for each matrix of a
    stack, which takes two to three times as long for 16 of 32 rows (float32).
    """
    n = A.shape[-1]
    if A.ndim > 2 and B.ndim == 2:
        return product(rows(A), B, most).reshape(*A.shape[:-1], B.shape[-1])
    if n <= most:
        return A @ B
    half = n // 2
    return product(A[..., :half], B[..., :half, :], most) + product(A[..., half:], B[..., half:, :], most)


SAMPLES = 384
"""Samples that the gradient of a weight sums over in one matrix product."""


def over_samples(A: Array, B: Array) -> Array:
    """sum_n A[n,a] B[n,b], `A.mT @ B`, where n may be very long: in products of up to SAMPLES terms."""
    return A.mT @ B if A.shape[-2] <= SAMPLES else product(A.mT, B, SAMPLES)


def lift(value: Any, like: Array) -> Array:
    """`value` (a Python float, or an array of exact numbers) as a constant of the arithmetic and dtype of `like`.

    A float argument of a layer means its exact binary64 value. Lifted first, `1 - momentum` is computed in the
    arithmetic; written with Python floats it would be rounded to binary64 before any arithmetic saw it.
    """
    # (exact types first, here and below: the quicker question, and nearly always the answer)
    if type(like) is not np.ndarray and not isinstance(like, (np.ndarray, np.generic)):
        return like.__special__("lift", value)
    dtype = like.dtype
    if dtype.kind == "f":
        return dtype.type(value) if isinstance(value, (float, int)) else np.asarray(value, dtype)
    element = next((x for x in like.flat if hasattr(x, "lift")), None)
    if element is None:
        return value
    if np.ndim(value) == 0:
        return element.lift(value.item() if isinstance(value, (np.ndarray, np.generic)) else value)
    return np.frompyfunc(element.lift, 1, 1)(value)


def epsilon(like: Array, otherwise: Any) -> float:
    """The distance from 1 to the next number of the dtype of `like`. Balls have none: they take that of `otherwise`."""
    return float(np.finfo(like.dtype if like.dtype.kind == "f" else otherwise).eps)


FORMULAS: dict[str, Callable[..., Any]] = {
    "sigmoid": _sigmoid,
    "sigmoids": _sigmoids,
    "log_sigmoid": _log_sigmoid,
    "erf": error_function.erf,
    "erfc": error_function.erfc,
    "erf_derivative": error_function.erf_derivative,
    "amax_weights": _amax_weights,
    "one_minus_power": _one_minus_power,
    "largest": _largest,
    "total": _total,
}
"""What these are on floating-point arrays, for arithmetics that only follow what is done."""
