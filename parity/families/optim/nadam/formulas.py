"""Another formula of NAdam."""

from __future__ import annotations

from typing import Any

from parity.families.fault import replaced
from parity.families.formula import Variant
from refnet.arithmetic import special


def without_schedule(opt: Any, right: Any, t: Any, P: Any, group: Any) -> Any:
    """mu_t = beta1"""
    return special.lift(group["betas"][0], P)


CONVENTIONS = (
    Variant(
        "no schedule of the momentum",
        "mu_t = beta1 at every step, so that the product of the mu is beta1^t.",
        "optax.nadam: optax.scale_by_adam with nesterov=True",
        {"NAdam": replaced("scheduled", without_schedule)},
        ("jax",),
    ),
)
