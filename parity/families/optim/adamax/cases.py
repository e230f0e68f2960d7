"""Adamax."""

from __future__ import annotations

from parity.families.streams import case, groups, of, settings

CASES = (
    *settings(
        "Adamax",
        {},
        {"lr": 0.1, "betas": (0.6, 0.3), "eps": 0.25, "weight_decay": 0.3},
        {"lr": 0.1, "betas": (0.9, 0.5), "maximize": True},
    ),
    case("Adamax", "betas 0", at_zero=True, lr=0.1, betas=(0.0, 0.0)),
    *of("Adamax", lr=0.1, betas=(0.9, 0.5)),
    groups("Adamax", {"betas": (0.5, 0.9), "eps": 0.01}, {"weight_decay": 0.2, "maximize": True}, lr=0.1),
)
