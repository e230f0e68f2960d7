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


def reduction_of(
    operation: str,
    size_average: bool | None,
    reduce: bool | None,
    reduction: str,
    choices: tuple[str, ...] = REDUCTIONS,
) -> str:
    """The reduction that the arguments ask for, the deprecated ones first."""
    for name, value in (("size_average", size_average), ("reduce", reduce)):
        if value is not None:
            _check.flag(operation, name, value)
    if size_average is not None or reduce is not None:
        return "none" if reduce is False else "sum" if size_average is False else "mean"
    _check.one_of(operation, "reduction", reduction, choices)
    return reduction


def reduced(L: Array, n: int, reduction: str) -> Array:
    """Y, made of the losses L; a mean divides by n."""
    if reduction == "none":
        return L
    return L.sum() if reduction == "sum" else L.sum() / (n or math.nan)


def upstream(operation: str, grad_output: Array, shape: tuple[int, ...], dtype: Any, reduction: str, n: int) -> Array:
    """dL, the upstream gradient of the losses L of this shape, checked: dY where they are not reduced or summed, for a
    mean dY / n."""
    dY = _check.upstream(operation, grad_output, shape if reduction == "none" else (), dtype)
    return dY / (n or math.nan) if reduction == "mean" else dY


def in_arithmetic(operation: str, target: Array, like: Array) -> Array:
    """A target of signs, which may be of integers, in the arithmetic and dtype of `like`."""
    if _check.kind(operation, "target", target) in "iu":
        return special.lift(target, like)
    _check.floating(operation, input=like, target=target)
    return target


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
        return reduced(D * D, X.size, self.reduction), MSELossSaved(D, X.size)

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
        return reduced(L, X.size, self.reduction), L1LossSaved(sign, X.size)

    def backward(self, grad_output: Array, saved: L1LossSaved) -> tuple[Any, Params]:
        dY, (sign, n) = grad_output, saved
        # The signs of no elements are plain zeros, whatever arithmetic the elements would have been in.
        dtype = sign.dtype if n else dY.dtype
        dY = _check.upstream("L1Loss", dY, sign.shape if self.reduction == "none" else (), dtype)
        # dX[.] = dY[.] sign(X[.] - T[.]), for a mean / n
        dX = dY * sign
        if self.reduction == "mean":
            dX = dX / n
        # dT[.] = -dX[.]
        return (dX, -dX), {}


class HuberLossSaved(NamedTuple):
    """X - T, where its size is below delta, delta, and the number of elements."""

    D: Array
    near: Array
    delta: Array
    n: int


class HuberLoss(Module):
    """l = (x - t)^2 / 2 where |x - t| < delta, and delta (|x - t| - delta / 2) elsewhere, reduced.

    The two meet at |x - t| = delta in value and slope. X and T have one shape; torch would broadcast with a warning.
    Source: documentation of torch.nn.HuberLoss; Huber, "Robust estimation of a location parameter", 1964.

    Args:
        reduction: "none", "mean" or "sum".
        delta: where the square goes over into the line.

    Raises:
        TypeError: input and target are not floats of one dtype.
        ValueError: they are not of one shape; delta is not above 0.
    """

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__()
        self.reduction = reduction_of("HuberLoss", None, None, reduction)
        _check.number("HuberLoss", "delta", delta)
        if not delta > 0:
            raise ValueError(f"HuberLoss: expected delta above 0, got {delta!r}")
        self.delta = delta

    def forward(self, input: Array, target: Array) -> tuple[Array, HuberLossSaved]:
        X, T = input, target
        _check.floating("HuberLoss", input=X, target=T)
        _check.same_shape("HuberLoss", input=X, target=T)
        delta, D = special.lift(self.delta, X), X - T
        A = np.absolute(D)
        near = A < delta
        # L[.] = D[.]^2 / 2 where |D[.]| < delta, delta (|D[.]| - delta / 2) elsewhere; no square of a large D is taken
        S = np.where(near, D, special.lift(0.0, X))
        L = np.where(near, S * S / 2, delta * (A - delta / 2))
        return reduced(L, X.size, self.reduction), HuberLossSaved(D, near, delta, X.size)

    def backward(self, grad_output: Array, saved: HuberLossSaved) -> tuple[Any, Params]:
        D, near, delta, n = saved
        dL = upstream("HuberLoss", grad_output, D.shape, D.dtype, self.reduction, n)
        # dX[.] = dL[.] D[.] where |D[.]| < delta, dL[.] delta sign(D[.]) elsewhere
        dX = dL * np.where(near, D, np.where(D > 0, delta, np.where(D < 0, -delta, D)))
        # dT[.] = -dX[.]
        return (dX, -dX), {}


class SmoothL1LossSaved(NamedTuple):
    """X - T, where its size is below beta, (X - T) / beta there and 0 elsewhere, and the number of elements."""

    D: Array
    near: Array
    Q: Array
    n: int


class SmoothL1Loss(Module):
    """l = (x - t)^2 / (2 beta) where |x - t| < beta, and |x - t| - beta / 2 elsewhere, reduced.

    With beta = 0 it is L1Loss, whose subgradient at x = t is 0. It is HuberLoss(delta=beta) / beta. X and T have one
    shape; torch would broadcast with a warning. Source: documentation of torch.nn.SmoothL1Loss; Girshick, "Fast
    R-CNN", ICCV 2015, equation 3.

    Args:
        reduction: "none", "mean" or "sum".
        beta: where the square goes over into the line.

    Raises:
        TypeError: input and target are not floats of one dtype.
        ValueError: they are not of one shape; beta is below 0.
    """

    def __init__(
        self,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        beta: float = 1.0,
    ) -> None:
        super().__init__()
        self.reduction = reduction_of("SmoothL1Loss", size_average, reduce, reduction)
        _check.not_negative("SmoothL1Loss", "beta", beta)
        self.beta = beta

    def forward(self, input: Array, target: Array) -> tuple[Array, SmoothL1LossSaved]:
        X, T = input, target
        _check.floating("SmoothL1Loss", input=X, target=T)
        _check.same_shape("SmoothL1Loss", input=X, target=T)
        beta, D = special.lift(self.beta, X), X - T
        A = np.absolute(D)
        near = A < beta
        L = A - beta / 2
        Q = S = np.where(near, D, special.lift(0.0, X))
        if self.beta:
            # L[.] = D[.] Q[.] / 2, Q[.] = D[.] / beta, where |D[.]| < beta, |D[.]| - beta / 2 elsewhere
            Q = S / beta
            L = np.where(near, S * Q / 2, L)
        return reduced(L, X.size, self.reduction), SmoothL1LossSaved(D, near, Q, X.size)

    def backward(self, grad_output: Array, saved: SmoothL1LossSaved) -> tuple[Any, Params]:
        D, near, Q, n = saved
        dL = upstream("SmoothL1Loss", grad_output, D.shape, D.dtype, self.reduction, n)
        one, minus = special.lift(1.0, D), special.lift(-1.0, D)
        # dX[.] = dL[.] Q[.] where |D[.]| < beta, dL[.] sign(D[.]) elsewhere
        dX = dL * np.where(near, Q, np.where(D > 0, one, np.where(D < 0, minus, D)))
        # dT[.] = -dX[.]
        return (dX, -dX), {}
