"""Logarithm, sine and cosine in float32 as torch computes them for its normal draws on a processor with AVX2.

The approximations are those of the Cephes library (S. L. Moshier, "Methods and Programs for Mathematical Functions",
1989; functions logf, sinf, cosf). torch's compiler fuses each multiplication with the addition that follows it, so
every polynomial step is rounded once.
"""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from refnet.arithmetic.fma import fma

Floats: TypeAlias = NDArray[np.float32]

# log(1 + x) = x - x^2 / 2 + x^3 P(x), from the highest power of P.
_LOG = (
    *(7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1),
    *(-1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1),
)
_LOG2 = (-2.12194440e-4, 0.693359375)  # their sum is log 2; the second has few bits, so that its multiples are exact
_SIN = (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)  # sin x = x + x^3 P(x^2)
_COS = (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)  # cos x = 1 - x^2 / 2 + x^4 P(x^2)
_MINUS_QUARTER_PI = (-0.78515625, -2.4187564849853515625e-4, -3.77489497744594108e-8)  # in three parts
_4_OVER_PI = np.float32(4 / np.pi)
_HALF, _ONE = np.float32(0.5), np.float32(1)


def log(x: Floats) -> Floats:
    """log x of normal positive numbers."""
    # x = (1 + m) 2^e with 1 + m in [sqrt(1/2), sqrt(2))
    fraction: Any
    fraction, exponent = np.frexp(x)
    small = fraction < np.float32(0.5**0.5)
    m: Floats = np.where(small, (fraction - _ONE) + fraction, fraction - _ONE)
    e: Floats = (exponent - small).astype(np.float32)
    square = m * m
    rest: Floats = e * np.float32(_LOG2[0])
    small_part: Floats = m + (_fused(_polynomial(_LOG, m) * m, square, rest) - square * _HALF)
    return _fused(e, _LOG2[1], small_part)


def sin_and_cos(x: Floats) -> tuple[Floats, Floats]:
    """sin x and cos x of numbers from 0 to 8192."""
    # The nearest even multiple j of pi / 4, and what is left, in [-pi/4, pi/4].
    j = (x * _4_OVER_PI).astype(np.int32) + 1 & ~1
    for part in _MINUS_QUARTER_PI:
        x = _fused(j.astype(np.float32), part, x)
    square = x * x
    sine = _fused(_polynomial(_SIN, square) * square, x, x)
    cosine = _fused(_polynomial(_COS, square) * square, square, -(square * _HALF)) + _ONE
    # A quarter turn changes one for the other; a half turn changes both signs.
    swapped = j & 2 != 0
    s, c = np.where(swapped, cosine, sine), np.where(swapped, sine, cosine)
    return np.where(j & 4 != 0, -s, s), np.where(j + 2 & 4 != 0, -c, c)


def _polynomial(coefficients: tuple[float, ...], x: Floats) -> Floats:
    y: Floats = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        y = _fused(y, x, coefficient)
    return y


def _fused(a: Floats, b: Floats | float, c: Floats | float) -> Floats:
    """fma, with numbers beside arrays."""
    y: Floats = fma(a, *(np.broadcast_to(np.asarray(value, np.float32), a.shape) for value in (b, c)))
    return y
