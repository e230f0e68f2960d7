"""Running engines over the catalogue, case by case, in worker processes.

An engine that raises, dies or hangs costs that record, not the run, and nothing of the other engines' results.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import numpy as np

from parity.engines import loading
from parity.engines.base import Engine, Reply, ask, own_arithmetic, stated
from parity.families.case import DTYPES, NARROW, Case, TrainCase, VJPCase, group
from parity.records.record import Record, Train, Unsupported, UsageError
from parity.run import pool, scoring
from parity.run.results import CaseResult, Judged, Results, compare, digests, environment
from parity.vectors import catalogue_answers
from parity.verdict.conclusion import (
    Conclusion,
    InParts,
    OneRecord,
    Training,
    misconduct,
    without_answer,
    without_state,
)
from parity.verdict.findings_computed import Formula, shown
from parity.verdict.known_findings import known
from parity.verdict.table import is_caught
from refnet.arithmetic.array_like import Undecided

Certified = OneRecord | InParts | Training
"""What is asked in a case, with the certified answers."""

ENGINES = ("refnet", "torch")

TIMEOUT = 120.0
"""Seconds that one case may take with all its engines, families and dtypes."""


class _Asked(NamedTuple):
    """A task: some engines on one case."""

    case: Case
    engines: tuple[str, ...]
    dtypes: tuple[str, ...]
    folder: Path | None
    profile: str | None = None
    caught: set[str] | None = None
    """The known mistakes that need not be made: those that are caught when it is handed out. None: make none."""


class _Found(NamedTuple):
    """What came of it, and the scores of the mistakes that were made."""

    results: list[CaseResult]
    scores: scoring.Rows | None


def choose(names: Sequence[str]) -> tuple[str, ...]:
    """The engines of these names, each once, or those that are judged where none is named.

    Raises:
        UsageError: a name is none, or its package is not installed.
    """
    if not names and not loading.installed("torch"):
        return ("refnet",)
    chosen = tuple(dict.fromkeys(names)) or ENGINES
    if any(name.partition(":")[0] not in loading.BUILT_IN for name in chosen):
        # Anyone's own engine is looked for in the current folder first, by the workers too.
        sys.path.insert(0, os.getcwd())
    for name in chosen:
        loading.check(name)
    return chosen


def dtypes_of(names: Sequence[str], asked: Sequence[str], profile: str | None) -> tuple[str, ...]:
    """The dtypes to judge in: those that are asked for; else the profile's; else those that the engines name as their
    own, and float64 and float32 for engines that name none.

    Raises:
        UsageError: a dtype is none, or not the profile's; or the profile is none.
    """
    for dtype in asked:
        if dtype not in (*DTYPES, *NARROW):
            raise UsageError(f"--dtype: expected {', '.join(DTYPES)}, {' or '.join(NARROW)}, got {dtype}")
    if profile is not None:
        try:
            due = stated(profile).storage.name
        except ValueError as error:
            raise UsageError(f"--profile: {error}") from None
        if any(dtype != due for dtype in asked):
            raise UsageError(f"--profile: expected a profile of {', '.join(asked)}, as --dtype has it, got {profile}")
        return (due,)
    own = [loading.options(name).get("dtype") for name in names if name.partition(":")[0] in loading.BUILT_IN]
    wide = DTYPES if not all(own) or len(own) < len(names) else ()
    return tuple(dict.fromkeys(asked or [*wide, *filter(None, own)]))


def only(cases: Sequence[Case], names: Sequence[str], family: str | None) -> tuple[Case, ...]:
    """Of the cases those of exactly these names, or all where none is given, in one family alone if it is given.

    Raises:
        UsageError: a name is no case's, or no case is there in the family.
    """
    unknown = [name for name in names if name not in {case.name for case in cases}]
    if unknown:
        raise UsageError(f"--case: expected a case's whole name (parity run --list), got {unknown[0]!r}")
    found = [case for case in cases if (not names or case.name in names) and (not family or family in case.families)]
    if not found:
        raise UsageError(f"--family: expected a family of the case, got {family}")
    return tuple(replace(case, families=(family,)) if family else case for case in found)


def drawn(cases: Sequence[Case], per_class: int | None, seed: int) -> tuple[Case, ...]:
    """Of the cases of each class so many, by lot, in the order of the catalogue; all where no number is given. What is
    drawn of a class depends on its own cases and the seed alone."""
    if per_class is None:
        return tuple(cases)

    def lot(case: Case) -> bytes:
        return sha256(f"{seed} {case.name}".encode()).digest()

    classes: dict[str, list[Case]] = {}
    for case in sorted(cases, key=lot):
        classes.setdefault(group(case), []).append(case)
    chosen = {case.name for own in classes.values() for case in own[:per_class]}
    return tuple(case for case in cases if case.name in chosen)


def judge(
    cases: Sequence[Case],
    names: Sequence[str],
    dtypes: Sequence[str],
    jobs: int,
    timeout: float,
    done: Callable[[], object],
    profile: str | None = None,
    seeding: scoring.Seeding | None = None,
) -> Results:
    """What `run` finds, with where and how long it ran."""
    start = time.perf_counter()
    found = run(cases, names, dtypes, jobs, timeout, done, profile=profile, seeding=seeding)
    return Results(tuple(names), tuple(found), time.perf_counter() - start, environment())


def run(
    cases: Sequence[Case],
    names: Sequence[str],
    dtypes: Sequence[str],
    jobs: int,
    timeout: float = TIMEOUT,
    done: Callable[[], object] = lambda: None,
    folder: Path | None = None,
    profile: str | None = None,
    seeding: scoring.Seeding | None = None,
) -> list[CaseResult]:
    """Judge the engines on the cases; the results are in the order of the catalogue, whatever that of completion.

    A case that loses its process, or takes too long, is put to each engine alone, and then record by record: what fails
    is the record that is to blame.

    Args:
        done: is called as each case ends. folder: of the certified answers, the package's own
            where none is given. profile: how the engines compute, if not as they say.
        seeding: takes the scores of known mistakes, which are made while a case is judged; none are where it is None.

    Raises:
        UsageError: an engine can't be loaded; a certified answer is missing or refused.
    """
    found: list[CaseResult] = []
    caught = None if seeding is None else seeding.caught
    left = Counter({case.name: len(names) * len(case.families) * len(dtypes) for case in cases})

    def ended(asked: _Asked, one: _Found | pool.Lost) -> None:
        found.extend(_lost(asked, one.reason) if isinstance(one, pool.Lost) else one.results)
        if seeding and isinstance(one, _Found) and one.scores is not None:
            seeding.add(asked.case.name, one.scores)
        left[asked.case.name] -= len(asked.engines) * len(asked.case.families) * len(asked.dtypes)
        if not left[asked.case.name]:
            done()

    pool.run(
        _judge,
        [_Asked(case, tuple(names), tuple(dtypes), folder, profile, caught) for case in cases],
        jobs,
        ended,
        timeout=timeout,
        prepare=partial(_load, tuple(names)),
        long=lambda asked: isinstance(asked.case, TrainCase),
        apart=_apart,
    )
    results = {(r.case, r.family, r.dtype, r.engine): r for r in found}
    return [
        results[case.name, family, dtype, name]
        for case in cases
        for family in case.families
        for dtype in dtypes
        for name in names
    ]


def _apart(asked: _Asked) -> list[_Asked]:
    """Engine by engine, then record by record."""
    asked = asked._replace(caught=None)
    if len(asked.engines) > 1:
        return [asked._replace(engines=(name,)) for name in asked.engines]
    records = [(family, dtype) for family in asked.case.families for dtype in asked.dtypes]
    if len(records) == 1:
        return []
    return [asked._replace(case=replace(asked.case, families=(family,)), dtypes=(dtype,)) for family, dtype in records]


def _lost(asked: _Asked, reason: str) -> list[CaseResult]:
    lost = tuple(without_answer(reason).verdicts)
    return [
        CaseResult(asked.case.name, family, dtype, name, lost)
        for name in asked.engines
        for family in asked.case.families
        for dtype in asked.dtypes
    ]


@cache
def engine(name: str) -> Engine:
    """The engine of that name, loaded once."""
    with own_arithmetic():
        return loading.load(name)


def _load(names: tuple[str, ...]) -> None:
    """Load, in a new worker, what takes long and is known to end; what fails here fails again where it is reported."""
    for name in names:
        if name.partition(":")[0] in loading.BUILT_IN:
            with suppress(Exception):
                engine(name)


def _judge(asked: _Asked) -> _Found:
    """All engines on one case, in the worker, and the known mistakes."""
    case, asked_of = asked.case, dict[tuple[str, str], Certified]()
    try:
        made = [engine(name) for name in asked.engines]
        results = [
            result
            for family in case.families
            for dtype in asked.dtypes
            for result in judge_case(
                case, family, dtype, made, asked.folder, asked.profile, partial(asked_of.__setitem__, (family, dtype))
            )
        ]
        scores = None if asked.caught is None else _scores(case, asked_of, asked.caught)
        return _Found(results, scores)
    except Exception as error:
        error.add_note(f"while judging {case.name}")
        raise


def _scores(case: Case, asked_of: Mapping[tuple[str, str], Certified], caught: Set[str]) -> scoring.Rows | None:
    """The scores of known mistakes, by the budgets that engines were judged by; None where no record was judged in the
    format in which they are made."""
    own = {family: asked for (family, dtype), asked in asked_of.items() if dtype == scoring.DTYPE}
    if not own:
        return None
    wholes = {family: asked.whole if isinstance(asked, InParts) else asked for family, asked in own.items()}
    judges = {
        (case.name, family, scoring.DTYPE): partial(asked.judge, stated(scoring.DTYPE))
        for family, asked in wholes.items()
        if isinstance(asked, OneRecord)
    }
    return scoring.score_case(case, caught, judges)


def judge_case(
    case: Case,
    family: str,
    dtype: str,
    made: Sequence[Engine],
    folder: Path | None = None,
    profile: str | None = None,
    keep: Callable[[Certified], object] = lambda asked: None,
) -> list[CaseResult]:
    """The results of some engines on one case; what the others answer is compared with the first's answer, bit by bit.

    Args:
        keep: is given what is asked, with its budgets.

    Raises:
        UsageError: the folder has no certified answer to the case.
    """
    try:
        asked = certified(case, family, dtype, folder)
    except Unsupported as reason:
        return [CaseResult(case.name, family, dtype, engine.name, unsupported=str(reason)) for engine in made]
    keep(asked)
    results: list[CaseResult] = []
    first: Judged | None = None
    for engine in made:
        again = case.record(family, dtype) if _twice(case, family, dtype) else None
        reply = ask(engine, case.record(family, dtype), asked.further, again)
        if profile is not None and reply.profile is not None:
            reply.profile = stated(profile)
        found = _conclusion(asked, reply)
        judged = None if reply.answer is None else (reply.answer, found.verdicts)
        results.append(
            CaseResult(
                case.name,
                family,
                dtype,
                engine.name,
                tuple(found.verdicts),
                reply.unsupported,
                compare(judged, first) if judged and first else None,
                tuple(found.diagnosis),
                tuple(found.notes),
                reply.seconds,
                reply.traceback,
                str(reply.profile or ""),
                known(engine.name, case.name, dtype, _caught(found), partial(_shown, asked, reply, found)),
                catalogue_answers.is_large(case),
                {} if reply.answer is None else digests(reply.answer),
            )
        )
        if engine is made[0]:
            first = judged
    return results


def _twice(case: Case, family: str, dtype: str) -> bool:
    """Whether a record is in the sample that is asked twice: one in ten, always the same, and no training."""
    name = f"{case.name}, {family} {dtype}"
    return not isinstance(case, TrainCase) and crc32(name.encode()) % 10 == 0


def certified(case: Case, family: str, dtype: str, folder: Path | None = None) -> Certified:
    """What is asked in a case, with the certified answers.

    In a narrow format these are the answers that are kept for float32, where the format holds the same inputs; other
    inputs are enclosed in float64, and what is asked of a batch in parts is the whole.

    Raises:
        Unsupported: the case is not asked in this format.
    """
    if dtype in NARROW:
        record = case.record(family, dtype)
        assert not isinstance(record, Train)
        if record.spec.type == "RMSNorm" and record.spec.args.get("eps") is None:
            raise Unsupported("the default eps of RMSNorm is another in each format")
        if catalogue_answers.is_large(case):
            return OneRecord.in_coarser_format(record)
        if _same_arrays(record, case.record(family, "float32")):
            return OneRecord(record, catalogue_answers.truths(case, family, "float32", folder))
        return OneRecord.in_coarser_format(record)
    if isinstance(case, TrainCase):
        kept = catalogue_answers.training(case, family, dtype, folder)
        return Training(case.record(family, dtype), sorted(case.certified), kept.free, kept.bounds, kept.steps)
    if case.large:
        truths, samples = catalogue_answers.samples(case, family, dtype, folder)
        return OneRecord(case.record(family, dtype), truths, samples=samples)
    truths = catalogue_answers.truths(case, family, dtype, folder)
    if not isinstance(case, VJPCase) or not (split := case.split(family, dtype)):
        return OneRecord(case.record(family, dtype), truths)
    of_parts = catalogue_answers.in_parts(case, family, dtype, folder)
    return InParts(split, truths, of_parts.parts, of_parts.combined)


def _same_arrays(record: Record, other: Record) -> bool:
    """Whether two records have arrays of the same values."""
    ours, theirs = (
        [a for f in ("arrays", "params", "grads") for a in getattr(r, f, {}).values()]
        + [a for f in ("inputs", "grad_outputs") for a in getattr(r, f, ())]
        for r in (record, other)
    )
    return all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in zip(ours, theirs, strict=True))


def _caught(found: Conclusion) -> list[str]:
    return [v.name for v in found.verdicts if is_caught(v.verdict)]


def _shown(asked: Certified, reply: Reply, found: Conclusion, formula: Formula) -> bool:
    """Whether all that fails of an answer is what a formula gives; only answers to one record are compared. A tensor of
    which the formula speaks and nothing is proved has to be what it gives too."""
    if not isinstance(asked, OneRecord) or reply.profile is None or reply.answer is None:
        return False
    failing = {v.name for v in found.verdicts if is_caught(v.verdict) and v.name != "asked again"}
    unseen = {v.name for v in found.verdicts if not v.ok} - failing
    try:
        enclosures = asked.judge(reply.profile).enclosures
    except Undecided:
        return False
    return shown(formula, asked.record, failing, unseen, reply.answer, enclosures)


def _conclusion(asked: Certified, reply: Reply) -> Conclusion:
    if reply.profile is None or reply.answer is None:
        return without_answer(reply.failure)
    found = asked.conclude(reply.profile, reply.answer, reply.further)
    if reply.unkept:
        found = without_state(found, reply.unkept)
    found.verdicts += misconduct(reply.changed, reply.unsteady)
    if reply.further_unsupported is not None:
        found.notes.insert(0, f"{asked.further_are}: not judged, unsupported: {reply.further_unsupported}")
    return found
