"""Adagrad."""

from __future__ import annotations

from parity.families.streams import case, groups, of, settings

CASES = (
    *settings(
        "Adagrad",
        {},
        {"lr": 0.1, "lr_decay": 0.3, "weight_decay": 0.3},
        {"lr": 0.1, "initial_accumulator_value": 0.7, "eps": 0.5, "maximize": True},
        {"lr": 0.1, "eps": 0.0},
    ),
    case("Adagrad", "from zero, the rate decays", at_zero=True, lr=0.5, lr_decay=1.0, initial_accumulator_value=0.125),
    *of("Adagrad", lr=0.1, lr_decay=0.25),
    groups("Adagrad", {"lr": 0.3, "lr_decay": 0.5}, {"eps": 0.01, "weight_decay": 0.2, "maximize": True}, lr=0.1),
)
