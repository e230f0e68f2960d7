"""The score: what the quick court finds is what `judge_answer` finds; tables of parts make up the whole."""

from __future__ import annotations

import math

import pytest

from parity.budget.array import Profile
from parity.engines.faulty import FaultyEngine
from parity.families.case import Case
from parity.families.listing import FAULTS, Fault, select
from parity.records.record import Optimize, Undecided
from parity.truth.value import Truth
from parity.vectors.catalogue_answers import truths
from parity.verdict.answer import judge_answer
from parity.verdict.evaluation import Request
from parity.verdict.score import Score, merged, score_faults

NAMES = (
    "Linear/batch 3",
    "Sigmoid/extreme",
    "BCELoss/at 0 and 1, target 1",
    "Network/2-2-2, batch 1",
    "SGD/groups, each with its options",
)


def the(name: str) -> Case:
    (case,) = (case for case in select(name) if case.name == name)
    return case


@pytest.mark.parametrize("name", NAMES)
def test_the_quick_score_agrees_with_the_whole_verdict(name: str) -> None:
    case = the(name)
    for family in case.families:
        record = case.record(family, "float64")
        touching = [fault for fault in FAULTS if fault.touches(record)]
        for found in score_faults(touching, [case], truths):
            engine = FaultyEngine(found.fault)
            if not found.tried or found.family != family:
                continue
            answer = engine.optimize(record) if isinstance(record, Optimize) else engine.vjp(record)  # type: ignore[arg-type]
            verdicts = judge_answer(Request(record, Profile.of("float64")), truths(case, family, "float64"), answer)  # type: ignore[arg-type]
            assert any(v.verdict == "FAIL" for v in verdicts) == (found.caught == found.tried), found.fault.name


def test_a_share_is_a_number_of_budgets() -> None:
    (fault,) = (fault for fault in FAULTS if fault.name == "gradients doubled")
    case = the("Sigmoid/moderate")
    (found,) = score_faults([fault], [case], truths)
    record = case.record(found.family, "float64")
    verdicts = judge_answer(
        Request(record, Profile.of("float64")), truths(case, found.family, "float64"), FaultyEngine(fault).vjp(record)
    )  # type: ignore[arg-type]
    (verdict,) = (v for v in verdicts if v.name == found.tensor)
    assert found.tensor == "grad_input"
    assert 0 < found.share <= verdict.share


def test_what_changes_no_bit_is_not_tried() -> None:
    nothing = Fault("nothing", "", "", "", patches={"Linear": lambda module: None})
    (found,) = score_faults([nothing], [the("Linear/batch 3")], truths)
    assert (found.tried, found.caught, found.share) == (0, 0, 0.0)


def test_an_engine_that_raises_is_caught() -> None:
    def broken(module: object) -> None:
        raise ValueError("broken")

    (found,) = score_faults([Fault("broken", "", "", "", patches={"Linear": broken})], [the("Linear/batch 3")], truths)
    assert found.tried == found.caught == found.exact == 2


def test_a_case_without_truth_is_left_out() -> None:
    def none(case: Case, family: str, dtype: str) -> dict[str, Truth]:
        raise Undecided("open")

    assert all(found.tried == 0 for found in score_faults(FAULTS[:3], [the("Linear/batch 3")], none))


def test_trainings_are_judged_if_somebody_does() -> None:
    case = the("Training/stochastic")
    faults = [fault for fault in FAULTS if fault.train]
    assert all(found.tried == 0 for found in score_faults(faults, [case], truths))
    found = score_faults(faults, [case], truths, trainings=True)
    assert sum(f.caught for f in found) >= 6


def test_merged_is_as_of_all_cases() -> None:
    cases, faults = [the(name) for name in NAMES[:2]], FAULTS[:12]
    together = score_faults(faults, cases, truths)
    apart = merged([score_faults(faults, [case], truths) for case in cases])
    assert apart == together


def test_a_caught_share_counts_for_more_than_a_larger_one_that_is_not() -> None:
    fault = FAULTS[0]
    harmless = Score(fault, "float64", 1, 0, 0.9, "a", "grid", "t")
    caught = Score(fault, "float64", 1, 1, 0.0, "b", "grid", "t", 1)
    assert merged([[harmless], [caught]]) == [Score(fault, "float64", 2, 1, 0.0, "b", "grid", "t", 1)]
    assert not math.isinf(merged([[harmless], [caught]])[0].share)
