"""From an engine's answer to verdicts: the same for the command line, the tests and the faults."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

from parity import definition, variants
from parity.budget import Budget, Profile
from parity.engines.base import Answer
from parity.errors import Undecided
from parity.records import VJP, Optimize
from parity.truth import Truth
from parity.verdict import Enclosure, Other, TensorVerdict, judge

Array = np.ndarray[Any, Any]


def judge_answer(
    record: VJP | Optimize, truths: Mapping[str, Truth], answer: Answer, profile: Profile
) -> list[TensorVerdict]:
    """The verdict on every tensor of an answer, in the order of the truths; a tensor that nobody asked for fails too."""
    enclosures = enclose(record, truths, profile)
    others = others_for(record, truths, profile)
    verdicts = [
        judge(name, answer.get(name), enclosure, expected_dtype(name, enclosure, record.dtype), others)
        for name, enclosure in enclosures.items()
    ]
    return verdicts + [
        TensorVerdict(name, "FAIL", reason=f"expected no tensor of this name; expected {', '.join(enclosures)}")
        for name in answer
        if name not in enclosures
    ]


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
    return {name: Enclosure(truth, bounds[name]) for name, truth in truths.items()}


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

    `weaker` gives the enclosures of a formula that is equal in exact arithmetic, around the same truth; `conventional` those of another
    choice, around its own values. Both are asked when they are first needed.
    """

    def other(kind: str, variant: variants.Variant) -> Other:
        @cache
        def enclosures() -> Mapping[str, Enclosure]:
            try:
                return (weaker if kind == "unstable" else conventional)(variant.patches)
            except Undecided:
                return {}

        return Other(kind, variant.name, enclosures)

    conventions = [v for v in variants.CONVENTIONS if v.patches.keys() & types]
    return (
        *(other("unstable", v) for v in variants.bearing_on(types)),
        *(other("convention", v) for v in conventions),
    )


def enclose_itself(record: VJP, profile: Profile, patches: Mapping[str, definition.Patch]) -> dict[str, Enclosure]:
    """A convention's own values, in binary64, as the truth: an engine may differ from them by their bound and its own."""
    wide, own = (
        definition.vjp(record, lambda a, p=p: Budget.exact(a, p), patches) for p in (Profile.of("float64"), profile)
    )
    return {name: Enclosure(Truth.of(t.x), t.e + own[name].e) for name, t in wide.items() if isinstance(t, Budget)}
