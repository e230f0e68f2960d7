"""Adagrad: the gradient divided by the root of the sum of its squares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from refnet import _check
from refnet.arithmetic import special
from refnet.nn.module import Array
from refnet.optim.optimizer import Check, Optimizer, State


class Adagrad(Optimizer):
    """Descent along the gradient, divided by the root of the sum of its squares so far.

    For one parameter theta with gradient dtheta, at its t-th step; gamma = `lr`, eta = `lr_decay`,
    lambda = `weight_decay`, tau = `initial_accumulator_value`:

        g_t = dtheta, or -dtheta with `maximize`
        g_t = g_t + lambda theta_(t-1)                where lambda is not 0
        gamma_t = gamma / (1 + (t - 1) eta)
        s_t = s_(t-1) + g_t^2                         s_0 = tau
        theta_t = theta_(t-1) - gamma_t g_t / (sqrt(s_t) + eps)

    Source: J. Duchi, E. Hazan, Y. Singer, "Adaptive subgradient methods for online learning and stochastic
    optimization", JMLR 12 (2011); the decay of the rate is torch's.

    State: `step` (t, a 0-d array of float32) and `sum` (s), from the start on, as in torch; tau is that of the
    constructor for all groups, as there.

    Args:
        params: as for every `Optimizer`.
        lr, lr_decay, weight_decay, initial_accumulator_value, eps: as above. A float means its exact binary64 value.
        maximize: ascend instead of descend.
        foreach, differentiable, fused: accepted as torch's, and without a meaning here.
    """

    options: ClassVar[Mapping[str, Check]] = {
        "lr": _check.not_negative,
        "lr_decay": _check.not_negative,
        "eps": _check.not_negative,
        "weight_decay": _check.not_negative,
        "initial_accumulator_value": _check.not_negative,
        "maximize": _check.flag,
    }
    schema: ClassVar[tuple[State, ...]] = (
        State("step", counter=True, least=0),
        State("sum", start="initial_accumulator_value", least=0),
    )

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        values = (lr, lr_decay, eps, weight_decay, initial_accumulator_value, maximize)
        super().__init__(params, dict(zip(self.options, values, strict=True)))
        for group in self.param_groups:
            for name, P in group["params"].items():
                self.kept(name, P, self.defaults)

    def update(self, name: str, P: Array, G: Array, group: Mapping[str, Any]) -> None:
        gamma, eps = special.lift(group["lr"], P), special.lift(group["eps"], P)
        state, t = self.counted(name, P, self.defaults)
        S = state["sum"]
        # g[.] = dtheta[.], or -dtheta[.], + lambda theta[.]
        G = self.gradient(P, G, group)
        if group["lr_decay"] != 0:
            eta = special.lift(group["lr_decay"], P)
            # gamma_t = gamma / (1 + (t - 1) eta)
            gamma = gamma / (1 + (special.lift(t, P) - 1) * eta)
        # s[.] = s[.] + g[.]^2
        S[...] = S + G * G
        # theta[.] = theta[.] - gamma_t g[.] / (sqrt(s[.]) + eps)
        P[...] = P - gamma * (G / (np.sqrt(S) + eps))
