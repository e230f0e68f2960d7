"""Mistakes in the distances."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.families.fault import of, replaced
from refnet.arithmetic import special

# CosineSimilarity


def _projection_left_out(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    # dX1[n,i] = dY[n] U2[n,i] / N1[n]
    return right(dY, saved._replace(Y=0 * saved.Y))


def _norms_exchanged(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    # dX1[n,i] = dY[n] (U2[n,i] - Y[n] U1[n,i]) / N2[n]
    return right(dY, saved._replace(N1=saved.N2, N2=saved.N1))


def _norm_left_out(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    # dX1[n,i] = dY[n] (U2[n,i] - Y[n] U1[n,i])
    one = special.lift(1.0, saved.N1) + 0 * saved.N1
    return right(dY, saved._replace(N1=one, N2=one))


def _eps_of_squares(module: Any, right: Any, X: Any, i: int) -> Any:
    eps = special.lift(module.eps, X)
    # N[n] = sqrt(max(sum_i X[n,i]^2, eps))
    S = special.total(X * X, i, keepdims=True)
    low = S - eps < 0
    return np.sqrt(np.where(low, eps, S)), low


def _eps_added(module: Any, right: Any, X: Any, i: int) -> Any:
    _, low = right(X, i)
    eps = special.lift(module.eps, X)
    # N[n] = |X[n]| + eps
    S = special.total(X * X, i, keepdims=True)
    some = np.where(S == 0, special.lift(1.0, X), S)
    return np.where(S == 0, eps, np.sqrt(some) + eps), low


# PairwiseDistance


def _second_not_negated(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    (dX1, dX2), grads = right(dY, saved)
    # dX2[n,i] = dX1[n,i]
    return (dX1, -dX2), grads


def _divided_by_zero(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    _, A, M = saved.norm
    if module.norm == 1:
        return right(dY, saved)
    zero = special.lift(0.0, M)
    nothing = special.total(A, -1, keepdims=True) == 0
    # dD[n,i] = dY[n] D[n,i] / N[n], 0 / 0 where N[n] = 0
    return right(dY, saved._replace(norm=saved.norm._replace(M=np.where(nothing, zero, M))))


def _norm_not_divided(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    # dD[n,i] = dY[n] D[n,i]
    return right(dY, saved._replace(norm=saved.norm._replace(M=special.lift(1.0, saved.norm.M) + 0 * saved.norm.M)))


def _eps_left_out(module: Any, right: Any, x1: Any, x2: Any) -> Any:
    eps, module.eps = module.eps, 0.0
    # D[n,i] = X1[n,i] - X2[n,i]
    result = right(x1, x2)
    module.eps = eps
    return result


def _not_summed(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    inner, (shape1, _) = saved
    # dX2[n,i] = -dD[n,i], not summed over the n along which X2 was spread
    return right(dY, saved._replace(shapes=(shape1, tuple(inner.D.shape))))


def _squared(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    # dD[n,i] = dY[n] 2 D[n,i]: of the square
    if module.norm != 2:
        return right(dY, saved)
    (dX1, dX2), grads = _norm_not_divided(module, right, dY, saved)
    return (2 * dX1, 2 * dX2), grads


FAULTS = (
    *of(
        "CosineSimilarity",
        (
            "projection left out",
            "dX1 = dY U2 / N1 against dY (U2 - Y U1) / N1",
            "vectors that are not at right angles",
            "kind of bug: a missing term",
            replaced("backward", _projection_left_out),
        ),
        (
            "the other vector's norm",
            "dX1 = dY (U2 - Y U1) / N2 against the same / N1",
            "vectors of different length",
            "kind of bug: the wrong index",
            replaced("backward", _norms_exchanged),
        ),
        (
            "cosine's gradient not divided by the norm",
            "dX1 = dY (U2 - Y U1) against the same / N1",
            "vectors of other length than 1",
            "kind of bug: a missing factor",
            replaced("backward", _norm_left_out),
        ),
        (
            "eps of the squared norm",
            "sqrt(max(|x|^2, eps)) against max(|x|, eps)",
            "a norm between eps and its root",
            "google-deepmind/optax#1703",
            replaced("length", _eps_of_squares),
        ),
        (
            "eps added to the norm",
            "|x| + eps against max(|x|, eps)",
            "eps that counts",
            "pytorch/pytorch#50473",
            replaced("length", _eps_added),
        ),
    ),
    *of(
        "PairwiseDistance",
        (
            "second vector's gradient not negated",
            "dX2 = dX1 against -dX1",
            "any",
            "kind of bug: sign",
            replaced("backward", _second_not_negated),
        ),
        (
            "distance of 0 divided by",
            "D / N against 0 where N = 0: 0 / 0",
            "two vectors that are the same, eps 0",
            "tensorflow/tensorflow#30199; adambielski/siamese-triplet#18",
            replaced("backward", _divided_by_zero),
        ),
        (
            "distance's gradient not divided by it",
            "dD = dY D against dY D / N",
            "a distance other than 1, p other than 1",
            "kind of bug: a missing factor",
            replaced("backward", _norm_not_divided),
        ),
        (
            "gradient of the squared distance",
            "dD = 2 dY D against dY D / N",
            "a distance other than 1/2",
            "kind of bug: a factor too many",
            replaced("backward", _squared),
        ),
        (
            "eps of the distance left out",
            "|x1 - x2| against |x1 - x2 + eps|",
            "eps other than 0",
            "kind of bug: an option ignored",
            replaced("forward", _eps_left_out),
        ),
        (
            "spread vector's gradient not summed",
            "a gradient for every sample against their sum",
            "one vector for all samples",
            "kind of bug: mean or sum over the wrong axes",
            replaced("backward", _not_summed),
        ),
    ),
)
