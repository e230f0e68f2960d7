"""From an engine's answer to verdicts: the same for the command line, the tests and the faults."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from functools import cache, cached_property

import numpy as np

from parity.budget.formats import Profile
from parity.families.formula import Variant
from parity.families.listing import DERIVATIVES, conventions
from parity.families.listing import weaker as weaker_formulas
from parity.records.record import VJP, Answer, Optimize
from parity.truth.value import Truth
from parity.verdict.blindness import causes, told
from parity.verdict.evaluation import NO_PATCHES, Array, Patches, around_itself, bounds, in_binary64
from parity.verdict.tensor import Enclosure, Other, TensorVerdict, failed, judge
from refnet.arithmetic.array_like import Undecided

Room = Mapping[str, Array]
"""How far the truth may be from the values that it is known by, tensor by tensor."""

NO_ROOM: Room = {}


class Judge:
    """One record's truth and budgets: judges the answers of all engines of one profile, and computes nothing twice."""

    def __init__(
        self, record: VJP | Optimize, truths: Mapping[str, Truth], profile: Profile, room: Room = NO_ROOM
    ) -> None:
        self.record = record
        self.enclosures = enclose(record, truths, profile, room=room)
        self.others = others_for(record, truths, profile, room)
        self.profile = profile

    def __call__(self, answer: Answer) -> list[TensorVerdict]:
        """The verdict on every tensor of an answer; one that nobody asked for fails too."""
        due = ", ".join(self.enclosures)
        verdicts = [
            judge(name, answer.get(name), e, self.record.dtype_of(name), self.others, self._step(e))
            for name, e in self.enclosures.items()
        ]
        return [
            *(v if v.verdict != "blind" or v.formula else told(v, self._causes.get(v.name, "")) for v in verdicts),
            *(failed(name, f"expected no tensor but {due}") for name in answer if name not in self.enclosures),
        ]

    def _step(self, enclosure: Enclosure) -> Callable[[int], str] | None:
        """How the steps of an optimizer are called; a state need not be there from the first on."""
        if not isinstance(self.record, Optimize):
            return None
        before = self.record.steps - enclosure.truth.shape[0]
        return lambda k: f"step {before + k + 1}"

    @cached_property
    def _causes(self) -> Mapping[str, str]:
        """Which operation took the budgets' sight; asked where a tensor is blind."""
        return causes(self.record, self.profile, DERIVATIVES) if isinstance(self.record, VJP) else {}


def judge_answer(
    record: VJP | Optimize, truths: Mapping[str, Truth], answer: Answer, profile: Profile
) -> list[TensorVerdict]:
    """The verdict on every tensor of one answer."""
    return Judge(record, truths, profile)(answer)


def in_coarser_format(record: VJP | Optimize) -> tuple[dict[str, Truth], dict[str, Array]]:
    """The truth of a record in a format coarser than float64, enclosed by the budget of float64: values, and how far
    the truth may be from them."""
    found = in_binary64(record, DERIVATIVES if isinstance(record, VJP) else NO_PATCHES)
    truths = {
        name: Truth(np.asarray(v.x, np.float64), np.zeros(v.x.shape), ~np.isfinite(v.e) & np.isfinite(v.x))
        for name, v in found.items()
    }
    return truths, {name: np.where(np.isfinite(v.e), v.e, 0.0) for name, v in found.items()}


def others_for(
    record: VJP | Optimize, truths: Mapping[str, Truth], profile: Profile, room: Room = NO_ROOM
) -> tuple[Other, ...]:
    """The listed other formulas that bear on a record."""
    return other_formulas(
        record.types(),
        lambda patches: enclose(record, truths, profile, patches, room),
        lambda patches: enclose_itself(record, profile, patches),
    )


def enclose(
    record: VJP | Optimize,
    truths: Mapping[str, Truth],
    profile: Profile,
    patches: Patches = NO_PATCHES,
    room: Room = NO_ROOM,
) -> dict[str, Enclosure]:
    """The budget of refnet's formula, or of a variant of it, around the truth; with room for a truth that is enclosed.

    The truth is the derivative of the formula, and so is what is bounded, where refnet itself follows a convention.
    """
    found = bounds(record, profile, {**DERIVATIVES, **patches} if isinstance(record, VJP) else patches)
    # In the order of the computation, whatever that of the file.
    names = sorted(truths, key=list(found).index)
    return {name: Enclosure(truths[name], found[name] + room.get(name, 0.0)) for name in names}


def other_formulas(
    types: Set[str],
    weaker: Callable[[Patches], Mapping[str, Enclosure]],
    conventional: Callable[[Patches], Mapping[str, Enclosure]],
) -> tuple[Other, ...]:
    """The listed other formulas that bear on modules of these types.

    `weaker` gives the enclosures of a formula that is equal in exact arithmetic, around the same truth; `conventional`
    those of another choice, around its own values. Both are asked when they are first needed.
    """

    def other(kind: str, variant: Variant) -> Other:
        @cache
        def enclosures() -> Mapping[str, Enclosure]:
            try:
                return (weaker if kind == "unstable" else conventional)(variant.patches)
            except Undecided:
                return {}

        return Other(kind, variant.name, enclosures)

    return (
        *(other("unstable", v) for v in weaker_formulas(types)),
        *(other("convention", v) for v in conventions(types)),
    )


def enclose_itself(record: VJP | Optimize, profile: Profile, patches: Patches) -> dict[str, Enclosure]:
    """The enclosures of a convention, whose own values in binary64 are the truth."""
    own = around_itself(record, profile, patches)
    return {name: Enclosure(Truth.of(values.x), values.e) for name, values in own.items()}
