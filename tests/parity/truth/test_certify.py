"""The oracle's cross-check: the hand-written backward against the tape, each shown wrong in turn."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from flint import arb, ctx

from parity.families.case import TrainCase
from parity.families.listing import catalogue
from parity.records.record import VJP, Spec, Train, Undecided
from parity.truth import ball, certify
from parity.vectors import catalogue_answers
from refnet import nn

BY_NAME = {case.name: case for case in catalogue()}
RECORD = VJP(
    Spec("Linear", {"in_features": 2, "out_features": 1}),
    {"weight": np.array([[0.1, 0.2]]), "bias": np.array([0.3])},
    (np.array([[0.5, 0.7]]),),
    (np.array([[1.5]]),),
)


def test_a_wrong_backward_gives_no_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    right = nn.Linear.backward

    def wrong(self: Any, dY: Any, saved: Any) -> Any:
        dX, grads = right(self, dY, saved)
        # Off by 2^-100 of itself.
        return dX, {**grads, "weight": grads["weight"] + grads["weight"] * 2.0**-100}

    certify.certified(RECORD)
    monkeypatch.setattr(nn.Linear, "backward", wrong)
    with pytest.raises(certify.Disagreement, match=r"Linear.*: grad\.weight\[0, 0\]: the tape has"):
        certify.certified(RECORD)


def test_a_backward_of_another_shape_gives_no_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    right = nn.Linear.backward

    def wrong(self: Any, dY: Any, saved: Any) -> Any:
        dX, grads = right(self, dY, saved)
        return dX[0], grads

    monkeypatch.setattr(nn.Linear, "backward", wrong)
    with pytest.raises(certify.Disagreement, match="the tape has shape"):
        certify.certified(RECORD)


def objects(*balls: Any) -> Any:
    array = np.empty(len(balls), dtype=object)
    array[:] = balls
    return array


@pytest.mark.parametrize("first", [arb(0), arb("nan")])
def test_a_wide_ball_agrees_with_nothing(first: Any) -> None:
    """Not behind an element that is no number either."""
    with ball.precision(256):
        certify._agree(RECORD, "grad", objects(first, arb(1)), objects(first, arb(1)))
        for wide in (arb(1, 0.5), arb(0, "inf")):
            with pytest.raises(Undecided, match="too wide"):
                certify._agree(RECORD, "grad", objects(first, arb(1)), objects(first, wide))


@pytest.mark.parametrize("family", ["grid", "full"])
@pytest.mark.parametrize(
    "name", ["BCELoss/batch 3, mean", "BCELoss/weight, none", "BCELoss/hard targets, sum", "BCELoss/batch 3, none"]
)
def test_where_nothing_is_clamped_the_convention_is_the_derivative(
    name: str, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oracle puts the derivative in the place of refnet's own backward, which it sees nowhere else."""
    record = BY_NAME[name].record(family, "float64")
    monkeypatch.setattr(certify, "DERIVATIVES", {})
    certify.certified(record)


def test_threads_take_turns() -> None:
    """flint has one precision for all of them, and the tape one switch: whoever comes second waits."""
    inside, go_on = threading.Event(), threading.Event()
    seen: list[int] = []

    def first() -> None:
        with ball.precision(300):
            inside.set()
            go_on.wait(10)
            seen.append(ctx.prec)

    def second() -> None:
        inside.wait(10)
        with ball.precision(700):
            seen.append(ctx.prec)

    threads = [threading.Thread(target=f) for f in (first, second)]
    for thread in threads:
        thread.start()
    threads[1].join(0.2)
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert seen == [300, 700]


SAMPLED = {name.split("/")[0]: case for name, case in BY_NAME.items() if not isinstance(case, TrainCase)}
"""The last case of each class."""

WRITTEN_IN_PLACE = {"BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d"}
"""Classes with running statistics, which are written into arrays that the tape over arrays has a hold of."""


@pytest.mark.parametrize("name", sorted(SAMPLED.keys() - WRITTEN_IN_PLACE))
def test_by_tensors_it_is_the_kept_truth_bit_for_bit(name: str) -> None:
    """What is kept was computed scalar by scalar."""
    case = SAMPLED[name]
    record = case.record(case.families[-1], "float64")
    assert not isinstance(record, Train)
    kept = catalogue_answers.truths(case, case.families[-1], "float64")
    whole, samples = certify.certified_elements(record, 10**9, "")
    some, places = certify.certified_elements(record, 2, "")
    assert samples == {}
    assert whole.keys() == kept.keys()
    for tensor, truth in whole.items():
        assert np.array_equal(truth.hi, kept[tensor].hi, equal_nan=True), tensor
        assert np.array_equal(truth.lo, kept[tensor].lo, equal_nan=True), tensor
        if tensor in places:
            assert np.array_equal(some[tensor].hi, places[tensor].of(truth.hi), equal_nan=True), tensor
