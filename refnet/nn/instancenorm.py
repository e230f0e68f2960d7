"""Normalization of every channel of every sample."""

from __future__ import annotations

import math
import warnings
from typing import Any, ClassVar, NamedTuple

import numpy as np

from refnet import _check
from refnet.arithmetic import special
from refnet.nn.module import Array, Module, Params


class InstanceNormSaved(NamedTuple):
    """H (b, c, l) and R, the shape of the output, and whether the statistics are those of the instances."""

    H: Array
    R: Array
    shape: tuple[int, ...]
    instance: bool


class _InstanceNorm(Module):
    """y = weight (x - mean) / sqrt(var + eps) + bias, with a mean and a variance for each channel of each sample.

    Axes: b sample, B in all; c channel; l, m place, that is all axes behind the channels together, L in all. `weight` G
    and `bias` B (c,). An input without the sample axis is one sample.

    Training, and evaluation without running statistics, take mean and variance from the instance, in two passes:

        M[b,c] = sum_l X[b,c,l] / L     D[b,c,l] = X[b,c,l] - M[b,c]     V[b,c] = sum_l D[b,c,l]^2 / L
        R[b,c] = 1 / sqrt(V[b,c] + eps)     H[b,c,l] = D[b,c,l] R[b,c]     Y[b,c,l] = H[b,c,l] G[c] + B[c]

    Training also moves the running statistics by `momentum`: the mean towards sum_b M[b,c] / B, the variance towards
    the mean of the unbiased variances, sum_b (sum_l D[b,c,l]^2 / (L - 1)) / B. Evaluation with running statistics takes
    them for M and V; they are constants then.

    Backward is BatchNorm1d's for each sample alone (its docstring derives it); the gradients of G and B are sums over
    the samples, too:

        dX[b,c,l] = G[c] R[b,c] (dY[b,c,l] - (sum_m dY[b,c,m] + H[b,c,l] sum_m dY[b,c,m] H[b,c,m]) / L)
        dG[c] = sum_b sum_l dY[b,c,l] H[b,c,l]     dB[c] = sum_b sum_l dY[b,c,l]

    As in torch, `num_batches_tracked` stays 0, and with `momentum=None` the running statistics never move. A batch
    without samples or places moves nothing; torch cannot have one without samples where statistics are tracked.

    Source: D. Ulyanov, A. Vedaldi, V. Lempitsky, "Instance normalization: the missing ingredient for fast stylization",
    arXiv:1607.08022; documentation of torch.nn.InstanceNorm1d.
    """

    not_negative: ClassVar[tuple[str, ...]] = ("running_var", "num_batches_tracked")
    places: ClassVar[str]
    """The axes behind the channels."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        own = type(self).__name__
        self.num_features = _check.size(own, "num_features", num_features)
        _check.is_number(own, "eps", eps)
        if momentum is not None:
            _check.number(own, "momentum", momentum)
        self.eps, self.momentum, self.affine, self.track_running_stats = eps, momentum, affine, track_running_stats
        self.bias = affine and bias
        dtype = _check.dtype_of(own, dtype, device)
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

    def forward(self, input: Array) -> tuple[Array, InstanceNormSaved]:
        instance = self.training or not self.buffers
        _check.arrays(type(self).__name__, input=input)
        X = input.reshape(*self.check(input, instance))
        B, C, L = X.shape
        if instance:
            # M[b,c] = sum_l X[b,c,l] / L     D[b,c,l] = X[b,c,l] - M[b,c]     S[b,c] = sum_l D[b,c,l]^2
            # (of no places every sum is 0, whatever it is divided by)     V[b,c] = S[b,c] / L
            count = max(L, 1)
            M = special.total(X, -1, keepdims=True) / count
            D = X - M
            S = special.total(D * D, -1, keepdims=True)
            V = S / count
            if self.buffers and self.momentum is not None and X.size:
                self.track(M.reshape(B, C), S.reshape(B, C), L)
        else:
            D = X - self.buffers["running_mean"].reshape(C, 1)
            V = self.buffers["running_var"].reshape(C, 1)
        # R[b,c] = 1 / sqrt(V[b,c] + eps)     H[b,c,l] = D[b,c,l] R[b,c]     Y[b,c,l] = H[b,c,l] G[c] + B[c]
        # (an empty batch has no D to be scaled, nor an element that tells eps its arithmetic)
        R = 1 / np.sqrt(V + special.lift(self.eps, X)) if X.size else V
        H = D * R
        Y = H
        if "weight" in self.params:
            Y = Y * self.params["weight"].reshape(C, 1)
        if "bias" in self.params:
            Y = Y + self.params["bias"].reshape(C, 1)
        return Y.reshape(*input.shape), InstanceNormSaved(H, R, tuple(input.shape), instance)

    def check(self, X: Array, instance: bool) -> tuple[int, int, int]:
        """B, C and L of an input; raises what is said above unless it can be normalized, `instance` by its own
        statistics.
        """
        own, C, axes = type(self).__name__, self.num_features, self.places.split()
        arrays = {name: array for name, array in self.state_dict().items() if name != "num_batches_tracked"}
        _check.floating(own, input=X, **arrays)
        batched = X.ndim == len(axes) + 2
        fits = batched or X.ndim == len(axes) + 1
        channels = X.shape[1 if batched else 0] if fits else -1
        if not fits or (channels != C and arrays):
            inside = ", ".join((str(C), *axes))
            raise ValueError(
                f"{own}: expected input of shape (N, {inside}) or ({inside}), num_features = {C}, got {tuple(X.shape)}"
            )
        if channels != C:
            warnings.warn(
                f"{own}: expected {C} channels, num_features, which is not used without parameters and running "
                f"statistics, got {channels}",
                stacklevel=3,
            )
        B, L = X.shape[0] if batched else 1, math.prod(X.shape[X.ndim - len(axes) :])
        if not (self.eps > 0 or (self.eps == 0 and not instance)):
            least = "> 0 with statistics of the instances" if instance else ">= 0"
            raise ValueError(f"{own}: expected eps {least}, got {self.eps}")
        if instance and L == 1:
            raise ValueError(
                f"{own}: expected more than 1 element of a channel to take statistics of, "
                f"got input shape {tuple(X.shape)}"
            )
        return B, channels, L

    def track(self, M: Array, S: Array, L: int) -> None:
        """Move the running statistics to instances with means M and sums of squared deviations S, (b, c) both."""
        mean, var = (self.buffers[name] for name in ("running_mean", "running_var"))
        B = M.shape[-2]
        # mean[c] = (1 - momentum) mean[c] + momentum sum_b M[b,c] / B
        # var[c] = (1 - momentum) var[c] + momentum sum_b (S[b,c] / (L - 1)) / B
        momentum = special.lift(self.momentum, M)
        mean[...] = (1 - momentum) * mean + momentum * (special.total(M, -2) / B)
        var[...] = (1 - momentum) * var + momentum * (special.total(S / (L - 1), -2) / B)

    def backward(self, grad_output: Array, saved: InstanceNormSaved) -> tuple[Array, Params]:
        dY, (H, R, shape, instance) = grad_output, saved
        dY = _check.upstream(type(self).__name__, dY, shape, H.dtype).reshape(*H.shape)
        C, L = H.shape[-2:]
        # sB[b,c] = sum_l dY[b,c,l]     sG[b,c] = sum_l dY[b,c,l] H[b,c,l]
        sB = special.total(dY, -1, keepdims=True)
        sG = special.total(dY * H, -1, keepdims=True)
        # dX[b,c,l] = G[c] R[b,c] dY[b,c,l], and from the instance's statistics
        # dX[b,c,l] = G[c] R[b,c] (dY[b,c,l] - (sB[b,c] + H[b,c,l] sG[b,c]) / L)
        dD = dY - (sB + H * sG) / max(L, 1) if instance else dY
        dX = dD * (self.params["weight"].reshape(C, 1) * R) if "weight" in self.params else dD * R
        # dG[c] = sum_b sG[b,c]     dB[c] = sum_b sB[b,c]
        sums = {"weight": sG, "bias": sB}
        return dX.reshape(*shape), {name: special.total(sums[name], -3).reshape(C) for name in self.params}


class InstanceNorm1d(_InstanceNorm):
    """Instance normalization of X (b, c, l) or (c, l), with the equations of `_InstanceNorm`.

    Args:
        num_features: number of channels.
        eps: added to the variance; positive, or at least 0 where running statistics are used.
        momentum: weight of the new batch in the running statistics; None: they never move.
        affine: whether there are a weight (initially 1) and a bias (initially 0).
        track_running_stats: whether there are running statistics (initially 0 and 1).
        device: accepted as torch's: the processor.
        dtype: float32 or float64 (the default).
        bias: with `affine`, whether there is a bias.

    Raises:
        TypeError: input, parameters and running statistics are not floats of one dtype.
        ValueError: the input is neither (b, c, l) nor (c, l), or a channel has one place where its statistics are
            needed, or eps is too small.
    """

    places = "L"


class InstanceNorm2d(_InstanceNorm):
    """Instance normalization of images X (b, c, h, w) or (c, h, w); see InstanceNorm1d for the rest."""

    places = "H W"


class InstanceNorm3d(_InstanceNorm):
    """Instance normalization of volumes X (b, c, d, h, w) or (c, d, h, w); see InstanceNorm1d for the rest."""

    places = "D H W"
