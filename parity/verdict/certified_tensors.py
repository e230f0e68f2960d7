"""Every certified value of a case beside its budget, and which of the listed other formulas the case tells apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np

from parity.budget.formats import Profile
from parity.records.record import Record, Train
from parity.truth.value import Truth
from parity.verdict.conclusion import InParts, OneRecord, Training
from parity.verdict.evaluation import Array, combined_bounds, first_update
from parity.verdict.tensor import Enclosure
from refnet.arithmetic.array_like import Undecided

MUCH = 2.0**10
"""A record reveals a weaker formula where that formula's budget is this many times the formula's own."""

Asked = OneRecord | InParts | Training


class CertifiedTensor(NamedTuple):
    """What is known of a tensor of a right answer: its dtype, its value, and how far a right answer may be from it; the
    budget is None where none is derived."""

    dtype: str
    truth: Truth
    budget: Array | None


Tensors = dict[str, CertifiedTensor]


def certified_tensors(asked: Asked, profile: Profile) -> Tensors:
    """Of the record itself; of a training, of its free run at the certified updates."""
    if isinstance(asked, Training):
        return _together(asked.free, lambda: asked.bounds, asked.record)
    one = asked.whole if isinstance(asked, InParts) else asked
    return _together(one.truths, lambda: _enclosed(one, profile), one.record)


def combined_tensors(asked: Asked, profile: Profile) -> Tensors:
    """Of what the gradients of the parts make up, where a case comes in parts."""
    if not isinstance(asked, InParts):
        return {}
    return _together(asked.combined, lambda: combined_bounds(asked.split, profile), asked.split.whole)


def further_tensors(asked: Asked, profile: Profile) -> dict[int, tuple[Record, Tensors]]:
    """The further records of a case, and what is certified of them."""
    match asked:
        case InParts():
            return {k: (part.record, certified_tensors(part, profile)) for k, part in enumerate(asked.parts)}
        case Training():
            return {
                number: (single, _together(truths, partial(_bounds_of_update, single, profile), single))
                for number, (single, truths) in asked.steps.items()
            }
        case _:
            return {}


def _together(truths: Mapping[str, Truth], bounds: Callable[[], Mapping[str, Array]], record: Record) -> Tensors:
    try:
        found = bounds()
    except Undecided:
        # A comparison in the budget is open.
        found = {}
    return {name: CertifiedTensor(record.dtype_of(name), t, found.get(name)) for name, t in truths.items()}


def _enclosed(one: OneRecord, profile: Profile) -> Mapping[str, Array]:
    return {name: e.bound for name, e in one.judge(profile).enclosures.items()}


def _bounds_of_update(single: Train, profile: Profile) -> Mapping[str, Array]:
    """The budgets of the only update of a training."""
    return {name: value.e for name, value in first_update(single, profile).items()}


def formulas_told_apart(asked: Asked, profile: Profile) -> Iterator[str]:
    """What the certified values and the listed other formulas say of a record, in words."""
    if isinstance(asked, Training):
        return
    one = asked.whole if isinstance(asked, InParts) else asked
    try:
        judge = one.judge(profile)
    except Undecided:
        yield "undecided"
        return
    enclosures = judge.enclosures
    if all(not e.bound.any() for e in enclosures.values()):
        yield "exact: every budget is zero"
    for e in enclosures.values():
        if e.truth.undecided.any():
            yield "undecided"
        if np.isnan(e.truth.hi).any():
            yield "no value: 0 / 0"
        if np.isinf(e.truth.nearest(profile.storage)).any():
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
