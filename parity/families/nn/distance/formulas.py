"""Other formulas of the distances."""

from __future__ import annotations

import math
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


def _slope_of_one(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    if module.norm != 1:
        return right(dY, saved)
    D = saved.norm[0]
    dY = dY if module.keepdim else np.expand_dims(dY, -1)
    one, minus = (special.lift(value, D) for value in (1.0, -1.0))
    # dD[n,i] = dY[n] [D[n,i] >= 0] - dY[n] [D[n,i] < 0]
    dD = dY * np.where(D < 0, minus, one)
    return (_spread(dD, saved.shapes[0]), _spread(-dD, saved.shapes[1])), {}


def _zeros_share_half_a_slope(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    if module.norm != math.inf:
        return right(dY, saved)
    D, A, _ = saved.norm
    dY = dY if module.keepdim else np.expand_dims(dY, -1)
    zero, one = (special.lift(value, D) for value in (0.0, 1.0))
    none = special.total(np.where(A > 0, one, zero), -1, keepdims=True) < 0.5
    # dD[n,i] = dY[n] / (2 I) where D[n] = 0
    dD = np.where(none, dY / (2 * D.shape[-1]), distance.norm_backward(dY, saved.norm, module.norm))
    return (_spread(dD, saved.shapes[0]), _spread(-dD, saved.shapes[1])), {}


CONVENTIONS = (
    Variant(
        "gradient through the clamped norm",
        "Where a norm is below eps it is a constant in the forward, while the gradient has the norm's term.",
        "torch: aten/src/ATen/native/Distance.cpp, cosine_similarity, which clamps without recording",
        {"CosineSimilarity": replaced("backward", _clamp_passed_through)},
    ),
    Variant(
        "a slope of 1 at 0 in the norm of order 1",
        "The terms of that norm are |d|, of which JAX takes the slope at 0 as 1.",
        "JAX: jax/_src/lax/lax.py, _abs_jvp_rule",
        {"PairwiseDistance": replaced("backward", _slope_of_one)},
        ("jax",),
    ),
    Variant(
        "zeros share half a slope in the norm of order infinity",
        "Elements that are largest share the slope, and that of |d| at 0 is taken as 1/2.",
        "JAX: jax/_src/numpy/linalg.py, norm",
        {"PairwiseDistance": replaced("backward", _zeros_share_half_a_slope)},
        ("jax",),
    ),
)
