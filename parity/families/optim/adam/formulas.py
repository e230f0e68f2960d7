"""Other formulas of Adam. Letters as there: theta parameter, g gradient, m and v moments, u the largest v or v."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from parity.families.fault import replaced
from parity.families.formula import Patch, Variant
from parity.families.optim.common.formulas import power_in_format
from refnet.arithmetic import special

Seam = Callable[..., Any]


def gradient(P: Any, G: Any, group: Any) -> Any:
    """g[.], of which a decay that is not decoupled is a part."""
    G = -G if group["maximize"] else G
    if group["weight_decay"] == 0 or group["decoupled_weight_decay"]:
        return G
    return G + special.lift(group["weight_decay"], P) * P


def mean(kept: Any, beta: float, G: Any) -> Any:
    """beta kept[.] + (1 - beta) g[.]"""
    return special.lift(beta, G) * kept + special.lift(1 - Fraction(beta), G) * G


def quotient(M: Any, U: Any, C1: Any, C2: Any, eps: Any) -> Any:
    """m[.] / C1 / (sqrt(u[.] / C2) + eps)"""
    return M / C1 / (np.sqrt(U / C2) + eps)


def larger(U: Any, V: Any, C2: Any) -> Any:
    """max(u[.], v[.])"""
    return np.where(U >= V, U, V)


def updating(
    correction: Seam = special.one_minus_power,
    quotient: Seam = quotient,
    first: Seam = mean,
    second: Seam = lambda kept, beta, G, raw: mean(kept, beta, G * G),
    larger: Seam = larger,
    moved: Seam = lambda M, C1: None,
) -> Any:
    """Adam's update with some of its parts otherwise, as what `replaced` puts in its place."""

    def update(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
        raw, G = (-G if group["maximize"] else G), gradient(P, G, group)
        state = opt.kept(name, P, group)
        t, M, V = state["step"], state["exp_avg"], state["exp_avg_sq"]
        t[...] = t + 1
        (beta1, beta2), alpha = group["betas"], special.lift(group["lr"], P)
        C1, C2 = correction(beta1, t, P), correction(beta2, t, P)
        if group["decoupled_weight_decay"]:
            P[...] = P - alpha * special.lift(group["weight_decay"], P) * P
        M[...] = first(M, beta1, G)
        V[...] = second(V, beta2, G, raw)
        U = V
        if group["amsgrad"]:
            U = state["max_exp_avg_sq"]
            U[...] = larger(U, V, C2)
        P[...] = P - alpha * quotient(M, U, C1, C2, special.lift(group["eps"], P))
        moved(M, C1)

    return update


def _eps_hat(M: Any, U: Any, C1: Any, C2: Any, eps: Any) -> Any:
    # sqrt(C2) / C1 m[.] / (sqrt(u[.]) + eps)
    return np.sqrt(C2) / C1 * (M / (np.sqrt(U) + eps))


def _largest_corrected(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
    if not group["amsgrad"]:
        right(name, P, G, group)
        return
    # u[.] = max(u[.], v[.] / C2), and is not corrected again
    updating(
        correction=power_in_format,
        larger=lambda U, V, C2: larger(U, V / C2, C2),
        quotient=lambda M, U, C1, C2, eps: M / C1 / (np.sqrt(U) + eps),
    )(opt, right, name, P, G, group)


def of_both(patch: Patch) -> dict[str, Patch]:
    """Adam and AdamW have the same lines."""
    return {"Adam": patch, "AdamW": patch}


CONVENTIONS = (
    Variant(
        "epsilon hat",
        "sqrt(1 - beta2^t) / (1 - beta1^t) m / (sqrt(v) + eps): the order of the paper's section 2, in which eps is "
        "divided by sqrt(1 - beta2^t). It differs in the first steps where the gradient is about as small as eps.",
        "the documentation of tf.keras.optimizers.Adam: 'the epsilon in this formula is epsilon hat'",
        of_both(replaced("update", updating(quotient=_eps_hat))),
        ("tensorflow",),
    ),
    Variant(
        "the largest corrected v",
        "amsgrad with max(u, v / (1 - beta2^t)) in place of max(u, v) / (1 - beta2^t). It differs where the gradient "
        "becomes smaller.",
        "google-deepmind/optax#1423: optax.amsgrad",
        of_both(replaced("update", _largest_corrected)),
        ("jax",),
    ),
)
