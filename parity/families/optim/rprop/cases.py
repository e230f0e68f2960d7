"""Rprop."""

from __future__ import annotations

from parity.families.streams import Stream, case, groups, of, settings

TURNS = (1, -2, 3, 4, 5, -1, -0.5, 2, 1, 0.25, -3, 2, 0)
# Products of the first two are 0 in float32, those of the others in float64; every second one turns.
TINY = (2.0**-80, 2.0**-80, 2.0**-540, 2.0**-540, 2.0**-80, -(2.0**-80), 2.0**-540, -(2.0**-540))

CASES = (
    *settings(
        "Rprop",
        {},
        {"lr": 0.1, "etas": (0.3, 1.7)},
        {"lr": 0.1, "maximize": True},
        steps=8,
    ),
    case("Rprop", "the largest step", Stream(TURNS), steps=8, lr=0.1, step_sizes=(0.07, 0.15)),
    case("Rprop", "turns", Stream(TURNS), steps=12, at_zero=True, lr=0.1),
    case("Rprop", "dyadic", Stream(TURNS), steps=8, lr=0.5, etas=(0.5, 2.0), step_sizes=(0.125, 4.0)),
    case("Rprop", "gradients whose product underflows", Stream(TINY), steps=4, at_zero=True, lr=0.1),
    *of("Rprop", lr=0.1),
    groups("Rprop", {"etas": (0.3, 1.7), "lr": 0.7}, {"step_sizes": (0.01, 0.11), "maximize": True}, lr=0.1),
)
