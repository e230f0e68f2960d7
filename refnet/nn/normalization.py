"""Normalization over a batch, and over the features of a sample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from refnet import _check
from refnet.arithmetic import special
from refnet.nn.module import Array, Module, Params


class BatchNorm1dSaved(NamedTuple):
    """H and R; the sample axes, their number of samples N, the shape of channel-wise arrays, and whether the statistics
    are the batch's."""

    H: Array
    R: Array
    n: tuple[int, ...]
    N: int
    channel: tuple[int, ...]
    batch: bool


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
        device: accepted as torch's: the processor.
        dtype: float32 or float64 (the default).
        bias: with `affine`, whether there is a bias.

    Buffers are `running_mean`, `running_var` and `num_batches_tracked`, a plain int64 array in every arithmetic.

    Raises:
        TypeError: input, parameters and running statistics are not floats of one dtype.
        ValueError: the input is neither (n, c) nor (n, c, l), or has one sample where the batch formula needs more, or
            eps is too small.
    """

    not_negative: ClassVar[tuple[str, ...]] = ("running_var", "num_batches_tracked")

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.num_features = _check.size("BatchNorm1d", "num_features", num_features)
        _check.is_number("BatchNorm1d", "eps", eps)
        if momentum is not None:
            _check.number("BatchNorm1d", "momentum", momentum)
        self.eps, self.momentum, self.affine, self.track_running_stats = eps, momentum, affine, track_running_stats
        self.bias = affine and bias
        dtype = _check.dtype_of("BatchNorm1d", dtype, device)
        if affine:
            self.params["weight"] = np.ones(num_features, dtype)
            if bias:
                self.params["bias"] = np.zeros(num_features, dtype)
        if track_running_stats:
            self.buffers["running_mean"] = np.zeros(num_features, dtype)
            self.buffers["running_var"] = np.ones(num_features, dtype)
            self.buffers["num_batches_tracked"] = np.zeros((), np.int64)

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias}, track_running_stats={self.track_running_stats}"
        )

    def forward(self, input: Array) -> tuple[Array, BatchNorm1dSaved]:
        X = input
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
            M = special.total(X, n, keepdims=True) / max(N, 1)
            D = X - M
            S = special.total(D * D, n, keepdims=True)
            V = S / max(N, 1)
            if self.training and self.buffers:
                self.track(M.reshape(C), S.reshape(C), N)
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
        return Y, BatchNorm1dSaved(H, R, n, N, channel, batch)

    def track(self, M: Array, S: Array, N: int) -> None:
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

    def backward(self, grad_output: Array, saved: BatchNorm1dSaved) -> tuple[Array, Params]:
        dY, (H, R, n, N, channel, batch) = grad_output, saved
        dY = _check.upstream("BatchNorm1d", dY, H.shape, H.dtype)
        # dB[c] = sum_n dY[n,c]     dG[c] = sum_n dY[n,c] H[n,c]
        dB = special.total(dY, n, keepdims=True)
        dG = special.total(dY * H, n, keepdims=True)
        # dX[n,c] = G[c] R[c] dY[n,c], and from batch statistics G[c] R[c] (dY[n,c] - (dB[c] + H[n,c] dG[c]) / N)
        dD = dY - (dB + H * dG) / max(N, 1) if batch else dY
        dX = dD * (self.params["weight"].reshape(*channel) * R) if "weight" in self.params else dD * R
        sums = {"weight": dG, "bias": dB}
        return dX, {name: sums[name].reshape(self.num_features) for name in self.params}


class LayerNormSaved(NamedTuple):
    """H (s, f) and R (s, 1), and the shape of the output."""

    H: Array
    R: Array
    shape: tuple[int, ...]


class LayerNorm(Module):
    """y = weight (x - mean) / sqrt(var + eps) + bias, with a mean and a variance for each sample.

    Axes: s sample, all leading axes together; f, m feature, the axes of `normalized_shape` together, F in all.
    X (..., *normalized_shape); `weight` G and `bias` B of shape `normalized_shape`. In two passes:

        M[s] = sum_f X[s,f] / F     D[s,f] = X[s,f] - M[s]     V[s] = sum_f D[s,f]^2 / F     R[s] = 1 / sqrt(V[s] + eps)
        H[s,f] = D[s,f] R[s]        Y[s,f] = H[s,f] G[f] + B[f]

    Backward, with dH[s,f] = dY[s,f] G[f]. Were R a constant, D would receive R dH. But R[s] falls as a D[s,f] grows,
    dR[s] / dD[s,f] = -R[s]^3 D[s,f] / F = -R[s]^2 H[s,f] / F, and with it every H[s,m] = D[s,m] R[s]. So D[s,f] loses
    R[s]^2 H[s,f] / F sum_m dH[s,m] D[s,m] = R[s] H[s,f] / F sum_m dH[s,m] H[s,m]. From D back to X the mean over the
    features is taken off, as it was in forward; H has mean 0, so only dH has one to lose:

        dX[s,f] = R[s] (dH[s,f] - (sum_m dH[s,m] + H[s,f] sum_m dH[s,m] H[s,m]) / F)

    The derivation is BatchNorm1d's with the axes exchanged; G stays inside the sums, as it differs between features.
    The gradients of G and B are sums over the samples.

    Source: J. L. Ba, J. R. Kiros, G. E. Hinton, "Layer normalization", arXiv:1607.06450; documentation of
    torch.nn.LayerNorm.

    Args:
        normalized_shape: the last axes of the input, an int for one axis.
        eps: added to the variance, positive.
        elementwise_affine: whether there are a weight (initially 1) and a bias (initially 0).
        bias: with `elementwise_affine`, whether there is a bias.
        device: accepted as torch's: the processor.
        dtype: float32 or float64 (the default).

    Raises:
        TypeError: a size is no integer; input and parameters are not floats of one dtype.
        ValueError: `normalized_shape` is empty or has a negative size, the input does not end in it, or eps is not
            positive.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        sizes = normalized_shape if isinstance(normalized_shape, Sequence) else (normalized_shape,)
        self.normalized_shape = tuple(_check.size("LayerNorm", "normalized_shape", size) for size in sizes)
        if not self.normalized_shape:
            raise ValueError(f"LayerNorm: expected normalized_shape to have at least one axis, got {normalized_shape}")
        _check.number("LayerNorm", "eps", eps)
        if not eps > 0:
            raise ValueError(f"LayerNorm: expected eps > 0, got {eps}")
        self.eps, self.elementwise_affine = eps, elementwise_affine
        dtype = _check.dtype_of("LayerNorm", dtype, device)
        if elementwise_affine:
            self.params["weight"] = np.ones(self.normalized_shape, dtype)
            if bias:
                self.params["bias"] = np.zeros(self.normalized_shape, dtype)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, "
            f"bias={'bias' in self.params}"
        )

    def forward(self, input: Array) -> tuple[Array, LayerNormSaved]:
        _check.floating("LayerNorm", input=input, **self.params)
        shape, axes = tuple(input.shape), len(self.normalized_shape)
        if shape[len(shape) - axes :] != self.normalized_shape or len(shape) < axes:
            raise ValueError(
                f"LayerNorm: expected input of shape (..., {', '.join(map(str, self.normalized_shape))}), "
                f"normalized_shape = {self.normalized_shape}, got {shape}"
            )
        s, F = math.prod(shape[: len(shape) - axes]), math.prod(self.normalized_shape)
        X = input.reshape(s, F)
        # M[s] = sum_f X[s,f] / F     D[s,f] = X[s,f] - M[s]     V[s] = sum_f D[s,f]^2 / F
        # (without features every sum is 0, whatever it is divided by)
        D = X - special.total(X, -1, keepdims=True) / max(F, 1)
        V = special.total(D * D, -1, keepdims=True) / max(F, 1)
        # R[s] = 1 / sqrt(V[s] + eps)     H[s,f] = D[s,f] R[s]     Y[s,f] = H[s,f] G[f] + B[f]
        R = 1 / np.sqrt(V + special.lift(self.eps, X)) if s * F > 0 else V
        H = D * R
        Y = H
        if "weight" in self.params:
            Y = Y * self.params["weight"].reshape(F)
        if "bias" in self.params:
            Y = Y + self.params["bias"].reshape(F)
        return Y.reshape(*shape), LayerNormSaved(H, R, shape)

    def backward(self, grad_output: Array, saved: LayerNormSaved) -> tuple[Array, Params]:
        dY, (H, R, shape) = grad_output, saved
        dY = _check.upstream("LayerNorm", dY, shape, H.dtype)
        F = H.shape[-1]
        dY = dY.reshape(*H.shape)
        # dG[f] = sum_s dY[s,f] H[s,f]     dB[f] = sum_s dY[s,f]
        sums = {"weight": lambda: special.total(dY * H, -2), "bias": lambda: special.total(dY, -2)}
        grads = {name: sums[name]().reshape(*self.normalized_shape) for name in self.params}
        # dH[s,f] = dY[s,f] G[f]
        dH = dY * self.params["weight"].reshape(F) if "weight" in self.params else dY
        # dX[s,f] = R[s] (dH[s,f] - (sum_m dH[s,m] + H[s,f] sum_m dH[s,m] H[s,m]) / F)
        lost = special.total(dH, -1, keepdims=True) + H * special.total(dH * H, -1, keepdims=True)
        return (R * (dH - lost / max(F, 1))).reshape(*shape), grads
