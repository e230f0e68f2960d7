"""A weaker formula of CrossEntropyLoss."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.families.formula import Variant


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


WEAKER = (
    Variant(
        "nll(log_softmax(x))",
        "Cross-entropy's gradient as exp(log p) - [c = t]: it has lost its digits where p of the target is near 1.",
        "torch: aten/src/ATen/native/LossNLL.cpp, cross_entropy_loss; tools/autograd/derivatives.yaml, _log_softmax",
        {"CrossEntropyLoss": of_log_softmax},
        ("torch", "jax"),
    ),
)
