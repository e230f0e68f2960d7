"""Losses: modules of two inputs, `forward(input, target)`.

Names, argument names, their order and defaults are torch.nn's. torch's deprecated `size_average` and `reduce` mean here
what they mean there: where one is given, `reduction` is "none" if `reduce` is False, "sum" if `size_average` is False,
and otherwise "mean". `backward` returns `(grad_input, grad_target)`, the latter None
for a target of integers.

`reduction` makes of the losses L of single elements or samples

    "none": L itself        "sum": sum_. L[.]        "mean": sum_. L[.] / n

and the upstream gradient dY has the shape of what it made. n is their number unless a class says otherwise. The mean
of nothing is NaN, as torch's: 0 / n with NaN for an n of 0.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from refnet import _check
from refnet.arithmetic import special
from refnet.nn.module import Array, Module, Params

REDUCTIONS = ("none", "mean", "sum")

# 1e-12 as a float32: what torch keeps the denominator of BCELoss's gradient above, in float64 too.
BCE_FLOOR = 9.999999960041972e-13


def reduction_of(operation: str, size_average: bool | None, reduce: bool | None, reduction: str) -> str:
    """The reduction that the arguments ask for, the deprecated ones first."""
    for name, value in (("size_average", size_average), ("reduce", reduce)):
        if value is not None:
            _check.flag(operation, name, value)
    if size_average is not None or reduce is not None:
        return "none" if reduce is False else "sum" if size_average is False else "mean"
    _check.one_of(operation, "reduction", reduction, REDUCTIONS)
    return reduction


def _reduce(L: Array, n: int, reduction: str) -> Array:
    if reduction == "none":
        return L
    return L.sum() if reduction == "sum" else L.sum() / (n or math.nan)


class MSELossSaved(NamedTuple):
    """X - T, and the number of its elements."""

    D: Array
    n: int


class MSELoss(Module):
    """l = (x - t)^2, reduced.

    X and T have one shape; torch would broadcast with a warning. Source: documentation of torch.nn.MSELoss.

    Args:
        reduction: "none", "mean" or "sum".

    Raises:
        TypeError: input and target are not floats of one dtype.
        ValueError: they are not of one shape.
    """

    def __init__(self, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = reduction_of("MSELoss", size_average, reduce, reduction)

    def forward(self, input: Array, target: Array) -> tuple[Array, MSELossSaved]:
        X, T = input, target
        _check.floating("MSELoss", input=X, target=T)
        _check.same_shape("MSELoss", input=X, target=T)
        D = X - T
        # L[.] = (X[.] - T[.])^2
        return _reduce(D * D, X.size, self.reduction), MSELossSaved(D, X.size)

    def backward(self, grad_output: Array, saved: MSELossSaved) -> tuple[Any, Params]:
        dY, (D, n) = grad_output, saved
        dY = _check.upstream("MSELoss", dY, D.shape if self.reduction == "none" else (), D.dtype)
        # dX[.] = dY[.] 2 (X[.] - T[.]), for a mean / n
        dX = dY * 2 * D
        if self.reduction == "mean":
            dX = dX / n
        # dT[.] = -dX[.]
        return (dX, -dX), {}


class HalfSquaredErrorSaved(NamedTuple):
    """T - X."""

    D: Array


class HalfSquaredError(Module):
    """y = sum_. 1/2 (t - x)^2 over all elements: the loss whose derivative is x - t.

    X and T have one shape. torch has no such loss; it is half of torch.nn.MSELoss(reduction="sum"). Source: Rumelhart,
    Hinton and Williams, "Learning representations by back-propagating errors", Nature 323 (1986), equation 3.

    Raises:
        TypeError: input and target are not floats of one dtype.
        ValueError: they are not of one shape.
    """

    def forward(self, input: Array, target: Array) -> tuple[Array, HalfSquaredErrorSaved]:
        X, T = input, target
        _check.floating("HalfSquaredError", input=X, target=T)
        _check.same_shape("HalfSquaredError", input=X, target=T)
        D = T - X
        # Y = sum_. (T[.] - X[.])^2 / 2
        return (D * D).sum() / 2, HalfSquaredErrorSaved(D)

    def backward(self, grad_output: Array, saved: HalfSquaredErrorSaved) -> tuple[Any, Params]:
        dY, (D,) = grad_output, saved
        dY = _check.upstream("HalfSquaredError", dY, (), D.dtype)
        # dT[.] = dY (T[.] - X[.])
        dT = dY * D
        # dX[.] = -dT[.]
        return (-dT, dT), {}


class L1LossSaved(NamedTuple):
    """The sign of X - T, and the number of elements."""

    sign: Array
    n: int


class L1Loss(Module):
    """l = |x - t|, reduced; where x = t the subgradient is 0, as torch's.

    X and T have one shape; torch would broadcast with a warning. Source: documentation of torch.nn.L1Loss.

    Args:
        reduction: "none", "mean" or "sum".

    Raises:
        TypeError: input and target are not floats of one dtype.
        ValueError: they are not of one shape.
    """

    def __init__(self, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = reduction_of("L1Loss", size_average, reduce, reduction)

    def forward(self, input: Array, target: Array) -> tuple[Array, L1LossSaved]:
        X, T = input, target
        _check.floating("L1Loss", input=X, target=T)
        _check.same_shape("L1Loss", input=X, target=T)
        D = X - T
        # L[.] = |X[.] - T[.]|: constant at a tie, and NaN where X or T is
        zero, one, minus = (special.lift(value, X) for value in (0.0, 1.0, -1.0))
        L = np.where(D == 0, zero, np.where(D < 0, -D, D))
        sign = np.where(D > 0, one, np.where(D < 0, minus, zero))
        return _reduce(L, X.size, self.reduction), L1LossSaved(sign, X.size)

    def backward(self, grad_output: Array, saved: L1LossSaved) -> tuple[Any, Params]:
        dY, (sign, n) = grad_output, saved
        dY = _check.upstream("L1Loss", dY, sign.shape if self.reduction == "none" else (), sign.dtype)
        # dX[.] = dY[.] sign(X[.] - T[.]), for a mean / n
        dX = dY * sign
        if self.reduction == "mean":
            dX = dX / n
        # dT[.] = -dX[.]
        return (dX, -dX), {}


class BCELossSaved(NamedTuple):
    """Input, target, the clamped logarithms of X and of 1 - X, and the weight or None."""

    X: Array
    T: Array
    A: Array
    B: Array
    W: Array | None


class BCELoss(Module):
    """l = -w (t max(log x, -100) + (1 - t) max(log(1 - x), -100)), reduced: binary cross-entropy of probabilities x.

    X and T have one shape, `weight` W one that broadcasts to it.

    Sources: documentation of torch.nn.BCELoss, for the clamps; ATen/native/Loss.cpp, for the input's gradient
    w (x - t) / max(x (1 - x), 1e-12), with the 1e-12 of float32 in either dtype. Where x (1 - x) is below that it is a
    convention and not the derivative: at x = 0 it is -1e12 w for t = 1, where the formula is constant, and 0 for t = 0,
    where it has slope w. The target's gradient is the derivative of the formula for every x; torch's, -w logit(x),
    leaves out the clamps and is infinite at x = 0 and x = 1.

    Args:
        weight: an array, the factor of each element; held in `buffers`.
        reduction: "none", "mean" or "sum".

    Raises:
        TypeError: input, target and weight are not floats of one dtype.
        ValueError: input and target differ in shape or leave [0, 1], or the weight does not broadcast to them.
    """

    def __init__(
        self,
        weight: Array | None = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        self.reduction = reduction_of("BCELoss", size_average, reduce, reduction)
        if weight is not None:
            _check.floating("BCELoss", weight=weight)
            self.buffers["weight"] = weight

    def forward(self, input: Array, target: Array) -> tuple[Array, BCELossSaved]:
        X, T = input, target
        _check.floating("BCELoss", input=X, target=T, **self.buffers)
        _check.same_shape("BCELoss", input=X, target=T)
        _check.broadcast_to("BCELoss", X.shape, **self.buffers)
        _check.probabilities("BCELoss", input=X, target=T)
        W = self.buffers.get("weight")
        zero, one, least = (special.lift(value, X) for value in (0.0, 1.0, -100.0))
        # A[.] = max(log X[.], -100), the logarithm of 0 not taken
        some = X > 0
        A = np.where(some, np.log(np.where(some, X, one)), least)
        A = np.where(A > -100, A, least)
        # B[.] = max(log(1 - X[.]), -100), likewise
        some = X < 1
        B = np.where(some, np.log1p(-np.where(some, X, zero)), least)
        B = np.where(B > -100, B, least)
        # L[.] = -W[.] (T[.] A[.] + (1 - T[.]) B[.])
        L = -(T * A + (1 - T) * B)
        L = L if W is None else W * L
        return _reduce(L, X.size, self.reduction), BCELossSaved(X, T, A, B, W)

    def backward(self, grad_output: Array, saved: BCELossSaved) -> tuple[Any, Params]:
        dY, (X, T, A, B, W) = grad_output, saved
        dY = _check.upstream("BCELoss", dY, X.shape if self.reduction == "none" else (), X.dtype)
        variance, floor = X * (1 - X), special.lift(BCE_FLOOR, X)
        dL = dY if W is None else dY * W
        # dX[.] = dY[.] W[.] (X[.] - T[.]) / max(X[.] (1 - X[.]), BCE_FLOOR), for a mean / n
        dX = dL * ((X - T) / np.where(variance > floor, variance, floor))
        # dT[.] = dY[.] W[.] (B[.] - A[.]), for a mean / n
        dT = dL * (B - A)
        if self.reduction == "mean":
            dX, dT = dX / X.size, dT / X.size
        return (dX, dT), {}


class BCEWithLogitsLossSaved(NamedTuple):
    """Input, target, log s(X), log s(-X), and the weights or None."""

    X: Array
    T: Array
    A: Array
    B: Array
    W: Array | None
    P: Array | None


class BCEWithLogitsLoss(Module):
    """l = -w (p t log s(x) + (1 - t) log s(-x)), reduced, s the sigmoid: binary cross-entropy of logits x.

    X and T have one shape, `weight` W and `pos_weight` P such as broadcast to it. T may leave [0, 1], as in torch.

    Source: documentation of torch.nn.BCEWithLogitsLoss, with 1 - s(x) = s(-x). For t in [0, 1] the terms of the loss
    have one sign, and for t = 0 or 1 so have those of the gradient: nothing cancels. torch computes
    (1 - t) x - (1 + (p - 1) t) log s(x) and, without `pos_weight`, the gradient s(x) - t, equal in exact arithmetic
    only: for t = 0 and x = -40 its loss is 0.

    Args:
        weight: an array, the factor of each element; held in `buffers`.
        reduction: "none", "mean" or "sum".
        pos_weight: an array, the factor of each positive term; held in `buffers`.

    Raises:
        TypeError: input, target and weights are not floats of one dtype.
        ValueError: input and target differ in shape, or a weight does not broadcast to it.
    """

    def __init__(
        self,
        weight: Array | None = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        pos_weight: Array | None = None,
    ) -> None:
        super().__init__()
        self.reduction = reduction_of("BCEWithLogitsLoss", size_average, reduce, reduction)
        for name, array in (("weight", weight), ("pos_weight", pos_weight)):
            if array is not None:
                _check.floating("BCEWithLogitsLoss", **{name: array})
                self.buffers[name] = array

    def forward(self, input: Array, target: Array) -> tuple[Array, BCEWithLogitsLossSaved]:
        X, T = input, target
        _check.floating("BCEWithLogitsLoss", input=X, target=T, **self.buffers)
        _check.same_shape("BCEWithLogitsLoss", input=X, target=T)
        _check.broadcast_to("BCEWithLogitsLoss", X.shape, **self.buffers)
        W, P = self.buffers.get("weight"), self.buffers.get("pos_weight")
        # A[.] = log s(X[.]), B[.] = log s(-X[.]) = log(1 - s(X[.]))
        A, B = special.log_sigmoid(X), special.log_sigmoid(-X)
        # L[.] = -W[.] (P[.] T[.] A[.] + (1 - T[.]) B[.])
        L = -((T if P is None else P * T) * A + (1 - T) * B)
        L = L if W is None else W * L
        return _reduce(L, X.size, self.reduction), BCEWithLogitsLossSaved(X, T, A, B, W, P)

    def backward(self, grad_output: Array, saved: BCEWithLogitsLossSaved) -> tuple[Any, Params]:
        dY, (X, T, A, B, W, P) = grad_output, saved
        dY = _check.upstream("BCEWithLogitsLoss", dY, X.shape if self.reduction == "none" else (), X.dtype)
        dL = dY if W is None else dY * W
        # dX[.] = dY[.] W[.] ((1 - T[.]) s(X[.]) - P[.] T[.] s(-X[.])), for a mean / n
        Y, Z = special.sigmoids(X)
        dX = dL * ((1 - T) * Y - (T if P is None else P * T) * Z)
        # dT[.] = dY[.] W[.] (B[.] - P[.] A[.]), for a mean / n; B - A = -X
        dT = dL * (-X if P is None else B - P * A)
        if self.reduction == "mean":
            dX, dT = dX / X.size, dT / X.size
        return (dX, dT), {}
