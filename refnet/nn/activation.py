"""Elementwise activations and softmax."""

from __future__ import annotations

from typing import Any

import numpy as np

from refnet import _check
from refnet.arithmetic import special
from refnet.nn.module import Array, Module, Params


class Sigmoid(Module):
    """y = s(x) = 1 / (1 + exp(-x)), elementwise.

    The derivative s(x)(1 - s(x)) is written s(x) s(-x): equal in exact arithmetic, and it keeps its relative accuracy
    where s(x) rounds to 1 and the textbook's 1 - y is 0.
    """

    def forward(self, X: Array) -> tuple[Array, Any]:
        _check.floating("Sigmoid", input=X)
        Y, Z = special.sigmoids(X)
        return Y, (Y, Z)

    def backward(self, dY: Array, saved: Any) -> tuple[Array, Params]:
        Y, Z = saved
        # dX[.] = dY[.] s(X[.]) s(-X[.])
        return dY * (Y * Z), {}


class Tanh(Module):
    """y = tanh(x), elementwise.

    The derivative 1 - tanh(x)^2 is written 4 s(2x) s(-2x), s the sigmoid: equal in exact arithmetic, and accurate
    where tanh(x) rounds to 1.
    """

    def forward(self, X: Array) -> tuple[Array, Any]:
        _check.floating("Tanh", input=X)
        return np.tanh(X), X

    def backward(self, dY: Array, saved: Any) -> tuple[Array, Params]:
        X = saved
        # dX[.] = dY[.] 4 s(2 X[.]) s(-2 X[.])
        Y, Z = special.sigmoids(2 * X)
        return dY * (4 * (Y * Z)), {}


class ReLU(Module):
    """y = max(x, 0), elementwise; the subgradient at 0 is 0, as torch's."""

    def forward(self, X: Array) -> tuple[Array, Any]:
        _check.floating("ReLU", input=X)
        on = X > 0
        return np.where(on, X, 0), on

    def backward(self, dY: Array, saved: Any) -> tuple[Array, Params]:
        on = saved
        # dX[.] = dY[.] [X[.] > 0]
        return np.where(on, dY, 0), {}


class Softmax(Module):
    """y_c = exp(x_c) / sum_k exp(x_k) along `dim`.

    Axes: c, k class, along `dim`; all others are samples. `dim` has no default: torch's implicit one is deprecated.

    Raises:
        ValueError: the input has no axis `dim`.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, X: Array) -> tuple[Array, Any]:
        _check.floating("Softmax", input=X)
        c = _check.axis("Softmax", X, self.dim)
        E = np.exp(X - special.shift(X, c))
        Y = E / E.sum(axis=c, keepdims=True)
        return Y, (Y, c)

    def backward(self, dY: Array, saved: Any) -> tuple[Array, Params]:
        Y, c = saved
        # dX[c] = Y[c] (dY[c] - sum_k dY[k] Y[k])
        return Y * (dY - (dY * Y).sum(axis=c, keepdims=True)), {}


class LogSoftmax(Module):
    """y_c = x_c - log sum_k exp(x_k) along `dim`.

    Axes: c, k class, along `dim`; all others are samples.

    Raises:
        ValueError: the input has no axis `dim`.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, X: Array) -> tuple[Array, Any]:
        _check.floating("LogSoftmax", input=X)
        c = _check.axis("LogSoftmax", X, self.dim)
        S = X - special.shift(X, c)
        Y = S - np.log(np.exp(S).sum(axis=c, keepdims=True))
        return Y, (Y, c)

    def backward(self, dY: Array, saved: Any) -> tuple[Array, Params]:
        Y, c = saved
        # dX[c] = dY[c] - exp(Y[c]) sum_k dY[k]
        return dY - np.exp(Y) * dY.sum(axis=c, keepdims=True), {}
