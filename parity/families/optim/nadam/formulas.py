"""Another formula of NAdam."""

from __future__ import annotations

from typing import Any

from parity.families.fault import replaced
from parity.families.formula import Variant
from parity.families.optim.common.formulas import power_in_format
from refnet.arithmetic import special


def without_schedule(opt: Any, right: Any, t: Any, P: Any, group: Any) -> Any:
    """mu_t = beta1"""
    return special.lift(group["betas"][0], P)


def _of_optax(opt: Any) -> None:
    replaced("scheduled", without_schedule)(opt)
    replaced("correction", lambda opt, right, beta, t, P: power_in_format(beta, t, P))(opt)


CONVENTIONS = (
    Variant(
        "no schedule of the momentum",
        "mu_t = beta1 at every step, so that the product of the mu is beta1^t, and powers in the parameter's format.",
        "optax.nadam: optax.scale_by_adam with nesterov=True",
        {"NAdam": _of_optax},
        ("jax",),
    ),
)
