"""NAdam."""

from __future__ import annotations

from parity.families.streams import case, groups, of, settings

CASES = (
    *settings(
        "NAdam",
        {},
        {"lr": 0.1, "betas": (0.6, 0.25), "eps": 0.5, "weight_decay": 0.3, "momentum_decay": 0.5},
        {"lr": 0.1, "weight_decay": 0.3, "decoupled_weight_decay": True, "maximize": True},
        {"lr": 0.1, "momentum_decay": 0.0},
    ),
    case("NAdam", "betas 0.5 and 0", at_zero=True, lr=0.1, betas=(0.5, 0.0)),
    *of("NAdam", lr=0.1, momentum_decay=0.25),
    groups("NAdam", {"betas": (0.6, 0.9), "momentum_decay": 1.0}, {"eps": 0.01, "weight_decay": 0.2}, lr=0.1),
)
