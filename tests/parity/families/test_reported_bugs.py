"""The table of reported bugs says of each how it is told: by a known mistake, a convention, a program or schedule that
has to fail, or a rewriting that must not; or why it is not."""

from __future__ import annotations

import numpy as np
import pytest

from parity.budget.formats import Profile
from parity.engines.faulty import FaultyEngine
from parity.families.case import Draw, Spec, VJPCase
from parity.families.listing import CONVENTIONS, FAULTS, REWRITINGS
from parity.families.reported import HOW, REPORTED
from parity.truth.certify import certified
from parity.verdict.answer import Judge
from parity.verdict.diagnosis import diagnose
from parity.verdict.evaluation import Request
from parity.verdict.table import is_caught
from tests.parity.families.test_reported_programs import PROGRAMS
from tests.parity.families.test_reported_schedules import SCHEDULES


def test_each_is_told_by_what_there_is_or_says_why_it_is_not() -> None:
    faults, conventions = {fault.name for fault in FAULTS}, {variant.name for variant in CONVENTIONS}
    rewritings, right = {r.name for r in REWRITINGS}, {name for name, p in PROGRAMS.items() if not p.wrong}
    for report in REPORTED:
        assert report.how in HOW, report
        assert report.names, report
        if report.how == "seeded":
            assert set(report.names) <= faults, report
        elif report.how == "convention":
            assert set(report.names) <= conventions, report
        elif report.how == "tested":
            assert set(report.names) <= (PROGRAMS.keys() - right) | SCHEDULES.keys(), report
        elif report.how == "harmless":
            assert set(report.names) <= rewritings | right, report


def test_every_program_and_schedule_is_of_a_report() -> None:
    named = {name for report in REPORTED if report.how in ("tested", "harmless") for name in report.names}
    assert {*PROGRAMS, *SCHEDULES} <= named


def test_most_are_told() -> None:
    told = [report for report in REPORTED if report.how in ("seeded", "convention", "tested", "harmless")]
    assert len(REPORTED) == 111
    assert len(told) >= 103


# The seeded mistakes of which no kept case, drawn again, keeps the shapes of its answer.
ROUND = VJPCase(
    "Conv2d/circular, rows alone",
    Spec(
        "Conv2d",
        {
            "in_channels": 1,
            "out_channels": 2,
            "kernel_size": 2,
            "stride": 3,
            "padding": (1, 0),
            "padding_mode": "circular",
        },
    ),
    (Draw((2, 1, 5, 5)),),
    (Draw((2, 2, 2, 2)),),
    {"weight": Draw((2, 1, 2, 2)), "bias": Draw((2,))},
)


@pytest.mark.parametrize("family", ROUND.families)
def test_circular_padding_along_the_other_axis_is_named_where_the_shapes_agree(family: str) -> None:
    (fault,) = (fault for fault in FAULTS if fault.name == "circular padding along the other axis")
    record = ROUND.record(family, "float64")
    judge = Judge(Request(record, Profile.of("float64")), certified(record))
    for engine, expected in ((FaultyEngine(), False), (FaultyEngine(fault), True)):
        answer = engine.answer(record)  # type: ignore[arg-type]
        failing = [v.name for v in judge(answer) if is_caught(v.verdict)]
        assert bool(failing) is expected
        found = [d.name for d in diagnose(judge.request, answer, judge.enclosures, failing)]
        assert (fault.name in found) is expected
    assert np.isfinite(answer["output"]).all()
