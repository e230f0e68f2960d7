"""Softmax and its kin: activations along an axis."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from refnet import _check
from refnet.arithmetic import special
from refnet.nn.module import Array, Module, Params


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
        saved = _shares(X, _check.axis("Softmax", X, self.dim))
        return (saved.Y, saved) if input.ndim else _without_axes(saved)

    def backward(self, grad_output: Array, saved: SoftmaxSaved) -> tuple[Array, Params]:
        return _gradient("Softmax", grad_output, saved), {}


def _shares(X: Array, c: int) -> SoftmaxSaved:
    """Softmax along the axis c."""
    E = np.exp(X - special.shift(X, c))
    # Y[c] = E[c] / sum_k E[k], E[c] = exp(X[c])
    return SoftmaxSaved(E / special.total(E, c, keepdims=True), c, special.largest(X, c))


def _without_axes(saved: SoftmaxSaved) -> tuple[Array, SoftmaxSaved]:
    Y = saved.Y.reshape(())
    return Y, saved._replace(Y=Y)


def _gradient(name: str, dY: Array, saved: SoftmaxSaved) -> Array:
    """The gradient by the argument of `_shares`."""
    Y, c, P = saved
    dY = _check.upstream(name, dY, Y.shape, Y.dtype)
    if not Y.ndim:
        return dY * 0
    # G[c] = dY[c] - dY[p]     dX[c] = Y[c] (G[c] - sum_k Y[k] G[k])
    G = dY - special.total(np.where(P, dY, special.lift(0.0, Y)), c, keepdims=True)
    return Y * (G - special.total(G * Y, c, keepdims=True))


class Softmin(Module):
    """y_c = exp(-x_c) / sum_k exp(-x_k) along `dim`: Softmax of -x.

    Axes: c, k class, along `dim`; all others are samples. `dim` has no default: torch's implicit one is deprecated.

    Raises:
        ValueError: the input has no axis `dim`.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def extra_repr(self) -> str:
        return f"dim={self.dim}"

    def forward(self, input: Array) -> tuple[Array, SoftmaxSaved]:
        _check.floating("Softmin", input=input)
        X = input if input.ndim else input.reshape(1)
        # Y = softmax(-X)
        saved = _shares(-X, _check.axis("Softmin", X, self.dim))
        return (saved.Y, saved) if input.ndim else _without_axes(saved)

    def backward(self, grad_output: Array, saved: SoftmaxSaved) -> tuple[Array, Params]:
        # dX is minus the gradient by -X
        return -_gradient("Softmin", grad_output, saved), {}


class Softmax2d(Module):
    """y_c = exp(x_c) / sum_k exp(x_k) over the channels of images: Softmax along the third axis from the end.

    Axes: n sample, c, k channel, . place. X (n, c, ., .) or (c, ., .).

    Raises:
        ValueError: the input has another number of axes than 3 or 4.
    """

    def forward(self, input: Array) -> tuple[Array, SoftmaxSaved]:
        _check.floating("Softmax2d", input=input)
        if input.ndim not in (3, 4):
            raise ValueError(f"Softmax2d: expected an input of 3 or 4 axes, got shape {tuple(input.shape)}")
        saved = _shares(input, -3)
        return saved.Y, saved

    def backward(self, grad_output: Array, saved: SoftmaxSaved) -> tuple[Array, Params]:
        return _gradient("Softmax2d", grad_output, saved), {}


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
