"""Affine maps and modules that only hand their input on."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from refnet import _check
from refnet.generator import Generator
from refnet.nn import init
from refnet.nn.module import Array, Module, Params


class Linear(Module):
    """y = x W^T + b.

    Axes: n sample (all leading axes together), i input unit, o output unit. X (..., i), Y (..., o), `weight` W (o, i),
    `bias` b (o).

    Args:
        in_features, out_features: sizes of the last axis of input and output.
        bias: whether there is a b.
        dtype: float32 or float64 (the default).
        generator: source of the initial values; torch's defaults, U(-1/sqrt(i), 1/sqrt(i)) for both, bit for bit.

    Raises:
        TypeError: input and weight are not floats of one dtype.
        ValueError: the input's last axis is not `in_features`.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        dtype: Any = None,
        *,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        W = np.empty((out_features, in_features), dtype or np.float64)
        self.params["weight"] = init.kaiming_uniform_(W, a=math.sqrt(5), generator=generator)
        if bias:
            bound = 1 / math.sqrt(in_features) if in_features > 0 else 0
            self.params["bias"] = init.uniform_(np.empty(out_features, W.dtype), -bound, bound, generator=generator)

    def forward(self, X: Array) -> tuple[Array, Any]:
        W = self.params["weight"]
        _check.floating("Linear", input=X, weight=W)
        _check.last_axis("Linear", X, W.shape[-1], "in_features")
        # Y[n,o] = sum_i X[n,i] W[o,i] + b[o]
        Y = X @ W.mT
        if "bias" in self.params:
            Y = Y + self.params["bias"]
        return Y, X

    def backward(self, dY: Array, saved: Any) -> tuple[Array, Params]:
        X, W = saved, self.params["weight"]
        dYn, Xn = (dY, X) if X.ndim == 2 else (dY.reshape(-1, dY.shape[-1]), X.reshape(-1, X.shape[-1]))
        # dX[n,i] = sum_o dY[n,o] W[o,i]
        dX = dY @ W
        # dW[o,i] = sum_n dY[n,o] X[n,i]
        grads = {"weight": dYn.mT @ Xn}
        if "bias" in self.params:
            # db[o] = sum_n dY[n,o]
            grads["bias"] = dYn.sum(axis=-2)
        return dX, grads


class Identity(Module):
    """y = x."""

    def forward(self, X: Array) -> tuple[Array, Any]:
        return X, None

    def backward(self, dY: Array, saved: Any) -> tuple[Array, Params]:
        return dY, {}


class Flatten(Module):
    """Joins the axes `start_dim` to `end_dim` into one, as torch.nn.Flatten: by default all but the first."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, X: Array) -> tuple[Array, Any]:
        shape = tuple(X.shape)
        start, end = (axis + len(shape) if axis < 0 else axis for axis in (self.start_dim, self.end_dim))
        if not 0 <= start <= end < len(shape):
            raise ValueError(
                f"Flatten: expected axes {self.start_dim} to {self.end_dim} in the input, got shape {shape}"
            )
        return X.reshape(*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :]), shape

    def backward(self, dY: Array, saved: Any) -> tuple[Array, Params]:
        return dY.reshape(*saved), {}
