"""Dropout with given masks."""

from __future__ import annotations

from typing import Any

from parity.families.case import Draw, Spec, VJPCase, booleans


def _dropout(
    what: str,
    *shape: int,
    X: Draw | None = None,
    mask: Draw | None = None,
    dY: Draw | None = None,
    training: bool = True,
    **args: Any,
) -> VJPCase:
    inputs = (X or Draw(shape), mask or Draw(shape, "mask"))
    return VJPCase(f"Dropout/{what}", Spec("Dropout", args), inputs, (dY or Draw(shape),), training=training)


P = 0.29218013560021205
"""1 - p is the second number that the generator draws, seeded with 0, and is not below itself."""
DRAWN = booleans((3, 5), 0, 0, 1, 0, 1, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1)
"""torch.manual_seed(0); torch.nn.functional.dropout(torch.ones(3, 5), P) != 0"""

CASES = (
    *(_dropout(f"batch {n}", n, 5) for n in (0, 1, 3, 7)),
    _dropout("no axes"),
    _dropout("two leading axes", 2, 3, 4),
    # 1 - p a power of two, and not
    *(_dropout(f"p {p}", 3, 5, p=p) for p in (0.0, 0.25, 0.75, 0.875, 0.1, 0.3)),
    _dropout("p 1", 3, 5, p=1.0),
    _dropout("mask of seed 0, a draw of 1 - p", 3, 5, mask=DRAWN, p=P),
    _dropout("mask of seed 0, p 1", 3, 5, mask=booleans((3, 5), 0), p=1.0),
    _dropout("p close to 1", 3, 5, p=1 - 2.0**-20),
    _dropout("gradient one-hot", 3, 5, dY=Draw((3, 5), "onehot"), p=0.3),
    _dropout("gradient of stride zero", 3, 5, dY=Draw((3, 5), layout="expanded"), p=0.3),
    _dropout("gradient transposed", 3, 5, dY=Draw((3, 5), layout="transposed"), p=0.3),
    _dropout("input sliced", 3, 5, X=Draw((3, 5), layout="sliced"), p=0.3),
    _dropout("mask transposed", 3, 5, mask=Draw((3, 5), "mask", layout="transposed"), p=0.3),
    _dropout("evaluation", 3, 5, p=0.3, training=False),
    _dropout("evaluation, p 1", 3, 5, p=1.0, training=False),
)
