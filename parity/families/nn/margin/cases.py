"""Losses with a margin, and the binary ones of targets 1 and -1 or of several labels."""

from __future__ import annotations

from parity.families.case import Draw, given, indices
from parity.families.nn.loss.cases import Alike, Shape

C = 4
WEIGHT = {"arrays": {"weight": Draw((C,), "positive")}}


def _signed(shape: Shape) -> tuple[Draw, ...]:
    return Draw(shape), Draw(shape, "sign")


def _ranked(shape: Shape) -> tuple[Draw, ...]:
    return Draw(shape), Draw(shape), Draw(shape, "sign")


def _angles(shape: Shape) -> tuple[Draw, ...]:
    return Draw(shape), Draw(shape), Draw(shape[:-1], "sign")


def _three(shape: Shape) -> tuple[Draw, ...]:
    return Draw(shape), Draw(shape), Draw(shape)


def _labels(shape: Shape) -> tuple[Draw, ...]:
    return Draw(shape), Draw(shape, "unit")


def _class(shape: Shape) -> tuple[Draw, ...]:
    return Draw(shape), Draw(shape[:-1], "index", below=shape[-1])


def _lists(shape: Shape) -> tuple[Draw, ...]:
    return Draw(shape), Draw(shape, "index", below=shape[-1])


def _rows(shape: Shape) -> Shape:
    return shape[:-1]


# Both signs of what exp of a float32 can take, and tiny ones.
FAR = tuple(s * x for x in (0.0, 1e-30, 1e-4, 1.0, 17.0, 40.0, 88.0) for s in (1, -1))
N = len(FAR)
# The hinge of a margin of 1/2 is closed, open, and exactly 0.
HINGED = given((6,), 0.5, 0.25, 0.75, -2.0, 0.5, 3.0)
FLAT = given((2, C), 1.0, 0.0, 0.5, 2.0, 0.25, 1.25, -1.0, 0.25)
# Cosines of vectors: the same way, nearly, across, against, of no length, and 3/5.
UNITS = given((6, 2), 3.0, 4.0, 1024.0, 0.0, 3.0, 4.0, 3.0, 4.0, 0.0, 0.0, 1.0, 0.0)
TURNED = given((6, 2), 6.0, 8.0, 1024.0, 2.0**-8, 4.0, -3.0, -3.0, -4.0, 1.0, 2.0, 3.0, 4.0)
# From the anchor to the positive 5, 0 and 6, to the negative 10, 0 and 5, from that to the positive 5 in the last row.
ANCHORS = given((3, 2), 0.0, 0.0, 1.0, 2.0, 0.0, 0.0)
POSITIVES = given((3, 2), 3.0, 4.0, 1.0, 2.0, 6.0, 0.0)
NEGATIVES = given((3, 2), 8.0, 6.0, 1.0, 2.0, 3.0, 4.0)

ENDED = indices((4, C), 2, 0, -1, 1, -1, 3, 2, 1, 1, -1, -1, 0, 3, 1, 0, -1)

LOSSES = (
    Alike(
        "SoftMarginLoss",
        _signed,
        edges={
            "extreme, target 1": ((given((N,), *FAR), indices((N,), 1)), {}),
            "other targets": ((Draw((4,)), indices((4,), 2, -3, 0, 1)), {}),
            "extreme, target -1": ((given((N,), *FAR), indices((N,), -1)), {}),
            # torch's exp overflows: docs/findings.md
            "overflow": ((given((6,), -90.0, 90.0, -720.0, 720.0, -1000.0, 1000.0), indices((6,), 1)), {}),
        },
    ),
    Alike(
        "MultiLabelSoftMarginLoss",
        _labels,
        _rows,
        {"weight": WEIGHT, "weight again": WEIGHT, "weight and sum": WEIGHT},
        ((1, C), (2, 3, C), (C,)),
        {
            "extreme": ((given((3, 4), *FAR), given((3, 4), 0.0, 1.0, 1.0, 0.25, 0.0)), {}),
            "targets 0 and 1": ((Draw((3, C)), given((3, C), 0.0, 1.0, 1.0)), {}),
        },
    ),
    Alike(
        "HingeEmbeddingLoss",
        _signed,
        options={"margin 0.5": {"margin": 0.5}, "margin -1": {"margin": -1.0}},
        edges={
            "hinge of 0": ((HINGED, indices((6,), -1, 1, -1, -1, 1)), {"margin": 0.5}),
            "other targets": ((HINGED, indices((6,), 0, 1, -1, 2)), {"margin": 0.5}),
        },
    ),
    Alike(
        "MarginRankingLoss",
        _ranked,
        options={"margin 0.5": {"margin": 0.5}, "margin -0.25": {"margin": -0.25}},
        edges={
            "hinge of 0": ((HINGED, given((6,), 0.0), indices((6,), 1, -1)), {"margin": 0.5}),
            "ties": ((TWO := given((4,), 1.0, 0.0), TWO, indices((4,), 1, 1, -1, -1)), {}),
            "targets of floats, all open": ((Draw((3, 4)), Draw((3, 4)), Draw((3, 4))), {"margin": 100.0}),
            "targets of floats": ((Draw((3, 4)), Draw((3, 4)), Draw((3, 4))), {"margin": 0.5}),
        },
    ),
    Alike(
        "CosineEmbeddingLoss",
        _angles,
        _rows,
        {"margin 0.5": {"margin": 0.5}, "margin -0.5": {"margin": -0.5}},
        ((1, C), (C,)),
        {
            "alike, target 1": ((UNITS, TURNED, indices((6,), 1)), {}),
            "alike, target -1": ((UNITS, TURNED, indices((6,), -1)), {"margin": 0.25}),
            "other targets": ((UNITS, TURNED, indices((6,), 0, 1, 2)), {}),
        },
    ),
    Alike(
        "TripletMarginLoss",
        _three,
        _rows,
        {
            "swap": {"swap": True},
            "p 1": {"p": 1.0, "margin": 2.0},
            "p 3, swap": {"p": 3.0, "swap": True, "margin": 4.0},
            "eps 0.5": {"eps": 0.5, "margin": 4.0},
        },
        ((1, C), (C,), (2, 3, C)),
        {
            "hinge of 0": ((ANCHORS, POSITIVES, NEGATIVES), {"margin": 5.0, "eps": 0.0}),
            "sizes add up, hinge of 0": ((ANCHORS, POSITIVES, NEGATIVES), {"p": 1.0, "margin": 7.0, "eps": 0.0}),
            "sizes add up, swap between equals": (
                (ANCHORS, POSITIVES, NEGATIVES),
                {"p": 1.0, "margin": 16.0, "eps": 0.0, "swap": True},
            ),
            "swap between equals": ((ANCHORS, POSITIVES, NEGATIVES), {"margin": 8.0, "eps": 0.0, "swap": True}),
        },
    ),
    Alike(
        "MultiMarginLoss",
        _class,
        _rows,
        options={
            "p 2": {"p": 2},
            "weight": WEIGHT,
            "weight, p 2": {"p": 2, **WEIGHT},
            "margin 0.5": {"margin": 0.5},
            "margin 2, p 2, weight": {"p": 2, "margin": 2.0, **WEIGHT},
        },
        shapes=((1, C), (C,), (5, 1)),
        edges={
            "hinge of 0": ((FLAT, indices((2,), 0, 1)), {}),
            "hinge of 0, p 2": ((FLAT, indices((2,), 0, 1)), {"p": 2, "margin": 0.5}),
        },
    ),
    Alike(
        "MultiLabelMarginLoss",
        _lists,
        _rows,
        shapes=((1, C), (C,), (5, 1)),
        edges={
            "lists that end": ((Draw((4, C)), ENDED), {}),
            "a class twice": ((Draw((2, C)), indices((2, C), 1, 1, -1, 0, 2, 0, 2, -1)), {}),
            "hinge of 0": ((FLAT, indices((2, C), 0, -1, 1, 2, 1, 2, -1, 0)), {}),
        },
    ),
)

CASES = tuple(case for row in LOSSES for case in row.cases())
