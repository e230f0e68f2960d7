"""NAdam: adaptive moments with Nesterov's look-ahead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from refnet import _check
from refnet.arithmetic import special
from refnet.nn.module import Array
from refnet.optim.optimizer import Check, Optimizer, State, number


class NAdam(Optimizer):
    """Adam, whose step looks ahead along its first moment with a momentum that grows from step to step.

    For one parameter theta with gradient dtheta, at its t-th step; gamma = `lr`, (beta1, beta2) = `betas`,
    lambda = `weight_decay`, psi = `momentum_decay`:

        g_t = dtheta, or -dtheta with `maximize`
        theta_t = theta_(t-1) - gamma lambda theta_(t-1) with `decoupled_weight_decay`,
        or g_t = g_t + lambda theta_(t-1)                         where lambda is not 0
        mu_t = beta1 (1 - 0.96^(t psi) / 2)     mu_(t+1) likewise
        pi_t = mu_1 mu_2 ... mu_t
        m_t = beta1 m_(t-1) + (1 - beta1) g_t                     m_0 = 0
        v_t = beta2 v_(t-1) + (1 - beta2) g_t^2                   v_0 = 0
        mhat_t = mu_(t+1) m_t / (1 - pi_t mu_(t+1)) + (1 - mu_t) g_t / (1 - pi_t)
        theta_t = theta_t - gamma mhat_t / (sqrt(v_t / (1 - beta2^t)) + eps)

    Source: T. Dozat, "Incorporating Nesterov momentum into Adam", ICLR workshop 2016, with the schedule of its section
    3 and of torch's documentation. The paper has m_t of the schedule too, m_t = mu_t m_(t-1) + (1 - mu_t) g_t.

    State: `step` (t, a 0-d array of float32), `mu_product` (pi, a single number of the parameter's dtype), `exp_avg`
    (m), `exp_avg_sq` (v). torch keeps `mu_product` in float32 for parameters in float64 too, which is seen there.

    Args:
        params: as for every `Optimizer`.
        lr, betas, eps, weight_decay, momentum_decay: as above. A float means its exact binary64 value; 0.96 is that of
            its binary64 number too.
        decoupled_weight_decay: as above.
        maximize: ascend instead of descend.
        foreach, capturable, differentiable: accepted as torch's, and without a meaning here.
    """

    options: ClassVar[Mapping[str, Check]] = {
        "lr": _check.not_negative,
        "betas": _check.decays,
        "eps": _check.not_negative,
        "weight_decay": _check.not_negative,
        "momentum_decay": _check.not_negative,
        "decoupled_weight_decay": _check.flag,
        "maximize": _check.flag,
    }
    schema: ClassVar[tuple[State, ...]] = (
        State("step", counter=True, least=0),
        State("mu_product", start=1.0, shape=number),
        State("exp_avg"),
        State("exp_avg_sq", least=0),
    )

    def __init__(
        self,
        params: Any,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        values = (lr, betas, eps, weight_decay, momentum_decay, decoupled_weight_decay, maximize)
        super().__init__(params, dict(zip(self.options, values, strict=True)))

    def scheduled(self, t: Array, P: Array, group: Mapping[str, Any]) -> Array:
        """mu_t"""
        psi = special.lift(group["momentum_decay"], P)
        # mu_t = beta1 (1 - exp(t psi log(0.96)) / 2)
        power = np.exp(t * psi * np.log(special.lift(0.96, P)))
        return special.lift(group["betas"][0], P) * (1 - power / 2)

    def update(self, name: str, P: Array, G: Array, group: Mapping[str, Any]) -> None:
        gamma, eps = special.lift(group["lr"], P), special.lift(group["eps"], P)
        beta1, beta2 = group["betas"]
        state, t = self.counted(name, P, group)
        Pi, M, V = state["mu_product"], state["exp_avg"], state["exp_avg_sq"]
        # g[.] = dtheta[.], or -dtheta[.]; coupled: g[.] = g[.] + lambda theta[.]
        G = self.gradient(P, G, group, coupled=not group["decoupled_weight_decay"])
        if group["decoupled_weight_decay"]:
            # theta[.] = theta[.] - gamma lambda theta[.]
            self.decay(P, group)
        mu, ahead = (self.scheduled(special.lift(t, P) + k, P, group) for k in (0, 1))
        # pi_t = pi_(t-1) mu_t
        Pi[...] = self.as_kept(Pi * mu)
        # m[.] = beta1 m[.] + (1 - beta1) g[.]
        M[...] = self.moving_average(M, beta1, G)
        # v[.] = beta2 v[.] + (1 - beta2) g[.]^2
        V[...] = self.moving_average_of_squares(V, beta2, G)
        # d[.] = sqrt(v[.] / (1 - beta2^t)) + eps
        D = np.sqrt(V / self.correction(beta2, t, P)) + eps
        # theta[.] = theta[.] - gamma (1 - mu_t) / (1 - pi_t) g[.] / d[.]
        #                     - gamma mu_(t+1) / (1 - pi_t mu_(t+1)) m[.] / d[.]
        P[...] = P - gamma * (1 - mu) / (1 - Pi) * (G / D) - gamma * ahead / (1 - Pi * ahead) * (M / D)
