"""Other formulas of RAdam. Letters as there: m and v moments, r_t rectification, l_t divisor."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from parity.families.fault import replaced
from parity.families.formula import Variant
from parity.families.optim.common.formulas import power_in_format
from refnet.arithmetic import special
from refnet.arithmetic.runs import Runs

Seam = Callable[..., Any]


def updating(
    scale: Seam = lambda V, C2, eps: np.sqrt(C2) / (np.sqrt(V) + eps),
    first: Seam = lambda M, C1: M / C1,
    moved: Seam = lambda M, C1: None,
) -> Any:
    """RAdam's update with some of its parts otherwise."""

    def update(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
        gamma, eps, (beta1, beta2) = special.lift(group["lr"], P), special.lift(group["eps"], P), group["betas"]
        state, t = opt.counted(name, P, group)
        M, V = state["exp_avg"], state["exp_avg_sq"]
        G = opt.gradient(P, G, group, coupled=not group["decoupled_weight_decay"])
        if group["decoupled_weight_decay"]:
            opt.decay(P, group)
        M[...] = opt.moving_average(M, beta1, G)
        V[...] = opt.moving_average_of_squares(V, beta2, G)
        C1, C2 = opt.correction(beta1, t, P), opt.correction(beta2, t, P)
        r = opt.rectification(beta2, t, P)
        P[...] = P - gamma * first(M, C1) * np.where(r > 0, r * scale(V, C2, eps), special.lift(1.0, P))
        moved(M, C1)

    return update


def rectifying(least: float = 5, ahead: int = 0) -> Any:
    """r_t where rho_t is larger than `least`, at step t + `ahead`."""

    def rectification(opt: Any, right: Any, beta2: float, t: Any, P: Any) -> Any:
        t = t + ahead

        def rectified(t: Any, T: Any) -> Any:
            rho = 2 / special.lift(1 - Fraction(beta2), T) - 1
            C2 = special.one_minus_power(beta2, t, T)
            rho_t = rho - 2 * T * ((1 - C2) / C2)
            s = np.where(rho_t > least, rho_t, rho)
            r = np.sqrt((s - 4) * (s - 2) * rho / ((rho - 4) * (rho - 2) * s))
            return np.where(rho_t > least, r, special.lift(0.0, T))

        if (1 + Fraction(beta2)) / (1 - Fraction(beta2)) <= least:
            return special.lift(0.0, P)
        return special.of_counter(rectified, t, P)

    return rectification


def _in_format(r: Any, beta2: float, t: Any) -> Any:
    """r_t as far off as where rho_t is computed in the parameter's format; in exact arithmetic it stays."""
    if isinstance(r, Runs):
        return Runs(_in_format(r.a, beta2, getattr(t, "a", t)))
    if not hasattr(r, "profile"):
        return r
    n = np.asarray(t, np.float64)
    power = beta2**n
    growth = r.profile.storage.growth(int(np.max(t, initial=1)) + 4)
    rho = 2 / (1 - beta2) - 1
    rho_t = rho - 2 * n * power / (1 - power)
    # d rho_t = 2 t d beta2^t / (1 - beta2^t)^2, and rounded rho and 2 t beta2^t / (1 - beta2^t), which is at most rho
    off = growth * (2 * n * power / (1 - power) ** 2 + 2 * rho)
    # |d log r_t| = |1 / (rho_t - 4) + 1 / (rho_t - 2) - 1 / rho_t| / 2 d rho_t, at most d rho_t / (rho_t - 4)
    sure = abs(rho_t - 5) > off
    relative = np.where(rho_t > 5, off / np.where(rho_t - off > 4, rho_t - off - 4, 1.0), 0.0)
    return type(r).exact(r.x, r.profile, np.where(sure, r.e + relative * (abs(r.x) + r.e), np.inf))


def _of_optax(opt: Any) -> None:
    replaced("update", updating(scale=lambda V, C2, eps: 1 / (np.sqrt(V / C2) + eps)))(opt)
    replaced("correction", lambda opt, right, beta, t, P: power_in_format(beta, t, P))(opt)
    replaced("rectification", lambda opt, right, beta2, t, P: _in_format(right(beta2, t, P), beta2, t))(opt)


CONVENTIONS = (
    Variant(
        "divided from rho_t > 4",
        "The paper's bound in place of 5: a step earlier is divided.",
        "L. Liu et al., 'On the variance of the adaptive learning rate and beyond', ICLR 2020, algorithm 2",
        {"RAdam": replaced("rectification", rectifying(least=4))},
    ),
    Variant(
        "eps beside the corrected root",
        "r mhat / (sqrt(v / (1 - beta2^t)) + eps), as in Adam, in place of eps beside sqrt(v), and powers in the "
        "parameter's format.",
        "optax.radam: optax.scale_by_radam",
        {"RAdam": _of_optax},
        ("jax",),
    ),
)
