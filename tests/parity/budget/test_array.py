"""The budget model against an adversary: an engine in rational numbers that rounds as badly as the model lets it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import hypothesis
import numpy as np
import pytest
from flint import arb, ctx
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view

from parity.budget import array
from parity.budget.array import FORMATS, FUNCTIONS, UFUNCS, ULPS, Budget, Format, NoRule, Profile, grid
from parity.records.record import Undecided
from parity.truth import ball
from refnet.arithmetic import functions, special

# ---- an engine that computes under the model: Fractions, rounded after every operation


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

    def function(self, name: str, v: Fraction) -> Fraction:
        """Up to ULPS off, where the mode lets it."""
        y = function(name, v)
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

        return self.each({"sigmoid": sigmoid, "log_sigmoid": log_sigmoid}[name], self)

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
        return self.each(lambda x: m.function(name, x), *inputs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if function is np.sum:
            return Rounded.sum(*args, **kwargs)
        if function is np.einsum:
            return self.product(*args)

        def inner(v: Any) -> Any:
            return [inner(x) for x in v] if isinstance(v, list) else v.a if isinstance(v, Rounded) else v

        return Rounded(function(*map(inner, args), **kwargs), self.machine)


# ---- the property: no evaluation is further from the exact result than its bound


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
    "float32 by tf32": Profile.of("float32", product="tf32"),
    "float32 by bfloat16": Profile.of("float32", product="bfloat16"),
}


def draw(seed: int, profile: Profile, *shape: int, low: int = -3, high: int = 2) -> Any:
    """Numbers with full significands of the storage format, of both signs."""
    random = np.random.default_rng(seed)
    p = profile.storage.precision
    whole = random.integers(2 ** (p - 1), 2**p, shape).astype(np.float64)
    return np.ldexp(whole, random.integers(low, high, shape) - p) * random.choice([-1, 1], shape)


def normalized(x: Any) -> Any:
    d = x - np.sum(x, axis=-1, keepdims=True) / x.shape[-1]
    return d / np.sqrt(np.sum(d * d, axis=-1, keepdims=True) / x.shape[-1] + special.lift(1e-5, x))


def softmax(x: Any) -> Any:
    e = np.exp(x - special.shift(x, -1))
    return e / np.sum(e, axis=-1, keepdims=True)


EXPRESSIONS: dict[str, Callable[..., Any]] = {
    "add": lambda x, y: x + y,
    "subtract": lambda x, y: x - y,
    "multiply": lambda x, y: x * y,
    "divide": lambda x, y: x / y,
    "constants": lambda x, y: 0.1 * x - y / 3 + 0.25,
    "scaling": lambda x, y: 0.5 * (x * y) / 8,
    "polynomial": lambda x, y: (x * x - 2 * x * y + y * y) * (x - y),
    "matmul": lambda x, y: x @ y.mT,
    "affine": lambda x, y: x @ y.mT + y[:, 0],
    "two products": lambda x, y: x @ y.mT + y @ x.mT + x[:, :1] - y[0, 0],
    "sum of products": lambda x, y: (x @ y.mT).sum(axis=-1) + np.sum(x, axis=-1),
    "rearranged": lambda x, y: (x @ y.mT).reshape(-1)[1:] + np.expand_dims(x @ y.mT, 0).mT[0, :, 0].reshape(-1)[:1],
    "padded": lambda x, y: np.pad(x @ y.mT, 1) + np.pad(y @ y.mT, 1) + np.pad(x @ x.mT, 1),
    "concatenated": lambda x, y: np.concatenate([x @ y.mT, x[:, :1] + y[:, :1]], axis=-1) + y[:, :1],
    "where": lambda x, y: np.where(x[:, :1] > 0, x @ y.mT, y @ x.mT) + np.where(y[:1, :1] < 0, x, y)[:, :1],
    "broadcast": lambda x, y: np.broadcast_to(np.sum(x, axis=-2), x.shape) + y,
    "einsum": lambda x, y: np.einsum("ij,kj->ik", x, y) + np.einsum("ij,ij->i", x, y),
    "windows": lambda x, y: np.sum(sliding_window_view(x * y, 2, axis=-1), axis=-1),
    "elementary": lambda x, y: np.exp(x) * np.tanh(y) + np.log1p(x * x) - np.log(y * y + 1) / np.sqrt(x * x + y * y),
    "sigmoid": lambda x, y: special.sigmoid(x * y) * (1 - special.sigmoid(x)) + special.log_sigmoid(8 * y),
    "softmax": lambda x, y: softmax(x * y),
    "normalized": lambda x, y: normalized(x) * y,
}


PLAIN, MIXED = list(PROFILES)[:4], list(PROFILES)[4:]
ELEMENTWISE = ("add", "subtract", "multiply", "divide", "constants", "scaling", "polynomial", "elementary", "sigmoid")


@pytest.mark.parametrize(
    ("name", "profile"),
    [(name, profile) for name in EXPRESSIONS for profile in PLAIN]
    + [(name, profile) for name in EXPRESSIONS if name not in ELEMENTWISE for profile in MIXED],
)
def test_every_evaluation_lies_within_the_bound(name: str, profile: str) -> None:
    p = PROFILES[profile]
    case = Case(EXPRESSIONS[name], (draw(1, p, 2, 3), draw(2, p, 2, 3)))
    assert 0 < largest(case, p, 2) <= 1


# ---- no constant is larger than it has to be: inputs at which an evaluation uses most of its bound

F64, F32 = PROFILES["float64"], PROFILES["float32"]
ULP = 2.0**-52
TINY = FORMATS["float64"].tiny


def case(f: Callable[..., Any], *inputs: Any, e: Any = None) -> Case:
    return Case(f, tuple(np.asarray(x, np.float64) for x in inputs), None if e is None else (e,) * len(inputs))


ROUNDING: dict[str, tuple[Case, Profile]] = {
    "add": (case(lambda x, y: x + y, 1.0, 2.0**-60), F64),
    "subtract": (case(lambda x, y: x - y, 1.0, -(2.0**-60)), F64),
    "multiply": (case(lambda x, y: x * y, 1 + ULP, 1 + ULP), F64),
    "divide": (case(lambda x, y: x / y, 1 + 3 * ULP, 1 + 2 * ULP), F64),
    "reciprocal": (case(lambda x: 1 / x, 1 - ULP), F64),
    "sqrt": (case(np.sqrt, 1 + 2 * ULP), F64),
    "exp": (case(np.exp, 2.0**-30), F64),
    "log": (case(np.log, math.e + 1e-9), F64),
    "log1p": (case(np.log1p, math.e - 1 + 1e-9), F64),
    "tanh": (case(np.tanh, math.atanh(0.5) + 1e-9), F64),
    "sigmoid": (case(special.sigmoid, [-k * math.log(2) - 1e-9 for k in range(55, 60)]), F64),
    "sigmoid near 1": (case(special.sigmoid, np.linspace(30, 40, 10)), F64),
    "log_sigmoid": (case(special.log_sigmoid, [k * math.log(2) - 1e-9 for k in range(40, 50)]), F64),
    "log_sigmoid of -x": (case(special.log_sigmoid, np.linspace(-40, -30, 10)), F64),
    "constant": (case(lambda x: x * (1 + 2.0**-30), 1.0), F32),
    "sum": (case(np.sum, [1.0, 2.0**-60, 2.0**-60]), F64),
    "matmul of 1": (case(lambda x, y: x @ y, [[1 + ULP]], [[1 + ULP]]), F64),
    "matmul of 2": (case(lambda x, y: x @ y, [[1 + ULP, 1 + ULP]], [[1 + ULP], [2.0**-60]]), F64),
    "bias": (case(lambda x, y, b: x @ y + b, [[1 + ULP]], [[1 + ULP]], 2.0**-60), F64),
    "einsum": (case(lambda x, y: np.einsum("i,i->i", x, y), [1 + ULP], [1 + ULP]), F64),
    "storage": (case(lambda x, y: x @ y, [[1.0, 2.0**-20]], [[1.0], [1.0]]), PROFILES["bfloat16 in float32"]),
    "addition to what is stored": (
        case(lambda x, y: x @ y + y, [[1.0, 2.0**-20]], [[1.0], [1.0]]),
        PROFILES["bfloat16 in float32"],
    ),
    "factors": (case(lambda x, y: x @ y, [[1 + 2.0**-20]], [[1 + 2.0**-20]]), PROFILES["float32 by tf32"]),
    "underflow of a product": (case(lambda x, y: x * y, 1.9 * 2.0**-511, 0.52 * 2.0**-511), F64),
    "underflow of exp": (case(np.exp, [-708.4, -720.0]), F64),
    "underflow of a sum": (case(np.sum, [1.99 * TINY, -TINY]), F64),
    "underflow in float16": (case(lambda x, y: x / y, 2047 / 2048 * 2.0**-10, 16.0), PROFILES["float16"]),
}
LOOSE = {"underflow of a sum": 0.2}
"""A sum is granted an underflow for each term and each addition; here one of them underflows."""

E = 2.0**-20
PROPAGATION: dict[str, tuple[Case, Profile]] = {
    "add": (case(lambda x, y: x - y, [1.0] * 9, [3.0] * 9, e=E), F64),
    "multiply": (case(lambda x, y: x * y, [1.5] * 9, [-3.0] * 9, e=E), F64),
    "divide": (case(lambda x, y: x / y, [1.5] * 9, [-3.0] * 9, e=E), F64),
    "divide by much": (case(lambda x, y: x / y, [1.5] * 9, [0.1] * 9, e=0.01), F64),
    "exp": (case(np.exp, [1.0, -5.0] * 4, e=E), F64),
    "exp far": (case(np.exp, [-2.0] * 9, e=0.2), F64),
    "log": (case(np.log, [0.5, 3.0] * 4, e=E), F64),
    "log near 0": (case(np.log, [0.1] * 9, e=0.03), F64),
    "log1p": (case(np.log1p, [0.5, -0.7] * 4, e=E), F64),
    "log1p near -1": (case(np.log1p, [-0.9] * 9, e=0.03), F64),
    "sqrt": (case(np.sqrt, [0.5, 3.0] * 4, e=E), F64),
    "sqrt near 0": (case(np.sqrt, [0.1] * 9, e=0.04), F64),
    "tanh": (case(np.tanh, [0.0, 0.5, -2.0] * 4, e=E), F64),
    "tanh far": (case(np.tanh, [1.5] * 9, e=0.2), F64),
    "sigmoid": (case(special.sigmoid, [0.0, 3.0, -3.0] * 4, e=E), F64),
    "sigmoid far": (case(special.sigmoid, [-3.0] * 9, e=0.5), F64),
    "log_sigmoid": (case(special.log_sigmoid, [0.0, 3.0, -3.0] * 4, e=E), F64),
    "log_sigmoid far": (case(special.log_sigmoid, [4.0] * 9, e=0.5), F64),
    "sum": (case(lambda x: np.sum(x, axis=-1), [[1.0, -2.0]] * 9, e=E), F64),
    "matmul": (case(lambda x, y: x @ y, [[1.5, 0.5]] * 9, [[-3.0] * 9, [2.0] * 9], e=E), F64),
    "where": (case(lambda x: np.where(x > 0, x, -x), [1.0, -1.0] * 4, e=E), F64),
}


def used(rule: tuple[Case, Profile]) -> float:
    return largest(*rule, 4)


@pytest.mark.parametrize("name", ROUNDING)
def test_rounding_can_use_most_of_what_it_is_granted(name: str) -> None:
    assert LOOSE.get(name, 0.45) < used(ROUNDING[name]) <= 1


@pytest.mark.parametrize("name", PROPAGATION)
def test_errors_of_inputs_can_grow_to_nearly_the_bound(name: str) -> None:
    assert 0.6 < used(PROPAGATION[name]) <= 1


# ---- each rule is needed: a budget without it, or with half of it, is exceeded


def halved(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args: f(*args) / 2


def with_half_the_units(self: Budget, x: Any, error: Any, q: Any = 0.0, units: Any = 1.0) -> Budget:
    return right_rounded(self, x, error, q, units / 2)


right_rounded, right_contract, right_divide = Budget._rounded, Budget._contract, UFUNCS[np.divide]

FAULTS: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], dict[str, tuple[Case, Profile]], tuple[str, ...]]] = {
    "half of every rounding": (
        lambda m: m.setattr(Budget, "_rounded", with_half_the_units),
        ROUNDING,
        ("add", "subtract", "multiply", "divide", "reciprocal", "sqrt", "exp", "log", "log1p", "tanh", "sigmoid"),
    ),
    **{
        f"half the ULPS of {name}": (lambda m, n=name: m.setitem(ULPS, n, ULPS[n] / 2), ROUNDING, rules)
        for name, rules in {"exp": ("exp", "sigmoid"), "log": ("log",), "log1p": ("log1p",), "tanh": ("tanh",)}.items()
    },
    "half the ULPS under a log_sigmoid": (
        lambda m: [m.setitem(ULPS, n, ULPS[n] / 2) for n in ("exp", "log1p")] and None,
        ROUNDING,
        ("log_sigmoid",),
    ),
    "half the growth": (lambda m: m.setattr(Format, "growth", halved(Format.growth)), ROUNDING, ("sum", "matmul of 1")),
    "a sum of n has n - 2 additions": (
        lambda m: m.setattr(Format, "growth", lambda f, k, right=Format.growth: right(f, k - 1)),
        ROUNDING,
        ("sum", "bias"),
    ),
    "products are exact": (
        lambda m: m.setattr(
            Budget, "_contract", lambda b, x, s, q: right_contract(b, x, replace(s, products=False), q)
        ),
        ROUNDING,
        ("matmul of 1", "einsum"),
    ),
    "results are not stored": (
        lambda m: m.setattr(Budget, "_stored", lambda b, x, e, s, exact: (e, s)),
        ROUNDING,
        ("storage", "addition to what is stored"),
    ),
    "factors keep their bits": (lambda m: m.setattr(array, "_factors", lambda a: a.e), ROUNDING, ("factors",)),
    "constants are exact": (
        lambda m: m.setattr(array, "_constant", lambda v, f: (np.float64(v), np.float64(0), np.float64(0))),
        ROUNDING,
        ("constant",),
    ),
    "nothing underflows": (
        lambda m: m.setattr(Format, "tiny", property(lambda f: 0.0)),
        ROUNDING,
        ("underflow of a product", "underflow of exp", "underflow of a sum", "underflow in float16"),
    ),
    "half of every product of bounds": (
        lambda m: m.setattr(array, "_times", halved(array._times)),
        PROPAGATION,
        ("multiply", "exp", "sqrt", "tanh", "sigmoid", "log_sigmoid"),
    ),
    "half of a logarithm's error": (
        lambda m: m.setattr(Budget, "_log_error", halved(Budget._log_error)),
        PROPAGATION,
        ("log", "log1p"),
    ),
    "divisors are exact": (
        lambda m: m.setitem(UFUNCS, np.divide, lambda a, b: right_divide(a, Budget(b.x, 0 * b.e, b.q, b.profile))),
        PROPAGATION,
        ("divide", "divide by much"),
    ),
    "slopes are taken at x": (
        lambda m: m.setattr(Budget, "_nearest_to_zero", lambda b: abs(b.x)),
        PROPAGATION,
        ("tanh far", "sigmoid far"),
    ),
    "a contraction's terms are exact": (
        lambda m: m.setattr(
            Budget, "_contract", lambda b, x, s, q: right_contract(b, x, replace(s, error=0 * s.error), q)
        ),
        PROPAGATION,
        ("sum", "matmul"),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_weakened_rule_is_exceeded(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    patch, table, rules = FAULTS[fault]
    patch(monkeypatch)
    assert {name: used(table[name]) > 1 for name in rules} == dict.fromkeys(rules, True)


TREES = st.recursive(
    st.tuples(st.just("leaf"), st.integers(0, 2)),
    lambda below: st.one_of(
        st.tuples(st.sampled_from(["add", "subtract", "multiply", "divide"]), below, below),
        st.tuples(st.sampled_from(["exp", "log1p", "tanh", "sqrt", "sigmoid", "log_sigmoid", "log"]), below),
    ),
    max_leaves=8,
)


def grown(tree: Any, leaves: Sequence[Any]) -> Any:
    """The tree as an expression; arguments are squared where a function needs them positive."""
    name, *below = tree
    if name == "leaf":
        return leaves[below[0]]
    arguments = [grown(b, leaves) for b in below]
    if name in ("sqrt", "log1p", "log"):
        arguments = [arguments[0] * arguments[0]]
    return getattr(special, name)(*arguments) if "sigmoid" in name else getattr(np, name)(*arguments)


@hypothesis.settings(max_examples=300, deadline=None, derandomize=True, database=None)
@hypothesis.given(
    tree=TREES,
    seed=st.integers(0, 2**16),
    spread=st.sampled_from([2, 10, 60]),
    mode=st.sampled_from(MODES),
    profile=st.sampled_from(["float64", "float32", "float16"]),
)
def test_every_evaluation_of_any_expression(tree: Any, seed: int, spread: int, mode: str, profile: str) -> None:
    p = PROFILES[profile]
    if profile == "float16":
        spread = min(spread, 6)
    inputs = tuple(draw(seed + k, p, 2, low=-spread, high=spread) for k in range(3))
    machine = Machine(p, mode, flush=seed % 2 == 1, seed=seed)
    assert Case(lambda *leaves: grown(tree, leaves), inputs).share(machine) <= 1


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", EXPRESSIONS)
def test_numpy_stays_well_within_the_bound(name: str, dtype: str) -> None:
    p, f = Profile.of(dtype), EXPRESSIONS[name]
    inputs = [draw(k, p, 8, 8) for k in (3, 4)]
    with ball.precision(300):
        truth = ball.values(f(*map(ball.lift, inputs)))
        got = f(*(x.astype(dtype) for x in inputs))
        assert got.dtype == dtype
        error = [abs(float(ball.ball(float(v)) - true)) for v, true in zip(got.flat, truth.flat, strict=True)]
    bound = f(*(Budget.exact(x, p) for x in inputs)).e.ravel()
    shares = [off / e if e else math.inf * off if off else 0.0 for off, e in zip(error, bound, strict=True)]
    assert 0 < max(shares) < 0.8


# ---- exactness


GRID = {
    "affine": lambda x, y: x @ y.mT + y[:, 0],
    "squares": lambda x, y: np.sum((x - y) * (x - y)) / 4,
    "windows": lambda x, y: np.sum(sliding_window_view(np.pad(x * y, 1), (2, 2), axis=(-2, -1)), axis=(-2, -1)),
    "step": lambda x, y: x - 0.25 * (0.5 * y + x),
    "where": lambda x, y: np.where(x > y, x, 0) @ y.mT,
}


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", GRID)
def test_on_a_grid_every_evaluation_has_the_same_bits(name: str, profile: str) -> None:
    random = np.random.default_rng(5)
    case = Case(GRID[name], tuple(random.integers(-4, 5, (2, 3)) / 4 for _ in range(2)))
    result = case.budget(PROFILES[profile])
    assert not result.e.any()
    assert {case.share(machine) for machine in machines(PROFILES[profile], 3)} == {0.0}


def test_numpy_sums_on_a_grid_in_any_order_with_the_same_bits() -> None:
    random = np.random.default_rng(0)
    x = (random.integers(-128, 129, (50, 100)) / 64).astype(np.float32)
    assert not np.sum(Budget.exact(x, F32), axis=-1).e.any()
    assert len({random.permuted(x, axis=-1).sum(axis=-1).tobytes() for _ in range(20)}) == 1


BOUNDARY = case(np.sum, [2.0**53 - 1, 1.0])
ABOVE = case(np.sum, [2.0**53, 1.0])


def test_exactness_ends_with_the_significand() -> None:
    assert ABOVE.budget(F64).e > 0
    assert case(np.sum, [2.0**52, 2.0**52 - 1]).budget(F64).e == 0
    assert largest(BOUNDARY, F64, 2) <= 1
    assert largest(ABOVE, F64, 2) <= 1


def test_one_bit_more_is_not_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Format.fits
    monkeypatch.setattr(Format, "fits", lambda f, m, q: right(f, m / 2, q))
    assert largest(ABOVE, F64, 2) == math.inf


def test_exactness_ends_at_the_smallest_normal_number() -> None:
    """Below it results may be flushed, whatever grid they are on."""
    normal, below = case(lambda x: x - TINY, 3 * TINY), case(lambda x: x - 1.5 * TINY, 2.0 * TINY)
    assert normal.budget(F64).e == 0 < below.budget(F64).e
    assert largest(below, F64) <= 1


@pytest.mark.parametrize(
    "f", [lambda x: x / 3, np.exp, lambda x: x * 0.1, lambda x: x * x], ids=["third", "exp", "tenth", "square"]
)
def test_exactness_ends_where_bits_are_lost(f: Callable[..., Any]) -> None:
    result = f(Budget.exact(np.array([1 + 2.0**-30, 3.0]), F64))
    assert result.e[0] > 0
    assert result.q[0] == 0


def test_the_grid_of_a_number() -> None:
    x = np.array([1.0, -1.5, 6.0, 1 + ULP, 2.0**-1074, 0.0, -0.0, np.inf, np.nan])
    assert grid(x).tolist() == [1.0, 0.5, 2.0, ULP, 2.0**-1074, np.inf, np.inf, 0.0, 0.0]


def test_inputs_of_every_size_are_exact() -> None:
    """Numbers near and below the smallest normal one have full significands too, and are read as they are."""
    x = np.array([1e-300, 5e-324, np.finfo(float).max, -0.0])
    assert not Budget.exact(x, F64).e.any()
    assert not Budget.exact(np.float32([1e-38, 1e-45]), F32).e.any()


@pytest.mark.parametrize(
    ("value", "dtype"),
    [(0.1, "float32"), (1e39, "float32"), (2.0**-150, "float32"), (1 + 2.0**-8, "bfloat16"), (65520.0, "float16")],
)
def test_inputs_outside_the_format_are_refused(value: float, dtype: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"expected values of {dtype}, got {value!r}")):
        Budget.exact(np.array([1.0, value]), Profile.of(dtype))


# ---- where there is no bound


def test_no_bound_holds_where_an_evaluation_may_overflow() -> None:
    largest_number = FORMATS["float32"].max
    cases = {
        "sum": case(np.sum, [largest_number, largest_number, -largest_number]),
        "multiply": case(lambda x: x * x, 2.0**64),
        "exp": case(np.exp, np.float32(88.73)),
        "add": case(lambda x: x + x, largest_number),
        "matmul": case(lambda x: x @ x.mT, [[2.0**64, 2.0**64]]),
    }
    assert {name: float(c.budget(F32).e.max()) for name, c in cases.items()} == dict.fromkeys(cases, math.inf)
    assert {largest(c, F32) for c in cases.values()} == {0.0}
    assert np.isfinite(case(np.exp, np.float32(88.72)).budget(F32).e)


def test_factors_may_overflow_in_their_own_format() -> None:
    profile = Profile.of("float32", product="float16")
    bounds = (Budget.exact(np.array([[1e5, 1.0]], np.float32), profile) @ np.eye(2)).e
    assert bounds[0, 0] == np.inf


@pytest.mark.parametrize("x", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_has_no_finite_bound(x: float) -> None:
    bad, good = Budget.exact(np.array([[x, 1.0]]), F64), Budget.exact(np.array([[2.0, 0.5]]), F64)
    results = [f(bad) for f in (np.exp, np.log, np.log1p, np.sqrt, np.tanh, special.sigmoid, special.log_sigmoid)]
    results += [f(bad, good) for f in (np.add, np.subtract, np.multiply, np.divide)]
    results += [good / bad, bad @ good.mT, np.sum(bad), bad * bad, bad - bad]
    for result in results:
        assert not np.isnan(result.e).any()
        assert np.isinf(result.e[~np.isfinite(result.x)]).all()


def test_an_unbounded_element_touches_only_what_depends_on_it() -> None:
    x = Budget.exact(np.array([[1.0, 2.0], [0.0, 3.0]]), F64, e=[[np.inf, 0.0], [0.0, 0.0]])
    w = np.array([[1.0, 0.0], [1.0, 1.0]])
    assert np.isinf((x @ w).e).tolist() == [[True, False], [False, False]]
    assert (x * 0).e.tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert (x + 0).e.tolist() == x.e.tolist()


def test_no_bound_holds_outside_a_domain() -> None:
    near = Budget.exact(np.array([1.0, 2.1]), F64, e=[0.5, 1.0])
    assert [np.isinf(f(near).e).tolist() for f in (np.log, np.sqrt)] == [[True, False], [False, False]]
    assert np.isinf(np.log1p(near - 1.0).e).tolist() == [True, False]
    around = Budget.exact(np.array([1.0, 0.0, 0.0]), F64, e=[0.6, 1.0, 0.0])
    assert np.isinf(np.sqrt(around).e).tolist() == [True, True, False]
    assert np.isinf((1 / around).e).all()
    assert np.isinf((0 / around).e).all()
    assert (0 / Budget.exact(3.0, F64, e=1.0)).e == 0


# ---- comparisons


@pytest.mark.parametrize("compare", [np.greater, np.greater_equal, np.less, np.less_equal, np.equal, np.not_equal])
def test_a_comparison_decides_where_all_evaluations_agree(compare: Any) -> None:
    x = Budget.exact(np.array([3.0, -3.0]), F64, e=1.0)
    assert compare(x, 0.5).tolist() == compare(np.array([3.0, -3.0]), 0.5).tolist()
    for apart in (0.0, 1.0, 1.5, 2.0):
        with pytest.raises(Undecided, match=f"{compare.__name__}: .* 1 of 2 elements"):
            compare(x, np.array([3.0 - apart, 0.0]))


def test_an_exact_value_and_an_evaluation_may_lie_on_two_sides_of_a_branch() -> None:
    """Why it takes twice the bound: x = 1.5 within 1 may stand for the exact 0.5 and for an engine's -0.5."""
    flipped = case(lambda x: np.where(x > 0, x, -x), [1.5] * 9, e=1.0)
    with pytest.raises(Undecided):
        flipped.budget(F64)


def test_exact_values_compare_even_when_equal() -> None:
    x = Budget.exact(np.array([1.0, 0.0]), F64)
    assert (x == x).all()
    assert not (x > x).any()
    assert (x >= 0).all()


def test_what_has_no_bound_is_undecided() -> None:
    x = Budget.exact(np.array([np.nan]), F64, e=np.inf)
    with pytest.raises(Undecided):
        np.greater(x, 0)


def test_a_budget_is_no_condition() -> None:
    with pytest.raises(TypeError, match="expected a comparison"):
        bool(Budget.exact(1.0, F64))


# ---- constants


def test_constants_that_the_format_holds_are_exact() -> None:
    b = Budget.exact(np.zeros(2), F32)
    for value in (0.5, 3, -1, 0.0, Fraction(1, 4), np.array([1, 2]), np.array([True, False]), np.float32(0.1)):
        assert not b.constant(value).e.any()


def test_other_constants_are_granted_one_rounding() -> None:
    b = Budget.exact(np.zeros(2), F32)
    for value in (0.1, Fraction(1, 3), 2**24 + 1, 2**60 + 1, np.array([0.1, 0.7])):
        constant = b.constant(value)
        unit = 2 * FORMATS["float32"].u * abs(constant.x)
        assert (constant.e >= unit).all()
        assert (constant.e <= 1.001 * unit).all()
    assert Budget.exact(0.0, F64).constant(Fraction(1, 3)).e > 0
    assert Budget.exact(0.0, F64).constant(2**53 + 1).e > 0
    assert Budget.exact(0.0, F64).constant(np.array([2**53 + 1])).e > 0


def test_a_constant_that_overflows_or_is_none_has_no_bound() -> None:
    b = Budget.exact(0.0, F32)
    assert [float(b.constant(value).e) for value in (1e39, math.inf, math.nan)] == [math.inf] * 3


def test_constants_are_shared_and_cannot_be_written() -> None:
    constant = Budget.exact(0.0, F64).constant(0.5)
    with pytest.raises(ValueError, match="read-only"):
        constant[...] = 1.0
    mine = constant.copy()
    mine[...] = 1.0
    assert Budget.exact(0.0, F64).constant(0.5).x == 0.5


# ---- open sums


MOVES: dict[str, Callable[[Any], Any]] = {
    "nothing": lambda s: s,
    "reshape": lambda s: s.reshape(4).reshape(2, 2),
    "np.reshape": lambda s: np.reshape(s, (2, 2)),
    "expand_dims": lambda s: np.expand_dims(s, -1)[..., 0],
    "mT": lambda s: s.mT.mT,
    "getitem": lambda s: s[:, ::-1][:, ::-1],
    "copy": lambda s: s.copy(),
    "np.copy": np.copy,
    "broadcast_to": lambda s: np.broadcast_to(s, (3, 2, 2))[1],
    "pad": lambda s: np.pad(s, 1)[1:-1, 1:-1],
    "concatenate": lambda s: np.concatenate([s[:1], s[1:]], axis=0),
    "where": lambda s: np.where(np.array([True, False]), s, s),
    "windows": lambda s: sliding_window_view(s, (2, 2), axis=(-2, -1))[0, 0],
    "negative": lambda s: np.negative(-s),
    "subtract": lambda s: -(0.0 - s),
}


@pytest.mark.parametrize("profile", ["float32", "bfloat16 in float32"])
@pytest.mark.parametrize("move", MOVES)
def test_a_sum_stays_open_while_it_is_moved_about(move: str, profile: str) -> None:
    x, y = (Budget.exact(draw(k, PROFILES[profile], 2, 2), PROFILES[profile]) for k in range(2))
    closed = Budget((x @ y).x, (x @ y).e, (x @ y).q, x.profile)
    moved = MOVES[move](x @ y) + y @ x
    merged = x @ y + y @ x
    assert (moved.e >= merged.e).all()
    assert (moved.e <= merged.e * (2 if move == "subtract" else 1)).all()
    assert (merged.e != (closed + y @ x).e).any()


def test_a_sum_of_sums_is_one_sum() -> None:
    x = Budget.exact(draw(0, F32, 4, 5, 6), F32)
    assert np.sum(np.sum(x, axis=-1), axis=-1).e.tolist() == pytest.approx(
        np.sum(x, axis=(-2, -1)).e.tolist(), rel=1e-12
    )


def test_an_assigned_sum_is_closed() -> None:
    x = Budget.exact(draw(0, F32, 2, 2), F32)
    stored = x.copy()
    stored[...] = x @ x
    closed = Budget((x @ x).x, (x @ x).e, (x @ x).q, F32)
    assert (stored + x).e.tolist() == (closed + x).e.tolist()


# ---- shapes, and the rest of the surface


@pytest.mark.parametrize("shape", [(), (0,), (1,), (0, 3), (3, 0), (2, 0, 3), (1, 3)])
def test_budgets_have_the_shapes_that_arrays_have(shape: tuple[int, ...]) -> None:
    a = np.ones(shape) * 1.5
    functions_of_one = [
        lambda x: x + x,
        lambda x: 0.1 * x,
        lambda x: np.exp(x) / (x + 3),
        np.sum,
        lambda x: np.sum(np.exp(x)),
        lambda x: np.expand_dims(x, 0),
        lambda x: x.reshape(-1) if x.size else x.reshape(0),
        lambda x: np.where(x > 1, x, 0),
        lambda x: np.broadcast_to(x, (2, *x.shape)),
    ]
    if shape:
        functions_of_one += [
            lambda x: x.sum(axis=-1),
            lambda x: x.sum(axis=0, keepdims=True),
            lambda x: np.concatenate([x, x * 2], axis=-1),
            lambda x: np.pad(x, 1),
            lambda x: x[..., :1],
            lambda x: special.shift(x, -1),
            lambda x: np.expand_dims(x, -2) @ np.expand_dims(x, -1),
        ]
    if len(shape) == 2:
        functions_of_one += [
            lambda x: x @ x.mT,
            lambda x: x.mT @ x,
            lambda x: np.einsum("ij,ij->j", x, x),
            lambda x: x[0:] @ x[0] if len(x) else x,
        ]
    for f in functions_of_one:
        want, got = np.asarray(f(a)), Case(f, (a,)).budget(F64)
        assert got.shape == want.shape
        assert (abs(got.x - want) <= got.e).all()


@pytest.mark.parametrize(
    ("a", "b"),
    [((3,), (3, 2)), ((2, 3), (3,)), ((3,), (3,)), ((4, 2, 3), (3, 2)), ((2, 3), (4, 3, 2)), ((3,), (4, 3, 2))],
)
def test_matmul_of_every_rank(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    x, y = draw(0, F64, *a), draw(1, F64, *b)
    got = Case(lambda x, y: x @ y, (x, y)).budget(F64)
    assert got.shape == (x @ y).shape
    assert (abs(got.x - x @ y) <= got.e).all()


def test_every_listed_function_has_a_rule() -> None:
    assert {f.__name__ for f in UFUNCS} == set(functions.UFUNCS)
    for name in functions.FUNCTIONS:
        function: Any = np
        for part in name.split("."):
            function = getattr(function, part)
        assert function in FUNCTIONS
    assert not [name for name in functions.METHODS if not hasattr(Budget.exact(np.ones((2, 2)), F64), name)]


@pytest.mark.parametrize(
    ("f", "what"),
    [
        (np.var, "np.var"),
        (lambda x: np.maximum(x, 0), "np.maximum"),
        (np.linalg.norm, "np.linalg.norm"),
        (lambda x: x**2, "np.power"),
        (lambda x: x.T, ".T"),
        (lambda x: x.mean(), ".mean"),
        (np.add.reduce, "np.add.reduce"),
        (lambda x: np.exp(x, out=x), "np.exp(out=...)"),
        (np.asarray, "np.asarray"),
    ],
)
def test_what_has_no_rule_is_named(f: Callable[..., Any], what: str) -> None:
    with pytest.raises(NoRule) as error:
        f(Budget.exact(np.ones((2, 2)), F64))
    assert error.value.what == what
    assert what in str(error.value)


@pytest.mark.parametrize("subscripts", ["ij,jk", "...i,i->i", "ii,i->i", "ij,jk,kl->il"])
def test_einsum_says_what_it_takes(subscripts: str) -> None:
    b = Budget.exact(np.ones((2, 2)), F64)
    with pytest.raises(TypeError, match=r"expected '->', .* at most two operands, got"):
        np.einsum(subscripts, *[b] * (subscripts.count(",") + 1))


def test_results_share_no_memory_that_could_be_written_behind_their_back() -> None:
    given = np.ones(2)
    x = Budget.exact(given, F64)
    minus, copied = -x, x.copy()
    minus[...] = 0.1
    copied[...] = 0.2
    x[0] = 5.0
    assert given.tolist() == [1.0, 1.0]
    assert x.x.tolist() == [5.0, 1.0]
    assert not x.e.any()


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_formats_are_those_of_numpy(dtype: str) -> None:
    f, info = FORMATS[dtype], np.finfo(dtype)
    assert (f.u, f.tiny, f.max) == (info.eps / 2, info.tiny, info.max)
    assert Profile.of(dtype).dtype == dtype
    assert Profile.of("bfloat16").dtype == "float32"


def test_growth_is_that_of_stacked_roundings() -> None:
    f = FORMATS["bfloat16"]
    for k in (0, 1, 2, 63, 1000):
        exact = (1 + Fraction(2 * f.u)) ** k - 1
        assert float(exact) == pytest.approx(f.growth(k), rel=1e-12)
    assert f.growth(10**6) == math.inf
