"""Batch normalization."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from refnet import _check
from refnet.arithmetic import special
from refnet.nn.module import Array, Module, Params


class BatchNorm1d(Module):
    """y = weight (x - mean) / sqrt(var + eps) + bias, with a mean and a variance for each channel.

    Axes: c channel; n, m sample, that is all other axes together, N samples in all. X (n, c) or (n, c, l); `weight` G
    and `bias` B (c,).

    Training, and evaluation without running statistics, take mean and variance from the batch, in two passes:

        M[c] = sum_n X[n,c] / N     D[n,c] = X[n,c] - M[c]     V[c] = sum_n D[n,c]^2 / N     R[c] = 1 / sqrt(V[c] + eps)
        H[n,c] = D[n,c] R[c]        Y[n,c] = H[n,c] G[c] + B[c]

    Training also moves the running statistics: the mean towards M, the variance towards sum_n D[n,c]^2 / (N - 1), the
    unbiased one; by `momentum`, or by 1/k at the k-th batch if `momentum` is None, which gives the average over all
    batches. Evaluation with running statistics takes them for M and V; they are constants then.

    Backward of the batch formula, with dH = G dY. Were R a constant, D would receive R dH. But R[c] falls as a D[n,c]
    grows, dR[c] / dD[n,c] = -R[c]^3 D[n,c] / N = -R[c]^2 H[n,c] / N, and with it every H[m,c] = D[m,c] R[c]. So D[n,c]
    loses R[c]^2 H[n,c] / N sum_m dH[m,c] D[m,c] = R[c] H[n,c] / N sum_m dH[m,c] H[m,c]. From D back to X the mean over
    the samples is taken off, as it was in forward; H has mean 0, so only dH has one to lose. With G[c] in front:

        dX[n,c] = G[c] R[c] (dY[n,c] - (sum_m dY[m,c] + H[n,c] sum_m dY[m,c] H[m,c]) / N)

    where the sums are the gradients of B and of G.

    As in torch, an empty batch counts as a batch but moves no statistics. Unlike in torch, a refused batch does not
    count.

    Args:
        num_features: number of channels.
        eps: added to the variance; positive, or at least 0 where running statistics are used.
        momentum: weight of the new batch in the running statistics; None for the average over all batches.
        affine: whether there are a weight (initially 1) and a bias (initially 0).
        track_running_stats: whether there are running statistics (initially 0 and 1).
        dtype: float32 or float64 (the default).
        bias: with `affine`, whether there is a bias.

    Buffers are `running_mean`, `running_var` and `num_batches_tracked`, a plain int64 array in every arithmetic.

    Raises:
        TypeError: input, parameters and running statistics are not floats of one dtype.
        ValueError: the input is neither (n, c) nor (n, c, l), or has one sample where the batch formula needs more, or
            eps is too small.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        dtype = dtype or np.float64
        if affine:
            self.params["weight"] = np.ones(num_features, dtype)
            if bias:
                self.params["bias"] = np.zeros(num_features, dtype)
        if track_running_stats:
            self.buffers["running_mean"] = np.zeros(num_features, dtype)
            self.buffers["running_var"] = np.ones(num_features, dtype)
            self.buffers["num_batches_tracked"] = np.zeros((), np.int64)

    def forward(self, X: Array) -> tuple[Array, Any]:
        own = {name: array for name, array in self.state_dict().items() if name != "num_batches_tracked"}
        _check.floating("BatchNorm1d", input=X, **own)
        C = self.num_features
        if X.ndim not in (2, 3) or X.shape[1] != C:
            raise ValueError(
                f"BatchNorm1d: expected input of shape (N, {C}) or (N, {C}, L), num_features = {C}, "
                f"got {tuple(X.shape)}"
            )
        n, channel = ((-2,), (C,)) if X.ndim == 2 else ((-3, -1), (C, 1))
        N = math.prod(X.shape[axis] for axis in n)
        batch = self.training or not self.buffers
        if not (self.eps > 0 or (self.eps == 0 and not batch)):
            least = "> 0 with statistics of the batch" if batch else ">= 0"
            raise ValueError(f"BatchNorm1d: expected eps {least}, got {self.eps}")
        if batch:
            if N == 1:
                raise ValueError(
                    f"BatchNorm1d: expected more than 1 sample to take statistics of, got input shape {tuple(X.shape)}"
                )
            # M[c] = sum_n X[n,c] / N     D[n,c] = X[n,c] - M[c]     S[c] = sum_n D[n,c]^2     V[c] = S[c] / N
            # (of an empty batch every sum is 0, whatever it is divided by)
            M = X.sum(axis=n, keepdims=True) / max(N, 1)
            D = X - M
            S = (D * D).sum(axis=n, keepdims=True)
            V = S / max(N, 1)
            if self.training and self.buffers:
                self._track(M.reshape(C), S.reshape(C), N)
        else:
            D = X - self.buffers["running_mean"].reshape(*channel)
            V = self.buffers["running_var"].reshape(*channel)
        # R[c] = 1 / sqrt(V[c] + eps)     H[n,c] = D[n,c] R[c]     Y[n,c] = H[n,c] G[c] + B[c]
        # (an empty batch has no D to be scaled, nor an element that tells eps its arithmetic)
        R = 1 / np.sqrt(V + special.lift(self.eps, X)) if N > 0 else V
        H = D * R
        Y = H
        if "weight" in self.params:
            Y = Y * self.params["weight"].reshape(*channel)
        if "bias" in self.params:
            Y = Y + self.params["bias"].reshape(*channel)
        return Y, (H, R, n, N, channel, batch)

    def _track(self, M: Array, S: Array, N: int) -> None:
        """Move the running statistics to a batch with means M (c,) and sums of squared deviations S (c,)."""
        mean, var, tracked = (self.buffers[name] for name in ("running_mean", "running_var", "num_batches_tracked"))
        tracked[...] = tracked + 1
        if N == 0:
            return
        U = S / (N - 1)
        if self.momentum is None:
            # mean[c] = (mean[c] (k - 1) + M[c]) / k     var[c] = (var[c] (k - 1) + U[c]) / k
            k = int(tracked)
            mean[...] = (mean * (k - 1) + M) / k
            var[...] = (var * (k - 1) + U) / k
        else:
            # mean[c] = (1 - momentum) mean[c] + momentum M[c]     var[c] = (1 - momentum) var[c] + momentum U[c]
            momentum = special.lift(self.momentum, M)
            mean[...] = (1 - momentum) * mean + momentum * M
            var[...] = (1 - momentum) * var + momentum * U

    def backward(self, dY: Array, saved: Any) -> tuple[Array, Params]:
        H, R, n, N, channel, batch = saved
        # dB[c] = sum_n dY[n,c]     dG[c] = sum_n dY[n,c] H[n,c]
        dB = dY.sum(axis=n, keepdims=True)
        dG = (dY * H).sum(axis=n, keepdims=True)
        # dX[n,c] = G[c] R[c] dY[n,c], and from batch statistics G[c] R[c] (dY[n,c] - (dB[c] + H[n,c] dG[c]) / N)
        dD = dY - (dB + H * dG) / max(N, 1) if batch else dY
        dX = dD * (self.params["weight"].reshape(*channel) * R) if "weight" in self.params else dD * R
        sums = {"weight": dG, "bias": dB}
        return dX, {name: sums[name].reshape(self.num_features) for name in self.params}
