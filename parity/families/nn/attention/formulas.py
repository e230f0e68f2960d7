"""Other formulas of attention: what torch and JAX compute, and what they give a query that has no key."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.families.fault import replaced
from parity.families.formula import Patch, Variant
from refnet.arithmetic import special
from refnet.nn.attention import Terms, exponentials, grouped, scores, summed_to, ungrouped


def weighted(saved: Any, D: Any) -> tuple[Any, Any]:
    """The output for other weights D after dropout, and what is saved then."""
    V = saved.terms.V
    return ungrouped(special.product(grouped(D, V), V), D), saved._replace(D=D)


def from_scores(terms: Terms, dS: Any, right: Any) -> Any:
    """All gradients for that of the scores; that of V is the right one."""
    Q, K, A = terms.Q, terms.K, terms.A
    # dQ[h,l,e] = scale sum_s dS[h,l,s] K[G[h],s,e]     dK[g,s,e] = scale sum_{h: G[h] = g} sum_l dS[h,l,s] Q[h,l,e]
    dQ = ungrouped(special.product(grouped(dS, K), K), Q) * terms.scale
    dK = special.over_samples(grouped(dS, K), grouped(Q, K)) * terms.scale
    return dQ, dK, right[2], None if A is None else summed_to(dS, A.shape)


def before_dropout(saved: Any, dY: Any, dW: Any = None) -> Any:
    """dP, the gradient of the weights before dropout."""
    Q, V, dropout = saved.terms.Q, saved.terms.V, saved.terms.dropout
    dD = ungrouped(special.product(grouped(dY, V), V.mT), Q)
    dD = dD if dW is None else dD + dW
    if dropout is None:
        return dD
    dP, _ = dropout.backward(dD, saved.dropped)
    return dP[0] if isinstance(dP, tuple) else dP


def of_both(patch: Patch) -> dict[str, Patch]:
    """A patch of `attend` or `attend_backward`, which both classes have."""
    return {"ScaledDotProductAttention": patch, "MultiheadAttention": patch}


def _row_sum(module: Any, right: Any, dY: Any, saved: Any, *dW: Any) -> Any:
    P, dP = saved.P, before_dropout(saved, dY, *dW)
    # dS[h,l,s] = P[h,l,s] (dP[h,l,s] - sum_t P[h,l,t] dP[h,l,t])
    dS = P * (dP - special.total(P * dP, -1, keepdims=True))
    return from_scores(saved.terms, dS, right(dY, saved, *dW))


def _recomputed(module: Any, right: Any, dY: Any, saved: Any, *dW: Any) -> Any:
    if dW and dW[0] is not None:
        return right(dY, saved, *dW)
    Y, _ = weighted(saved, saved.D)
    S, keep = scores(saved.terms)
    _, M, Z = exponentials(S, keep)
    # L[h,l] = M[h,l] + log Z[h,l]     P[h,l,s] = exp(S[h,l,s] - L[h,l])
    P = np.exp((S if keep is None else np.where(keep, S, M)) - (M + np.log(Z)))
    P = P if keep is None else np.where(keep, P, S * 0)
    # dS[h,l,s] = P[h,l,s] (dP[h,l,s] - sum_e dY[h,l,e] Y[h,l,e])
    dS = P * (before_dropout(saved, dY) - special.total(dY * Y, -1, keepdims=True))
    dQ, dK, dV, dA = from_scores(saved.terms, dS, right(dY, saved, *dW))
    if saved.dropped is None:
        # dV[g,s,e] = sum_{h: G[h] = g} sum_l P[h,l,s] dY[h,l,e]
        V = saved.terms.V
        dV = special.over_samples(grouped(P, V), grouped(dY, V))
    return dQ, dK, dV, dA


def _without_keys(P_of: Any, differentiated: bool) -> Any:
    """What a query that has no key gives: its row of weights is P_of(P), a constant or not."""

    def by(module: Any, right: Any, terms: Terms) -> Any:
        Y, saved = right(terms)
        if saved.dropped is not None or not saved.P.size:
            return Y, saved
        none = special.total(saved.P, -1, keepdims=True) < 0.5
        P = np.where(none, P_of(saved.P), saved.P)
        return weighted(saved._replace(P=P) if differentiated else saved, P)

    return by


WEAKER = (
    Variant(
        "P (dP - sum P dP)",
        "Softmax's gradient without a number taken off every dP: the two cancel where a key is nearly certain.",
        "torch: aten/src/ATen/native/cpu/SoftMaxKernel.cpp, vec_host_softmax_backward_lastdim; JAX: jax.nn.softmax",
        of_both(replaced("attend_backward", _row_sum)),
        ("torch", "jax"),
    ),
    Variant(
        "exp(S - log sum exp), dP - sum dY Y",
        "The weights recomputed from the logarithm of their sum, and the row sum of P dP as that of dY Y.",
        "T. Dao, FlashAttention-2, arXiv:2307.08691, algorithm 2; torch: ATen/native/cpu/FlashAttentionKernel.cpp",
        of_both(replaced("attend_backward", _recomputed)),
        ("torch",),
    ),
)

CONVENTIONS = (
    Variant(
        "without keys, the mean of all values",
        "A query that has no key gets the same weight for every key: the softmax of equal, very negative scores.",
        "JAX: jax/_src/nn/functions.py, _apply_masks, which fills in a large negative number",
        of_both(replaced("attend", _without_keys(lambda P: (P * 0 + 1) / P.shape[-1], False))),
    ),
    Variant(
        "without keys, NaN",
        "A query that has no key gets 0 / 0: the softmax of scores that are all -inf.",
        "torch before 2.5: pytorch/pytorch#41508; torch.nn.MultiheadAttention with need_weights still has it; "
        "jax.nn.dot_product_attention with a bias of -inf",
        of_both(replaced("attend", _without_keys(lambda P: P * 0 / (P * 0), True))),
    ),
)
