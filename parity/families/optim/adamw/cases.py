"""AdamW."""

from __future__ import annotations

from parity.families.streams import Stream, case, groups, of, settings

CASES = (
    *settings(
        "AdamW",
        {},
        {"lr": 0.1, "weight_decay": 0.3},
        {"lr": 0.1, "weight_decay": 0.3, "amsgrad": True, "maximize": True},
        {"lr": 0.1, "betas": (0.6, 0.25), "eps": 0.5, "weight_decay": 0.0},
        {"lr": 0.1, "weight_decay": 1.0},
        {"lr": 0.1, "weight_decay": 2.0},
    ),
    case("AdamW", "betas 0", at_zero=True, lr=0.1, betas=(0.0, 0.0)),
    case("AdamW", "a gradient that is absent, weight decay", Stream(absent={"gain": (1, 2)}), lr=0.1, weight_decay=0.5),
    *of("AdamW", lr=0.1, amsgrad=True),
    groups("AdamW", {"betas": (0.5, 0.9), "weight_decay": 0.5}, {"eps": 0.01, "maximize": True}, lr=0.1),
)
