"""ASGD."""

from __future__ import annotations

from parity.families.streams import case, groups, of, settings

CASES = (
    *settings(
        "ASGD",
        {},
        {"lr": 0.1, "lambd": 0.3, "alpha": 0.6, "t0": 1.0, "weight_decay": 0.3},
        {"lr": 0.1, "t0": 0.0, "maximize": True},
        {"lr": 0.1, "lambd": 0.5, "alpha": 1.0},
        {"lr": 0.5, "lambd": 0.5, "alpha": 2.0, "t0": 2.0},
    ),
    case("ASGD", "no decay", at_zero=True, lr=0.3, lambd=0.0, t0=1.0),
    case("ASGD", "parameters of one element", shapes={"weight": (1, 1), "gain": (1,)}, lr=0.1, lambd=0.3, t0=1.0),
    *of("ASGD", lr=0.1, lambd=0.3, t0=1.0),
    groups("ASGD", {"lambd": 0.3, "t0": 0.0}, {"alpha": 0.3, "weight_decay": 0.2, "maximize": True}, lr=0.1),
)
