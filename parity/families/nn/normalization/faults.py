"""Mistakes in LayerNorm. Letters and axes as there: s sample, f feature, F features in all."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.families.fault import Fault, Unsupported, replaced
from parity.families.nn.normalization.formulas import flat, output, weighted
from refnet.arithmetic import special


def _scaled_by(scale: Any) -> Any:
    """Forward with R = scale(V, eps, F) in place of 1 / sqrt(V + eps)."""

    def forward(module: Any, right: Any, input: Any) -> Any:
        Y, saved = right(input)
        X, F = flat(module, input)
        if not X.size:
            return Y, saved
        # M[s] = sum_f X[s,f] / F     D[s,f] = X[s,f] - M[s]     V[s] = sum_f D[s,f]^2 / F
        D = X - X.sum(axis=-1, keepdims=True) / F
        R = scale((D * D).sum(axis=-1, keepdims=True) / F, special.lift(module.eps, X), F)
        return output(module, D * R, saved.shape), saved._replace(H=D * R, R=R)

    return forward


def _unbiased(V: Any, eps: Any, F: int) -> Any:
    if F == 1:
        raise Unsupported("one feature has no unbiased variance")
    return 1 / np.sqrt(V * F / (F - 1) + eps)


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


def _layernorm(name: str, what: str, reveal: str, source: str, method: str, by: Any) -> Fault:
    return Fault(f"LayerNorm: {name}", what, reveal, source, {"LayerNorm": replaced(method, by)})


FAULTS = (
    _layernorm(
        "eps outside the root",
        "D / (sqrt(V) + eps) against D / sqrt(V + eps)",
        "a small variance, or a large eps",
        "hyunwoongko/transformer#7, harvardnlp/annotated-transformer#119, callummcdougall/ARENA_3.0#228",
        "forward",
        _scaled_by(lambda V, eps, F: 1 / (np.sqrt(V) + eps)),
    ),
    _layernorm(
        "eps left out",
        "D / sqrt(V) against D / sqrt(V + eps)",
        "a small variance, or a large eps",
        "issue class: a missing term",
        "forward",
        _scaled_by(lambda V, eps, F: 1 / np.sqrt(V)),
    ),
    _layernorm(
        "no root",
        "D / (V + eps) against D / sqrt(V + eps)",
        "a variance other than 1",
        "jax-ml/jax#443",
        "forward",
        _scaled_by(lambda V, eps, F: 1 / (V + eps)),
    ),
    _layernorm(
        "unbiased variance",
        "V F / (F - 1) against V under the root",
        "few features",
        "hkproj/pytorch-transformer#31, taokong/group_normalization#1",
        "forward",
        _scaled_by(_unbiased),
    ),
    _layernorm(
        "the last axis alone",
        "mean and variance over the last axis against all of normalized_shape",
        "several normalized axes",
        "issue class: axes left out",
        "forward",
        _of_the_last_axis,
    ),
    _layernorm(
        "all axes but the first",
        "mean and variance over every axis but the first against normalized_shape",
        "several leading axes",
        "flagos-ai/FlagGems#5392",
        "forward",
        _all_but_the_first,
    ),
    _layernorm(
        "weight outside the sums",
        "G R (dY - (sum dY + H sum dY H) / F) against R (dH - (sum dH + H sum dH H) / F), dH = dY G",
        "a weight that is not the same for all features, as it is at the start",
        "issue class: the formula of batch normalization taken over",
        "backward",
        _weight_outside,
    ),
    _layernorm(
        "statistics taken for constants",
        "R dH against R (dH - (sum dH + H sum dH H) / F)",
        "any",
        "issue class: a missing term",
        "backward",
        _without(True, True),
    ),
    _layernorm(
        "variance taken for a constant",
        "R (dH - sum dH / F) against R (dH - (sum dH + H sum dH H) / F)",
        "any",
        "issue class: a missing term",
        "backward",
        _without(False, True),
    ),
    _layernorm(
        "mean taken for a constant",
        "R (dH - H sum dH H / F) against R (dH - (sum dH + H sum dH H) / F)",
        "any",
        "issue class: a missing term",
        "backward",
        _without(True, False),
    ),
    _layernorm(
        "gradient of the weight by the deviation",
        "dG = sum dY D against sum dY H",
        "a deviation other than 1",
        "issue class: another intermediate saved",
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
)
