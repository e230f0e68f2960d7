"""How far a right result may lie from the truth: a rounding analysis that runs the layers' own lines.

A `Budget` carries a value x, computed in binary64, and a bound e such that every evaluation under the model below, and
x itself, lies within e of the exact result. Nothing in it is tuned: each constant is a unit roundoff, a count of
operations, or a cited accuracy of an elementary function.

The model, for a format of unit roundoff u (N. J. Higham, *Accuracy and Stability of Numerical Algorithms*, 2nd ed.,
SIAM 2002, ch. 2 to 4):

- fl(a op b) = (a op b)(1 + d) + eta, |d| <= 2u, |eta| <= the smallest normal number. 2u is faithful rounding: directed
  modes and units that are not quite correctly rounded are within it, and so is a quotient by way of the correctly
  rounded reciprocal. eta covers gradual underflow and the flushing of results to zero. Inputs are read as they are:
  reading a subnormal input as zero is outside the model.
- A sum of n terms, in any order, as any binary tree, with or without fused multiply-add, errs by at most
  growth(n - 1) sum|t|, growth(k) = (1 + 2u)^k - 1 (Higham's gamma_k is a bound of it); products entering it add one
  to k. A contraction (sum, matmul, einsum) stays open to additions next to it: `x @ w + b` is one sum, wherever an
  engine puts b. An addition of two plain terms is itself, and bounded by its result.
- Where an engine accumulates in another format than it stores, each contraction is rounded to storage once, and so is
  each addition next to it; the parts of an open sum may be stored and added in any order.
- exp, log, log1p and tanh are within ULPS of the exact function of their argument; 1 / (1 + exp(-x)) and its logarithm
  by composition.
- A constant that the format does not hold may have been rounded to it.
- Exactness is derived: each element knows a power of two that it is a multiple of (its grid). If the exact result of an
  operation is on a grid coarse enough for the format's significand whatever the order, every evaluation is exact and
  the bound does not grow.

The bound is infinite where a right evaluation may overflow or leave a function's domain. The rules hold to all orders:
with x within e of the exact a, and the engine's a' within e of a, |a| <= |x| + e and |a'| <= |x| + 2e. The bounds are
computed in binary64 and inflated by more than their own rounding and underflow can amount to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any, Self

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from parity.records.record import Undecided
from refnet.arithmetic import special

Floats = Any  # float64 ndarray or scalar

ULPS = {"exp": 3, "log": 4, "log1p": 3, "tanh": 7}
"""Largest error of each elementary function, in units in the last place: the least integer not below these figures.

- NumPy's release notes 1.17.0 state 2.52 for its float32 exp and 3.83 for log; its test data for 2.4
  (numpy/_core/tests/data/umath-validation-set-*.csv) allow log1p and tanh 2 from the correctly rounded value: 2.5.
- JAX's page "Numerical accuracy" (docs/accuracy.md, reviewed 2026-09-18) has for CPU and NVIDIA GPU, by exhaustive
  tests in float32 and samples in float64, at most 2.0 for exp, 1.5 for log, 3.0 for log1p and 7.0 for tanh. On TPUs,
  where its float32 figures go into the thousands, those are other formulas.
- SLEEF's reference states 1.0 for its functions named `_u10`.
"""

SMALLEST = 2.0**-1074
"""The smallest positive number of the bound arithmetic: what an underflow there loses at most."""


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

    @property
    def u(self) -> float:
        """Unit roundoff, 2^-precision."""
        return 2.0**-self.precision

    @property
    def tiny(self) -> float:
        """The smallest positive normal number."""
        return 2.0**self.min_exponent

    @property
    def max(self) -> float:
        """The largest finite number."""
        return math.ldexp(2.0 - 2.0 ** (1 - self.precision), self.max_exponent)

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
        with np.errstate(over="ignore"):
            return (magnitude < q * 2.0**self.precision) & (q >= self.tiny) & (magnitude <= self.max)

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


@dataclass(frozen=True)
class Profile:
    """How an engine computes.

    Attributes:
        storage: the format of results. accumulator: of sums under way. product: what factors of a contraction are
            rounded to.
    """

    storage: Format
    accumulator: Format
    product: Format

    @classmethod
    def of(cls, dtype: str, accumulator: str | None = None, product: str | None = None) -> Self:
        """The plain profile of a dtype, everything in it, but for what is named."""
        return cls(FORMATS[dtype], FORMATS[accumulator or dtype], FORMATS[product or dtype])

    @property
    def dtype(self) -> np.dtype[Any]:
        """The NumPy dtype that holds stored values: float32 for formats that NumPy lacks."""
        lacking = self.storage.name in ("bfloat16", "tf32")
        return np.dtype("float32" if lacking else self.storage.name)


class NoRule(TypeError, AttributeError):
    """A function or attribute of arrays that budgets have no rule for.

    Attributes:
        what: its name, as in `np.var`, `.T` or `**`.
    """

    def __init__(self, what: str) -> None:
        super().__init__(
            f"expected a function listed in refnet.arithmetic.functions, got {what}, which has no rule for rounding"
        )
        self.what = what


def grid(x: Floats) -> Floats:
    """The largest power of two that each element is a multiple of; infinity for 0, and 0 where x is not finite."""
    x = np.asarray(x, np.float64)
    finite = np.where(np.isfinite(x), x, 0)
    mantissa, exponent = np.frexp(finite)
    integer = (mantissa * 2.0**53).astype(np.int64)
    q = np.ldexp((integer & -integer).astype(np.float64), exponent - 53)
    return np.where(np.isfinite(x), np.where(finite == 0, np.inf, q), 0.0)


def _up(e: Floats, operations: int = 32) -> Floats:
    """e, computed with so many roundings, or more; an exact zero stays one."""
    return e * (1 + operations * 2.0**-52) + np.where(e == 0, 0.0, operations * SMALLEST)


def _times(a: Floats, b: Floats) -> Floats:
    """a * b or more, with 0 * inf = 0: an exact zero stays one whatever the other factor's bound."""
    return np.where((a == 0) | (b == 0), 0.0, a * b + SMALLEST)


def _grid_product(q: Floats, r: Floats) -> Floats:
    """The grid of a product: no grid (0) in a factor leaves none, unless the other factor is exactly zero (inf)."""
    return np.where(np.isinf(q) | np.isinf(r), np.inf, q * r)


@dataclass(frozen=True)
class _Sum:
    """An open sum.

    Attributes:
        terms: how many. products: whether products are among them.
        magnitude: sum|t|. error: the sum of the errors that the terms came with, and the parts by being stored.
        parts: how many stored results make it up. stored: the sum of their sizes.
    """

    terms: int
    products: bool
    magnitude: Floats
    error: Floats
    parts: int
    stored: Floats


class Budget(np.lib.mixins.NDArrayOperatorsMixin):
    """An array of values with error bounds, in the arithmetic of a profile. See the module's text for the model.

    Attributes:
        x: values (float64). e: bounds, |any right evaluation - exact| <= e, elementwise; 0 where every one gives x.
        q: grids: powers of two, infinity for exact zeros, and 0 where there is none, as always where e > 0.
    """

    __slots__ = ("_sum", "e", "profile", "q", "x")

    def __init__(self, x: Floats, e: Floats, q: Floats, profile: Profile, open_sum: _Sum | None = None) -> None:
        self.x, self.e, self.q, self.profile, self._sum = np.asarray(x), np.asarray(e), np.asarray(q), profile, open_sum

    @classmethod
    def exact(cls, x: Any, profile: Profile, e: Floats | None = None) -> Budget:
        """Inputs as every engine gets them: exact values of the format, or within `e` of a truth they stand for.

        Raises:
            ValueError: a value without `e` does not fit the storage format.
        """
        # A copy: layers and optimizers write buffers and parameters in place.
        x = np.array(x, np.float64)
        q = grid(x)
        if e is None:
            outside = ~(profile.storage.holds(x, q) | ~np.isfinite(x))
            if outside.any():
                name, value = profile.storage.name, float(x[outside][0])
                raise ValueError(f"Budget.exact: expected values of {name}, got {value!r}")
            return cls(x, np.zeros_like(x), q, profile)
        e = np.broadcast_to(np.asarray(e, np.float64), x.shape).copy()
        return cls(x, e, np.where(e == 0, q, 0.0), profile)

    def constant(self, value: Any) -> Budget:
        """A constant of a formula, a number or an array, which an engine may have rounded to its format."""
        if type(value) in (float, int, Fraction):
            return Budget(*_constant(value, self.profile.storage), self.profile)
        array = np.asarray(value)
        x = array.astype(np.float64)
        converted = (array.dtype.kind == "f") | (abs(x) < 2.0**53)
        return Budget(*_as_constant(x, converted, self.profile.storage), self.profile)

    def _lift(self, value: Any) -> Budget:
        return value if isinstance(value, Budget) else self.constant(value)

    shape = property(lambda self: self.x.shape)
    ndim = property(lambda self: self.x.ndim)
    size = property(lambda self: self.x.size)
    dtype = property(lambda self: self.profile.dtype)
    mT = property(lambda self: _moved(lambda a: a.mT, self))  # noqa: N815  NumPy's name

    def __repr__(self) -> str:
        return f"Budget({self.x!r}, e={self.e!r})"

    def __len__(self) -> int:
        return len(self.x)

    def __bool__(self) -> bool:
        raise TypeError("Budget: expected a comparison, got a budget as a condition")

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise NoRule("np.asarray")

    def __getattr__(self, name: str) -> Any:
        raise NoRule(f".{name}")

    def __getitem__(self, index: Any) -> Budget:
        return _moved(lambda a: a[index], self)

    def __setitem__(self, index: Any, value: Any) -> None:
        value = self._lift(value)
        self.x[index], self.e[index], self.q[index], self._sum = value.x, value.e, value.q, None

    def copy(self) -> Budget:
        return _moved(np.copy, self)

    def reshape(self, *shape: Any) -> Budget:
        return _moved(lambda a: a.reshape(*shape), self)

    def sum(self, axis: Any = None, keepdims: bool = False) -> Budget:
        axes = tuple(range(self.ndim)) if axis is None else tuple(np.atleast_1d(axis).tolist())
        terms = math.prod(self.shape[a] for a in axes)
        q = self.q.min(axis=axes, keepdims=keepdims, initial=np.inf)
        return self._total(lambda a: a.sum(axis=axes, keepdims=keepdims), terms, q)

    def _total(self, total: Callable[[Floats], Floats], terms: int, q: Floats) -> Budget:
        """The sum of so many elements each. An open sum inside another is one larger sum."""
        s = self._as_sum()
        magnitude = total(s.magnitude)
        return self._contract(
            total(self.x), _Sum(s.terms * terms, s.products, magnitude, total(s.error), 1, magnitude), q
        )

    def _as_sum(self) -> _Sum:
        size = abs(self.x) + 2 * self.e
        return self._sum or _Sum(1, False, size, self.e, 1, size)

    @np.errstate(all="ignore")
    def _contract(self, x: Floats, s: _Sum, q: Floats) -> Budget:
        """The result of a sum, still open."""
        accumulator, storage = self.profile.accumulator, self.profile.storage
        k = max(s.terms - 1, 0) + s.products
        exact = (accumulator.fits(s.magnitude, q) & storage.fits(s.magnitude, q)) | (k == 0)
        growth = accumulator.growth(k)
        # Each term and each addition may underflow, and what that loses grows in the additions above.
        rounding = np.where(exact, 0.0, growth * s.magnitude + 2 * s.terms * accumulator.tiny * (1 + growth))
        e = s.error + rounding
        safe = s.magnitude + rounding <= accumulator.max
        if accumulator != storage:
            e, s = self._stored(x, e, s, exact)
        e = np.where(safe, _up(e, s.terms + 32), np.inf)
        return Budget(x, _bounded(x, e, storage), np.where(exact & (s.error == 0), q, 0.0), self.profile, s)

    def _stored(self, x: Floats, e: Floats, s: _Sum, exact: Floats) -> tuple[Floats, _Sum]:
        """The bound and the open sum after storage; e is the bound before it."""
        storage = self.profile.storage
        if s.parts > 1:
            growth = storage.growth(s.parts - 1)
            return e + np.where(exact, 0.0, growth * (s.stored + e) + s.parts * storage.tiny * (1 + growth)), s
        rounding = np.where(exact, 0.0, storage.rounding(abs(x) + 2 * e))
        return e + rounding, _Sum(s.terms, s.products, s.magnitude, s.error + rounding, 1, abs(x) + 2 * (e + rounding))

    def _rounded(self, x: Floats, error: Floats, q: Floats = 0.0, units: Floats = 1.0) -> Budget:
        """A closed result: propagated error, and `units` roundings of 2u in a row unless the exact result fits.

        What is rounded is the function of the engine's own arguments: at most |x| + 2 error.
        """
        storage = self.profile.storage
        fits = storage.fits(abs(x), q) & (error == 0)
        d = units * (2 * storage.u)
        rounding = np.where(fits | (units == 0), 0.0, d / (1 - d) * (abs(x) + 2 * error) + storage.tiny)
        return Budget(x, _bounded(x, _up(error + rounding), storage), np.where(fits, q, 0.0), self.profile)

    # Elementary functions. Each gives how much a function may differ between the exact argument and one within e of it.

    def exp(self) -> Budget:
        """|exp(a') - exp(a)| <= exp(x + e) (exp(e) - 1)."""
        with np.errstate(all="ignore"):
            top = np.exp(np.nextafter(self.x + self.e, np.inf)) + 4 * SMALLEST
            return self._rounded(np.exp(self.x), _times(top, np.expm1(self.e)), units=ULPS["exp"])

    def log(self) -> Budget:
        """|log a' - log a| <= -log(1 - e / (x - e)): unbounded where an argument may not be positive."""
        with np.errstate(all="ignore"):
            return self._rounded(np.log(self.x), self._log_error(self.x), units=ULPS["log"])

    def log1p(self) -> Budget:
        """As log, at 1 + x."""
        with np.errstate(all="ignore"):
            error = self._log_error(np.nextafter(1 + self.x, -np.inf))
            return self._rounded(np.log1p(self.x), error, units=ULPS["log1p"])

    def _log_error(self, argument: Floats) -> Floats:
        ratio = _up(self.e / np.maximum(argument - self.e, SMALLEST))
        return np.where(self.e == 0, 0.0, np.where(ratio < 1, -np.log1p(-np.minimum(ratio, 1)), np.inf))

    def sqrt(self) -> Budget:
        """|sqrt a' - sqrt a| <= e / (sqrt(x - e) + sqrt(x - 2e)): unbounded where an argument may be negative."""
        with np.errstate(all="ignore"):
            low = self.x - 2 * self.e
            error = _times(self.e, 1 / (np.sqrt(self.x - self.e) + np.sqrt(low)))
            return self._rounded(np.sqrt(self.x), np.where((low >= 0) | (self.e == 0), error, np.inf))

    def tanh(self) -> Budget:
        """|tanh a' - tanh a| <= e / cosh(z)^2 = 4 e s(2z) s(-2z), z = max(|x| - 2e, 0)."""
        with np.errstate(all="ignore"):
            error = _times(self.e, 4 * _slope(2 * self._nearest_to_zero()))
            return self._rounded(np.tanh(self.x), error, units=ULPS["tanh"])

    def sigmoid(self) -> Budget:
        """y = 1 / (1 + E), E = exp(-x): E's error counts 1 - y of itself, sum and quotient one rounding each.

        |s(a') - s(a)| <= e s(z) s(-z), z = max(|x| - 2e, 0).
        """
        with np.errstate(all="ignore"):
            error = _times(self.e, _slope(self._nearest_to_zero()))
            return self._rounded(_sigmoid(self.x), error, units=ULPS["exp"] * _sigmoid(2 * self.e - self.x) + 2)

    def log_sigmoid(self) -> Budget:
        """y = min(x, 0) - L, L = log1p(E), E = exp(-|x|): E's relative error is at most the same in L; one addition.

        |log s(a') - log s(a)| <= e s(2e - x).
        """
        storage = self.profile.storage
        with np.errstate(all="ignore"):
            d = (ULPS["exp"] + ULPS["log1p"]) * (2 * storage.u)
            L = np.log1p(np.exp(-self._nearest_to_zero()) + 4 * SMALLEST)
            error = _times(self.e, _sigmoid(np.nextafter(2 * self.e - self.x, np.inf)) + 4 * SMALLEST)
            x = np.minimum(self.x, 0) - np.log1p(np.exp(-abs(self.x)))
            return self._rounded(x, error + d / (1 - d) * L + 2 * storage.tiny)

    def _nearest_to_zero(self) -> Floats:
        """The least size of an argument: max(|x| - 2e, 0), or less."""
        return np.maximum(np.nextafter(abs(self.x) - 2 * self.e, -np.inf), 0)

    def shift(self, axis: int) -> Budget:
        """The maximum as a value. An engine's own shift may differ by the largest error along the axis."""
        x = (self.x.max if self.shape[axis] else self.x.sum)(axis=axis, keepdims=True)
        e = self.e.max(axis=axis, keepdims=True, initial=0.0)
        return Budget(x, e, np.where(e == 0, grid(x), 0.0), self.profile)

    def largest(self, axis: int) -> Any:
        """The place of the largest value: any place will do."""
        return special.largest(self.x, axis)

    def __special__(self, name: str, *args: Any) -> Any:
        return self.constant(*args) if name == "lift" else getattr(self, name)(*args)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if not all(map(_is_operand, inputs)):
            return NotImplemented
        if method != "__call__" or kwargs:
            raise NoRule(
                f"np.{ufunc.__name__}" + (f".{method}" if method != "__call__" else f"({next(iter(kwargs))}=...)")
            )
        if ufunc not in UFUNCS:
            raise NoRule(f"np.{ufunc.__name__}")
        with np.errstate(all="ignore"):
            return UFUNCS[ufunc](*(self._lift(i) for i in inputs))

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if not all(issubclass(t, (Budget, np.ndarray)) for t in types):
            return NotImplemented
        if function not in FUNCTIONS:
            raise NoRule(f"{function.__module__.replace('numpy', 'np', 1)}.{function.__name__}")
        return FUNCTIONS[function](*args, **kwargs)


def _is_operand(value: Any) -> bool:
    return isinstance(value, (Budget, np.ndarray, np.generic, int, float, Fraction))


def _sigmoid(z: Floats) -> Floats:
    """1 / (1 + exp(-z)) without overflow."""
    E = np.exp(-abs(z))
    return np.where(z < 0, E, 1) / (1 + E)


def _slope(z: Floats) -> Floats:
    """s(z) s(-z) or more, for z >= 0."""
    E = np.exp(-z)
    return (E + 4 * SMALLEST) / ((1 + E) * (1 + E))


def _bounded(x: Floats, e: Floats, f: Format) -> Floats:
    """No bound holds where a right evaluation may overflow, or where this one did."""
    return np.where(abs(x) + 2 * e <= f.max, e, np.inf)


def _moved(f: Callable[..., Floats], *budgets: Budget) -> Budget:
    """Elements moved about by f: values, bounds, grids and open sums alike."""
    x, e, q = (f(*(getattr(b, name) for b in budgets)) for name in ("x", "e", "q"))
    if all(b._sum is None for b in budgets):
        return Budget(x, e, q, budgets[0].profile)
    sums = [b._as_sum() for b in budgets]
    magnitude, error, stored = (f(*(getattr(s, name) for s in sums)) for name in ("magnitude", "error", "stored"))
    terms, products, parts = max(s.terms for s in sums), any(s.products for s in sums), max(s.parts for s in sums)
    return Budget(x, e, q, budgets[0].profile, _Sum(terms, products, magnitude, error, parts, stored))


def _as_constant(x: Floats, converted: Floats, f: Format) -> tuple[Floats, Floats, Floats]:
    """Value, bound and grid of a constant to which the binary64 number x is nearest, and equal where `converted`."""
    q = grid(x)
    exact = converted & f.fits(abs(x), q)
    return x, _bounded(x, np.where(exact, 0.0, f.rounding(x)), f), np.where(exact, q, 0.0)


@lru_cache(maxsize=1024)
def _constant(value: float | int | Fraction, f: Format) -> tuple[Floats, Floats, Floats]:
    x = np.asarray(float(value), np.float64)
    arrays = _as_constant(x, bool(math.isfinite(x)) and Fraction(float(x)) == value, f)
    for array in arrays:
        array.flags.writeable = False
    return arrays


def _add(a: Budget, b: Budget, sign: int = 1) -> Budget:
    x = a.x + b.x if sign > 0 else a.x - b.x
    q = np.minimum(a.q, b.q)
    if a._sum or b._sum:
        s, t = a._as_sum(), b._as_sum()
        both = (s.magnitude + t.magnitude, s.error + t.error, s.parts + t.parts, s.stored + t.stored)
        return a._contract(x, _Sum(s.terms + t.terms, s.products or t.products, *both), q)
    # Adding an exact zero rounds nothing.
    return a._rounded(x, a.e + b.e, q, units=np.where(np.isinf(a.q) | np.isinf(b.q), 0.0, 1.0))


def _multiply(a: Budget, b: Budget) -> Budget:
    """|a'b' - ab| <= |a| e_b + |b'| e_a."""
    error = _times(abs(a.x) + a.e, b.e) + _times(abs(b.x) + 2 * b.e, a.e)
    x = a.x * b.x
    return a._rounded(x, error, _grid_product(a.q, b.q), units=_scaling(x, error, _power(a) | _power(b), a.profile))


def _divide(a: Budget, b: Budget) -> Budget:
    """|a'/b' - a/b| <= (e_a + |a/b| e_b) / |b'|: unbounded where the divisor may be zero."""
    x = a.x / b.x
    low = abs(b.x) - 2 * b.e
    size = abs(a.x) + a.e
    top = a.e + _times(np.where(size == 0, 0.0, size / (abs(b.x) - b.e) + SMALLEST), b.e)
    error = np.where(low > 0, np.where(top == 0, 0.0, top / low + SMALLEST), np.inf)
    power = _power(b)
    q = np.where(np.isinf(a.q), np.inf, np.where(power, a.q / abs(np.where(power, b.x, 1)), 0.0))
    return a._rounded(x, error, q, units=_scaling(x, error, power, a.profile))


def _power(a: Budget) -> Floats:
    """Where the element is exactly a power of two."""
    return (a.e == 0) & (abs(np.frexp(a.x)[0]) == 0.5)


def _scaling(x: Floats, error: Floats, power: Floats, profile: Profile) -> Floats:
    """Units of rounding of a product or quotient: none where one factor is a power of two and nothing can underflow."""
    return np.where(power & (abs(x) - 2 * error >= profile.storage.tiny), 0.0, 1.0)


def _factors(a: Budget) -> Floats:
    """The error of the factors of a contraction, with what rounding them to the engine's product format adds."""
    f = a.profile.product
    if f == a.profile.storage:
        return a.e
    return _bounded(a.x, a.e + np.where(f.fits(abs(a.x), a.q), 0.0, f.rounding(abs(a.x) + 2 * a.e)), f)


def _contraction(a: Budget, b: Budget, product: Callable[[Floats, Floats], Floats], terms: int, q: Floats) -> Budget:
    """A sum of products: |a'b' - ab| <= |a| e_b + |b'| e_a in each."""
    ea, eb = _factors(a), _factors(b)
    finite_a, finite_b = np.isfinite(ea), np.isfinite(eb)
    if finite_a.all() and finite_b.all():
        unbounded: Floats = False
    else:
        # An exact zero stays one whatever the other factor's bound; in a product of arrays 0 * inf would be NaN.
        (nonzero_a, lost_a), (nonzero_b, lost_b) = (
            (np.where(np.isinf(f.q), 0.0, 1.0), np.where(finite, 0.0, 1.0))
            for f, finite in ((a, finite_a), (b, finite_b))
        )
        unbounded = (product(lost_a, nonzero_b) + product(nonzero_a, lost_b)) > 0
        ea, eb = np.where(finite_a, ea, 0.0), np.where(finite_b, eb, 0.0)
    x = product(a.x, b.x)
    size_a, size_b = abs(a.x), abs(b.x)
    error = product(size_a + ea, eb) + product(ea, size_b + 2 * eb)
    magnitude = product(size_a + 2 * ea, size_b + 2 * eb)
    error, magnitude = np.where(unbounded, np.inf, error), np.where(unbounded, np.inf, magnitude)
    return a._contract(x, _Sum(terms, True, magnitude, error, 1, magnitude), q)


def _matmul(a: Budget, b: Budget) -> Budget:
    left, right = a.q.min(axis=-1, initial=np.inf), b.q.min(axis=-2 if b.ndim > 1 else -1, initial=np.inf)
    if a.ndim > 1 and b.ndim > 1:
        left, right = left[..., :, None], right[..., None, :]
    return _contraction(a, b, np.matmul, a.shape[-1], _grid_product(left, right))


def _einsum(subscripts: str, *operands: Any) -> Budget:
    first = next(o for o in operands if isinstance(o, Budget))
    factors = [first._lift(o) for o in operands]
    inputs, _, output = subscripts.replace(" ", "").partition("->")
    letters = inputs.split(",")
    if "->" not in subscripts or "." in subscripts or len(factors) > 2 or any(len(set(t)) < len(t) for t in letters):
        expected = "'->', no '...', no index twice in one operand, and at most two operands"
        raise TypeError(f"np.einsum: expected {expected}, got {subscripts!r}")
    sizes = {c: n for term, f in zip(letters, factors, strict=True) for c, n in zip(term, f.shape, strict=True)}
    terms = math.prod(n for c, n in sizes.items() if c not in output)

    def product(*arrays: Floats) -> Floats:
        return np.einsum(subscripts, *arrays)

    grids = [f.q.min(initial=np.inf) for f in factors]
    q = np.full([sizes[c] for c in output], grids[0] if len(grids) == 1 else _grid_product(*grids))
    if len(factors) == 1:
        return first._total(product, terms, q)
    return _contraction(factors[0], factors[1], product, terms, q)


def _comparison(ufunc: np.ufunc) -> Callable[[Budget, Budget], Any]:
    """Decided where exact values and all evaluations compare alike: further apart than twice the bounds."""

    def compare(a: Budget, b: Budget) -> Any:
        e = a.e + b.e
        close = ~(abs(a.x - b.x) > _up(2 * e)) & (e > 0)
        if close.any():
            count = f"{int(close.sum())} of {close.size} elements"
            raise Undecided(
                f"np.{ufunc.__name__}: expected values further apart than their budgets, got {count} closer"
            )
        return ufunc(a.x, b.x)

    return compare


def _where(condition: Any, a: Any, b: Any) -> Budget:
    like = a if isinstance(a, Budget) else b
    return _moved(lambda v, w: np.where(condition, v, w), like._lift(a), like._lift(b))


def _concatenate(arrays: Sequence[Any], axis: int = 0) -> Budget:
    like = next(a for a in arrays if isinstance(a, Budget))
    return _moved(lambda *parts: np.concatenate(parts, axis), *(like._lift(a) for a in arrays))


def _pad(a: Budget, width: Any) -> Budget:
    padded = _moved(lambda v: np.pad(v, width), a)
    padded.q = np.pad(a.q, width, constant_values=np.inf)
    return padded


UFUNCS: dict[np.ufunc, Callable[..., Any]] = {
    np.add: _add,
    np.subtract: lambda a, b: _add(a, b, -1),
    np.negative: lambda a: Budget(-a.x, a.e.copy(), a.q.copy(), a.profile, a._sum),
    np.multiply: _multiply,
    np.divide: _divide,
    np.matmul: _matmul,
    np.exp: Budget.exp,
    np.log: Budget.log,
    np.log1p: Budget.log1p,
    np.sqrt: Budget.sqrt,
    np.tanh: Budget.tanh,
    **{f: _comparison(f) for f in (np.greater, np.greater_equal, np.less, np.less_equal, np.equal, np.not_equal)},
}

FUNCTIONS: dict[Any, Callable[..., Any]] = {
    np.where: _where,
    np.sum: Budget.sum,
    np.expand_dims: lambda a, axis: _moved(lambda v: np.expand_dims(v, axis), a),
    np.reshape: Budget.reshape,
    np.broadcast_to: lambda a, shape: _moved(lambda v: np.broadcast_to(v, shape), a),
    np.concatenate: _concatenate,
    np.pad: _pad,
    np.einsum: _einsum,
    np.ndim: lambda a: a.ndim,
    np.shape: lambda a: a.shape,
    np.copy: Budget.copy,
    sliding_window_view: lambda a, window, axis=None: _moved(lambda v: sliding_window_view(v, window, axis), a),
}
