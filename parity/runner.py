"""Running engines over the catalogue, case by case, in worker processes.

A worker has one thread for linear algebra, so that a result does not depend on how many others are at work. An engine that raises, dies or hangs
costs its case, not the run.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import replace
from functools import cache
from multiprocessing import get_context
from typing import Any

import numpy as np

from parity import engines, lockstep
from parity.cases import select
from parity.cases.case import Case, TrainCase
from parity.diagnosis import diagnose
from parity.definition import NO_PATCHES, Patch
from parity.engines.base import Answer, Engine
from parity.errors import Undecided, Unsupported
from parity.judgement import judge_answer, other_formulas
from parity.records import Optimize, Train
from parity.results import CaseResult, Comparison
from parity.truth import Truth
from parity.vectors import certified
from parity.verdict import Enclosure, TensorVerdict, judge

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")

TIMEOUT = 120.0
"""Seconds that one case may take with all its engines, families and dtypes."""


def run(
    cases: Sequence[Case],
    names: Sequence[str],
    dtypes: Sequence[str],
    jobs: int,
    timeout: float = TIMEOUT,
    done: Callable[[], None] = lambda: None,
) -> Iterator[CaseResult]:
    """Judge the engines on the cases; yields results in the order of the catalogue, whatever the order of completion. `done` is called as each case ends."""
    from pebble import ProcessPool

    for variable in THREADS:
        os.environ.setdefault(variable, "1")
    results: dict[int, list[CaseResult]] = {}
    # Long ones first, so that none is left running alone at the end.
    order = sorted(range(len(cases)), key=lambda k: not isinstance(cases[k], TrainCase))
    with ProcessPool(max_workers=jobs, context=get_context("spawn")) as pool:
        futures = {
            pool.schedule(_case, args=(cases[k].name, tuple(names), tuple(dtypes)), timeout=timeout): k for k in order
        }
        try:
            pending = set(futures)
            while pending:
                finished, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in finished:
                    k = futures[future]
                    results[k] = _outcome(future, cases[k], names, dtypes, timeout)
                    done()
        except BaseException:
            pool.stop()
            raise
    for k in range(len(cases)):
        yield from results[k]


def _outcome(future: Any, case: Case, names: Sequence[str], dtypes: Sequence[str], timeout: float) -> list[CaseResult]:
    """A case's results, or, where its worker was lost, a failure for every engine that it may be due to."""
    from pebble import ProcessExpired

    try:
        found: list[CaseResult] = future.result()
        return found
    except TimeoutError:
        reason = f"no answer within {timeout:g} s"
    except ProcessExpired as error:
        reason = f"the process died (exit code {error.exitcode})"
    foreign = [name for name in names if name not in engines.BUILT_IN] or list(names)
    return [
        CaseResult(case.name, family, dtype, name, (TensorVerdict("answer", "FAIL", share=math.inf, reason=reason),))
        for family in case.families
        for dtype in dtypes
        for name in foreign
    ]


@cache
def _engine(name: str) -> Engine:
    return engines.load(name)


def _case(case_name: str, names: tuple[str, ...], dtypes: tuple[str, ...]) -> list[CaseResult]:
    """All engines on one case, in the worker."""
    (case,) = (c for c in select(case_name) if c.name == case_name)
    return [
        result
        for family in case.families
        for dtype in dtypes
        for result in judge_case(case, family, dtype, [_engine(n) for n in names])
    ]


def judge_case(case: Case, family: str, dtype: str, made: Sequence[Engine]) -> list[CaseResult]:
    """The results of some engines on one case, the first engine's bits being the ones that others are compared with."""
    results = []
    first: Answer | None = None
    for engine in made:
        start = time.perf_counter()
        answer: Answer = {}
        try:
            record = case.record(family, dtype)
            answer = _answer(engine, record)
            unsupported, failure = "", ""
        except Unsupported as reason:
            unsupported, failure = str(reason) or "unsupported", ""
        except Exception as error:  # an engine may raise anything: it fails this case, and the run goes on
            unsupported, failure = "", f"raised {type(error).__name__}: {error}"
        seconds = time.perf_counter() - start
        if unsupported:
            results.append(CaseResult(case.name, family, dtype, engine.name, unsupported=unsupported, seconds=seconds))
            continue
        if failure:
            verdicts: list[TensorVerdict] = [TensorVerdict("answer", "FAIL", share=math.inf, reason=failure)]
            results.append(CaseResult(case.name, family, dtype, engine.name, tuple(verdicts), seconds=seconds))
            continue
        verdicts, notes, diagnosis = _judge(case, family, dtype, record, engine, answer)
        comparison = None if first is None else _compare(answer, first, verdicts)
        first = answer if first is None else first
        results.append(
            CaseResult(
                case.name,
                family,
                dtype,
                engine.name,
                tuple(verdicts),
                "",
                comparison,
                tuple(diagnosis),
                tuple(notes),
                seconds,
            )
        )
    return results


def _answer(engine: Engine, record: Any) -> Answer:
    if isinstance(record, Train):
        return engine.train(record)
    return engine.optimize(record) if isinstance(record, Optimize) else engine.vjp(record)


def _judge(
    case: Case, family: str, dtype: str, record: Any, engine: Engine, answer: Answer
) -> tuple[list[TensorVerdict], list[str], list[str]]:
    profile = engine.profile(dtype)
    if isinstance(case, TrainCase):
        verdicts, notes = _judge_training(case, family, dtype, record, engine, answer)
        return verdicts, notes, []
    truths = certified.truths(case, family, dtype)
    try:
        verdicts = judge_answer(record, truths, answer, profile)
    except Undecided as reason:
        return [TensorVerdict(name, "undecided", reason=str(reason)) for name in truths], [str(reason)], []
    failing = [v.name for v in verdicts if v.verdict == "FAIL"]
    diagnosis = [str(d) for d in diagnose(record, answer, truths, profile, failing)] if failing else []
    return verdicts, [], diagnosis


def _judge_training(
    case: TrainCase, family: str, dtype: str, record: Train, engine: Engine, answer: Answer
) -> tuple[list[TensorVerdict], list[str]]:
    """Every update from the engine's own weights; the certified single updates; the free run while its budget lasts."""
    profile = engine.profile(dtype)
    verdicts = lockstep.judge_steps(record, answer, profile)
    if any(v.verdict == "FAIL" and v.name == "run" for v in verdicts):
        return verdicts, []
    kept = certified.training(case, family, dtype)
    verdicts += _judge_single_updates(record, engine, kept)
    free, notes = _judge_free_run(case, answer, dtype, kept)
    return verdicts + free, notes


def _judge_single_updates(record: Train, engine: Engine, kept: certified.Training) -> list[TensorVerdict]:
    """The certified single updates, stacked: one tensor for each name."""
    profile = engine.profile(record.dtype)
    singles = []
    for number, (before, truths) in kept.steps.items():
        arrays = {name: a for name, a in before.items() if not name.startswith("state.")}
        state = {name.removeprefix("state."): a for name, a in before.items() if name.startswith("state.")}
        single = lockstep.single_update(record, arrays, state, number)
        answer = engine.train(single)
        updates = {f"update.{name}": np.diff(answer[f"param.{name}"].astype(np.float64), axis=0) for name in arrays}
        singles.append((single, truths, {**answer, **updates}))

    def enclosed(patches: Mapping[str, Patch]) -> dict[str, Enclosure]:
        bounds = [lockstep.bounds(single, profile, patches) for single, *_ in singles]
        truths = [truths for _, truths, _ in singles]
        return {
            name: Enclosure(Truth.concatenate([t[name] for t in truths]), np.concatenate([b[name] for b in bounds]))
            for name in bounds[-1]
            if all(name in b for b in bounds)
        }

    others = other_formulas(record.network.types() | {record.loss.type}, enclosed, enclosed)
    return [
        replace(
            judge(
                name,
                np.concatenate([got[name] for *_, got in singles]),
                enclosure,
                "float64" if name.startswith("update.") else record.dtype,
                others,
            ),
            name=f"certified {name}",
        )
        for name, enclosure in enclosed(NO_PATCHES).items()
    ]


def _judge_free_run(
    case: TrainCase, answer: Answer, dtype: str, kept: certified.Training
) -> tuple[list[TensorVerdict], list[str]]:
    updates = np.array(sorted(case.certified))
    verdicts: list[TensorVerdict] = []
    notes: list[str] = []
    for name, truth in kept.free.items():
        if name not in kept.bounds:
            continue
        got = answer[name][updates - 1] if name == "loss" else answer[name][updates]
        bound = kept.bounds[name]
        lasts = np.isfinite(bound.reshape(len(updates), -1)).all(axis=1)
        count = len(updates) if lasts.all() else int(lasts.argmin())
        if count < len(updates):
            notes.append(f"{name}: free run uncertified from update {updates[count]} on")
        if count:
            verdicts.append(judge(f"free {name}", got[:count], Enclosure(truth[:count], bound[:count]), dtype))
    return verdicts, notes


def _compare(answer: Answer, first: Answer, verdicts: Sequence[TensorVerdict]) -> Comparison:
    exact = {v.name for v in verdicts if v.detection_limit == 0}
    found = Comparison()
    for name, tensor in first.items():
        own = answer.get(name)
        alike = own is not None and own.dtype == tensor.dtype and own.shape == tensor.shape
        bits = alike and own is not None and own.tobytes() == tensor.tobytes()
        values = alike and np.array_equal(own, tensor)
        found += Comparison(1, int(bits), int(name in exact), int(name in exact and values))
    return found
