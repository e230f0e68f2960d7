"""Certified values, as they are kept and judged by: pairs of binary64 numbers; of a large tensor, of a sample alone."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from parity.budget.formats import FORMATS, Format

Floats = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Truth:
    """An array of certified values: hi is the value rounded to binary64, lo the rest rounded likewise; at least 32
    digits together.

    A truth rounded to binary64 alone would use up half a unit of every budget. `undecided` marks elements without a
    certified value; hi is NaN where the formula has none (0 / 0).
    """

    hi: Floats
    lo: Floats
    undecided: Floats

    @classmethod
    def of(cls, values: Any) -> Truth:
        """Exact binary64 values."""
        hi = np.asarray(values, np.float64)
        return cls(hi, np.zeros_like(hi), np.zeros(hi.shape, bool))

    @classmethod
    def concatenate(cls, parts: Sequence[Truth]) -> Truth:
        """Several arrays, joined along the first axis."""
        return cls(*(np.concatenate([getattr(p, name) for p in parts]) for name in ("hi", "lo", "undecided")))

    def __getitem__(self, index: Any) -> Truth:
        return Truth(self.hi[index], self.lo[index], self.undecided[index])

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.hi.shape)

    def error(self, values: Any) -> Floats:
        """|values - truth|, elementwise. hi is subtracted first, which is exact where the two are close (Sterbenz)."""
        return np.asarray(abs((np.asarray(values, np.float64) - self.hi) - self.lo))

    def nearest(self, f: Format) -> Floats:
        """The truth correctly rounded to a format: to nearest, ties to even, as binary64 numbers.

        hi rounded again would err where hi lies half-way between two numbers of the narrower format and lo tips the
        balance.
        """
        if f == FORMATS["float64"]:
            return self.hi
        # A convention's value may be infinite, as torch's gradient of a logarithm at 0 is.
        with np.errstate(over="ignore", invalid="ignore"):
            spacing = f.spacing(self.hi)
            # Both are powers of two: nothing is rounded here.
            units = self.hi / spacing
            below = np.floor(units)
            half = units - below == 0.5
            # Where hi lies half-way between two numbers of the format, lo decides which of them is nearer.
            tipped = half & (self.lo != 0)
            near = np.where(tipped, below + (self.lo > 0), np.rint(units)) * spacing
            near = np.where(abs(near) > f.max, np.copysign(np.inf, near), near)
        return np.where(np.isfinite(self.hi), near, self.hi)

    def apart(self, other: Truth) -> float:
        """The largest difference to another over the largest element."""
        gap = abs((other.hi - self.hi) + (other.lo - self.lo)).max()
        return float(gap / abs(self.hi).max()) if gap else 0.0

    def decimal(self, digits: int = 25, index: Any = ()) -> str:
        """An element as a decimal string, rounded to this number of significant digits."""
        exact = Fraction(float(self.hi[index])) + Fraction(float(self.lo[index]))
        return decimal(exact, digits)


@dataclass(frozen=True)
class Sample:
    """Which elements of a tensor are certified.

    Attributes:
        shape: of the tensor. seed: what the draw came from. places: the elements, by their numbers in the flat order,
            in order.
    """

    shape: tuple[int, ...]
    seed: str
    places: Floats

    @classmethod
    def drawn(cls, shape: tuple[int, ...], count: int | None, seed: object, name: str) -> Sample | None:
        """That many elements of the tensor of that name and shape; None where that is all of them.

        The draw is the same on every machine: words from SHAKE-256 over seed and name, without repetition.
        """
        size = math.prod(shape)
        if count is None or count >= size:
            return None
        key = f"{seed}:{name}:{size}"
        # Of more than half it is drawn which ones are left out.
        few = min(count, size - count)
        drawn = _different(key, few, size)
        places = drawn if few == count else np.setdiff1d(np.arange(size), drawn, assume_unique=True)
        return cls(shape, str(seed), np.sort(places))

    @property
    def size(self) -> int:
        """The number of the tensor's elements."""
        return math.prod(self.shape)

    def of(self, array: Floats) -> Floats:
        """The sampled elements of an array of the tensor's shape."""
        return np.asarray(array).reshape(-1)[self.places]

    def index(self, k: int) -> tuple[int, ...]:
        """Where in the tensor the k-th sampled element is."""
        return tuple(int(i) for i in np.unravel_index(int(self.places[k]), self.shape))

    def __str__(self) -> str:
        return f"{len(self.places):,} of {self.size:,} elements"


def _different(key: str, count: int, size: int) -> Floats:
    """The first `count` different ones of the numbers below `size` that the key gives."""
    words = 2 * count + 8
    while True:
        numbers = np.frombuffer(hashlib.shake_256(key.encode()).digest(8 * words), "<u8") % np.uint64(size)
        _, first = np.unique(numbers, return_index=True)
        if len(first) >= count:
            return np.asarray(numbers[np.sort(first)[:count]]).astype(np.int64)
        words *= 2


def decimal(exact: Fraction | float, digits: int) -> str:
    """An exact number as a decimal string of this number of significant digits, ties to even."""
    exact = Fraction(exact)
    if exact == 0:
        return "0." + "0" * (digits - 1)
    sign, exact = ("-", -exact) if exact < 0 else ("", exact)
    exponent = len(str(exact.numerator)) - len(str(exact.denominator))
    if exact < Fraction(10) ** exponent:
        exponent -= 1
    scaled = round(exact / Fraction(10) ** (exponent - digits + 1))
    if scaled == 10**digits:
        scaled, exponent = scaled // 10, exponent + 1
    text = str(scaled)
    if exponent < -5 or exponent >= digits:
        return f"{sign}{text[0]}.{text[1:]}e{exponent}"
    if exponent < 0:
        return f"{sign}0.{'0' * (-exponent - 1)}{text}"
    return f"{sign}{text[: exponent + 1]}.{text[exponent + 1 :]}" if digits > exponent + 1 else sign + text
