"""Weaker formulas of LayerNorm and GroupNorm.

Letters and axes as there: s sample, f feature, F features in all; b sample, c channel, g group, k element of K in it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.families.formula import Variant
from refnet.arithmetic import special


def flat(module: Any, X: Any) -> tuple[Any, int]:
    """X (s, f), and F."""
    shape, axes = tuple(X.shape), len(module.normalized_shape)
    F = int(np.prod(module.normalized_shape))
    return X.reshape(int(np.prod(shape[: len(shape) - axes])), F), F


def output(module: Any, H: Any, shape: Any) -> Any:
    """Y[s,f] = H[s,f] G[f] + B[f]"""
    Y = H * module.params["weight"].reshape(H.shape[-1]) if "weight" in module.params else H
    Y = Y + module.params["bias"].reshape(H.shape[-1]) if "bias" in module.params else Y
    return Y.reshape(*shape)


def weighted(module: Any, dY: Any, H: Any) -> Any:
    """dH[s,f] = dY[s,f] G[f]"""
    dH = dY.reshape(*H.shape)
    return dH * module.params["weight"].reshape(H.shape[-1]) if "weight" in module.params else dH


def _one_pass_variance(module: Any) -> None:
    right_forward, right_backward = module.forward, module.backward

    def forward(input: Any) -> Any:
        _, saved = right_forward(input)
        X, F = flat(module, input)
        # M[s] = sum_f X[s,f] / F     V[s] = sum_f X[s,f]^2 / F - M[s]^2
        M = X.sum(axis=-1, keepdims=True) / max(F, 1)
        V = (X * X).sum(axis=-1, keepdims=True) / max(F, 1) - M * M
        R = 1 / np.sqrt(V + special.lift(module.eps, X)) if X.size else V
        H = (X - M) * R
        return output(module, H, saved.shape), (saved._replace(H=H, R=R), X, M)

    def backward(dY: Any, saved: Any) -> Any:
        right, X, M = saved
        _, grads = right_backward(dY, right)
        H, R, F = right.H, right.R, max(right.H.shape[-1], 1)
        dH = weighted(module, dY, H)
        # dV[s] = -R[s]^2 / 2 sum_f dH[s,f] H[s,f]     dM[s] = -R[s] sum_f dH[s,f] - 2 M[s] dV[s]
        dV = (dH * H).sum(axis=-1, keepdims=True) * (R * R) / -2
        dM = -(R * dH.sum(axis=-1, keepdims=True)) - 2 * M * dV
        # dX[s,f] = dH[s,f] R[s] + (2 X[s,f] dV[s] + dM[s]) / F
        return (dH * R + (2 * X * dV + dM) / F).reshape(*right.shape), grads

    module.forward, module.backward = forward, backward


def _scaled_and_shifted(module: Any) -> None:
    right_backward = module.backward
    right_forward = module.forward

    def forward(input: Any) -> Any:
        _, saved = right_forward(input)
        X, F = flat(module, input)
        # Y[s,f] = (X[s,f] R[s] + (-M[s] R[s])) G[f] + B[f]
        M = X.sum(axis=-1, keepdims=True) / max(F, 1)
        return output(module, X * saved.R + -M * saved.R, saved.shape), (saved, X, M)

    def backward(dY: Any, saved: Any) -> Any:
        right, X, M = saved
        R, F = right.R, max(right.H.shape[-1], 1)
        _, grads = right_backward(dY, right)
        dH = weighted(module, dY, right.H)
        # P[s] = sum_f dH[s,f] X[s,f]     Q[s] = sum_f dH[s,f]     b[s] = (Q[s] M[s] - P[s]) R[s]^3 / F
        P, Q = (dH * X).sum(axis=-1, keepdims=True), dH.sum(axis=-1, keepdims=True)
        b = (Q * M - P) * R * R * R / F
        # dX[s,f] = R[s] dH[s,f] + b[s] X[s,f] + (-b[s] M[s] - Q[s] R[s] / F)
        dX = R * dH + b * X + (-b * M - Q * R / F)
        D = X * R + -M * R
        own = {"weight": (dY.reshape(*D.shape) * D).sum(axis=-2).reshape(*module.normalized_shape)}
        return dX.reshape(*right.shape), {name: own.get(name, grad) for name, grad in grads.items()}

    module.forward, module.backward = forward, backward


def per_channel(module: Any, name: str) -> Any:
    """A parameter of GroupNorm, spread over the places; 1 or 0 where there is none."""
    C = module.num_channels
    return module.params[name].reshape(C, 1) if name in module.params else float(name == "weight")


def _group_by_a_line(module: Any) -> None:
    right_forward, right_backward = module.forward, module.backward

    def forward(input: Any) -> Any:
        Y, saved = right_forward(input)
        X = input.reshape(*saved.H.shape)
        K, (b, C) = max(saved.H.shape[-1], 1), saved.shape[:2]
        if not X.size or "weight" not in module.params:
            M = X.sum(axis=-1, keepdims=True) / K
            line = (X * saved.R + -M * saved.R).reshape(*saved.shape)
            return (line if X.size else Y), (saved, X, M)
        # A[b,c] = R[b,g] G[c]     Y[b,c,l] = X[b,c,l] A[b,c] + (B[c] - A[b,c] M[b,g]), g the group of c
        M = X.sum(axis=-1, keepdims=True) / K
        of_channels = (b, module.num_groups, C // module.num_groups)
        A = np.broadcast_to(saved.R, of_channels).reshape(b, C, 1) * per_channel(module, "weight")
        M_c = np.broadcast_to(M, of_channels).reshape(b, C, 1)
        Y = X.reshape(b, C, saved.L) * A + (per_channel(module, "bias") - A * M_c)
        return Y.reshape(*saved.shape), (saved, X, M)

    def backward(dY: Any, saved: Any) -> Any:
        right, X, M = saved
        dX, grads = right_backward(dY, right)
        if not X.size:
            return dX, grads
        R, L, (b, C), (groups, K) = right.R, right.L, right.shape[:2], right.H.shape[-2:]
        # P[b,c] = sum_l dY[b,c,l] X[b,c,l]     Q[b,c] = sum_l dY[b,c,l]
        G = dY.reshape(b, C, L)
        P, Q = (G * X.reshape(b, C, L)).sum(axis=-1, keepdims=True), G.sum(axis=-1, keepdims=True)
        # p[b,g], q[b,g]: sums of P[b,c] G[c] and Q[b,c] G[c] over the channels of a group
        of_channels = (b, groups, C // groups)
        w = per_channel(module, "weight")
        p, q = ((T * w).reshape(*of_channels).sum(axis=-1, keepdims=True) for T in (P, Q))
        # h[b,g] = (q M - p) R^3 / K     dX[b,g,k] = dY G R + h X - (h M + q R / K)
        h = (q * M - p) * R * R * R / K
        dH = (G * w).reshape(*right.H.shape)
        dX = dH * R + h * X - (h * M + q * R / K)
        # dG[c] = sum_b (P[b,c] - Q[b,c] M[b,g]) R[b,g]
        R_c, M_c = (np.broadcast_to(T, of_channels).reshape(b, C, 1) for T in (R, M))
        own = {"weight": ((P - Q * M_c) * R_c).sum(axis=(-3, -1))}
        return dX.reshape(*right.shape), {name: own.get(name, grad) for name, grad in grads.items()}

    module.forward, module.backward = forward, backward


WEAKER = (
    Variant(
        "x r - m r of a group",
        "Normalization as a line for each channel, forward and backward: its terms cancel where the mean is large "
        "beside the deviation.",
        "torch: aten/src/ATen/native/cpu/group_norm_kernel.cpp, scale and bias of a channel; c1, c2 and c3, ds and db",
        {"GroupNorm": _group_by_a_line},
        ("torch",),
    ),
    Variant(
        "x r - m r",
        "Normalization as a line for each sample, forward and backward: its terms cancel where the mean is large "
        "beside the deviation.",
        "torch: aten/src/ATen/native/cpu/layer_norm_kernel.cpp, scale and bias of a row; a, b and c of its gradient",
        {"LayerNorm": _scaled_and_shifted},
        ("torch",),
    ),
    Variant(
        "E[x^2] - E[x]^2 of a sample",
        "The variance in one pass: its digits cancel where the mean is large beside the deviation.",
        "flax.linen.LayerNorm and flax.nnx.LayerNorm, use_fast_variance=True, which is the default",
        {"LayerNorm": _one_pass_variance},
        ("jax",),
    ),
)
