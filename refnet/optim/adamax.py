"""Adamax: adaptive moments by the largest gradient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from refnet import _check
from refnet.arithmetic import special
from refnet.nn.module import Array
from refnet.optim.optimizer import Check, Optimizer, State


class Adamax(Optimizer):
    """Descent along a running mean of the gradient, divided by the largest of its decaying magnitudes.

    For one parameter theta with gradient dtheta, at its t-th step; gamma = `lr`, (beta1, beta2) = `betas`,
    lambda = `weight_decay`:

        g_t = dtheta, or -dtheta with `maximize`
        g_t = g_t + lambda theta_(t-1)                where lambda is not 0
        m_t = beta1 m_(t-1) + (1 - beta1) g_t         m_0 = 0
        u_t = max(beta2 u_(t-1), |g_t| + eps)         u_0 = 0
        theta_t = theta_(t-1) - gamma / (1 - beta1^t) m_t / u_t

    Source: D. P. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 2, which has no eps.
    torch adds it to |g_t|, so that it is part of the state; Keras and optax add it to u_t when they divide.

    State: `step` (t, a 0-d array of float32), `exp_avg` (m), `exp_inf` (u).

    Args:
        params: as for every `Optimizer`.
        lr, betas, eps, weight_decay: as above. A float means its exact binary64 value.
        maximize: ascend instead of descend.
        foreach, differentiable, capturable: accepted as torch's, and without a meaning here.
    """

    options: ClassVar[Mapping[str, Check]] = {
        "lr": _check.not_negative,
        "betas": _check.decays,
        "eps": _check.not_negative,
        "weight_decay": _check.not_negative,
        "maximize": _check.flag,
    }
    schema: ClassVar[tuple[State, ...]] = (
        State("step", counter=True, least=0),
        State("exp_avg"),
        State("exp_inf", least=0),
    )

    def __init__(
        self,
        params: Any,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ) -> None:
        values = (lr, betas, eps, weight_decay, maximize)
        super().__init__(params, dict(zip(self.options, values, strict=True)))

    def update(self, name: str, P: Array, G: Array, group: Mapping[str, Any]) -> None:
        gamma, eps = special.lift(group["lr"], P), special.lift(group["eps"], P)
        beta1, beta2 = group["betas"]
        state, t = self.counted(name, P, group)
        M, U = state["exp_avg"], state["exp_inf"]
        # g[.] = dtheta[.], or -dtheta[.], + lambda theta[.]
        G = self.gradient(P, G, group)
        # m[.] = beta1 m[.] + (1 - beta1) g[.]
        M[...] = self.moving_average(M, beta1, G)
        # u[.] = max(beta2 u[.], |g[.]| + eps)
        U[...] = special.maximum(special.lift(beta2, P) * U, np.absolute(G) + eps)
        # theta[.] = theta[.] - gamma / (1 - beta1^t) m[.] / u[.]
        P[...] = P - gamma / self.correction(beta1, t, P) * (M / U)
