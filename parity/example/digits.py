"""Figures as digits: rounding as printed, and marking the digits that differ.

Certified numbers and their decimals come to the worked example through this file.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from parity.truth.value import Truth, decimal

SHOWN = {"float64": 17, "float32": 9}
"""Significant digits that tell any two numbers of a dtype apart."""


def exact(truth: Truth) -> Fraction:
    """A certified number (0-d) as the rational number that hi + lo is."""
    return Fraction(float(truth.hi)) + Fraction(float(truth.lo))


def places(text: str) -> int:
    """How many decimals a printed figure has."""
    return len(text.partition(".")[2])


def fixed(number: Fraction, decimals: int) -> str:
    """`number` rounded to this number of decimals, ties to even."""
    scaled = round(number * 10**decimals)
    digits = f"{abs(scaled):0{decimals + 1}d}"
    whole, fraction = digits[: len(digits) - decimals], digits[len(digits) - decimals :]
    return ("-" if scaled < 0 else "") + whole + ("." + fraction if decimals else "")


def shortest(number: np.ndarray[Any, Any]) -> str:
    """A float (0-d) with as few significant digits as tell it apart from every other of its format."""
    texts = (decimal(float(number), digits) for digits in range(1, SHOWN[str(number.dtype)] + 1))
    return next(text for text in texts if number.dtype.type(text) == number)


def mark(text: str, reference: str) -> tuple[str, str]:
    """`text` split where it first differs from `reference`: what agrees, and the rest."""
    agree = 0
    while agree < min(len(text), len(reference)) and text[agree] == reference[agree]:
        agree += 1
    return text[:agree], text[agree:]
