"""Lion."""

from __future__ import annotations

from parity.families.streams import Stream, case, groups, of, settings

CASES = (
    *settings(
        "Lion",
        {},
        {"lr": 0.1, "betas": (0.6, 0.3), "weight_decay": 0.3},
        {"lr": 0.1, "weight_decay": 1.5},
    ),
    case("Lion", "betas 0", at_zero=True, lr=0.1, betas=(0.0, 0.0)),
    case("Lion", "a gradient that is absent, weight decay", Stream(absent={"gain": (1, 2)}), lr=0.1, weight_decay=0.5),
    *of("Lion", lr=0.1),
    groups("Lion", {"betas": (0.6, 0.9), "weight_decay": 0.5}, {"lr": 0.7}, lr=0.1),
)
