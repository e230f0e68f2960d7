"""The yardstick's own score, as a person reads it."""

import io

import pytest
from rich.console import Console

from parity.families.listing import FAULTS, REWRITINGS
from parity.report import scores as report
from parity.verdict.score import Score, Scores

PLACE = ("Linear/batch 3", "full", "grad.weight")


def printed(renderable, width=120):
    console = Console(file=io.StringIO(), width=width, markup=False)
    console.print(renderable)
    return console.file.getvalue().splitlines()


@pytest.fixture
def scores():
    faults = (
        Score(FAULTS[0], "float64", 9, 9, 2.5e12, *PLACE),
        Score(FAULTS[1], "float64", 4, 2, 1500.0, *PLACE),
        Score(FAULTS[2], "float64", 4, 4, 0.0, *PLACE, 4),
        Score(FAULTS[3], "float64", 2, 0, 0.25, *PLACE),
    )
    rewritings = (
        Score(REWRITINGS[0], "float64", 5, 0, 0.45, *PLACE),
        Score(REWRITINGS[1], "float64", 5, 1, 1.25, *PLACE),
    )
    return Scores("float64", faults, rewritings, 7)


@pytest.mark.parametrize("width", [80, 120])
def test_a_line_for_each_the_least_caught_first(scores, width):
    lines = printed(report.table(scores), width)
    assert max(map(len, lines)) <= width
    text = " ".join(" ".join(lines).split())
    names = [FAULTS[k].name for k in (2, 3, 1, 0)]
    if width == 120:
        places = [text.index(f" {name} ") for name in names]
        assert places == sorted(places)
        assert f"{FAULTS[0].name} 9/9 2.5e+12 Linear/batch 3, full, grad.weight" in text
        assert f"{FAULTS[2].name} 4/4 exact" in text
        assert f"harmless: {REWRITINGS[0].name} 0/5 0.45" in text


def test_the_totals(scores):
    assert printed(report.summary(scores), 300) == [
        "the yardstick itself: 3 of 4 known mistakes caught, 1 of 2 harmless rewritings flagged (float64); "
        "mistakes that can't be made in these cases: 7",
        f"  in its most revealing case and element each is caught by at least 1.5e+03 budgets ({FAULTS[1].name}); "
        "1 are caught by NaN, a shape or a missed exact result",
        f"  the largest share of a budget that a rewriting used: 1.25 ({REWRITINGS[1].name})",
        f"  not caught: {FAULTS[3].name}",
        f"  flagged: {REWRITINGS[1].name}",
    ]


def test_nothing_to_say():
    assert printed(report.summary(Scores("float32", (), (), 0)), 200) == [
        "the yardstick itself: 0 of 0 known mistakes caught, 0 of 0 harmless rewritings flagged (float32)"
    ]
