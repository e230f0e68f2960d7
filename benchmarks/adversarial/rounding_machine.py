"""A processor in rational numbers that rounds as badly as the model of rounding lets it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from flint import arb, ctx

from parity.budget.formats import ULPS, Format, Profile

Value = Any
"""A Fraction; or infinity or NaN as a float."""

CITED = dict(ULPS)
"""What an engine is told of the accuracy of its functions; a test may change what a budget grants."""

MODES = ("nearest", "up", "down", "out", "in", "random")


def exactly(x: Any) -> Value:
    """A number as a fraction, but for infinity and NaN."""
    if isinstance(x, Fraction):
        return x
    x = float(x)
    return Fraction(x) if math.isfinite(x) else x


class OverflowsError(Exception):
    """A result past the format's largest number."""


def quantum(v: Fraction, f: Format) -> Fraction:
    """The spacing of the format's numbers at v."""
    return _power_of_two(_quantum_exponent(v, f))


def _quantum_exponent(v: Fraction, f: Format) -> int:
    n, d = abs(v.numerator), v.denominator
    exponent = n.bit_length() - d.bit_length()
    if (n << -exponent if exponent < 0 else n) < (d << exponent if exponent > 0 else d):
        exponent -= 1
    return max(exponent, f.min_exponent) - f.precision + 1


def _power_of_two(k: int) -> Fraction:
    return Fraction(1 << k) if k >= 0 else Fraction(1, 1 << -k)


def function(name: str, v: Value) -> Value:
    """A function of a number to 400 bits. What is too large is an OverflowsError; poles and domains are as in IEEE."""
    if not isinstance(v, Fraction):
        with np.errstate(all="ignore"):
            return exactly((getattr(np, name, None) or getattr(math, name))(v))
    before, ctx.prec = ctx.prec, 400
    try:
        y = getattr(arb(v.numerator) / v.denominator, name)()
        if not y.is_finite():
            if v <= 0 and name in ("log", "log1p", "sqrt"):
                return -math.inf if v == (0 if name == "log" else -1) else math.nan
            raise OverflowsError
        m, e = map(int, y.mid().man_exp())
        if m.bit_length() + e > 2000:
            raise OverflowsError
        return Fraction(m) * _power_of_two(e) if m.bit_length() + e > -2000 else Fraction(0)
    finally:
        ctx.prec = before


def power(x: Fraction, p: float) -> Value:
    """x^p for a p that is no integer, to 400 bits."""
    if x < 0:
        return math.nan
    if x == 0:
        return Fraction(0) if p > 0 else math.inf
    before, ctx.prec = ctx.prec, 400
    try:
        m, e = map(int, ((arb(x.numerator) / x.denominator) ** arb(p)).mid().man_exp())
        return Fraction(m) * _power_of_two(e)
    finally:
        ctx.prec = before


@dataclass
class Machine:
    """Formats, a direction of rounding, whether products are fused and results flushed; the order of sums is random.

    Attributes:
        infinite: whether what is past the format's largest number is infinity, as in IEEE; else an OverflowsError.
        additions: how many there were.
    """

    profile: Profile
    mode: str = "nearest"
    fma: bool = False
    flush: bool = False
    seed: int = 0
    infinite: bool = False
    additions: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)

    def sign(self, v: Fraction) -> int:
        """In which direction v is rounded; 0 to the nearest."""
        outward = 1 if v > 0 else -1
        if self.mode == "random":
            return int(self.random.integers(2)) * 2 - 1
        return {"nearest": 0, "up": 1, "down": -1, "out": outward, "in": -outward}[self.mode]

    def fl(self, v: Value, f: Format | None = None) -> Value:
        """v, rounded to a format."""
        f, v = f or self.profile.storage, exactly(v)
        if not isinstance(v, Fraction) or v == 0:
            return v
        k = _quantum_exponent(v, f)
        n, d = (v.numerator, v.denominator << k) if k >= 0 else (v.numerator << -k, v.denominator)
        down, rest = divmod(n, d)
        if rest:
            sign = self.sign(v)
            if sign == 0:
                down += 2 * rest > d or (2 * rest == d and down % 2)
            else:
                down += sign > 0
            v = Fraction(down << k) if k >= 0 else Fraction(down, 1 << -k)
        if abs(v) > f.max:
            if self.infinite:
                return math.inf if v > 0 else -math.inf
            raise OverflowsError
        return Fraction(0) if self.flush and abs(v) < _power_of_two(f.min_exponent) else v

    def function(self, name: str, v: Value, factor: Fraction = Fraction(1)) -> Value:
        """Up to ULPS off, where the mode lets it, from the function times a factor."""
        try:
            y = function(name, v) * factor
        except OverflowsError:
            if self.infinite:
                return math.inf
            raise
        return self.off(y, CITED.get(name, 1))

    def off(self, y: Value, ulps: int) -> Value:
        """A number of the format as far from y as this many units in the last place allow in the mode's direction."""
        if not isinstance(y, Fraction):
            return y
        unit = quantum(y, self.profile.storage) if y else Fraction(0)
        for steps in range(ulps - 1, -1, -1):
            rounded = self.fl(y + self.sign(y) * steps * unit)
            if not isinstance(rounded, Fraction):
                return rounded
            if abs(rounded - y) <= ulps * unit or abs(y) < _power_of_two(self.profile.storage.min_exponent):
                return rounded
        raise AssertionError(y)

    def divided(self, a: Value, b: Value) -> Value:
        """a / b, before it is rounded."""
        if isinstance(b, Fraction) and b != 0:
            return a / b
        if not isinstance(b, Fraction):
            return Fraction(0) if isinstance(a, Fraction) and math.isinf(b) else math.nan
        if not self.infinite:
            raise ZeroDivisionError
        if a == 0 or a != a:
            return math.nan
        return math.inf if a > 0 else -math.inf

    def total(self, terms: Sequence[Any]) -> Value:
        """A sum of numbers and of products (pairs), as a random tree; in the accumulator, then stored."""
        f = self.profile.accumulator
        left = list(terms)
        if not f.includes(self.profile.storage):
            left = [t if isinstance(t, tuple) else self.fl(t, f) for t in left]
        places = self.random.random(2 * len(left)) if len(left) > 1 else ()
        step = 0
        while (n := len(left)) > 1:
            # Two that are drawn, the latter the last one's place.
            i = int(places[step] * n)
            left[i], left[-1] = left[-1], left[i]
            a = left.pop()
            j = int(places[step + 1] * (n - 1))
            b, step = left[j], step + 2
            if isinstance(b, tuple):
                a, b = b, a
            if self.fma and isinstance(a, tuple):
                left[j] = self.fl(a[0] * a[1] + self._product(b), f)
            else:
                left[j] = self.fl(self._product(a) + self._product(b), f)
        self.additions += step // 2
        whole = self._product(left[0]) if left else Fraction(0)
        return whole if f == self.profile.storage else self.fl(whole)

    def _product(self, term: Any) -> Value:
        return self.fl(term[0] * term[1], self.profile.accumulator) if isinstance(term, tuple) else term


def machines(profile: Profile, count: int) -> Iterator[Machine]:
    """Machines of every direction of rounding, this many of each, with and without fused products and flushing."""
    for seed in range(count):
        for mode in MODES:
            yield Machine(profile, mode, fma=seed % 2 == 1, flush=seed % 4 in (1, 2), seed=seed)
