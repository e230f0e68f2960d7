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


def _reduction(operation: str, size_average: bool | None, reduce: bool | None, reduction: str) -> str:
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


def _along(c: int, A: Array) -> Array:
    """sum_c A[n,c], with the axis c left in place, of size 1."""
    return special.total(A, c, keepdims=True)


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
        self.reduction = _reduction("MSELoss", size_average, reduce, reduction)

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
        self.reduction = _reduction("L1Loss", size_average, reduce, reduction)

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
        self.reduction = _reduction("BCELoss", size_average, reduce, reduction)
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
        self.reduction = _reduction("BCEWithLogitsLoss", size_average, reduce, reduction)
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


class IndexTerms(NamedTuple):
    """Of class indices: exp(S), where c = t, the weight of t, the sum over the other classes, the sum over all."""

    E: Array
    Q: Array
    Z: Array
    R: Array
    D: Array


class DistributionTerms(NamedTuple):
    """Of a distribution: exp(S), A, the weight or None, the sum of E, -log P, and the axis c."""

    E: Array
    A: Array
    W: Array | None
    D: Array
    U: Array
    c: int


class CrossEntropyLossSaved(NamedTuple):
    """The class axis; which samples count, None for probabilities; the divisor of a mean; 0; the terms; the shape of
    the losses of single samples."""

    c: int
    kept: Array | None
    n: Array
    zero: Array
    terms: IndexTerms | DistributionTerms
    shape: tuple[int, ...]


class CrossEntropyLoss(Module):
    """l_n = -sum_c a_nc log p_nc, reduced, with p_n = softmax(x_n) and a_nc = w_c ((1 - e) q_nc + e / C).

    Axes: n sample (every axis but one), c, k class, C of them. X (c), (n, c) or (n, c, d1, ...): the class axis is the
    second where there is one. `weight` W (c). The target is either class indices t, integers of X's shape without the
    class axis, and then q_nc = [c = t_n]; or class probabilities q, of X's shape and dtype. e is `label_smoothing`.

    A mean divides by sum_n w_(t_n) for class indices and by the number of samples for probabilities. Samples with
    t_n = `ignore_index` are left out of every sum. Their gradient is 0, as in torch even where all samples are ignored
    and the mean is NaN.

    Sources: documentation of torch.nn.CrossEntropyLoss; for smoothing Szegedy et al., "Rethinking the Inception
    Architecture for Computer Vision", CVPR 2016, section 7. How weights and smoothing combine is torch's choice among
    several: smooth first, then weigh each class by its own w_c, and leave e out of the divisor.

    With class indices and e = 0, loss and gradient keep their relative accuracy where p of the target is close to 1:
    p - 1 is computed as minus the sum of the other p. With smoothing or probabilities the gradient is a difference of
    two terms and as accurate as they are. torch takes the difference in every case.

    Args:
        weight: an array, the factor of each class; held in `buffers`.
        ignore_index: the index that marks samples to leave out.
        reduction: "none", "mean" or "sum".
        label_smoothing: the share e of the uniform distribution in the target, from 0 to 1.

    Raises:
        TypeError: input, weight and probabilities are not floats of one dtype, or indices are not integers.
        ValueError: the weight or the target does not fit the input's shape, a class index is out of range, or the
            target is probabilities and `ignore_index` is not negative.
    """

    def __init__(
        self,
        weight: Array | None = None,
        size_average: bool | None = None,
        ignore_index: int = -100,
        reduce: bool | None = None,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.reduction = _reduction("CrossEntropyLoss", size_average, reduce, reduction)
        _check.integer("CrossEntropyLoss", "ignore_index", ignore_index)
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"CrossEntropyLoss: expected label_smoothing from 0 to 1, got {label_smoothing!r}")
        if weight is not None:
            _check.floating("CrossEntropyLoss", weight=weight)
            self.buffers["weight"] = weight
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing

    def forward(self, input: Array, target: Array) -> tuple[Array, CrossEntropyLossSaved]:
        X = input
        c, T, W = self.fit(X, target)
        zero, one = special.lift(0.0, X), special.lift(1.0, X)
        S = X - special.shift(X, c)
        E = np.exp(S)
        if T.dtype.kind in "iu":
            # Q[n,c] = [c = T[n]]
            Q = np.arange(X.shape[c]).reshape(-1, *(1,) * (X.ndim - 2)) == T
            # Z[n] = W[T[n]], 0 where ignored
            kept = self.ignore_index != T
            Z: Array = np.where(kept, one if W is None else _along(c, np.where(Q, W, zero)), zero)
            n = Z.sum()
            n = np.where(n == 0, math.nan, n)
            if self.label_smoothing:
                L, terms = self.distribution(S, E, np.where(Q, one, zero), W, c)
            else:
                L, terms = self.index(S, E, Q, Z, c, zero)
            L = np.where(kept, L, zero)
        else:
            kept, n = None, special.lift(math.prod(X.shape) // X.shape[c] or math.nan, X)
            L, terms = self.distribution(S, E, T, W, c)
        shape = (*X.shape[: X.ndim + c], *X.shape[X.ndim + c + 1 :])
        saved = CrossEntropyLossSaved(c, kept, n, zero, terms, shape)
        if self.reduction == "none":
            return L.sum(axis=c), saved
        return L.sum() if self.reduction == "sum" else L.sum() / n, saved

    def backward(self, grad_output: Array, saved: CrossEntropyLossSaved) -> tuple[Any, Params]:
        dY, (c, kept, n, zero, terms, shape) = grad_output, saved
        dY = _check.upstream("CrossEntropyLoss", dY, shape if self.reduction == "none" else (), zero.dtype)
        # dL[n] = dY[n], for a sum dY, for a mean dY / n; 0 where ignored
        dL = np.expand_dims(dY, c) if self.reduction == "none" else dY if self.reduction == "sum" else dY / n
        if kept is None:
            return self.distribution_backward(dL, *terms), {}
        dL = np.where(kept, dL, zero)
        if self.label_smoothing:
            return (self.distribution_backward(dL, *terms)[0], None), {}
        return (self.index_backward(dL, *terms), None), {}

    def index(self, S: Array, E: Array, Q: Array, Z: Array, c: int, zero: Array) -> tuple[Array, Any]:
        """L (n, 1) for the class t at which Q (n, c) is true."""
        # R[n] = sum_{k != t} E[n,k], D[n] = R[n] + E[n,t] = sum_k E[n,k]
        R, St = _along(c, np.where(Q, zero, E)), _along(c, np.where(Q, S, zero))
        Et = np.exp(St)
        # L[n] = Z[n] (log D[n] - S[n,t]); where t is the likeliest class E[n,t] = 1, and the digits of R[n] survive
        return Z * (np.log1p(R + (Et - 1)) - St), IndexTerms(E, Q, Z, R, R + Et)

    def index_backward(self, dL: Array, E: Array, Q: Array, Z: Array, R: Array, D: Array) -> Array:
        # dX[n,c] = dL[n] Z[n] (P[n,c] - [c = t]), P[n,c] = E[n,c] / D[n] and so P[n,t] - 1 = -R[n] / D[n]
        return dL * Z / D * np.where(Q, -R, E)

    def distribution(self, S: Array, E: Array, Q: Array, W: Array | None, c: int) -> tuple[Array, Any]:
        """L (n, 1) for the target distribution Q (n, c)."""
        A = Q
        if self.label_smoothing:
            e = special.lift(self.label_smoothing, S)
            # A[n,c] = W[c] ((1 - e) Q[n,c] + e / C)
            A = (1 - e) * Q + e / S.shape[c]
        if W is not None:
            A = W * A
        # U[n,c] = -log P[n,c] = log D[n] - S[n,c], D[n] = sum_k E[n,k]
        D = _along(c, E)
        U = np.log(D) - S
        # L[n] = sum_c A[n,c] U[n,c]
        return _along(c, A * U), DistributionTerms(E, A, W, D, U, c)

    def distribution_backward(
        self, dL: Array, E: Array, A: Array, W: Array | None, D: Array, U: Array, c: int
    ) -> tuple[Array, Array]:
        # dX[n,c] = dL[n] (P[n,c] sum_k A[n,k] - A[n,c]), P[n,c] = E[n,c] / D[n]
        dX = dL * (E / D * _along(c, A) - A)
        # dQ[n,c] = dL[n] U[n,c] W[c] (1 - e)
        dQ = dL * U
        if W is not None:
            dQ = dQ * W
        if self.label_smoothing:
            dQ = dQ * (1 - special.lift(self.label_smoothing, E))
        return dX, dQ

    def fit(self, X: Array, T: Array) -> tuple[int, Array, Array | None]:
        """The class axis of X, from the end, and target and weights laid along it; raises where something is amiss."""
        _check.floating("CrossEntropyLoss", input=X, **self.buffers)
        shape, given = tuple(X.shape), tuple(T.shape)
        first = 0 if len(shape) == 1 else 1
        if not shape or shape[first] == 0:
            raise ValueError(
                f"CrossEntropyLoss: expected input of shape (C), (N, C) or (N, C, d1, ...) with C > 0, got {shape}"
            )
        C, before, after = shape[first], shape[:first], shape[first + 1 :]
        if given == (*before, *after):
            _check.class_indices("CrossEntropyLoss", T, C, self.ignore_index)
            T = T.reshape(*before, 1, *after)
        elif given != shape:
            raise ValueError(
                f"CrossEntropyLoss: expected target of shape {(*before, *after)} (class indices) or {shape} "
                f"(class probabilities), got {given}"
            )
        elif self.ignore_index >= 0:
            raise ValueError(
                f"CrossEntropyLoss: expected no ignore_index with class probabilities, got {self.ignore_index}"
            )
        else:
            _check.floating("CrossEntropyLoss", input=X, target=T)
        W = self.buffers.get("weight")
        if W is not None:
            if tuple(W.shape) != (C,):
                raise ValueError(f"CrossEntropyLoss: expected weight of shape ({C},), got {tuple(W.shape)}")
            W = W.reshape(C, *(1,) * len(after))
        return first - len(shape), T, W
