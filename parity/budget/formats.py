"""Number formats and how an engine uses them: the constants of the rounding model."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np

Floats = Any  # float64 ndarray or scalar

ULPS = {"exp": 3, "log": 4, "log1p": 3, "tanh": 7, "sin": 3, "cos": 3, "expm1": 7, "erf": 7, "erfc": 7, "power": 2}
"""Largest error of each elementary function, in units in the last place: the least integer not below these figures.

- NumPy's release notes 1.17.0 state 2.52 for its float32 exp and 3.83 for log; its test data for 2.4
  (numpy/_core/tests/data/umath-validation-set-*.csv) allow log1p and tanh 2 from the correctly rounded value: 2.5.
- JAX's page "Numerical accuracy" (docs/accuracy.md, reviewed 2026-09-18) has for CPU and NVIDIA GPU, by exhaustive
  tests in float32 and samples in float64, at most 2.0 for exp, 1.5 for log, 3.0 for log1p, 7.0 for tanh, 2.5 for sin
  and cos, 6.5 for expm1 and 7.0 for erf. On TPUs, where its float32 figures go into the thousands, those are other
  formulas.
- NumPy's test data (above) allow sin and cos 2 and expm1 3 from the correctly rounded value.
- power: Arm's optimized routines, which glibc has, state 0.82 for their powf, AMD's library 1.99 for its fast pow.
- refnet's own erf (NumPy has none) was measured at 1.7 in float64 and 2.6 in float32, and its erfc, beside what the
  rounding of x^2 costs, at 2.6 and 3.4; erfc is granted what erf is.
- SLEEF's reference states 1.0 for its functions named `_u10`.
"""


@dataclass(frozen=True)
class Format:
    """A binary floating-point format.

    Attributes:
        precision: bits of its significand. min_exponent, max_exponent: of its smallest normal and its largest numbers.
    """

    name: str
    precision: int
    min_exponent: int
    max_exponent: int

    @cached_property
    def u(self) -> float:
        """Unit roundoff, 2^-precision."""
        return 2.0**-self.precision

    @cached_property
    def tiny(self) -> float:
        """The smallest positive normal number."""
        return 2.0**self.min_exponent

    @cached_property
    def max(self) -> float:
        """The largest finite number."""
        return math.ldexp(2.0 - 2.0 ** (1 - self.precision), self.max_exponent)

    def spacing(self, x: Floats) -> Floats:
        """A unit in the last place of a number of size |x|: that of the smallest normal number below it, and that of
        the largest above it."""
        with np.errstate(all="ignore"):
            _, exponent = np.frexp(np.where(np.isfinite(x), x, 0.0))
        exponent = np.where(np.isinf(x), self.max_exponent, exponent - 1)
        exponent = np.where(np.asarray(x) == 0, self.min_exponent, exponent)
        return np.ldexp(1.0, np.clip(exponent, self.min_exponent, self.max_exponent) - self.precision + 1)

    def includes(self, other: Format) -> bool:
        """Whether every number of the other format is one of this."""
        return (
            self.precision >= other.precision
            and self.max_exponent >= other.max_exponent
            and self.min_exponent - self.precision <= other.min_exponent - other.precision
        )

    def growth(self, k: int) -> float:
        """(1 + 2u)^k - 1: the largest relative error of k roundings on top of each other."""
        exponent = k * math.log1p(2 * self.u)
        return math.expm1(exponent) if exponent < 700 else math.inf

    def holds(self, x: Floats, q: Floats) -> Floats:
        """Whether x, an odd multiple of its grid q, is a number of the format."""
        smallest = self.tiny * 2.0 ** (1 - self.precision)
        with np.errstate(over="ignore"):
            return (abs(x) < q * 2.0**self.precision) & (q >= smallest) & (abs(x) <= self.max)

    def fits(self, magnitude: Floats, q: Floats) -> Floats:
        """Whether the multiples of q up to `magnitude` are all numbers of the format, none of them subnormal.

        The first comparison is strict because a magnitude that was computed may have been rounded down to the boundary.
        """
        return (magnitude * self.u < q) & (q >= self.tiny) & (magnitude <= self.max)

    def nearest(self, x: Floats) -> Floats:
        """Numbers of binary64 rounded to the format: to nearest, ties to even; past the largest one, infinity."""
        x = np.asarray(x, np.float64)
        with np.errstate(all="ignore"):
            spacing = self.spacing(x)
            near = np.rint(x / spacing) * spacing
            near = np.where(abs(near) > self.max, np.copysign(np.inf, x), near)
        return np.where(np.isfinite(x), near, x)

    def rounding(self, x: Floats) -> Floats:
        """How far a number of size up to |x| may move when it is rounded to the format."""
        return 2 * self.u * abs(x) + self.tiny


FORMATS = {
    f.name: f
    for f in (
        Format("float64", 53, -1022, 1023),
        Format("float32", 24, -126, 127),
        Format("tf32", 11, -126, 127),
        Format("bfloat16", 8, -126, 127),
        Format("float16", 11, -14, 15),
    )
}


_WORDS = {
    **dict.fromkeys(("sums in", "accumulate"), "accumulator"),
    **dict.fromkeys(("factors in", "products"), "product"),
    "depth": "depth",
    "blocks of": "block",
}
"""What stands before a value in a profile's text."""


@dataclass(frozen=True)
class Profile:
    """How an engine computes.

    Attributes:
        storage: the format of results. accumulator: of sums under way. product: what factors of a contraction are
            rounded to.
        depth: the longest chain of additions that a term of a sum or of a product of matrices goes through, where the
            engine vouches for one; None for any order.
        block: how many terms are added up first, in any order, before these sums are added, in any order; None where
            the engine vouches for nothing.
    """

    storage: Format
    accumulator: Format
    product: Format
    depth: int | None = None
    block: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """The profile that a text says: "bfloat16, accumulate float32, depth 40".

        A format of storage comes first; `tf32` is float32 with factors in tf32. Then, in any order, `accumulate FORMAT`
        (or `sums in FORMAT`), `factors in FORMAT` (or `products FORMAT`), `depth N`, `blocks of N`.

        Raises:
            ValueError: it is none.
        """
        said = [part.strip() for part in text.split(",")]
        first, given = said[0], dict[str, str]()
        for part in said[1:]:
            what, _, value = part.rpartition(" ")
            key = _WORDS.get(what)
            if key is None or key in given:
                raise ValueError(f'expected a profile such as "bfloat16, accumulate float32, depth 40", got {text!r}')
            given[key] = value
        if first == "tf32":
            first, given = "float32", {"product": "tf32"} | given
        formats = [first, *(given[key] for key in ("accumulator", "product") if key in given)]
        unknown = next((name for name in formats if name not in FORMATS), None)
        if unknown is not None:
            raise ValueError(f"expected formats among {', '.join(FORMATS)} in the profile, got {unknown!r}")
        numbers = {key: given[key] for key in ("depth", "block") if key in given}
        for key, value in numbers.items():
            if not value.isdecimal() or int(value) < 1:
                raise ValueError(f"expected a whole number from 1 as the profile's {key}, got {value!r}")
        plain = cls.of(first, given.get("accumulator"), given.get("product"))
        chains = {key: int(value) for key, value in numbers.items()}
        return replace(plain, depth=chains.get("depth"), block=chains.get("block"))

    @classmethod
    def of(cls, dtype: str, accumulator: str | None = None, product: str | None = None) -> Self:
        """The plain profile of a dtype, everything in it, but for what is named."""
        return cls(FORMATS[dtype], FORMATS[accumulator or dtype], FORMATS[product or dtype])

    def __str__(self) -> str:
        said = [self.storage.name]
        said += [f"sums in {self.accumulator.name}"] if self.accumulator != self.storage else []
        said += [f"factors in {self.product.name}"] if self.product != self.storage else []
        said += [f"depth {self.depth}"] if self.depth else []
        said += [f"blocks of {self.block}"] if self.block else []
        return ", ".join(said)

    @cached_property
    def stores_sums(self) -> bool:
        """Whether a sum is in the format of storage as it is, and not rounded to it."""
        return self.accumulator == self.storage

    @cached_property
    def holds_terms(self) -> bool:
        """Whether the accumulator holds what is stored."""
        return self.accumulator.includes(self.storage)

    def chain(self, terms: int) -> int:
        """The longest chain of additions that a term of a sum of so many goes through."""
        chains = [max(terms - 1, 0)]
        if self.depth:
            chains.append(self.depth)
        if self.block:
            chains.append(self.block - 1 + max(-(-terms // self.block) - 1, 0))
        return min(chains)

    @property
    def unknown(self) -> Format | None:
        """A format in it that is none of FORMATS, whatever its name says; None where all are known."""
        used = (self.storage, self.accumulator, self.product)
        return next((f for f in used if FORMATS.get(f.name) != f), None)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The NumPy dtype that holds stored values, of those that layers compute in."""
        return np.dtype("float64" if self.storage.name == "float64" else "float32")
