"""The arithmetic of bounds and grids: computed in binary64, rounded outward.

A bound e says how far a value may lie from the exact one; a grid q is a power of two that the value is a multiple of,
infinity for an exact zero and 0 where nothing is known.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np

from parity.budget.formats import Floats, Format, Profile

SMALLEST = 2.0**-1074
"""The smallest positive number of the bound arithmetic: what an underflow there loses at most."""


class Operand(Protocol):
    """What a rule is told of an operand: values, bounds, grids, and the profile that it is computed in."""

    x: Floats
    e: Floats
    q: Floats
    profile: Profile


def grid(x: Floats) -> Floats:
    """The largest power of two that each element is a multiple of; infinity for 0, and 0 where x is not finite."""
    x = np.asarray(x, np.float64)
    finite = np.where(np.isfinite(x), x, 0)
    mantissa, exponent = np.frexp(finite)
    integer = (mantissa * 2.0**53).astype(np.int64)
    q = np.ldexp((integer & -integer).astype(np.float64), exponent - 53)
    return np.where(np.isfinite(x), np.where(finite == 0, np.inf, q), 0.0)


def up(e: Floats, operations: int = 32) -> Floats:
    """e or more, where e was computed with this number of roundings; an exact zero stays one."""
    return e * (1 + operations * 2.0**-52) + np.where(e == 0, 0.0, operations * SMALLEST)


def times(e: Floats, slope: Floats) -> Floats:
    """e * slope or more. No error stays none however steep the function is: 0 * inf = 0."""
    return np.where((e == 0) | (slope == 0), 0.0, e * slope + SMALLEST)


def product(a: Floats, b: Floats) -> Floats:
    """a * b or more, for a size a and a bound b. What is unbounded may be infinite, and 0 times that is no number:
    no bound holds, 0 * inf = inf.
    """
    # A bound of 0 everywhere is common: inputs and constants are exact.
    if not np.any(b):
        return 0.0
    made = a * b
    return np.where(np.isnan(made), np.inf, np.where((a == 0) | (b == 0), 0.0, made + SMALLEST))


@np.errstate(invalid="ignore")
def grid_product(q: Floats, r: Floats) -> Floats:
    """The grid of a product: no grid (0) in a factor leaves none, unless the other factor is exactly zero (inf)."""
    return np.where(np.isinf(q) | np.isinf(r), np.inf, q * r)


def bounded(x: Floats, e: Floats, f: Format) -> Floats:
    """No bound holds where a right evaluation may overflow, or where this one did."""
    return np.where(abs(x) + 2 * e <= f.max, e, np.inf)


class Exact(NamedTuple):
    """The result of an operation before it is rounded.

    Attributes:
        x: its value in binary64. error: how far it may move because its operands are off. q: its grid. units: how many
            roundings of 2u in a row it takes to compute it.
    """

    x: Floats
    error: Floats
    q: Floats = 0.0
    units: Floats = 1.0


def rounded(exact: Exact, storage: Format) -> tuple[Floats, Floats, Floats]:
    """Value, bound and grid of a result: the propagated error and its roundings, unless the exact result fits.

    What is rounded is the function of the engine's own arguments: at most |x| + 2 error.
    """
    x, error, q, units = exact
    fits = storage.fits(abs(x), q) & (error == 0)
    d = units * (2 * storage.u)
    rounding = np.where(fits | (units == 0), 0.0, d / (1 - d) * (abs(x) + 2 * error) + storage.tiny)
    return x, bounded(x, up(error + rounding), storage), np.where(fits, q, 0.0)


def as_constant(x: Floats, converted: Floats, f: Format) -> tuple[Floats, Floats, Floats]:
    """Value, bound and grid of a constant to which the binary64 number x is nearest, and equal where `converted`."""
    q = grid(x)
    exact = converted & f.fits(abs(x), q)
    return x, bounded(x, np.where(exact, 0.0, f.rounding(x)), f), np.where(exact, q, 0.0)


@lru_cache(maxsize=1024)
def constant(value: float | int | Fraction, f: Format) -> tuple[Floats, Floats, Floats]:
    x = np.asarray(float(value), np.float64)
    arrays = as_constant(x, bool(math.isfinite(x)) and Fraction(float(x)) == value, f)
    for array in arrays:
        array.flags.writeable = False
    return arrays
