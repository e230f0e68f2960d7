"""Fused multiply-add: a b + c, rounded once. NumPy has none, so it is built from float64 operations that lose nothing:
S. Boldo and G. Melquiond, "Emulation of FMA and correctly rounded sums: proved algorithms using rounding to odd", IEEE
Transactions on Computers 57(4), 2008.
"""

import math
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]


def fma(a: NDArray[Any], b: NDArray[Any], c: NDArray[Any]) -> NDArray[Any]:
    """fl(a b + c) of arrays of one dtype, float32 or float64, and one shape."""
    x, y, z = (np.asarray(array, np.float64) for array in (a, b, c))
    if a.dtype == np.float32:
        # The product of two 24-bit significands is exact in float64; the sum is not, and rounding it to nearest first
        # would be seen: an eighth of the draws of uniform_(-1e-20, 3.0) would be wrong.
        return _odd_sum(x * y, z).astype(np.float32)
    with np.errstate(all="ignore"):
        p, e = _two_product(x, y)
        t, f = _two_sum(z, e)
        s, g = _two_sum(p, t)
        result = s + _odd_sum(g, f)
        result = np.where(result == 0, p + z, result)  # which has the sign of a zero
    # The algorithm loses nothing as long as the product's own error does not underflow and nothing overflows.
    edge = ~((abs(p) > 2.0**-960) & (abs(p) < 2.0**960)) & (x != 0) & (y != 0)
    edge |= ~(abs(x) < 2.0**960) | ~(abs(y) < 2.0**960)
    for index in zip(*np.nonzero(edge), strict=True):
        factors = (float(array[index]) for array in (x, y, z))
        result[index] = _fma_of_numbers(*factors)
    return result


def _fma_of_numbers(x: float, y: float, z: float) -> float:
    if math.isfinite(x) and math.isfinite(y) and math.isfinite(z):
        return float(Fraction(x) * Fraction(y) + Fraction(z))
    return x * y + z


def _two_sum(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """s + e = a + b exactly, s = fl(a + b) (Knuth, The Art of Computer Programming 2, 4.2.2)."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def _split(a: Floats) -> tuple[Floats, Floats]:
    """h + l = a exactly, each of at most 26 significant bits (Veltkamp)."""
    c = (2.0**27 + 1) * a
    h = c - (c - a)
    return h, a - h


def _two_product(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """p + e = a b exactly, p = fl(a b) (Dekker, Numerische Mathematik 18, 1971)."""
    p = a * b
    (ah, al), (bh, bl) = _split(a), _split(b)
    return p, ((ah * bh - p) + ah * bl + al * bh) + al * bl


def _odd_sum(a: Floats, b: Floats) -> Floats:
    """a + b rounded to odd: if inexact, to the neighbour whose last bit is 1.

    That last bit remembers which side the sum lay on, so rounding once more, to a format at least two bits shorter,
    gives what one rounding of the exact sum would have given.
    """
    s, e = _two_sum(a, b)
    even = s.view(np.int64) % 2 == 0
    odd: Floats = np.where((e != 0) & even, np.nextafter(s, np.copysign(np.inf, e)), s)
    return odd
