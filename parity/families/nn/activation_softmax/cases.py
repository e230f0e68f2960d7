"""Softmin and Softmax2d: what they do otherwise than Softmax, whose cases are in the family `activation`."""

from __future__ import annotations

from typing import Any

from parity.families.case import FAMILIES, FULL, GRID, Draw, Spec, VJPCase, given
from parity.families.nn.activation.cases import FAR_APART, TIES


def _case(
    name: str, what: str, X: Draw, dY: Draw | None = None, families: tuple[str, ...] = FULL, **args: Any
) -> VJPCase:
    return VJPCase(f"{name}/{what}", Spec(name, args), (X,), (dY or Draw(X.shape),), families=families)


CASES = (
    _case("Softmin", "batch 0", Draw((0, 5)), dim=-1, families=GRID),
    _case("Softmin", "batch 1", Draw((1, 5)), dim=-1, families=GRID),
    _case("Softmin", "batch 3", Draw((3, 5)), dim=-1, families=FAMILIES),
    _case("Softmin", "batch 7, gradient of stride zero", Draw((7, 5)), Draw((7, 5), layout="expanded"), dim=1),
    _case("Softmin", "first axis, gradient transposed", Draw((3, 5)), Draw((3, 5), layout="transposed"), dim=0),
    _case("Softmin", "middle axis", Draw((2, 3, 4)), dim=1),
    _case("Softmin", "no axes", Draw(()), dim=0, families=GRID),
    _case("Softmin", "ties", given((3, 4), *TIES), dim=-1, families=GRID),
    _case("Softmin", "far apart", given((4, 4), *FAR_APART), dim=-1),
    _case("Softmax2d", "batch 0", Draw((0, 3, 2, 2)), families=GRID),
    _case("Softmax2d", "batch 1", Draw((1, 3, 2, 2)), families=GRID),
    _case("Softmax2d", "batch 3", Draw((3, 4, 2, 3)), families=FAMILIES),
    _case("Softmax2d", "batch 7, gradient of stride zero", Draw((7, 3, 2, 2)), Draw((7, 3, 2, 2), layout="expanded")),
    _case("Softmax2d", "gradient transposed", Draw((2, 3, 3, 2)), Draw((2, 3, 3, 2), layout="transposed")),
    _case("Softmax2d", "one image", Draw((3, 2, 4)), families=FAMILIES),
    _case("Softmax2d", "far apart", given((1, 4, 2, 2), *FAR_APART)),
)
