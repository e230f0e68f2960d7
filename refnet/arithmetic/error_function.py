"""The error function and its complement on arrays of floats. NumPy has neither.

erf(x) = x P(x^2) for |x| <= 1, and 1 - exp(-x^2) Q(t) beyond, t in [-1, 1] a quotient of x - 2.5 and x + 2.5. P and Q
are Chebyshev interpolants, computed in 50 digits and written out in powers; what they leave out is below 1e-15 and
below 1e-17. From 6 on, erf is 1 in binary64.

1 - erf(x) = exp(-x^2) S(t) / (x + 2) for 0 <= x <= 28, t = 1 - 4 / (x + 2), and 2 minus that at -x: nothing cancels.
S is made as P and Q are, in powers of t, and leaves out less than 3e-17. From 28 on, it is 0 in binary64. For float32,
where it is 0 from 10.25 on, a shorter S leaves out less than 6e-9.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Array = Any

P = (
    1.1283791670955126,
    -0.37612638903183543,
    0.11283791670945006,
    -0.02686617064323777,
    0.0052239776071164225,
    -0.0008548325975389692,
    0.00012055294904839707,
    -1.492473690741966e-05,
    1.6447424703317362e-06,
    -1.6208483801871705e-07,
    1.3720064546777686e-08,
    -7.795898827002142e-10,
)
Q = (
    0.21394805165754288,
    -0.15798058438192047,
    0.04499721517041165,
    -0.009374321292819175,
    0.0012493997404180494,
    -5.053711010065196e-05,
    -1.4819868337719933e-05,
    1.9887464434159513e-06,
    2.3120236305540374e-07,
    -5.139835408777203e-08,
    -6.150780388050397e-09,
    1.2856630606650748e-09,
    2.3591444936182627e-10,
    -2.6735971530694944e-11,
    -9.676861510440885e-12,
    1.8957068751698897e-13,
    3.17573442453833e-13,
)
S = (
    1.021582705242023,
    -0.6871606844138107,
    0.2794720925560472,
    -0.03644223150686055,
    -0.02151066188904168,
    0.006479185067043882,
    0.0030906120488752506,
    -0.0008372960505667296,
    -0.0006630733806812135,
    3.437132347499336e-05,
    0.00014446984782779868,
    3.414954242910816e-05,
    -2.1691996160279536e-05,
    -1.6123253296994566e-05,
    -1.1390657822713735e-06,
    3.649115551163877e-06,
    2.032058152968992e-06,
    -5.151313592947865e-09,
    -6.180966770248528e-07,
    -3.2001443278588945e-07,
    4.624002786859279e-08,
    1.120824619736229e-07,
    2.4107696115186398e-08,
    -1.4966772746772726e-08,
    -5.898400779613349e-09,
)
S_FLOAT32 = (
    1.021582708916103,
    -0.6871607178302881,
    0.27947176185610056,
    -0.03644128169002286,
    -0.0215055788230988,
    0.006472563490457987,
    0.003061269177703075,
    -0.0008237702162153162,
    -0.0005878758242683001,
    3.985591516198166e-05,
    6.436853293327451e-05,
)
CENTRE, LAST = 2.5, 6.0
MIDDLE, HALF = -1 / 119, 50 / 119
"""(x - 2.5) / (x + 2.5) runs over MIDDLE - HALF to MIDDLE + HALF as x runs from 1 to 6."""
FAR_CENTRE, FARTHEST, FARTHEST_FLOAT32 = 2.0, 28.0, 10.25


def erf(X: Array) -> Array:
    """The error function, elementwise."""
    size = np.minimum(np.abs(X), LAST)
    t = ((size - CENTRE) / (size + CENTRE) - MIDDLE) * (1 / HALF)
    beyond = 1 - np.exp(-size * size) * _polynomial(Q, t)
    return np.where(size <= 1, X * _polynomial(P, size * size), np.where(X < 0, -beyond, beyond))


def erfc(X: Array) -> Array:
    """1 - erf(x), elementwise, with all digits where erf(x) is near 1."""
    size, exponential = _gaussian(X)
    r = 1 / (size + FAR_CENTRE)
    t = 1 - 2 * FAR_CENTRE * r
    far = exponential * (r * _polynomial(S_FLOAT32 if X.dtype == np.float32 else S, t))
    return np.where(X < 0, 2 - far, far)


def erf_derivative(X: Array) -> Array:
    """2 / sqrt(pi) exp(-x^2), elementwise. Its exponential is that of `erfc`, of x and of -x alike."""
    return _gaussian(X)[1] * (2 / math.sqrt(math.pi))


def _gaussian(X: Array) -> tuple[Array, Array]:
    """|x|, or less where exp(-x^2) is 0 anyway, and exp(-x^2)."""
    size = np.minimum(np.abs(X), FARTHEST_FLOAT32 if X.dtype == np.float32 else FARTHEST)
    return size, np.exp(-size * size)


def _polynomial(coefficients: tuple[float, ...], x: Array) -> Array:
    """By Horner's rule."""
    y = x * coefficients[-1] + coefficients[-2]
    for c in coefficients[-3::-1]:
        y = y * x + c
    return y
