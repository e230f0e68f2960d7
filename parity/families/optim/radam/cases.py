"""RAdam. With beta2 = 0.999 the sixth step is the first one that is divided; with 0.9 too, with 0.75 the eighth."""

from __future__ import annotations

from parity.families.streams import case, groups, of, settings

STEPS = 8

CASES = (
    *settings(
        "RAdam",
        {},
        {"lr": 0.1, "betas": (0.6, 0.9), "eps": 0.5, "weight_decay": 0.3},
        {"lr": 0.1, "weight_decay": 0.3, "decoupled_weight_decay": True, "maximize": True},
        steps=STEPS,
    ),
    case("RAdam", "beta2 0.75", steps=12, lr=0.1, betas=(0.9, 0.75)),
    case("RAdam", "beta2 0.5, never divided", at_zero=True, lr=0.1, betas=(0.6, 0.5)),
    *of("RAdam", steps=STEPS, lr=0.1, betas=(0.9, 0.99)),
    groups("RAdam", {"betas": (0.6, 0.9)}, {"eps": 0.01, "weight_decay": 0.2}, steps=STEPS, lr=0.1),
)
