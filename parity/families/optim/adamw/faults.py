"""Mistakes in AdamW, beside those of Adam's lines, which are AdamW's too."""

from __future__ import annotations

from typing import Any

from parity.families.optimizer_faults import common, mistake
from refnet.arithmetic import special


def _decay_scaled_by_the_corrected_rate(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
    t = opt.kept(name, P, group)["step"]
    # theta[.] = theta[.] - alpha / (1 - beta1^t) lambda theta[.]
    C1 = special.one_minus_power(group["betas"][0], t + 1, P)
    P[...] = P - special.lift(group["lr"], P) / C1 * special.lift(group["weight_decay"], P) * P
    right(name, P, G, group | {"weight_decay": 0})


def _largest_forgotten(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
    right(name, P, G, group)
    if group["amsgrad"]:
        state = opt.state[name]
        # u[.] = v[.], which is forgotten
        state["max_exp_avg_sq"][...] = state["exp_avg_sq"]


FAULTS = (
    *common("AdamW", decoupled=True),
    mistake(
        "AdamW",
        "decay scaled by the corrected rate",
        "alpha / (1 - beta1^t) lambda theta against alpha lambda theta",
        "weight decay, in the first steps",
        "kind of bug: bias correction",
        _decay_scaled_by_the_corrected_rate,
    ),
    mistake(
        "AdamW",
        "the largest second moment forgotten",
        "u = v against max(u, v) in the state",
        "amsgrad and gradients that become smaller",
        "kind of bug: an option ignored",
        _largest_forgotten,
    ),
)
