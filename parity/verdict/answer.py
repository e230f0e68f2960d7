"""From an engine's answer to verdicts: the same for the command line, the tests and the faults."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from functools import cache, cached_property

import numpy as np

from parity.families.listing import DERIVATIVES, conventions
from parity.families.listing import weaker as weaker_formulas
from parity.verdict.blindness import causes, told
from parity.verdict.evaluation import NO_PATCHES, Patches, Request, Room
from parity.verdict.tensor import (
    NO_SAMPLES,
    Answer,
    Array,
    Enclosure,
    Other,
    Samples,
    TensorVerdict,
    Truths,
    failed,
    judge,
)
from refnet.arithmetic.array_like import Undecided


class Judge:
    """The truth and the budgets of what is asked: judges the answers of all engines of one profile, and computes
    nothing twice."""

    def __init__(self, request: Request, truths: Truths, samples: Samples = NO_SAMPLES) -> None:
        self.request = request
        self.enclosures = enclose(request, truths, samples=samples)
        self.others = others_for(request, truths, samples)
        self._judged: dict[str, tuple[Array, TensorVerdict]] = {}

    def __call__(self, answer: Answer) -> list[TensorVerdict]:
        """The verdict on every tensor of an answer; one that nobody asked for fails too."""
        due = ", ".join(self.enclosures)
        verdicts = [self._verdict(name, answer.get(name)) for name in self.enclosures]
        return [
            *(v if v.verdict != "blind" or v.formula else told(v, self._causes.get(v.name, "")) for v in verdicts),
            *(failed(name, f"expected no tensor but {due}") for name in answer if name not in self.enclosures),
        ]

    def _verdict(self, name: str, got: Array | None) -> TensorVerdict:
        """That on a tensor; the bits of the engine before have its verdict."""
        before = self._judged.get(name)
        if before is not None and same_bits(got, before[0]):
            return before[1]
        e, record = self.enclosures[name], self.request.record
        found = judge(name, got, e, record.dtype_of(name), self.others, record.steps_of(e.truth.shape))
        if got is not None:
            self._judged[name] = got.copy(), found
        return found

    @cached_property
    def _causes(self) -> Mapping[str, str]:
        """Which operation took the budgets' sight; asked where a tensor is blind."""
        return causes(self.request, DERIVATIVES)


def same_bits(a: Array | None, b: Array) -> bool:
    """Whether two tensors have the same bits."""
    return a is not None and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def judge_answer(request: Request, truths: Truths, answer: Answer) -> list[TensorVerdict]:
    """The verdict on every tensor of one answer."""
    return Judge(request, truths)(answer)


def enclosed(in_binary64: Request) -> tuple[Truths, Room]:
    """The values of refnet's formula, asked in binary64, and how far the truth may be from them."""
    found = in_binary64.values(patches=DERIVATIVES)
    truths = {n: Enclosure.around(v.x, v.e, ~np.isfinite(v.e) & np.isfinite(v.x)).truth for n, v in found.items()}
    return truths, {name: np.where(np.isfinite(v.e), v.e, 0.0) for name, v in found.items()}


def others_for(request: Request, truths: Truths, samples: Samples = NO_SAMPLES) -> tuple[Other, ...]:
    """The listed other formulas that bear on a record."""
    return other_formulas(
        request.record.types(),
        lambda patches: enclose(request, truths, patches, samples),
        lambda patches: enclose_itself(request, patches),
    )


def enclose(
    request: Request, truths: Truths, patches: Patches = NO_PATCHES, samples: Samples = NO_SAMPLES
) -> dict[str, Enclosure]:
    """The budget of refnet's formula, or of a variant of it, around the truth, or around what is known of it.

    The truth is the derivative of the formula, and so is what is bounded, where refnet itself follows a convention.
    """
    found = request.bounds({**DERIVATIVES, **patches})
    # In the order of the computation, whatever that of the file.
    order = sorted(truths, key=list(found).index)
    return {name: Enclosure.of_sample(truths[name], found[name], samples.get(name)) for name in order}


def enclose_itself(request: Request, patches: Patches = NO_PATCHES) -> dict[str, Enclosure]:
    """The enclosures of a convention, whose own values in binary64 are the truth."""
    return {name: Enclosure.around(v.x, v.e) for name, v in request.around_itself(patches).items()}


def other_formulas(
    types: Set[str],
    weaker: Callable[[Patches], Mapping[str, Enclosure]],
    conventional: Callable[[Patches], Mapping[str, Enclosure]],
) -> tuple[Other, ...]:
    """The listed other formulas that bear on modules of these types.

    `weaker` gives the enclosures of a formula that is equal in exact arithmetic, around the same truth; `conventional`
    those of another choice, around its own values. Both are asked when they are first needed.
    """

    def other(kind: str, name: str, patches: Patches) -> Other:
        @cache
        def enclosures() -> Mapping[str, Enclosure]:
            try:
                return (weaker if kind == "unstable" else conventional)(patches)
            except Undecided:
                return {}

        return Other(kind, name, enclosures)

    listed = weaker_formulas(types)
    return (
        *(other("unstable", v.name, v.patches) for v in listed if not v.narrow),
        *(other("convention", v.name, v.patches) for v in conventions(types)),
        *(other("unstable", v.name, v.patches) for v in listed if v.narrow),
    )
