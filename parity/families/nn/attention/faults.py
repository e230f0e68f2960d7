"""Mistakes in attention. Letters and axes as there: h head, l query, s key, e unit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from parity.families.fault import Fault, Unsupported, replaced
from parity.families.nn.attention.formulas import before_dropout, from_scores, weighted
from refnet.arithmetic import special
from refnet.nn.attention import attend, attend_backward, causal, exponentials, scores


def _of_other_terms(change: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """Forward, and with it backward, from other terms than the right ones."""

    def forward(module: Any, right: Any, *inputs: Any) -> Any:
        _, (own, *masks) = right(*inputs)
        Y, saved = attend(change(module, own.terms))
        return Y, (saved, *masks)

    return forward


def _of_other_weights(change: Callable[[Any], Any]) -> Callable[..., Any]:
    """Forward with other weights P than the right ones, which backward takes too."""

    def forward(module: Any, right: Any, *inputs: Any) -> Any:
        _, (own, *masks) = right(*inputs)
        P = change(own.terms)
        D, dropped = (P, None) if own.dropped is None else own.terms.dropout.forward(P, own.terms.kept)
        Y, saved = weighted(own._replace(P=P, dropped=dropped), D)
        return Y, (saved, *masks)

    return forward


def _of_scores(change: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """Backward with another dS, made of what is saved and of dP."""

    def backward(module: Any, right: Any, dY: Any, saved: Any) -> Any:
        own = saved[0]
        return from_scores(own.terms, change(own, before_dropout(own, dY)), right(dY, saved))

    return backward


def _unscaled(module: Any, terms: Any) -> Any:
    # S[h,l,s] = sum_e Q[h,l,e] K[G[h],s,e]
    return terms._replace(scale=special.lift(1.0, terms.Q))


def _shifted(by: int) -> Callable[[Any, Any], Any]:
    def change(module: Any, terms: Any) -> Any:
        if not module.is_causal:
            raise Unsupported("not causal")
        L, S = terms.Q.shape[-2], terms.K.shape[-2]
        # keep[l,s] = [s <= l + offset + by]
        offset = (S - L if module.alignment == "lower_right" else 0) + by
        return terms._replace(keep=np.arange(S) <= np.expand_dims(np.arange(L), -1) + offset)

    return change


def _otherwise_aligned(module: Any, terms: Any) -> Any:
    L, S = terms.Q.shape[-2], terms.K.shape[-2]
    if not module.is_causal or L == S:
        raise Unsupported("both alignments are one")
    return terms._replace(keep=causal(L, S, "lower_right" if module.alignment == "upper_left" else "upper_left"))


def _not_causal(module: Any, terms: Any) -> Any:
    if not module.is_causal:
        raise Unsupported("not causal")
    return terms._replace(keep=None)


def _inverted(module: Any, terms: Any) -> Any:
    if terms.keep is None or module.is_causal:
        raise Unsupported("no mask of booleans")
    return terms._replace(keep=~terms.keep)


def _in_turn(module: Any, X: Any, like: Any) -> Any:
    """The heads of Q in the order in which those that share a head of K come together if G[h] is h modulo g; with
    `like`, the other way."""
    h, g = X.shape[-3], like.shape[-3]
    return np.concatenate([X[..., k::g, :, :] for k in range(g)], axis=-3) if h > g else X


def _heads_in_turn(module: Any, right: Any, Q: Any, K: Any, V: Any, *masks: Any) -> Any:
    shared = module.enable_gqa and K.shape == V.shape and K.shape[-3] not in (1, Q.shape[-3])
    if not shared or any(mask is not None for mask in masks):
        raise Unsupported("heads are not shared by some, or there is a mask")
    # G[h] = h modulo the number of heads of K
    Y, saved = right(_in_turn(module, Q, K), K, V, *masks)
    return _in_turn(module, Y, Y[..., : Q.shape[-3] // K.shape[-3], :, :]), saved


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


def _key_not_scaled(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    (dQ, dK, *rest), grads = right(dY, saved)
    # dK[g,s,e] = sum_{h: G[h] = g} sum_l dS[h,l,s] Q[h,l,e]
    return (dQ, dK / saved[0].terms.scale, *rest), grads


def _one_of_the_group(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    own = saved[0]
    if not module.enable_gqa:
        raise Unsupported("heads are not shared")
    (dQ, _, dV, *rest), grads = right(dY, saved)
    dP = before_dropout(own, dY)
    dS = own.P * (dP - special.total(own.P * dP, -1, keepdims=True))
    Q, g = own.terms.Q, own.terms.K.shape[-3]
    dS, Q = (X.reshape(*X.shape[:-3], g, -1, *X.shape[-2:])[..., -1, :, :] for X in (dS, Q))
    # dK[g,s,e] = scale sum_l dS[h,l,s] Q[h,l,e], h the last of the heads that share g
    return (dQ, special.over_samples(dS, Q) * own.terms.scale, dV, *rest), grads


def _without(what: str) -> Callable[..., Any]:
    """Backward without a part of dropout."""

    def backward(module: Any, right: Any, dY: Any, saved: Any) -> Any:
        own, *masks = saved
        if own.dropped is None or own.dropped.kept is None:
            raise Unsupported("no dropout")
        if what == "scale":
            # dP[h,l,s] = [kept[h,l,s]] dD[h,l,s]
            other = own._replace(dropped=own.dropped._replace(q=special.lift(1.0, own.P)))
        elif what == "mask":
            # dP[h,l,s] = dD[h,l,s] / q
            everywhere = np.ones(own.P.shape, np.bool_)
            other = own._replace(dropped=own.dropped._replace(kept=everywhere))
        else:
            # dV[g,s,e] = sum_{h: G[h] = g} sum_l P[h,l,s] dY[h,l,e]
            other = own._replace(D=own.P)
        dQ, dK, dV, dA = attend_backward(dY, other)
        return (dQ, dK, dV, *((dA,) if masks[0] else ()), *((None,) if masks[1] else ())), {}

    return backward


def _mask_gradient_scaled(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    (dQ, dK, dV, *rest), grads = right(dY, saved)
    if not rest or rest[0] is None:
        raise Unsupported("no mask is added")
    # dA[h,l,s] = scale dS[h,l,s]
    return (dQ, dK, dV, rest[0] * saved[0].terms.scale, *rest[1:]), grads


def _attention(name: str, what: str, reveal: str, source: str, method: str, by: Any) -> Fault:
    return Fault(f"attention: {name}", what, reveal, source, {"ScaledDotProductAttention": replaced(method, by)})


FAULTS = (
    _attention(
        "scale left out",
        "S = Q K^T against scale Q K^T",
        "a scale other than 1",
        "issue class: a missing factor",
        "forward",
        _of_other_terms(_unscaled),
    ),
    _attention(
        "scale left out of the key's gradient",
        "dK = dS^T Q against scale dS^T Q",
        "a scale other than 1",
        "issue class: a missing factor",
        "backward",
        _key_not_scaled,
    ),
    _attention(
        "row sum left out",
        "dS = P dP against P (dP - sum P dP)",
        "any",
        "issue class: softmax differentiated as if elementwise",
        "backward",
        _of_scores(_no_row_sum),
    ),
    _attention(
        "softmax not differentiated",
        "dS = dP against P (dP - sum P dP)",
        "any",
        "pjreddie/darknet#96",
        "backward",
        _of_scores(_copied),
    ),
    _attention(
        "softmax over the queries",
        "sum_m exp(S[m,s]) against sum_t exp(S[l,t])",
        "any",
        "issue class: the wrong axis",
        "forward",
        _of_other_weights(_over_queries),
    ),
    _attention(
        "causal mask one too wide",
        "s <= l + 1 against s <= l",
        "is_causal",
        "issue class: off by one",
        "forward",
        _of_other_terms(_shifted(1)),
    ),
    _attention(
        "causal mask one too narrow",
        "s < l against s <= l",
        "is_causal",
        "issue class: off by one",
        "forward",
        _of_other_terms(_shifted(-1)),
    ),
    _attention(
        "causal mask of the other alignment",
        "s <= l + S - L against s <= l",
        "is_causal with other numbers of keys and of queries",
        "ml-explore/mlx#2835, pytorch/pytorch#103082",
        "forward",
        _of_other_terms(_otherwise_aligned),
    ),
    _attention(
        "causal mask left out",
        "every key against s <= l",
        "is_causal",
        "facebookresearch/xformers#103",
        "forward",
        _of_other_terms(_not_causal),
    ),
    _attention(
        "mask inverted",
        "True for what is left out, as MultiheadAttention has it, against what takes part",
        "a mask of booleans",
        "issue class: the two meanings of True in torch's masks",
        "forward",
        _of_other_terms(_inverted),
    ),
    _attention(
        "mask after softmax",
        "[keep] softmax(S) against softmax(S, keep)",
        "a mask, or is_causal",
        "issue class: weights that do not add up to 1",
        "forward",
        _of_other_weights(_masked_after),
    ),
    _attention(
        "without keys, NaN backward",
        "dS = 0 / 0 against 0",
        "a mask that leaves a query no key",
        "Xilinx/brevitas#1591",
        "backward",
        _of_scores(_nan_without_keys),
    ),
    _attention(
        "gradient of one head of a group",
        "dK of the last head against the sum over the group",
        "enable_gqa",
        "issue class: a missing sum",
        "backward",
        _one_of_the_group,
    ),
    _attention(
        "heads shared in turn",
        "G[h] = h modulo g against h divided by the size of a group",
        "enable_gqa",
        "issue class: repeat against repeat_interleave",
        "forward",
        _heads_in_turn,
    ),
    _attention(
        "dropout not scaled backward",
        "dP = [kept] dD against [kept] dD / (1 - p)",
        "dropout",
        "issue class: a missing factor",
        "backward",
        _without("scale"),
    ),
    _attention(
        "dropout not masked backward",
        "dP = dD / (1 - p) against [kept] dD / (1 - p)",
        "dropout",
        "issue class: a missing factor",
        "backward",
        _without("mask"),
    ),
    _attention(
        "gradient of the value without dropout",
        "dV = P^T dY against D^T dY",
        "dropout",
        "issue class: another intermediate saved",
        "backward",
        _without("value"),
    ),
    _attention(
        "gradient of the mask scaled",
        "dA = scale dS against dS",
        "a mask that is added",
        "issue class: a factor too much",
        "backward",
        _mask_gradient_scaled,
    ),
)
