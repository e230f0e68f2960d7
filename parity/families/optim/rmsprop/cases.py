"""RMSprop."""

from __future__ import annotations

from parity.families.streams import Stream, case, groups, of, settings

CASES = (
    *settings(
        "RMSprop",
        {},
        {"lr": 0.1, "alpha": 0.5, "eps": 0.25, "weight_decay": 0.3, "momentum": 0.9},
        {"lr": 0.1, "alpha": 0.9, "centered": True, "maximize": True},
        {"lr": 0.1, "centered": True, "momentum": 0.5, "weight_decay": 0.3, "eps": 1.0},
        {"lr": 0.1, "alpha": 0.25, "eps": 0.0},
    ),
    case("RMSprop", "momentum, absent gradients", Stream(absent={"gain": (2, 3)}), lr=0.1, momentum=0.6),
    *of("RMSprop", lr=0.1, momentum=0.5),
    groups("RMSprop", {"alpha": 0.6, "centered": True}, {"eps": 0.01, "momentum": 0.5, "maximize": True}, lr=0.1),
)
