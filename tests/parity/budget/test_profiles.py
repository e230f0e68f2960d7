"""Profiles from a string."""

from __future__ import annotations

import numpy as np
import pytest

from parity.budget.formats import FORMATS, Profile
from parity.truth.value import Truth


@pytest.mark.parametrize(
    ("text", "says", "parts"),
    [
        ("float64", "float64", ("float64", "float64", "float64", None, None)),
        (
            "bfloat16, accumulate float32, depth 40",
            "bfloat16, sums in float32, depth 40",
            ("bfloat16", "float32", "bfloat16", 40, None),
        ),
        ("tf32", "float32, factors in tf32", ("float32", "float32", "tf32", None, None)),
        (
            " float16 ,products tf32,  blocks of 384",
            "float16, factors in tf32, blocks of 384",
            ("float16", "float16", "tf32", None, 384),
        ),
        (
            "tf32, accumulate float64",
            "float32, sums in float64, factors in tf32",
            ("float32", "float64", "tf32", None, None),
        ),
    ],
)
def test_a_profile_says_what_was_said(text: str, says: str, parts: tuple[object, ...]) -> None:
    found = Profile.parse(text)
    assert str(found) == says
    assert (found.storage.name, found.accumulator.name, found.product.name, found.depth, found.block) == parts
    assert Profile.parse(says) == found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected formats among"),
        ("float8", "got 'float8'"),
        ("float32, accumulate float128", "got 'float128'"),
        ("float32, depth", "expected a profile such as"),
        ("float32, depth ten", "expected a whole number from 1 as the profile's depth, got 'ten'"),
        ("float32, depth 0", "got '0'"),
        ("float32, deep 3", "expected a profile such as"),
        ("float32, depth 3, depth 4", "expected a profile such as"),
    ],
)
def test_what_is_no_profile(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Profile.parse(text)


@pytest.mark.parametrize(
    ("text", "terms", "longest"),
    [
        ("float32", 4096, 4095),
        ("float32", 0, 0),
        ("float32, depth 20", 4096, 20),
        ("float32, depth 20", 5, 4),
        # Blocks of 64: 63 additions in a block, then 63 of the 64 blocks' sums.
        ("float32, blocks of 64", 4096, 126),
        ("float32, blocks of 64", 65, 64),
        ("float32, blocks of 64", 64, 63),
        ("float32, depth 100, blocks of 64", 4096, 100),
    ],
)
def test_the_longest_chain(text: str, terms: int, longest: int) -> None:
    assert Profile.parse(text).chain(terms) == longest


@pytest.mark.parametrize("name", FORMATS)
def test_rounding_to_a_format_is_that_of_the_truth(name: str) -> None:
    """`Truth.nearest` is another way to it; NumPy's own conversions are a third, where there is one."""
    f = FORMATS[name]
    draws = np.random.default_rng(0)
    x = draws.standard_normal(1000) * 2.0 ** draws.integers(-30, 30, 1000)
    x[:6] = 0.0, -0.0, np.inf, np.nan, 1e300, f.tiny / 3
    assert np.array_equal(f.nearest(x), Truth.of(x).nearest(f), equal_nan=True)
    if hasattr(np, name):
        with np.errstate(over="ignore"):
            assert np.array_equal(f.nearest(x), x.astype(name).astype(np.float64), equal_nan=True)
