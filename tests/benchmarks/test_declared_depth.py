"""Budgets of a declared depth: no false alarm, and they see factors of fewer bits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.precision import depth_command, summation

RESULTS = Path(depth_command.__file__).parent.parent / "results" / "precision" / "depth.json"


def test_one_per_cent_of_the_campaign(tmp_path: Path) -> None:
    """Ten trees of each length, and one product; what is kept in a file is not done again."""
    out = tmp_path / "depth.json"
    made = depth_command.campaign(out, trees=3, seeds=0)
    assert [known["trees"] for known in made["trees"].values()] == [3, 3, 3]
    made = depth_command.campaign(out, trees=10, seeds=1)
    for known in made["trees"].values():
        assert known["trees"] == 10
        assert known["false alarms"] == 0
        # What errs most comes near its bound.
        assert known["largest share"]["one, then 0.999 u"] > 0.5
    assert json.loads(out.read_text())["trees"] == made["trees"]
    again = depth_command.campaign(None, trees=10, seeds=0)
    assert again["trees"] == made["trees"]
    (seen,) = made["seen"].values()
    assert seen["tf32, float32, depth 20"] > 0.6
    assert seen["bfloat16, float32, depth 20"] > 0.9
    assert seen["bfloat16, float32"] < 0.01


@pytest.mark.parametrize("declared", ["depth 8", "blocks of 8"])
def test_a_longer_chain_is_outside(declared: str) -> None:
    x, exact, bound = depth_command._terms(
        depth_command.KINDS[-1], 64, np.random.default_rng(0), f"float32, {declared}"
    )
    chain = np.sort(x, axis=0)[::-1]
    total = chain[0]
    for row in chain[1:]:
        total = summation.toward_zero(total, row)
    assert (abs(total - exact) > bound).all()


def test_a_tree_has_no_longer_chain_than_it_may() -> None:
    def chain(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.maximum(a, b) + 1

    draws = np.random.default_rng(0)
    for depth, terms in ((8, 64), (8, 256), (13, 512)):
        longest = [float(summation.tree(np.zeros((terms, 1)), depth, draws, chain)[0]) for _ in range(20)]
        assert max(longest) == depth
    for _ in range(20):
        assert summation.in_blocks(np.zeros((64, 1)), 8, draws, chain)[0] <= 7 + 7
    with pytest.raises(ValueError, match="expected at most 8 terms at depth 3, got 9"):
        summation.tree(np.zeros((9, 1)), 3, draws, chain)


def test_the_committed_results() -> None:
    made = json.loads(RESULTS.read_text())
    for known in made["trees"].values():
        assert known["trees"] == depth_command.TREES
        assert known["false alarms"] == 0
    for seen in made["seen"].values():
        assert seen["tf32, float32, depth 20"] >= 0.6
        assert seen["bfloat16, float32, depth 20"] >= 0.9
