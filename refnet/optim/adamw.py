"""AdamW: Adam with its weight decay apart from the gradient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from refnet import _check
from refnet.nn.module import Array
from refnet.optim.adam import SCHEMA, step_by_moments
from refnet.optim.optimizer import Check, Optimizer, State


class AdamW(Optimizer):
    """Adam, whose weight decay is no part of the gradient and of the moments.

    For one parameter theta with gradient dtheta, at its t-th step; alpha = `lr`, (beta1, beta2) = `betas`,
    lambda = `weight_decay`:

        g_t = dtheta, or -dtheta with `maximize`
        theta_t = theta_(t-1) - alpha lambda theta_(t-1)          where lambda is not 0
        m_t, v_t, u_t, mhat_t, vhat_t as in `Adam`
        theta_t = theta_t - alpha mhat_t / (sqrt(vhat_t) + eps)

    Source: I. Loshchilov, F. Hutter, "Decoupled weight decay regularization", ICLR 2019, algorithm 2. There the decay
    is scaled by the schedule alone, theta - eta_t lambda theta; here, as in torch, by the rate too. The paper decays
    the same theta that the step is taken from, in one sum; here the decayed theta is rounded first.

    State: that of `Adam`. Groups have torch's `decoupled_weight_decay`, which is always True.

    Args:
        params: as for every `Optimizer`.
        lr, betas, eps, weight_decay: as above. A float means its exact binary64 value.
        amsgrad, maximize: as in `Adam`.
        foreach, capturable, differentiable, fused: accepted as torch's, and without a meaning here.
    """

    options: ClassVar[Mapping[str, Check]] = {
        "lr": _check.not_negative,
        "betas": _check.decays,
        "eps": _check.not_negative,
        "weight_decay": _check.not_negative,
        "amsgrad": _check.flag,
        "maximize": _check.flag,
        "decoupled_weight_decay": _check.always,
    }
    schema: ClassVar[tuple[State, ...]] = SCHEMA

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        values = (lr, betas, eps, weight_decay, amsgrad, maximize, True)
        super().__init__(params, dict(zip(self.options, values, strict=True)))

    def update(self, name: str, P: Array, G: Array, group: Mapping[str, Any]) -> None:
        step_by_moments(self, name, P, G, group, decoupled=True)
