"""The table of reported bugs says of each how it is told: by a known mistake, a convention, a program or schedule that
has to fail, or a rewriting that must not; or why it is not."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import parity
from parity.families.listing import CONVENTIONS, FAULTS, REWRITINGS, select
from parity.families.reported import HOW, REPORTED
from parity.report import scores
from parity.run import scoring
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


def test_the_page_has_these_figures() -> None:
    page = (Path(parity.__file__).parents[1] / "docs/results.md").read_text(encoding="utf-8")
    section = page.partition("## Documented bugs\n")[2].partition("\n## ")[0]
    figures = [int(m) for m in re.findall(r"^\| .+ \| (\d+) \|$", section, re.MULTILINE)]
    kinds = Counter(report.how for report in REPORTED)
    assert figures == [kinds[how] for how in ("seeded", "tested", "convention", "harmless", "out of scope")]
    named = r"([A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+)(?=[#@ ])"
    repositories = {name for report in REPORTED for name in re.findall(named, report.report)}
    assert f"{len(REPORTED)} bugs that are publicly documented, in {len(repositories)} repositories" in section


def test_the_score_of_the_reported_ones_alone() -> None:
    found = scoring.run(select("SmoothL1Loss/ties*"), "float64", 1, each=False, reported=True)
    names = {"beta of 0 divided by", "gradients doubled", "gradients of zero", "last row not written"}
    assert {score.fault.name for score in found.faults} == names
    assert "4 of them caught in these cases" in scores.summary_of_reports(found, REPORTED)
    lines = scores.table_of_reports(found, REPORTED).columns[-1]._cells
    assert len(lines) == len(REPORTED)
    assert set(lines) == {"caught", "in no case", "tested", "convention", "harmless", "out of scope"}
