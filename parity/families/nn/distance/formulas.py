"""Other formulas of the distances."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.families.fault import replaced
from parity.families.formula import Variant
from refnet.arithmetic import special
from refnet.nn import distance


def _spread(G: Any, shape: tuple[int, ...]) -> Any:
    return distance.summed_to(G, shape)


def _clamp_passed_through(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    i, U1, U2, N1, N2, *_, (shape1, shape2) = saved
    dY = np.expand_dims(dY, i)
    Y = special.total(U1 * U2, i, keepdims=True)

    def one(U: Any, V: Any, N: Any) -> Any:
        # dX[n,i] = dY[n] (V[n,i] - Y[n] U[n,i] N[n] / |X[n]|) / N[n], N[n] = max(|X[n]|, eps); U N = X; 0 / 0 is 0
        S = special.total(U * U, i, keepdims=True)
        unit = U / np.sqrt(np.where(S == 0, special.lift(1.0, U), S))
        return dY * ((V - Y * unit) / N)

    return (_spread(one(U1, U2, N1), shape1), _spread(one(U2, U1, N2), shape2)), {}


def _of_products(module: Any, right: Any, x1: Any, x2: Any) -> Any:
    _, saved = right(x1, x2)
    i, shape = saved.dim, distance.together("CosineSimilarity", x1, x2)
    X1, X2 = np.broadcast_to(x1, shape), np.broadcast_to(x2, shape)
    # Y[n] = sum_i X1[n,i] X2[n,i] / (N1[n] N2[n])
    Y = special.total(X1 * X2, i, keepdims=True) / (saved.N1 * saved.N2)
    return Y.sum(axis=i), saved._replace(Y=Y)


def _by_powers(module: Any, right: Any, x1: Any, x2: Any) -> Any:
    p = module.norm
    Y, saved = right(x1, x2)
    if p in (0, 1, 2) or p == np.inf:
        return Y, saved
    zero, one, A = special.lift(0.0, saved.norm.D), special.lift(1.0, saved.norm.D), saved.norm.A
    # N[n] = (sum_i |D[n,i]|^p)^(1/p)
    some = A > 0
    S = special.total(np.where(some, np.power(np.where(some, A, one), p), zero), -1, keepdims=True)
    N = np.where(S == 0, zero, np.power(np.where(S == 0, one, S), 1 / p))
    made = saved._replace(norm=saved.norm._replace(M=np.where(N == 0, one, N)))
    return (N if module.keepdim else N.sum(axis=-1)), made


def _powers_backward(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    p, (D, A, M) = module.norm, saved.norm
    if p in (0, 1, 2) or p == np.inf:
        return right(dY, saved)
    zero, one, minus = (special.lift(value, D) for value in (0.0, 1.0, -1.0))
    dN = dY if module.keepdim else np.expand_dims(dY, -1)
    S = np.where(D > 0, one, np.where(D < 0, minus, D))
    some = A > 0
    B = np.where(some, A, one)
    if p < 2:
        # dD[n,i] = dN[n] S[n,i] |D[n,i]|^(p-1) / N[n]^(p-1)
        dD = S * np.where(some, np.power(B, p - 1), zero) * (dN / np.power(M, p - 1))
    else:
        # dD[n,i] = dN[n] D[n,i] (|D[n,i]| / N[n])^(p-2) / N[n]
        dD = D * np.where(some, np.power(B / M, p - 2), zero) * (dN / M)
    shape1, shape2 = saved.shapes
    return (_spread(dD, shape1), _spread(-dD, shape2)), {}


def _norm_by_powers(module: Any) -> None:
    replaced("forward", _by_powers)(module)
    replaced("backward", _powers_backward)(module)


WEAKER = (
    Variant(
        "x1 x2 / (|x1| |x2|)",
        "The product of the vectors divided by that of their norms: it overflows where neither norm does.",
        "optax: optax/losses/_regression.py, cosine_similarity; torch before 1.12: aten/src/ATen/native/Distance.cpp",
        {"CosineSimilarity": replaced("forward", _of_products)},
    ),
    Variant(
        "(sum |d|^p)^(1/p)",
        "The norm by powers of the differences themselves, which overflow, and a root whose exponent is rounded.",
        "torch: aten/src/ATen/native/cpu/ReduceOpsKernel.cpp, norm_kernel; torch/csrc/autograd/FunctionsManual.cpp, "
        "norm_backward",
        {"PairwiseDistance": _norm_by_powers},
        ("torch",),
    ),
)

CONVENTIONS = (
    Variant(
        "gradient through the clamped norm",
        "Where a norm is below eps it is a constant in the forward, while the gradient has the norm's term.",
        "torch: aten/src/ATen/native/Distance.cpp, cosine_similarity, which clamps without recording",
        {"CosineSimilarity": replaced("backward", _clamp_passed_through)},
    ),
)
