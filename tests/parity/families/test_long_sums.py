"""Every class adds up long axes accurately: no term goes through a chain of more than log2 n + c additions.

A class has far more samples than any case, of values whose rounding errors all go one way, and refnet's results in
float32 are held against the budget of that depth. A chain of n additions errs by more, in the sum and in what is made
of it.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from parity.budget.array import Profile
from parity.engines.refnet import RefnetEngine
from parity.families.case import Draw, VJPCase
from parity.families.conditions import typical
from parity.families.listing import OWN
from parity.records.facts import MODULES
from parity.verdict.answer import Judge, enclosed
from parity.verdict.evaluation import Request
from parity.verdict.tensor import TensorVerdict
from refnet.arithmetic import special

SAMPLES = 32_769
VALUES = (0.1, 0.3, 0.7)
"""Repeated, so that sums between two powers of two are rounded the same way in every third addition. They can be
probabilities, variances and logits."""

CASES = {name: case for name, about in MODULES.items() if about.sums if (case := typical(OWN, name))}


def long(case: VJPCase) -> VJPCase:
    """The case with many samples, no two of its arrays alike."""
    few, turn = case.inputs[0].shape[0], iter(range(99))
    # A slope is learned where the input is negative.
    sign = -1 if case.spec.type == "PReLU" else 1

    def longer(draw: Draw) -> Draw:
        if draw.shape[:1] != (few,):
            return draw
        draw = replace(draw, shape=(SAMPLES, *draw.shape[1:]))
        if draw.kind not in ("real", "positive", "unit"):
            return draw
        return replace(draw, kind="values", values=tuple((sign * np.roll(VALUES, next(turn))).tolist()))

    given = case.spec.facts.arrays
    arrays = {name: longer(draw) if name in given else draw for name, draw in case.arrays.items()}
    return replace(case, inputs=tuple(map(longer, case.inputs)), grads=tuple(map(longer, case.grads)), arrays=arrays)


def judged(name: str) -> list[TensorVerdict]:
    record = long(CASES[name]).record("full", "float32")
    answer = RefnetEngine().vjp(record)
    truths, room = enclosed(Request(record, Profile.of("float64")))
    # 26 for each of at most two axes; a product of matrices adds up to `special.SAMPLES` terms in one call.
    constant = special.SAMPLES if MODULES[name].products else 2 * 26
    depth = math.ceil(math.log2(SAMPLES)) + constant
    return Judge(Request(record, Profile.parse(f"float32, depth {depth}"), room), truths)(answer)


@pytest.mark.parametrize("name", CASES)
def test_no_chain_of_additions_is_long(name: str) -> None:
    assert {v.name: v.verdict for v in judged(name) if v.verdict not in ("exact", "rounding")} == {}


def one_by_one(X: np.ndarray, axis: int, keepdims: bool) -> np.ndarray:
    Y = np.add.accumulate(X, axis=axis)[(..., slice(-1, None), *(slice(None),) * (-1 - axis))]
    return Y if keepdims else np.squeeze(Y, axis)


@pytest.mark.parametrize("name", ["BatchNorm1d", "BatchNorm2d", "LayerNorm", "RMSNorm", "PReLU", "InstanceNorm1d"])
def test_a_long_chain_is_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(special, "_along", one_by_one)
    assert "FAIL" in {v.verdict for v in judged(name)}


def test_scattered_rows_are_added_in_pairs() -> None:
    """Their budget is that of any order, as the index decides how many are added: here the additions are counted."""
    n = 4_096
    G = np.empty((n, 1), object)
    G[:, 0] = [Counted(0) for _ in range(n)]
    assert special.scatter(G, np.zeros(n, np.int64), 1)[0, 0].depth == math.log2(n)


class Counted:
    """A number that knows the longest chain of additions that it comes from."""

    def __init__(self, depth: int) -> None:
        self.depth = depth

    def __add__(self, other: Counted) -> Counted:
        return Counted(max(self.depth, other.depth) + 1)
