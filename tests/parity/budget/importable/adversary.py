"""An engine in rational numbers that rounds as badly as the model of rounding lets it.

`Case.share` runs an expression on it and says which part of the budget it uses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from flint import arb, ctx

from parity.budget.array import Budget, Profile
from parity.budget.formats import FORMATS, ULPS, Format
from parity.truth import ball
from refnet.arithmetic import special


class OverflowsError(Exception):
    pass


def quantum(v: Fraction, f: Format) -> Fraction:
    """The spacing of the format's numbers at v."""
    n, d = abs(v.numerator), v.denominator
    exponent = n.bit_length() - d.bit_length()
    if abs(v) < Fraction(2) ** exponent:
        exponent -= 1
    return Fraction(2) ** (max(exponent, f.min_exponent) - f.precision + 1)


def function(name: str, v: Fraction) -> Fraction:
    before, ctx.prec = ctx.prec, 400
    try:
        y = getattr(arb(v.numerator) / v.denominator, name)()
        if not y.is_finite():
            raise OverflowsError
        m, e = map(int, y.mid().man_exp())
        if m.bit_length() + e > 2000:
            raise OverflowsError
        return Fraction(m) * Fraction(2) ** e if m.bit_length() + e > -2000 else Fraction(0)
    finally:
        ctx.prec = before


CITED = dict(ULPS)
MODES = ("nearest", "up", "down", "out", "in", "random")


@dataclass
class Machine:
    """Formats, a direction of rounding, whether products are fused and results flushed; the order of sums is random."""

    profile: Profile
    mode: str = "nearest"
    fma: bool = False
    flush: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)

    def sign(self, v: Fraction) -> int:
        outward = 1 if v > 0 else -1
        return {"nearest": 0, "up": 1, "down": -1, "out": outward, "in": -outward}.get(
            self.mode, int(self.random.integers(2)) * 2 - 1
        )

    def fl(self, v: Fraction, f: Format | None = None) -> Fraction:
        f = f or self.profile.storage
        if v == 0:
            return v
        q = quantum(v, f)
        down = v // q * q
        if down == v:
            rounded = v
        elif (sign := self.sign(v)) == 0:
            rounded = round(v / q) * q
        else:
            rounded = down + q if sign > 0 else down
        if abs(rounded) > Fraction(f.max):
            raise OverflowsError
        return Fraction(0) if self.flush and abs(rounded) < Fraction(2) ** f.min_exponent else rounded

    def function(self, name: str, v: Fraction, factor: Fraction = Fraction(1)) -> Fraction:
        """Up to ULPS off, where the mode lets it, from the function times a factor."""
        y = function(name, v) * factor
        unit = quantum(y, self.profile.storage) if y else Fraction(0)
        for steps in range(CITED.get(name, 1) - 1, -1, -1):
            rounded = self.fl(y + self.sign(y) * steps * unit)
            if (
                abs(rounded - y) <= CITED.get(name, 1) * unit
                or abs(y) < Fraction(2) ** self.profile.storage.min_exponent
            ):
                return rounded
        raise AssertionError(name)

    def total(self, terms: Sequence[Any]) -> Fraction:
        """A sum of numbers and of products (pairs), as a random tree; in the accumulator, then stored."""
        f = self.profile.accumulator
        left = list(terms)
        if not f.includes(self.profile.storage):
            left = [t if isinstance(t, tuple) else self.fl(t, f) for t in left]
        while len(left) > 1:
            i, j = self.random.choice(len(left), 2, replace=False)
            a, b = left[i], left[j]
            if isinstance(b, tuple):
                a, b = b, a
            if self.fma and isinstance(a, tuple):
                made = self.fl(a[0] * a[1] + self._product(b), f)
            else:
                made = self.fl(self._product(a) + self._product(b), f)
            left = [t for k, t in enumerate(left) if k not in (i, j)] + [made]
        whole = self._product(left[0]) if left else Fraction(0)
        return whole if f == self.profile.storage else self.fl(whole)

    def _product(self, term: Any) -> Fraction:
        return self.fl(term[0] * term[1], self.profile.accumulator) if isinstance(term, tuple) else term


class Number:
    """A stored number, or the terms of a sum that is not carried out yet."""

    def __init__(self, *terms: Any) -> None:
        self.terms = terms

    @property
    def is_open(self) -> bool:
        return len(self.terms) != 1 or isinstance(self.terms[0], tuple)


class Rounded(np.lib.mixins.NDArrayOperatorsMixin):
    """An array of Numbers on a Machine, behind NumPy's protocols."""

    def __init__(self, a: Any, machine: Machine) -> None:
        self.machine = machine
        a = np.asarray(a, object)
        self.a = filled(
            a.shape, (x if isinstance(x, Number) else Number(machine.fl(Fraction(float(x)))) for x in a.flat)
        )

    shape = property(lambda self: self.a.shape)
    ndim = property(lambda self: self.a.ndim)
    size = property(lambda self: self.a.size)
    mT = property(lambda self: Rounded(self.a.mT, self.machine))  # noqa: N815  NumPy's name

    def __getitem__(self, index: Any) -> Rounded:
        return Rounded(self.a[index], self.machine)

    def reshape(self, *shape: Any) -> Rounded:
        return Rounded(self.a.reshape(*shape), self.machine)

    def values(self) -> np.ndarray[Any, Any]:
        return np.asarray(filled(self.shape, map(self.close, self.a.flat)))

    def close(self, x: Number) -> Fraction:
        if x.is_open:
            x.terms = (self.machine.total(x.terms),)
        return x.terms[0]

    def each(self, f: Callable[..., Any], *arrays: Any) -> Rounded:
        arrays = tuple(a if isinstance(a, Rounded) else Rounded(a, self.machine) for a in arrays)
        spread = np.broadcast_arrays(*(a.a for a in arrays))
        made = (Number(f(*map(self.close, xs))) for xs in zip(*(a.flat for a in spread), strict=True))
        return Rounded(filled(spread[0].shape, made), self.machine)

    def sum(self, axis: Any = None, keepdims: bool = False) -> Rounded:
        axes = tuple(range(self.ndim)) if axis is None else tuple(np.atleast_1d(axis).tolist())
        return Rounded(self.merged(self.a, axes, keepdims), self.machine)

    def merged(self, a: Any, axes: tuple[int, ...], keepdims: bool = False) -> Any:
        axes = tuple(x % a.ndim for x in axes)
        moved = np.moveaxis(a, axes, range(-len(axes), 0)) if axes else a[..., None]
        shape = moved.shape[: a.ndim - len(axes)]
        made = np.empty(shape, object)
        for index in np.ndindex(*shape):
            made[index] = Number(*(t for x in np.ravel(moved[index]) for t in x.terms))
        return made.reshape([1 if k in axes else n for k, n in enumerate(a.shape)]) if keepdims else made

    def add(self, a: Any, b: Any, sign: int = 1) -> Rounded:
        a, b = (v if isinstance(v, Rounded) else Rounded(v, self.machine) for v in (a, b))
        x, y = np.broadcast_arrays(a.a, b.a)
        made = np.empty(x.shape, object)
        for k, (s, t) in enumerate(zip(x.flat, y.flat, strict=True)):
            if sign < 0:
                t = Number(*((-v[0], v[1]) if isinstance(v, tuple) else -v for v in t.terms))
            if not s.is_open and not t.is_open:
                made.flat[k] = Number(self.machine.fl(s.terms[0] + t.terms[0]))
                continue
            # An engine may carry out a sum before it adds to it, or not.
            for v in (s, t):
                if self.machine.random.integers(2):
                    self.close(v)
            made.flat[k] = Number(*s.terms, *t.terms)
        return Rounded(made, self.machine)

    def product(self, subscripts: str, a: Any, b: Any) -> Rounded:
        factors = []
        for v in (a, b):
            stored = (v if isinstance(v, Rounded) else Rounded(v, self.machine)).values()
            factors.append(np.frompyfunc(lambda x: self.machine.fl(x, self.machine.profile.product), 1, 1)(stored))
        inputs, output = subscripts.split("->")
        first, second = inputs.split(",")
        sizes = dict(zip(first + second, factors[0].shape + factors[1].shape, strict=True))
        summed = [c for c in sizes if c not in output]
        made = np.empty([sizes[c] for c in output], object)
        for index in np.ndindex(*made.shape):
            terms = []
            for inner in np.ndindex(*(sizes[c] for c in summed)):
                at = dict(zip([*output, *summed], [*index, *inner], strict=True))
                terms.append((factors[0][tuple(at[c] for c in first)], factors[1][tuple(at[c] for c in second)]))
            made[index] = Number(*terms)
        return Rounded(made, self.machine)

    def __special__(self, name: str, *args: Any) -> Any:
        m = self.machine
        if name == "lift":
            return Rounded(args[0], m)
        if name == "shift":
            return Rounded(self.values().max(axis=args[0], keepdims=True), m)

        def sigmoid(x: Fraction) -> Fraction:
            try:
                return m.fl(1 / m.fl(1 + m.function("exp", -x)))
            except OverflowsError:
                return Fraction(0)

        def log_sigmoid(x: Fraction) -> Fraction:
            return m.fl(min(x, Fraction(0)) - m.function("log1p", m.function("exp", -abs(x))))

        def erf_derivative(x: Fraction) -> Fraction:
            constant = m.fl(Fraction(2 / math.sqrt(math.pi)))
            return m.fl(constant * m.function("exp", -m.fl(x * x)))

        def erfc(x: Fraction) -> Fraction:
            # Above 0 it may be exp(-x^2), with the square rounded, times the rest.
            return m.function("erfc", x, function("exp", x * x - m.fl(x * x)) if x > 0 else Fraction(1))

        if name == "maximum":
            return self.each(max, *args)
        if name == "amax":
            return Rounded(self.values().max(axis=args[0], keepdims=args[1]), m)
        if name == "gather":
            return Rounded(special.gather(args[0].a, args[1]), m)
        if name == "scatter":
            return self.scattered(*args)
        elementwise = {
            "sigmoid": sigmoid,
            "log_sigmoid": log_sigmoid,
            "erf": lambda x: m.function("erf", x),
            "erfc": erfc,
            "erf_derivative": erf_derivative,
        }
        return self.each(elementwise[name], self)

    def scattered(self, g: Any, index: Any, rows: int) -> Rounded:
        made = np.empty((rows, g.shape[-1]), object)
        for k, i in np.ndindex(*made.shape):
            places = np.flatnonzero(index == k)
            made[k, i] = Number(*(t for n in places for t in g.a[n, i].terms))
        return Rounded(made, self.machine)

    def running(self, axis: int) -> Rounded:
        """Each running sum is carried out on its own, in an order of its own."""
        moved = np.moveaxis(self.a, axis, -1)
        made = np.empty(moved.shape, object)
        for index in np.ndindex(*moved.shape):
            made[index] = Number(*(t for x in moved[index[:-1]][: index[-1] + 1] for t in x.terms))
        return Rounded(np.moveaxis(made, -1, axis), self.machine)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        m, name = self.machine, ufunc.__name__
        if name in ("add", "subtract"):
            return self.add(*inputs, sign=1 if name == "add" else -1)
        if name == "matmul":
            return self.product("ij,jk->ik", *inputs)
        if name == "negative":
            return self.each(lambda x: -x, *inputs)
        if name in ("greater", "less"):
            values = [v.values() if isinstance(v, Rounded) else v for v in inputs]
            return ufunc(*values).astype(bool)
        if name == "multiply":
            return self.each(lambda a, b: m.fl(a * b), *inputs)
        if name == "divide":
            return self.each(lambda a, b: m.fl(a / b), *inputs)
        if name == "absolute":
            return self.each(abs, *inputs)
        if name == "power":
            base, exponent = inputs[0], inputs[1]
            return self.each(lambda x: m.fl(self.by_products(x, exponent)), base)
        return self.each(lambda x: m.function(name, x), *inputs)

    def by_products(self, x: Fraction, exponent: int) -> Fraction:
        y = x
        for _ in range(abs(exponent) - 1):
            y = self.machine.fl(y * x)
        return y if exponent > 0 else 1 / y

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if function is np.sum:
            return Rounded.sum(*args, **kwargs)
        if function is np.einsum:
            return self.product(*args)
        if function is np.cumsum:
            return self.running(*args[1:], **kwargs)

        def inner(v: Any) -> Any:
            return [inner(x) for x in v] if isinstance(v, list) else v.a if isinstance(v, Rounded) else v

        return Rounded(function(*map(inner, args), **kwargs), self.machine)


def filled(shape: tuple[int, ...], elements: Iterable[Any]) -> Any:
    a = np.empty(shape, object)
    for k, x in enumerate(elements):
        a.flat[k] = x
    return a


@dataclass(frozen=True)
class Case:
    """An expression at inputs; `e` is how far exact inputs and those of an engine may be off."""

    f: Callable[..., Any]
    inputs: tuple[Any, ...]
    e: tuple[Any, ...] | None = None

    def budget(self, profile: Profile) -> Budget:
        errors = self.e or (None,) * len(self.inputs)
        result = self.f(*(Budget.exact(x, profile, e) for x, e in zip(self.inputs, errors, strict=True)))
        assert result.x.shape == result.e.shape == result.q.shape
        assert (result.e >= 0).all()
        assert (result.e[result.q > 0] == 0).all()
        return result

    def share(self, machine: Machine) -> float:
        """The largest part of its bound that an element of an evaluation on the machine uses."""
        with np.errstate(all="ignore"):
            bounded = self.budget(machine.profile)
        exact, engine = [], []
        for k, x in enumerate(self.inputs):
            e = np.broadcast_to(self.e[k], x.shape) if self.e else np.zeros(x.shape)
            signs = machine.random.integers(2, size=(2, x.size)) * 2 - 1
            true = [
                Fraction(float(v)) + int(s) * Fraction(float(d))
                for v, s, d in zip(x.flat, signs[0], e.flat, strict=True)
            ]
            own = [v + int(s) * Fraction(float(d)) for v, s, d in zip(true, signs[1], e.flat, strict=True)]
            exact.append(filled(x.shape, true))
            engine.append(Rounded(filled(x.shape, map(Number, own)), machine))
        with ball.precision(500):
            truth = ball.values(self.f(*map(ball.lift, exact)))
        try:
            got = self.f(*engine).values()
        except (OverflowsError, ZeroDivisionError):
            return 0.0 if np.isinf(bounded.e).any() else math.inf
        worst = 0.0
        for true, value, x, e in zip(truth.flat, got.flat, bounded.x.flat, bounded.e.flat, strict=True):
            with ball.precision(500):
                errors = [abs(float(ball.ball(Fraction(v)) - true)) for v in (value, float(x)) if math.isfinite(v)]
            for error in errors if math.isfinite(e) else []:
                worst = max(worst, error / float(e) if e else math.inf * error if error else 0.0)
        return worst


def machines(profile: Profile, count: int) -> Iterator[Machine]:
    for seed in range(count):
        for mode in MODES:
            yield Machine(profile, mode, fma=seed % 2 == 1, flush=seed % 4 in (1, 2), seed=seed)


def largest(case: Case, profile: Profile, count: int = 4) -> float:
    return max(case.share(machine) for machine in machines(profile, count))


PROFILES = {
    "float64": Profile.of("float64"),
    "float32": Profile.of("float32"),
    "bfloat16": Profile.of("bfloat16"),
    "float16": Profile.of("float16"),
    "bfloat16 in float32": Profile.of("bfloat16", accumulator="float32"),
    "float16 in float32": Profile.of("float16", accumulator="float32"),
    "float64 in float32": Profile.of("float64", accumulator="float32"),
    "float32 by tf32": Profile.of("float32", product="tf32"),
    "float32 by bfloat16": Profile.of("float32", product="bfloat16"),
}


def draw(seed: int, profile: Profile, *shape: int, low: int = -3, high: int = 2) -> Any:
    """Numbers with full significands of the storage format, of both signs."""
    random = np.random.default_rng(seed)
    p = profile.storage.precision
    whole = random.integers(2 ** (p - 1), 2**p, shape).astype(np.float64)
    return np.ldexp(whole, random.integers(low, high, shape) - p) * random.choice([-1, 1], shape)


F64, F32 = PROFILES["float64"], PROFILES["float32"]
ULP = 2.0**-52
TINY = FORMATS["float64"].tiny


def case(f: Callable[..., Any], *inputs: Any, e: Any = None) -> Case:
    return Case(f, tuple(np.asarray(x, np.float64) for x in inputs), None if e is None else (e,) * len(inputs))
