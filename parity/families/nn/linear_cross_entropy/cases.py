"""LinearCrossEntropyLoss: what CrossEntropyLoss has, by way of a weight."""

from __future__ import annotations

import math
from typing import Any

from parity.families.case import FAMILIES, FULL, Draw, Spec, VJPCase, given, indices

UNITS, C = 3, 4
CHUNKS = {"batch_chunk_size": 2}
WEIGHT = Draw((C,), "positive")
# A sample whose target is far ahead, and one whose target is hopelessly behind.
CONFIDENT = given((4, UNITS), 30.0, 0.0, -2.0, 0.0, 20.0, 1.0, 1.0, 1.0, 1.0, 0.0, 100.0, 50.0)
EYE = given((C, UNITS), 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.5, 0.5, 0.5)


def _case(
    what: str,
    batch: tuple[int, ...] = (3,),
    T: Draw | None = None,
    dY: Draw | None = None,
    weight: bool = False,
    families: tuple[str, ...] = FAMILIES,
    X: Draw | None = None,
    W: Draw | None = None,
    i: int = UNITS,
    probabilities: bool = False,
    **args: Any,
) -> VJPCase:
    out = args.get("out_features", ())
    o = C * math.prod(out)
    arrays = {"weight": WEIGHT} if weight else {}
    arrays["linear.weight"] = W or Draw((o, i))
    if args.get("bias"):
        arrays["linear.bias"] = Draw((o,))
    shape = (*batch, C, *out) if probabilities else (*batch, *out)
    T = T or (Draw(shape, "unit") if probabilities else Draw(shape, "index", below=C))
    dY = dY or Draw((*batch, *out) if args.get("reduction") == "none" else ())
    spec = Spec("LinearCrossEntropyLoss", {"in_features": i, "num_classes": C, **args})
    return VJPCase(
        f"LinearCrossEntropyLoss/{what}", spec, (X or Draw((*batch, i)), T), (dY,), arrays, families=families
    )


def _classes(what: str, classes: int) -> VJPCase:
    spec = Spec("LinearCrossEntropyLoss", {"in_features": UNITS, "num_classes": classes})
    inputs = Draw((3, UNITS)), Draw((3,), "index", below=classes)
    arrays = {"linear.weight": Draw((classes, UNITS))}
    return VJPCase(f"LinearCrossEntropyLoss/{what}", spec, inputs, (Draw(()),), arrays)


CASES = (
    *(_case(f"plain, {r}", reduction=r, bias=True) for r in ("none", "mean", "sum")),
    _case("weight, none", weight=True, bias=True, reduction="none"),
    _case("weight, mean", weight=True, bias=True),
    _case("weight, smoothing, sum", weight=True, label_smoothing=0.25, reduction="sum"),
    _case("some ignored", (7,), indices((7,), -100, 2, 0, -100, 3, 1, -100), weight=True),
    _case("ignore_index a class", (7,), ignore_index=2, reduction="none"),
    _case("all ignored", T=indices((3,), -100)),
    _case("one more axis", out_features=(2,), bias=True, weight=True),
    _case("two more axes, none", (2,), out_features=(2, 2), reduction="none", label_smoothing=0.5),
    _case("probabilities, none", probabilities=True, reduction="none", bias=True),
    _case("probabilities, weight, mean", probabilities=True, weight=True),
    _case("probabilities, one more axis, mean", (2,), probabilities=True, out_features=(2,), i=5),
    _case("probabilities, one more axis, sum", probabilities=True, out_features=(2,), reduction="sum"),
    *(_case(f"batch 0, {r}", (0,), reduction=r) for r in ("none", "sum")),
    _case("batch 1", (1,), bias=True),
    *(_case(f"no batch axis, {r}", (), reduction=r, bias=True) for r in ("none", "mean")),
    _case("confident, mean", (4,), indices((4,), 0, 1, 2, 0), X=CONFIDENT, W=EYE, families=FULL),
    _case("gradient of stride zero", (7,), dY=Draw((7,), layout="expanded"), reduction="none"),
    _case("gradient sliced", dY=Draw((3,), layout="sliced"), reduction="none"),
    _case("five input units", i=5),
    *(_case(f"in chunks, {r}", (7,), reduction=r, bias=True, weight=True, options=CHUNKS) for r in ("none", "mean")),
    _case(
        "probabilities, in chunks, one more axis, none",
        (5,),
        probabilities=True,
        out_features=(2,),
        reduction="none",
        options=CHUNKS,
    ),
    _classes("one class", 1),
)
