"""RotaryEmbedding. Axes: n sample, h head, l position, e unit, r pair."""

from __future__ import annotations

from typing import Any

from parity.families.case import FAMILIES, FULL, Draw, Spec, VJPCase


def _rotary(
    what: str,
    *shape: int,
    pairs: int = 2,
    lead: tuple[int, ...] = (),
    X: Draw | None = None,
    dY: Draw | None = None,
    tables: str = "contiguous",
    families: tuple[str, ...] = FULL,
    **args: Any,
) -> VJPCase:
    """`lead` are the axes of the tables before position and pair."""
    table = Draw((*lead, shape[-2], pairs), layout=tables)
    inputs = (X or Draw(shape), table, table)
    return VJPCase(
        f"RotaryEmbedding/{what}", Spec("RotaryEmbedding", args), inputs, (dY or Draw(shape),), {}, True, families
    )


CASES = (
    *(_rotary(f"batch {n}", n, 2, 4, families=FAMILIES if n == 3 else FULL) for n in (0, 1, 3, 7)),
    _rotary("interleaved, batch 3", 3, 2, 4, interleaved=True, families=FAMILIES),
    _rotary("no batch axis", 3, 4, interleaved=True),
    _rotary("heads", 2, 2, 3, 4),
    _rotary("some units handed on", 2, 3, 7),
    _rotary("some units handed on, interleaved", 2, 3, 7, interleaved=True),
    _rotary("one pair", 2, 3, 2, pairs=1),
    _rotary("no pair", 2, 3, 2, pairs=0, interleaved=True),
    _rotary("one position, three pairs, interleaved", 2, 1, 6, pairs=3, interleaved=True),
    _rotary("tables of each sample", 2, 2, 3, 4, lead=(2, 1), interleaved=True),
    _rotary("65 samples of one pair", 65, 1, 2, pairs=1),
    _rotary("input sliced, tables transposed", 2, 3, 4, X=Draw((2, 3, 4), layout="sliced"), tables="transposed"),
    _rotary("gradient one-hot", 2, 3, 4, dY=Draw((2, 3, 4), "onehot", scale=-2.5), interleaved=True),
    _rotary("gradient of stride zero", 3, 3, 4, dY=Draw((3, 3, 4), layout="expanded")),
    _rotary("gradient transposed", 3, 2, 4, dY=Draw((3, 2, 4), layout="transposed"), interleaved=True),
)
