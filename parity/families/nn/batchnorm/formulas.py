"""Weaker formulas of BatchNorm1d, 2d and 3d."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.families.formula import Variant
from refnet.arithmetic import special

KINDS = ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d")


def _normalize_by_a_line(module: Any) -> None:
    right = module.forward

    def forward(X: Any) -> Any:
        mean: Any = module.buffers["running_mean"].copy() if module.buffers else None
        _, saved = right(X)
        _, R, n, N, channel, batch = saved
        # M[c] = sum_n X[n,c] / N, or the running mean as it was
        M = X.sum(axis=n, keepdims=True) / max(N, 1) if batch else mean.reshape(*channel)
        # K[c] = R[c] G[c]     Y[n,c] = X[n,c] K[c] + (B[c] - M[c] K[c])
        K = R * module.params["weight"].reshape(*channel) if "weight" in module.params else R
        B = module.params["bias"].reshape(*channel) if "bias" in module.params else special.lift(0.0, X)
        return X * K + (B - M * K), saved

    module.forward = forward


def _one_pass_variance(module: Any) -> None:
    right_forward, right_backward = module.forward, module.backward
    track = module.track
    # The right forward finds out what is asked for; the statistics are moved below, once.
    module.track = lambda *_: None

    def forward(X: Any) -> Any:
        _, (H, R, n, N, channel, batch) = right_forward(X)
        if batch:
            # M[c] = sum_n X[n,c] / N     V[c] = sum_n X[n,c]^2 / N - M[c]^2
            M = X.sum(axis=n, keepdims=True) / max(N, 1)
            V = (X * X).sum(axis=n, keepdims=True) / max(N, 1) - M * M
            if module.training and module.buffers:
                track(M.reshape(module.num_features), (V * N).reshape(module.num_features), N)
            # R[c] = 1 / sqrt(V[c] + eps)     H[n,c] = (X[n,c] - M[c]) R[c]
            R = 1 / np.sqrt(V + special.lift(module.eps, X))
            H = (X - M) * R
        Y = H * module.params["weight"].reshape(*channel) if "weight" in module.params else H
        Y = Y + module.params["bias"].reshape(*channel) if "bias" in module.params else Y
        return Y, (X, (H, R, n, N, channel, batch))

    def backward(dY: Any, saved: Any) -> Any:
        X, right = saved
        H, R, n, N, channel, batch = right
        dX, grads = right_backward(dY, right)
        if not batch:
            return dX, grads
        # dH[n,c] = dY[n,c] G[c]     dV[c] = -R[c]^3 / 2 sum_n dH[n,c] D[n,c] = -R[c]^2 / 2 sum_n dH[n,c] H[n,c]
        dH = dY * module.params["weight"].reshape(*channel) if "weight" in module.params else dY
        dV = (dH * H).sum(axis=n, keepdims=True) * (R * R) / -2
        M = X.sum(axis=n, keepdims=True) / max(N, 1)
        # dM[c] = -R[c] sum_n dH[n,c] - 2 M[c] dV[c]     dX[n,c] = dH[n,c] R[c] + (2 X[n,c] dV[c] + dM[c]) / N
        dM = -(R * dH.sum(axis=n, keepdims=True)) - 2 * M * dV
        return dH * R + (2 * X * dV + dM) / max(N, 1), grads

    module.forward, module.backward = forward, backward


def _begins_with_the_first_batch(module: Any) -> None:
    right = module.track

    def track(M: Any, S: Any, N: int) -> None:
        mean, var, tracked = (module.buffers[name] for name in ("running_mean", "running_var", "num_batches_tracked"))
        first = tracked == 0
        right(M, S, N)
        if N:
            # mean[c] = M[c]     var[c] = S[c] / N     of the first batch
            mean[...], var[...] = np.where(first, M, mean), np.where(first, S / N, var)

    module.track = track


CONVENTIONS = (
    Variant(
        "running statistics begin as the first batch's",
        "The first batch's mean and biased variance are taken over, instead of being mixed with 0 and 1.",
        "Equinox: equinox/nn/_batch_norm.py, first_time_index",
        dict.fromkeys(KINDS, _begins_with_the_first_batch),
        ("equinox",),
    ),
)

WEAKER = (
    Variant(
        "x w/s + (b - m w/s)",
        "Normalization as a line for each channel: its two terms cancel where the mean is large beside the deviation.",
        "torch: aten/src/ATen/native/cpu/batch_norm_kernel.cpp, batch_norm_cpu_collect_linear_and_constant_terms",
        dict.fromkeys(KINDS, _normalize_by_a_line),
        ("torch",),
    ),
    Variant(
        "E[x^2] - E[x]^2",
        "The variance in one pass: its digits cancel where the mean is large beside the deviation.",
        "flax.linen.BatchNorm and flax.nnx.BatchNorm, use_fast_variance=True, which is the default",
        dict.fromkeys(KINDS, _one_pass_variance),
        ("jax",),
    ),
)
