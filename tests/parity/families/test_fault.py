"""Every mistake of the dictionary turns the yardstick red, by a thousand budgets or where no budget is granted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from mistakes_made import CASES, answered, given, judging, made, touched

from parity.budget.array import Budget, Profile
from parity.engines.faulty import FaultyEngine
from parity.families.listing import FAULTS, REWRITINGS, Fault, conventions
from parity.records.record import VJP, Optimize, Train
from parity.verdict.evaluation import TrainingRequest
from parity.verdict.lockstep import judge_steps

AIM = 1_000
"""Budgets by which a mistake has to be caught in its most revealing case."""


@pytest.mark.arithmetic
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_caught(fault: Fault) -> None:
    for name, family, record, answer in made(fault):
        if isinstance(record, Train):
            verdicts = judge_steps(TrainingRequest.plain(record), answer)
        else:
            verdicts = judging(name, family)(answer)
        # An infinite share is an exact result that was missed, no number, or another shape.
        if any(v.verdict == "FAIL" and v.share > AIM for v in verdicts):
            return
    pytest.fail("no case of the catalogue reveals it")


OF_OPTAX = {
    kind: next(v.patches[kind] for v in conventions({kind}) if "jax" in v.users) for kind in ("Adafactor", "Muon")
}
"""What makes refnet's optimizer that of optax."""

NOT_IN_OPTAX = (
    "Adafactor: eps1 not squared",  # nothing is bounded by eps1
    "Adafactor: no root",
    "absent gradient as zero",  # each step has every gradient
    "decay without a gradient",
)


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        pytest.param(kind, fault, id=fault.name)
        for fault in FAULTS
        for kind in OF_OPTAX
        if kind in fault.patches and not fault.name.endswith(NOT_IN_OPTAX)
    ],
)
def test_caught_where_the_optimizer_is_optaxs(kind: str, fault: Fault) -> None:
    """The convention that optax follows excuses no mistake that is made beside it."""

    def both(optimizer: Any) -> None:
        OF_OPTAX[kind](optimizer)
        fault.patches[kind](optimizer)

    for name, family in touched(fault):
        record, _ = given(name, family)
        if not isinstance(record, Optimize) or record.absent:
            continue
        with np.errstate(all="ignore"):
            answer = FaultyEngine(replace(fault, patches={kind: both})).answer(record)
            verdicts = judging(name, family)(answer)
        if any(v.verdict == "FAIL" for v in verdicts):
            return
    pytest.fail("no case of the catalogue reveals it")


@pytest.mark.parametrize("kind", OF_OPTAX)
def test_the_optimizer_of_optax_is_told_by_name(kind: str) -> None:
    alone = Fault("optax", "", "", "", OF_OPTAX)
    formulas = set()
    for name, family in touched(replace(alone, patches={kind: OF_OPTAX[kind]})):
        record, _ = given(name, family)
        if isinstance(record, Optimize) and not record.absent:
            with np.errstate(all="ignore"):
                verdicts = judging(name, family)(FaultyEngine(alone).answer(record))
            assert not [v for v in verdicts if v.verdict == "FAIL"], name
            formulas |= {v.formula for v in verdicts if v.verdict == "convention"}
    assert next(v.name for v in conventions({kind}) if "jax" in v.users) in formulas


def test_each_says_what_it_is() -> None:
    for fault in (*FAULTS, *REWRITINGS):
        assert fault.what, fault.name
        assert fault.reveal, fault.name
        assert fault.source, fault.name
        makings = (fault.patches, fault.rules, fault.computes, fault.ask, fault.reply, fault.train)
        assert sum(map(bool, makings)) == 1, fault.name


def test_as_many_as_were_asked_for() -> None:
    assert len(FAULTS) >= 30
    assert len(REWRITINGS) >= 8


def series(tensors: Any) -> Iterator[tuple[str, Any]]:
    for name, tensor in tensors.items():
        yield from ((name, t) for t in (tensor if isinstance(tensor, list) else [tensor]) if t is not None)


@pytest.mark.parametrize("fault", [f for f in FAULTS if f.patches or f.rules], ids=lambda fault: fault.name)
def test_runs_in_budgets(fault: Fault) -> None:
    """Floats that make the mistake lie within the mistake's own budget, which says something."""
    for _, _, record, _ in made(fault):
        assert not isinstance(record, Train)
        with np.errstate(all="ignore"):
            budgets = list(series(FaultyEngine(fault).budget(record, Profile.of("float64"))))
            floats = list(series(FaultyEngine(fault).tensors(record, np.copy)))
        assert [name for name, _ in budgets] == [name for name, _ in floats]
        bounded = [(b, f) for (_, b), (_, f) in zip(budgets, floats, strict=True) if isinstance(b, Budget)]
        with np.errstate(invalid="ignore"):
            within = [(abs(f - b.x) <= 2 * b.e) | ~np.isfinite(b.e) for b, f in bounded]
        assert all(w.all() for w in within)
        if any(np.isfinite(b.e).any() for b, _ in bounded):
            return
    pytest.fail("it is made in no case where it has a budget")


def test_computed_in_float32_answers_in_float64() -> None:
    (fault,) = (fault for fault in FAULTS if fault.computes)
    record = CASES["Linear/batch 3"].record("full", "float64")
    assert isinstance(record, VJP)
    answer = FaultyEngine(fault).vjp(record)
    assert {str(t.dtype) for t in answer.values()} == {"float64"}
    assert all((t == t.astype(np.float32)).all() for t in answer.values())
    assert not fault.touches(CASES["Linear/batch 3"].record("full", "float32"))


def test_reading_as_stored_touches_only_what_is_not_contiguous() -> None:
    (fault,) = (fault for fault in FAULTS if fault.name == "upstream gradient read as stored")
    assert not fault.touches(CASES["Linear/batch 3"].record("full", "float64"))
    transposed = CASES["Linear/gradient transposed"].record("full", "float64")
    assert isinstance(transposed, VJP)
    assert fault.touches(transposed)
    assert fault.ask is not None
    (given,), (read,) = transposed.grad_outputs, fault.ask(transposed).grad_outputs
    np.testing.assert_array_equal(read.ravel(), given.T.ravel())


@pytest.mark.parametrize("name", ["BatchNorm1d/batch 3", "Dropout/p 0.3", "SGD/groups, each with its options"])
def test_without_a_mistake_it_is_refnet(name: str) -> None:
    record, right = given(name)
    assert {n: a.tobytes() for n, a in answered(FaultyEngine(), record).items()} == {
        n: a.tobytes() for n, a in right.items()
    }
