"""Every verdict is reached, and exact at its boundaries; figures against hand arithmetic."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parity.truth.value import Truth
from parity.verdict.tensor import UNDEFINED, Enclosure, Other, TensorVerdict, judge

pytestmark = pytest.mark.arithmetic

TINY = np.finfo(np.float64).tiny


def enclosed(values, bound=0.0, lo=0.0, undecided=False):
    """An enclosure of the values; a scalar holds for every element."""
    hi = np.asarray(values, np.float64)
    spread = [np.broadcast_to(a, hi.shape) for a in (np.float64(lo), np.bool_(undecided), np.float64(bound))]
    if not isinstance(lo, float):
        spread[0] = np.asarray(lo, np.float64)
    if not isinstance(undecided, bool):
        spread[1] = np.asarray(undecided)
    if not isinstance(bound, float):
        spread[2] = np.asarray(bound, np.float64)
    return Enclosure(Truth(hi, spread[0], spread[1]), spread[2])


def verdict(got, enclosure, dtype="float64", **more):
    return judge("t", got, enclosure, dtype, **more).verdict


# ---- within and without


def test_exact_is_the_correctly_rounded_truth():
    third = enclosed([1 / 3], bound=1e-3, lo=[float(Fraction(1, 3) - Fraction(1 / 3))])
    assert verdict(np.array([1 / 3]), third) == "exact"
    assert verdict(np.array([np.nextafter(1 / 3, 1)]), third) == "rounding"
    assert verdict(np.array([1 / 3], np.float32), third, "float32") == "exact"
    assert verdict(np.array([np.nextafter(np.float32(1 / 3), np.float32(1))]), third, "float32") == "rounding"


def test_lo_settles_what_is_the_nearest():
    # Half-way between 1 and the next float32 number; the rest tips the balance.
    half = 1 + 2.0**-24
    one, above = np.float32([1]), np.float32([1 + 2.0**-23])
    assert verdict(one, enclosed([half], 1.0), "float32") == "exact"
    assert verdict(above, enclosed([half], 1.0), "float32") == "rounding"
    assert verdict(above, enclosed([half], 1.0, lo=[2.0**-70]), "float32") == "exact"


def test_an_error_equal_to_the_bound_is_inside():
    bound = 2.0**-10
    e = enclosed([1.0], bound)
    at = judge("t", np.array([1 + bound]), e, "float64")
    assert (at.verdict, at.share) == ("rounding", 1.0)
    assert verdict(np.array([1 - bound]), e) == "rounding"
    assert verdict(np.array([np.nextafter(1 + bound, 2)]), e) == "FAIL"
    assert verdict(np.array([np.nextafter(1 - bound, 0)]), e) == "FAIL"


def test_a_bound_of_zero_wants_the_very_number():
    assert verdict(np.array([0.5]), enclosed([0.5])) == "exact"
    missed = judge("t", np.array([np.nextafter(0.5, 1)]), enclosed([0.5]), "float64")
    assert (missed.verdict, missed.share) == ("FAIL", math.inf)
    assert verdict(np.array([-0.0]), enclosed([0.0])) == "exact"


@given(st.floats(-1e300, 1e300, allow_subnormal=False), st.integers(-40, 40), st.integers(0, 40))
def test_inside_means_no_further_than_the_bound(true, units, allowed):
    unit = float(np.spacing(abs(true)))
    got = true + units * unit
    bound = allowed * unit
    inside = abs(Fraction(got) - Fraction(true)) <= Fraction(bound)
    assert (verdict(np.array([got]), enclosed([true], bound)) != "FAIL") == inside


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("bound", [0.0, 1e300, math.inf])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_what_is_not_finite_never_passes(bad, bound, dtype):
    v = judge("t", np.array([1, bad], dtype), enclosed([1.0, 2.0], bound), dtype)
    assert (v.verdict, v.share, v.digits, v.where) == ("FAIL", math.inf, -math.inf, (1,))
    assert v.ulps == math.inf
    assert f"got {bad}" in v.reason


def test_without_a_bound_nothing_is_proved():
    v = judge("t", np.array([7.0]), enclosed([1.0], math.inf), "float64")
    assert (v.verdict, v.share, v.detection_limit, v.blind_share) == ("blind", 0.0, math.inf, 1.0)
    assert v.reason == "no bound holds in 1 of 1 elements, first [0]"
    # One element without a bound is enough, however well the others are seen; the correctly rounded truth is exact.
    half = enclosed([1.0, 2.0], [0.25, math.inf])
    assert verdict(np.array([1.125, 2.0]), half) == "blind"
    assert verdict(np.array([1.0, 2.0]), half) == "exact"
    assert verdict(np.array([1.5, 2.0]), half) == "FAIL"


def test_where_zeros_would_pass_nothing_is_proved():
    e = enclosed([1.0, -2.0], [1.0, 2.5])
    v = judge("t", np.array([1.5, -2.0]), e, "float64")
    assert (v.verdict, v.reason) == ("blind", "zeros would pass: no element is larger than its budget")
    assert verdict(np.array([1.0, -2.0]), e) == "exact"
    # One element that zero misses is enough. The truth zero has nothing to hide.
    assert verdict(np.array([1.25, -2.0]), enclosed([1.0, -2.0], [0.875, 2.5])) == "rounding"
    assert verdict(np.array([1e-9, 0.0]), enclosed([0.0, 0.0], 1e-9)) == "rounding"


def test_past_the_largest_number_infinity_is_the_rounded_truth():
    e = enclosed([1e60], math.inf)
    right = judge("t", np.float32([np.inf]), e, "float32")
    assert (right.verdict, right.share, right.ulps, right.digits) == ("exact", 0.0, 0.0, math.inf)
    largest = judge("t", np.float32([np.finfo(np.float32).max]), e, "float32")
    assert largest.verdict == "blind"
    assert math.isfinite(largest.ulps)
    assert verdict(np.float32([-np.inf]), e, "float32") == "FAIL"
    assert verdict(np.float32([np.nan]), e, "float32") == "FAIL"
    assert verdict(np.array([np.inf]), e) == "FAIL"


def test_where_the_formula_has_no_value_nan_is_the_convention():
    e = enclosed([1.0, math.nan])
    v = judge("t", np.array([1.0, math.nan]), e, "float64")
    assert (v.verdict, v.formula, v.share, v.digits) == ("convention", UNDEFINED, 0.0, math.inf)
    zero = judge("t", np.array([1.0, 0.0]), e, "float64")
    assert zero.verdict == "FAIL"
    assert zero.reason == "1 of 2 elements outside their budget, first [1]: expected NaN, got 0.0"
    assert verdict(np.array([math.nan, math.nan]), e) == "FAIL"
    assert verdict(np.array([math.nan]), enclosed([math.nan])) == "convention"


# ---- tensors that cannot be compared


def test_misfits():
    e = enclosed(np.ones((2, 3)), 2.0)
    for got, reason in (
        (None, "missing"),
        (np.ones((3, 2)), "expected shape (2, 3), got (3, 2)"),
        (np.ones(()), "expected shape (2, 3), got ()"),
        (np.ones((2, 3), np.float32), "expected dtype float64, got float32"),
        (np.ones((2, 3), complex), "expected dtype float64, got complex128"),
        (np.ones((2, 3), object), "expected dtype float64, got object"),
        (np.full((2, 3), "1.0"), "expected dtype float64, got <U3"),
    ):
        v = judge("t", got, e, "float64")
        assert (v.verdict, v.share, v.reason) == ("FAIL", math.inf, reason)
        # What the budget sees does not depend on the answer.
        assert (v.detection_limit, v.blind_share) == (2.0, 1.0)


def test_the_order_of_the_bytes_is_no_part_of_a_value():
    e = enclosed([1.0, 2.5], 0.25)
    assert verdict(np.array([1.0, 2.5], ">f8"), e) == "exact"
    assert verdict(np.array([1.125, 2.5], ">f8"), e) == "rounding"
    assert verdict(np.array([1.5, 2.5], ">f8"), e) == "FAIL"
    assert verdict(np.array([1.0, 2.5], ">f4"), e, "float32") == "exact"
    wrong = judge("t", np.array([1.0, 2.5], ">f4"), e, "float64")
    assert (wrong.verdict, wrong.reason) == ("FAIL", "expected dtype float64, got >f4")


def test_a_number_that_the_format_lacks_is_not_exact():
    third = enclosed([1 / 3], 1e-2, lo=[float(Fraction(1, 3) - Fraction(1 / 3))])
    assert verdict(np.float32([1 / 3]), third, "bfloat16") == "rounding"
    v = judge("t", np.float32([171 / 512]), third, "bfloat16")
    assert (v.verdict, v.ulps) == ("exact", pytest.approx(1 / 3, abs=1e-6))
    from ml_dtypes import bfloat16

    assert verdict(np.array([1 / 3], bfloat16), third, "bfloat16") == "exact"
    assert verdict(np.array([1 / 3], bfloat16), third, "float32") == "FAIL"
    assert verdict(np.array([1 / 3]), third, "bfloat16") == "FAIL"


def test_bounds_have_the_truths_shape():
    with pytest.raises(ValueError, match=r"expected bounds of shape \(2,\), got \(1,\)"):
        Enclosure(Truth.of([1.0, 2.0]), np.zeros(1))


def test_empty_and_0d_tensors():
    assert judge("t", np.zeros((0, 3)), enclosed(np.zeros((0, 3))), "float64") == TensorVerdict("t", "exact")
    assert verdict(np.zeros((0, 3), np.float32), enclosed(np.zeros((0, 3)))) == "FAIL"
    assert verdict(np.zeros((3, 0)), enclosed(np.zeros((0, 3)))) == "FAIL"
    v = judge("t", np.array(2.5), enclosed(2.0, 0.25), "float64")
    assert (v.verdict, v.where, v.share) == ("FAIL", (), 2.0)
    assert v.reason == (
        "1 of 1 elements outside their budget, first the value: expected 2.0000000000000000000 within 0.25, got 2.5"
    )
    assert verdict(np.float64(2.0), enclosed(2.0)) == "exact"


def test_counters_are_judged_exactly():
    assert verdict(np.array(1), enclosed(1.0), "int64") == "exact"
    off = judge("t", np.array(2), enclosed(1.0), "int64")
    assert (off.verdict, off.share) == ("FAIL", math.inf)
    assert off.reason.endswith("got 2")
    assert verdict(np.array(1, np.int32), enclosed(1.0), "int64") == "FAIL"
    assert verdict(np.array(1.0), enclosed(1.0), "int64") == "FAIL"


# ---- undecided elements


def test_undecided_where_nothing_else_fails():
    e = enclosed([1.0, 0.0], [0.0, math.inf], undecided=[False, True])
    for anything in (0.0, 5.0, math.nan, math.inf):
        v = judge("t", np.array([1.0, anything]), e, "float64")
        assert (v.verdict, v.share, v.digits, v.detection_limit, v.blind_share) == ("undecided", 0, math.inf, 0, 0)
    assert verdict(np.array([1.5, 0.0]), e) == "FAIL"
    all_open = judge("t", np.ones(2), enclosed([0.0, 0.0], undecided=True), "float64")
    assert all_open == TensorVerdict("t", "undecided")


# ---- figures


def test_figures_by_hand():
    # errors 0, 2^-50, 2^-40; bounds 2^-52, 2^-49, 2^-41
    e = enclosed([1.0, 4.0, 0.25], [2.0**-52, 2.0**-49, 2.0**-41])
    v = judge("t", np.array([1.0, 4 + 2.0**-50, 0.25 - 2.0**-40]), e, "float64")
    assert (v.verdict, v.share, v.where) == ("FAIL", 2.0, (2,))
    assert v.digits == pytest.approx(-math.log10(2.0**-40 / 4))
    # A unit in the last place of 4 is 2^-50, one of 1/4 is 2^-54.
    assert v.ulps == 2.0**14
    assert v.detection_limit == 2.0**-43
    assert v.blind_share == 0.0
    assert v.reason.startswith("1 of 3 elements outside their budget, first [2]: expected 0.2500000000000000000")


def test_ulps_are_those_of_the_dtype():
    # One float32 unit above 1, and the truth itself is 1.
    v = judge("t", np.float32([1 + 2.0**-23]), enclosed([1.0], 1.0), "float32")
    assert v.ulps == 1.0
    # Below the smallest normal number, the unit is that of it.
    v = judge("t", np.array([0.0]), enclosed([TINY / 4], 1.0), "float64")
    assert v.ulps == 2.0**50


def test_blind_where_the_budget_exceeds_the_truth():
    v = judge("t", np.zeros(4), enclosed([0.0, 1.0, 2.0, -4.0], [0.5, 1.0, 2.5, 4.5]), "float64")
    assert (v.detection_limit, v.blind_share) == (4.5 / 4, 3 / 4)
    nothing = judge("t", np.zeros(2), enclosed([0.0, 0.0], 1e-9), "float64")
    assert (nothing.detection_limit, nothing.blind_share) == (math.inf, 1.0)
    sighted = judge("t", np.zeros(2), enclosed([0.0, 0.0]), "float64")
    assert (sighted.detection_limit, sighted.blind_share) == (0.0, 0.0)


def test_digits_at_the_ends_of_the_format():
    smallest = 5e-324
    assert judge("t", np.array([smallest, 1e300]), enclosed([0.0, 1e300], 1.0), "float64").digits == pytest.approx(
        300 - math.log10(smallest)
    )
    assert judge("t", np.array([1.0]), enclosed([0.0], 2.0), "float64").digits == -math.inf
    assert judge("t", np.array([1e300]), enclosed([smallest], math.inf), "float64").digits < -600


# ---- other formulas


def other(kind, name, enclosures, asked):
    def enclosed_by_it():
        asked.append(name)
        return enclosures

    return Other(kind, name, enclosed_by_it)


def test_other_formulas_are_asked_in_turn_and_only_when_needed():
    asked = []
    others = [
        other("unstable", "too tight", {"t": enclosed([1.0, 2.0], 0.1)}, asked),
        other("unstable", "of another tensor", {"u": enclosed([1.0, 2.0], 9.0)}, asked),
        other("unstable", "weaker", {"t": enclosed([1.0, 2.0], [0.0, 0.5])}, asked),
        other("convention", "elsewhere", {"t": enclosed([1.0, 5.0])}, asked),
    ]
    e = enclosed([1.0, 2.0], 2.0**-7)
    assert verdict(np.array([1.0, 2.0]), e, others=others) == "exact"
    assert asked == []
    v = judge("t", np.array([1 + 2.0**-7, 2.5]), e, "float64", others)
    # The first element is inside the formula's own budget, and need not be in the weaker one's.
    assert (v.verdict, v.formula, v.share, v.where) == ("unstable", "weaker", 64.0, (1,))
    assert asked == ["too tight", "of another tensor", "weaker"]
    v = judge("t", np.array([1.0, 5.0]), e, "float64", others)
    assert (v.verdict, v.formula) == ("convention", "elsewhere")
    v = judge("t", np.array([1.0, 5.1]), e, "float64", others)
    assert (v.verdict, v.formula) == ("FAIL", "")
    assert verdict(np.array([1.0, math.nan]), e, others=others) == "FAIL"


def one(kind, name, enclosure):
    return [Other(kind, name, lambda: {"t": enclosure})]


def test_what_a_weaker_formula_accepts_must_be_seen():
    e = enclosed([1.0, 2.0], 2.0**-7)
    loose = one("unstable", "loose", enclosed([1.0, 2.0], [0.5, 1.5]))
    v = judge("t", np.array([1.25, 3.0]), e, "float64", loose)
    # The limit is that of the formula that accepts the tensor; how far it is off is told in the formula's own budgets.
    assert (v.verdict, v.formula, v.detection_limit, v.share) == ("unstable", "loose", 0.75, 128.0)
    looser = one("unstable", "looser", enclosed([1.0, 2.0], [1.0, 2.0]))
    v = judge("t", np.array([1.25, 3.0]), e, "float64", looser)
    assert (v.verdict, v.formula, v.detection_limit) == ("blind", "looser", 1.0)
    # Another formula that sees it accepts it still; what none accepts fails.
    assert verdict(np.array([1.25, 3.0]), e, others=[*looser, *loose]) == "unstable"
    assert verdict(np.array([1.25, 5.0]), e, others=[*looser, *loose]) == "FAIL"


def test_a_convention_is_one_choice_for_the_whole_tensor():
    e = enclosed([0.0, 0.0, 4.0])
    slope = one("convention", "slope 1", enclosed([3.0, 5.0, 4.0], [0.0, 0.0, 0.25]))
    assert verdict(np.array([3.0, 5.0, 4.0]), e, others=slope) == "convention"
    assert verdict(np.array([0.0, 5.0, 4.0]), e, others=slope) == "FAIL"
    assert verdict(np.array([3.0, 0.0, 4.0]), e, others=slope) == "FAIL"
    # Where the two say the same, an element may be by either.
    wide = enclosed([0.0, 0.0, 4.0], [0.0, 0.0, 0.5])
    assert verdict(np.array([3.0, 5.0, 4.4]), wide, others=slope) == "convention"
    assert verdict(np.array([3.0, 5.0, 4.6]), wide, others=slope) == "FAIL"


# ---- reasons


def test_the_reason_names_the_first_element_and_its_step():
    e = enclosed(np.arange(12.0).reshape(3, 2, 2), 0.5)
    got = e.truth.hi.copy()
    got[1, 0, 1] += 0.75
    got[2] += 3
    assert judge("t", got, e, "float64").reason == (
        "5 of 12 elements outside their budget, first [1, 0, 1]: expected 5.0000000000000000000 within 0.5, got 5.75"
    )
    by_step = judge("t", got, e, "float64", step=lambda k: f"update {k + 1}")
    assert "first update 2, [0, 1]: expected" in by_step.reason
    scalars = judge("t", np.float32([1, 9]), enclosed([1.0, 2.0]), "float32", step=lambda k: f"step {k + 1}")
    assert scalars.reason.endswith("first step 2: expected 2.0000000000000000000 within 0, got 9.0")
