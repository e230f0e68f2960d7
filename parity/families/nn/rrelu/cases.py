"""RReLU with given slopes."""

from __future__ import annotations

from typing import Any

from parity.families.case import FAMILIES, FULL, GRID, Draw, Spec, VJPCase, given
from parity.families.nn.activation_piecewise.cases import ZERO


def _rrelu(what: str, X: Draw, slopes: Draw | None, dY: Draw | None = None, **more: Any) -> VJPCase:
    """With given slopes in training mode; without, in evaluation mode."""
    inputs = (X,) if slopes is None else (X, slopes)
    families = more.pop("families", GRID)
    spec, dY = Spec("RReLU", more), dY or Draw(X.shape)
    return VJPCase(f"RReLU/{what}", spec, inputs, (dY,), training=slopes is not None, families=families)


CASES = (
    _rrelu("batch 0", Draw((0, 5)), Draw((0, 5))),
    _rrelu("batch 1, gradient one-hot", Draw((1, 5)), Draw((1, 5)), Draw((1, 5), "onehot", scale=-2.5)),
    _rrelu("batch 3", Draw((3, 5)), Draw((3, 5)), families=FAMILIES),
    _rrelu("batch 7, gradient transposed", Draw((7, 2)), Draw((7, 2)), Draw((7, 2), layout="transposed")),
    _rrelu("no axes, negative", given((), -0.75), Draw(())),
    _rrelu("kinks", given((8,), *ZERO), Draw((8,))),
    _rrelu("layouts", *(Draw((3, 5), layout=how) for how in ("sliced", "transposed", "expanded"))),
    _rrelu("everything off", Draw((3, 5), "positive", scale=-1.0), Draw((3, 5)), families=FULL),
    _rrelu("evaluation", Draw((3, 5)), None, families=FULL),
    _rrelu("evaluation, kinks, other bounds", given((8,), *ZERO), None, lower=-0.25, upper=0.75),
)
