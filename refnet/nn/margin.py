"""Losses with a margin. Arguments and reductions are those of `refnet.nn.loss`.

Where a hinge is exactly 0 two subgradients are in use, torch's in each case: HingeEmbeddingLoss, MarginRankingLoss,
CosineEmbeddingLoss and TripletMarginLoss let the gradient pass there, MultiMarginLoss and MultiLabelMarginLoss don't.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from refnet import _check
from refnet.arithmetic import special
from refnet.nn.distance import NormSaved, norm, norm_backward, order
from refnet.nn.loss import in_arithmetic, reduced, reduction_of, upstream
from refnet.nn.module import Array, Module, Params


class HingeEmbeddingLossSaved(NamedTuple):
    """margin - X, where the target is not 1, where it is not -1."""

    M: Array
    apart: Array
    alike: Array


class HingeEmbeddingLoss(Module):
    """l = x for a target of 1, max(0, margin - x) for a target of -1, reduced.

    The target, floats or integers of X's shape, has no gradient. For any other target l is the sum of the two, as in
    torch. Source: documentation of torch.nn.HingeEmbeddingLoss.

    Args:
        margin: of the hinge.
        reduction: "none", "mean" or "sum".

    Raises:
        TypeError: the input is not of floats.
        ValueError: input and target are not of one shape; margin is no finite number.
    """

    def __init__(
        self,
        margin: float = 1.0,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        self.reduction = reduction_of("HingeEmbeddingLoss", size_average, reduce, reduction)
        _check.number("HingeEmbeddingLoss", "margin", margin)
        self.margin = margin

    def forward(self, input: Array, target: Array) -> tuple[Array, HingeEmbeddingLossSaved]:
        X = input
        _check.floating("HingeEmbeddingLoss", input=X)
        _check.same_shape("HingeEmbeddingLoss", input=X, target=target)
        _check.arrays("HingeEmbeddingLoss", target=target)
        zero = special.lift(0.0, X)
        apart, alike = target != 1, target != -1
        # L[.] = X[.] for a target of 1, max(0, M[.]), M[.] = margin - X[.], for one of -1
        M = special.lift(self.margin, X) - X
        L = np.where(apart, np.where(M < 0, zero, M), zero) + np.where(alike, X, zero)
        return reduced(L, X.size, self.reduction), HingeEmbeddingLossSaved(M, apart, alike)

    def backward(self, grad_output: Array, saved: HingeEmbeddingLossSaved) -> tuple[Any, Params]:
        M, apart, alike = saved
        dL = upstream("HingeEmbeddingLoss", grad_output, M.shape, M.dtype, self.reduction, M.size)
        one, zero = special.lift(1.0, M), special.lift(0.0, M)
        # dX[.] = dL[.] for a target of 1, -dL[.] [M[.] >= 0] for one of -1
        slope = np.where(alike, one, zero) - np.where(apart, np.where(M >= 0, one, zero), zero)
        return (dL * slope, None), {}


class MarginRankingLossSaved(NamedTuple):
    """X1 - X2, the target in the input's arithmetic, where the hinge is open, and whether the target has a gradient."""

    D: Array
    Y: Array
    on: Array
    floats: bool


class MarginRankingLoss(Module):
    """l = max(0, -y (x1 - x2) + margin), reduced: y = 1 asks x1 to be the larger, y = -1 that x2 is.

    The inputs and the target have one shape. A target of floats has a gradient, one of integers has none. Source:
    documentation of torch.nn.MarginRankingLoss.

    Args:
        margin: of the hinge.
        reduction: "none", "mean" or "sum".

    Raises:
        TypeError: the inputs are not floats of one dtype.
        ValueError: they and the target are not of one shape; margin is no finite number.
    """

    def __init__(
        self,
        margin: float = 0.0,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        self.reduction = reduction_of("MarginRankingLoss", size_average, reduce, reduction)
        _check.number("MarginRankingLoss", "margin", margin)
        self.margin = margin

    def forward(self, input1: Array, input2: Array, target: Array) -> tuple[Array, MarginRankingLossSaved]:
        X1, X2 = input1, input2
        _check.floating("MarginRankingLoss", input1=X1, input2=X2)
        _check.same_shape("MarginRankingLoss", input1=X1, input2=X2, target=target)
        Y, D = in_arithmetic("MarginRankingLoss", target, X1), X1 - X2
        # L[.] = max(0, M[.]), M[.] = margin - Y[.] D[.]
        M = special.lift(self.margin, X1) - Y * D
        L = np.where(M < 0, special.lift(0.0, X1), M)
        saved = MarginRankingLossSaved(D, Y, M >= 0, target.dtype.kind not in "iu")
        return reduced(L, X1.size, self.reduction), saved

    def backward(self, grad_output: Array, saved: MarginRankingLossSaved) -> tuple[Any, Params]:
        D, Y, on, floats = saved
        dL = upstream("MarginRankingLoss", grad_output, D.shape, D.dtype, self.reduction, D.size)
        # dM[.] = dL[.] [M[.] >= 0]
        dM = np.where(on, dL, special.lift(0.0, D))
        # dX1[.] = -dM[.] Y[.]     dX2[.] = -dX1[.]     dY[.] = -dM[.] D[.]
        dX2 = dM * Y
        return (-dX2, dX2, -(dM * D) if floats else None), {}


class CosineEmbeddingLossSaved(NamedTuple):
    """The inputs divided by their lengths, the lengths, the cosine, the slope of L by it, and the shape of L."""

    U1: Array
    U2: Array
    N1: Array
    N2: Array
    Y: Array
    slope: Array
    shape: tuple[int, ...]


COSINE_EPSILON = 9.999999960041972e-13
"""1e-12 as a float32: what torch adds to each square of a length, in float64 too."""


class CosineEmbeddingLoss(Module):
    """l_n = 1 - y_n for a target of 1, max(0, y_n - margin) for a target of -1, reduced; for any other target 0.

    Axes: n sample, i component. X1 and X2 (n, i) or (i), the target (n) or (), without a gradient.
    y_n = sum_i x1_ni x2_ni / sqrt((|x1_n|^2 + 1e-12) (|x2_n|^2 + 1e-12)) is the cosine of the two.

    1 - y cancels where the two point the same way. With u = x / N and N^2 = |x|^2 + 1e-12 it is
    (|u1 - u2|^2 + 1e-12 / N1^2 + 1e-12 / N2^2) / 2, of which no term is negative. torch takes the difference.

    Source: documentation of torch.nn.CosineEmbeddingLoss; aten/src/ATen/native/Loss.cpp for the 1e-12, a float32.

    Args:
        margin: from -1 to 1; torch takes any.
        reduction: "none", "mean" or "sum".

    Raises:
        TypeError: the inputs are not floats of one dtype.
        ValueError: they are not of one shape, (N, D) or (D); the target's shape is not that without the last axis.
    """

    def __init__(
        self,
        margin: float = 0.0,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        self.reduction = reduction_of("CosineEmbeddingLoss", size_average, reduce, reduction)
        _check.number("CosineEmbeddingLoss", "margin", margin)
        self.margin = margin

    def forward(self, input1: Array, input2: Array, target: Array) -> tuple[Array, CosineEmbeddingLossSaved]:
        X1, X2 = input1, input2
        _check.floating("CosineEmbeddingLoss", input1=X1, input2=X2)
        _check.arrays("CosineEmbeddingLoss", target=target)
        _check.same_shape("CosineEmbeddingLoss", input1=X1, input2=X2)
        shape = tuple(X1.shape)
        if len(shape) not in (1, 2) or tuple(target.shape) != shape[:-1]:
            raise ValueError(
                "CosineEmbeddingLoss: expected inputs of shape (N, D) or (D) and a target of shape (N) or (), got "
                f"{shape} and {tuple(target.shape)}"
            )
        T = np.expand_dims(target, -1)
        eps, zero, one = (special.lift(value, X1) for value in (COSINE_EPSILON, 0.0, 1.0))
        # U[n,i] = X[n,i] / N[n], N[n]^2 = sum_i X[n,i]^2 + eps
        S1, S2 = special.total(X1 * X1, -1, keepdims=True) + eps, special.total(X2 * X2, -1, keepdims=True) + eps
        N1, N2 = np.sqrt(S1), np.sqrt(S2)
        U1, U2 = X1 / N1, X2 / N2
        # Y[n] = sum_i X1[n,i] X2[n,i] / (N1[n] N2[n])
        # 1 - Y[n] = (sum_i D[n,i]^2 + eps / S1[n] + eps / S2[n]) / 2, D[n,i] = U1[n,i] - U2[n,i], S[n] = N[n]^2
        Y, D = special.total(X1 * X2, -1, keepdims=True) / (N1 * N2), U1 - U2
        apart = (special.total(D * D, -1, keepdims=True) + (eps / S1 + eps / S2)) / 2
        # L[n] = 1 - Y[n] for T[n] = 1, max(0, M[n]) for T[n] = -1, M[n] = Y[n] - margin
        M = Y - special.lift(self.margin, X1)
        L = np.where(T == 1, apart, zero) + np.where(T == -1, np.where(M < 0, zero, M), zero)
        slope = np.where(T == 1, -one, zero) + np.where(T == -1, np.where(M >= 0, one, zero), zero)
        saved = CosineEmbeddingLossSaved(U1, U2, N1, N2, Y, slope, shape[:-1])
        return reduced(L.sum(axis=-1), L.size, self.reduction), saved

    def backward(self, grad_output: Array, saved: CosineEmbeddingLossSaved) -> tuple[Any, Params]:
        U1, U2, N1, N2, Y, slope, shape = saved
        dL = upstream("CosineEmbeddingLoss", grad_output, shape, U1.dtype, self.reduction, Y.size)
        # dY[n] = -dL[n] for T[n] = 1, dL[n] [M[n] >= 0] for T[n] = -1
        dY = (np.expand_dims(dL, -1) if self.reduction == "none" else dL) * slope
        # dX1[n,i] = dY[n] (U2[n,i] - Y[n] U1[n,i]) / N1[n]     dX2[n,i] = dY[n] (U1[n,i] - Y[n] U2[n,i]) / N2[n]
        return (dY * ((U2 - Y * U1) / N1), dY * ((U1 - Y * U2) / N2), None), {}


class TripletMarginLossSaved(NamedTuple):
    """What the norms of the pairs anchor and positive, anchor and negative, positive and negative keep; the shares of
    the last two in the negative distance; where the hinge is open; the shape of L."""

    positive: NormSaved
    negative: NormSaved
    other: NormSaved | None
    shares: tuple[Array, Array]
    on: Array
    shape: tuple[int, ...]


class TripletMarginLoss(Module):
    """l = max(0, d(a, p) - d(a, n) + margin), reduced, d PairwiseDistance: anchor a, positive p, negative n.

    With `swap` the negative distance is min(d(a, n), d(p, n)); where the two are equal each has half of the gradient.
    The three have one shape, whose last axis is that of the vectors. Source: documentation of
    torch.nn.TripletMarginLoss; for the swap Balntas et al., "Learning local feature descriptors with triplets and
    shallow convolutional neural networks", BMVC 2016.

    Args:
        margin: of the hinge; above 0.
        p, eps: of PairwiseDistance.
        swap: whether the negative may be held against the positive.
        reduction: "none", "mean" or "sum".

    Raises:
        TypeError: the inputs are not floats of one dtype.
        ValueError: they are not of one shape, or have no axis; margin is not above 0; p is negative or NaN.
    """

    def __init__(
        self,
        margin: float = 1.0,
        p: float = 2.0,
        eps: float = 1e-6,
        swap: bool = False,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        self.reduction = reduction_of("TripletMarginLoss", size_average, reduce, reduction)
        _check.number("TripletMarginLoss", "margin", margin)
        _check.number("TripletMarginLoss", "eps", eps)
        _check.flag("TripletMarginLoss", "swap", swap)
        if not margin > 0:
            raise ValueError(f"TripletMarginLoss: expected margin above 0, got {margin!r}")
        self.margin, self.p, self.eps, self.swap = margin, order("TripletMarginLoss", p), eps, swap

    def forward(self, anchor: Array, positive: Array, negative: Array) -> tuple[Array, TripletMarginLossSaved]:
        A, P, N = anchor, positive, negative
        _check.floating("TripletMarginLoss", anchor=A, positive=P, negative=N)
        _check.same_shape("TripletMarginLoss", anchor=A, positive=P, negative=N)
        if not A.ndim:
            raise ValueError("TripletMarginLoss: expected inputs with at least one axis, got shape ()")
        eps, zero, one = special.lift(self.eps, A), special.lift(0.0, A), special.lift(1.0, A)
        near, first = norm(A - P + eps, self.p)
        far, second = norm(A - N + eps, self.p)
        third, shares = None, (one, zero)
        if self.swap:
            # F[n] = min(d(a, n), d(p, n)), as -max(-d(a, n), -d(p, n))
            other, third = norm(P - N + eps, self.p)
            half = one / 2
            share = np.where(far < other, one, np.where(far > other, zero, half))
            shares, far = (share, one - share), -special.maximum(-far, -other)
        # L[n] = max(0, M[n]), M[n] = margin + d(a, p) - F[n]
        M = special.lift(self.margin, A) + near - far
        L = np.where(M < 0, zero, M)
        saved = TripletMarginLossSaved(first, second, third, shares, M >= 0, tuple(A.shape[:-1]))
        return reduced(L.sum(axis=-1), L.size, self.reduction), saved

    def backward(self, grad_output: Array, saved: TripletMarginLossSaved) -> tuple[Any, Params]:
        first, second, third, (share, rest), on, shape = saved
        D, size = first.D, on.size
        dL = upstream("TripletMarginLoss", grad_output, shape, D.dtype, self.reduction, size)
        # dM[n] = dL[n] [M[n] >= 0]
        dM = np.where(on, np.expand_dims(dL, -1) if self.reduction == "none" else dL, special.lift(0.0, D))
        # dA = dM d'(a, p) - dM share d'(a, n)     dP = -dM d'(a, p) - dM (1 - share) d'(p, n)     dN = -(the others)
        near, far = norm_backward(dM, first, self.p), norm_backward(dM * share, second, self.p)
        if third is None:
            return (near - far, -near, far), {}
        other = norm_backward(dM * rest, third, self.p)
        return (near - far, -near - other, far + other), {}


class MultiMarginLossSaved(NamedTuple):
    """Where c = t; the derivative of L by each hinge; shape and dtype of L."""

    Q: Array
    G: Array
    shape: tuple[int, ...]
    dtype: Any


class MultiMarginLoss(Module):
    """l_n = sum_(c != t_n) w_(t_n) max(0, margin - x_(n, t_n) + x_nc)^p / C, reduced, p = 1 or 2.

    Axes: n sample, c class, C of them. X (n, c) or (c), the target t (n) or () of integers, `weight` W (c). A mean
    divides by the number of samples, whatever the weights. Source: documentation of torch.nn.MultiMarginLoss.

    Args:
        p: 1 or 2.
        margin: of the hinge.
        weight: an array, the factor of each class; held in `buffers`.
        reduction: "none", "mean" or "sum".

    Raises:
        TypeError: input and weight are not floats of one dtype, or the target is not of integers.
        ValueError: p is another; the weight or the target does not fit the input's shape; a class is out of range.
    """

    def __init__(
        self,
        p: int = 1,
        margin: float = 1.0,
        weight: Array | None = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        self.reduction = reduction_of("MultiMarginLoss", size_average, reduce, reduction)
        if p not in (1, 2):
            raise ValueError(f"MultiMarginLoss: expected p to be 1 or 2, got {p!r}")
        _check.number("MultiMarginLoss", "margin", margin)
        if weight is not None:
            _check.floating("MultiMarginLoss", weight=weight)
            self.buffers["weight"] = weight
        self.p, self.margin = p, margin

    def forward(self, input: Array, target: Array) -> tuple[Array, MultiMarginLossSaved]:
        X, W = input, self.buffers.get("weight")
        C = _classes("MultiMarginLoss", X, target, one=True, **self.buffers)
        _check.class_indices("MultiMarginLoss", target, C, 0)
        if W is not None and tuple(W.shape) != (C,):
            raise ValueError(f"MultiMarginLoss: expected weight of shape ({C},), got {tuple(W.shape)}")
        zero = special.lift(0.0, X)
        # Q[n,c] = [c = T[n]]     M[n,c] = margin - (X[n,T[n]] - X[n,c])
        Q = np.expand_dims(target, -1) == np.arange(C)
        M = special.lift(self.margin, X) - (special.total(np.where(Q, X, zero), -1, keepdims=True) - X)
        H = np.where(Q, zero, np.where(M > 0, M, zero))
        # L[n] = sum_c W[T[n]] H[n,c]^p / C, H[n,c] = max(0, M[n,c]) for c != T[n]     G[n,c] = dL[n] / dM[n,c]
        E, G = (H * H, 2 * H) if self.p == 2 else (H, np.where(Q, zero, np.where(M > 0, special.lift(1.0, X), zero)))
        if W is not None:
            Z = special.total(np.where(Q, W, zero), -1, keepdims=True)
            E, G = Z * E, Z * G
        L = special.total(E, -1) / C
        return reduced(L, X.size // C, self.reduction), MultiMarginLossSaved(Q, G / C, tuple(target.shape), X.dtype)

    def backward(self, grad_output: Array, saved: MultiMarginLossSaved) -> tuple[Any, Params]:
        Q, G, shape, dtype = saved
        size = G.size // G.shape[-1]
        dL = upstream("MultiMarginLoss", grad_output, shape, dtype, self.reduction, size)
        # dX[n,c] = dL[n] G[n,c] for c != T[n], -dL[n] sum_c G[n,c] for c = T[n]
        dL = np.expand_dims(dL, -1) if self.reduction == "none" else dL
        return (dL * np.where(Q, -special.total(G, -1, keepdims=True), G), None), {}


class MultiLabelMarginLossSaved(NamedTuple):
    """The derivative of L by each hinge, (n, k, c); where c is the k-th target; shape and dtype of L."""

    G: Array
    J: Array
    shape: tuple[int, ...]
    dtype: Any


class MultiLabelMarginLoss(Module):
    """l_n = sum_k sum_(c no target) max(0, 1 - (x_(n, t_nk) - x_nc)) / C, reduced.

    Axes: n sample, c class, k place in the list of targets; C classes and as many places. X (n, c) or (c), the target
    of integers and of X's shape: the classes t_n0, t_n1, ... that apply, ended by a -1 if there are fewer than C; what
    stands behind it does not count. A mean divides by the number of samples. Source: documentation of
    torch.nn.MultiLabelMarginLoss.

    Args:
        reduction: "none", "mean" or "sum".

    Raises:
        TypeError: the input is not of floats, or the target is not of integers.
        ValueError: they are not of one shape, (N, C) or (C); a class is out of range.
    """

    def __init__(self, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = reduction_of("MultiLabelMarginLoss", size_average, reduce, reduction)

    def forward(self, input: Array, target: Array) -> tuple[Array, MultiLabelMarginLossSaved]:
        X, T = input, target
        C = _classes("MultiLabelMarginLoss", X, T, one=False)
        _check.class_indices("MultiLabelMarginLoss", T, C, -1)
        zero, one = special.lift(0.0, X), special.lift(1.0, X)
        # J[n,k,c] = [c = T[n,k]], false from the first -1 on     V[n,k,c]: k is a target and c is none
        listed = np.expand_dims(np.cumsum(T == -1, axis=-1) == 0, -1)
        J = np.where(listed, np.expand_dims(T, -1) == np.arange(C), False)
        V = np.where(listed, np.expand_dims(J.sum(axis=-2) == 0, -2), False)
        # M[n,k,c] = 1 - (X[n,T[n,k]] - X[n,c])
        Xc = np.expand_dims(X, -2)
        M = 1 - (special.total(np.where(J, Xc, zero), -1, keepdims=True) - Xc)
        # L[n] = sum_kc H[n,k,c] / C, H[n,k,c] = max(0, M[n,k,c]) where V[n,k,c]     G[n,k,c] = dL[n] / dM[n,k,c]
        H, G = (np.where(V, np.where(M > 0, on, zero), zero) for on in (M, one))
        L = special.total(special.total(H, -1), -1) / C
        return reduced(L, X.size // C, self.reduction), MultiLabelMarginLossSaved(
            G / C, J, tuple(X.shape[:-1]), X.dtype
        )

    def backward(self, grad_output: Array, saved: MultiLabelMarginLossSaved) -> tuple[Any, Params]:
        G, J, shape, dtype = saved
        C = G.shape[-1]
        size = G.size // (C * C)
        dL = upstream("MultiLabelMarginLoss", grad_output, shape, dtype, self.reduction, size)
        zero = special.lift(0.0, G)
        # dX[n,c] = dL[n] (sum_k G[n,k,c] - sum_k J[n,k,c] sum_b G[n,k,b])
        own = np.where(J, special.total(G, -1, keepdims=True), zero)
        dL = np.expand_dims(dL, -1) if self.reduction == "none" else dL
        return (dL * special.total(G - own, -2), None), {}


def _classes(operation: str, X: Array, T: Array, one: bool, **weights: Array) -> int:
    """The number of classes; raises unless the input is (N, C) or (C), C > 0, and the target of one class, (N) or (),
    or of several, of the input's shape."""
    _check.floating(operation, input=X, **weights)
    _check.arrays(operation, target=T)
    shape = tuple(X.shape[: X.ndim - 1] if one else X.shape)
    if X.ndim not in (1, 2) or not X.shape[-1] or tuple(T.shape) != shape:
        raise ValueError(
            f"{operation}: expected input of shape (N, C) or (C) with C > 0, and a target of shape {shape}, got "
            f"{tuple(X.shape)} and {tuple(T.shape)}"
        )
    return int(X.shape[-1])
