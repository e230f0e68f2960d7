"""Affine maps and modules that only hand their input on."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from refnet import _check
from refnet.arithmetic import special
from refnet.generator import Generator
from refnet.nn import init
from refnet.nn.module import Array, Module, Params


class LinearSaved(NamedTuple):
    """The input."""

    X: Array


class Linear(Module):
    """y = x W^T + b.

    Axes: n sample (all leading axes together), i input unit, o output unit. X (..., i), Y (..., o), `weight` W (o, i),
    `bias` b (o).

    Args:
        in_features, out_features: sizes of the last axis of input and output.
        bias: whether there is a b.
        device: accepted as torch's: the processor.
        dtype: float32 or float64 (the default).
        generator: source of the initial values; torch's defaults, U(-1/sqrt(i), 1/sqrt(i)) for both, bit for bit.

    Raises:
        TypeError: a size is no integer; input and weight are not floats of one dtype.
        ValueError: a size is negative; the input's last axis is not `in_features`.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        self.in_features = _check.size("Linear", "in_features", in_features)
        self.out_features = _check.size("Linear", "out_features", out_features)
        W = np.empty((out_features, in_features), _check.dtype_of("Linear", dtype, device))
        self.params["weight"] = init.kaiming_uniform_(W, a=math.sqrt(5), generator=generator)
        if bias:
            bound = 1 / math.sqrt(in_features) if in_features > 0 else 0
            self.params["bias"] = init.uniform_(np.empty(out_features, W.dtype), -bound, bound, generator=generator)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={'bias' in self.params}"

    def forward(self, input: Array) -> tuple[Array, LinearSaved]:
        X, W = input, self.params["weight"]
        _check.floating("Linear", input=X, weight=W)
        inner = W.shape[-1]
        if not X.ndim or X.shape[-1] != inner:
            _check.last_axis("Linear", X, inner, "in_features")
        # Y[n,o] = sum_i X[n,i] W[o,i] + b[o]
        Y = special.product(X, W.mT)
        if "bias" in self.params:
            Y = Y + self.params["bias"]
        return Y, LinearSaved(X)

    def backward(self, grad_output: Array, saved: LinearSaved) -> tuple[Array, Params]:
        dY, (X,), W = grad_output, saved, self.params["weight"]
        dY = _check.upstream("Linear", dY, (*X.shape[:-1], W.shape[-2]), X.dtype)
        dYn, Xn = special.rows(dY), special.rows(X)
        # dX[n,i] = sum_o dY[n,o] W[o,i]
        dX = special.product(dY, W)
        # dW[o,i] = sum_n dY[n,o] X[n,i]
        grads = {"weight": special.over_samples(dYn, Xn)}
        if "bias" in self.params:
            # db[o] = sum_n dY[n,o]
            grads["bias"] = special.total(dYn, -2)
        return dX, grads


class IdentitySaved(NamedTuple):
    """Shape and dtype of the input."""

    shape: tuple[int, ...]
    dtype: Any


class Identity(Module):
    """y = x. Arguments of any kind are accepted, as by torch, and have no meaning."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__()

    def forward(self, input: Array) -> tuple[Array, IdentitySaved]:
        try:
            return input, IdentitySaved(input.shape, input.dtype)
        except AttributeError:
            raise TypeError(f"Identity: expected input to be an array, got {type(input).__name__}") from None

    def backward(self, grad_output: Array, saved: IdentitySaved) -> tuple[Array, Params]:
        return _check.upstream("Identity", grad_output, *saved), {}


class FlattenSaved(NamedTuple):
    """Shape of the input; shape and dtype of the output."""

    shape: tuple[int, ...]
    flat: tuple[int, ...]
    dtype: Any


class Flatten(Module):
    """Joins the axes `start_dim` to `end_dim` into one, as torch.nn.Flatten: by default all but the first."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim = _check.integer("Flatten", "start_dim", start_dim)
        self.end_dim = _check.integer("Flatten", "end_dim", end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"

    def forward(self, input: Array) -> tuple[Array, FlattenSaved]:
        X = input
        try:
            shape = tuple(X.shape)
        except AttributeError:
            raise TypeError(f"Flatten: expected input to be an array, got {type(X).__name__}") from None
        start, end = (axis + len(shape) if axis < 0 else axis for axis in (self.start_dim, self.end_dim))
        if not shape and {self.start_dim, self.end_dim} <= {0, -1}:
            Y = X.reshape(1)
        elif not 0 <= start <= end < len(shape):
            raise ValueError(
                f"Flatten: expected axes {self.start_dim} to {self.end_dim} in the input, got shape {shape}"
            )
        else:
            Y = X.reshape(*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :])
        return Y, FlattenSaved(shape, tuple(Y.shape), X.dtype)

    def backward(self, grad_output: Array, saved: FlattenSaved) -> tuple[Array, Params]:
        dY, (shape, flat, dtype) = grad_output, saved
        dY = _check.upstream("Flatten", dY, flat, dtype)
        return dY.reshape(shape), {}
