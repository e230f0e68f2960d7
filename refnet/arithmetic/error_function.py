"""The error function on arrays of floats. NumPy has none.

erf(x) = x P(x^2) for |x| <= 1, and 1 - exp(-x^2) Q(t) beyond, t in [-1, 1] a quotient of x - 2.5 and x + 2.5. P and Q
are Chebyshev interpolants, computed in 50 digits and written out in powers; what they leave out is below 1e-15 and
below 1e-17. From 6 on, erf is 1 in binary64.
"""

from __future__ import annotations

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
CENTRE, LAST = 2.5, 6.0
MIDDLE, HALF = -1 / 119, 50 / 119
"""(x - 2.5) / (x + 2.5) runs over MIDDLE - HALF to MIDDLE + HALF as x runs from 1 to 6."""


def erf(X: Array) -> Array:
    """The error function, elementwise."""
    size = np.minimum(np.abs(X), LAST)
    t = ((size - CENTRE) / (size + CENTRE) - MIDDLE) * (1 / HALF)
    beyond = 1 - np.exp(-size * size) * _polynomial(Q, t)
    return np.where(size <= 1, X * _polynomial(P, size * size), np.where(X < 0, -beyond, beyond))


def _polynomial(coefficients: tuple[float, ...], x: Array) -> Array:
    """By Horner's rule."""
    y = x * coefficients[-1] + coefficients[-2]
    for c in coefficients[-3::-1]:
        y = y * x + c
    return y
