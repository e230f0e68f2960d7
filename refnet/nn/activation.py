"""Elementwise activations and softmax."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from refnet import _check
from refnet.arithmetic import special
from refnet.nn.module import Array, Module, Params


class SigmoidSaved(NamedTuple):
    """Y = s(X), Z = s(-X)."""

    Y: Array
    Z: Array


class Sigmoid(Module):
    """y = s(x) = 1 / (1 + exp(-x)), elementwise.

    The derivative s(x)(1 - s(x)) is written s(x) s(-x): equal in exact arithmetic, and it keeps its relative accuracy
    where s(x) rounds to 1 and the textbook's 1 - y is 0.

    In front of BCELoss that accuracy is of no use: BCELoss divides by y(1 - y) of the rounded y, and the quotient of
    the two is no longer 1 where y is near 1 (x = 20: 3.6e-8 off in float64; torch's y(1 - y) cancels there exactly, and
    loses its digits everywhere else). Use BCEWithLogitsLoss on x, which keeps all digits for every x.
    """

    def forward(self, input: Array) -> tuple[Array, SigmoidSaved]:
        X = input
        _check.floating("Sigmoid", input=X)
        Y, Z = special.sigmoids(X)
        return Y, SigmoidSaved(Y, Z)

    def backward(self, grad_output: Array, saved: SigmoidSaved) -> tuple[Array, Params]:
        dY, (Y, Z) = grad_output, saved
        dY = _check.upstream("Sigmoid", dY, Y.shape, Y.dtype)
        # dX[.] = dY[.] s(X[.]) s(-X[.])
        return dY * (Y * Z), {}


class TanhSaved(NamedTuple):
    """The input."""

    X: Array


class Tanh(Module):
    """y = tanh(x), elementwise.

    The derivative 1 - tanh(x)^2 is written 4 s(2x) s(-2x), s the sigmoid: equal in exact arithmetic, and accurate
    where tanh(x) rounds to 1.
    """

    def forward(self, input: Array) -> tuple[Array, TanhSaved]:
        X = input
        _check.floating("Tanh", input=X)
        return np.tanh(X), TanhSaved(X)

    def backward(self, grad_output: Array, saved: TanhSaved) -> tuple[Array, Params]:
        dY, (X,) = grad_output, saved
        dY = _check.upstream("Tanh", dY, X.shape, X.dtype)
        # dX[.] = dY[.] 4 s(2 X[.]) s(-2 X[.])
        Y, Z = special.sigmoids(2 * X)
        return dY * (4 * (Y * Z)), {}


class ReLUSaved(NamedTuple):
    """Where the input is at most 0; its dtype."""

    off: Array
    dtype: Any


class ReLU(Module):
    """y = max(x, 0), elementwise; the subgradient at 0 is 0, as torch's. A NaN stays one, and lets its gradient pass.

    Args:
        inplace: accepted as torch's; inputs are never written.
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def extra_repr(self) -> str:
        return "inplace=True" if self.inplace else ""

    def forward(self, input: Array) -> tuple[Array, ReLUSaved]:
        X = input
        _check.floating("ReLU", input=X)
        off = X <= 0
        return np.where(off, 0, X), ReLUSaved(off, X.dtype)

    def backward(self, grad_output: Array, saved: ReLUSaved) -> tuple[Array, Params]:
        dY, (off, dtype) = grad_output, saved
        dY = _check.upstream("ReLU", dY, off.shape, dtype)
        # dX[.] = 0 where X[.] <= 0, dY[.] elsewhere
        return np.where(off, 0, dY), {}


class SoftmaxSaved(NamedTuple):
    """The output Y, its axis c, and the place P of its largest element."""

    Y: Array
    c: int
    P: Array


class Softmax(Module):
    """y_c = exp(x_c) / sum_k exp(x_k) along `dim`.

    Axes: c, k class, along `dim`; all others are samples. `dim` has no default: torch's implicit one is deprecated.

    Backward, dX[c] = Y[c] (dY[c] - sum_k Y[k] dY[k]) is the same when one number is taken off every dY, as the Y add up
    to 1. That of the likeliest class p is taken off: where Y[p] is near 1, dY[p] and the sum would cancel.

    Raises:
        ValueError: the input has no axis `dim`.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def extra_repr(self) -> str:
        return f"dim={self.dim}"

    def forward(self, input: Array) -> tuple[Array, SoftmaxSaved]:
        _check.floating("Softmax", input=input)
        X = input if input.ndim else input.reshape(1)
        c = _check.axis("Softmax", X, self.dim)
        E = np.exp(X - special.shift(X, c))
        Y = E / special.total(E, c, keepdims=True)
        Y = Y if input.ndim else Y.reshape(())
        return Y, SoftmaxSaved(Y, c, special.largest(X, c))

    def backward(self, grad_output: Array, saved: SoftmaxSaved) -> tuple[Array, Params]:
        dY, (Y, c, P) = grad_output, saved
        dY = _check.upstream("Softmax", dY, Y.shape, Y.dtype)
        if not Y.ndim:
            return dY * 0, {}
        # G[c] = dY[c] - dY[p]     dX[c] = Y[c] (G[c] - sum_k Y[k] G[k])
        G = dY - special.total(np.where(P, dY, special.lift(0.0, Y)), c, keepdims=True)
        return Y * (G - special.total(G * Y, c, keepdims=True)), {}


class LogSoftmaxSaved(NamedTuple):
    """The output Y, its axis c, the place P of its largest element, and 1 - exp(Y) there."""

    Y: Array
    c: int
    P: Array
    Q: Array


class LogSoftmax(Module):
    """y_c = x_c - log sum_k exp(x_k) along `dim`.

    Axes: c, k class, along `dim`; all others are samples.

    With S[c] = X[c] - X[p], p the likeliest class, and E = exp(S), E[p] = 1 and sum_k E[k] = 1 + R with the sum R over
    the others: log1p(R) keeps its digits where p is nearly certain, and so does 1 - exp(Y[p]) = R / (1 + R).

    Raises:
        ValueError: the input has no axis `dim`.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def extra_repr(self) -> str:
        return f"dim={self.dim}"

    def forward(self, input: Array) -> tuple[Array, LogSoftmaxSaved]:
        _check.floating("LogSoftmax", input=input)
        X = input if input.ndim else input.reshape(1)
        c = _check.axis("LogSoftmax", X, self.dim)
        P = special.largest(X, c)
        S = X - special.shift(X, c)
        E = np.exp(S)
        zero = special.lift(0.0, X)
        # R = sum_{k != p} E[k]     Y[c] = S[c] - log sum_k E[k]
        R, Ep = (special.total(A, c, keepdims=True) for A in (np.where(P, zero, E), np.where(P, E, zero)))
        Y = S - np.log1p(R + (Ep - 1))
        Y = Y if input.ndim else Y.reshape(())
        return Y, LogSoftmaxSaved(Y, c, P, R / (R + Ep))

    def backward(self, grad_output: Array, saved: LogSoftmaxSaved) -> tuple[Array, Params]:
        dY, (Y, c, P, Q) = grad_output, saved
        dY = _check.upstream("LogSoftmax", dY, Y.shape, Y.dtype)
        if not Y.ndim:
            return dY * 0, {}
        zero = special.lift(0.0, Y)
        # dX[c] = dY[c] - exp(Y[c]) sum_k dY[k], and for p, where the two may cancel,
        # dX[p] = dY[p] (1 - exp(Y[p])) - exp(Y[p]) sum_{k != p} dY[k]
        others = special.total(np.where(P, zero, dY), c, keepdims=True)
        total = special.total(dY, c, keepdims=True)
        E = np.exp(Y)
        return np.where(P, dY * Q - E * others, dY - E * total), {}
