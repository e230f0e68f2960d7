"""Losses that are logarithms of a likelihood, or distances of distributions. Arguments and reductions are those of
`refnet.nn.loss`.
"""

from __future__ import annotations

import math
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from refnet import _check
from refnet.arithmetic import special
from refnet.nn.distance import summed_to
from refnet.nn.loss import REDUCTIONS, reduced, reduction_of, upstream
from refnet.nn.module import Array, Module, Params


class NLLLossSaved(NamedTuple):
    """The class axis; where c = t; which samples count; the weight of t; the divisor of a mean; 0; L's shape, dtype."""

    c: int
    Q: Array
    kept: Array
    Z: Array
    n: Array
    zero: Array
    shape: tuple[int, ...]
    dtype: Any


class NLLLoss(Module):
    """l_n = -w_(t_n) x_(n, t_n), reduced, of logarithms of probabilities x.

    Axes: n sample (every axis but one), c class, C of them. X (c), (n, c) or (n, c, d1, ...): the class axis is the
    second where there is one. `weight` W (c). The target t is of integers, of X's shape without the class axis. A mean
    divides by sum_n w_(t_n). Samples with t_n = `ignore_index` are left out of every sum; their gradient is 0, as in
    torch even where all are ignored and the mean is NaN.

    On the output of LogSoftmax it is CrossEntropyLoss. LogSoftmax keeps the digits that are needed for that; the two
    agree to rounding. On the logarithm of Softmax they are lost: that is infinite where a probability underflows.

    Source: documentation of torch.nn.NLLLoss.

    Args:
        weight: an array, the factor of each class; held in `buffers`.
        ignore_index: the index that marks samples to leave out.
        reduction: "none", "mean" or "sum".

    Raises:
        TypeError: input and weight are not floats of one dtype, or the target is not of integers.
        ValueError: the weight or the target does not fit the input's shape, or a class index is out of range.
    """

    def __init__(
        self,
        weight: Array | None = None,
        size_average: bool | None = None,
        ignore_index: int = -100,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        self.reduction = reduction_of("NLLLoss", size_average, reduce, reduction)
        self.ignore_index = _check.integer("NLLLoss", "ignore_index", ignore_index)
        if weight is not None:
            _check.floating("NLLLoss", weight=weight)
            self.buffers["weight"] = weight

    def forward(self, input: Array, target: Array) -> tuple[Array, NLLLossSaved]:
        X = input
        c, T, W = self.fit(X, target)
        zero, one = special.lift(0.0, X), special.lift(1.0, X)
        # Q[n,c] = [c = T[n]]     Z[n] = W[T[n]], 0 where ignored
        Q = np.arange(X.shape[c]).reshape(-1, *(1,) * (-1 - c)) == T
        kept = self.ignore_index != T
        Z: Array = np.where(kept, one if W is None else special.total(np.where(Q, W, zero), c, keepdims=True), zero)
        # L[n] = -Z[n] X[n,T[n]]
        L = -(Z * special.total(np.where(Q, X, zero), c, keepdims=True))
        L = np.where(kept, L, zero)
        n = Z.sum()
        n = np.where(n == 0, math.nan, n)
        shape = (*X.shape[: X.ndim + c], *X.shape[X.ndim + c + 1 :])
        saved = NLLLossSaved(c, Q, kept, Z, n, zero, shape, X.dtype)
        if self.reduction == "none":
            return L.sum(axis=c), saved
        return L.sum() if self.reduction == "sum" else L.sum() / n, saved

    def backward(self, grad_output: Array, saved: NLLLossSaved) -> tuple[Any, Params]:
        c, Q, kept, Z, n, zero, shape, dtype = saved
        dY = _check.upstream("NLLLoss", grad_output, shape if self.reduction == "none" else (), dtype)
        # dL[n] = dY[n], for a sum dY, for a mean dY / n
        dL = np.expand_dims(dY, c) if self.reduction == "none" else dY if self.reduction == "sum" else dY / n
        # dX[n,c] = -dL[n] Z[n] [c = T[n]], 0 where ignored
        return (np.where(Q, np.where(kept, -(dL * Z), zero), zero), None), {}

    def fit(self, X: Array, T: Array) -> tuple[int, Array, Array | None]:
        """The class axis of X, from the end, and target and weights laid along it; raises where something is amiss."""
        _check.floating("NLLLoss", input=X, **self.buffers)
        _check.arrays("NLLLoss", target=T)
        shape = tuple(X.shape)
        first = 0 if len(shape) == 1 else 1
        if not shape or shape[first] == 0:
            raise ValueError(f"NLLLoss: expected input of shape (C), (N, C) or (N, C, d1, ...) with C > 0, got {shape}")
        C, before, after = shape[first], shape[:first], shape[first + 1 :]
        if tuple(T.shape) != (*before, *after):
            raise ValueError(f"NLLLoss: expected target of shape {(*before, *after)}, got {tuple(T.shape)}")
        _check.class_indices("NLLLoss", T, C, self.ignore_index)
        W = self.buffers.get("weight")
        if W is not None:
            if tuple(W.shape) != (C,):
                raise ValueError(f"NLLLoss: expected weight of shape ({C},), got {tuple(W.shape)}")
            W = W.reshape(C, *(1,) * len(after))
        return first - len(shape), T.reshape(*before, 1, *after), W


class KLDivLossSaved(NamedTuple):
    """The target T, or with `log_target` exp(T); the derivative of L by T; the divisor of a mean."""

    P: Array
    G: Array
    n: int


class KLDivLoss(Module):
    """l = t (log t - x), reduced, x logarithms of probabilities and t probabilities; with `log_target`, whose targets
    are logarithms, l = exp(t) (t - x).

    X and T have one shape; torch would broadcast. Where t = 0 the loss is -t x, since 0 log 0 = 0. A target of 0 has no
    derivative, the slope there is infinite; its gradient here is that of -t x, torch's is NaN. Where t < 0 loss and
    gradient are NaN.

    "batchmean" is the sum divided by the size of the first axis, which is the Kullback-Leibler divergence for rows that
    are distributions. "mean" divides by the number of elements; torch warns that this is no divergence.

    Source: documentation of torch.nn.KLDivLoss. torch takes t log t - t x. Keras clips x and t to [1e-7, 1] first.

    Args:
        reduction: "none", "mean", "sum" or "batchmean".
        log_target: whether the target is given as logarithms.

    Raises:
        TypeError: input and target are not floats of one dtype.
        ValueError: they are not of one shape.
    """

    def __init__(
        self,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        log_target: bool = False,
    ) -> None:
        super().__init__()
        self.reduction = reduction_of("KLDivLoss", size_average, reduce, reduction, (*REDUCTIONS, "batchmean"))
        _check.flag("KLDivLoss", "log_target", log_target)
        self.log_target = log_target

    def forward(self, input: Array, target: Array) -> tuple[Array, KLDivLossSaved]:
        X, T = input, target
        _check.floating("KLDivLoss", input=X, target=T)
        _check.same_shape("KLDivLoss", input=X, target=T)
        if self.log_target:
            # L[.] = exp(T[.]) (T[.] - X[.])     G[.] = dL[.] / dT[.] = exp(T[.]) (T[.] - X[.] + 1)
            P = np.exp(T)
            L, G = P * (T - X), P * (T - X + 1)
        else:
            # L[.] = T[.] (A[.] - X[.]), A[.] = log T[.]     G[.] = A[.] - X[.] + 1; with T[.] = 0 that of -T[.] X[.]
            P, some = T, T > 0
            A = np.where(some, np.log(np.where(some, T, special.lift(1.0, X))), math.nan)
            L, G = np.where(T == 0, -(T * X), T * (A - X)), np.where(T == 0, -X, A - X + 1)
        n = X.size if self.reduction == "mean" else X.shape[0] if X.ndim else 1
        reduction = "mean" if self.reduction == "batchmean" else self.reduction
        return reduced(L, n, reduction), KLDivLossSaved(P, G, n)

    def backward(self, grad_output: Array, saved: KLDivLossSaved) -> tuple[Any, Params]:
        P, G, n = saved
        reduction = "mean" if self.reduction == "batchmean" else self.reduction
        dL = upstream("KLDivLoss", grad_output, P.shape, P.dtype, reduction, n)
        # dX[.] = -dL[.] P[.]     dT[.] = dL[.] G[.]
        return (-(dL * P), dL * G), {}


def log_two_pi(like: Array) -> Array:
    """log(2 pi), from 2 / sqrt(pi), which every arithmetic has as the derivative of erf at 0: 2 pi = 8 / (that)^2."""
    root = special.erf_derivative(special.lift(np.zeros(1), like))
    return np.log(8 / (root * root)).sum()


class GaussianNLLLossSaved(NamedTuple):
    """X - T, the clamped variance, the shapes of target and variance, and whether the variance is an array."""

    D: Array
    V: Array
    target: tuple[int, ...]
    var: tuple[int, ...]
    given: bool


class GaussianNLLLoss(Module):
    """l = (log v + (x - t)^2 / v) / 2, reduced, with log(2 pi) / 2 more if `full`: the negative logarithm of the normal
    density of mean x and variance v at t. v = max(var, eps).

    X any shape; the target has X's shape or one that broadcasts to it. `var` has X's shape, X's without the last axis,
    or X's with one axis of size 1; or it is a number.

    The gradient of `var` is the derivative by v, where var is clamped too: a convention, torch's own, which says that
    gradients are unaffected by the clamp. The derivative of the formula is 0 there.

    Source: documentation of torch.nn.GaussianNLLLoss; Nix and Weigend, "Estimating the mean and variance of the target
    probability distribution", 1994. The derivative by v is written (1 - (x - t)^2 / v) / (2 v); torch takes the
    difference of 1 / v and (x - t)^2 / v^2.

    Args:
        full: whether the constant is added.
        eps: the smallest variance.
        reduction: "none", "mean" or "sum".

    Raises:
        TypeError: input, target and variance are not floats of one dtype.
        ValueError: target or variance does not fit the input's shape; a variance is negative; eps is not above 0.
    """

    def __init__(self, *, full: bool = False, eps: float = 1e-6, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = reduction_of("GaussianNLLLoss", None, None, reduction)
        _check.flag("GaussianNLLLoss", "full", full)
        _check.number("GaussianNLLLoss", "eps", eps)
        if not eps > 0:
            raise ValueError(f"GaussianNLLLoss: expected eps above 0, got {eps!r}")
        self.full, self.eps = full, eps

    def forward(self, input: Array, target: Array, var: Any) -> tuple[Array, GaussianNLLLossSaved]:
        X, T = input, target
        given = not isinstance(var, Real) or hasattr(var, "dtype")
        V = self.variance(X, T, var if given else special.lift(float(var), X))
        eps = special.lift(self.eps, X)
        # V[.] = max(var[.], eps), a NaN staying one
        V = np.where(V < eps, eps, V)
        D = X - T
        # L[.] = (log V[.] + D[.]^2 / V[.]) / 2, and log(2 pi) / 2
        L = (np.log(V) + D * (D / V)) / 2
        L = L + log_two_pi(X) / 2 if self.full else L
        shape = tuple(var.shape) if given else ()
        return reduced(L, X.size, self.reduction), GaussianNLLLossSaved(D, V, tuple(T.shape), shape, given)

    def backward(self, grad_output: Array, saved: GaussianNLLLossSaved) -> tuple[Any, Params]:
        D, V, target, var, given = saved
        dL = upstream("GaussianNLLLoss", grad_output, D.shape, D.dtype, self.reduction, D.size)
        # dX[.] = dL[.] D[.] / V[.]     dT[.] = -dX[.], summed where T was spread
        dX = dL * (D / V)
        # dV[.] = dL[.] (1 - D[.]^2 / V[.]) / (2 V[.]), summed where V was spread
        dV = summed_to(dL * ((1 - D * (D / V)) / (2 * V)), V.shape).reshape(var) if given else None
        return (dX, summed_to(-dX, target), dV), {}

    def variance(self, X: Array, T: Array, V: Array) -> Array:
        """The variance, with the axes of X; raises where something is amiss."""
        _check.floating("GaussianNLLLoss", input=X, target=T, var=V)
        _check.broadcast_to("GaussianNLLLoss", X.shape, target=T)
        shape, own = tuple(X.shape), tuple(V.shape)
        one_axis = len(own) == len(shape) and [k for k, n in zip(own, shape, strict=True) if k != n] == [1]
        if own and own == shape[:-1] and own != shape:
            V = V.reshape(*own, 1)
        elif own not in ((), shape) and not one_axis:
            raise ValueError(
                f"GaussianNLLLoss: expected var of shape {shape}, {shape[:-1]} or with one axis of size 1, got {own}"
            )
        _check.no_negative("GaussianNLLLoss", var=V)
        return V


class PoissonNLLLossSaved(NamedTuple):
    """The derivatives of L by input and target."""

    G: Array
    H: Array


class PoissonNLLLoss(Module):
    """l = exp(x) - t x, reduced: the negative logarithm of the Poisson probability of t events, without log(t!). x is
    the logarithm of the expected number, or with `log_input=False` that number, and l = x - t log(x + eps).

    With `full` Stirling's approximation of log(t!) is added where t > 1: t log t - t + log(2 pi t) / 2. X and T have
    one shape; torch would broadcast. Where `full` is set and t = 0 torch's target gradient is NaN: it takes the
    logarithm before it masks. Here it is that of the formula.

    Source: documentation of torch.nn.PoissonNLLLoss. For `log_input=False` the gradient 1 - t / (x + eps) is written
    ((x - t) + eps) / (x + eps), which keeps its digits where x is close to t.

    Args:
        log_input: whether the input is a logarithm.
        full: whether Stirling's term is added.
        eps: is added to x before its logarithm is taken.
        reduction: "none", "mean" or "sum".

    Raises:
        TypeError: input and target are not floats of one dtype.
        ValueError: they are not of one shape; eps is below 0.
    """

    def __init__(
        self,
        log_input: bool = True,
        full: bool = False,
        size_average: bool | None = None,
        eps: float = 1e-8,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        self.reduction = reduction_of("PoissonNLLLoss", size_average, reduce, reduction)
        _check.flag("PoissonNLLLoss", "log_input", log_input)
        _check.flag("PoissonNLLLoss", "full", full)
        _check.not_negative("PoissonNLLLoss", "eps", eps)
        self.log_input, self.full, self.eps = log_input, full, eps

    def forward(self, log_input: Array, target: Array) -> tuple[Array, PoissonNLLLossSaved]:
        X, T = log_input, target
        _check.floating("PoissonNLLLoss", log_input=X, target=T)
        _check.same_shape("PoissonNLLLoss", log_input=X, target=T)
        if self.log_input:
            # L[.] = exp(X[.]) - T[.] X[.]     G[.] = dL[.] / dX[.] = exp(X[.]) - T[.]     H[.] = dL[.] / dT[.] = -X[.]
            E = np.exp(X)
            L, G, H = E - T * X, E - T, -X
        else:
            # L[.] = X[.] - T[.] log(X[.] + eps)     G[.] = ((X[.] - T[.]) + eps) / (X[.] + eps)
            eps = special.lift(self.eps, X)
            A = np.log(X + eps)
            L, G, H = X - T * A, (X - T + eps) / (X + eps), -A
        if self.full:
            # L[.] + T[.] log T[.] - T[.] + log(2 pi T[.]) / 2, H[.] + log T[.] + 1 / (2 T[.]), where T[.] > 1
            zero, large = special.lift(0.0, X), T > 1
            S: Array = np.where(large, T, special.lift(1.0, X))
            K = np.log(S)
            L = L + np.where(large, S * K - S + (K + log_two_pi(X)) / 2, zero)
            H = H + np.where(large, K + 1 / (2 * S), zero)
        return reduced(L, X.size, self.reduction), PoissonNLLLossSaved(G, H)

    def backward(self, grad_output: Array, saved: PoissonNLLLossSaved) -> tuple[Any, Params]:
        G, H = saved
        dL = upstream("PoissonNLLLoss", grad_output, G.shape, G.dtype, self.reduction, G.size)
        # dX[.] = dL[.] G[.]     dT[.] = dL[.] H[.]
        return (dL * G, dL * H), {}
