"""RotaryEmbedding by hand, and its purpose: scores that depend on distances alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from refnet import nn
from refnet.nn.rotary import rotary_tables

pytestmark = pytest.mark.arithmetic


def test_a_quarter_turn_by_hand() -> None:
    x = np.array([[1.0, 2, 3, 4, 5]])
    c, s = np.array([[0.0, 1.0]]), np.array([[1.0, 0.0]])
    assert nn.RotaryEmbedding(interleaved=True)(x, c, s).tolist() == [[-2, 1, 3, 4, 5]]
    assert nn.RotaryEmbedding()(x, c, s).tolist() == [[-3, 2, 1, 4, 5]]


def test_tables() -> None:
    c, s = rotary_tables(3, 4, base=100)
    assert c[0].tolist() == [1, 1]
    for table, f in ((c, math.cos), (s, math.sin)):
        np.testing.assert_allclose(table, [[f(t), f(t / 10)] for t in range(3)], rtol=1e-14, atol=1e-16)
    assert rotary_tables(2, 4, dtype=np.float32)[0].dtype == np.float32


@pytest.mark.parametrize("interleaved", [False, True])
def test_scores_depend_on_distances(interleaved: bool) -> None:
    q, k = np.random.default_rng(0).normal(size=(2, 1, 6))
    rope = nn.RotaryEmbedding(interleaved)
    turned = [rope(np.broadcast_to(x, (9, 6)), *rotary_tables(9, 6)) for x in (q, k)]
    scores = turned[0] @ turned[1].T
    for distance in range(-8, 9):
        diagonal = np.diagonal(scores, distance)
        np.testing.assert_allclose(diagonal, diagonal[0], rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((3, 4), (3, 3), (3, 3)), r"with 2 R at most E, got \(3, 4\) and \(3, 3\)"),
        (((3, 4), (2, 2), (2, 2)), r"got \(3, 4\) and \(2, 2\)"),
        (((3, 4), (3, 2), (3, 1)), r"cos and sin of one shape, got \(3, 2\) and \(3, 1\)"),
        (((4,), (1, 2), (1, 2)), r"got \(4,\) and \(1, 2\)"),
        (((2, 3, 4), (3, 3, 2), (3, 3, 2)), "cos of a shape that broadcasts"),
    ],
)
def test_refused(shapes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^RotaryEmbedding: expected .*{message}"):
        nn.RotaryEmbedding()(*(np.zeros(shape) for shape in shapes))


def test_refused_options() -> None:
    with pytest.raises(TypeError, match="RotaryEmbedding: expected interleaved to be True or False, got 1"):
        nn.RotaryEmbedding(1)  # type: ignore[arg-type]
