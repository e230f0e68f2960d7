"""Weaker formulas of InstanceNorm1d, 2d and 3d. Letters as there: b sample, c channel, l place, L places in all."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.families.formula import Variant
from refnet.arithmetic import special

KINDS = ("InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d")


def affine(module: Any, H: Any, shape: Any) -> Any:
    """Y[b,c,l] = H[b,c,l] G[c] + B[c]"""
    C = H.shape[-2]
    Y = H * module.params["weight"].reshape(C, 1) if "weight" in module.params else H
    Y = Y + module.params["bias"].reshape(C, 1) if "bias" in module.params else Y
    return Y.reshape(*shape)


def _normalize_by_a_line(module: Any) -> None:
    right = module.forward

    def forward(input: Any) -> Any:
        mean: Any = module.buffers["running_mean"].copy() if module.buffers else None
        _, saved = right(input)
        C, L = saved.H.shape[-2:]
        X = input.reshape(*saved.H.shape)
        # M[b,c] = sum_l X[b,c,l] / L, or the running mean as it was
        M = X.sum(axis=-1, keepdims=True) / max(L, 1) if saved.instance else mean.reshape(C, 1)
        # K[b,c] = R[b,c] G[c]     Y[b,c,l] = X[b,c,l] K[b,c] + (B[c] - M[b,c] K[b,c])
        K = saved.R * module.params["weight"].reshape(C, 1) if "weight" in module.params else saved.R
        B = module.params["bias"].reshape(C, 1) if "bias" in module.params else special.lift(0.0, X)
        return (X * K + (B - M * K)).reshape(*saved.shape), saved

    module.forward = forward


def _one_pass_variance(module: Any) -> None:
    right_forward, right_backward, track = module.forward, module.backward, module.track
    # The right forward finds out what is asked for; the statistics are moved below, once.
    module.track = lambda *_: None

    def forward(input: Any) -> Any:
        Y, saved = right_forward(input)
        X = input.reshape(*saved.H.shape)
        if not saved.instance or not X.size:
            return Y, (saved, X, None)
        B, C, L = X.shape
        # M[b,c] = sum_l X[b,c,l] / L     V[b,c] = sum_l X[b,c,l]^2 / L - M[b,c]^2
        M = X.sum(axis=-1, keepdims=True) / L
        V = (X * X).sum(axis=-1, keepdims=True) / L - M * M
        if module.buffers and module.momentum is not None:
            track(M.reshape(B, C), (V * L).reshape(B, C), L)
        R = 1 / np.sqrt(V + special.lift(module.eps, X))
        H = (X - M) * R
        return affine(module, H, saved.shape), (saved._replace(H=H, R=R), X, M)

    def backward(dY: Any, saved: Any) -> Any:
        right, X, M = saved
        dX, grads = right_backward(dY, right)
        if M is None:
            return dX, grads
        H, R, (C, L) = right.H, right.R, right.H.shape[-2:]
        # dH[b,c,l] = dY[b,c,l] G[c]     dV[b,c] = -R[b,c]^2 / 2 sum_l dH[b,c,l] H[b,c,l]
        dH = dY.reshape(*H.shape)
        dH = dH * module.params["weight"].reshape(C, 1) if "weight" in module.params else dH
        dV = (dH * H).sum(axis=-1, keepdims=True) * (R * R) / -2
        # dM[b,c] = -R[b,c] sum_l dH[b,c,l] - 2 M[b,c] dV[b,c]
        dM = -(R * dH.sum(axis=-1, keepdims=True)) - 2 * M * dV
        # dX[b,c,l] = dH[b,c,l] R[b,c] + (2 X[b,c,l] dV[b,c] + dM[b,c]) / L
        return (dH * R + (2 * X * dV + dM) / L).reshape(*right.shape), grads

    module.forward, module.backward = forward, backward


def _statistics_of_rows(module: Any) -> None:
    right = module.forward
    moved: list[tuple[Any, Any, int]] = []
    module.track = lambda *batch: moved.append(batch)

    def forward(input: Any) -> Any:
        Y, saved = right(input)
        B, C, _ = saved.H.shape
        if not (module.training and module.buffers and B):
            return Y, saved
        mean, var = module.buffers["running_mean"], module.buffers["running_var"]
        means, variances = np.broadcast_to(mean, (B, C)), np.broadcast_to(var, (B, C))
        for M, S, L in moved:
            m = special.lift(module.momentum, M)
            means, variances = (1 - m) * means + m * M, (1 - m) * variances + m * (S / (L - 1))
        moved.clear()
        # mean[c] = sum_b ((1 - momentum) mean[c] + momentum M[b,c]) / B, of every sample also where nothing moves
        mean[...], var[...] = means.sum(axis=-2) / B, variances.sum(axis=-2) / B
        return Y, saved

    module.forward = forward


WEAKER = (
    Variant(
        "running statistics of every sample, averaged",
        "Each sample moves running statistics of its own, and the mean over the samples is kept: rounded also where "
        "nothing moves, with momentum None or without places.",
        "torch: aten/src/ATen/native/Normalization.cpp, instance_norm repeats them for each sample and takes the mean",
        dict.fromkeys(KINDS, _statistics_of_rows),
        ("torch",),
    ),
    Variant(
        "x w/s + (b - m w/s) of an instance",
        "Normalization as a line for each channel of a sample: its terms cancel where the mean is large beside the "
        "deviation.",
        "torch: aten/src/ATen/native/Normalization.cpp, instance_norm calls batch_norm on a view; "
        "aten/src/ATen/native/cpu/batch_norm_kernel.cpp, batch_norm_cpu_collect_linear_and_constant_terms",
        dict.fromkeys(KINDS, _normalize_by_a_line),
        ("torch",),
    ),
    Variant(
        "E[x^2] - E[x]^2 of an instance",
        "The variance in one pass: its digits cancel where the mean is large beside the deviation.",
        "flax.linen.InstanceNorm, use_fast_variance=True, which is the default",
        dict.fromkeys(KINDS, _one_pass_variance),
        ("jax",),
    ),
)
