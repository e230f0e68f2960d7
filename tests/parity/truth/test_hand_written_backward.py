"""The hand-written backward passes, run in balls, overlap the tape: radius below 2^-150 of the largest element."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("flint")

from parity.families import listing
from parity.families.case import VJPCase
from parity.records.record import Undecided
from parity.truth import certify
from parity.truth.certify import Disagreement, certified
from refnet import nn

CASES = [case for case in listing.catalogue() if isinstance(case, VJPCase)]
ONE_EACH = {case.spec.type: case for case in reversed(CASES) if all(0 not in draw.shape for draw in case.inputs)}
"""Of each class its first case that is not empty."""


def checked(case: VJPCase) -> int:
    """How many gradients of a case were compared: what does not overlap, or is too wide, raises."""
    found = [certified(case.record(family, "float64")) for family in case.families]
    return sum(name.startswith("grad") for tensors in found for name in tensors)


def test_the_radius_is_that_of_the_claim() -> None:
    assert certify.RADIUS == 2.0**-150


@pytest.mark.parametrize("kind", sorted(ONE_EACH))
def test_it_overlaps_the_tape_in_a_case_of_each_class(kind: str) -> None:
    assert checked(ONE_EACH[kind]) > 0


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_it_overlaps_the_tape_in_every_case(case: VJPCase) -> None:
    checked(case)


def test_a_backward_that_is_off_in_the_last_bit_of_float64_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    right = nn.Tanh.backward

    def off(self: nn.Tanh, grad_output: Any, saved: Any) -> Any:
        dX, grads = right(self, grad_output, saved)
        return dX * (1 + 2.0**-52), grads

    monkeypatch.setattr(nn.Tanh, "backward", off)
    with pytest.raises(Disagreement, match="Tanh"):
        checked(ONE_EACH["Tanh"])


def test_balls_that_are_too_wide_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # No radius is below 0, at any precision.
    monkeypatch.setattr(certify, "RADIUS", -1.0)
    with pytest.raises(Undecided, match="too wide"):
        checked(ONE_EACH["Tanh"])
