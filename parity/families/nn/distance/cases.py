"""CosineSimilarity and PairwiseDistance."""

from __future__ import annotations

import math

from parity.families.case import Draw, given
from parity.families.nn.loss.cases import Alike, Shape


def _pair(shape: Shape) -> tuple[Draw, ...]:
    return Draw(shape), Draw(shape)


def _without_second(shape: Shape) -> Shape:
    return shape[:1] + shape[2:]


def _without_last(shape: Shape) -> Shape:
    return shape[:-1]


PLAIN = ("",)
# The second row is twice the first; the third differs from it in one place by little; the last but one is zero.
ROWS = given((4, 3), 1.0, 2.0, -2.0, 3.0, 0.0, 4.0, 0.0, 0.0, 0.0, 1e-5, -1e-5, 0.0)
OTHERS = given((4, 3), 2.0, 4.0, -4.0, 3.0, 2.0**-20, 4.0, 1.0, 1.0, 0.5, 1e-5, 1e-5, 1e-5)
TIES = given((3, 4), 1.0, -2.0, 2.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0, 3.0, -3.0, 3.0)
TO_TIES = given((3, 4), 1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0)

DISTANCES = (
    Alike(
        "CosineSimilarity",
        _pair,
        _without_second,
        shapes=((1, 4), (2, 3, 2)),
        edges={
            "along the last axis": ((Draw((2, 3)), Draw((2, 3))), {"dim": -1}),
            "one for all": ((Draw((3, 4)), Draw((1, 4))), {}),
            "one element for all": ((Draw((3, 1)), Draw((3, 4))), {}),
            "fewer axes": ((Draw((3, 2, 4)), Draw((2, 4))), {}),
            "eps 4": ((ROWS, OTHERS), {"eps": 4.0}),
            "the same way, and none": ((ROWS, OTHERS), {}),
            "large": ((Draw((3, 4), scale=2.0**40), Draw((3, 4), scale=2.0**-20)), {}),
        },
        reductions=PLAIN,
        empty=PLAIN,
    ),
    Alike(
        "PairwiseDistance",
        _pair,
        _without_last,
        {
            "p 1": {"p": 1.0},
            "p 3": {"p": 3.0},
            "p 1.5": {"p": 1.5},
            "p 0.5": {"p": 0.5},
            "p inf": {"p": math.inf},
            "eps 0.5": {"eps": 0.5},
        },
        ((5,), (1, 4), (2, 3, 4)),
        {
            "one for all": ((Draw((3, 4)), Draw((4,))), {}),
            **{
                f"ties and zeros, p {p:g}": ((TIES, TO_TIES), {"p": p, "eps": 0.0})
                for p in (1.0, 1.5, 2.0, 3.0, math.inf)
            },
            "one element for all": ((Draw((3, 4)), Draw((3, 1))), {}),
            "large, p 3": ((Draw((3, 4), scale=2.0**30), Draw((3, 4), scale=2.0**30)), {"p": 3.0}),
            "near": ((Draw((3, 4), offset=64.0), Draw((3, 4), offset=64.0)), {}),
        },
        reductions=PLAIN,
        empty=PLAIN,
    ),
)

KEPT = Alike("PairwiseDistance", _pair, lambda shape: (*shape[:-1], 1), reductions=PLAIN)
CASES = (
    *(case for row in DISTANCES for case in row.cases()),
    KEPT.at("keepdim", (3, 4), "", keepdim=True),
    KEPT.at("keepdim, p 1", (2, 3, 2), "", keepdim=True, p=1.0),
)
