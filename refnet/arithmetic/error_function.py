"""The error function and its complement on arrays of floats. NumPy has neither.

erf(x) = x P(x^2) for |x| <= 1, and 1 - exp(-x^2) Q(t) beyond, t in [-1, 1] a quotient of x - 2.5 and x + 2.5. P and Q
are Chebyshev interpolants, computed in 50 digits and written out in powers; what they leave out is below 1e-15 and
below 1e-17. From 6 on, erf is 1 in binary64.

1 - erf(x) = exp(-x^2) S(t) / (1 + 2 x) for 0 <= x <= 28, t in [-1, 1] a quotient of x - 4 and x + 4, and 2 minus that
at -x: nothing cancels. S is made as P and Q are, and leaves out less than 1e-17; for float32
a shorter one leaves out less than 2e-9. From 28 on, it is 0 in binary64.
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
S = (
    1.2505272632390394,
    -0.12193736651647732,
    -0.01663582317882297,
    0.09124356129722609,
    -0.10434370398531613,
    0.08083857072910729,
    -0.047931115994645654,
    0.022129789677326987,
    -0.007665324201635066,
    0.0017257044639713076,
    -8.36807856457092e-05,
    -0.00010246350192279499,
    3.414605503776373e-05,
    6.694183013640995e-07,
    -3.125193224296597e-06,
    4.531957969433537e-07,
    2.3685153699031817e-07,
    -7.03585345113273e-08,
    -1.821132027678383e-08,
    8.378720850673402e-09,
    1.478620627688971e-09,
    -8.620039202984176e-10,
    -9.351782513657033e-11,
    5.859461159560386e-11,
)
S_FLOAT32 = (
    1.2505272632390394,
    -0.12193737210363764,
    -0.01663581537172891,
    0.091243716877892,
    -0.10434392317525637,
    0.08083734343298005,
    -0.047929350604519215,
    0.02213388372053437,
    -0.007671453751590275,
    0.0017192479875218858,
    -7.322351441194144e-05,
    -9.796442066157613e-05,
    2.535971679209814e-05,
)
CENTRE, LAST = 2.5, 6.0
MIDDLE, HALF = -1 / 119, 50 / 119
"""(x - 2.5) / (x + 2.5) runs over MIDDLE - HALF to MIDDLE + HALF as x runs from 1 to 6."""
FAR_CENTRE, FARTHEST = 4.0, 28.0
FAR_MIDDLE, FAR_HALF = -1 / 8, 7 / 8
"""(x - 4) / (x + 4) runs over FAR_MIDDLE - FAR_HALF to FAR_MIDDLE + FAR_HALF as x runs from 0 to 28."""


def erf(X: Array) -> Array:
    """The error function, elementwise."""
    size = np.minimum(np.abs(X), LAST)
    t = ((size - CENTRE) / (size + CENTRE) - MIDDLE) * (1 / HALF)
    beyond = 1 - np.exp(-size * size) * _polynomial(Q, t)
    return np.where(size <= 1, X * _polynomial(P, size * size), np.where(X < 0, -beyond, beyond))


def erfc(X: Array) -> Array:
    """1 - erf(x), elementwise, with all digits where erf(x) is near 1."""
    size = np.minimum(np.abs(X), FARTHEST)
    t = ((size - FAR_CENTRE) / (size + FAR_CENTRE) - FAR_MIDDLE) * (1 / FAR_HALF)
    far = np.exp(-size * size) * _polynomial(S_FLOAT32 if X.dtype == np.float32 else S, t) / (1 + 2 * size)
    return np.where(X < 0, 2 - far, far)


def _polynomial(coefficients: tuple[float, ...], x: Array) -> Array:
    """By Horner's rule."""
    y = x * coefficients[-1] + coefficients[-2]
    for c in coefficients[-3::-1]:
        y = y * x + c
    return y
