"""Adadelta."""

from __future__ import annotations

from parity.families.streams import case, groups, of, settings

CASES = (
    *settings(
        "Adadelta",
        {},
        {"lr": 0.3, "rho": 0.6, "eps": 0.25, "weight_decay": 0.3},
        {"lr": 0.3, "rho": 0.3, "maximize": True},
    ),
    case("Adadelta", "rho 1", at_zero=True, rho=1.0, eps=0.5),
    case("Adadelta", "rho 0", at_zero=True, rho=0.0, eps=0.5),
    *of("Adadelta", lr=0.3),
    groups("Adadelta", {"rho": 0.6, "eps": 0.01}, {"lr": 0.7, "weight_decay": 0.2, "maximize": True}, lr=0.3),
)
