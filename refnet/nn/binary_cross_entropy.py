"""Losses of two classes: binary cross-entropy and its relatives. Reductions are those of `refnet.nn.loss`."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from refnet import _check
from refnet.arithmetic import special
from refnet.nn.loss import in_arithmetic, reduced, reduction_of, upstream
from refnet.nn.module import Array, Module, Params

# 1e-12 as a float32: what torch keeps the denominator of BCELoss's gradient above, in float64 too.
BCE_FLOOR = 9.999999960041972e-13


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

    After a Sigmoid the gradient is inaccurate where the probability is near 1, as Sigmoid says. Use BCEWithLogitsLoss
    without a Sigmoid there: `python -m benchmarks accuracy --networks` shows both.

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
        return reduced(L, X.size, self.reduction), BCELossSaved(X, T, A, B, W)

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
        return reduced(L, X.size, self.reduction), BCEWithLogitsLossSaved(X, T, A, B, W, P)

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


class SoftMarginLossSaved(NamedTuple):
    """The product of input and target, and the target in the input's arithmetic."""

    M: Array
    Y: Array


class SoftMarginLoss(Module):
    """l = log(1 + exp(-y x)), reduced, for targets y of 1 and -1.

    It is -log s(y x), s the sigmoid, and is computed so: exp does not overflow and no digits are lost. The target,
    floats or integers of the input's shape, has no gradient, as in torch. Source: documentation of
    torch.nn.SoftMarginLoss. torch computes log1p(exp(-y x)), which is infinite at -y x = 710 (float32: 89).

    Args:
        reduction: "none", "mean" or "sum".

    Raises:
        TypeError: the input is not of floats.
        ValueError: input and target are not of one shape.
    """

    def __init__(self, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = reduction_of("SoftMarginLoss", size_average, reduce, reduction)

    def forward(self, input: Array, target: Array) -> tuple[Array, SoftMarginLossSaved]:
        X = input
        _check.floating("SoftMarginLoss", input=X)
        _check.same_shape("SoftMarginLoss", input=X, target=target)
        Y = in_arithmetic("SoftMarginLoss", target, X)
        M = Y * X
        # L[.] = -log s(Y[.] X[.])
        return reduced(-special.log_sigmoid(M), X.size, self.reduction), SoftMarginLossSaved(M, Y)

    def backward(self, grad_output: Array, saved: SoftMarginLossSaved) -> tuple[Any, Params]:
        M, Y = saved
        dL = upstream("SoftMarginLoss", grad_output, M.shape, M.dtype, self.reduction, M.size)
        # dX[.] = -dL[.] Y[.] s(-Y[.] X[.])
        return (-(dL * Y * special.sigmoid(-M)), None), {}


class MultiLabelSoftMarginLossSaved(NamedTuple):
    """Input, target, the weight or None, and the number of samples."""

    X: Array
    T: Array
    W: Array | None
    n: int


class MultiLabelSoftMarginLoss(Module):
    """l_n = -sum_c w_c (t_nc log s(x_nc) + (1 - t_nc) log s(-x_nc)) / C, reduced, s the sigmoid.

    Axes: c class, the last, C of them; n sample, all others. X and T have one shape, `weight` W one that broadcasts to
    it. It is BCEWithLogitsLoss with a mean over the classes. Source: documentation of
    torch.nn.MultiLabelSoftMarginLoss.

    Args:
        weight: an array, the factor of each class; held in `buffers`.
        reduction: "none", "mean" or "sum".

    Raises:
        TypeError: input, target and weight are not floats of one dtype.
        ValueError: input and target differ in shape or have no axis, or the weight does not broadcast to them.
    """

    def __init__(
        self,
        weight: Array | None = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        self.reduction = reduction_of("MultiLabelSoftMarginLoss", size_average, reduce, reduction)
        if weight is not None:
            _check.floating("MultiLabelSoftMarginLoss", weight=weight)
            self.buffers["weight"] = weight

    def forward(self, input: Array, target: Array) -> tuple[Array, MultiLabelSoftMarginLossSaved]:
        X, T = input, target
        _check.floating("MultiLabelSoftMarginLoss", input=X, target=T, **self.buffers)
        _check.same_shape("MultiLabelSoftMarginLoss", input=X, target=T)
        if not X.ndim or not X.shape[-1]:
            raise ValueError(
                f"MultiLabelSoftMarginLoss: expected input of shape (..., C) with C > 0, got {tuple(X.shape)}"
            )
        _check.broadcast_to("MultiLabelSoftMarginLoss", X.shape, **self.buffers)
        W = self.buffers.get("weight")
        A, B = special.log_sigmoid(X), special.log_sigmoid(-X)
        # L[n] = -sum_c W[c] (T[n,c] log s(X[n,c]) + (1 - T[n,c]) log s(-X[n,c])) / C
        E = T * A + (1 - T) * B
        L = -special.total(E if W is None else W * E, -1) / X.shape[-1]
        n = X.size // X.shape[-1]
        return reduced(L, n, self.reduction), MultiLabelSoftMarginLossSaved(X, T, W, n)

    def backward(self, grad_output: Array, saved: MultiLabelSoftMarginLossSaved) -> tuple[Any, Params]:
        X, T, W, n = saved
        dL = upstream("MultiLabelSoftMarginLoss", grad_output, X.shape[:-1], X.dtype, self.reduction, n)
        dE = (np.expand_dims(dL, -1) if self.reduction == "none" else dL) / X.shape[-1]
        dE = dE if W is None else dE * W
        # dX[n,c] = dL[n] W[c] ((1 - T[n,c]) s(X[n,c]) - T[n,c] s(-X[n,c])) / C
        Y, Z = special.sigmoids(X)
        dX = dE * ((1 - T) * Y - T * Z)
        # dT[n,c] = -dL[n] W[c] X[n,c] / C
        return (dX, -(dE * X)), {}
