"""Harmless rewritings: equal in exact arithmetic and as accurate. A yardstick that flags one of them is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from parity.families.altered import Rules
from parity.families.fault import Fault, replaced
from parity.records.facts import MODULES
from refnet.arithmetic import special
from refnet.arithmetic.fma import fma

Array = np.ndarray[Any, Any]
Order = Callable[[Array], Array]
"""Adds up the last axis."""

CONTRACTIONS = tuple(name for name, facts in MODULES.items() if facts.products)


def _one_by_one(terms: Array) -> Array:
    return np.add.accumulate(terms, axis=-1)[..., -1] if terms.shape[-1] else terms.sum(axis=-1)


def _reversed(terms: Array) -> Array:
    return _one_by_one(terms[..., ::-1])


def _in_blocks(terms: Array) -> Array:
    parts = [_one_by_one(terms[..., k : k + 4]) for k in range(0, terms.shape[-1], 4)]
    return _one_by_one(np.stack(parts, axis=-1)) if parts else _one_by_one(terms)


def _pairwise(terms: Array) -> Array:
    while terms.shape[-1] > 1:
        pairs = terms.shape[-1] // 2
        terms = np.concatenate(
            [terms[..., : 2 * pairs : 2] + terms[..., 1 : 2 * pairs : 2], terms[..., 2 * pairs :]], axis=-1
        )
    return _one_by_one(terms)


def _summing(order: Order) -> Rules:
    def total(a: Array, axis: Any = None, keepdims: bool = False) -> Array:
        axes = tuple(range(a.ndim)) if axis is None else tuple(k % a.ndim for k in np.atleast_1d(axis).tolist())
        others = tuple(k for k in range(a.ndim) if k not in axes)
        shape = [1 if k in axes else n for k, n in enumerate(a.shape)]
        terms = (
            a.transpose(*others, *axes).reshape(*(a.shape[k] for k in others), -1)
            if a.size
            else a.sum(axis=axes)[..., None]
        )
        summed = order(terms)
        return summed.reshape(shape) if keepdims else summed

    return {"sum": total, "matmul": _matmul(lambda a, b: order(np.moveaxis(a[..., None] * b[..., None, :, :], -2, -1)))}


def _matmul(of_matrices: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    """A product of matrices, also for a vector on the left."""
    return lambda a, b: of_matrices(a, b) if a.ndim > 1 else of_matrices(a[None], b)[..., 0, :]


def _fused(a: Array, b: Array) -> Array:
    total = np.zeros((*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1]), a.dtype)
    for k in range(a.shape[-1]):
        # Y[n,m] = fl(A[n,k] B[k,m] + Y[n,m])
        total = fma(*np.broadcast_arrays(a[..., :, k, None], b[..., None, k, :], total))
    return total


def _bias_first(module: Any, right: Any, X: Any) -> Any:
    Y, saved = right(X)
    if "bias" not in module.params:
        return Y, saved
    W = module.params["weight"]
    # Y[n,o] = (...((b[o] + X[n,0] W[o,0]) + X[n,1] W[o,1]) + ...)
    Y = Y * 0 + module.params["bias"]
    for i in range(W.shape[-1]):
        Y = Y + X[..., i : i + 1] * W[:, i]
    return Y, saved


def _sigmoid_in_two_halves(X: Array) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        E = np.exp(X)
        # s(x) = exp(x) / (1 + exp(x)) for x < 0
        return np.where(X < 0, E / (1 + E), 1 / (1 + np.exp(-X)))


def _by_reciprocal(a: Any, b: Any) -> Any:
    with np.errstate(all="ignore"):
        return a * (np.ones((), b.dtype if hasattr(b, "dtype") else a.dtype) / b)


def _whole_shift(X: Array, axis: int) -> Array:
    shift: Array = np.ceil(special.shift(X, axis))
    return shift


def _wide(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function computed in float64 for float32, in the platform's widest format for float64, and rounded once."""

    def wide(*args: Any, **kwargs: Any) -> Any:
        own = next(a.dtype for a in args if isinstance(a, np.ndarray))
        dtype = np.float64 if own == np.float32 else np.longdouble
        with np.errstate(all="ignore"):
            return function(*(np.asarray(a, dtype) for a in args), **kwargs).astype(own)

    return wide


def _flushed(function: Callable[..., Any]) -> Callable[..., Any]:
    def flush(*args: Any) -> Any:
        y = np.asarray(function(*args))
        return np.where(abs(y) < np.finfo(y.dtype).tiny, y.dtype.type(0), y)

    return flush


def _with_velocity(opt: Any) -> None:
    right = opt.update
    velocity: dict[str, Any] = {}

    def update(name: str, P: Any, G: Any, group: Any) -> None:
        if group["momentum"] == 0:
            right(name, P, G, group)
            return
        before = P.copy()
        # The buffer, which the state shows, moves as ever; the parameter is moved by a velocity of its own.
        right(name, P, G, group)
        P[...] = before
        mu, tau, gamma = (special.lift(group[option], P) for option in ("momentum", "dampening", "lr"))
        G = -G if group["maximize"] else G
        G = G + special.lift(group["weight_decay"], P) * P if group["weight_decay"] != 0 else G
        # v[.] = mu v[.] - gamma (1 - tau) g[.], from -gamma g[.]: -gamma b[.] as long as gamma stays the same
        V = mu * velocity[name] - gamma * ((1 - tau) * G) if name in velocity else -gamma * G
        velocity[name] = V
        # theta[.] = theta[.] + mu v[.] - gamma g[.] with nesterov, else theta[.] + v[.]
        P[...] = P + (mu * V - gamma * G) if group["nesterov"] else P + V

    opt.update = update


def _doubly_associated(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    Y, Z = saved
    # dX[.] = (dY[.] s(X[.])) s(-X[.])
    return (dY * Y) * Z, {}


def _rewriting(name: str, what: str, where: str, rules: Rules, *types: str) -> Fault:
    return Fault(name, what, "never", where, rules=rules, types=types)


SUMS = tuple(name for name, facts in MODULES.items() if facts.sums)

REWRITINGS = (
    _rewriting(
        "sums from the end", "((t_n + t_(n-1)) + ...) + t_1", "a loop the other way", _summing(_reversed), *SUMS
    ),
    _rewriting("sums in blocks", "blocks of 4, then their sums", "vector units", _summing(_in_blocks), *SUMS),
    _rewriting("sums in pairs", "a balanced tree", "NumPy's and torch's reductions", _summing(_pairwise), *SUMS),
    _rewriting(
        "fused multiply-add",
        "fl(a b + c), rounded once",
        "every modern BLAS",
        {"matmul": _matmul(_fused)},
        *CONTRACTIONS,
    ),
    Fault(
        "bias first",
        "(b + x_1 w_1) + x_2 w_2 + ...",
        "never",
        "an accumulator that begins with the bias",
        {"Linear": replaced("forward", _bias_first)},
    ),
    _rewriting(
        "sigmoid in two halves",
        "exp(x) / (1 + exp(x)) for x < 0",
        "the textbook's stable sigmoid",
        {"sigmoid": _sigmoid_in_two_halves},
        "Sigmoid",
        "Tanh",
        "BCEWithLogitsLoss",
        "LSTMCell",
    ),
    _rewriting("reciprocals", "a (1/b) for a / b", "compilers with fast division", {"divide": _by_reciprocal}),
    _rewriting(
        "another shift",
        "max x rounded up for max x",
        "online softmax",
        {"shift": _whole_shift},
        "Softmax",
        "LogSoftmax",
    ),
    _rewriting(
        "sums in a wider format",
        "matrix products and sums in float64 of float32, in extended precision of float64, rounded once",
        "accumulators wider than storage",
        {"matmul": _wide(np.matmul), "sum": _wide(np.sum)},
        *SUMS,
    ),
    _rewriting(
        "functions rounded once",
        "exp, log, log1p and tanh in a wider format",
        "a correctly rounded library",
        {f.__name__: _wide(f) for f in (np.exp, np.log, np.log1p, np.tanh)},
    ),
    _rewriting(
        "subnormals flushed",
        "0 for results below the smallest normal number",
        "flush to zero",
        {f.__name__: _flushed(f) for f in (np.multiply, np.divide, np.matmul, np.exp)},
    ),
    Fault(
        "products regrouped",
        "(dY y) s(-x) for dY (y s(-x))",
        "never",
        "another order of factors",
        {"Sigmoid": replaced("backward", _doubly_associated)},
    ),
    Fault(
        "velocity with the rate inside",
        "v = mu v - gamma g, theta + v, for b = mu b + g, theta - gamma b, also with nesterov",
        "a rate that changes",
        "pytorch/pytorch#5920, pytorch/pytorch#1099",
        {"SGD": _with_velocity},
    ),
)
