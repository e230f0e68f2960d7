"""Bounds that are computed for some elements at a time are those of all at once, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from parity.budget import bounds
from parity.budget.array import Budget, Profile
from refnet.arithmetic import special

EXPRESSIONS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "sums": lambda x, y, z: x * y + z - x + 0.0,
    "quotients": lambda x, y, z: x / y / 4 + z * 0.1 / y[:1],
    "functions": lambda x, y, z: np.exp(x) * np.tanh(y) + special.sigmoid(z) + np.log1p(x * x) + np.sqrt(y * y) + y**3,
    "unbounded": lambda x, y, z: np.log(x) + 1e38 * (1e38 * y) / (z - z),
}


@pytest.mark.parametrize("name", EXPRESSIONS)
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("block", [1, 7, 12])
def test_blocks(name: str, dtype: str, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = Profile.of(dtype)
    draws = np.random.default_rng(0)
    # Multiples of 1/4, zeros among them, so that some results are exact; one operand is spread along an axis.
    x, y, z = (draws.integers(-8, 9, shape) / 4 for shape in ((3, 4, 5), (4, 1), (1, 4, 5)))
    whole = EXPRESSIONS[name](*(Budget.exact(a, profile) for a in (x, y, z)))
    monkeypatch.setattr(bounds, "BLOCK", block)
    parts = EXPRESSIONS[name](*(Budget.exact(a, profile) for a in (x, y, z)))
    for one, other in ((whole.x, parts.x), (whole.e, parts.e), (whole.q, parts.q)):
        assert np.array_equal(one, other, equal_nan=True)


def test_a_written_element_has_its_own_grid() -> None:
    """Where nothing is known of any grid, one number stands for all; writing replaces it."""
    x = Budget.exact(np.full((2, 3), 0.1), Profile.of("float64"))
    y = x * x
    assert bounds.is_gridless(y.q)
    y[0, 1] = 0.5
    assert y.q.tolist() == [[0.0, 0.5, 0.0], [0.0, 0.0, 0.0]]
