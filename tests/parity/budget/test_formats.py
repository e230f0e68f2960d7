"""Formats and profiles."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from parity.budget.array import Profile
from parity.budget.formats import FORMATS

pytestmark = pytest.mark.arithmetic


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_formats_are_those_of_numpy(dtype: str) -> None:
    f, info = FORMATS[dtype], np.finfo(dtype)
    assert (f.u, f.tiny, f.max) == (info.eps / 2, info.tiny, info.max)
    assert Profile.of(dtype).dtype == ("float64" if dtype == "float64" else "float32")
    assert Profile.of("bfloat16").dtype == "float32"


def test_growth_is_that_of_stacked_roundings() -> None:
    f = FORMATS["bfloat16"]
    for k in (0, 1, 2, 63, 1000):
        exact = (1 + Fraction(2 * f.u)) ** k - 1
        assert float(exact) == pytest.approx(f.growth(k), rel=1e-12)
    assert f.growth(10**6) == math.inf
