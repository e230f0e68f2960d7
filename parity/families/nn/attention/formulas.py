"""Other formulas of attention: what torch and JAX compute, and what they give a query that has no key."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.families.formula import Variant
from refnet.arithmetic import special
from refnet.nn.attention import Terms, exponentials, grouped, scores, ungrouped


def weighted(saved: Any, D: Any) -> tuple[Any, Any]:
    """The output for other weights D after dropout, and what is saved then."""
    V = saved.terms.V
    return ungrouped(special.product(grouped(D, V), V), D), saved._replace(D=D)


def from_scores(terms: Terms, dS: Any, right: Any) -> Any:
    """All gradients for that of the scores; those of V and of masks are the right ones."""
    Q, K = terms.Q, terms.K
    # dQ[h,l,e] = scale sum_s dS[h,l,s] K[G[h],s,e]     dK[g,s,e] = scale sum_{h: G[h] = g} sum_l dS[h,l,s] Q[h,l,e]
    dQ = ungrouped(special.product(grouped(dS, K), K), Q) * terms.scale
    dK = special.over_samples(grouped(dS, K), grouped(Q, K)) * terms.scale
    return (dQ, dK, *right[0][2:]), right[1]


def before_dropout(saved: Any, dY: Any) -> Any:
    """dP, the gradient of the weights before dropout."""
    Q, V, dropout = saved.terms.Q, saved.terms.V, saved.terms.dropout
    dD = ungrouped(special.product(grouped(dY, V), V.mT), Q)
    if dropout is None:
        return dD
    dP, _ = dropout.backward(dD, saved.dropped)
    return dP[0] if isinstance(dP, tuple) else dP


def _row_sum(module: Any) -> None:
    right = module.backward

    def backward(dY: Any, saved: Any) -> Any:
        own = saved[0]
        P, dP = own.P, before_dropout(own, dY)
        # dS[h,l,s] = P[h,l,s] (dP[h,l,s] - sum_t P[h,l,t] dP[h,l,t])
        return from_scores(own.terms, P * (dP - special.total(P * dP, -1, keepdims=True)), right(dY, saved))

    module.backward = backward


def _recomputed(module: Any) -> None:
    right_forward, right_backward = module.forward, module.backward

    def forward(*inputs: Any) -> Any:
        Y, saved = right_forward(*inputs)
        return Y, (saved, Y)

    def backward(dY: Any, saved: Any) -> Any:
        right, Y = saved
        own = right[0]
        S, keep = scores(own.terms)
        _, M, Z = exponentials(S, keep)
        # L[h,l] = M[h,l] + log Z[h,l]     P[h,l,s] = exp(S[h,l,s] - L[h,l])
        P = np.exp((S if keep is None else np.where(keep, S, M)) - (M + np.log(Z)))
        P = P if keep is None else np.where(keep, P, S * 0)
        # dS[h,l,s] = P[h,l,s] (dP[h,l,s] - sum_e dY[h,l,e] Y[h,l,e])
        dS = P * (before_dropout(own, dY) - special.total(dY * Y, -1, keepdims=True))
        (dQ, dK, dV, *masks), grads = from_scores(own.terms, dS, right_backward(dY, right))
        if own.dropped is None:
            # dV[g,s,e] = sum_{h: G[h] = g} sum_l P[h,l,s] dY[h,l,e]
            V = own.terms.V
            dV = special.over_samples(grouped(P, V), grouped(dY, V))
        return (dQ, dK, dV, *masks), grads

    module.forward, module.backward = forward, backward


def _without_keys(P_of: Any) -> Any:
    """What a query that has no key gives: its row of weights is P_of(P)."""

    def patch(module: Any) -> None:
        right = module.forward

        def forward(*inputs: Any) -> Any:
            Y, (own, *masks) = right(*inputs)
            if own.dropped is not None or not own.P.size:
                return Y, (own, *masks)
            none = special.total(own.P, -1, keepdims=True) < 0.5
            Y, own = weighted(own, np.where(none, P_of(own.P), own.P))
            return Y, (own, *masks)

        module.forward = forward

    return patch


WEAKER = (
    Variant(
        "P (dP - sum P dP)",
        "Softmax's gradient without a number taken off every dP: the two cancel where a key is nearly certain.",
        "torch: aten/src/ATen/native/cpu/SoftMaxKernel.cpp, vec_host_softmax_backward_lastdim; JAX: jax.nn.softmax",
        {"ScaledDotProductAttention": _row_sum},
        ("torch", "jax"),
    ),
    Variant(
        "exp(S - log sum exp), dP - sum dY Y",
        "The weights recomputed from the logarithm of their sum, and the row sum of P dP as that of dY Y.",
        "T. Dao, FlashAttention-2, arXiv:2307.08691, algorithm 2; torch: ATen/native/cpu/FlashAttentionKernel.cpp",
        {"ScaledDotProductAttention": _recomputed},
        ("torch",),
    ),
)

CONVENTIONS = (
    Variant(
        "without keys, the mean of all values",
        "A query that has no key gets the same weight for every key: the softmax of equal, very negative scores.",
        "JAX: jax/_src/nn/functions.py, _apply_masks, which fills in a large negative number",
        {"ScaledDotProductAttention": _without_keys(lambda P: (P * 0 + 1) / P.shape[-1])},
    ),
    Variant(
        "without keys, NaN",
        "A query that has no key gets 0 / 0: the softmax of scores that are all -inf.",
        "torch before 2.5: pytorch/pytorch#41508; torch.nn.MultiheadAttention with need_weights still has it",
        {"ScaledDotProductAttention": _without_keys(lambda P: P * 0 / (P * 0))},
    ),
)
