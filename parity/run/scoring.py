"""The yardstick's own score: known mistakes and harmless rewritings over the catalogue, in worker processes.

They are made in tasks of their own (`run`), or where a case is judged anyway (`score_case`), whose budgets serve both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any, NamedTuple

from parity.families.case import Case, TrainCase
from parity.families.fault import Fault
from parity.families.listing import FAULTS, REPORTED, REWRITINGS
from parity.run import pool
from parity.vectors import catalogue_answers
from parity.verdict.score import Judges, Score, Scores, merged, score_faults

LISTED = {fault.name: fault for fault in (*FAULTS, *REWRITINGS)}
MISTAKES = frozenset(fault.name for fault in FAULTS)

DTYPE = "float64"
"""In which mistakes are made while cases are judged."""


Rows = list[tuple[Any, ...]]
"""Scores on the way between processes: a mistake holds functions, which stay where they are; its name travels."""


@dataclass
class Seeding:
    """What is found so far of mistakes of which none is made again that is known to be caught.

    Attributes:
        caught: their names. tables: the scores, by the name of their case, or of the first of their cases.
    """

    caught: set[str] = field(default_factory=set)
    tables: dict[str, list[Score]] = field(default_factory=dict)

    def add(self, name: str, rows: Rows) -> None:
        table = self.tables[name] = [Score(LISTED[fault], *rest) for fault, *rest in rows]
        # A rewriting must pass in every case.
        self.caught.update(s.fault.name for s in table if s.caught and s.fault.name in MISTAKES)


class Chunk(NamedTuple):
    """A task: some cases, and the mistakes that need not be made in them: those that are caught when it is handed
    out."""

    cases: tuple[Case, ...]
    caught: Set[str]


CHUNK = 16
"""Cases a task: enough that a process has something to do, few enough that both end together."""


def run(
    cases: Sequence[Case],
    dtype: str,
    jobs: int,
    start: Callable[[int], object] = lambda total: None,
    done: Callable[[], object] = lambda: None,
    each: bool = True,
    reported: bool = False,
    seeding: Seeding | None = None,
) -> Scores:
    """Make every mistake and rewriting that there is in `dtype`, in every case that it touches, and judge the answers.

    Args:
        start: is told how many tasks there are. done: is called as each ends.
        each: whether each mistake is made in every case. Otherwise none is made again that is known to be caught: that
            tells which are caught at all, in a part of the time.
        reported: whether only those are made that publicly documented bugs are told by.
        seeding: what was found while cases were judged: these are left out.
    """
    found = seeding or Seeding()
    left = [case for case in cases if case.name not in found.tables]
    known: Set[str] = frozenset() if each else found.caught
    chunks = [Chunk(tuple(left[k : k + CHUNK]), known) for k in range(0, len(left), CHUNK)]
    start(len(chunks))

    def ended(chunk: Chunk, scores: Rows | pool.Lost) -> None:
        if isinstance(scores, pool.Lost):
            names = ", ".join(case.name for case in chunk.cases)
            raise RuntimeError(f"seeding faults: expected the scores of {names}, got none: {scores.reason}")
        found.add(chunk.cases[0].name, scores)
        done()

    pool.run(
        partial(_chunk, dtype, each, reported),
        chunks,
        jobs,
        ended,
        long=lambda chunk: any(isinstance(c, TrainCase) for c in chunk.cases),
    )
    tables = [found.tables[case.name] for case in cases if case.name in found.tables]
    scores = {s.fault.name: s for s in merged(tables)}

    def of(listed: Sequence[Fault]) -> tuple[Score, ...]:
        return tuple(scores[f.name] for f in listed if f.name in scores)

    made = of(FAULTS)
    due = [f for f in _chosen(reported) if f.name in MISTAKES]
    return Scores(dtype, made, of(REWRITINGS), sum(dtype in f.dtypes for f in due) - len(made))


def caught(case: Case, family: str, dtype: str) -> list[str]:
    """The known mistakes that fail when they are made in answering one record, by name."""
    alone = replace(case, families=(family,))
    scores = score_faults(FAULTS, (alone,), catalogue_answers.truths, (dtype,), True)
    return sorted(s.fault.name for s in scores if s.caught)


def _chosen(reported: bool) -> tuple[Fault, ...]:
    """The mistakes and rewritings that are made."""
    named = {name for report in REPORTED if report.how in ("seeded", "harmless") for name in report.names}
    return tuple(fault for fault in LISTED.values() if not reported or fault.name in named)


def _chunk(dtype: str, each: bool, reported: bool, chunk: Chunk) -> Rows:
    """A worker's part."""
    left = tuple(fault for fault in _chosen(reported) if fault.name not in chunk.caught)
    once = () if each else MISTAKES
    return _rows(score_faults(left, chunk.cases, catalogue_answers.truths, (dtype,), True, once))


def score_case(case: Case, caught: Set[str], judges: Judges) -> Rows:
    """Make the mistakes that are not caught yet, and every rewriting, in a case that is being judged in DTYPE.

    Args:
        judges: of its records, as far as there are any.
    """
    record = case.record(case.families[0], DTYPE)
    kind = type(record), frozenset(record.types())
    if kind not in _BEARING:
        _BEARING[kind] = tuple(fault for fault in LISTED.values() if fault.bears_on(record))
    left = [fault for fault in _BEARING[kind] if fault.name not in caught]
    return _rows(score_faults(left, (case,), catalogue_answers.truths, (DTYPE,), True, MISTAKES, judges))


_BEARING: dict[tuple[type, frozenset[str]], tuple[Fault, ...]] = {}
"""By the kind of a record in DTYPE, what bears on it: hundreds do not, and are not asked again."""


def _rows(scores: Sequence[Score]) -> Rows:
    return [(s.fault.name, *(getattr(s, f.name) for f in fields(s)[1:])) for s in scores if s.tried]
