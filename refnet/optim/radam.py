"""RAdam: adaptive moments, rectified."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np

from refnet import _check
from refnet.arithmetic import special
from refnet.nn.module import Array
from refnet.optim.optimizer import Check, Optimizer, State


class RAdam(Optimizer):
    """Adam, whose division is left out in the first steps, and made smaller while the second moment is uncertain.

    For one parameter theta with gradient dtheta, at its t-th step; gamma = `lr`, (beta1, beta2) = `betas`,
    lambda = `weight_decay`:

        g_t = dtheta, or -dtheta with `maximize`
        theta_t = theta_(t-1) - gamma lambda theta_(t-1) with `decoupled_weight_decay`,
        or g_t = g_t + lambda theta_(t-1)                    where lambda is not 0
        m_t = beta1 m_(t-1) + (1 - beta1) g_t                m_0 = 0
        v_t = beta2 v_(t-1) + (1 - beta2) g_t^2              v_0 = 0
        rho = 2 / (1 - beta2) - 1
        rho_t = rho - 2 t beta2^t / (1 - beta2^t)
        r_t = sqrt((rho_t - 4) (rho_t - 2) rho / ((rho - 4) (rho - 2) rho_t))
        l_t = sqrt(1 - beta2^t) / (sqrt(v_t) + eps)
        theta_t = theta_t - gamma m_t / (1 - beta1^t) r_t l_t     where rho_t > 5
        theta_t = theta_t - gamma m_t / (1 - beta1^t)             elsewhere

    Source: L. Liu et al., "On the variance of the adaptive learning rate and beyond", ICLR 2020, algorithm 2, where the
    bound on rho_t is 4; here 5, as in torch. torch's eps stands outside the correction, unlike its Adam's.

    r_t is computed in binary64 whatever the dtype, and rounded: rho_t is a small difference of large numbers.

    State: `step` (t, a 0-d array of float32), `exp_avg` (m), `exp_avg_sq` (v).

    Args:
        params: as for every `Optimizer`.
        lr, betas, eps, weight_decay: as above. A float means its exact binary64 value.
        decoupled_weight_decay: as above.
        maximize: ascend instead of descend.
        foreach, capturable, differentiable: accepted as torch's, and without a meaning here.
    """

    options: ClassVar[Mapping[str, Check]] = {
        "lr": _check.not_negative,
        "betas": _check.decays,
        "eps": _check.not_negative,
        "weight_decay": _check.not_negative,
        "maximize": _check.flag,
        "decoupled_weight_decay": _check.flag,
    }
    schema: ClassVar[tuple[State, ...]] = (
        State("step", counter=True, least=0),
        State("exp_avg"),
        State("exp_avg_sq", least=0),
    )

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        values = (lr, betas, eps, weight_decay, maximize, decoupled_weight_decay)
        super().__init__(params, dict(zip(self.options, values, strict=True)))

    def rectification(self, beta2: float, t: Array, P: Array) -> Array:
        """r_t, or 0 where the step is not divided."""

        def rectified(t: Array, T: Array) -> Array:
            # rho = 2 / (1 - beta2) - 1
            rho = 2 / special.lift(1 - Fraction(beta2), T) - 1
            C2 = self.correction(beta2, t, T)
            # rho_t = rho - 2 t beta2^t / (1 - beta2^t)
            rho_t = rho - 2 * T * ((1 - C2) / C2)
            # (elsewhere any number will do that is positive under the root)
            s = np.where(rho_t > 5, rho_t, rho)
            # r_t = sqrt((rho_t - 4) (rho_t - 2) rho / ((rho - 4) (rho - 2) rho_t))
            r = np.sqrt((s - 4) * (s - 2) * rho / ((rho - 4) * (rho - 2) * s))
            return np.where(rho_t > 5, r, special.lift(0.0, T))

        # rho_t < rho, which is at most 5 here
        if 3 * Fraction(beta2) <= 2:
            return special.lift(0.0, P)
        return special.of_counter(rectified, t, P)

    def update(self, name: str, P: Array, G: Array, group: Mapping[str, Any]) -> None:
        gamma, eps = special.lift(group["lr"], P), special.lift(group["eps"], P)
        beta1, beta2 = group["betas"]
        state, t = self.counted(name, P, group)
        M, V = state["exp_avg"], state["exp_avg_sq"]
        # g[.] = dtheta[.], or -dtheta[.]; coupled: g[.] = g[.] + lambda theta[.]
        G = self.gradient(P, G, group, coupled=not group["decoupled_weight_decay"])
        if group["decoupled_weight_decay"]:
            # theta[.] = theta[.] - gamma lambda theta[.]
            self.decay(P, group)
        # m[.] = beta1 m[.] + (1 - beta1) g[.]
        M[...] = self.moving_average(M, beta1, G)
        # v[.] = beta2 v[.] + (1 - beta2) g[.]^2
        V[...] = self.moving_average_of_squares(V, beta2, G)
        C1, C2 = self.correction(beta1, t, P), self.correction(beta2, t, P)
        r = self.rectification(beta2, t, P)
        # l[.] = sqrt(1 - beta2^t) / (sqrt(v[.]) + eps)
        L = np.sqrt(C2) / (np.sqrt(V) + eps)
        # theta[.] = theta[.] - gamma m[.] / (1 - beta1^t) r_t l[.], or without r_t l[.]
        P[...] = P - gamma * (M / C1) * np.where(r > 0, r * L, special.lift(1.0, P))
