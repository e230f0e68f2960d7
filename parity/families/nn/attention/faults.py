"""Mistakes in attention. Letters and axes as there: h head, l query, s key, e unit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from parity.families.fault import Fault, Unsupported, replaced
from parity.families.nn.attention.formulas import before_dropout, from_scores, of_both, weighted
from refnet.arithmetic import special
from refnet.nn.attention import causal, exponentials, scores


def _of_other_terms(change: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """Forward, and with it backward, from other terms than the right ones."""
    return lambda module, right, terms: right(change(module, terms))


def _of_other_weights(change: Callable[[Any], Any]) -> Callable[..., Any]:
    """Forward with other weights P than the right ones, which backward takes too."""

    def attend(module: Any, right: Any, terms: Any) -> Any:
        _, saved = right(terms)
        P = change(terms)
        D, dropped = (P, None) if saved.dropped is None else terms.dropout.forward(P, terms.kept)
        return weighted(saved._replace(P=P, dropped=dropped), D)

    return attend


def _of_scores(change: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """Backward with another dS, made of what is saved and of dP."""

    def attend_backward(module: Any, right: Any, dY: Any, saved: Any, *dW: Any) -> Any:
        return from_scores(saved.terms, change(saved, before_dropout(saved, dY, *dW)), right(dY, saved, *dW))

    return attend_backward


def _is_causal(module: Any) -> bool:
    return bool(getattr(module, "is_causal", False))


def _unscaled(module: Any, terms: Any) -> Any:
    # S[h,l,s] = sum_e Q[h,l,e] K[G[h],s,e]
    return terms._replace(scale=special.lift(1.0, terms.Q))


def _shifted(by: int) -> Callable[[Any, Any], Any]:
    def change(module: Any, terms: Any) -> Any:
        if not _is_causal(module):
            raise Unsupported("not causal")
        L, S = terms.Q.shape[-2], terms.K.shape[-2]
        # keep[l,s] = [s <= l + offset + by]
        offset = (S - L if module.alignment == "lower_right" else 0) + by
        return terms._replace(keep=np.arange(S) <= np.expand_dims(np.arange(L), -1) + offset)

    return change


def _otherwise_aligned(module: Any, terms: Any) -> Any:
    L, S = terms.Q.shape[-2], terms.K.shape[-2]
    if not _is_causal(module) or L == S:
        raise Unsupported("both alignments are one")
    return terms._replace(keep=causal(L, S, "lower_right" if module.alignment == "upper_left" else "upper_left"))


def _not_causal(module: Any, terms: Any) -> Any:
    if not _is_causal(module):
        raise Unsupported("not causal")
    return terms._replace(keep=None)


def _inverted(module: Any, terms: Any) -> Any:
    if terms.keep is None or _is_causal(module):
        raise Unsupported("no mask of booleans")
    return terms._replace(keep=~terms.keep)


def _in_turn(X: Any, like: Any) -> Any:
    """The heads of Q in the order in which those that share a head of K come together if G[h] is h modulo g; with
    `like`, the other way."""
    h, g = X.shape[-3], like.shape[-3]
    return np.concatenate([X[..., k::g, :, :] for k in range(g)], axis=-3) if h > g else X


def _heads_in_turn(module: Any, right: Any, terms: Any) -> Any:
    Q, K, V = terms[:3]
    shared = K.ndim > 2 and K.shape == V.shape and K.shape[-3] not in (1, Q.shape[-3])
    if not shared or terms.keep is not None or terms.dropout is not None:
        raise Unsupported("heads are not shared by some, or there is a mask")
    # G[h] = h modulo the number of heads of K
    Y, saved = right(terms._replace(Q=_in_turn(Q, K)))
    return _in_turn(Y, Y[..., : Q.shape[-3] // K.shape[-3], :, :]), saved


def _masked_after(terms: Any) -> Any:
    S, keep = scores(terms)
    if keep is None:
        raise Unsupported("no mask")
    E, _, Z = exponentials(S, None)
    # P[h,l,s] = [keep[h,l,s]] E[h,l,s] / sum_t E[h,l,t]
    return np.where(keep, E / Z, E * 0)


def _over_queries(terms: Any) -> Any:
    S, keep = scores(terms)
    if keep is not None or not S.size:
        raise Unsupported("a mask, or nothing")
    # P[h,l,s] = E[h,l,s] / sum_m E[h,m,s]
    E = np.exp(S - special.shift(S, -2))
    return E / special.total(E, -2, keepdims=True)


def _no_row_sum(own: Any, dP: Any) -> Any:
    # dS[h,l,s] = P[h,l,s] dP[h,l,s]
    return own.P * dP


def _copied(own: Any, dP: Any) -> Any:
    # dS[h,l,s] = dP[h,l,s]
    return dP


def _nan_without_keys(own: Any, dP: Any) -> Any:
    _, keep = scores(own.terms)
    if keep is None:
        raise Unsupported("no mask")
    R = own.P * (dP - special.total(own.P * dP, -1, keepdims=True))
    # dS[h,l,s] = 0 / 0 where a query has no key
    return np.where(keep.sum(axis=-1, keepdims=True) > 0, R, R * 0 / (R * 0))


def _key_not_scaled(module: Any, right: Any, dY: Any, saved: Any, *dW: Any) -> Any:
    dQ, dK, *rest = right(dY, saved, *dW)
    # dK[g,s,e] = sum_{h: G[h] = g} sum_l dS[h,l,s] Q[h,l,e]
    return dQ, dK / saved.terms.scale, *rest


def _one_of_the_group(module: Any, right: Any, dY: Any, saved: Any, *dW: Any) -> Any:
    Q, K = saved.terms.Q, saved.terms.K
    if K.ndim < 3 or K.shape[-3] == Q.shape[-3]:
        raise Unsupported("heads are not shared")
    dQ, _, *rest = right(dY, saved, *dW)
    dP = before_dropout(saved, dY, *dW)
    dS = saved.P * (dP - special.total(saved.P * dP, -1, keepdims=True))
    dS, Q = (X.reshape(*X.shape[:-3], K.shape[-3], -1, *X.shape[-2:])[..., -1, :, :] for X in (dS, Q))
    # dK[g,s,e] = scale sum_l dS[h,l,s] Q[h,l,e], h the last of the heads that share g
    return dQ, special.over_samples(dS, Q) * saved.terms.scale, *rest


def _without(what: str) -> Callable[..., Any]:
    """Backward without a part of dropout."""

    def attend_backward(module: Any, right: Any, dY: Any, saved: Any, *dW: Any) -> Any:
        if saved.dropped is None or saved.dropped.kept is None:
            raise Unsupported("no dropout")
        if what == "scale":
            # dP[h,l,s] = [kept[h,l,s]] dD[h,l,s]
            return right(dY, saved._replace(dropped=saved.dropped._replace(q=special.lift(1.0, saved.P))), *dW)
        if what == "mask":
            # dP[h,l,s] = dD[h,l,s] / q
            everywhere = np.ones(saved.P.shape, np.bool_)
            return right(dY, saved._replace(dropped=saved.dropped._replace(kept=everywhere)), *dW)
        # dV[g,s,e] = sum_{h: G[h] = g} sum_l P[h,l,s] dY[h,l,e]
        return right(dY, saved._replace(D=saved.P), *dW)

    return attend_backward


def _mask_gradient_scaled(module: Any, right: Any, dY: Any, saved: Any, *dW: Any) -> Any:
    dQ, dK, dV, dA = right(dY, saved, *dW)
    if dA is None:
        raise Unsupported("no mask is added")
    # dA[h,l,s] = scale dS[h,l,s]
    return dQ, dK, dV, dA * saved.terms.scale


def _attention(name: str, what: str, reveal: str, source: str, method: str, by: Any) -> Fault:
    return Fault(f"attention: {name}", what, reveal, source, of_both(replaced(method, by)))


FAULTS = (
    _attention(
        "scale left out",
        "S = Q K^T against scale Q K^T",
        "a scale other than 1",
        "kind of bug: a missing factor",
        "attend",
        _of_other_terms(_unscaled),
    ),
    _attention(
        "scale left out of the key's gradient",
        "dK = dS^T Q against scale dS^T Q",
        "a scale other than 1",
        "kind of bug: a missing factor",
        "attend_backward",
        _key_not_scaled,
    ),
    _attention(
        "row sum left out",
        "dS = P dP against P (dP - sum P dP)",
        "any",
        "kind of bug: softmax differentiated as if elementwise",
        "attend_backward",
        _of_scores(_no_row_sum),
    ),
    _attention(
        "softmax not differentiated",
        "dS = dP against P (dP - sum P dP)",
        "any",
        "pjreddie/darknet#96",
        "attend_backward",
        _of_scores(_copied),
    ),
    _attention(
        "softmax over the queries",
        "sum_m exp(S[m,s]) against sum_t exp(S[l,t])",
        "any",
        "kind of bug: the wrong axis",
        "attend",
        _of_other_weights(_over_queries),
    ),
    _attention(
        "causal mask one too wide",
        "s <= l + 1 against s <= l",
        "is_causal",
        "kind of bug: off by one",
        "attend",
        _of_other_terms(_shifted(1)),
    ),
    _attention(
        "causal mask one too narrow",
        "s < l against s <= l",
        "is_causal",
        "kind of bug: off by one",
        "attend",
        _of_other_terms(_shifted(-1)),
    ),
    _attention(
        "causal mask of the other alignment",
        "s <= l + S - L against s <= l",
        "is_causal with other numbers of keys and of queries",
        "ml-explore/mlx#2835, pytorch/pytorch#103082",
        "attend",
        _of_other_terms(_otherwise_aligned),
    ),
    _attention(
        "causal mask left out",
        "every key against s <= l",
        "is_causal",
        "facebookresearch/xformers#103",
        "attend",
        _of_other_terms(_not_causal),
    ),
    _attention(
        "mask inverted",
        "True for what is left out, as MultiheadAttention has it, against what takes part",
        "a mask of booleans",
        "kind of bug: the two meanings of True in torch's masks",
        "attend",
        _of_other_terms(_inverted),
    ),
    _attention(
        "mask after softmax",
        "[keep] softmax(S) against softmax(S, keep)",
        "a mask, or is_causal",
        "kind of bug: weights that do not add up to 1",
        "attend",
        _of_other_weights(_masked_after),
    ),
    Fault(
        "attention: without keys, NaN backward",
        "dS = 0 / 0 against 0",
        "a mask that leaves a query no key",
        "Xilinx/brevitas#1591",
        {"ScaledDotProductAttention": replaced("attend_backward", _of_scores(_nan_without_keys))},
    ),
    _attention(
        "gradient of one head of a group",
        "dK of the last head against the sum over the group",
        "enable_gqa",
        "kind of bug: a missing sum",
        "attend_backward",
        _one_of_the_group,
    ),
    _attention(
        "heads shared in turn",
        "G[h] = h modulo g against h divided by the size of a group",
        "enable_gqa",
        "kind of bug: repeat against repeat_interleave",
        "attend",
        _heads_in_turn,
    ),
    _attention(
        "dropout not scaled backward",
        "dP = [kept] dD against [kept] dD / (1 - p)",
        "dropout",
        "kind of bug: a missing factor",
        "attend_backward",
        _without("scale"),
    ),
    _attention(
        "dropout not masked backward",
        "dP = dD / (1 - p) against [kept] dD / (1 - p)",
        "dropout",
        "kind of bug: a missing factor",
        "attend_backward",
        _without("mask"),
    ),
    _attention(
        "gradient of the value without dropout",
        "dV = P^T dY against D^T dY",
        "dropout",
        "kind of bug: another intermediate saved",
        "attend_backward",
        _without("value"),
    ),
    _attention(
        "gradient of the mask scaled",
        "dA = scale dS against dS",
        "a mask that is added",
        "kind of bug: a factor too much",
        "attend_backward",
        _mask_gradient_scaled,
    ),
)
