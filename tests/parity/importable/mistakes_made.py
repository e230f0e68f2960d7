"""The mistakes of the dictionary, made in the cases of the catalogue that they touch.

Records, right answers, truths and budgets of a case are the same for every mistake, and are computed once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cache, lru_cache

from parity.engines.base import Engine
from parity.engines.faulty import FaultyEngine
from parity.engines.refnet import RefnetEngine
from parity.families.case import TrainCase
from parity.families.fault import Fault
from parity.families.listing import catalogue
from parity.records.record import Answer, Optimize, Record, Train, Unsupported
from parity.truth.value import Truth
from parity.vectors import catalogue_answers
from parity.verdict.answer import Judge
from parity.verdict.evaluation import Request

CASES = {case.name: case for case in catalogue()}
TYPES = {
    name: {*case.network.types(), *case.loss.types(), *case.optimizer.types()}
    if isinstance(case, TrainCase)
    else case.spec.types()
    for name, case in CASES.items()
}

UPDATES = 6
"""Of a training the first updates are made."""


def answered(engine: Engine, record: Record) -> Answer:
    if isinstance(record, Train):
        return engine.train(record)
    return engine.optimize(record) if isinstance(record, Optimize) else engine.vjp(record)


@cache
def given(name: str, family: str = "full") -> tuple[Record, Answer]:
    """A record with the right answer to it."""
    record = CASES[name].record(family, "float64")
    if isinstance(record, Train):
        record = replace(record, batches=record.batches[:UPDATES])
    return record, answered(RefnetEngine(), record)


@cache
def truth(name: str, family: str = "full") -> dict[str, Truth]:
    return catalogue_answers.truths(CASES[name], family, "float64")


@lru_cache(maxsize=128)
def judging(name: str, family: str = "full") -> Judge:
    """Judges answers to a record that is no training."""
    record = given(name, family)[0]
    assert not isinstance(record, Train)
    return Judge(Request.plain(record), truth(name, family))


def touched(fault: Fault) -> Iterator[tuple[str, str]]:
    """The cases and families in which the mistake can be made."""
    own = {*fault.patches, *fault.types}
    for name, case in CASES.items():
        # What can't be touched needs no record.
        if isinstance(case, TrainCase) == bool(fault.train) and (not own or own & TYPES[name]):
            for family in case.families:
                if fault.touches(given(name, family)[0]):
                    yield name, family


def made(fault: Fault) -> Iterator[tuple[str, str, Record, Answer]]:
    """The cases in which the mistake makes a difference, with the wrong answer."""
    for name, family in touched(fault):
        record, right = given(name, family)
        with suppress(Unsupported):
            answer = answered(FaultyEngine(fault), record)
            if any(t not in answer or answer[t].tobytes() != a.tobytes() for t, a in right.items()):
                yield name, family, record, answer
