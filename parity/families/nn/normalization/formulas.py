"""Weaker formulas of LayerNorm. Letters and axes as there: s sample, f feature, F features in all."""

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


WEAKER = (
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
