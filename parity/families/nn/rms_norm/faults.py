"""Mistakes in RMSNorm. Letters and axes as there: s sample, f feature, F features in all."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.families.fault import Fault, Unsupported, replaced
from parity.families.nn.normalization.formulas import flat, output, weighted
from refnet.arithmetic import special


def _rms_scaled_by(scale: Any) -> Any:
    """RMSNorm's forward with R = scale(X, Q, eps, F) in place of 1 / sqrt(Q + eps)."""

    def forward(module: Any, right: Any, input: Any) -> Any:
        Y, saved = right(input)
        X, F = flat(module, input)
        if not X.size:
            return Y, saved
        eps = special.epsilon(X, module._dtype) if module.eps is None else module.eps
        # Q[s] = sum_f X[s,f]^2 / F
        R = scale(X, (X * X).sum(axis=-1, keepdims=True) / F, special.lift(eps, X), F)
        return output(module, X * R, saved.shape), saved._replace(H=X * R, R=R)

    return forward


def _variance_in_its_place(X: Any, Q: Any, eps: Any, F: int) -> Any:
    M = X.sum(axis=-1, keepdims=True) / F
    return 1 / np.sqrt(((X - M) * (X - M)).sum(axis=-1, keepdims=True) / F + eps)


def _float32_eps(module: Any, right: Any, input: Any) -> Any:
    if module.eps is not None:
        return right(input)
    module.eps = 2.0**-23
    try:
        return right(input)
    finally:
        module.eps = None


def _mean_subtracted(module: Any, right: Any, input: Any) -> Any:
    X, F = flat(module, input)
    # LayerNorm's D[s,f] = X[s,f] - M[s] in the place of X
    return right((X - X.sum(axis=-1, keepdims=True) / max(F, 1)).reshape(*input.shape))


def _rms_backward(dX_of: Any) -> Any:
    """RMSNorm's backward with dX = dX_of(dY, dH, H, R, G, F) in place of R (dH - H sum_m dH H / F)."""

    def backward(module: Any, right: Any, dY: Any, saved: Any) -> Any:
        _, grads = right(dY, saved)
        H, F = saved.H, max(saved.H.shape[-1], 1)
        G = dY.reshape(*H.shape)
        return dX_of(G, weighted(module, dY, H), H, saved.R, F).reshape(*saved.shape), grads

    return backward


def _sum(T: Any) -> Any:
    return T.sum(axis=-1, keepdims=True)


def _weight_gradient_over_features(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    dX, grads = right(dY, saved)
    s, F = saved.H.shape
    if "weight" not in grads or s != F:
        raise Unsupported("there is no weight, or not as many samples as features")
    # dG[s] = sum_f dY[s,f] H[s,f]
    return dX, {"weight": (dY.reshape(s, F) * saved.H).sum(axis=-1).reshape(*module.normalized_shape)}


def _weight_gradient_of_one_sample(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    dX, grads = right(dY, saved)
    if "weight" not in grads:
        raise Unsupported("there is no weight")
    # dG[f] = dY[s,f] H[s,f] of the last sample s
    last = (dY.reshape(*saved.H.shape) * saved.H)[-1:]
    return dX, {"weight": last.sum(axis=-2).reshape(*module.normalized_shape)}


def _no_weight_gradient(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    dX, grads = right(dY, saved)
    # dG[f] = 0
    return dX, {name: grad * 0 for name, grad in grads.items()}


def _rmsnorm(name: str, what: str, reveal: str, source: str, method: str, by: Any) -> Fault:
    return Fault(f"RMSNorm: {name}", what, reveal, source, {"RMSNorm": replaced(method, by)})


FAULTS = (
    _rmsnorm(
        "eps outside the root",
        "X / (sqrt(Q) + eps) against X / sqrt(Q + eps)",
        "a small mean of squares, or a large eps",
        "kind of bug: eps outside the root, in LayerNorm callummcdougall/ARENA_3.0#228",
        "forward",
        _rms_scaled_by(lambda X, Q, eps, F: 1 / (np.sqrt(Q) + eps)),
    ),
    _rmsnorm(
        "eps left out",
        "X / sqrt(Q) against X / sqrt(Q + eps)",
        "a small mean of squares, or a large eps",
        "kind of bug: a missing term",
        "forward",
        _rms_scaled_by(lambda X, Q, eps, F: 1 / np.sqrt(Q)),
    ),
    _rmsnorm(
        "eps of float32",
        "eps=None as 2^-23 whatever the dtype against the dtype's own",
        "float64 and eps=None",
        "kind of bug: a default of another dtype",
        "forward",
        _float32_eps,
    ),
    _rmsnorm(
        "sum for the mean",
        "X / sqrt(F Q + eps) against X / sqrt(Q + eps)",
        "more than one feature",
        "kind of bug: a missing count",
        "forward",
        _rms_scaled_by(lambda X, Q, eps, F: 1 / np.sqrt(Q * F + eps)),
    ),
    _rmsnorm(
        "variance in place of the mean of squares",
        "sum (X - M)^2 / F against sum X^2 / F",
        "a mean other than 0",
        "kind of bug: layer normalization in its place",
        "forward",
        _rms_scaled_by(_variance_in_its_place),
    ),
    _rmsnorm(
        "mean subtracted",
        "(X - M) R against X R",
        "a mean other than 0",
        "kind of bug: layer normalization in its place",
        "forward",
        _mean_subtracted,
    ),
    _rmsnorm(
        "mean subtracted backward",
        "R (dH - (sum dH + H sum dH H) / F) against R (dH - H sum dH H / F)",
        "any",
        "kind of bug: layer normalization's formula taken over",
        "backward",
        _rms_backward(lambda dY, dH, H, R, F: R * (dH - (_sum(dH) + H * _sum(dH * H)) / F)),
    ),
    _rmsnorm(
        "scale taken for a constant",
        "R dH against R (dH - H sum dH H / F)",
        "any",
        "kind of bug: a missing term",
        "backward",
        _rms_backward(lambda dY, dH, H, R, F: R * dH),
    ),
    _rmsnorm(
        "weight left out of the sum",
        "R (dH - H sum dY H / F) against R (dH - H sum dH H / F)",
        "a weight other than 1, as it is at the start",
        "karpathy/llm.c#763",
        "backward",
        _rms_backward(lambda dY, dH, H, R, F: R * (dH - H * _sum(dY * H) / F)),
    ),
    _rmsnorm(
        "correction not divided by the features",
        "R (dH - H sum dH H) against R (dH - H sum dH H / F)",
        "more than one feature",
        "kind of bug: a missing count",
        "backward",
        _rms_backward(lambda dY, dH, H, R, F: R * (dH - H * _sum(dH * H))),
    ),
    _rmsnorm(
        "weight gradient over the features",
        "dG = sum over f of dY H against over s",
        "as many samples as features",
        "kind of bug: another axis",
        "backward",
        _weight_gradient_over_features,
    ),
    _rmsnorm(
        "weight gradient of one sample",
        "dG = dY H of the last sample against the sum over all",
        "more than one sample",
        "kind of bug: overwritten, not added up",
        "backward",
        _weight_gradient_of_one_sample,
    ),
    _rmsnorm(
        "no weight gradient",
        "dG = 0 against sum dY H",
        "any",
        "unslothai/unsloth#4533",
        "backward",
        _no_weight_gradient,
    ),
)
