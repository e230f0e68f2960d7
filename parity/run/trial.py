"""One case put to some engines: asking them, and bringing their answers to judgement."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path

import numpy as np

from parity.budget.array import Profile
from parity.engines.base import Engine, one_line
from parity.families.case import Case, TrainCase, VJPCase
from parity.records.record import VJP, Answer, Optimize, Record, Spec, Train, Undecided, Unsupported
from parity.run.results import CaseResult, Comparison
from parity.truth.value import Truth
from parity.vectors import catalogue_answers
from parity.verdict import combined as parts
from parity.verdict import free_run, lockstep
from parity.verdict.answer import Judge, expected_dtype
from parity.verdict.diagnosis import diagnose
from parity.verdict.tensor import Enclosure, TensorVerdict, failed, judge


def judge_case(
    case: Case, family: str, dtype: str, made: Sequence[Engine], folder: Path | None = None
) -> list[CaseResult]:
    """The results of some engines on one case; what the others answer is compared with the first's answer, bit by bit.

    Raises:
        UsageError: the folder has no certified answer to the case.
    """
    trial = _trial(case, family, dtype, folder)
    results: list[CaseResult] = []
    first: tuple[Answer, Sequence[TensorVerdict]] | None = None
    for engine in made:
        reply = _ask(engine, _lent(case.record(family, dtype)), trial.further, trial.further_are)
        finding = trial.finding(reply)
        answered = None if reply.answer is None else (reply.answer, finding.verdicts)
        results.append(
            CaseResult(
                case.name,
                family,
                dtype,
                engine.name,
                tuple(finding.verdicts),
                reply.unsupported,
                _compare(answered, first) if answered and first else None,
                tuple(finding.diagnosis),
                tuple(finding.notes),
                reply.seconds,
            )
        )
        if engine is made[0]:
            first = answered
    return results


def _lent(record: Record) -> Record:
    """A fresh record with specs of its own too, which a case gives to all its records, and an engine may take apart."""
    specs = {f.name: getattr(record, f.name) for f in fields(record)}
    return replace(
        record, **{name: deepcopy(v) for name, v in specs.items() if isinstance(v, Spec) or name == "groups"}
    )


@dataclass
class Reply:
    """What came of asking an engine.

    Attributes:
        profile, answer: how it computes, and what it answers; None where it does not.
        further: its answers to the trial's further records, by their number; None where it does not answer those.
        unsupported, failure: why there is no answer. notes: what else is to be said.
        seconds: that it took.
    """

    profile: Profile | None = None
    answer: Answer | None = None
    further: Mapping[int, Answer] | None = None
    unsupported: str = ""
    failure: str = ""
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0


def _ask(engine: Engine, record: Record, further: Mapping[int, Record], further_are: str) -> Reply:
    """Ask an engine, which may raise anything: it has failed the case then, and the run goes on."""
    reply, start = Reply(), time.perf_counter()
    try:
        profile = engine.profile(record.dtype)
        if profile.storage.name != record.dtype:
            raise ValueError(f"expected a profile that stores {record.dtype}, got {profile.storage.name}")
        answer = _answer(engine, record)
        try:
            # What is kept serves the next engine too.
            reply.further = {k: _answer(engine, deepcopy(one)) for k, one in further.items()}
        except Unsupported as reason:
            reply.notes.append(f"{further_are}: not judged, unsupported: {one_line(reason)}")
        reply.profile, reply.answer = profile, answer
    except Unsupported as reason:
        reply.unsupported = one_line(reason) or "no reason given"
    except (Exception, SystemExit) as error:
        reply.failure = one_line(f"raised {type(error).__name__}: {error}")
    reply.seconds = time.perf_counter() - start
    return reply


def _answer(engine: Engine, record: Record) -> Answer:
    """An engine's answer as arrays of our own: what it writes into its own later changes nothing.

    Raises:
        TypeError: it is no dict of NumPy arrays of numbers.
    """
    match record:
        case VJP():
            answer: object = engine.vjp(record)
        case Optimize():
            answer = engine.optimize(record)
        case Train():
            answer = engine.train(record)
    if not isinstance(answer, Mapping):
        raise TypeError(f"expected a dict of NumPy arrays, got {type(answer).__name__}")
    for name, tensor in answer.items():
        if not isinstance(name, str):
            raise TypeError(f"expected names of tensors, got {name!r}")
        if not isinstance(tensor, (np.ndarray, np.generic)) or tensor.dtype.kind not in "biuf":
            kind = type(tensor).__name__ + (f" of {tensor.dtype}" if isinstance(tensor, np.ndarray) else "")
            raise TypeError(f"expected a NumPy array of numbers as {name}, got {kind}")
    return {one_line(name): np.array(tensor) for name, tensor in answer.items()}


@dataclass
class _Finding:
    verdicts: list[TensorVerdict] = field(default_factory=list)
    diagnosis: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def _trial(case: Case, family: str, dtype: str, folder: Path | None) -> _Trial | _InParts | _Training:
    if isinstance(case, TrainCase):
        return _Training(case, family, dtype, folder)
    trial = _Trial(case.record(family, dtype), catalogue_answers.truths(case, family, dtype, folder))
    if isinstance(case, VJPCase) and case.parts:
        return _InParts(trial, case, family, dtype, folder)
    return trial


class _Trial:
    """A case of one record: what is certified of it, and the budgets of each profile."""

    further: Mapping[int, Record] = {}
    further_are = ""

    def __init__(self, record: VJP | Optimize, truths: Mapping[str, Truth]) -> None:
        self.record, self.truths = record, truths
        self.judge = cache(lambda profile: Judge(record, truths, profile))

    def finding(self, reply: Reply) -> _Finding:
        """What is found of an engine's reply."""
        if reply.answer is None or reply.profile is None:
            return _without_answer(reply)
        return self.found(reply.answer, reply.profile)

    def found(self, answer: Answer, profile: Profile) -> _Finding:
        """What is found of an answer."""
        try:
            judge_of = self.judge(profile)
            verdicts = judge_of(answer)
        except Undecided as reason:
            return _Finding([replace(v, reason=v.reason or str(reason)) for v in self._without_budgets(answer)])
        failing = _failing(verdicts)
        found = diagnose(self.record, answer, judge_of.enclosures, profile, failing) if failing else []
        return _Finding(verdicts, [str(d) for d in found])

    def _without_budgets(self, answer: Answer) -> list[TensorVerdict]:
        """Undecided, but for a tensor that could not be right: missing, of another shape or dtype, or NaN."""
        verdicts = []
        for name, t in self.truths.items():
            blind = Enclosure(t, np.full(t.shape, np.inf))
            v = judge(name, answer.get(name), blind, expected_dtype(name, blind, self.record.dtype))
            verdicts.append(v if v.verdict == "FAIL" else TensorVerdict(name, "undecided"))
        unasked = [name for name in answer if name not in self.truths]
        return verdicts + [failed(name, f"expected no tensor but {', '.join(self.truths)}") for name in unasked]


class _InParts:
    """A case whose samples come in parts too: the whole, each part, and what an engine's gradients of the parts make
    up."""

    further_are = "parts"

    def __init__(self, whole: _Trial, case: VJPCase, family: str, dtype: str, folder: Path | None) -> None:
        split = case.split(family, dtype)
        assert split
        self.whole, self.split = whole, split
        self.kept = catalogue_answers.in_parts(case, family, dtype, folder)
        self.parts = [_Trial(part, truths) for part, truths in zip(split.parts, self.kept.parts, strict=True)]
        self.further: Mapping[int, Record] = dict(enumerate(split.parts))

    def finding(self, reply: Reply) -> _Finding:
        """What is found of an engine's reply."""
        finding = self.whole.finding(reply)
        if reply.profile is None or reply.further is None:
            return replace(finding, notes=[*finding.notes, *reply.notes])
        said: dict[str, list[str]] = {}
        for k, part in enumerate(self.parts):
            own = part.found(reply.further[k], reply.profile)
            finding.verdicts += [replace(v, name=f"part {k} {v.name}") for v in own.verdicts]
            for diagnosis in own.diagnosis:
                said.setdefault(diagnosis, []).append(str(k))
        # What is wrong with the whole need not be said of its parts again.
        known = set(finding.diagnosis)
        finding.diagnosis += [f"part {', '.join(ks)}: {d}" for d, ks in said.items() if d not in known]
        answers, combined = list(reply.further.values()), self.kept.combined
        try:
            finding.verdicts += parts.judge_combined(self.split, combined, answers, reply.profile)
        except Undecided as undecided:
            reason = str(undecided)
            finding.verdicts += [TensorVerdict(f"combined {name}", "undecided", reason=reason) for name in combined]
        finding.notes.append(parts.finding(self.split, self.whole.truths, combined))
        return finding


class _Training:
    """A training: every update from the engine's own weights; the certified single updates; the free run while its
    budget lasts."""

    further_are = "certified updates"

    def __init__(self, case: TrainCase, family: str, dtype: str, folder: Path | None) -> None:
        self.record = case.record(family, dtype)
        self.updates = sorted(case.certified)
        self.kept = catalogue_answers.training(case, family, dtype, folder)
        self.further: Mapping[int, Record] = {number: single for number, (single, _) in self.kept.steps.items()}

    def finding(self, reply: Reply) -> _Finding:
        """What is found of an engine's reply."""
        if reply.answer is None or reply.profile is None:
            return _without_answer(reply)
        verdicts = lockstep.judge_steps(self.record, reply.answer, reply.profile)
        if any(v.name == "run" for v in verdicts):
            return _Finding(verdicts)
        failing = _failing(verdicts)
        found = diagnose(self.record, reply.answer, {}, reply.profile, failing) if failing else []
        finding = _Finding(verdicts, [str(d) for d in found], list(reply.notes))
        if reply.further:
            finding.verdicts += lockstep.judge_single_updates(self.kept.steps, reply.further, reply.profile)
        self._free_run(reply.answer, reply.profile, finding)
        return finding

    def _free_run(self, answer: Answer, profile: Profile, finding: _Finding) -> None:
        if profile != Profile.of(self.record.dtype):
            finding.notes.append(f"free run: not judged, its budget is that of plain {self.record.dtype}")
            return
        kept = self.kept
        verdicts, notes = free_run.judge_run(answer, self.updates, kept.free, kept.bounds, self.record.dtype)
        finding.notes += notes
        # The budget is that of the formula itself. It says nothing against a weaker one.
        weaker = sorted({v.formula for v in finding.verdicts if v.verdict == "unstable"})
        if weaker and _failing(verdicts):
            finding.notes.append(f"free run: outside its budget, which is not that of {', '.join(weaker)}")
            verdicts = [v for v in verdicts if v.verdict != "FAIL"]
        finding.verdicts += verdicts


def _without_answer(reply: Reply) -> _Finding:
    return _Finding([] if reply.unsupported else [failed("answer", reply.failure)])


def _failing(verdicts: Sequence[TensorVerdict]) -> list[str]:
    return [v.name for v in verdicts if v.verdict == "FAIL"]


def _compare(own: tuple[Answer, Sequence[TensorVerdict]], first: tuple[Answer, Sequence[TensorVerdict]]) -> Comparison:
    due = _due(own[1]) & _due(first[1])
    found = Comparison()
    for name, tensor in first[0].items():
        other = own[0].get(name, np.array(None))
        alike = other.dtype == tensor.dtype and other.shape == tensor.shape
        bits = alike and other.tobytes() == tensor.tobytes()
        values = alike and np.array_equal(other, tensor)
        found += Comparison(1, int(bits), int(name in due), int(name in due and values))
    return found


def _due(verdicts: Sequence[TensorVerdict]) -> set[str]:
    """The tensors whose every element rounding leaves as it is, and no other choice accounts for."""
    return {v.name for v in verdicts if v.detection_limit == 0 and v.verdict in ("exact", "FAIL")}
