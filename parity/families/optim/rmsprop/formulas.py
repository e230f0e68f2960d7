"""Other formulas of RMSprop. Letters as there: g gradient, v and a means, d divisor, b buffer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from parity.families.fault import replaced
from parity.families.formula import Variant
from refnet.arithmetic import special

Seam = Callable[..., Any]


def divisor(opt: Any, V: Any, A: Any, eps: Any) -> Any:
    """sqrt(v[.] - a[.]^2) + eps"""
    return np.sqrt(V if A is None else V - A * A) + eps


def momentum(mu: Any, B: Any, G: Any, D: Any, gamma: Any) -> tuple[Any, Any]:
    """b[.] = mu b[.] + g[.] / d[.], and the step"""
    B = mu * B + G / D
    return B, gamma * B


def updating(divisor: Seam = divisor, momentum: Seam = momentum, second: Seam | None = None) -> Any:
    """RMSprop's update with some of its parts otherwise."""

    def update(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
        gamma, eps, mu = (special.lift(group[option], P) for option in ("lr", "eps", "momentum"))
        state, _ = opt.counted(name, P, group)
        V, A = state["square_avg"], state.get("grad_avg")
        G = opt.gradient(P, G, group)
        V[...] = (second or opt.moving_average_of_squares)(V, group["alpha"], G)
        if A is not None:
            A[...] = opt.moving_average(A, group["alpha"], G)
        D = divisor(opt, V, A, eps)
        step = gamma * (G / D)
        if group["momentum"] != 0:
            state["momentum_buffer"][...], step = momentum(mu, state["momentum_buffer"], G, D, gamma)
        P[...] = P - step

    return update


def _eps_inside(opt: Any, V: Any, A: Any, eps: Any) -> Any:
    return np.sqrt((V if A is None else V - A * A) + eps)


def _rate_inside(mu: Any, B: Any, G: Any, D: Any, gamma: Any) -> tuple[Any, Any]:
    # b[.] = mu b[.] + gamma g[.] / d[.]
    B = mu * B + gamma * (G / D)
    return B, B


def _step_as_momentum(mu: Any, B: Any, G: Any, D: Any, gamma: Any) -> tuple[Any, Any]:
    # b[.] = mu b[.] - gamma g[.] / d[.], which is added
    B = mu * B - gamma * (G / D)
    return B, -B


CONVENTIONS = (
    Variant(
        "sqrt(v + eps)",
        "sqrt(v + eps) in place of sqrt(v) + eps.",
        "optax.rmsprop, eps_in_sqrt=True, its default; TensorFlow's ApplyRMSProp, rsqrt(ms + epsilon)",
        {"RMSprop": replaced("update", updating(divisor=_eps_inside))},
        ("jax", "tensorflow"),
    ),
    Variant(
        "the rate inside the momentum",
        "b = mu b + gamma g / d in place of mu b + g / d: the same steps while the rate stays, another buffer.",
        "TensorFlow's ApplyRMSProp: mom = momentum * mom + lr * grad * rsqrt(ms + epsilon)",
        {"RMSprop": replaced("update", updating(momentum=_rate_inside))},
    ),
    Variant(
        "the step as the momentum",
        "b = mu b - gamma g / d in place of mu b + g / d: the same steps while the rate stays, another buffer.",
        "optax.rmsprop: trace stands behind scale_by_learning_rate",
        {"RMSprop": replaced("update", updating(momentum=_step_as_momentum))},
        ("jax",),
    ),
)
