"""What a failing tensor is to the truth: zero, negated, a factor of it, transposed, in another order.

A relation is named only when the tensor's own budget, carried through the relation, holds every element.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from parity.verdict.match import Diagnosis
from parity.verdict.tensor import Answer, Array, Enclosure, format_named, inside

COMPARED = 2**28
"""Elements that are compared at most to find a shift of rows, and to find any order of them. (Where many rows are
equal, many shifts are possible.)"""


class Asked(Protocol):
    """What a relation is looked for in: a record, or what an expression was evaluated at."""

    @property
    def dtype(self) -> str: ...

    def given(self) -> Iterator[tuple[str, Array]]: ...

    def sizes(self) -> Iterator[tuple[str, int]]: ...

    def arguments(self) -> Mapping[str, Any]: ...


def relations_to_truth(
    record: Asked, answer: Answer, enclosures: Mapping[str, Enclosure], failing: Sequence[str]
) -> list[Diagnosis]:
    """What the failing tensors are to the truth, one by one: a relation of several is said once."""
    found: dict[tuple[str, str], list[str]] = {}
    for name in failing:
        got = answer.get(name)
        if name not in enclosures or got is None or not got.size or got.dtype.kind != "f":
            continue
        for relation in _related(record, name, got, enclosures):
            found.setdefault(relation, []).append(name)
    order = list(dict.fromkeys(kind for kind, _ in found))
    ranked = sorted(found.items(), key=lambda item: (-len(item[1]), order.index(item[0][0])))
    return [Diagnosis(kind, f"{what} in {', '.join(names)}", tensors=tuple(names)) for (kind, what), names in ranked]


def _related(record: Asked, name: str, got: Array, enclosures: Mapping[str, Enclosure]) -> Iterator[tuple[str, str]]:
    own = enclosures[name]
    if got.shape != own.truth.shape:
        if got.ndim > 1 and got.mT.shape == own.truth.shape and inside(got.mT, own):
            yield "transposed", "the truth's last two axes exchanged"
        return
    if not np.isfinite(got).all():
        yield "not finite", f"{int((~np.isfinite(got)).sum())} of {got.size} elements are NaN or infinite"
        return
    if not got.any():
        yield "zero", "0 in every element"
        return
    for what, array in record.given():
        if array.shape == got.shape and array.any() and np.array_equal(array, got):
            yield "handed on", f"{what}, unchanged"
    for other, enclosure in enclosures.items():
        if other != name and enclosure.truth.shape == got.shape and inside(got, enclosure):
            yield "another tensor", f"what {other} should be"
    if got.ndim > 1 and got.shape[-1] == got.shape[-2] and inside(got.mT, own):
        yield "transposed", "the truth's last two axes exchanged"
    u = format_named(record.dtype).u
    if _without_upstream(record, got, own, u):
        yield "upstream gradient left out", "the truth of an upstream gradient of ones"
    elif factor := _named_factor(record, got, own, u) or _some_factor(got, own, u):
        yield "a constant factor", factor
    yield from _permuted(got, own)
    yield from _placed(got, own)


def _factors(record: Asked) -> Iterator[tuple[float, str]]:
    """Factors that a formula can lack or have too often, with what they are."""
    yield from ((2.0, "2"), (0.5, "1/2"), (4.0, "4"), (0.25, "1/4"))
    for what, n in record.sizes():
        if n > 1:
            yield from ((float(n), f"{n}, {what}"), (1 / n, f"1/{n}, {what}"))
            yield from ((n / (n - 1), f"{n}/{n - 1}, of {what}"), ((n - 1) / n, f"{n - 1}/{n}, of {what}"))
    for name, value in record.arguments().items():
        if type(value) is float and value not in (0.0, 1.0):
            yield from ((value, name), (1 / value, f"1/{name}"))
            yield from ((1 - value, f"1 - {name}"), (1 / (1 - value), f"1/(1 - {name})"))


def _named_factor(record: Asked, got: Array, own: Enclosure, u: float) -> str:
    for c, what in ((-1.0, "-1"), *_factors(record), *((-c, f"-({what})") for c, what in _factors(record))):
        if _scaled(got, own, c, 0.0 if abs(math.frexp(c)[0]) == 0.5 else 4 * u, 1):
            return f"{what} times the truth"
    return ""


def _some_factor(got: Array, own: Enclosure, u: float) -> str:
    """A factor read off the largest element, as certain as that is, and found in at least two others."""
    index = np.unravel_index(int(abs(own.truth.hi).argmax()), got.shape)
    true, bound = float(own.truth.hi[index]), float(own.bound[index])
    if got.size < 3 or bound >= abs(true):
        return ""
    c = float(got[index]) / true
    # (that element and each of the others may be a rounded product)
    slack = (abs(c) + 1) * bound / abs(true) / (abs(c) or 1) + 4 * u
    return f"{c:.6g} times the truth" if _scaled(got, own, c, slack, 3) else ""


def _without_upstream(record: Asked, got: Array, own: Enclosure, u: float) -> bool:
    """Whether it is the truth divided by the upstream gradient: of an elementwise function, or of a single number."""
    upstream = [g for what, g in record.given() if what.startswith("upstream gradient")]
    if len(upstream) != 1 or (g := upstream[0]).shape not in (got.shape, ()) or not g.all():
        return False
    return _scaled(got, own, 1 / g.astype(np.float64), 4 * u, 1 if g.size == 1 else 3)


def _scaled(got: Array, own: Enclosure, c: float | Array, relative: float, seen: int) -> bool:
    """Whether `got` is c times the truth, and at least `seen` elements tell that from the truth itself.

    relative: how far c, and the product by it, may be from what they stand for.
    """
    scaled = c * own.truth.hi + c * own.truth.lo
    allowed = abs(c) * own.bound + (relative + 2.0**-51) * abs(scaled)
    telling = abs(scaled - own.truth.hi) > allowed + own.bound
    return bool((abs(got - scaled) <= allowed).all()) and int(telling.sum()) >= min(seen, got.size)


def _permuted(got: Array, own: Enclosure) -> Iterator[tuple[str, str]]:
    for axis, what in ((0, "rows"), (-1, "columns"))[: got.ndim]:
        n = got.shape[axis]
        truth, bound = (np.moveaxis(a, axis, 0).reshape(n, -1) for a in (own.truth.hi, own.bound * (1 + 2.0**-50)))
        rows, places = np.moveaxis(got, axis, 0).reshape(n, -1), np.arange(n)
        if n > 1 and (how := _order(rows, truth, bound, places)):
            yield what, f"{what} {how}"


def _order(rows: Array, truth: Array, bound: Array, places: Array) -> str:
    """The order in which the rows are those of the truth, in words; empty where there is none. Rows are compared one
    by one: all pairs of 1,024 rows of 1,024 elements would take 8 GiB."""

    def those_that_fit(i: int) -> Array:
        return np.asarray(np.all(abs(rows[i] - truth) <= bound, axis=-1))

    def holds(order: Array) -> bool:
        return bool(np.all(abs(rows - truth[order]) <= bound[order]))

    n, start = len(places), those_that_fit(0)
    for j in np.flatnonzero(start[::-1])[: COMPARED // rows.size]:
        # The first row is the truth's row n - 1 - j, which is the shift by j + 1.
        if j < n - 1 and holds((places - j - 1) % n):
            return f"shifted by {j + 1}"
    if start[-1] and holds(places[::-1]):
        return "from the end"
    first = []
    for i in places if start.any() and n * rows.size <= COMPARED else ():
        fits = those_that_fit(i)
        if not fits.any():
            return ""
        first.append(int(fits.argmax()))
    return f"in the order {first}" if first and np.array_equal(np.sort(first), places) else ""


def _placed(got: Array, own: Enclosure) -> Iterator[tuple[str, str]]:
    outside = ~((own.truth.error(got) <= own.bound) | own.truth.undecided)
    index = np.argwhere(outside)
    zero = ", and 0 there" if not got[outside].any() else ""
    if got.size > 1 and len(index) == 1:
        yield "one element", f"only {index[0].tolist()} is wrong{zero}"
    elif got.ndim and got.shape[0] > 1 and len(np.unique(index[:, 0])) == 1:
        yield "one row", f"only row {int(index[0][0])} of {got.shape[0]} is wrong{zero}"
