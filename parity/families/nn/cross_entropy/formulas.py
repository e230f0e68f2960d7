"""Weaker formulas of CrossEntropyLoss."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from parity.families.formula import Variant
from refnet.arithmetic import special
from refnet.arithmetic.runs import Runs


def of_log_softmax(module: Any) -> None:
    def along(c: int, A: Any) -> Any:
        return A.sum(axis=c, keepdims=True)

    def index(S: Any, E: Any, Q: Any, Z: Any, c: int, zero: Any) -> Any:
        # A[n,c] = log P[n,c] = S[n,c] - log sum_k E[n,k]     L[n] = -Z[n] A[n,t]
        D = along(c, E)
        A = S - np.log(D)
        return Z * -along(c, np.where(Q, A, zero)), (S, E, D, A, Q, Z, c, zero)

    def index_backward(dL: Any, S: Any, E: Any, D: Any, A: Any, Q: Any, Z: Any, c: int, zero: Any) -> Any:
        if _is_budget(S):
            return _of_rounded_share(dL * Z, S, E, D, Q, c, zero)
        # dA[n,c] = -dL[n] Z[n] [c = t[n]]
        return log_softmax_backward(np.where(Q, -(dL * Z), zero), A, c)

    def log_softmax_backward(dA: Any, A: Any, c: int) -> Any:
        # dX[n,c] = dA[n,c] - exp(A[n,c]) sum_k dA[n,k]
        return dA - np.exp(A) * along(c, dA)

    right = module.distribution_backward

    def distribution_backward(dL: Any, E: Any, A: Any, W: Any, D: Any, U: Any, c: int) -> Any:
        _, dQ = right(dL, E, A, W, D, U, c)
        # log P[n,c] = -U[n,c]     dA[n,c] = -dL[n] A[n,c]
        return log_softmax_backward(-(dL * A), -U, c), dQ

    module.index, module.index_backward, module.distribution_backward = index, index_backward, distribution_backward


def _is_budget(X: Any) -> bool:
    return hasattr(X.a if isinstance(X, Runs) else X, "profile")


def _of_rounded_share(G: Any, S: Any, E: Any, D: Any, Q: Any, c: int, zero: Any) -> Any:
    """The budget of G (P - [c = t]) where P, computed as exp(S - log D) or E / D, is rounded before 1 is taken off it.

    Errors of the logits move P[n,t] - 1 as they move the sum of the other shares: by little, where P[n,t] is near 1. In
    budgets of P they would count twice, in E and in D, and not cancel. So they are taken from the formula that has no
    difference, and what is added is what rounding alone does to P, at the engine's own logits.
    """
    R = np.where(Q, zero, E).sum(axis=c, keepdims=True)
    return _further_off(G / D * np.where(Q, -R, E), G, S, D, E / D, c)


@np.errstate(all="ignore")
def _further_off(dX: Any, G: Any, S: Any, D: Any, P: Any, c: int) -> Any:
    if isinstance(dX, Runs):
        return Runs(_further_off(dX.a, G.a, S.a, D.a, P.a, c))
    storage, classes = dX.profile.storage, S.shape[c]
    d, tiny = 2 * storage.u, storage.tiny
    # What exp and log round, as parts of their results: seen in those of 0 and 4.
    rounded = (f(type(dX).exact(np.array(x), dX.profile)) for f, x in ((np.exp, 0.0), (np.log, 4.0)))
    exp, log = (y.e / y.x for y in rounded)
    # How large the engine's own numbers may be. An infinite logit is the same in every evaluation.
    largest_S, largest_L, largest_P, largest_G = (abs(v.x) + 2 * v.e for v in (S, np.log(D), P, G))
    largest_S = np.where(np.isinf(S.x), 0.0, largest_S)
    largest_L = np.minimum(largest_L, math.log(classes) + 1)
    # S is off by e_S, exp S by a part e_E of itself, their sum by a part e_D of itself
    e_S = d / (1 - d) * (largest_S + 2 * tiny) + tiny
    e_E = np.expm1(e_S) * (1 + exp) + exp
    growth = dX.profile.accumulator.growth(classes + 1) + 2 * d
    e_D = ((largest_P * e_E).sum(axis=c, keepdims=True) + classes * tiny) * (1 + growth) + growth
    # log D is off by -log(1 - e_D) and a rounding, S - log D by what the two are off and a rounding
    e_L = np.where(e_D < 1, -np.log1p(-np.minimum(e_D, 1)), np.inf) + log * largest_L + tiny
    e_A = (e_S + e_L + d / (1 - d) * (largest_S + largest_L) + tiny) * (1 + 4 * log)
    # exp(S - log D) is off by a part e_P of itself, with its product by G and one rounding more; so is G / D E, which
    # has E's error and that of the sum, and two roundings
    e_P = (np.expm1(e_A) * (1 + exp) + exp) * (1 + 3 * d) + 3 * d
    added = largest_G * (largest_P * e_P + 2 * tiny) * (1 + 4 * d) + 4 * tiny
    # Outward: all of this was computed in binary64.
    return type(dX).exact(dX.x, dX.profile, dX.e + np.where(largest_G == 0, 0.0, added * (1 + 2.0**-40)))


def _of_log_sum(module: Any) -> None:
    right = module.forward
    inputs: list[Any] = []

    def forward(X: Any, T: Any) -> Any:
        inputs[:] = [X]
        return right(X, T)

    def along(c: int, A: Any) -> Any:
        return A.sum(axis=c, keepdims=True)

    def index(S: Any, E: Any, Q: Any, Z: Any, c: int, zero: Any) -> Any:
        X, D = inputs[0], along(c, E)
        # L[n] = Z[n] ((m[n] + log sum_k E[n,k]) - X[n,t]), m[n] the largest X[n,c]
        L = (np.log(D) + special.shift(X, c)) - along(c, np.where(Q, X, zero))
        return Z * L, (S, E, D, Q, Z, c, zero)

    def index_backward(dL: Any, S: Any, E: Any, D: Any, Q: Any, Z: Any, c: int, zero: Any) -> Any:
        G = dL * Z
        if _is_budget(S):
            return _of_rounded_share(G, S, E, D, Q, c, zero)
        # dX[n,c] = dL[n] Z[n] E[n,c] / D[n] - dL[n] Z[n] [c = t]
        return G / D * E - np.where(Q, G, zero)

    module.forward, module.index, module.index_backward = forward, index, index_backward


WEAKER = (
    Variant(
        "nll(log_softmax(x))",
        "Cross-entropy's gradient as exp(log p) - [c = t]: it has lost its digits where p of the target is near 1.",
        "torch: aten/src/ATen/native/LossNLL.cpp, cross_entropy_loss; tools/autograd/derivatives.yaml, _log_softmax",
        {"CrossEntropyLoss": of_log_softmax},
        ("torch", "jax"),
    ),
    Variant(
        "log sum exp(x) - x_t",
        "The loss as a difference of two numbers of the size of the logits: it has few digits where they are large, or "
        "where the target is nearly certain.",
        "optax: optax/losses/_classification.py, softmax_cross_entropy_with_integer_labels",
        {"CrossEntropyLoss": _of_log_sum},
        ("jax",),
    ),
)
