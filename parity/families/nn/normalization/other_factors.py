"""LayerNorm and GroupNorm with other factors than 1 / sqrt(V + eps), forward and, as automatic differentiation has it,
backward.

Letters and axes as there: s sample, f feature, F features in all; in GroupNorm f is an element of a group.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.families.fault import Patch, Unsupported, replaced
from parity.families.nn.normalization.formulas import flat, output, per_channel, weighted
from refnet.arithmetic import special


def scaled_by(scale: Any) -> Patch:
    """R = scale(V, eps, F)[0] in place of 1 / sqrt(V + eps), forward and, by its slope dR / dV, backward."""

    def forward(module: Any, right: Any, input: Any) -> Any:
        Y, saved = right(input)
        X, F = flat(module, input)
        if not X.size:
            return Y, (saved, None, None)
        # M[s] = sum_f X[s,f] / F     D[s,f] = X[s,f] - M[s]     V[s] = sum_f D[s,f]^2 / F
        D = X - X.sum(axis=-1, keepdims=True) / F
        R, slope = scale((D * D).sum(axis=-1, keepdims=True) / F, special.lift(module.eps, X), F)
        return output(module, D * R, saved.shape), (saved._replace(H=D * R, R=R), D, slope)

    def backward(module: Any, right: Any, dY: Any, saved: Any) -> Any:
        inner, D, slope = saved
        dX, grads = right(dY, inner)
        if D is None:
            return dX, grads
        return through_scale(weighted(module, dY, D), D, inner.R, slope).reshape(*inner.shape), grads

    return both(forward, backward)


def through_scale(dH: Any, D: Any, R: Any, slope: Any) -> Any:
    """dX of H = D R(V), with slope = dR / dV."""
    F = D.shape[-1]
    # dD[s,f] = R[s] dH[s,f] + 2 D[s,f] dR[s]/dV[s] sum_m dH[s,m] D[s,m] / F     dX[s,f] = dD[s,f] - sum_m dD[s,m] / F
    dD = R * dH + 2 * D * (slope * _sum(dH * D)) / F
    return dD - _sum(dD) / F


def both(forward: Any, backward: Any) -> Patch:
    def patch(module: Any) -> None:
        replaced("forward", forward)(module)
        replaced("backward", backward)(module)

    return patch


def eps_outside(V: Any, eps: Any, F: int) -> Any:
    # R[s] = 1 / (sqrt(V[s]) + eps)
    S = np.sqrt(V)
    R = 1 / (S + eps)
    return R, -R * R / (2 * S)


def eps_left_out(V: Any, eps: Any, F: int) -> Any:
    # R[s] = 1 / sqrt(V[s])
    R = 1 / np.sqrt(V)
    return R, -R * R * R / 2


def without_root(V: Any, eps: Any, F: int) -> Any:
    # R[s] = 1 / (V[s] + eps)
    R = 1 / (V + eps)
    return R, -R * R


def unbiased(V: Any, eps: Any, F: int) -> Any:
    if F == 1:
        raise Unsupported("one feature has no unbiased variance")
    # R[s] = 1 / sqrt(V[s] F / (F - 1) + eps)
    R = 1 / np.sqrt(V * F / (F - 1) + eps)
    return R, -R * R * R / 2 * F / (F - 1)


def unbiased_and_eps_outside(V: Any, eps: Any, F: int) -> Any:
    if F == 1:
        raise Unsupported("one feature has no unbiased variance")
    # R[s] = 1 / (sqrt(V[s] F / (F - 1)) + eps)
    S = np.sqrt(V * F / (F - 1))
    R = 1 / (S + eps)
    return R, -R * R / (2 * S) * F / (F - 1)


def groups_scaled_by(scale: Any) -> Patch:
    """The same in GroupNorm, over the elements of each group."""

    def forward(module: Any, right: Any, input: Any) -> Any:
        Y, saved = right(input)
        if not Y.size:
            return Y, (saved, None, None)
        X, K = input.reshape(*saved.H.shape), saved.H.shape[-1]
        D = X - _sum(X) / K
        R, slope = scale(_sum(D * D) / K, special.lift(module.eps, X), K)
        H = D * R
        Y = H.reshape(*saved.shape[:2], saved.L) * per_channel(module, "weight") + per_channel(module, "bias")
        return Y.reshape(*saved.shape), (saved._replace(H=H, R=R), D, slope)

    def backward(module: Any, right: Any, dY: Any, saved: Any) -> Any:
        inner, D, slope = saved
        dX, grads = right(dY, inner)
        if D is None:
            return dX, grads
        dH = dY.reshape(*inner.shape[:2], inner.L) * per_channel(module, "weight")
        return through_scale(dH.reshape(*D.shape), D, inner.R, slope).reshape(*inner.shape), grads

    return both(forward, backward)


def _sum(T: Any) -> Any:
    return T.sum(axis=-1, keepdims=True)
