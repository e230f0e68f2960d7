"""Mistakes in LayerNorm and GroupNorm.

Letters and axes as there: s sample, f feature, F features in all; b sample, c channel, g group, k element of K in it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.families.fault import Fault, Patch, Unsupported, replaced
from parity.families.nn.normalization.formulas import flat, output, per_channel, weighted
from parity.families.nn.normalization.other_factors import (
    both,
    eps_left_out,
    eps_outside,
    groups_scaled_by,
    scaled_by,
    unbiased,
    unbiased_and_eps_outside,
    without_root,
)
from refnet.arithmetic import special


def _of_the_last_axis(module: Any, right: Any, input: Any) -> Any:
    if len(module.normalized_shape) == 1:
        return right(input)
    _, saved = right(input)
    # M and V over the last axis alone
    M = input.sum(axis=-1, keepdims=True) / input.shape[-1]
    D = input - M
    R = 1 / np.sqrt((D * D).sum(axis=-1, keepdims=True) / input.shape[-1] + special.lift(module.eps, input))
    H = (D * R).reshape(*saved.H.shape)
    return output(module, H, saved.shape), saved._replace(H=H)


def _all_but_the_first(module: Any, right: Any, input: Any) -> Any:
    if input.ndim - len(module.normalized_shape) < 2:
        return right(input)
    _, saved = right(input)
    # M and V over every axis but the first
    X = input.reshape(input.shape[0], -1)
    F = X.shape[-1]
    D = X - X.sum(axis=-1, keepdims=True) / F
    R = 1 / np.sqrt((D * D).sum(axis=-1, keepdims=True) / F + special.lift(module.eps, X))
    H = (D * R).reshape(*saved.H.shape)
    return output(module, H, saved.shape), saved._replace(H=H)


def _remembering(module: Any, right: Any, input: Any) -> Any:
    Y, saved = right(input)
    return Y, (saved, flat(module, input)[0])


def _two_axes_backward(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    inner, X = saved
    _, grads = right(dY, inner)
    B, F = inner.shape[0], X.shape[-1]
    if len(inner.shape) - len(module.normalized_shape) < 2 or not X.size:
        raise Unsupported("there is one leading axis, as the backward takes for granted")
    # The rows are those of the first axis, b, of N elements n; mean and deviation are those of row b of the B N / F
    # that there are.
    N = X.size // B
    D, G, R = (X - X.sum(axis=-1, keepdims=True) / F), dY.reshape(B, N), inner.R[:B]
    M = X[:B] - D[:B]
    # H[b,n] = (X[b,n] - M[b]) R[b]     dH[b,n] = dY[b,n] G[n mod F]
    H = (X.reshape(B, N) - M[:, :1]) * R
    dH = weighted(module, dY, X).reshape(B, N)
    # dX[b,n] = R[b] (dH[b,n] - (sum_m dH[b,m] + H[b,n] sum_m dH[b,m] H[b,m]) / N)
    dX = R * (dH - (_sum(dH) + H * _sum(dH * H)) / N)
    # dG[f] = sum_b dY[b,f] H[b,f]     dB[f] = sum_b dY[b,f], of the first F elements of a row
    sums = {"weight": (G * H)[:, :F].sum(axis=-2), "bias": G[:, :F].sum(axis=-2)}
    return dX.reshape(*inner.shape), {name: sums[name].reshape(*grad.shape) for name, grad in grads.items()}


def _weight_outside(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    if "weight" not in module.params:
        raise Unsupported("there is no weight")
    H, R, F = saved.H, saved.R, max(saved.H.shape[-1], 1)
    _, grads = right(dY, saved)
    G = dY.reshape(*H.shape)
    # dX[s,f] = G[f] R[s] (dY[s,f] - (sum_m dY[s,m] + H[s,f] sum_m dY[s,m] H[s,m]) / F)
    lost = G.sum(axis=-1, keepdims=True) + H * (G * H).sum(axis=-1, keepdims=True)
    return (weighted(module, (G - lost / F) * R, H)).reshape(*saved.shape), grads


def _without(mean: bool, variance: bool) -> Any:
    """Backward with the mean, the variance or both taken for constants."""

    def backward(module: Any, right: Any, dY: Any, saved: Any) -> Any:
        H, R, F = saved.H, saved.R, max(saved.H.shape[-1], 1)
        _, grads = right(dY, saved)
        dD = dH = weighted(module, dY, H)
        # dX[s,f] = R[s] (dH[s,f] - ...), without sum_m dH[s,m] / F, or H[s,f] sum_m dH[s,m] H[s,m] / F
        if not mean:
            dD = dD - dH.sum(axis=-1, keepdims=True) / F
        if not variance:
            dD = dD - H * (dH * H).sum(axis=-1, keepdims=True) / F
        return (R * dD).reshape(*saved.shape), grads

    return backward


def _weight_gradient_of_input(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    dX, grads = right(dY, saved)
    if "weight" not in grads:
        raise Unsupported("there is no weight")
    # dG[f] = sum_s dY[s,f] D[s,f]
    D = saved.H / saved.R
    return dX, {**grads, "weight": (dY.reshape(*D.shape) * D).sum(axis=-2).reshape(*module.normalized_shape)}


def _parameters_skipped(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    dX, grads = right(dY, saved)
    # dG[f] = dB[f] = 0
    return dX, {name: grad * 0 for name, grad in grads.items()}


def _sum(T: Any) -> Any:
    return T.sum(axis=-1, keepdims=True)


def _groups(regrouped: Any) -> Any:
    """GroupNorm's forward with mean and variance of regrouped(X (b, c, l), groups), spread over X again."""

    def forward(module: Any, right: Any, input: Any) -> Any:
        Y, saved = right(input)
        if not Y.size:
            return Y, saved
        b, C = saved.shape[:2]
        X = input.reshape(b, C, saved.L)
        H = regrouped(X, module.num_groups, special.lift(module.eps, X)).reshape(*saved.H.shape)
        return _affine(module, H, saved), saved._replace(H=H)

    return forward


def _affine(module: Any, H: Any, saved: Any) -> Any:
    """Y[b,c,l] = H[b,c,l] G[c] + B[c]"""
    Y = H.reshape(*saved.shape[:2], saved.L) * per_channel(module, "weight") + per_channel(module, "bias")
    return Y.reshape(*saved.shape)


def _normalized(X: Any, eps: Any, K: int) -> Any:
    """X over its last axis, variances divided by K."""
    D = X - X.sum(axis=-1, keepdims=True) / X.shape[-1]
    V = (D * D).sum(axis=-1, keepdims=True) / K
    return D / np.sqrt(V + eps)


def _channels_taken_in_turn(X: Any, groups: int, eps: Any) -> Any:
    # group of c: c % groups, against c / (C / groups)
    b, C, L = X.shape
    turned = X.reshape(b, C // groups, groups, L)
    parts = [turned[:, :, g : g + 1].reshape(b, -1) for g in range(groups)]
    made = [np.expand_dims(_normalized(part, eps, part.shape[-1]).reshape(b, C // groups, L), -2) for part in parts]
    return np.concatenate(made, axis=-2)


def _group_backward(divisor: Any, mean: bool = True) -> Any:
    """GroupNorm's backward with the sums divided by divisor(saved, groups), and without the mean's if not `mean`."""

    def backward(module: Any, right: Any, dY: Any, saved: Any) -> Any:
        dX, grads = right(dY, saved)
        if not saved.H.size:
            return dX, grads
        G = dY.reshape(*saved.shape[:2], saved.L) * per_channel(module, "weight")
        dH, H = G.reshape(*saved.H.shape), saved.H
        lost = H * _sum(dH * H) + (_sum(dH) if mean else 0)
        return (saved.R * (dH - lost / divisor(saved, module.num_groups))).reshape(*saved.shape), grads

    return backward


def _of_the_first_group(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    dX, grads = right(dY, saved)
    if "weight" not in grads or not saved.H.size:
        raise Unsupported("there is no weight")
    # dG[c] with M[b,0] and R[b,0] for every channel: H[b,g,k] / R[b,g] R[b,0]
    H = saved.H / saved.R * saved.R[:, :1]
    dG = (dY.reshape(*saved.shape[:2], saved.L) * H.reshape(*saved.shape[:2], saved.L)).sum(axis=(-3, -1))
    return dX, {**grads, "weight": dG}


def _group(name: str, what: str, reveal: str, source: str, method: str, by: Any) -> Fault:
    return Fault(f"GroupNorm: {name}", what, reveal, source, {"GroupNorm": replaced(method, by)})


def _layernorm(name: str, what: str, reveal: str, source: str, method: str, by: Any) -> Fault:
    return Fault(f"LayerNorm: {name}", what, reveal, source, {"LayerNorm": replaced(method, by)})


def _of_layernorm(name: str, what: str, reveal: str, source: str, patch: Patch) -> Fault:
    return Fault(f"LayerNorm: {name}", what, reveal, source, {"LayerNorm": patch})


FAULTS = (
    _of_layernorm(
        "eps outside the root",
        "D / (sqrt(V) + eps) against D / sqrt(V + eps)",
        "a small variance, or a large eps",
        "callummcdougall/ARENA_3.0#228; 0 / 0 backward: pytorch/pytorch#4320, FluxML/Flux.jl#2096",
        scaled_by(eps_outside),
    ),
    _of_layernorm(
        "eps left out",
        "D / sqrt(V) against D / sqrt(V + eps)",
        "a small variance, or a large eps",
        "kind of bug: a missing term",
        scaled_by(eps_left_out),
    ),
    _of_layernorm(
        "no root",
        "D / (V + eps) against D / sqrt(V + eps)",
        "a variance other than 1",
        "kind of bug: a missing root",
        scaled_by(without_root),
    ),
    _of_layernorm(
        "unbiased variance",
        "V F / (F - 1) against V under the root",
        "few features",
        "kind of bug: the unbiased variance",
        scaled_by(unbiased),
    ),
    _of_layernorm(
        "unbiased deviation plus eps",
        "D / (sqrt(V F / (F - 1)) + eps) against D / sqrt(V + eps)",
        "few features, a small variance, or a large eps",
        "hyunwoongko/transformer#7, hkproj/pytorch-transformer#31, harvardnlp/annotated-transformer#119",
        scaled_by(unbiased_and_eps_outside),
    ),
    _layernorm(
        "the last axis alone",
        "mean and variance over the last axis against all of normalized_shape",
        "several normalized axes",
        "kind of bug: axes left out",
        "forward",
        _of_the_last_axis,
    ),
    _layernorm(
        "all axes but the first",
        "mean and variance over every axis but the first against normalized_shape",
        "several leading axes",
        "kind of bug: axes too many",
        "forward",
        _all_but_the_first,
    ),
    _of_layernorm(
        "backward of two axes",
        "rows of the first axis and of all other elements, with the statistics of the first rows of normalized_shape",
        "several leading axes; the output is right",
        "flagos-ai/FlagGems#5392",
        both(_remembering, _two_axes_backward),
    ),
    _layernorm(
        "weight outside the sums",
        "G R (dY - (sum dY + H sum dY H) / F) against R (dH - (sum dH + H sum dH H) / F), dH = dY G",
        "a weight that is not the same for all features, as it is at the start",
        "kind of bug: the formula of batch normalization taken over",
        "backward",
        _weight_outside,
    ),
    _layernorm(
        "statistics taken for constants",
        "R dH against R (dH - (sum dH + H sum dH H) / F)",
        "any",
        "kind of bug: a missing term",
        "backward",
        _without(True, True),
    ),
    _layernorm(
        "variance taken for a constant",
        "R (dH - sum dH / F) against R (dH - (sum dH + H sum dH H) / F)",
        "any",
        "kind of bug: a missing term",
        "backward",
        _without(False, True),
    ),
    _layernorm(
        "mean taken for a constant",
        "R (dH - H sum dH H / F) against R (dH - (sum dH + H sum dH H) / F)",
        "any",
        "kind of bug: a missing term",
        "backward",
        _without(True, False),
    ),
    _layernorm(
        "gradient of the weight by the deviation",
        "dG = sum dY D against sum dY H",
        "a deviation other than 1",
        "kind of bug: another intermediate saved",
        "backward",
        _weight_gradient_of_input,
    ),
    _layernorm(
        "gradients of the parameters left out",
        "dG = dB = 0 against sums over the samples",
        "any",
        "pytorch/pytorch#183825",
        "backward",
        _parameters_skipped,
    ),
    _group(
        "statistics of the whole sample",
        "mean and variance over all channels against those of a group",
        "more than one group",
        "brainpy/BrainPy#765",
        "forward",
        _groups(lambda X, g, eps: _normalized(X.reshape(X.shape[0], -1), eps, X.shape[1] * X.shape[2])),
    ),
    _group(
        "statistics of single channels",
        "mean and variance over the places of a channel against those of a group",
        "groups of more than one channel",
        "kind of bug: instance normalization in its place",
        "forward",
        _groups(lambda X, g, eps: _normalized(X, eps, X.shape[2])),
    ),
    _group(
        "variance divided by the channels",
        "sum D^2 / (C / G) against / K, K = C / G times the places",
        "more than one place",
        "flagos-ai/FlagGems#4985",
        "forward",
        _groups(lambda X, g, eps: _normalized(X.reshape(X.shape[0], g, -1), eps, X.shape[1] // g)),
    ),
    Fault(
        "GroupNorm: unbiased variance, eps outside the root",
        "D / (sqrt(V K / (K - 1)) + eps) against D / sqrt(V + eps)",
        "few elements in a group",
        "taokong/group_normalization#1",
        {"GroupNorm": groups_scaled_by(unbiased_and_eps_outside)},
    ),
    _group(
        "channels taken in turn",
        "the group of channel c is c mod G against c / (C / G)",
        "more than one group and more than one channel in it",
        "tenstorrent/tt-metal#56202",
        "forward",
        _groups(_channels_taken_in_turn),
    ),
    _group(
        "sums divided by the last axis",
        "(sum dH + H sum dH H) / L against / K, L the last axis",
        "more than one channel in a group, or several axes of places",
        "linkedin/Liger-Kernel#1376",
        "backward",
        _group_backward(lambda saved, groups: saved.shape[-1] if len(saved.shape) > 2 else 1),
    ),
    _group(
        "sums divided by the channels",
        "(sum dH + H sum dH H) / (C / G) against / K",
        "more than one place",
        "kind of bug: another count",
        "backward",
        _group_backward(lambda saved, groups: saved.shape[1] // groups),
    ),
    _group(
        "mean taken for a constant",
        "R (dH - H sum dH H / K) against R (dH - (sum dH + H sum dH H) / K)",
        "any",
        "kind of bug: a missing term",
        "backward",
        _group_backward(lambda saved, groups: saved.H.shape[-1], mean=False),
    ),
    _group(
        "weight gradient by the first group's deviation",
        "dG with R of group 0 for every channel against that of its own group",
        "more than one group",
        "tenstorrent/tt-metal#56202",
        "backward",
        _of_the_first_group,
    ),
)
