"""Lion: evolved sign momentum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from refnet import _check
from refnet.arithmetic import special
from refnet.nn.module import Array
from refnet.optim.optimizer import Check, Optimizer, State


class Lion(Optimizer):
    """Descent by the sign of a mean of the gradient and its running mean.

    For one parameter theta with gradient g, at its t-th step; eta = `lr`, (beta1, beta2) = `betas`,
    lambda = `weight_decay`:

        theta_t = theta_(t-1) - eta lambda theta_(t-1)        where lambda is not 0
        c_t = beta1 m_(t-1) + (1 - beta1) g_t                 m_0 = 0
        theta_t = theta_t - eta sign(c_t)
        m_t = beta2 m_(t-1) + (1 - beta2) g_t

    Source: X. Chen et al., "Symbolic discovery of optimization algorithms", NeurIPS 2023 (arXiv:2302.06675), algorithm
    2, and lion/lion_pytorch.py in google/automl, whose arguments and state these are. torch has no Lion.

    The sign of NaN is 0.

    State: `exp_avg` (m).

    Args:
        params: as for every `Optimizer`.
        lr, betas, weight_decay: as above. A float means its exact binary64 value.
    """

    options: ClassVar[Mapping[str, Check]] = {
        "lr": _check.not_negative,
        "betas": _check.decays,
        "weight_decay": _check.not_negative,
    }
    schema: ClassVar[tuple[State, ...]] = (State("exp_avg"),)

    def __init__(
        self,
        params: Any,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, dict(zip(self.options, (lr, betas, weight_decay), strict=True)))

    def update(self, name: str, P: Array, G: Array, group: Mapping[str, Any]) -> None:
        eta, one, zero = (special.lift(value, P) for value in (group["lr"], 1.0, 0.0))
        beta1, beta2 = group["betas"]
        M = self.kept(name, P, group)["exp_avg"]
        # theta[.] = theta[.] - eta lambda theta[.]
        self.decay(P, group)
        # c[.] = beta1 m[.] + (1 - beta1) g[.]
        C = self.moving_average(M, beta1, G)
        # theta[.] = theta[.] - eta sign(c[.])
        P[...] = P - eta * np.where(C > 0, one, np.where(C < 0, -one, zero))
        # m[.] = beta2 m[.] + (1 - beta2) g[.]
        M[...] = self.moving_average(M, beta2, G)
