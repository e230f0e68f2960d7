"""From an engine's answer to verdicts: the same for the command line, the tests and the faults."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

from parity.budget.array import Budget, Profile
from parity.families.table import Variant, conventions
from parity.families.table import weaker as weaker_formulas
from parity.records import definition
from parity.records.record import VJP, Answer, Optimize, Undecided
from parity.truth.value import Truth
from parity.verdict.tensor import Enclosure, Other, TensorVerdict, failed, judge

Array = np.ndarray[Any, Any]


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
    patches: Mapping[str, definition.Patch] = definition.NO_PATCHES,
) -> dict[str, Enclosure]:
    """The budget of refnet's formula, or of a variant of it, around the truth."""
    bounds = _bounds(record, profile, patches)
    # In the order of the computation, whatever that of the file.
    return {name: Enclosure(truths[name], bounds[name]) for name in sorted(truths, key=list(bounds).index)}


def _bounds(record: VJP | Optimize, profile: Profile, patches: Mapping[str, definition.Patch]) -> dict[str, Array]:
    def lift(array: Array) -> Budget:
        return Budget.exact(array, profile)

    if isinstance(record, VJP):
        tensors = definition.vjp(record, lift, patches)
        return {name: t.e if isinstance(t, Budget) else np.zeros(np.shape(t)) for name, t in tensors.items()}
    bounds = {}
    for name, series in definition.optimize(record, lift, patches).items():
        if name.startswith("param."):
            # An update is the difference of two parameters, taken in float64.
            wide = [Budget(p.x, p.e, p.q, Profile.of("float64")) for p in series]
            bounds[name.replace("param.", "update.")] = np.stack([(a - b).e for b, a in pairwise(wide)])
        else:
            missing = np.full(next(s for s in series if s is not None).shape, np.inf)
            bounds[name] = np.stack([missing if s is None else s.e for s in series])
    return bounds


def other_formulas(
    types: Set[str],
    weaker: Callable[[Mapping[str, definition.Patch]], Mapping[str, Enclosure]],
    conventional: Callable[[Mapping[str, definition.Patch]], Mapping[str, Enclosure]],
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


def enclose_itself(record: VJP, profile: Profile, patches: Mapping[str, definition.Patch]) -> dict[str, Enclosure]:
    """A convention's own values, in binary64, as the truth: an engine may differ by their bound and its own."""
    wide = definition.vjp(record, lambda a: Budget.exact(a, Profile.of("float64")), patches)
    own = definition.vjp(record, lambda a: Budget.exact(a, profile), patches)
    return {name: Enclosure(Truth.of(t.x), t.e + own[name].e) for name, t in wide.items() if isinstance(t, Budget)}
