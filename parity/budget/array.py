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
- A profile may say how its sums and contractions are built: no term goes through a chain of more than `depth`
  additions, or blocks of some terms are added up, and then their sums. growth(depth) takes the place of growth(n - 1)
  then. Running sums and scattered rows are in any order all the same.
- Where an accumulator does not hold what is stored, each term is rounded to it, which adds one to k too.
- Where an engine accumulates in another format than it stores, each contraction is rounded to storage once, and so is
  each addition next to it; the parts of an open sum may be stored and added in any order.
- Elementary functions are within ULPS of the exact function of their argument; 1 / (1 + exp(-x)), its logarithm and
  the derivative of erf by composition. x^p for a constant p is a function or, for an integer, products.
- A comparison is open where right evaluations may differ on it. `np.where` gives such an element the hull of its two
  branches: an engine may take one and the exact result be the other.
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
from dataclasses import replace
from fractions import Fraction
from functools import partial, reduce
from typing import Any

import numpy as np

from parity.budget import bounds, elementwise, sums
from parity.budget.bounds import as_constant, grid
from parity.budget.condition import Condition, decided
from parity.budget.formats import Floats, Profile
from parity.budget.stacked_products import matmul
from parity.budget.sums import OpenSum
from refnet.arithmetic import special
from refnet.arithmetic.array_like import MEMBERS, MOVES, ArrayLike, NoRule, Rule


class _Memory:
    """What an open sum shares with its views: whether one of them has been written, which closes them all."""

    __slots__ = ("written",)

    def __init__(self) -> None:
        self.written = False


class Budget(ArrayLike, inner="x"):
    """An array of values with error bounds, in the arithmetic of a profile. See the module's text for the model.

    Attributes:
        x: values (float64). e: bounds, |any right evaluation - exact| <= e, elementwise; 0 where every one gives x.
        q: grids: powers of two, infinity for exact zeros, and 0 where there is none, as always where e > 0.
    """

    __slots__ = ("_memory", "_open_sum", "e", "profile", "q", "x")

    def __init__(self, x: Floats, e: Floats, q: Floats, profile: Profile, open_sum: OpenSum | None = None) -> None:
        self.x, self.e, self.q = np.asarray(x), np.asarray(e), np.asarray(q)
        self.profile, self._open_sum, self._memory = profile, open_sum, _Memory() if open_sum else None

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
            return Budget(*bounds.constant(value, self.profile.storage), self.profile)
        array = np.asarray(value)
        x = array.astype(np.float64)
        if array.dtype == object:
            # Fractions, which binary64 may not hold.
            converted = np.asarray(np.frompyfunc(lambda v, near: Fraction(near) == v, 2, 1)(array, x), bool)
        else:
            converted = (array.dtype.kind == "f") | (abs(x) < 2.0**53)
        return Budget(*as_constant(x, converted, self.profile.storage), self.profile)

    def _lift(self, value: Any) -> Budget:
        if isinstance(value, Condition):
            value = value.numbers()
        return value if isinstance(value, Budget) else self.constant(value)

    dtype = property(lambda self: self.profile.dtype)

    @property
    def open_sum(self) -> OpenSum | None:
        """The sum that this is and that more may be added to; none where its memory has been written since."""
        return None if self._memory is None or self._memory.written else self._open_sum

    def __repr__(self) -> str:
        return f"Budget({self.x!r}, e={self.e!r})"

    def __bool__(self) -> bool:
        raise TypeError("Budget: expected a comparison, got a budget as a condition")

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise NoRule("np.asarray")

    def __getattr__(self, name: str) -> Any:
        raise NoRule(f".{name}")

    def _moved(self, f: Rule) -> Budget:
        return _rearranged(f, self)

    def _refused(self, function: Any, how: str = "") -> Any:
        module = getattr(function, "__module__", None) or "numpy"
        raise NoRule(f"{module.replace('numpy', 'np', 1)}.{function.__name__}{how}")

    def __setitem__(self, index: Any, value: Any) -> None:
        value = self._lift(value)
        if bounds.is_gridless(self.q):
            self.q = self.q.copy()
        self.x[index], self.e[index], self.q[index] = value.x, value.e, value.q
        if self._memory:
            self._memory.written = True

    def copy(self) -> Budget:
        return _rearranged(np.copy, self)

    @np.errstate(all="ignore")
    def sum(self, axis: Any = None, keepdims: bool = False) -> Budget:
        axes = tuple(range(self.ndim)) if axis is None else tuple(np.atleast_1d(axis).tolist())
        terms = math.prod(self.shape[a] for a in axes)
        q = bounds.finest(self.q, axes, keepdims)
        return Budget(*sums.total(self, lambda a: a.sum(axis=axes, keepdims=keepdims), terms, q))


def _rearranged(f: Callable[..., Floats], *budgets: Budget) -> Budget:
    """Elements moved about by f: values, bounds, grids and open sums alike."""
    x, e, q = (f(*(getattr(b, name) for b in budgets)) for name in ("x", "e", "q"))
    if all(b.open_sum is None for b in budgets):
        return Budget(x, e, q, budgets[0].profile)
    opened = [sums.opened(b) for b in budgets]
    magnitude, error, stored = (f(*(getattr(s, name) for s in opened)) for name in ("magnitude", "error", "stored"))
    terms, parts, depth = (max(getattr(s, name) for s in opened) for name in ("terms", "parts", "depth"))
    products = any(s.products for s in opened)
    made = Budget(x, e, q, budgets[0].profile, OpenSum(terms, products, magnitude, error, parts, stored, depth))
    for b in budgets:
        if b.open_sum and np.may_share_memory(x, b.x):
            made._memory = b._memory
    return made


def _shift(a: Budget, axis: int) -> Budget:
    """The maximum as a value. An engine's own may differ by the largest error of those elements that may be it."""
    if not a.shape[axis]:
        return _rearranged(lambda v: v.sum(axis=axis, keepdims=True), a)
    x, least = (v.max(axis=axis, keepdims=True) for v in (a.x, a.x - 2 * a.e))
    e = np.where(a.x + 2 * a.e < least, 0.0, a.e).max(axis=axis, keepdims=True)
    return Budget(x, e, bounds.grid_where(e == 0, x), a.profile)


def _closed(rule: Callable[..., bounds.Exact]) -> Rule:
    """The rule of an elementwise operation, whose result is rounded and stored; NumPy's warnings are the caller's."""

    def operation(*budgets: Budget) -> Budget:
        profile = budgets[0].profile
        return Budget(*bounds.in_blocks(lambda *parts: bounds.rounded(rule(*parts), profile.storage), budgets), profile)

    return operation


def _lifted(rule: Rule) -> Rule:
    """The rule of a ufunc, on operands of which some may be constants."""

    @np.errstate(all="ignore")
    def operation(*operands: Any) -> Any:
        like = next(o for o in operands if isinstance(o, Budget))
        return rule(*[o if type(o) is Budget else like._lift(o) for o in operands])

    return operation


def _added(ufunc: np.ufunc) -> Rule:
    """The rule of a sum or a difference."""
    closed = _closed(partial(elementwise.add, ufunc))

    def rule(a: Budget, b: Budget) -> Any:
        if a.open_sum or b.open_sum:
            return Budget(*sums.add(a, b, ufunc(a.x, b.x), bounds.finer(a.q, b.q)))
        return closed(a, b)

    return rule


def _negative(a: Budget) -> Budget:
    return Budget(-a.x, a.e.copy(), a.q.copy(), a.profile, a.open_sum)


def _matmul(a: Budget, b: Budget) -> Budget:
    left, right = bounds.finest(a.q, -1), bounds.finest(b.q, -2 if b.ndim > 1 else -1)
    if a.ndim > 1 and b.ndim > 1:
        left, right = left[..., :, None], right[..., None, :]
    return Budget(*sums.contraction(a, b, matmul, a.shape[-1], bounds.grid_product(left, right)))


@np.errstate(all="ignore")
def _einsum(subscripts: str, *operands: Any) -> Budget:
    first = next(o for o in operands if isinstance(o, Budget))
    factors = [first._lift(o) for o in operands]
    inputs, _, output = subscripts.replace(" ", "").partition("->")
    letters = inputs.split(",")
    if "->" not in subscripts or "." in subscripts or any(len(set(t)) < len(t) for t in letters):
        expected = "'->', no '...', and no index twice in one operand"
        raise TypeError(f"np.einsum: expected {expected}, got {subscripts!r}")
    sizes = {c: n for term, f in zip(letters, factors, strict=True) for c, n in zip(term, f.shape, strict=True)}
    terms = math.prod(n for c, n in sizes.items() if c not in output)

    def product(*arrays: Floats) -> Floats:
        return np.einsum(subscripts, *arrays)

    grids = [f.q.min(initial=np.inf) for f in factors]
    q = np.full([sizes[c] for c in output], reduce(bounds.grid_product, grids))
    if len(factors) == 1:
        return Budget(*sums.total(first, product, terms, q))
    if len(factors) == 2:
        return Budget(*sums.contraction(factors[0], factors[1], product, terms, q))
    return Budget(*sums.contraction_of_many(factors, product, terms, q))


def _comparison(ufunc: np.ufunc) -> Callable[[Budget, Budget], Any]:
    """Decided where exact values and all evaluations compare alike: further apart than twice the bounds. An infinite
    number is the same in every evaluation."""

    @np.errstate(all="ignore")
    def compare(a: Any, b: Any) -> Any:
        like = a if isinstance(a, Budget) else b
        e = sum(0.0 if type(o) is float and math.isinf(o) else like._lift(o).e for o in (a, b))
        a, b = like._lift(a), like._lift(b)
        close = ~(abs(a.x - b.x) > bounds.up(2 * e)) & (e > 0)
        return decided(ufunc(a.x, b.x), close, a, f"np.{ufunc.__name__}")

    return compare


def _where(condition: Any, a: Any, b: Any) -> Budget:
    like = a if isinstance(a, Budget) else b if isinstance(b, Budget) else condition.like
    a, b = like._lift(a), like._lift(b)
    if not isinstance(condition, Condition):
        return _rearranged(lambda v, w: np.where(condition, v, w), a, b)
    made = _rearranged(lambda v, w: np.where(condition.value, v, w), a, b)
    return _hull(made, np.broadcast_to(condition.open, made.shape), a, b)


@np.errstate(all="ignore")
def _hull(made: Budget, where: Floats, a: Budget, b: Budget) -> Budget:
    """`made`, with bounds `where` it may be either a or b.

    If a is exact and an engine has b', |b' - a| <= |b' - b| + |b - x_b| + |x_b - x_a| + |x_a - a| <= 2 e_b + e_a +
    |x_a - x_b|; likewise the other way round.
    """
    apart = abs(a.x - b.x) + a.e + b.e + np.maximum(a.e, b.e)
    apart = np.where(np.isnan(apart), np.inf, bounds.up(apart))
    same = (a.e == 0) & (b.e == 0) & (a.x == b.x)
    hull = np.where(where & ~same, apart, made.e)
    e, q = np.maximum(made.e, hull), np.where(where, np.minimum(np.minimum(a.q, b.q), made.q), made.q)
    q = np.where(e > 0, 0.0, q)
    s = made.open_sum
    if s is not None:
        r, t = sums.opened(a), sums.opened(b)
        magnitude, stored = (
            np.where(where, np.maximum(getattr(r, name), getattr(t, name)), getattr(s, name))
            for name in ("magnitude", "stored")
        )
        error = np.where(where, np.maximum(s.error, e), s.error)
        s = replace(s, magnitude=magnitude, error=error, stored=stored)
    return Budget(made.x, e, q, made.profile, s)


def _concatenate(arrays: Sequence[Any], axis: int = 0) -> Budget:
    like = next(a for a in arrays if isinstance(a, Budget))
    return _rearranged(lambda *parts: np.concatenate(parts, axis), *(like._lift(a) for a in arrays))


@np.errstate(all="ignore")
def _cumsum(a: Budget, axis: int) -> Budget:
    """Sums of up to n terms, each in any order."""
    q = np.minimum.accumulate(a.q, axis)
    return Budget(*sums.total(a, lambda v: np.cumsum(v, axis), a.shape[axis], q, any_order=True))


@np.errstate(all="ignore")
def _power(x: Any, p: Any) -> Budget:
    if isinstance(p, Budget) or np.ndim(p):
        raise NoRule("** with an exponent that is no number")
    exponent = float(p)
    made: Budget = _closed(lambda a: elementwise.power(a, exponent))(x)
    return made


def _maximum(_: Budget, a: Any, b: Any) -> Budget:
    """Nothing is rounded, and |max(a', b') - max(a, b)| <= max(e_a, e_b)."""
    like = a if isinstance(a, Budget) else b
    a, b = like._lift(a), like._lift(b)
    e = np.maximum(a.e, b.e)
    # What is certainly the smaller does not matter.
    e = np.where(a.x - b.x > 2 * bounds.up(a.e + b.e), a.e, np.where(b.x - a.x > 2 * bounds.up(a.e + b.e), b.e, e))
    x = np.maximum(a.x, b.x)
    return Budget(x, e, np.where(e == 0, np.minimum(a.q, b.q), 0.0), like.profile)


def _amax(X: Budget, axis: int, keepdims: bool = False) -> Budget:
    x, e = X.x.max(axis=axis, keepdims=keepdims), X.e.max(axis=axis, keepdims=keepdims)
    q = X.q.min(axis=axis, keepdims=keepdims)
    return Budget(x, e, np.where(e == 0, q, 0.0), X.profile)


@np.errstate(all="ignore")
def _amax_weights(X: Budget, axis: int) -> Budget:
    """1 or 0 where it is certain that an element is larger than all others or not the largest; 1 / n among n equal
    exact ones; else between 0 and 1.
    """
    x, e = np.moveaxis(X.x, axis, -1), np.moveaxis(X.e, axis, -1)
    first = np.expand_dims(x.argmax(axis=-1), -1)
    largest = np.take_along_axis(x, first, -1)
    rest = x.copy()
    np.put_along_axis(rest, first, -np.inf, -1)
    others = np.where(np.arange(x.shape[-1]) == first, rest.max(axis=-1, keepdims=True), largest)
    room = bounds.up(2 * (e + e.max(axis=-1, keepdims=True)))
    above, below = x - others > room, others - x > room
    # Only with exact elements is a tie a tie.
    tie = (room == 0) & (x == others)
    n = (x == largest).sum(axis=-1, keepdims=True)
    values = np.where(above, 1.0, np.where(below, 0.0, np.where(tie, 1.0 / n, np.where(x == largest, 1.0, 0.0))))
    certain = above | below | tie
    shares = X.constant(values)
    bound = np.where(above | below, 0.0, np.where(tie, shares.e, 1.0))
    grids = np.where(certain & (bound == 0), shares.q, 0.0)
    x, e, q = (np.moveaxis(a, -1, axis) for a in (values, bound, grids))
    return Budget(x, e, q, X.profile)


def _gather(_: Budget, X: Any, index: Any) -> Budget:
    return _rearranged(lambda a: special.gather(a, index), X)


@np.errstate(all="ignore")
def _scatter(_: Budget, G: Any, index: Any, rows: int) -> Budget:
    """Each element is a sum of as many terms as one row has at most, in any order."""
    flat = np.where(index < 0, index + rows, index).reshape(-1)
    before, width = G.shape[: G.ndim - 1 - index.ndim], G.shape[-1]
    terms = int(np.bincount(flat, minlength=1).max(initial=0))
    q = np.full((rows, *before, width), np.inf)
    np.minimum.at(q, flat, np.moveaxis(G.q.reshape(*before, flat.size, width), -2, 0))
    q = np.moveaxis(q, 0, -2)
    return Budget(*sums.total(G, lambda a: special.scatter(a, index, rows), terms, q, any_order=True))


def _pad(a: Budget, width: Any) -> Budget:
    padded = _rearranged(lambda v: np.pad(v, width), a)
    padded.q = np.pad(a.q, width, constant_values=np.inf)
    return padded


def _of_counter(like: Budget, f: Rule, t: Any) -> Budget:
    """Computed in binary64, and rounded to the format."""
    made = f(t, Budget.exact(t, Profile.of("float64")))
    return Budget(*bounds.rounded(bounds.Exact(made.x, made.e, made.q), like.profile.storage), like.profile)


def _one_minus_power(like: Budget, beta: float, t: Any) -> Budget:
    return Budget(*bounds.one_minus_power(beta, t, like.profile.storage), like.profile)


Budget.BESIDE = (Budget, Condition, np.ndarray, np.generic, int, float, Fraction)

_UFUNCS: dict[np.ufunc, Rule] = {
    np.add: _added(np.add),
    np.subtract: _added(np.subtract),
    np.negative: _negative,
    np.multiply: _closed(elementwise.multiply),
    np.divide: _closed(elementwise.divide),
    np.matmul: _matmul,
    **{
        ufunc: _closed(getattr(elementwise, ufunc.__name__))
        for ufunc in (np.exp, np.log, np.log1p, np.sqrt, np.tanh, np.absolute, np.sin, np.cos, np.expm1)
    },
}

Budget.UFUNCS = {
    **{ufunc: _lifted(rule) for ufunc, rule in _UFUNCS.items()},
    **{f: _comparison(f) for f in (np.greater, np.greater_equal, np.less, np.less_equal, np.equal, np.not_equal)},
    np.power: _power,
}

Budget.FUNCTIONS = {
    **MEMBERS,
    **MOVES,
    np.where: _where,
    np.concatenate: _concatenate,
    np.pad: _pad,
    np.einsum: _einsum,
    np.cumsum: _cumsum,
}

Budget.SPECIALS = {
    "lift": Budget.constant,
    "shift": _shift,
    # Any place will do.
    "largest": lambda X, axis: special.largest(X.x, axis),
    **{
        name: np.errstate(all="ignore")(_closed(getattr(elementwise, name)))
        for name in ("sigmoid", "log_sigmoid", "erf", "erfc", "erf_derivative")
    },
    "maximum": _maximum,
    "amax": _amax,
    "amax_weights": _amax_weights,
    "gather": _gather,
    "scatter": _scatter,
    "of_counter": _of_counter,
    "one_minus_power": _one_minus_power,
}
