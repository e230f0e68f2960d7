"""LeakyReLU, PReLU, ReLU6, Hardtanh, Hardsigmoid, Hardswish, Hardshrink, Softshrink, Threshold."""

from __future__ import annotations

from typing import Any

from parity.families.case import FAMILIES, FULL, GRID, Draw, Spec, VJPCase, given
from parity.families.nn.activation.cases import elementwise

# At 0, and on both sides of it.
ZERO = (0.0, -0.0, 1 / 64, -1 / 64, 1.0, -1.0, 0.0, -0.0)
# At the bounds of a clamp, and on both sides of each.
UNIT = (1.0, -1.0, 1.015625, -1.015625, 0.984375, -0.984375, 0.5, -0.25, 0.515625, -0.265625, 0.0, -0.0)
SIX = (0.0, -0.0, 6.0, 6.03125, 5.96875, 1 / 64, -1 / 64, 3.0)
THREE = (3.0, -3.0, 3.015625, -3.015625, 2.984375, -2.984375, -1.5, 0.0)
HALF = (0.5, -0.5, 0.515625, -0.515625, 0.484375, -0.484375, 2.0, -2.0, 0.25, -0.25, 0.0, -0.0)
# Where x - 6 rounds to x, in float32 and in float64.
HUGE = (2.0**26, 2.0**28, 2.0**55, 2.0**58, -(2.0**28), -(2.0**58))

IMAGES = Draw((2, 3, 2, 2))


def _prelu(what: str, X: Draw, dY: Draw | None = None, families: tuple[str, ...] = FULL, **args: Any) -> VJPCase:
    weight = Draw((args.get("num_parameters", 1),))
    return VJPCase(
        f"PReLU/{what}", Spec("PReLU", args), (X,), (dY or Draw(X.shape),), {"weight": weight}, families=families
    )


def _on(name: str, **args: float) -> VJPCase:
    draw = Draw((3, 5), "positive", offset=0.5)
    return VJPCase(f"{name}/everything on", Spec(name, args), (draw,), (Draw((3, 5)),), families=FULL)


CASES = (
    *elementwise("LeakyReLU", {}, {"negative_slope": 0.25}, {"negative_slope": -2.0}, kinks=ZERO),
    _prelu("batch 0", Draw((0, 5)), families=GRID),
    _prelu("batch 1", Draw((1, 5)), families=GRID),
    _prelu("batch 3", Draw((3, 5)), families=FAMILIES),
    _prelu("batch 3, channels", Draw((3, 5)), families=FAMILIES, num_parameters=5),
    _prelu(
        "batch 7, places, channels", Draw((7, 2, 3)), Draw((7, 2, 3), layout="transposed"), num_parameters=2, init=0.5
    ),
    _prelu(
        "images, gradient of stride zero", Draw((2, 3, 2, 2)), Draw((2, 3, 2, 2), layout="expanded"), num_parameters=3
    ),
    _prelu("one weight for images", IMAGES),
    _prelu("one axis", Draw((5,)), families=GRID),
    _prelu("no axes", Draw(()), families=GRID),
    _prelu("no axes, negative", given((), -0.75), families=GRID),
    _prelu("kinks", given((8,), *ZERO), families=GRID),
    _prelu("everything on", Draw((3, 5), "positive"), families=GRID),
    *elementwise("ReLU6", kinks=SIX),
    VJPCase("ReLU6/huge", Spec("ReLU6"), (given((6,), *HUGE),), (Draw((6,)),), families=FULL),
    *elementwise("Hardtanh", {}, {"min_val": -0.25, "max_val": 0.5}, {"min_val": 0, "max_val": 6}, kinks=UNIT),
    *elementwise("Hardsigmoid", kinks=THREE),
    *elementwise("Hardswish", kinks=THREE),
    *elementwise("Hardshrink", {}, {"lambd": 2.0}, {"lambd": 0.0}, {"lambd": -0.25}, kinks=HALF),
    *elementwise("Softshrink", {}, {"lambd": 2.0}, {"lambd": 0.0}, kinks=HALF),
    *elementwise("Threshold", {"threshold": 0.5, "value": -2.0}, {"threshold": -0.25, "value": 0.25}, kinks=HALF),
    _on("ReLU6"),
    _on("Hardswish"),
    _on("Threshold", threshold=0.5, value=-2.0),
)
