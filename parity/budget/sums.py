"""The bounds of sums and of sums of products: in any order, or by chains of additions as long as the profile says.

A sum stays open: what is added to it next to it is another of its terms, wherever an engine puts it. How many terms an
open sum has, and how large they and their errors are, travels with the array in an `OpenSum`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np

from parity.budget.bounds import Operand, bounded, gridless, is_gridless, most, some, up
from parity.budget.formats import Floats, Profile


@dataclass(frozen=True)
class OpenSum:
    """A sum that more may be added to.

    Attributes:
        terms: how many. products: whether products are among them.
        magnitude: sum|t|. error: the sum of the errors that the terms came with, and the parts by being stored.
        parts: how many stored results make it up. stored: the sum of their sizes.
        depth: the longest chain of additions that a term goes through.
    """

    terms: int
    products: bool
    magnitude: Floats
    error: Floats
    parts: int
    stored: Floats
    depth: int


class Summand(Operand, Protocol):
    """An operand that may be an open sum."""

    @property
    def open_sum(self) -> OpenSum | None: ...


class Total(NamedTuple):
    """The result of a sum: value, bound, grid, and the sum itself, still open."""

    x: Floats
    e: Floats
    q: Floats
    profile: Profile
    open_sum: OpenSum


def opened(a: Summand) -> OpenSum:
    """The sum that `a` is; of one term, if it is none."""
    size = abs(a.x) + 2 * a.e
    return a.open_sum or OpenSum(1, False, size, a.e, 1, size, 0)


def depth(profile: Profile, terms: int, chained: int) -> int:
    """The longest chain of additions in a sum of so many terms.

    `chained` is it where the parts are sums of their own; but an engine may fuse them into one sum, whose chains are as
    long as its profile says for so many terms.
    """
    return min(max(terms - 1, 0), max(profile.chain(terms), chained))


def add(a: Summand, b: Summand, x: Floats, q: Floats) -> Total:
    """x = a + b or a - b, where one of the two is open: one larger sum."""
    s, t = opened(a), opened(b)
    both = (s.magnitude + t.magnitude, s.error + t.error, s.parts + t.parts, s.stored + t.stored)
    longest = depth(a.profile, s.terms + t.terms, max(s.depth, t.depth) + 1)
    return contract(x, OpenSum(s.terms + t.terms, s.products or t.products, *both, longest), q, a.profile)


def total(a: Summand, sum_up: Callable[[Floats], Floats], terms: int, q: Floats, any_order: bool = False) -> Total:
    """The sum of `terms` elements each. An open sum inside another is one larger sum.

    Args:
        any_order: whether the profile's depth says nothing of it.
    """
    s = opened(a)
    magnitude = sum_up(s.magnitude)
    longest = depth(a.profile, s.terms * terms, s.depth + a.profile.chain(terms))
    if any_order:
        longest = max(s.terms * terms - 1, 0)
    whole = OpenSum(s.terms * terms, s.products, magnitude, sum_up(s.error), 1, magnitude, longest)
    return contract(sum_up(a.x), whole, q, a.profile)


def contract(x: Floats, s: OpenSum, q: Floats, profile: Profile) -> Total:
    """The sum s, whose value is x, carried out in the accumulator's format and stored.

    An exact sum grows by nothing. Else |computed - exact| <= growth(k) sum|t|, k the longest chain of additions that a
    term goes through, n - 1 at most, and one more where the terms are rounded first: products, and what the accumulator
    does not hold.
    """
    accumulator, storage = profile.accumulator, profile.storage
    k = s.depth + (s.products or not profile.holds_terms)
    exact: Floats = np.True_ if k == 0 else np.False_
    if not exact and not is_gridless(q):
        exact = accumulator.fits(s.magnitude, q) & storage.fits(s.magnitude, q)
    growth = accumulator.growth(k)
    # Each term and each addition may underflow, and what that loses grows in the additions above.
    rounding = growth * s.magnitude + 2 * s.terms * accumulator.tiny * (1 + growth)
    if some(exact):
        rounding = np.where(exact, 0.0, rounding)
    e = s.error + rounding
    largest = s.magnitude + rounding
    if not profile.stores_sums:
        e, s = stored(x, e, s, exact, profile)
    e = up(e, s.terms + 32)
    if not most(largest) <= accumulator.max:
        e = np.where(largest <= accumulator.max, e, np.inf)
    e = bounded(x, e, storage)
    known = exact & (s.error == 0) if some(exact) else np.False_
    return Total(x, e, np.where(known, q, 0.0) if some(known) else gridless(np.shape(x)), profile, s)


def stored(x: Floats, e: Floats, s: OpenSum, exact: Floats, profile: Profile) -> tuple[Floats, OpenSum]:
    """The bound and the open sum after storage; e is the bound before it."""
    storage = profile.storage
    if s.parts > 1:
        growth = storage.growth(s.parts - 1)
        return e + np.where(exact, 0.0, growth * (s.stored + e) + s.parts * storage.tiny * (1 + growth)), s
    rounding = np.where(exact, 0.0, storage.rounding(abs(x) + 2 * e))
    size = abs(x) + 2 * (e + rounding)
    return e + rounding, replace(s, error=s.error + rounding, parts=1, stored=size)


def factors(a: Operand) -> Floats:
    """The error of the factors of a contraction, with what rounding them to the engine's product format adds."""
    f = a.profile.product
    if f == a.profile.storage:
        return a.e
    return bounded(a.x, a.e + np.where(f.fits(abs(a.x), a.q), 0.0, f.rounding(abs(a.x) + 2 * a.e)), f)


def contraction(a: Operand, b: Operand, product: Callable[[Floats, Floats], Floats], terms: int, q: Floats) -> Total:
    """A sum of products: |a'b' - ab| <= |a| e_b + |b'| e_a in each."""
    ea, eb = factors(a), factors(b)
    finite_a, finite_b = np.isfinite(ea), np.isfinite(eb)
    if finite_a.all() and finite_b.all():
        unbounded: Floats = False
    else:
        # What is unbounded may be infinite in an engine, and 0 times it is no number.
        (lost_a, all_a), (lost_b, all_b) = (
            (np.where(finite, 0.0, 1.0), np.ones(finite.shape)) for finite in (finite_a, finite_b)
        )
        unbounded = (product(lost_a, all_b) + product(all_a, lost_b)) > 0
        ea, eb = np.where(finite_a, ea, 0.0), np.where(finite_b, eb, 0.0)
    x = product(a.x, b.x)
    size_a, size_b = abs(a.x), abs(b.x)
    # Products are what costs: none are taken of errors that are not there.
    error = np.zeros(np.shape(x))
    if some(eb):
        error = error + product(size_a + ea, eb)
    if some(ea):
        error = error + product(ea, size_b + 2 * eb)
    magnitude = product(size_a + 2 * ea, size_b + 2 * eb)
    if some(unbounded):
        error, magnitude = np.where(unbounded, np.inf, error), np.where(unbounded, np.inf, magnitude)
    return contract(x, OpenSum(terms, True, magnitude, error, 1, magnitude, a.profile.chain(terms)), q, a.profile)


@np.errstate(all="ignore")
def contraction_of_many(operands: Sequence[Operand], product: Callable[..., Floats], terms: int, q: Floats) -> Total:
    """A sum of products of m factors, at once or by pairs in any order.

    |prod a'_i - prod a_i| <= sum_i e_i prod_{j < i} |a_j| prod_{j > i} |a'_j|. Whatever the order, a term goes through
    at most n - 1 additions and m - 1 products: sums of n_1 and then n_2 terms have n_1 + n_2 - 2 of the n_1 n_2 - 1.
    By pairs, m - 2 results are stored on the way, and rounded to the product format again. Where chains are bounded,
    each of the m - 1 sums has one.
    """
    profile, m = operands[0].profile, len(operands)
    errors = [factors(a) for a in operands]
    sizes = [abs(a.x) + e for a, e in zip(operands, errors, strict=True)]
    larger = [abs(a.x) + 2 * e for a, e in zip(operands, errors, strict=True)]
    magnitude = product(*larger)
    error = sum(product(*sizes[:i], errors[i], *larger[i + 1 :]) for i in range(m))
    accumulator, storage = profile.accumulator, profile.storage
    on_the_way = 0 if accumulator == storage == profile.product else 2 * (m - 2)
    widest = min((storage, profile.product), key=lambda f: f.precision)
    extra = widest.growth(on_the_way)
    underflows = 2 * terms * m * (accumulator.tiny + storage.tiny) * (1 + extra)
    largest = np.max([np.max(size, initial=1.0) for size in larger])
    error = error + extra * magnitude + underflows * largest ** (m - 1)
    unbounded = ~np.isfinite(error) | ~np.isfinite(magnitude)
    error, magnitude = np.where(unbounded, np.inf, error), np.where(unbounded, np.inf, magnitude)
    exact = accumulator.fits(magnitude, q) & storage.fits(magnitude, q) & all(not np.any(e) for e in errors)
    error = np.where(exact & np.isfinite(magnitude), 0.0, error)
    longest = min(max(terms - 1, 0), (m - 1) * profile.chain(terms)) + m - 2
    whole = OpenSum(terms + m - 2, True, magnitude, error, 1, magnitude, longest)
    return contract(product(*(a.x for a in operands)), whole, q, profile)
