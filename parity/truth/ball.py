"""Arb balls on NumPy object arrays: lifting exact numbers in, and certified numbers out.

Arithmetic: F. Johansson, "Arb: efficient arbitrary-precision midpoint-radius interval arithmetic", IEEE Trans. Comput.
66 (2017), through python-flint. Every operation returns a ball that contains the exact result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from threading import RLock
from typing import Any, cast

import numpy as np
from flint import arb, ctx

from parity.truth.node import Node
from refnet.arithmetic.array_like import Undecided

Objects = np.ndarray[Any, Any]

PRECISIONS = (256, 512, 1024, 2560)
"""Working precisions in bits, tried in turn. At the last one an exact zero that no ball can prove has a radius far
below the smallest subnormal, which settles its rounding."""

HALF_SMALLEST_SUBNORMAL = arb(2) ** -1075


_one_at_a_time = RLock()


@contextmanager
def precision(bits: int) -> Iterator[None]:
    """Run the balls at `bits` bits. Other threads wait: all share flint's precision, and what the tape records."""
    with _one_at_a_time:
        before, ctx.prec = ctx.prec, bits
        try:
            yield
        finally:
            ctx.prec = before


def ball(number: float | int | Fraction | np.number[Any]) -> Any:
    """An exact number as a ball (a Fraction is enclosed)."""
    if isinstance(number, Fraction):
        return arb(number.numerator) / number.denominator
    # np.pad fills object arrays with NumPy integers.
    return arb(int(number) if isinstance(number, (int, np.integer)) else float(number))


def lift(array: Any) -> Objects:
    """Floats (or Fractions) as an object array of fresh nodes; arrays of integers or booleans as they are."""
    array = np.asarray(array)
    if array.dtype.kind in "iub":
        return cast(Objects, array)
    return _each(lambda x: Node(ball(x if isinstance(x, Fraction) else float(x))), array)


def values(array: Any) -> Objects:
    """The balls of an array (or single element) of nodes; numbers that never met a node become exact balls."""
    return _each(lambda x: x.value if isinstance(x, Node) else ball(x), np.asarray(array, dtype=object))


def gradients(nodes: Any) -> Objects:
    """The balls of the gradients that `differentiate` left in an array of nodes."""
    return _each(lambda node: arb(node.grad), np.asarray(nodes, dtype=object))


def _each(f: Callable[[Any], Any], array: Objects) -> Objects:
    made = np.empty(array.shape, dtype=object)
    for k, x in enumerate(array.flat):
        made.flat[k] = f(x)
    return made


def nearest(x: Any) -> float:
    """The binary64 number nearest to every point of the ball `x`.

    Raises:
        Undecided: the ball contains a rounding boundary, is not finite, or its rounding overflows.
    """
    if not x.is_finite():
        raise Undecided(f"{x} is not finite")
    if x.is_exact():
        low = high = _round(x)
    else:
        low, high = _round(x.lower()), _round(x.upper())
    if low != high:
        raise Undecided(f"{x} straddles a rounding boundary of binary64")
    return low


def _round(x: Any) -> float:
    """The binary64 number nearest to an exact ball, ties to even: Python's own correctly rounded quotient."""
    mantissa, exponent = x.man_exp()
    m, e = int(mantissa), int(exponent)
    if m == 0:
        return 0.0
    if m.bit_length() + e < -1080:
        return 0.0
    if m.bit_length() + e > 1100:
        # 2 to the power of a trillion would not fit into memory.
        raise Undecided(f"{x} overflows binary64")
    try:
        return float(Fraction(m * 2 ** max(e, 0), 2 ** max(-e, 0)))
    except OverflowError:
        raise Undecided(f"{x} overflows binary64") from None


def certify(x: Any) -> tuple[float, float]:
    """The ball as `(hi, lo)`: hi is its value rounded to binary64, lo the rest rounded likewise; at least 32 digits.

    A value below half the smallest subnormal is (0.0, 0.0).

    Raises:
        Undecided: the ball is too wide. Try again with more bits.
    """
    if abs(x) < HALF_SMALLEST_SUBNORMAL:
        return 0.0, 0.0
    hi = nearest(x)
    rest = x - arb(hi)
    if abs(rest) < HALF_SMALLEST_SUBNORMAL:
        return hi, 0.0
    try:
        return hi, nearest(rest)
    except Undecided:
        # At the highest precision the rest lies halfway between two numbers, as an exact sum of products may, and no
        # ball can prove it. Either is the rest to 2^-53 of itself: this decides no more than the last of 32 digits.
        if ctx.prec < PRECISIONS[-1] or rest.rel_accuracy_bits() < ctx.prec // 2:
            raise
        return hi, _round(rest.mid())
