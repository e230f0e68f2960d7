"""A weaker formula of CrossEntropyLoss."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.families.formula import Variant
from refnet.arithmetic import special


def of_log_softmax(module: Any) -> None:
    def along(c: int, A: Any) -> Any:
        return A.sum(axis=c, keepdims=True)

    def index(S: Any, E: Any, Q: Any, Z: Any, c: int, zero: Any) -> Any:
        # A[n,c] = log P[n,c] = S[n,c] - log sum_k E[n,k]     L[n] = -Z[n] A[n,t]
        A = S - np.log(along(c, E))
        return Z * -along(c, np.where(Q, A, zero)), (A, Q, Z, c, zero)

    def index_backward(dL: Any, A: Any, Q: Any, Z: Any, c: int, zero: Any) -> Any:
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
        return Z * L, (E, D, Q, Z, c, zero)

    def index_backward(dL: Any, E: Any, D: Any, Q: Any, Z: Any, c: int, zero: Any) -> Any:
        # dX[n,c] = dL[n] Z[n] E[n,c] / D[n] - dL[n] Z[n] [c = t]
        G = dL * Z
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
