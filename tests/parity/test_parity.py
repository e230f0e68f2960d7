"""The catalogue under pytest: refnet and torch have identical gradients and weight updates wherever exactness is due,
and conform on the rest.

The same cases, truths and judgement as the command line's, so a report and a test cannot disagree.
"""

import importlib.resources

import pytest

from parity.engines.loading import load
from parity.families.case import DTYPES
from parity.families.listing import catalogue
from parity.run.judging import judge_case

CASES = [(case, family, dtype) for case in catalogue() for family in case.families for dtype in DTYPES]


@pytest.fixture(scope="module")
def engines():
    return [load("refnet"), load("torch")]


@pytest.mark.parametrize(
    ("case", "family", "dtype"), CASES, ids=[f"{case.name}, {family} {dtype}" for case, family, dtype in CASES]
)
def test_gradients_and_updates(case, family, dtype, engines):
    refnet, torch = judge_case(case, family, dtype, engines)
    for result in (refnet, torch):
        assert not result.unsupported
        assert result.verdicts
        assert [f"{v.name}: {v.reason}" for v in result.verdicts if v.verdict in ("FAIL", "undecided")] == []
    assert {v.verdict for v in refnet.verdicts} <= {"exact", "rounding", "convention"}
    assert torch.comparison.identical == torch.comparison.due


def test_types_are_shipped():
    assert importlib.resources.files("parity").joinpath("py.typed").is_file()
