"""Adafactor."""

from __future__ import annotations

from parity.families.streams import SHAPES, Stream, case, groups, of, settings

AXES = {"weight": (2, 2, 3), "gain": (1,)}

CASES = (
    *settings(
        "Adafactor",
        {},
        {"lr": 0.1, "beta2_decay": -0.5, "d": 1.5, "weight_decay": 0.3, "maximize": True},
        {"lr": 0.1, "eps": (0.25, 0.75)},
        {"lr": 0.1, "eps": (0.0, 0.0)},
        {"lr": 0.3, "beta2_decay": 0.0},
    ),
    case("Adafactor", "a large rate", lr=0.7, weight_decay=0.1),
    case(
        "Adafactor",
        "a gradient that is absent, weight decay",
        Stream(absent={"gain": (0, 2)}),
        steps=3,
        lr=0.1,
        weight_decay=0.3,
    ),
    case("Adafactor", "more axes", shapes=AXES, steps=3, lr=0.1, d=1.25),
    *of("Adafactor", SHAPES, at_zero=False, lr=0.1, eps=(2.0**-10, 0.5), d=1.5),
    groups("Adafactor", {"d": 2.0, "beta2_decay": -0.3}, {"eps": (0.5, 0.01), "weight_decay": 0.2}, lr=0.1),
)
