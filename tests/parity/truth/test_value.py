"""Certified values as pairs: rounding them, subtracting from them, printing them."""

from __future__ import annotations

import decimal as decimals
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from parity.budget.formats import FORMATS
from parity.truth.value import Truth, decimal


def pair(x: Fraction) -> Truth:
    hi = float(x)
    return Truth(np.array(hi), np.array(float(x - Fraction(hi))), np.array(False))


def rounded(x: Fraction, dtype: str) -> Any:
    """To nearest, ties to even, by exact arithmetic."""
    info: Any = np.finfo(dtype)
    if x == 0:
        return np.dtype(dtype).type(0)
    exponent = max(math.floor(math.log2(abs(x))), info.minexp)
    exponent += (abs(x) >= Fraction(2) ** (exponent + 1)) - (
        exponent > info.minexp and abs(x) < Fraction(2) ** exponent
    )
    unit = Fraction(2) ** (exponent - info.nmant)
    with np.errstate(over="ignore"):
        return np.dtype(dtype).type(float(round(x / unit) * unit))


def numbers(dtype: str) -> list[Fraction]:
    """Half-way cases of the format, exactly and tipped by less than hi can say, and numbers of every size."""
    info: Any = np.finfo(dtype)
    random = np.random.default_rng(0)
    starts = [1.0, -1.0, 1.5, 3.0, -(2.0**-10), float(info.tiny), float(info.tiny) / 4, 0.0]
    starts += (random.standard_normal(50) * 2.0 ** random.integers(info.minexp - 8, info.maxexp - 3, 50)).tolist()
    found = []
    for start in starts:
        low = np.dtype(dtype).type(start)
        high = np.nextafter(low, np.dtype(dtype).type(np.inf))
        half = (Fraction(float(low)) + Fraction(float(high))) / 2
        found += [half, half + abs(half) * Fraction(2) ** -80, half - abs(half) * Fraction(2) ** -80, Fraction(start)]
    return found


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_truth_is_rounded_once(dtype: str) -> None:
    for x in numbers(dtype):
        near = pair(x).nearest(FORMATS[dtype])
        assert near == rounded(x, dtype), x


def test_lo_tips_the_balance_of_a_tie() -> None:
    """Rounded to binary64 first, all three would be 1 + 2^-24, and 1 in float32."""
    tie, tip = 1 + Fraction(2) ** -24, Fraction(2) ** -90
    assert [float(pair(tie + k * tip).nearest(FORMATS["float32"])) for k in (-1, 0, 1)] == [1.0, 1.0, 1 + 2.0**-23]
    assert [float(pair(-tie + k * tip).nearest(FORMATS["float32"])) for k in (-1, 0, 1)] == [-1 - 2.0**-23, -1.0, -1.0]
    odd = tie + Fraction(2) ** -23
    assert [float(pair(odd + k * tip).nearest(FORMATS["float32"])) for k in (-1, 0)] == [1 + 2.0**-23, 1 + 2.0**-22]


def test_the_truth_in_a_format_that_numpy_lacks() -> None:
    """Half-way between 1 and the next bfloat16 number, and one third, by hand."""
    tie, tip, f = 1 + Fraction(2) ** -8, Fraction(2) ** -90, FORMATS["bfloat16"]
    assert [float(pair(tie + k * tip).nearest(f)) for k in (-1, 0, 1)] == [1.0, 1.0, 1 + 2.0**-7]
    assert float(pair(Fraction(1, 3)).nearest(f)) == 171 / 512
    assert float(pair(Fraction(1, 3)).nearest(FORMATS["tf32"])) == 1365 / 4096
    assert float(pair(Fraction(2) ** -134).nearest(f)) == 0.0
    assert float(pair(3 * Fraction(2) ** -134).nearest(f)) == 2.0**-132


def test_the_truth_in_float64_is_hi() -> None:
    truth = Truth.of([0.1, -2.0])
    assert truth.nearest(FORMATS["float64"]) is truth.hi


def test_a_truth_beyond_the_format_is_infinite_in_it() -> None:
    assert pair(Fraction(10) ** 39).nearest(FORMATS["float32"]) == np.inf
    assert pair(-(Fraction(10) ** 39)).nearest(FORMATS["float32"]) == -np.inf
    largest = Fraction(float(np.finfo(np.float32).max))
    assert pair(largest + Fraction(2) ** 80).nearest(FORMATS["float32"]) == np.finfo(np.float32).max


def test_errors_are_taken_from_both_parts() -> None:
    third = Fraction(1, 3)
    truth = pair(third)
    for off in (0.0, 2.0**-54, -(2.0**-53), 1e-9):
        value = float(third) + off
        exact = abs(Fraction(value) - third)
        assert float(truth.error(value)) == pytest.approx(float(exact), rel=1e-15)
    assert np.isnan(truth.error(np.nan))


def test_errors_of_narrower_values_are_exact_too() -> None:
    assert float(pair(Fraction(1, 10)).error(np.float32(0.1))) == float(
        abs(Fraction(float(np.float32(0.1))) - Fraction(1, 10))
    )


def test_parts_and_elements() -> None:
    truth = Truth(np.array([1.0, 2.0]), np.array([1e-20, 0.0]), np.array([False, True]))
    joined = Truth.concatenate([truth, truth[:1]])
    assert joined.shape == (3,)
    assert joined.hi.tolist() == [1.0, 2.0, 1.0]
    assert joined.lo.tolist() == [1e-20, 0.0, 1e-20]
    assert joined.undecided.tolist() == [False, True, False]
    assert truth[1].undecided


DIGITS = (1, 2, 5, 17, 25, 40)


@pytest.mark.parametrize("digits", DIGITS)
def test_decimals_are_those_of_the_decimal_module(digits: int) -> None:
    random = np.random.default_rng(1)
    values = [0.1, -1 / 3, 123456789.0, 9.5, 99999.5, 0.5, 2.5, 1e-5, 9.99e-6, 1e22, 1.5e300, -5e-324, 1.0, 100.0]
    values += (random.standard_normal(50) * 10.0 ** random.integers(-20, 20, 50)).tolist()
    context = decimals.Context(prec=digits, rounding=decimals.ROUND_HALF_EVEN)
    for value in values:
        expected = context.plus(decimals.Decimal(value))
        text = decimal(value, digits)
        assert decimals.Decimal(text) == expected
        mantissa = text.lstrip("-").split("e")[0].replace(".", "").lstrip("0")
        assert len(mantissa) == digits


def test_decimals_are_written_as_people_write_them() -> None:
    assert decimal(Fraction(1, 3), 5) == "0.33333"
    assert decimal(Fraction(-200, 3), 5) == "-66.667"
    assert decimal(12345, 5) == "12345"
    assert decimal(123456, 5) == "1.2346e5"
    assert decimal(Fraction(1, 30000), 3) == "0.0000333"
    assert decimal(Fraction(1, 3000000), 3) == "3.33e-7"
    assert decimal(0, 4) == "0.000"
    assert decimal(Fraction(99999, 100000), 3) == "1.00"


def test_a_pair_prints_more_digits_than_a_float_has() -> None:
    truth = Truth(
        np.array([float(Fraction(1, 3))]), np.array([float(Fraction(1, 3) - Fraction(1 / 3))]), np.array([False])
    )
    assert truth.decimal(32, (0,)) == "0." + "3" * 32


@pytest.mark.filterwarnings("error")
def test_infinity_is_nearest_to_itself() -> None:
    values = np.array([np.inf, -np.inf, 1e300, np.nan])
    assert Truth.of(values).nearest(FORMATS["float32"]).tolist()[:3] == [np.inf, -np.inf, np.inf]
    assert np.isnan(Truth.of(values).nearest(FORMATS["float32"])[3])
