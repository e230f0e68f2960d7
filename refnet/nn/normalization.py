"""Normalization over the features of a sample, or over groups of its channels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from refnet import _check
from refnet.arithmetic import special
from refnet.nn.module import Array, Module, Params


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
        self.normalized_shape = _sizes("LayerNorm", normalized_shape)
        self.eps, self.elementwise_affine = _positive("LayerNorm", eps), elementwise_affine
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
        shape = tuple(input.shape)
        s, F = _samples_and_features("LayerNorm", shape, self.normalized_shape)
        X = input.reshape(s, F)
        # M[s] = sum_f X[s,f] / F     D[s,f] = X[s,f] - M[s]     V[s] = sum_f D[s,f]^2 / F
        # (without features every sum is 0, whatever it is divided by)
        count = max(F, 1)
        D = X - special.total(X, -1, keepdims=True) / count
        V = special.total(D * D, -1, keepdims=True) / count
        # R[s] = 1 / sqrt(V[s] + eps)     H[s,f] = D[s,f] R[s]     Y[s,f] = H[s,f] G[f] + B[f]
        R = 1 / np.sqrt(V + special.lift(self.eps, X)) if X.size else V
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


class GroupNormSaved(NamedTuple):
    """H and R (b, g, k) and (b, g, 1), the number of places L, and the shape of the output."""

    H: Array
    R: Array
    L: int
    shape: tuple[int, ...]


class GroupNorm(Module):
    """y = weight (x - mean) / sqrt(var + eps) + bias, a mean and a variance for each group of channels of a sample.

    Axes: b sample; c channel, C in all; l place, all axes behind the channels together, L in all; g group of channels
    that follow each other; k, m element of a group, K = C / num_groups L in all. X (b, c, l) is also X (b, g, k);
    `weight` G and `bias` B (c,). In two passes:

        M[b,g] = sum_k X[b,g,k] / K     D[b,g,k] = X[b,g,k] - M[b,g]     V[b,g] = sum_k D[b,g,k]^2 / K
        R[b,g] = 1 / sqrt(V[b,g] + eps)     H[b,g,k] = D[b,g,k] R[b,g]     Y[b,c,l] = H[b,c,l] G[c] + B[c]

    Backward, with dH[b,c,l] = dY[b,c,l] G[c], is LayerNorm's for each group:

        dX[b,g,k] = R[b,g] (dH[b,g,k] - (sum_m dH[b,g,m] + H[b,g,k] sum_m dH[b,g,m] H[b,g,m]) / K)
        dG[c] = sum_b sum_l dY[b,c,l] H[b,c,l]     dB[c] = sum_b sum_l dY[b,c,l]

    With one group all channels are normalized together; with as many groups as channels each one alone. A group of one
    element has H = 0: torch refuses it only where all groups of all samples together are one number a group, and so
    does this class.

    Source: Y. Wu, K. He, "Group normalization", arXiv:1803.08494; documentation of torch.nn.GroupNorm.

    Args:
        num_groups: number of groups, a divisor of `num_channels`.
        num_channels: number of channels.
        eps: added to the variance, positive.
        affine: whether there are a weight (initially 1) and a bias (initially 0).
        device: accepted as torch's: the processor.
        dtype: float32 or float64 (the default).
        bias: with `affine`, whether there is a bias.

    Raises:
        TypeError: a size is no integer; input and parameters are not floats of one dtype.
        ValueError: the groups don't divide the channels; the input is not (b, c, ...), or has one value for each group;
            eps is not positive.
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.num_groups = _check.size("GroupNorm", "num_groups", num_groups, 1)
        self.num_channels = _check.size("GroupNorm", "num_channels", num_channels)
        if self.num_channels % self.num_groups:
            raise ValueError(
                f"GroupNorm: expected num_channels to be a multiple of num_groups = {num_groups}, got {num_channels}"
            )
        self.eps, self.affine, self.bias = _positive("GroupNorm", eps), affine, affine and bias
        dtype = _check.dtype_of("GroupNorm", dtype, device)
        if affine:
            self.params["weight"] = np.ones(num_channels, dtype)
            if bias:
                self.params["bias"] = np.zeros(num_channels, dtype)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, bias={self.bias}"

    def forward(self, input: Array) -> tuple[Array, GroupNormSaved]:
        _check.floating("GroupNorm", input=input, **self.params)
        shape, C = tuple(input.shape), self.num_channels
        if len(shape) < 2 or shape[1] != C:
            raise ValueError(f"GroupNorm: expected input of shape (N, {C}, ...), num_channels = {C}, got {shape}")
        b, L = shape[0], math.prod(shape[2:])
        K = C // self.num_groups * L
        if b * K == 1:
            raise ValueError(f"GroupNorm: expected more than 1 value for each group, got input shape {shape}")
        X = input.reshape(b, self.num_groups, K)
        # M[b,g] = sum_k X[b,g,k] / K     D[b,g,k] = X[b,g,k] - M[b,g]     V[b,g] = sum_k D[b,g,k]^2 / K
        # (without elements every sum is 0, whatever it is divided by)
        count = max(K, 1)
        D = X - special.total(X, -1, keepdims=True) / count
        V = special.total(D * D, -1, keepdims=True) / count
        # R[b,g] = 1 / sqrt(V[b,g] + eps)     H[b,g,k] = D[b,g,k] R[b,g]     Y[b,c,l] = H[b,c,l] G[c] + B[c]
        R = 1 / np.sqrt(V + special.lift(self.eps, X)) if X.size else V
        H = D * R
        Y = H.reshape(b, C, L)
        if "weight" in self.params:
            Y = Y * self.params["weight"].reshape(C, 1)
        if "bias" in self.params:
            Y = Y + self.params["bias"].reshape(C, 1)
        return Y.reshape(*shape), GroupNormSaved(H, R, L, shape)

    def backward(self, grad_output: Array, saved: GroupNormSaved) -> tuple[Array, Params]:
        dY, (H, R, L, shape) = grad_output, saved
        (b, C), K = shape[:2], H.shape[-1]
        dY = _check.upstream("GroupNorm", dY, shape, H.dtype).reshape(b, C, L)
        # dG[c] = sum_b sum_l dY[b,c,l] H[b,c,l]     dB[c] = sum_b sum_l dY[b,c,l]
        terms = {name: dY * H.reshape(b, C, L) if name == "weight" else dY for name in self.params}
        grads = {name: special.total(T, (-3, -1)) for name, T in terms.items()}
        # dH[b,c,l] = dY[b,c,l] G[c]
        dH = (dY * self.params["weight"].reshape(C, 1) if "weight" in self.params else dY).reshape(*H.shape)
        # dX[b,g,k] = R[b,g] (dH[b,g,k] - (sum_m dH[b,g,m] + H[b,g,k] sum_m dH[b,g,m] H[b,g,m]) / K)
        lost = special.total(dH, -1, keepdims=True) + H * special.total(dH * H, -1, keepdims=True)
        return (R * (dH - lost / max(K, 1))).reshape(*shape), grads


class RMSNormSaved(NamedTuple):
    """H (s, f) and R (s, 1), and the shape of the output."""

    H: Array
    R: Array
    shape: tuple[int, ...]


class RMSNorm(Module):
    """y = weight x / sqrt(mean of x^2 + eps), for each sample. No mean is subtracted, and there is no bias.

    Axes: s sample, all leading axes together; f, m feature, the axes of `normalized_shape` together, F in all.
    X (..., *normalized_shape); `weight` G of shape `normalized_shape`.

        Q[s] = sum_f X[s,f]^2 / F     R[s] = 1 / sqrt(Q[s] + eps)     H[s,f] = X[s,f] R[s]     Y[s,f] = H[s,f] G[f]

    Backward, with dH[s,f] = dY[s,f] G[f]. Were R a constant, X would receive R dH. But R[s] falls as an X[s,f] grows,
    dR[s] / dX[s,f] = -R[s]^3 X[s,f] / F = -R[s]^2 H[s,f] / F, and with it every H[s,m] = X[s,m] R[s]:

        dX[s,f] = R[s] (dH[s,f] - H[s,f] sum_m dH[s,m] H[s,m] / F)
        dG[f] = sum_s dY[s,f] H[s,f]

    With `eps=None` it is the distance from 1 to the next number of the input's dtype, as in torch (which takes
    float32's for bfloat16 and float16, as it computes in float32 there). With `eps=0` a sample of zeros is 0 / 0.

    Source: B. Zhang, R. Sennrich, "Root mean square layer normalization", arXiv:1910.07467; documentation of
    torch.nn.RMSNorm.

    Args:
        normalized_shape: the last axes of the input, an int for one axis.
        eps: added to the mean of squares, at least 0; None for the input's dtype's own.
        elementwise_affine: whether there is a weight (initially 1).
        device: accepted as torch's: the processor.
        dtype: float32 or float64 (the default).

    Raises:
        TypeError: a size is no integer; input and weight are not floats of one dtype.
        ValueError: `normalized_shape` is empty or has a negative size, the input does not end in it, or eps is below 0.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.normalized_shape = _sizes("RMSNorm", normalized_shape)
        if eps is not None:
            _check.not_negative("RMSNorm", "eps", eps)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        self._dtype = _check.dtype_of("RMSNorm", dtype, device)
        if elementwise_affine:
            self.params["weight"] = np.ones(self.normalized_shape, self._dtype)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"

    def forward(self, input: Array) -> tuple[Array, RMSNormSaved]:
        _check.floating("RMSNorm", input=input, **self.params)
        shape = tuple(input.shape)
        s, F = _samples_and_features("RMSNorm", shape, self.normalized_shape)
        X = input.reshape(s, F)
        # Q[s] = sum_f X[s,f]^2 / F     (without features the sum is 0, whatever it is divided by)
        Q = special.total(X * X, -1, keepdims=True) / max(F, 1)
        # R[s] = 1 / sqrt(Q[s] + eps)     H[s,f] = X[s,f] R[s]     Y[s,f] = H[s,f] G[f]
        eps = special.epsilon(X, self._dtype) if self.eps is None else self.eps
        R = 1 / np.sqrt(Q + special.lift(eps, X)) if X.size else Q
        H = X * R
        Y = H * self.params["weight"].reshape(F) if "weight" in self.params else H
        return Y.reshape(*shape), RMSNormSaved(H, R, shape)

    def backward(self, grad_output: Array, saved: RMSNormSaved) -> tuple[Array, Params]:
        dY, (H, R, shape) = grad_output, saved
        dY = _check.upstream("RMSNorm", dY, shape, H.dtype).reshape(*H.shape)
        F = H.shape[-1]
        # dG[f] = sum_s dY[s,f] H[s,f]     dH[s,f] = dY[s,f] G[f]
        grads, dH = {}, dY
        if "weight" in self.params:
            grads["weight"] = special.total(dY * H, -2).reshape(*self.normalized_shape)
            dH = dY * self.params["weight"].reshape(F)
        # dX[s,f] = R[s] (dH[s,f] - H[s,f] sum_m dH[s,m] H[s,m] / F)
        lost = H * special.total(dH * H, -1, keepdims=True)
        return (R * (dH - lost / max(F, 1))).reshape(*shape), grads


def _positive(operation: str, eps: Any) -> Any:
    """`eps`; TypeError unless it is a number, ValueError unless it is positive."""
    _check.number(operation, "eps", eps)
    if not eps > 0:
        raise ValueError(f"{operation}: expected eps > 0, got {eps}")
    return eps


def _sizes(operation: str, normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    """The sizes of the normalized axes, of which there is at least one."""
    sizes = normalized_shape if isinstance(normalized_shape, Sequence) else (normalized_shape,)
    made = tuple(_check.size(operation, "normalized_shape", size) for size in sizes)
    if not made:
        raise ValueError(f"{operation}: expected normalized_shape to have at least one axis, got {normalized_shape}")
    return made


def _samples_and_features(operation: str, shape: tuple[int, ...], normalized: tuple[int, ...]) -> tuple[int, int]:
    """The number of samples and of features of an input whose shape ends in the normalized axes."""
    leading = len(shape) - len(normalized)
    if leading < 0 or shape[leading:] != normalized:
        raise ValueError(
            f"{operation}: expected input of shape (..., {', '.join(map(str, normalized))}), "
            f"normalized_shape = {normalized}, got {shape}"
        )
    return math.prod(shape[:leading]), math.prod(normalized)
