"""CrossEntropyLoss, with class indices and with class probabilities."""

from __future__ import annotations

from typing import Any

from parity.families.case import FULL, Draw, VJPCase, given, indices
from parity.families.nn.activation.cases import FAR_APART
from parity.families.nn.loss.cases import SCALAR, loss_case

REDUCTIONS = ("none", "mean", "sum")
C = 4
W = {"weight": Draw((C,), "positive")}
SHAPE = (3, C)

OPTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("plain", {}),
    ("weight", {"arrays": W}),
    ("smoothing", {"label_smoothing": 0.1}),
    ("weight and smoothing", {"arrays": W, "label_smoothing": 0.1}),
)


def _indices(
    what: str, shape: tuple[int, ...], T: Draw | None = None, X: Draw | None = None, dY: Draw | None = None, **more: Any
) -> VJPCase:
    """Logits X of this shape and class indices T."""
    samples, classes = (shape[:1] + shape[2:], shape[1]) if len(shape) > 1 else ((), shape[0])
    dY = dY or (Draw(samples) if more.get("reduction") == "none" else SCALAR)
    return loss_case("CrossEntropyLoss", what, X or Draw(shape), T or Draw(samples, "index", below=classes), dY, **more)


def _probabilities(what: str, shape: tuple[int, ...], T: Draw | None = None, **more: Any) -> VJPCase:
    """Logits of this shape and class probabilities T (which need not sum to 1)."""
    return _indices(f"probabilities, {what}", shape, T or Draw(shape, "unit"), **more)


BOTH = (_indices, _probabilities)

SHAPES = (
    *(of(f"batch {n}", (n, C)) for of in BOTH for n in (1, 7)),
    *(of(f"batch 0, {r}", (0, C), reduction=r) for of in BOTH for r in ("none", "sum")),
    *(of(f"no batch axis, {r}", (C,), reduction=r) for of in BOTH for r in REDUCTIONS),
    *(of(f"one more axis, {r}", (2, C, 3), reduction=r) for of in BOTH for r in REDUCTIONS),
    *(of("two more axes, weight", (2, C, 2, 3), arrays=W) for of in BOTH),
    _indices("two more axes, weight and smoothing", (2, C, 2, 3), arrays=W, label_smoothing=0.25),
    *(of("one class", (3, 1)) for of in BOTH),
    _indices("thirty classes", (3, 30)),
    _indices("gradient one-hot", (7, C), dY=Draw((7,), "onehot"), reduction="none"),
    _indices("gradient of stride zero", (7, C), dY=Draw((7,), "positive", layout="expanded"), reduction="none"),
    _indices("gradient sliced", (7, C), dY=Draw((7,), layout="sliced"), reduction="none"),
    _indices("gradient transposed", (2, C, 2, 3), dY=Draw((2, 2, 3), layout="transposed"), reduction="none"),
    _indices("input transposed", SHAPE, X=Draw(SHAPE, layout="transposed")),
    _probabilities("target sliced", SHAPE, Draw(SHAPE, "unit", layout="sliced"), X=Draw(SHAPE, layout="sliced")),
)

SOME = indices((7,), -100, 2, 0, -100, 3, 1, -100)
ALL = indices((3,), -100)
CLASS_2 = indices((7,), 3, 2, 0, 2, 1, 0, 3)

IGNORED = (
    *(
        _indices(f"some ignored, {what}, {r}", (7, C), SOME, reduction=r, **more)
        for what, more in OPTIONS
        for r in REDUCTIONS
    ),
    *(_indices(f"all ignored, {r}", SHAPE, ALL, reduction=r) for r in REDUCTIONS),
    _indices("some ignored, one more axis", (2, C, 3), indices((2, 3), -100, 2, 0, -100, 3), arrays=W),
    _indices("ignore_index a class", (7, C), CLASS_2, ignore_index=2),
    _indices("ignore_index a class, weight", (7, C), CLASS_2, arrays=W, ignore_index=0),
    _indices("ignore_index past the classes", (7, C), indices((7,), 255, 1, 0), ignore_index=255),
)

# Rows of logits: the target's class far ahead, ahead, level, and hopelessly behind.
CONFIDENT = given(
    (4, C), *(30.0, 0.0, -2.0, 1.0), *(0.0, 20.0, 1.0, 0.0), *(1.0, 1.0, 1.0, 1.0), *(0.0, 100.0, 50.0, -40.0)
)
DIAGONAL = indices((4,), 0, 1, 2, 3)
LOGITS: tuple[tuple[str, Draw, dict[str, Any]], ...] = (
    ("confident", CONFIDENT, {}),
    ("a thousand apart", given((4, C), *FAR_APART), {"families": FULL}),
    ("all near 1000", Draw((4, C), offset=1000.0), {"families": FULL}),
)

VALUES = (
    *(
        case
        for what, X, more in LOGITS
        for r in ("mean", "none")
        for case in (
            _indices(f"logits {what}, {r}", (4, C), DIAGONAL, X, reduction=r, **more),
            _probabilities(f"logits {what}, {r}", (4, C), X=X, reduction=r, **more),
        )
    ),
    *(of(f"smoothing {e:g}", SHAPE, label_smoothing=e) for of in BOTH for e in (0.25, 1.0)),
    _indices("weight of one class zero", (4, C), DIAGONAL, arrays={"weight": given((C,), 1.0, 0.0, 0.5, 2.0)}),
    _probabilities("one-hot", SHAPE, given(SHAPE, 0.0, 1.0, 0.0, 0.0, 0.0)),
    _probabilities("some zero, weight", SHAPE, given(SHAPE, 0.0, 0.5, 0.25, 0.0, 1.0), arrays=W),
)

CASES = (
    *(of(f"{what}, {r}", SHAPE, reduction=r, **more) for of in BOTH for what, more in OPTIONS for r in REDUCTIONS),
    *SHAPES,
    *IGNORED,
    *VALUES,
)
