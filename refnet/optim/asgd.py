"""ASGD: averaged stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from refnet import _check
from refnet.arithmetic import special
from refnet.nn.module import Array
from refnet.optim.optimizer import Check, Optimizer, State, number


class ASGD(Optimizer):
    """Gradient descent with a rate that falls, and beside it the average of the parameters on the way.

    For one parameter theta with gradient dtheta, at its t-th step; gamma = `lr`, lambda = `lambd`:

        g_t = dtheta, or -dtheta with `maximize`
        g_t = g_t + `weight_decay` theta_(t-1)                 where it is not 0
        theta_t = theta_(t-1) (1 - lambda eta_(t-1)) - eta_(t-1) g_t       eta_0 = gamma
        a_t = theta_t where mu_(t-1) is 1, else a_(t-1) + mu_(t-1) (theta_t - a_(t-1))       mu_0 = 1
        eta_t = gamma / (1 + lambda gamma t)^alpha
        mu_t = 1 / max(1, t - t0)

    Source: B. T. Polyak, A. B. Juditsky, "Acceleration of stochastic approximation by averaging", SIAM J. Control
    Optim. 30 (1992); the schedule is that of L. Bottou's code, which torch's documentation follows.

    State: `step` (t, a 0-d array of float32), `eta` and `mu`, single numbers of the parameter's dtype, and `ax` (a).
    torch keeps the two in float32 for parameters in float64 too, which is seen there.

    Args:
        params: as for every `Optimizer`.
        lr, lambd, alpha, t0, weight_decay: as above. A float means its exact binary64 value.
        maximize: ascend instead of descend.
        foreach, differentiable, capturable: accepted as torch's, and without a meaning here.
    """

    options: ClassVar[Mapping[str, Check]] = {
        "lr": _check.not_negative,
        "lambd": _check.number,
        "alpha": _check.number,
        "t0": _check.number,
        "weight_decay": _check.not_negative,
        "maximize": _check.flag,
    }
    schema: ClassVar[tuple[State, ...]] = (
        State("step", counter=True, least=0),
        State("eta", start="lr", shape=number),
        State("mu", start=1.0, shape=number),
        State("ax"),
    )

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ) -> None:
        super().__init__(params, dict(zip(self.options, (lr, lambd, alpha, t0, weight_decay, maximize), strict=True)))

    def update(self, name: str, P: Array, G: Array, group: Mapping[str, Any]) -> None:
        gamma, lambda_ = special.lift(group["lr"], P), special.lift(group["lambd"], P)
        state, t = self.counted(name, P, group)
        eta, mu, A, T = state["eta"], state["mu"], state["ax"], special.lift(t, P)
        # g[.] = dtheta[.], or -dtheta[.], + weight_decay theta[.]
        G = self.gradient(P, G, group)
        # theta[.] = theta[.] (1 - lambda eta) - eta g[.]
        P[...] = P * (1 - lambda_ * eta) - eta * G
        # a[.] = theta[.], or a[.] + mu (theta[.] - a[.])
        A[...] = np.where(mu == 1, P, A + mu * (P - A))
        # eta = gamma / (1 + lambda gamma t)^alpha
        eta[...] = self.as_kept(gamma / np.power(1 + lambda_ * gamma * T, group["alpha"]))
        # mu = 1 / max(1, t - t0)
        mu[...] = self.as_kept(1 / special.maximum(T - special.lift(group["t0"], P), special.lift(1.0, P)))
