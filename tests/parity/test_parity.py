"""The catalogue under pytest: refnet and torch have identical gradients and weight updates wherever exactness is due,
and conform on the rest.

The same cases, truths and judgement as the command line's, so a report and a test cannot disagree. One test judges all
records of a class of cases in one dtype and lists whatever is wrong with any of them; each training is a test of its
own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from parity.engines.base import Engine
from parity.engines.faulty import FaultyEngine
from parity.engines.loading import load
from parity.engines.refnet import RefnetEngine
from parity.families.case import DTYPES, Case, TrainCase, group
from parity.families.listing import FAULTS, catalogue
from parity.run.judging import judge_case

LONG = 2_000
"""A longer training is not worth its time under one more kind of arithmetic."""


def together() -> dict[str, list[Case]]:
    """The cases that one test judges, by its name."""
    found: dict[str, list[Case]] = {}
    for case in catalogue():
        found.setdefault(case.name if isinstance(case, TrainCase) else group(case), []).append(case)
    return found


TOGETHER = together()


def marks(cases: Sequence[Case]) -> tuple[pytest.MarkDecorator, ...]:
    long = any(isinstance(case, TrainCase) and case.iterations > LONG for case in cases)
    return () if long else (pytest.mark.arithmetic,)


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


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [pytest.param(name, marks=marks(cases)) for name, cases in TOGETHER.items()])
def test_gradients_and_updates(name: str, dtype: str, engines: list[Engine]) -> None:
    found = [
        line for case in TOGETHER[name] for family in case.families for line in wrong(case, family, dtype, engines)
    ]
    assert not found, "\n".join(["", *found])


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
