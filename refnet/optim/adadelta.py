"""Adadelta: steps in the units of the parameter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from refnet import _check
from refnet.arithmetic import special
from refnet.nn.module import Array
from refnet.optim.optimizer import Check, Optimizer, State


class Adadelta(Optimizer):
    """Descent along the gradient, times the root of a running mean of squared steps over that of squared gradients.

    For one parameter theta with gradient dtheta, at its t-th step; gamma = `lr`, lambda = `weight_decay`:

        g_t = dtheta, or -dtheta with `maximize`
        g_t = g_t + lambda theta_(t-1)                          where lambda is not 0
        v_t = rho v_(t-1) + (1 - rho) g_t^2                     v_0 = 0
        x_t = sqrt(u_(t-1) + eps) / sqrt(v_t + eps) g_t
        u_t = rho u_(t-1) + (1 - rho) x_t^2                     u_0 = 0
        theta_t = theta_(t-1) - gamma x_t

    Source: M. D. Zeiler, "ADADELTA: an adaptive learning rate method", arXiv:1212.5701, algorithm 1, which has no rate.

    State: `step` (t, a 0-d array of float32), `square_avg` (v), `acc_delta` (u).

    Args:
        params: as for every `Optimizer`.
        lr, rho, eps, weight_decay: as above. A float means its exact binary64 value.
        maximize: ascend instead of descend.
        foreach, capturable, differentiable: accepted as torch's, and without a meaning here.
    """

    options: ClassVar[Mapping[str, Check]] = {
        "lr": _check.not_negative,
        "rho": _check.between(0, 1),
        "eps": _check.not_negative,
        "weight_decay": _check.not_negative,
        "maximize": _check.flag,
    }
    schema: ClassVar[tuple[State, ...]] = (
        State("step", counter=True, least=0),
        State("square_avg", least=0),
        State("acc_delta", least=0),
    )

    def __init__(
        self,
        params: Any,
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        capturable: bool = False,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        values = (lr, rho, eps, weight_decay, maximize)
        super().__init__(params, dict(zip(self.options, values, strict=True)))

    def update(self, name: str, P: Array, G: Array, group: Mapping[str, Any]) -> None:
        gamma, eps = special.lift(group["lr"], P), special.lift(group["eps"], P)
        state, _ = self.counted(name, P, group)
        V, U = state["square_avg"], state["acc_delta"]
        # g[.] = dtheta[.], or -dtheta[.], + lambda theta[.]
        G = self.gradient(P, G, group)
        # v[.] = rho v[.] + (1 - rho) g[.]^2
        V[...] = self.moving_average_of_squares(V, group["rho"], G)
        # x[.] = sqrt(u[.] + eps) / sqrt(v[.] + eps) g[.]
        X = np.sqrt(U + eps) / np.sqrt(V + eps) * G
        # u[.] = rho u[.] + (1 - rho) x[.]^2
        U[...] = self.moving_average_of_squares(U, group["rho"], X)
        # theta[.] = theta[.] - gamma x[.]
        P[...] = P - gamma * X
