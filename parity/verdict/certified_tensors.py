"""Every certified value of a case beside its budget, and which of the listed other formulas the case tells apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from parity.truth.value import Truth
from parity.verdict.answer import Judge
from parity.verdict.tensor import Array, Enclosure, Truths
from refnet.arithmetic.array_like import Undecided

MUCH = 2.0**10
"""A record reveals a weaker formula where that formula's budget is this many times the formula's own."""


class CertifiedTensor(NamedTuple):
    """What is known of a tensor of a right answer: its dtype, its value, and how far a right answer may be from it; the
    budget is None where none is derived."""

    dtype: str
    truth: Truth
    budget: Array | None


Tensors = dict[str, CertifiedTensor]


def beside(truths: Truths, bounds: Callable[[], Mapping[str, Array]], dtype_of: Callable[[str], str]) -> Tensors:
    """Certified values beside their bounds, if these can be derived."""
    try:
        found = bounds()
    except Undecided:
        # A comparison in the budget is open.
        found = {}
    return {name: CertifiedTensor(dtype_of(name), t, found.get(name)) for name, t in truths.items()}


def formulas_told_apart(judge: Judge) -> Iterator[str]:
    """What the certified values and the listed other formulas say of a record, in words."""
    enclosures, storage = judge.enclosures, judge.request.profile.storage
    if all(not e.bound.any() for e in enclosures.values()):
        yield "exact: every budget is zero"
    for e in enclosures.values():
        if e.truth.undecided.any():
            yield "undecided"
        if np.isnan(e.truth.hi).any():
            yield "no value: 0 / 0"
        if np.isinf(e.truth.nearest(storage)).any():
            yield "overflow in a result"
    for other in judge.others:
        alternative = other.enclosures()
        if any(_differs(other.kind, enclosures[name], e) for name, e in alternative.items() if name in enclosures):
            yield f"{other.kind}: {other.name}"


def _differs(kind: str, own: Enclosure, other: Enclosure) -> bool:
    known = own.known
    with np.errstate(all="ignore"):
        if kind == "convention":
            # The certified value is not the other choice's.
            return bool((other.truth.error(own.truth.hi) > other.bound + own.bound)[known].any())
        wider = (other.bound > MUCH * own.bound) & (own.bound > 0) & np.isfinite(own.bound)
    return bool(wider[known].any())
