"""Arrays on a `Machine`: an arithmetic in which the layers' own lines, and people's expressions, are carried out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from benchmarks.adversarial.rounding_machine import Machine, OverflowsError, Value, exactly, function, power
from parity.budget.formats import Profile
from refnet.arithmetic import special
from refnet.arithmetic.array_like import MEMBERS, MOVES, ArrayLike, Rule, named

_COMPARISONS = ("greater", "greater_equal", "less", "less_equal", "equal", "not_equal")


class Number:
    """A stored number, or the terms of a sum that is not carried out yet."""

    __slots__ = ("terms",)

    def __init__(self, *terms: Any) -> None:
        self.terms = terms

    @property
    def is_open(self) -> bool:
        return len(self.terms) != 1 or isinstance(self.terms[0], tuple)


def filled(shape: tuple[int, ...], elements: Iterable[Any]) -> Any:
    """An array of objects."""
    a = np.empty(shape, object)
    for k, x in enumerate(elements):
        a.flat[k] = x
    return a


class Rounded(ArrayLike, inner="elements"):
    """An array of Numbers on a Machine. A sum stays open to additions next to it, until its value is needed."""

    def __init__(self, a: Any, machine: Machine) -> None:
        self.machine = machine
        a = np.asarray(a) if isinstance(a, np.ndarray) else np.asarray(a, object)
        if a.dtype != object or not all(type(x) is Number for x in a.flat):
            a = filled(a.shape, (x if isinstance(x, Number) else Number(machine.fl(exactly(x))) for x in a.flat))
        self.elements = a

    dtype = property(lambda self: self.machine.profile.dtype)

    def _moved(self, f: Rule) -> Rounded:
        return Rounded(f(self.elements), self.machine)

    def __setitem__(self, index: Any, value: Any) -> None:
        value = value if isinstance(value, Rounded) else Rounded(value, self.machine)
        self.elements = self.elements.copy()
        self.elements[index] = value.elements

    def values(self) -> np.ndarray[Any, Any]:
        """The elements, every sum carried out."""
        return filled(self.shape, map(self.close, self.elements.flat))  # type: ignore[no-any-return]

    def floats(self) -> np.ndarray[Any, Any]:
        """Likewise, as binary64 has them."""
        return np.array([float(v) for v in self.values().flat], np.float64).reshape(self.shape)

    def close(self, x: Number) -> Value:
        if x.is_open:
            x.terms = (self.machine.total(x.terms),)
        return x.terms[0]

    def each(self, f: Callable[..., Any], *arrays: Any) -> Rounded:
        """f of the values of arrays, which are broadcast."""
        rounded = tuple(a if isinstance(a, Rounded) else Rounded(a, self.machine) for a in arrays)
        spread = np.broadcast_arrays(*(a.elements for a in rounded))
        made = (Number(f(*map(self.close, xs))) for xs in zip(*(a.flat for a in spread), strict=True))
        return Rounded(filled(spread[0].shape, made), self.machine)

    def sum(self, axis: Any = None, keepdims: bool = False) -> Rounded:
        axes = range(self.ndim) if axis is None else np.atleast_1d(axis).tolist()
        axes = tuple(k % self.ndim for k in axes)
        moved = np.moveaxis(self.elements, axes, range(-len(axes), 0)) if axes else self.elements[..., None]
        shape = moved.shape[: self.ndim - len(axes)]
        made = (
            filled(shape, (Number(*(t for x in moved[index].flat for t in x.terms)) for index in np.ndindex(*shape)))
            if axes
            else self.elements
        )
        if keepdims:
            made = made.reshape([1 if k in axes else n for k, n in enumerate(self.shape)])
        return Rounded(made, self.machine)

    def added(self, a: Any, b: Any, sign: int = 1) -> Rounded:
        a, b = (v if isinstance(v, Rounded) else Rounded(v, self.machine) for v in (a, b))
        x, y = np.broadcast_arrays(a.elements, b.elements)
        return Rounded(
            filled(x.shape, (self._added(s, t, sign) for s, t in zip(x.flat, y.flat, strict=True))), self.machine
        )

    def _added(self, s: Number, t: Number, sign: int) -> Number:
        if sign < 0:
            t = Number(*((-v[0], v[1]) if isinstance(v, tuple) else -v for v in t.terms))
        if not s.is_open and not t.is_open:
            return Number(self.machine.fl(s.terms[0] + t.terms[0]))
        # An engine may carry out a sum before it adds to it, or not.
        for v in (s, t):
            if self.machine.random.integers(2):
                self.close(v)
        return Number(*s.terms, *t.terms)

    def factors(self) -> np.ndarray[Any, Any]:
        """The values as a contraction's factors."""
        f, wide = self.machine.profile.product, self.machine.profile.storage
        return self.values() if f == wide else filled(self.shape, (self.machine.fl(x, f) for x in self.values().flat))

    def matmul(self, a: Any, b: Any) -> Rounded:
        x, y = (v if isinstance(v, Rounded) else Rounded(v, self.machine) for v in (a, b))
        left, right = x.factors(), y.factors()
        if x.ndim == 1:
            return self.matmul(x.reshape(1, -1), y)._moved(lambda a: a[..., 0, :])
        if y.ndim == 1:
            return self.matmul(x, y.reshape(-1, 1))._moved(lambda a: a[..., 0])
        batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
        left = np.broadcast_to(left, (*batch, *left.shape[-2:]))
        right = np.broadcast_to(right, (*batch, *right.shape[-2:])).swapaxes(-1, -2)
        shape = (*batch, left.shape[-2], right.shape[-2])
        made = (
            Number(*zip(left[(*index[:-2], index[-2])], right[(*index[:-2], index[-1])], strict=True))
            for index in np.ndindex(*shape)
        )
        return Rounded(filled(shape, made), self.machine)

    def einsum(self, subscripts: str, *operands: Any) -> Rounded:
        inputs, output = subscripts.replace(" ", "").split("->")
        letters = inputs.split(",")
        arrays = [v if isinstance(v, Rounded) else Rounded(v, self.machine) for v in operands]
        sizes = {c: n for term, a in zip(letters, arrays, strict=True) for c, n in zip(term, a.shape, strict=True)}
        summed = [c for c in sizes if c not in output]
        alone = len(arrays) == 1
        factors = [a.elements if alone else a.factors() for a in arrays]
        shape = tuple(sizes[c] for c in output)
        inner = [dict(zip(summed, at, strict=True)) for at in np.ndindex(*(sizes[c] for c in summed))]

        def terms(at: dict[str, int]) -> Iterator[Any]:
            for more in inner:
                place = at | more
                found = [f[tuple(place[c] for c in term)] for f, term in zip(factors, letters, strict=True)]
                if alone:
                    yield from found[0].terms
                    continue
                while len(found) > 2:
                    found[:2] = [self.machine.fl(found[0] * found[1])]
                yield tuple(found)

        made = (Number(*terms(dict(zip(output, index, strict=True)))) for index in np.ndindex(*shape))
        return Rounded(filled(shape, made), self.machine)

    def _each(self, ufunc: np.ufunc, inputs: tuple[Any, ...]) -> Any:
        return self.each(lambda x: self.machine.function(ufunc.__name__, x), *inputs)

    def compared(self, ufunc: np.ufunc, *inputs: Any) -> Any:
        values = [v.values() if isinstance(v, Rounded) else v for v in inputs]
        return np.asarray(ufunc(*values)).astype(bool)

    def raised(self, x: Any, exponent: float) -> Rounded:
        """x^p: products for an integer, else a function."""
        p, m = float(exponent), self.machine
        if p != int(p):
            return self.each(lambda v: m.off(power(v, p), 2) if isinstance(v, Fraction) else exactly(np.power(v, p)), x)

        def by_products(v: Value) -> Value:
            y = v if p else Fraction(1)
            for _ in range(abs(int(p)) - 1):
                y = m.fl(y * v)
            return m.fl(y if p >= 0 else m.divided(Fraction(1), y))

        return self.each(by_products, x)

    def reduced(self, f: Callable[[Any], Any], axis: int, keepdims: bool) -> Rounded:
        """f of the values along an axis, kept with size 1 or left out."""
        moved = np.moveaxis(self.values(), axis, -1)
        made = filled(moved.shape[:-1], (Number(f(moved[index])) for index in np.ndindex(*moved.shape[:-1])))
        return Rounded(np.expand_dims(made, axis) if keepdims else made, self.machine)

    def weights_of_largest(self, axis: int) -> Rounded:
        values = self.values()
        largest = values == values.max(axis=axis, keepdims=True)
        count = largest.sum(axis=axis, keepdims=True)
        shares = np.broadcast_to(count, values.shape)
        made = (Fraction(1, int(n)) if yes else Fraction(0) for yes, n in zip(largest.flat, shares.flat, strict=True))
        return Rounded(filled(values.shape, made), self.machine)

    def scattered(self, index: Any, rows: int) -> Rounded:
        flat = np.where(index < 0, index + rows, index).reshape(-1)
        before, width = self.shape[: self.ndim - 1 - index.ndim], self.shape[-1]
        given = self.elements.reshape(*before, flat.size, width)
        places = [np.flatnonzero(flat == k) for k in range(rows)]
        shape = (*before, rows, width)
        made = (
            Number(*(t for n in places[at[-2]] for t in given[(*at[:-2], n, at[-1])].terms))
            for at in np.ndindex(*shape)
        )
        return Rounded(filled(shape, made), self.machine)

    def running(self, axis: int) -> Rounded:
        """Each running sum is carried out on its own, in an order of its own."""
        moved = np.moveaxis(self.elements, axis, -1)
        made = (
            Number(*(t for x in moved[index[:-1]][: index[-1] + 1] for t in x.terms))
            for index in np.ndindex(*moved.shape)
        )
        return Rounded(np.moveaxis(filled(moved.shape, made), -1, axis), self.machine)

    def of_counter(self, f: Callable[[Any, Any], Any], t: Any) -> Rounded:
        """Computed in binary64, and rounded to the format."""
        wide = Machine(Profile.of("float64"), self.machine.mode, seed=self.machine.seed)
        return Rounded(f(t, Rounded(t, wide)).values(), self.machine)


def _sigmoid(m: Machine, x: Value) -> Value:
    try:
        return m.fl(m.divided(Fraction(1), m.fl(1 + m.function("exp", -x))))
    except OverflowsError:
        return Fraction(0)


def _log_sigmoid(m: Machine, x: Value) -> Value:
    return m.fl(_smaller(x, Fraction(0)) - m.function("log1p", m.function("exp", -abs(x))))


def _erf_derivative(m: Machine, x: Value) -> Value:
    return m.fl(m.fl(Fraction(2 / math.sqrt(math.pi))) * m.function("exp", -m.fl(x * x)))


def _erfc(m: Machine, x: Value) -> Value:
    # Above 0 it may be exp(-x^2), with the square rounded, times the rest.
    above = isinstance(x, Fraction) and x > 0
    return m.function("erfc", x, function("exp", x * x - m.fl(x * x)) if above else Fraction(1))


def _larger(a: Value, b: Value) -> Value:
    return a + b if a != a or b != b else max(a, b)


def _smaller(a: Value, b: Value) -> Value:
    return a + b if a != a or b != b else min(a, b)


def _shift(x: Rounded, axis: int) -> Rounded:
    return x.reduced(lambda lane: lane.max() if lane.size else Fraction(0), axis, True)


def _where(condition: Any, a: Any, b: Any) -> Rounded:
    like = a if isinstance(a, Rounded) else b
    parts = (v if isinstance(v, Rounded) else Rounded(v, like.machine) for v in (a, b))
    return Rounded(np.where(condition, *(v.elements for v in parts)), like.machine)


def _concatenate(arrays: Any, axis: int = 0) -> Rounded:
    like = next(a for a in arrays if isinstance(a, Rounded))
    parts = [a if isinstance(a, Rounded) else Rounded(a, like.machine) for a in arrays]
    return Rounded(np.concatenate([a.elements for a in parts], axis), like.machine)


def _on(f: Callable[..., Any]) -> Rule:
    """The rule of a ufunc whose operands may be constants."""
    return lambda *operands: f(next(o for o in operands if isinstance(o, Rounded)), *operands)


def _of_value(f: Callable[[Machine, Value], Value]) -> Rule:
    return lambda x: x.each(lambda v: f(x.machine, v), x)


def _compares(ufunc: np.ufunc) -> Rule:
    return _on(lambda like, *operands: like.compared(ufunc, *operands))


Rounded.UFUNCS = {
    np.add: _on(lambda like, a, b: like.added(a, b)),
    np.subtract: _on(lambda like, a, b: like.added(a, b, -1)),
    np.multiply: _on(lambda like, a, b: like.each(lambda x, y: like.machine.fl(x * y), a, b)),
    np.divide: _on(lambda like, a, b: like.each(lambda x, y: like.machine.fl(like.machine.divided(x, y)), a, b)),
    np.negative: lambda a: a.each(lambda x: -x, a),
    np.absolute: lambda a: a.each(abs, a),
    np.matmul: _on(lambda like, a, b: like.matmul(a, b)),
    np.power: _on(lambda like, x, p: like.raised(x, p)),
    **{ufunc: _compares(ufunc) for ufunc in named(_COMPARISONS)},
}

Rounded.FUNCTIONS = {
    **MEMBERS,
    **MOVES,
    np.where: _where,
    np.concatenate: _concatenate,
    np.pad: lambda a, width: a._moved(lambda v: np.pad(v, width)),
    np.einsum: lambda subscripts, *operands: _on(lambda like, *o: like.einsum(subscripts, *o))(*operands),
    np.cumsum: lambda a, axis: a.running(axis),
}

Rounded.SPECIALS = {
    "lift": lambda like, value: Rounded(value, like.machine),
    "shift": _shift,
    "largest": lambda x, axis: special.largest(x.floats(), axis),
    "sigmoid": _of_value(_sigmoid),
    "log_sigmoid": _of_value(_log_sigmoid),
    "erf": _of_value(lambda m, x: m.function("erf", x)),
    "erfc": _of_value(_erfc),
    "erf_derivative": _of_value(_erf_derivative),
    "maximum": lambda like, a, b: like.each(_larger, a, b),
    "amax": lambda x, axis, keepdims=False: x.reduced(lambda lane: lane.max(), axis, keepdims),
    "amax_weights": lambda x, axis: x.weights_of_largest(axis),
    "gather": lambda _, x, index: x._moved(lambda a: special.gather(a, index)),
    "scatter": lambda _, g, index, rows: g.scattered(index, rows),
    "of_counter": lambda like, f, t: like.of_counter(f, t),
}
