"""The bounds of elementwise operations: each rule says what the exact result is, how far the operands' errors may move
it, what grid it is on, and how many roundings it takes.

a is the exact argument, x the computed one within e of it, and a' the engine's, within e of a too. NumPy's warnings are
silenced by the caller: infinities and NaNs are values here.
"""

from __future__ import annotations

import math
from functools import reduce

import numpy as np

from parity.budget.bounds import (
    SMALLEST,
    Exact,
    Operand,
    above,
    finer,
    grid_product,
    gridless,
    is_gridless,
    least,
    product,
    some,
    times,
    up,
)
from parity.budget.formats import ULPS, Floats, Profile
from refnet.arithmetic import error_function


def add(ufunc: np.ufunc, a: Operand, b: Operand) -> Exact:
    """A sum or difference of two. Adding an exact zero rounds nothing."""
    zero = [z for o in (a, b) if not is_gridless(o.q) and some(z := np.isinf(o.q))]
    units = np.where(reduce(np.logical_or, zero), 0.0, 1.0) if zero else 1.0
    return Exact(ufunc(a.x, b.x), a.e + b.e, finer(a.q, b.q), units)


def multiply(a: Operand, b: Operand) -> Exact:
    """|a'b' - ab| <= |a| e_b + |b'| e_a."""
    # A bound of 0 everywhere is common: inputs and constants are exact.
    error: Floats = product(abs(a.x) + a.e, b.e) if some(b.e) else 0.0
    if some(a.e):
        error = error + product(abs(b.x) + 2 * b.e, a.e)
    x = a.x * b.x
    return Exact(x, error, grid_product(a.q, b.q), lambda: _scaling(x, error, _power(a) | _power(b), a.profile))


def divide(a: Operand, b: Operand) -> Exact:
    """|a'/b' - a/b| <= (e_a + |a/b| e_b) / |b'|: unbounded where the divisor may be zero."""
    x = a.x / b.x
    low = abs(b.x) - 2 * b.e
    size = abs(a.x) + a.e
    top = a.e
    if some(b.e):
        ratio = size / (abs(b.x) - b.e)
        top = top + times(ratio + SMALLEST if least(ratio) > 0 else np.where(size == 0, 0.0, ratio + SMALLEST), b.e)
    error = top / low
    if not (least(low) > 0 and least(error) > 0):
        error = np.where(low > 0, np.where(top == 0, 0.0, error + SMALLEST), np.inf)
    else:
        error = error + SMALLEST
    power = _power(b)
    q = gridless(())
    if not is_gridless(a.q):
        q = np.where(np.isinf(a.q), np.inf, np.where(power, a.q / abs(np.where(power, b.x, 1)), 0.0))
    return Exact(x, error, q, lambda: _scaling(x, error, power, a.profile))


def _power(a: Operand) -> Floats:
    """Where the element is exactly a power of two."""
    return least(a.e) == 0 and (a.e == 0) & (abs(np.frexp(a.x)[0]) == 0.5)


def _scaling(x: Floats, error: Floats, power: Floats, profile: Profile) -> Floats:
    """Units of rounding of a product or quotient: none where one factor is a power of two and nothing can underflow."""
    if power is False or not some(power):
        return 1.0
    return np.where(power & (abs(x) - 2 * error >= profile.storage.tiny), 0.0, 1.0)


def exp(a: Operand) -> Exact:
    """|exp(a') - exp(a)| <= exp(x + e) (exp(e) - 1), and at most exp(x + 2e), as both lie between that and 0."""
    top, most = (np.exp(above(a.x + k * a.e)) + 4 * SMALLEST for k in (1, 2))
    return Exact(np.exp(a.x), np.minimum(times(np.expm1(a.e), top), most), units=ULPS["exp"])


def log(a: Operand) -> Exact:
    """|log a' - log a| <= -log(1 - e / (x - e)): unbounded where an argument may not be positive."""
    return Exact(np.log(a.x), _log_error(a, a.x), units=ULPS["log"])


def log1p(a: Operand) -> Exact:
    """As log, at 1 + x."""
    error = _log_error(a, -above(-(1 + a.x)))
    return Exact(np.log1p(a.x), error, units=ULPS["log1p"])


def _log_error(a: Operand, argument: Floats) -> Floats:
    ratio = up(a.e / np.maximum(argument - a.e, SMALLEST))
    return np.where(a.e == 0, 0.0, np.where(ratio < 1, -np.log1p(-np.minimum(ratio, 1)), np.inf))


def sqrt(a: Operand) -> Exact:
    """|sqrt a' - sqrt a| <= e / (sqrt(x - e) + sqrt(x - 2e)): unbounded where an argument may be negative."""
    low = a.x - 2 * a.e
    error = times(a.e, 1 / (np.sqrt(a.x - a.e) + np.sqrt(low)))
    return Exact(np.sqrt(a.x), np.where((low >= 0) | (a.e == 0), error, np.inf))


def tanh(a: Operand) -> Exact:
    """|tanh a' - tanh a| <= e / cosh(z)^2 = 4 e s(2z) s(-2z), z = max(|x| - 2e, 0)."""
    error = times(a.e, 4 * _slope(2 * _nearest_to_zero(a)))
    return Exact(np.tanh(a.x), error, units=ULPS["tanh"])


def absolute(a: Operand) -> Exact:
    """||a'| - |a|| <= e, and nothing is rounded."""
    return Exact(abs(a.x), a.e, a.q, units=0.0)


def sin(a: Operand) -> Exact:
    """|sin a' - sin a| <= min(e, 2)."""
    return Exact(np.sin(a.x), np.minimum(a.e, 2.0), units=ULPS["sin"])


def cos(a: Operand) -> Exact:
    """|cos a' - cos a| <= min(e min(|sin x| + 2e, 1), 2): between a and a' the slope is at most |sin x| + 2e."""
    slope = np.where(a.e == 0, 0.0, abs(np.sin(a.x)) + 4 * SMALLEST + 2 * a.e)
    return Exact(np.cos(a.x), np.minimum(times(a.e, np.minimum(up(slope), 1.0)), 2.0), units=ULPS["cos"])


def expm1(a: Operand) -> Exact:
    """|expm1 a' - expm1 a| = |exp a' - exp a|, as exp."""
    return Exact(np.expm1(a.x), exp(a).error, units=ULPS["expm1"])


def power(a: Operand, p: float) -> Exact:
    """|a'^p - a^p| <= |p| e max(low^(p - 1), high^(p - 1)), low = |x| - 2e and high = |x| + 2e.

    A fractional p needs a positive argument, a negative one a nonzero argument. A positive integer p may be p - 1
    products, and a negative one a quotient more.
    """
    if p in (0.0, 1.0):
        return Exact(np.ones_like(a.x), np.zeros_like(a.x), np.ones_like(a.x)) if p == 0 else _same(a)
    whole = p == int(p)
    low, high = np.maximum(abs(a.x) - 2 * a.e, 0.0), abs(a.x) + 2 * a.e
    steepest = np.maximum(np.power(low, p - 1), np.power(high, p - 1))
    error = np.where(a.e == 0, 0.0, up(times(a.e, abs(p) * steepest), 32 + 8 * math.ceil(abs(p))))
    least = low if whole else a.x - 2 * a.e
    defined = least > 0 if p < 0 else (least >= 0) & np.isfinite(a.x)
    units = max(ULPS["power"], abs(p) - 1 + (p < 0)) if whole else ULPS["power"]
    q = np.where(np.isinf(a.q), np.inf, np.power(a.q, p)) if whole and p > 0 else 0.0
    return Exact(np.power(a.x, p), np.where(defined | ((a.e == 0) & np.isfinite(a.x)), error, np.inf), q, units)


def _same(a: Operand) -> Exact:
    return Exact(a.x, a.e, a.q, units=0.0)


TWO_OVER_ROOT_PI = 2 / math.sqrt(math.pi)


def erf(a: Operand) -> Exact:
    """|erf a' - erf a| <= 2 / sqrt(pi) exp(-z^2) e, z = max(|x| - 2e, 0)."""
    z = _nearest_to_zero(a)
    error = times(a.e, up(TWO_OVER_ROOT_PI * np.exp(-z * z)) + 4 * SMALLEST)
    return Exact(error_function.erf(a.x), np.minimum(error, 2.0), units=ULPS["erf"])


def erfc(a: Operand) -> Exact:
    """As erf; for an x above 0, y = exp(-x^2) f(x) with a smooth f, and the square's rounding counts x^2 of itself.

    Where it counts for much, y is below the smallest normal number, which the rounding of an underflow covers.
    """
    z = np.maximum(a.x + 2 * a.e, 0.0)
    square = np.minimum(z * z, 0.75 / (2 * a.profile.storage.u))
    return Exact(error_function.erfc(a.x), erf(a).error, units=ULPS["erfc"] + square)


def erf_derivative(a: Operand) -> Exact:
    """y = c exp(-x^2): the square's rounding counts x^2 of itself, constant and product one rounding each.

    |y(a') - y(a)| <= e min(2c |z| exp(-w^2), c sqrt(2 / e)), z and w the largest and the least size of an argument;
    0.97 is more than the steepest slope. Where the square's rounding counts for much, y is below the smallest normal
    number, which the rounding of an underflow covers.
    """
    w, z = _nearest_to_zero(a), abs(a.x) + 2 * a.e
    slope = np.minimum(up(2 * TWO_OVER_ROOT_PI * z * np.exp(-w * w)) + 4 * SMALLEST, 0.97)
    square = np.minimum(z * z, 0.75 / (2 * a.profile.storage.u))
    return Exact(TWO_OVER_ROOT_PI * np.exp(-a.x * a.x), times(a.e, slope), units=ULPS["exp"] + 2 + square)


def sigmoid(a: Operand) -> Exact:
    """y = 1 / (1 + E), E = exp(-x): E's error counts 1 - y of itself, sum and quotient one rounding each.

    |s(a') - s(a)| <= e s(z) s(-z), z = max(|x| - 2e, 0).
    """
    error = times(a.e, _slope(_nearest_to_zero(a)))
    return Exact(_sigmoid(a.x), error, units=ULPS["exp"] * _sigmoid(2 * a.e - a.x) + 2)


def log_sigmoid(a: Operand) -> Exact:
    """y = min(x, 0) - L, L = log1p(E), E = exp(-|x|): E's relative error is at most the same in L; one addition.

    |log s(a') - log s(a)| <= e s(2e - x).
    """
    storage = a.profile.storage
    d = (ULPS["exp"] + ULPS["log1p"]) * (2 * storage.u)
    L = np.log1p(np.exp(-_nearest_to_zero(a)) + 4 * SMALLEST)
    error = times(a.e, _sigmoid(above(2 * a.e - a.x)) + 4 * SMALLEST)
    x = np.minimum(a.x, 0) - np.log1p(np.exp(-abs(a.x)))
    return Exact(x, error + d / (1 - d) * L + 2 * storage.tiny)


def _nearest_to_zero(a: Operand) -> Floats:
    """The least size of an argument: max(|x| - 2e, 0), or less."""
    return np.maximum(-above(2 * a.e - abs(a.x)), 0)


def _sigmoid(z: Floats) -> Floats:
    """1 / (1 + exp(-z)) without overflow."""
    E = np.exp(-abs(z))
    return np.where(z < 0, E, 1) / (1 + E)


def _slope(z: Floats) -> Floats:
    """s(z) s(-z) or more, for z >= 0."""
    E = np.exp(-z)
    return (E + 4 * SMALLEST) / ((1 + E) * (1 + E))
