"""From an engine's answer to verdicts: the same for the command line, the tests and the faults."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from functools import cache

from parity.families.listing import DERIVATIVES, Variant, conventions
from parity.families.listing import weaker as weaker_formulas
from parity.records.record import VJP, Answer, Optimize, Undecided
from parity.verdict.evaluation import NO_PATCHES, Patches, Profile, around_itself, bounds
from parity.verdict.tensor import Enclosure, Other, TensorVerdict, Truth, failed, judge


class Judge:
    """One record's truth and budgets: judges the answers of all engines of one profile, and computes nothing twice."""

    def __init__(self, record: VJP | Optimize, truths: Mapping[str, Truth], profile: Profile) -> None:
        self.dtype = record.dtype
        self.enclosures = enclose(record, truths, profile)
        self.others = others_for(record, truths, profile)
        self.step = (lambda k: f"step {k + 1}") if isinstance(record, Optimize) else None

    def __call__(self, answer: Answer) -> list[TensorVerdict]:
        """The verdict on every tensor of an answer; one that nobody asked for fails too."""
        due = ", ".join(self.enclosures)
        return [
            *(
                judge(name, answer.get(name), e, expected_dtype(name, e, self.dtype), self.others, self.step)
                for name, e in self.enclosures.items()
            ),
            *(failed(name, f"expected no tensor but {due}") for name in answer if name not in self.enclosures),
        ]


def judge_answer(
    record: VJP | Optimize, truths: Mapping[str, Truth], answer: Answer, profile: Profile
) -> list[TensorVerdict]:
    """The verdict on every tensor of one answer."""
    return Judge(record, truths, profile)(answer)


def others_for(record: VJP | Optimize, truths: Mapping[str, Truth], profile: Profile) -> tuple[Other, ...]:
    """The listed other formulas that bear on a record."""
    return other_formulas(
        record.spec.types() if isinstance(record, VJP) else set(),
        lambda patches: enclose(record, truths, profile, patches),
        lambda patches: enclose_itself(record, profile, patches) if isinstance(record, VJP) else {},
    )


def expected_dtype(name: str, enclosure: Enclosure, dtype: str) -> str:
    """Updates are differences taken in float64; counters are integers."""
    if name.startswith("update."):
        return "float64"
    return "int64" if name.endswith("num_batches_tracked") else dtype


def enclose(
    record: VJP | Optimize,
    truths: Mapping[str, Truth],
    profile: Profile,
    patches: Patches = NO_PATCHES,
) -> dict[str, Enclosure]:
    """The budget of refnet's formula, or of a variant of it, around the truth.

    The truth is the derivative of the formula, and so is what is bounded, where refnet itself follows a convention.
    """
    found = bounds(record, profile, {**DERIVATIVES, **patches} if isinstance(record, VJP) else patches)
    # In the order of the computation, whatever that of the file.
    return {name: Enclosure(truths[name], found[name]) for name in sorted(truths, key=list(found).index)}


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


def enclose_itself(record: VJP, profile: Profile, patches: Patches) -> dict[str, Enclosure]:
    """The enclosures of a convention, whose own values in binary64 are the truth."""
    own = around_itself(record, profile, patches)
    return {name: Enclosure(Truth.of(values.x), values.e) for name, values in own.items()}
