"""The table of verdicts, and what is concluded from it."""

import pytest

from parity.verdict.table import SEVERITY, TABLE, VERDICTS, all_ok, is_caught, is_ok, worst


def test_the_order_in_which_verdicts_are_tried():
    assert (
        *("unsupported", "FAIL", "undecided", "exact", "blind"),
        *("rounding", "imprecise", "unstable", "convention"),
    ) == VERDICTS


def test_what_is_good():
    assert [row.name for row in TABLE if row.ok] == ["exact", "rounding", "unstable", "convention"]
    assert [row.name for row in TABLE if row.ok is None] == ["unsupported"]
    assert {v for v in VERDICTS if not is_ok(v)} == {"FAIL", "undecided", "blind", "imprecise"}
    assert {v for v in VERDICTS if is_caught(v)} == {"FAIL", "imprecise"}


def test_a_report_is_good_where_all_that_counts_is_good_and_something_counts():
    assert all_ok(["exact", "unsupported", "rounding", "unstable", "convention"])
    assert not all_ok([])
    assert not all_ok(["unsupported", "unsupported"])
    for bad in ("FAIL", "undecided", "blind", "imprecise"):
        assert not all_ok(["exact", bad])


@pytest.mark.parametrize("k", range(len(SEVERITY)))
def test_the_worst_of_several(k):
    assert worst(SEVERITY[: k + 1]) == worst(reversed(SEVERITY[: k + 1])) == SEVERITY[k]
    assert worst([]) == "exact"


def test_every_verdict_has_one_place_in_both_orders():
    assert sorted(SEVERITY) == sorted(VERDICTS)
    assert SEVERITY[0] == "exact"
    assert SEVERITY[-1] == "FAIL"
