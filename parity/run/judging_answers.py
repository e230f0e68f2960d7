"""Verdicts on a file of answers, in worker processes, without an engine."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from parity.budget.formats import Profile
from parity.families.case import Case
from parity.families.listing import catalogue
from parity.records.encoding import Malformed, brief, decode_answer, member, profile_arguments
from parity.records.record import UsageError
from parity.run import pool
from parity.run.judging import certified
from parity.run.results import CaseResult, Results, digests, environment
from parity.vectors.exchange import read_answers
from parity.verdict.conclusion import without_answer

DTYPES = ("float64", "float32")

TIMEOUT = 120.0
"""Seconds that the verdict on one record may take."""


class _Given(NamedTuple):
    """A task: an answer as it stands in the file."""

    case: Case
    dtype: str
    engine: str
    profile: Profile
    answer: dict[str, Any]


def judge(file: Path, jobs: int, start: Callable[[int], object], done: Callable[[], object]) -> Results:
    """What is to be said of every answer in a file.

    Args:
        start: is told how many answers there are. done: is called as each is judged.

    Raises:
        UsageError: it is no file of answers, or one is to a record that the catalogue does not have.
    """
    begin, given = time.perf_counter(), tasks(file)
    start(len(given))
    found: dict[tuple[str, ...], CaseResult] = {}

    def ended(one: _Given, result: CaseResult | pool.Lost) -> None:
        if isinstance(result, pool.Lost):
            result = _result(one, tuple(without_answer(result.reason).verdicts))
        found[one.case.name, one.case.families[0], one.dtype] = result
        done()

    pool.run(judge_one, given, min(jobs, len(given)), ended, timeout=TIMEOUT)
    results = tuple(found[one.case.name, one.case.families[0], one.dtype] for one in given)
    return Results((given[0].engine,), results, time.perf_counter() - begin, environment())


def tasks(file: Path) -> list[_Given]:
    """The answers in a file. Raises as `judge`."""
    document = read_answers(file)
    cases = {case.name: case for case in catalogue()}
    try:
        profiles = {dtype: Profile.of(dtype, *profile_arguments(document["profiles"], dtype)) for dtype in DTYPES}
        return [_given(cases, k, a, document["engine"], profiles) for k, a in enumerate(document["answers"])]
    except Malformed as error:
        raise UsageError(f"{file}: {error}") from None


def _given(
    cases: Mapping[str, Case], k: int, answer: dict[str, Any], engine: str, profiles: Mapping[str, Profile]
) -> _Given:
    name, family, dtype = answer["case"], answer["family"], answer["dtype"]
    case = cases.get(name)
    if case is None:
        raise Malformed(f"answer {k}: expected a case's whole name (parity run --list), got {brief(name)}")
    if family not in case.families or dtype not in DTYPES:
        known = f"{' or '.join(case.families)} in {' or '.join(DTYPES)}"
        raise Malformed(f"answer {k}: expected the record of {name} {known}, got {brief(f'{family} in {dtype}')}")
    return _Given(replace(case, families=(family,)), dtype, engine, profiles[dtype], answer)


def judge_one(given: _Given) -> CaseResult:
    """The verdict on one answer; one that can't be read costs its record alone."""
    case, dtype, answer = given.case, given.dtype, given.answer
    asked = certified(case, case.families[0], dtype)
    record = case.record(case.families[0], dtype)
    try:
        if "unsupported" in answer:
            reason = brief(member(answer, "unsupported", str, "answer")) or "no reason given"
            return _result(given, unsupported=reason)
        own = decode_answer(member(answer, "answer", dict, "answer"), record)
        others = member(answer, "further", dict, "answer", {})
        if unknown := [k for k in others if k not in {str(number) for number in asked.further}]:
            raise Malformed(f"answer: expected no further answers but {list(asked.further)}, got {brief(unknown[0])}")
        further = {
            number: decode_answer(others[str(number)], one, f"further {number}")
            for number, one in asked.further.items()
            if str(number) in others
        }
    except Malformed as error:
        return _result(given, tuple(without_answer(str(error)).verdicts))
    complete = len(further) == len(asked.further)
    found = asked.conclude(given.profile, own, further if complete else None)
    if not complete:
        found.notes.insert(0, f"{asked.further_are}: not judged, the file does not answer all of them")
    return _result(
        given,
        tuple(found.verdicts),
        diagnosis=tuple(found.diagnosis),
        notes=tuple(found.notes),
        bits=digests(own),
    )


def _result(given: _Given, verdicts: Any = (), unsupported: str = "", **more: Any) -> CaseResult:
    return CaseResult(given.case.name, given.case.families[0], given.dtype, given.engine, verdicts, unsupported, **more)
