"""The yardstick's own score: known mistakes and harmless rewritings over the catalogue, in worker processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass, fields
from multiprocessing import get_context
from typing import Any

from parity.families.case import Case
from parity.families.listing import FAULTS, REWRITINGS, Fault
from parity.run.judging import one_thread
from parity.vectors import catalogue_answers
from parity.verdict.lockstep import judge_steps
from parity.verdict.score import Score, merged, score_faults

LISTED = {fault.name: fault for fault in (*FAULTS, *REWRITINGS)}

CHUNK = 8
"""Cases a task: enough that a process has something to do, few enough that both end together."""


@dataclass(frozen=True)
class Scores:
    """How the yardstick did on mistakes, of which each should be caught, and on rewritings, of which none should be.

    Attributes:
        dtype: computed in. faults, rewritings: those that can be made in the cases. unmade: how many mistakes can't.
    """

    dtype: str
    faults: tuple[Score, ...]
    rewritings: tuple[Score, ...]
    unmade: int

    @property
    def caught(self) -> int:
        return sum(s.caught > 0 for s in self.faults)

    @property
    def flagged(self) -> int:
        return sum(s.caught > 0 for s in self.rewritings)

    @property
    def sound(self) -> bool:
        """Every mistake was caught, and no rewriting flagged."""
        return self.caught == len(self.faults) and self.flagged == 0


def run(
    cases: Sequence[Case],
    dtype: str,
    jobs: int,
    start: Callable[[int], object] = lambda total: None,
    done: Callable[[], object] = lambda: None,
) -> Scores:
    """Make every mistake and rewriting that there is in `dtype`, in every case that it touches, and judge the answers.

    Args:
        start: is told how many tasks there are. done: is called as each ends.
    """
    from pebble import ProcessPool

    chunks = [tuple(cases[k : k + CHUNK]) for k in range(0, len(cases), CHUNK)]
    start(len(chunks))
    tables = []
    with one_thread(), ProcessPool(min(jobs, len(chunks)), context=get_context("spawn")) as pool:
        try:
            for future in as_completed([pool.schedule(_chunk, (chunk, dtype)) for chunk in chunks]):
                tables.append([Score(LISTED[name], *rest) for name, *rest in future.result()])
                done()
        except BaseException:
            pool.stop()
            raise
    found = {s.fault.name: s for s in merged(tables)}

    def of(listed: Sequence[Fault]) -> tuple[Score, ...]:
        return tuple(found[f.name] for f in listed if f.name in found)

    made = of(FAULTS)
    return Scores(dtype, made, of(REWRITINGS), sum(dtype in f.dtypes for f in FAULTS) - len(made))


def _chunk(cases: Sequence[Case], dtype: str) -> list[tuple[Any, ...]]:
    """A worker's part. A mistake holds functions, which stay where they are: its name travels."""
    scores = score_faults(tuple(LISTED.values()), cases, catalogue_answers.truths, (dtype,), judge_steps)
    return [(s.fault.name, *(getattr(s, f.name) for f in fields(s)[1:])) for s in scores if s.tried]
