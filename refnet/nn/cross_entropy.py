"""Cross-entropy of classes, from indices or probabilities. Arguments and reductions are those of `refnet.nn.loss`."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from refnet import _check
from refnet.arithmetic import special
from refnet.nn.loss import reduction_of
from refnet.nn.module import Array, Module, Params


def _along(c: int, A: Array) -> Array:
    """sum_c A[n,c], with the axis c left in place, of size 1."""
    return special.total(A, c, keepdims=True)


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
    the losses of single samples, and their dtype."""

    c: int
    kept: Array | None
    n: Array
    zero: Array
    terms: IndexTerms | DistributionTerms
    shape: tuple[int, ...]
    dtype: Any


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
        self.reduction = reduction_of("CrossEntropyLoss", size_average, reduce, reduction)
        _check.integer("CrossEntropyLoss", "ignore_index", ignore_index)
        _check.is_number("CrossEntropyLoss", "label_smoothing", label_smoothing)
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
        saved = CrossEntropyLossSaved(c, kept, n, zero, terms, shape, X.dtype)
        if self.reduction == "none":
            return L.sum(axis=c), saved
        return L.sum() if self.reduction == "sum" else L.sum() / n, saved

    def backward(self, grad_output: Array, saved: CrossEntropyLossSaved) -> tuple[Any, Params]:
        dY, (c, kept, n, zero, terms, shape, dtype) = grad_output, saved
        dY = _check.upstream("CrossEntropyLoss", dY, shape if self.reduction == "none" else (), dtype)
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
        _check.arrays("CrossEntropyLoss", target=T)
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
