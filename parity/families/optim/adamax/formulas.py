"""Other formulas of Adamax. Letters as there: g gradient, m mean, u largest magnitude."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from parity.families.fault import replaced
from parity.families.formula import Variant
from refnet.arithmetic import special

Seam = Callable[..., Any]


def largest(U: Any, beta2: Any, G: Any, eps: Any) -> Any:
    """max(beta2 u[.], |g[.]| + eps)"""
    return special.maximum(beta2 * U, np.absolute(G) + eps)


def updating(
    largest: Seam = largest, divisor: Seam = lambda U, eps, C2: U, moved: Seam = lambda M, C1: None, first: Any = None
) -> Any:
    """Adamax's update with some of its parts otherwise."""

    def update(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
        gamma, eps, (beta1, beta2) = special.lift(group["lr"], P), special.lift(group["eps"], P), group["betas"]
        state, t = opt.counted(name, P, group)
        M, U = state["exp_avg"], state["exp_inf"]
        G = opt.gradient(P, G, group)
        M[...] = opt.moving_average(M, beta1, G)
        U[...] = largest(U, special.lift(beta2, P), G, eps)
        C1, C2 = opt.correction(beta1, t, P), opt.correction(beta2, t, P)
        P[...] = P - gamma / (C1 if first is None else first) * (M / divisor(U, eps, C2))
        moved(M, C1)

    return update


CONVENTIONS = (
    Variant(
        "eps added when dividing",
        "m / (u + eps) with u = max(beta2 u, |g|), in place of eps beside |g| in the state.",
        "keras.optimizers.Adamax: m / (u + epsilon)",
        {
            "Adamax": replaced(
                "update",
                updating(
                    largest=lambda U, beta2, G, eps: special.maximum(beta2 * U, np.absolute(G)),
                    divisor=lambda U, eps, C2: U + eps,
                ),
            )
        },
        ("tensorflow",),
    ),
)
