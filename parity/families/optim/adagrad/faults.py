"""Mistakes in Adagrad. Letters as there: g gradient, s sum, t step."""

from __future__ import annotations

from typing import Any

from parity.families.optim.adagrad.formulas import updating
from parity.families.optimizer_faults import common, mistake


def _initial_value_ignored(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
    state = opt.kept(name, P, opt.defaults)
    if int(state["step"]) == 0:
        state["sum"][...] = P * 0
    right(name, P, G, group)


FAULTS = (
    *common("Adagrad"),
    mistake(
        "Adagrad",
        "no root",
        "g / (s + eps) against g / (sqrt(s) + eps)",
        "any",
        "kind of bug: square against root",
        updating(divisor=lambda S, eps: S + eps),
    ),
    mistake(
        "Adagrad",
        "the sum as a mean",
        "s + (g^2 - s) / t against s + g^2",
        "two steps",
        "kind of bug: a mean against a sum",
        updating(total=lambda S, G, T: S + (G * G - S) / T),
    ),
    mistake(
        "Adagrad",
        "the rate decays from the first step",
        "gamma / (1 + t eta) against gamma / (1 + (t - 1) eta)",
        "lr_decay",
        "kind of bug: off by one",
        updating(before=lambda T: T),
    ),
    mistake(
        "Adagrad",
        "initial accumulator ignored",
        "s_0 = 0 against tau",
        "an initial accumulator",
        "kind of bug: an option ignored",
        _initial_value_ignored,
    ),
)
