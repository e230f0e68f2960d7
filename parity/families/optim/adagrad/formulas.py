"""Other formulas of Adagrad. Letters as there: g gradient, s sum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from parity.families.fault import replaced
from parity.families.formula import Variant
from refnet.arithmetic import special

Seam = Callable[..., Any]


def updating(
    divisor: Seam = lambda S, eps: np.sqrt(S) + eps,
    total: Seam = lambda S, G, T: S + G * G,
    before: Seam = lambda T: T - 1,
) -> Any:
    """Adagrad's update with some of its parts otherwise."""

    def update(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
        gamma, eps, eta = (special.lift(group[option], P) for option in ("lr", "eps", "lr_decay"))
        state, t = opt.counted(name, P, opt.defaults)
        T, S = special.lift(t, P), state["sum"]
        G = opt.gradient(P, G, group)
        S[...] = total(S, G, T)
        P[...] = P - gamma / (1 + before(T) * eta) * (G / divisor(S, eps))

    return update


CONVENTIONS = (
    Variant(
        "sqrt(s + eps)",
        "sqrt(s + eps) in place of sqrt(s) + eps.",
        "optax.adagrad: optax.scale_by_rss, rsqrt(sum_of_squares + eps)",
        {"Adagrad": replaced("update", updating(divisor=lambda S, eps: np.sqrt(S + eps)))},
        ("jax",),
    ),
)
