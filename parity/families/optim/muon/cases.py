"""Muon, on matrices wider and taller than square."""

from __future__ import annotations

from parity.families.streams import MATRICES, RANDOM, Stream, case, groups, of, settings

CASES = (
    *settings(
        "Muon",
        {"ns_steps": 1},
        {"lr": 0.1, "weight_decay": 0.3, "momentum": 0.6, "ns_steps": 1, "adjust_lr_fn": "match_rms_adamw"},
        {"lr": 0.1, "nesterov": False, "ns_steps": 1, "eps": 8.0, "adjust_lr_fn": "original"},
        {"lr": 0.1, "ns_coefficients": (1.5, -0.5, 0.0), "ns_steps": 2},
        {"lr": 0.1, "momentum": 0.0, "ns_steps": 0},
        shapes=MATRICES,
        steps=3,
    ),
    # All five iterations: in float64 a budget sees seven digits of the update; in float32 none.
    case("Muon", "defaults", RANDOM, {"weight": (2, 3), "gain": (3, 2)}, steps=1, at_zero=True),
    case(
        "Muon",
        "a gradient that is absent, weight decay",
        Stream(absent={"gain": (0,)}),
        MATRICES,
        steps=3,
        lr=0.1,
        ns_steps=1,
    ),
    *of("Muon", MATRICES, steps=4, lr=0.1, ns_steps=1, ns_coefficients=(1.5, -0.5, 0.0)),
    groups("Muon", {"momentum": 0.5, "nesterov": False}, {"weight_decay": 0.5}, MATRICES, steps=3, lr=0.1, ns_steps=1),
)
