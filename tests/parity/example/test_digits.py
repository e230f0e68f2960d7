from fractions import Fraction

import pytest

from parity.example.digits import exact, fixed, mark, places
from parity.truth.value import Truth


@pytest.mark.parametrize(
    ("number", "decimals", "text"),
    [
        ("0.29102777369", 9, "0.291027774"),
        ("-0.0190491182", 9, "-0.019049118"),
        ("0.40", 2, "0.40"),
        ("0.99999", 3, "1.000"),
        ("12.5", 0, "12"),
        ("0.125", 2, "0.12"),
        ("0.135", 2, "0.14"),
        ("-0.0001", 2, "0.00"),
    ],
)
def test_fixed(number, decimals, text):
    assert fixed(Fraction(number), decimals) == text
    assert places(text) == decimals


@pytest.mark.parametrize(
    ("text", "reference", "parts"),
    [
        ("0.291027924", "0.291027774", ("0.291027", "924")),
        ("0.2910", "0.2910", ("0.2910", "")),
        ("-0.1", "0.1", ("", "-0.1")),
        ("0.12", "0.123", ("0.12", "")),
        ("0.1234", "0.12", ("0.12", "34")),
    ],
)
def test_mark(text, reference, parts):
    assert mark(text, reference) == parts


def test_exact_is_the_sum_of_both_parts():
    assert exact(Truth.of(0.5)) == Fraction(1, 2)
    assert exact(Truth(*(Truth.of(x).hi for x in (1.0, 2.0**-70)), Truth.of(0).undecided)) == 1 + Fraction(1, 2**70)
