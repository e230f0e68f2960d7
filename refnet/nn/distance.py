"""Distances and similarities of vectors, as in torch.nn."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from refnet import _check
from refnet.arithmetic import special
from refnet.nn.module import Array, Module, Params


def summed_to(G: Array, shape: tuple[int, ...]) -> Array:
    """A gradient summed over the axes along which an operand of this shape was spread."""
    missing = G.ndim - len(shape)
    own = (*(1,) * missing, *shape)
    spread = tuple(a - G.ndim for a, n in enumerate(G.shape) if a < missing or own[a] != n)
    return special.total(G, spread, keepdims=True).reshape(shape) if spread else G


def together(operation: str, X1: Array, X2: Array) -> tuple[int, ...]:
    """The shape that two arrays broadcast to; raises where they have none, no axis, or two dtypes."""
    _check.floating(operation, x1=X1, x2=X2)
    first, second = ((1,) * (max(X1.ndim, X2.ndim) - X.ndim) + tuple(X.shape) for X in (X1, X2))
    fits = all(m == n or 1 in (m, n) for m, n in zip(first, second, strict=True))
    shape = tuple(n if m == 1 else m for m, n in zip(first, second, strict=True)) if fits else ()
    if not shape:
        raise ValueError(
            f"{operation}: expected x1 and x2 of shapes that broadcast to one with at least one axis, "
            f"got {tuple(X1.shape)} and {tuple(X2.shape)}"
        )
    return shape


class NormSaved(NamedTuple):
    """The vectors D, their sizes |D|, and what the norms N are divided by: N, or 1 where N is 0."""

    D: Array
    A: Array
    M: Array


def norm(D: Array, p: float) -> tuple[Array, NormSaved]:
    """N[n] = (sum_i |D[n,i]|^p)^(1/p), the axis i left in place, of size 1; for p = 0 the number of i with D[n,i] != 0,
    for p = inf the largest |D[n,i]|."""
    zero, one, A = special.lift(0.0, D), special.lift(1.0, D), np.absolute(D)
    if p == 0:
        N = special.total(np.where(D == 0, zero, one), -1, keepdims=True)
    elif p == 1:
        N = special.total(A, -1, keepdims=True)
    elif p == 2:
        # The root of 0 is not taken: it has no derivative.
        S = special.total(D * D, -1, keepdims=True)
        N = np.where(S == 0, S, np.sqrt(np.where(S == 0, one, S)))
    elif p == math.inf:
        N = special.amax(A, -1, keepdims=True)
    else:
        # N[n] = m exp(log(sum_i (|D[n,i]| / m)^p) / p), m the largest |D[n,i]|: no power of a large number is taken
        m = special.shift(A, -1)
        m = special.lift(1.0, D) * np.where(m == 0, 1.0, m)
        some = A > 0
        P = np.where(some, np.power(np.where(some, A, one) / m, p), zero)
        S = special.total(P, -1, keepdims=True)
        N = np.where(S == 0, S, m * np.exp(np.log(np.where(S == 0, one, S)) / special.lift(p, D)))
    return N, NormSaved(D, A, np.where(N == 0, one, N))


def norm_backward(dN: Array, saved: NormSaved, p: float) -> Array:
    """dD of N = norm(D), 0 where N is 0; elements that tie for the largest share the derivative, as in torch."""
    D, A, M = saved
    zero, one, minus = (special.lift(value, D) for value in (0.0, 1.0, -1.0))
    if p == 2:
        # dD[n,i] = dN[n] D[n,i] / N[n]
        return dN * (D / M)
    # S[n,i] = sign(D[n,i])
    S = np.where(D > 0, one, np.where(D < 0, minus, D))
    if p == 0:
        # dD[n,i] = 0
        return dN * (zero * S)
    if p == 1:
        # dD[n,i] = dN[n] S[n,i]
        return dN * S
    if p == math.inf:
        # dD[n,i] = dN[n] S[n,i] [|D[n,i]| is the largest] / how many are
        return dN * (special.amax_weights(A, -1) * S)
    # dD[n,i] = dN[n] S[n,i] R[n,i]^p / R[n,i], R[n,i] = |D[n,i]| / N[n], 0 where D[n,i] = 0
    some = A > 0
    R = np.where(some, A, one) / M
    return dN * (np.where(some, np.power(R, p) / R, zero) * S)


def order(operation: str, p: Any) -> Any:
    """The order of a norm: a number from 0 to infinity."""
    _check.is_number(operation, "p", p)
    if not p >= 0:
        raise ValueError(f"{operation}: expected p from 0 to infinity, got {p!r}")
    return p


class CosineSimilaritySaved(NamedTuple):
    """The axis; X1 and X2 divided by the clamped norms; these; where a norm is clamped; the cosine; both shapes."""

    dim: int
    U1: Array
    U2: Array
    N1: Array
    N2: Array
    clamped1: Array
    clamped2: Array
    Y: Array
    shapes: tuple[tuple[int, ...], tuple[int, ...]]


class CosineSimilarity(Module):
    """y = sum_i u1_i u2_i along `dim`, u = x / max(|x|, eps).

    X1 and X2 broadcast to one shape, as in torch. Where |x| < eps the norm counts as the constant eps, so that
    du = dx / eps. torch clamps behind autograd's back: its gradient there has the norm's term as well, and is another
    one than that of its own forward.

    Source: documentation of torch.nn.CosineSimilarity. Squares of a norm overflow where torch's do.

    Args:
        dim: the axis of the vectors.
        eps: the smallest norm.

    Raises:
        TypeError: the inputs are not floats of one dtype.
        ValueError: they do not broadcast, or have no axis `dim`; eps is below 0.
    """

    def __init__(self, dim: int = 1, eps: float = 1e-8) -> None:
        super().__init__()
        self.dim = _check.integer("CosineSimilarity", "dim", dim)
        _check.not_negative("CosineSimilarity", "eps", eps)
        self.eps = eps

    def forward(self, x1: Array, x2: Array) -> tuple[Array, CosineSimilaritySaved]:
        shape = together("CosineSimilarity", x1, x2)
        X1, X2 = np.broadcast_to(x1, shape), np.broadcast_to(x2, shape)
        i = _check.axis("CosineSimilarity", X1, self.dim)
        # U[n,i] = X[n,i] / N[n], N[n] = max(|X[n]|, eps)
        N1, clamped1 = self.length(X1, i)
        N2, clamped2 = self.length(X2, i)
        U1, U2 = X1 / N1, X2 / N2
        # Y[n] = sum_i U1[n,i] U2[n,i]
        Y = special.total(U1 * U2, i, keepdims=True)
        saved = CosineSimilaritySaved(i, U1, U2, N1, N2, clamped1, clamped2, Y, (tuple(x1.shape), tuple(x2.shape)))
        return Y.sum(axis=i), saved

    def backward(self, grad_output: Array, saved: CosineSimilaritySaved) -> tuple[Any, Params]:
        i, U1, U2, N1, N2, clamped1, clamped2, Y, (shape1, shape2) = saved
        reduced = (*U1.shape[: U1.ndim + i], *U1.shape[U1.ndim + i + 1 :])
        dY = np.expand_dims(_check.upstream("CosineSimilarity", grad_output, reduced, U1.dtype), i)
        zero = special.lift(0.0, Y)
        # dX1[n,i] = dY[n] (U2[n,i] - Y[n] U1[n,i]) / N1[n], without the second term where N1[n] is eps; dX2 likewise
        dX1 = dY * ((U2 - np.where(clamped1, zero, Y) * U1) / N1)
        dX2 = dY * ((U1 - np.where(clamped2, zero, Y) * U2) / N2)
        return (summed_to(dX1, shape1), summed_to(dX2, shape2)), {}

    def length(self, X: Array, i: int) -> tuple[Array, Array]:
        """max(|X[n]|, eps), and where that is eps."""
        eps, one = special.lift(self.eps, X), special.lift(1.0, X)
        S = special.total(X * X, i, keepdims=True)
        N = np.where(S == 0, S, np.sqrt(np.where(S == 0, one, S)))
        clamped = N < eps
        return np.where(clamped, eps, N), clamped


class PairwiseDistanceSaved(NamedTuple):
    """What the norm keeps, and the shapes of X1 and X2."""

    norm: NormSaved
    shapes: tuple[tuple[int, ...], tuple[int, ...]]


class PairwiseDistance(Module):
    """y = (sum_i |x1_i - x2_i + eps|^p)^(1/p), along the last axis.

    X1 and X2 broadcast to one shape, as in torch. For p = 0 it is the number of differences that are not 0, with the
    gradient 0; for p = inf the largest, which the derivative belongs to (equal ones share it); where the distance is 0
    the gradient is 0. As eps is added to the difference and not to its size, the distance of X1 and X2 is not quite
    that of X2 and X1. A negative p, which torch takes, is refused.

    Source: documentation of torch.nn.PairwiseDistance.

    Args:
        p: the order of the norm, from 0 to infinity.
        eps: is added to every difference.
        keepdim: whether the last axis stays, with size 1.

    Raises:
        TypeError: the inputs are not floats of one dtype.
        ValueError: they do not broadcast, or have no axis; p is negative or NaN.
    """

    def __init__(self, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> None:
        super().__init__()
        _check.number("PairwiseDistance", "eps", eps)
        _check.flag("PairwiseDistance", "keepdim", keepdim)
        self.norm, self.eps, self.keepdim = order("PairwiseDistance", p), eps, keepdim

    def forward(self, x1: Array, x2: Array) -> tuple[Array, PairwiseDistanceSaved]:
        X1, X2 = x1, x2
        together("PairwiseDistance", X1, X2)
        # Y[n] = |X1[n] - X2[n] + eps|_p
        Y, saved = norm(X1 - X2 + special.lift(self.eps, X1), self.norm)
        saved_all = PairwiseDistanceSaved(saved, (tuple(X1.shape), tuple(X2.shape)))
        return Y if self.keepdim else Y.sum(axis=-1), saved_all

    def backward(self, grad_output: Array, saved: PairwiseDistanceSaved) -> tuple[Any, Params]:
        inner, (shape1, shape2) = saved
        D = inner.D
        shape = (*D.shape[:-1], 1) if self.keepdim else D.shape[:-1]
        dY = _check.upstream("PairwiseDistance", grad_output, shape, D.dtype)
        # dX1[n,i] = dY[n] d|D[n]|_p / dD[n,i]     dX2[n,i] = -dX1[n,i]
        dD = norm_backward(dY if self.keepdim else np.expand_dims(dY, -1), inner, self.norm)
        return (summed_to(dD, shape1), summed_to(-dD, shape2)), {}
