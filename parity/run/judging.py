"""Running engines over the catalogue, case by case, in worker processes.

A worker has one thread for linear algebra, so that a result does not depend on how many others are at work. An engine
that raises, dies or hangs costs its case, not the run, and nothing of the other engines' results.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from parity.engines import loading
from parity.engines.base import Engine
from parity.families.case import Case, TrainCase
from parity.records.record import UsageError
from parity.run.results import CaseResult
from parity.run.trial import judge_case
from parity.vectors import store
from parity.verdict.tensor import failed

__all__ = ["TIMEOUT", "judge_case", "run"]

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")

TIMEOUT = 120.0
"""Seconds that one case may take with all its engines, families and dtypes."""


BREAKS = 20
"""So many times a case is put to a new pool of processes after its pool broke down, before it is given up."""


def run(
    cases: Sequence[Case],
    names: Sequence[str],
    dtypes: Sequence[str],
    jobs: int,
    timeout: float = TIMEOUT,
    done: Callable[[], object] = lambda: None,
    folder: Path = store.FOLDER,
) -> list[CaseResult]:
    """Judge the engines on the cases; the results are in the order of the catalogue, whatever that of completion.

    A case that loses its process, or takes too long, is put to each engine alone, and fails those that are to blame.

    Args:
        done: is called as each case ends. folder: of the certified answers.

    Raises:
        UsageError: an engine can't be loaded; a certified answer is missing or refused.
    """
    from pebble import ProcessExpired, ProcessPool

    found: list[CaseResult] = []
    # Long ones first, so that none is left running alone at the end.
    order = sorted(range(len(cases)), key=lambda k: not isinstance(cases[k], TrainCase))
    start = {"initializer": _start, "initargs": (tuple(names),), "context": get_context("spawn")}
    work = [(k, tuple(names)) for k in order]
    broken: Counter[tuple[int, tuple[str, ...]]] = Counter()
    while work:
        left: list[tuple[int, tuple[str, ...]]] = []
        with one_thread(), ProcessPool(max(1, min(jobs, len(work))), **start) as pool:
            pending: dict[Any, tuple[int, tuple[str, ...]]] = {}
            finished: SimpleQueue[Any] = SimpleQueue()

            def schedule(
                k: int,
                asked: tuple[str, ...],
                pool: Any = pool,
                pending: Any = pending,
                finished: Any = finished,
                left: Any = left,
            ) -> None:
                if not pool.active:  # it broke down: the next one does it
                    left.append((k, asked))
                    return
                future = pool.schedule(_case, (cases[k], asked, tuple(dtypes), folder), timeout=timeout)
                pending[future] = k, asked
                future.add_done_callback(finished.put)

            try:
                for k, asked in work:
                    schedule(k, asked)
                while pending:
                    future = finished.get()
                    k, asked = pending.pop(future)
                    try:
                        found += future.result()
                    except BrokenProcessPool as error:
                        # A process died before it was known at what: all that was waiting is done again.
                        broken[k, asked] += 1
                        if broken[k, asked] < BREAKS:
                            left.append((k, asked))
                            continue
                        found += [r for name in asked for r in _lost(cases[k], name, dtypes, _reason(error, timeout))]
                    except (TimeoutError, ProcessExpired) as error:
                        if len(asked) > 1:
                            for name in asked:
                                schedule(k, (name,))
                            continue
                        found += _lost(cases[k], asked[0], dtypes, _reason(error, timeout))
                    except Exception as error:
                        if not isinstance(error, UsageError):
                            error.add_note(f"while judging {cases[k].name}")
                        raise
                    if k not in {other for other, _ in (*pending.values(), *left)}:
                        done()
                if left:
                    pool.stop()
            except BaseException:
                pool.stop()
                raise
        work = left
    results = {(r.case, r.family, r.dtype, r.engine): r for r in found}
    return [
        results[case.name, family, dtype, name]
        for case in cases
        for family in case.families
        for dtype in dtypes
        for name in names
    ]


def _reason(error: Exception, timeout: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout:g} s"
    return f"the process died (exit code {getattr(error, 'exitcode', 'unknown')})"


def _lost(case: Case, name: str, dtypes: Sequence[str], reason: str) -> list[CaseResult]:
    lost = failed("answer", reason)
    return [CaseResult(case.name, family, dtype, name, (lost,)) for family in case.families for dtype in dtypes]


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for each library of linear algebra that a new process loads, where the user has not said otherwise."""
    added = [variable for variable in THREADS if variable not in os.environ]
    os.environ.update(dict.fromkeys(added, "1"))
    try:
        yield
    finally:
        for variable in added:
            del os.environ[variable]


@cache
def _engine(name: str) -> Engine:
    return loading.load(name)


def _start(names: tuple[str, ...]) -> None:
    """Load, in a new worker, what takes long and is known to end; what fails here fails again where it is reported."""
    for name in names:
        if name.partition(":")[0] in loading.BUILT_IN:
            with suppress(Exception):
                _engine(name)


def _case(case: Case, names: tuple[str, ...], dtypes: tuple[str, ...], folder: Path) -> list[CaseResult]:
    """All engines on one case, in the worker."""
    made = [_engine(name) for name in names]
    return [
        result
        for family in case.families
        for dtype in dtypes
        for result in judge_case(case, family, dtype, made, folder)
    ]
