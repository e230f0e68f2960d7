"""What is concluded of an engine's answers to one case: the verdict on each tensor, a diagnosis, and what else is to be
said.

Each class here holds a kind of case with its certified answers. Some ask for more than one answer: `further` are the
other records that an engine is asked, by their number, and its answers to them come under the same numbers, or as None
where it does not answer them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Self

import numpy as np

from parity.budget.formats import Profile
from parity.records.record import VJP, Optimize, Record, Split, Train
from parity.verdict import combined as parts
from parity.verdict import free_run, lockstep
from parity.verdict.answer import Judge, enclosed
from parity.verdict.certified_tensors import Tensors, beside, formulas_told_apart
from parity.verdict.diagnosis import diagnose, told_of_precision
from parity.verdict.evaluation import NO_ROOM, Request, Room, SplitRequest, TrainingRequest
from parity.verdict.relations import relations_to_truth
from parity.verdict.table import is_caught
from parity.verdict.tensor import NO_SAMPLES, Answer, Array, Enclosure, Samples, TensorVerdict, Truths, failed, judge
from refnet.arithmetic.array_like import Undecided

FOLLOWED = 50
"""How many updates of a failing training are held against the truth for a factor, a zero or another order."""


@dataclass
class Conclusion:
    """What is found of an engine on one case."""

    verdicts: list[TensorVerdict] = field(default_factory=list)
    diagnosis: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def without_answer(failure: str) -> Conclusion:
    """What is concluded where there is no answer; nothing where that is no failure."""
    return Conclusion([failed("answer", failure)] if failure else [])


def without_state(found: Conclusion, keys: Sequence[str]) -> Conclusion:
    """A conclusion without the verdicts on state that the engine says it keeps none of; nothing else is left out."""
    verdicts = [v for v in found.verdicts if not (v.name.startswith("state.") and v.name.rpartition(".")[2] in keys)]
    failing = _failing(verdicts)
    notes = [f"state {key}: not judged, the engine keeps none of that name" for key in keys]
    return Conclusion(verdicts, found.diagnosis if failing else [], [*found.notes, *notes])


def misconduct(changed: Sequence[str], unsteady: Sequence[str]) -> list[TensorVerdict]:
    """Failures of their own: changed inputs, and tensors that are others when the engine is asked again."""
    found = []
    if changed:
        found.append(
            failed("inputs", f"expected inputs that the engine leaves as they are, got others in {', '.join(changed)}")
        )
    if unsteady:
        found.append(
            failed("asked again", f"expected the same answer, bit for bit, got another in {', '.join(unsteady)}")
        )
    return found


class OneRecord:
    """A case of one record.

    Like the other kinds of case, it tells besides what is certified of its tensors (`certified`), of what the gradients
    of parts make up (`certified_combined`) and of the further records (`certified_further`), and which of the listed
    other formulas it tells apart (`told_apart`), for an engine that computes everything in the record's dtype.
    """

    further: Mapping[int, Record] = {}
    further_are = ""

    def __init__(
        self, record: VJP | Optimize, truths: Truths, room: Room = NO_ROOM, samples: Samples = NO_SAMPLES
    ) -> None:
        self.record, self.truths, self.samples = record, truths, samples
        self.judge = cache(lambda profile: Judge(Request(record, profile, room), truths, samples))

    @classmethod
    def in_coarser_format(cls, record: VJP | Optimize) -> Self:
        """A record that no certified answer is kept of, in a format coarser than float64: the truth is what its budget
        in float64 encloses."""
        return cls(record, *enclosed(Request(record, Profile.of("float64"))))

    def conclude(self, profile: Profile, answer: Answer, further: Mapping[int, Answer] | None = None) -> Conclusion:
        try:
            judge_of = self.judge(profile)
            verdicts = judge_of(answer)
        except Undecided as reason:
            return Conclusion([replace(v, reason=v.reason or str(reason)) for v in self._without_budgets(answer)])
        failing = _failing(verdicts)
        if failing and self.samples:
            note = "the cause is looked for in small cases: some elements are certified here, and they do not tell"
            return Conclusion(verdicts, notes=[note])
        found = diagnose(judge_of.request, answer, judge_of.enclosures, failing) if failing else []
        return Conclusion(told_of_precision(verdicts, found), [str(d) for d in found])

    def _without_budgets(self, answer: Answer) -> list[TensorVerdict]:
        """Undecided, but for a tensor that could not be right: missing, of another shape or dtype, or NaN."""
        verdicts = []
        for name, t in self.truths.items():
            blind = Enclosure(t, np.full(t.shape, np.inf), self.samples.get(name))
            v = judge(name, answer.get(name), blind, self.record.dtype_of(name))
            verdicts.append(v if is_caught(v.verdict) else TensorVerdict(name, "undecided"))
        unasked = [name for name in answer if name not in self.truths]
        return verdicts + [failed(name, f"expected no tensor but {', '.join(self.truths)}") for name in unasked]

    def certified(self) -> Tensors:
        return beside(
            self.truths,
            lambda: {name: e.bound for name, e in self.judge(Profile.of(self.record.dtype)).enclosures.items()},
            self.record.dtype_of,
        )

    def certified_combined(self) -> Tensors:
        return {}

    def certified_further(self) -> dict[int, tuple[Record, Tensors]]:
        return {}

    def told_apart(self) -> Iterator[str]:
        try:
            judge_of = self.judge(Profile.of(self.record.dtype))
        except Undecided:
            yield "undecided"
            return
        yield from formulas_told_apart(judge_of)


class InParts:
    """A case whose samples come in parts too: the whole, each part, and what an engine's gradients of the parts make
    up.

    Args:
        of_whole, of_parts, of_combined: the certified answers.
    """

    further_are = "parts"

    def __init__(
        self,
        split: Split,
        of_whole: Truths,
        of_parts: Sequence[Truths],
        of_combined: Truths,
    ) -> None:
        self.split, self.combined = split, of_combined
        self.whole = OneRecord(split.whole, of_whole)
        self.parts = [OneRecord(part, truths) for part, truths in zip(split.parts, of_parts, strict=True)]
        self.further: Mapping[int, Record] = dict(enumerate(split.parts))

    def conclude(self, profile: Profile, answer: Answer, further: Mapping[int, Answer] | None = None) -> Conclusion:
        conclusion = self.whole.conclude(profile, answer)
        if further is None:
            return conclusion
        said: dict[str, list[str]] = {}
        for k, part in enumerate(self.parts):
            own = part.conclude(profile, further[k])
            conclusion.verdicts += [replace(v, name=f"part {k} {v.name}") for v in own.verdicts]
            for diagnosis in own.diagnosis:
                said.setdefault(diagnosis, []).append(str(k))
        # What is wrong with the whole need not be said of its parts again.
        known = set(conclusion.diagnosis)
        conclusion.diagnosis += [f"part {', '.join(ks)}: {d}" for d, ks in said.items() if d not in known]
        request = SplitRequest(self.split, profile)
        conclusion.verdicts += self._combined(request, list(further.values()))
        conclusion.notes.append(parts.finding(request, self.whole.truths, self.combined))
        return conclusion

    def _combined(self, request: SplitRequest, answers: Sequence[Answer]) -> list[TensorVerdict]:
        try:
            return parts.judge_combined(request, self.combined, answers)
        except Undecided as undecided:
            reason = str(undecided)
            return [TensorVerdict(f"combined {name}", "undecided", reason=reason) for name in self.combined]

    def certified(self) -> Tensors:
        return self.whole.certified()

    def certified_combined(self) -> Tensors:
        return beside(
            self.combined, SplitRequest(self.split, Profile.of(self.split.dtype)).bounds, self.split.whole.dtype_of
        )

    def certified_further(self) -> dict[int, tuple[Record, Tensors]]:
        return {k: (part.record, part.certified()) for k, part in enumerate(self.parts)}

    def told_apart(self) -> Iterator[str]:
        return self.whole.told_apart()


class Training:
    """A training: every update from the engine's own weights; the certified single updates; the free run while its
    budget lasts.

    Args:
        updates: the numbers of updates after which a free run is certified, in order. free, bounds: the certified
            values there, and how far a right run may be from them.
        steps: the record of some single updates, by their number, and the certified answer to each.
    """

    further_are = "certified updates"

    def __init__(
        self,
        record: Train,
        updates: Sequence[int],
        free: Truths,
        bounds: Mapping[str, Array],
        steps: Mapping[int, tuple[Train, Truths]],
    ) -> None:
        self.record, self.updates, self.free, self.bounds, self.steps = record, updates, free, bounds, steps
        self.further: Mapping[int, Record] = {number: single for number, (single, _) in steps.items()}

    def conclude(self, profile: Profile, answer: Answer, further: Mapping[int, Answer] | None = None) -> Conclusion:
        request = TrainingRequest(self.record, profile)
        verdicts = lockstep.judge_steps(request, answer)
        if any(v.name == "run" for v in verdicts):
            return Conclusion(verdicts)
        failing = _failing(verdicts)
        found = []
        if failing:
            first, enclosures = lockstep.first_updates(request, answer, FOLLOWED)
            found = diagnose(request, answer, {}, failing)
            found += relations_to_truth(request.record, first, enclosures, failing)
        conclusion = Conclusion(verdicts, [str(d) for d in found])
        if further:
            singles = {n: (TrainingRequest(single, profile), truths) for n, (single, truths) in self.steps.items()}
            conclusion.verdicts += lockstep.judge_single_updates(singles, further)
        self._free_run(answer, profile, conclusion)
        return conclusion

    def certified(self) -> Tensors:
        """Of the free run, at the certified updates."""
        return beside(self.free, lambda: self.bounds, self.record.dtype_of)

    def certified_combined(self) -> Tensors:
        return {}

    def certified_further(self) -> dict[int, tuple[Record, Tensors]]:
        return {n: (single, _of_update(single, truths)) for n, (single, truths) in self.steps.items()}

    def told_apart(self) -> Iterator[str]:
        yield from ()

    def _free_run(self, answer: Answer, profile: Profile, conclusion: Conclusion) -> None:
        if profile != Profile.of(self.record.dtype):
            conclusion.notes.append(f"free run: not judged, its budget is that of plain {self.record.dtype}")
            return
        verdicts, notes = free_run.judge_run(answer, self.updates, self.free, self.bounds, self.record.dtype)
        conclusion.notes += notes
        # The budget is that of the formula itself. It says nothing against a weaker one.
        weaker = sorted({v.formula for v in conclusion.verdicts if v.verdict == "unstable"})
        if weaker and _failing(verdicts):
            conclusion.notes.append(f"free run: outside its budget, which is not that of {', '.join(weaker)}")
            verdicts = [v for v in verdicts if not is_caught(v.verdict)]
        conclusion.verdicts += verdicts


def _failing(verdicts: Sequence[TensorVerdict]) -> list[str]:
    return [v.name for v in verdicts if is_caught(v.verdict)]


def _of_update(single: Train, truths: Truths) -> Tensors:
    """What is certified of the only update of a training."""
    request = TrainingRequest.plain(single)
    return beside(truths, lambda: {n: v.e for n, v in request.first_update().items()}, single.dtype_of)
