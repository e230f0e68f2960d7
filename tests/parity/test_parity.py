"""The catalogue under pytest: refnet and torch have identical gradients and weight updates wherever exactness is due,
and conform on the rest.

The same cases, truths and judgement as the command line's, so a report and a test cannot disagree. One test judges all
records of a class of cases in one dtype and lists whatever is wrong with any of them; each training is a test of its
own. Of a long training the first updates are judged, and the single updates that are kept of all of it; two are judged
whole, and with `-m slow` all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from parity.engines.base import Engine
from parity.engines.faulty import FaultyEngine
from parity.engines.loading import load
from parity.engines.refnet import RefnetEngine
from parity.families.case import DTYPES, Case, TrainCase, group
from parity.families.listing import FAULTS, catalogue
from parity.run import judging
from parity.run.judging import judge_case
from parity.verdict.conclusion import Training

FIRST = 200
"""How many updates of a longer training are judged."""

WHOLE = [("Training/worked example, biases frozen", "float64"), ("Training/mini-batch, the last one short", "float32")]
"""Long trainings that are judged whole: the one that is certified to its end, and one with batches of two sizes."""


def together() -> dict[str, list[Case]]:
    """The cases that one test judges, by its name."""
    found: dict[str, list[Case]] = {}
    for case in catalogue():
        found.setdefault(case.name if isinstance(case, TrainCase) else group(case), []).append(case)
    return found


TOGETHER = together()


LONG = [case for case in catalogue() if isinstance(case, TrainCase) and case.iterations > FIRST]


def first_updates(case: TrainCase, monkeypatch: pytest.MonkeyPatch) -> TrainCase:
    """The first updates of a training as a case, judged by what is kept of the whole."""
    short, whole = replace(case, iterations=FIRST), judging.certified

    def certified(asked: Case, family: str, dtype: str, folder: Path | None = None) -> Training:
        assert asked is short
        kept, record = whole(case, family, dtype, folder), short.record(family, dtype)
        assert isinstance(kept, Training)
        assert all(map(np.array_equal, record.batches, kept.record.batches))
        reached = sum(updates <= FIRST for updates in kept.updates)
        free = {name: truth[:reached] for name, truth in kept.free.items()}
        bounds = {name: bound[:reached] for name, bound in kept.bounds.items()}
        return Training(record, kept.updates[:reached], free, bounds, kept.steps)

    monkeypatch.setattr(judging, "certified", certified)
    return short


@pytest.fixture(scope="session")
def engines() -> list[Engine]:
    return [load("refnet"), load("torch")]


def wrong(case: Case, family: str, dtype: str, engines: Sequence[Engine]) -> Iterator[str]:
    """What is wrong with refnet's and another engine's answers to a record."""
    refnet, other = judge_case(case, family, dtype, engines)
    for result in (refnet, other):
        at = f"{case.name}, {family} {dtype}, {result.engine}"
        if result is other and result.unsupported.startswith(("torch.nn has no", "torch.optim has no")):
            continue
        if result.unsupported or not result.verdicts:
            yield f"{at}: not judged: {result.unsupported or 'no tensor'}"
        if result.finding:
            continue  # All that fails here is a known finding; tests/parity/run/test_known_findings.py asks for each.
        # That something sees each tensor is asked of the class: tests/parity/families/test_case.py.
        expected = {"exact", "rounding", "convention", "blind", *(() if result is refnet else ("unstable",))}
        for v in result.verdicts:
            if v.verdict not in expected:
                yield f"{at}, {v.name}: {v.verdict}: {v.reason}"
    if not other.finding and other.comparison and other.comparison.identical != other.comparison.due:
        differing = other.comparison.due - other.comparison.identical
        yield f"{case.name}, {family} {dtype}: {differing} tensors differ where every right engine has the same values"


def assert_right(cases: Sequence[Case], dtype: str, engines: Sequence[Engine]) -> None:
    found = [line for case in cases for family in case.families for line in wrong(case, family, dtype, engines)]
    assert not found, "\n".join(["", *found])


# Under each kind of arithmetic (tests/kernels.py) a class is judged in one format, the next class in the other.
RECORDS = [
    pytest.param(name, dtype, marks=pytest.mark.arithmetic if dtype == DTYPES[k % 2] else ())
    for k, name in enumerate(TOGETHER)
    for dtype in DTYPES
]


@pytest.mark.parametrize(("name", "dtype"), RECORDS)
def test_gradients_and_updates(name: str, dtype: str, engines: list[Engine], monkeypatch: pytest.MonkeyPatch) -> None:
    cases = TOGETHER[name]
    assert_right([first_updates(case, monkeypatch) if case in LONG else case for case in cases], dtype, engines)


@pytest.mark.parametrize(("name", "dtype"), WHOLE)
def test_a_whole_training(name: str, dtype: str, engines: list[Engine]) -> None:
    assert_right(TOGETHER[name], dtype, engines)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", LONG, ids=lambda case: case.name)
def test_every_training_whole(case: Case, dtype: str, engines: list[Engine]) -> None:
    assert_right([case], dtype, engines)


def test_a_wrong_engine_is_seen() -> None:
    """In either place: refnet's, and the other engine's."""
    (fault,) = (fault for fault in FAULTS if fault.name == "bias gradient averaged")
    (case,) = (case for case in TOGETHER["Linear"] if case.name == "Linear/batch 3")
    pairs = [(RefnetEngine(), FaultyEngine(fault)), (FaultyEngine(fault), RefnetEngine())]
    for pair in pairs:
        lines = list(wrong(case, "grid", "float64", pair))
        assert any("grad.bias: FAIL" in line for line in lines)
        assert lines[-1].endswith("1 tensors differ where every right engine has the same values")
    assert list(wrong(case, "grid", "float64", (RefnetEngine(), RefnetEngine()))) == []
