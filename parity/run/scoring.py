"""The yardstick's own score: known mistakes and harmless rewritings over the catalogue, in worker processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Any, NamedTuple

from parity.families.case import Case, TrainCase
from parity.families.fault import Fault
from parity.families.listing import FAULTS, REPORTED, REWRITINGS
from parity.run import pool
from parity.vectors import catalogue_answers
from parity.verdict.score import Score, Scores, merged, score_faults

LISTED = {fault.name: fault for fault in (*FAULTS, *REWRITINGS)}
MISTAKES = frozenset(fault.name for fault in FAULTS)


class Chunk(NamedTuple):
    """A task: some cases, and the mistakes that need not be made in them: those that are caught when it is handed
    out."""

    cases: tuple[Case, ...]
    caught: set[str]


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
) -> Scores:
    """Make every mistake and rewriting that there is in `dtype`, in every case that it touches, and judge the answers.

    Args:
        start: is told how many tasks there are. done: is called as each ends.
        each: whether each mistake is made in every case. Otherwise none is made again that is known to be caught: that
            tells which are caught at all, in a part of the time.
        reported: whether only those are made that publicly documented bugs are told by.
    """
    known: set[str] = set()
    chunks = [Chunk(tuple(cases[k : k + CHUNK]), known) for k in range(0, len(cases), CHUNK)]
    start(len(chunks))
    tables: dict[str, list[Score]] = {}

    def ended(chunk: Chunk, scores: list[tuple[Any, ...]] | pool.Lost) -> None:
        if isinstance(scores, pool.Lost):
            names = ", ".join(case.name for case in chunk.cases)
            raise RuntimeError(f"seeding faults: expected the scores of {names}, got none: {scores.reason}")
        table = tables[chunk.cases[0].name] = [Score(LISTED[name], *rest) for name, *rest in scores]
        if not each:
            # A rewriting must pass in every case.
            known.update(s.fault.name for s in table if s.caught and s.fault.name in MISTAKES)
        done()

    pool.run(
        partial(_chunk, dtype, each, reported),
        chunks,
        jobs,
        ended,
        long=lambda chunk: any(isinstance(c, TrainCase) for c in chunk.cases),
    )
    found = {s.fault.name: s for s in merged(tables[chunk.cases[0].name] for chunk in chunks)}

    def of(listed: Sequence[Fault]) -> tuple[Score, ...]:
        return tuple(found[f.name] for f in listed if f.name in found)

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


def _chunk(dtype: str, each: bool, reported: bool, chunk: Chunk) -> list[tuple[Any, ...]]:
    """A worker's part. A mistake holds functions, which stay where they are: its name travels."""
    left = tuple(fault for fault in _chosen(reported) if fault.name not in chunk.caught)
    once = () if each else MISTAKES
    scores = score_faults(left, chunk.cases, catalogue_answers.truths, (dtype,), True, once)
    return [(s.fault.name, *(getattr(s, f.name) for f in fields(s)[1:])) for s in scores if s.tried]
