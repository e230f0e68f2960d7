"""The arithmetic of bounds and grids: computed in binary64, rounded outward.

A bound e says how far a value may lie from the exact one; a grid q is a power of two that the value is a multiple of,
infinity for an exact zero and 0 where nothing is known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
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
    made = e * (1 + operations * 2.0**-52)
    return made + (operations * SMALLEST if least(e) > 0 else np.where(e == 0, 0.0, operations * SMALLEST))


def above(z: Floats) -> Floats:
    """The next number above z, or a larger one."""
    return z + (abs(z) * 2.0**-52 + SMALLEST)


def least(a: Floats) -> float:
    """The smallest element, NaN if there is one: above 0, no zero and no NaN needs care."""
    return float(np.minimum.reduce(a, axis=None, initial=np.inf))


def most(a: Floats) -> float:
    """The largest of the elements and 0, NaN if there is one."""
    return float(np.maximum.reduce(a, axis=None, initial=0.0))


def some(condition: Floats) -> bool:
    """Whether any element is true, or not zero: `np.any` at a tenth of its cost for a few elements."""
    return bool(np.count_nonzero(condition))


def times(e: Floats, slope: Floats) -> Floats:
    """e * slope or more. No error stays none however steep the function is: 0 * inf = 0."""
    made = e * slope
    if least(made) > 0:
        return made + SMALLEST
    return np.where((e == 0) | (slope == 0), 0.0, made + SMALLEST)


def product(a: Floats, b: Floats) -> Floats:
    """a * b or more, for a size a and a bound b. What is unbounded may be infinite, and 0 times that is no number:
    no bound holds, 0 * inf = inf.
    """
    made = a * b
    if least(made) > 0:
        return made + SMALLEST
    return np.where(np.isnan(made), np.inf, np.where((a == 0) | (b == 0), 0.0, made + SMALLEST))


_NO_GRID = np.zeros(())


@lru_cache(maxsize=4096)
def gridless(shape: tuple[int, ...]) -> Floats:
    """The grids of an array of which nothing is known: one 0, seen from everywhere, which is not written."""
    return np.broadcast_to(_NO_GRID, shape)


def is_gridless(q: Floats) -> bool:
    """Whether nothing is known of any element; False costs no more than time."""
    q = np.asarray(q)
    return q.size > 0 and (q.base is _NO_GRID or (not any(q.strides) and not q.item(0)))


@lru_cache(maxsize=4096)
def _gridless_of_two(q: tuple[int, ...], r: tuple[int, ...]) -> Floats:
    """Of what two arrays of these shapes make."""
    return gridless(np.broadcast_shapes(q, r))


def finest(q: Floats, axes: int | tuple[int, ...], keepdims: bool = False) -> Floats:
    """The grid of sums along some axes: the finest of the terms', infinity for no terms."""
    if is_gridless(q):
        # One term tells.
        chosen = [k % q.ndim for k in np.atleast_1d(axes).tolist()]
        q = q[tuple(slice(1) if k in chosen else slice(None) for k in range(q.ndim))]
        return gridless(q.min(axis=axes, keepdims=keepdims).shape)
    return q.min(axis=axes, keepdims=keepdims, initial=np.inf)


def finer(q: Floats, r: Floats) -> Floats:
    """The grid of a sum of two."""
    if is_gridless(q) or is_gridless(r):
        return _gridless_of_two(np.shape(q), np.shape(r))
    return np.minimum(q, r)


def grid_where(exact: Floats, x: Floats) -> Floats:
    """The grids of values, where they are exact."""
    return np.where(exact, grid(x), 0.0) if some(exact) else gridless(np.shape(x))


def grid_product(q: Floats, r: Floats) -> Floats:
    """The grid of a product: no grid (0) in a factor leaves none, unless the other factor is exactly zero (inf)."""
    for one, other in ((q, r), (r, q)):
        if is_gridless(one) and (is_gridless(other) or not some(np.isinf(other))):
            return _gridless_of_two(np.shape(q), np.shape(r))
    return np.where(np.isinf(q) | np.isinf(r), np.inf, q * r)


def bounded(x: Floats, e: Floats, f: Format) -> Floats:
    """No bound holds where a right evaluation may overflow, or where this one did."""
    largest = abs(x) + 2 * e
    return e if most(largest) <= f.max else np.where(largest <= f.max, e, np.inf)


class Exact(NamedTuple):
    """The result of an operation before it is rounded.

    Attributes:
        x: its value in binary64. error: how far it may move because its operands are off. q: its grid. units: how many
            roundings of 2u in a row it takes to compute it, or what tells: where all results fit, nobody asks.
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
    fits: Floats = np.False_ if is_gridless(q) else storage.fits(abs(x), q) & (error == 0)
    if fits is not np.False_ and np.count_nonzero(fits) == np.size(x):
        return x, np.zeros(np.shape(x)), np.where(fits, q, 0.0)
    units = units() if callable(units) else units
    d = units * (2 * storage.u)
    rounding = d / (1 - d) * (abs(x) + 2 * error) + storage.tiny
    if fits is np.False_ and type(units) is float and units:
        return x, bounded(x, up(error + rounding), storage), gridless(np.shape(x))
    exact = fits | (units == 0)
    e = up(error + (np.where(exact, 0.0, rounding) if some(exact) else rounding))
    return x, bounded(x, e, storage), np.where(fits, q, 0.0) if some(fits) else gridless(np.shape(x))


BLOCK = 2**15
"""Elements that are worked on together, so that what is computed on the way to a bound stays in the processor's
caches."""


class Part(NamedTuple):
    """An operand, or some of its elements."""

    x: Floats
    e: Floats
    q: Floats
    profile: Profile


def in_blocks(
    rule: Callable[..., tuple[Floats, Floats, Floats]], operands: Sequence[Operand]
) -> tuple[Floats, Floats, Floats]:
    """Value, bound and grid by an elementwise rule, of some elements at a time."""
    # No more elements come of it than this.
    if math.prod([a.x.size for a in operands]) <= BLOCK:
        return rule(*operands)
    shape = np.broadcast_shapes(*(np.shape(a.x) for a in operands))
    if math.prod(shape) <= BLOCK:
        return rule(*operands)
    x, e, q = np.empty(shape), np.empty(shape), gridless(shape)
    for index in _blocks(shape):
        x[index], e[index], grids = rule(*(_part(index, shape, o) for o in operands))
        if not is_gridless(grids):
            q = q if q.flags.writeable else np.zeros(shape)
            q[index] = grids
    return x, e, q


def _blocks(shape: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Slices that make up an array, of up to BLOCK elements each."""
    axis = next(k for k in range(len(shape)) if math.prod(shape[k + 1 :]) <= BLOCK)
    rows = max(1, BLOCK // math.prod(shape[axis + 1 :]))
    for before in np.ndindex(shape[:axis]):
        for start in range(0, shape[axis], rows):
            yield (*(slice(k, k + 1) for k in before), slice(start, start + rows))


def _part(index: tuple[slice, ...], shape: tuple[int, ...], o: Operand) -> Part:
    return Part(_at(index, o.x, shape), _at(index, o.e, shape), _at(index, o.q, shape), o.profile)


def _at(index: tuple[slice, ...], a: Floats, shape: tuple[int, ...]) -> Floats:
    """These elements of an array that is spread over the shape: all along an axis of one."""
    if np.ndim(a) == 0:
        return a
    missing = len(shape) - a.ndim
    return a[tuple(slice(None) if n == 1 else s for n, s in zip(a.shape, index[missing:], strict=False))]


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


def one_minus_power(beta: float, t: Floats, f: Format) -> tuple[Floats, Floats, Floats]:
    """Value, bound and grid of 1 - beta^t as a constant, for each counter t."""
    counters, places = np.unique(t, return_inverse=True)
    x, converted = _one_minus_powers(beta, tuple(counters.astype(int).tolist()))
    places = places.reshape(np.shape(t))
    return as_constant(x[places], converted[places], f)


@lru_cache(maxsize=64)
def _one_minus_powers(beta: float, counters: tuple[int, ...]) -> tuple[Floats, Floats]:
    """The number of binary64 next to 1 - beta^n for each counter n, in rising order, and whether it is that.

    Kept, as all parameters have the same counters and exact powers take long: beta^10000 has half a million bits.
    """
    x, converted = np.empty(len(counters)), np.empty(len(counters), bool)
    before, power = 0, Fraction(1)
    for place, n in enumerate(counters):
        power, before = power * Fraction(beta) ** (n - before), n
        x[place] = near = float(1 - power)
        converted[place] = Fraction(near) == 1 - power
    return x, converted
