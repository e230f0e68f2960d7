"""Adam: adaptive moments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from refnet import _check
from refnet.arithmetic import special
from refnet.nn.module import Array
from refnet.optim.optimizer import Check, Optimizer, State

SCHEMA = (
    State("step", counter=True, least=0),
    State("exp_avg"),
    State("exp_avg_sq", least=0),
    State("max_exp_avg_sq", when="amsgrad", least=0),
)


def step_by_moments(opt: Optimizer, name: str, P: Array, G: Array, group: Mapping[str, Any], decoupled: bool) -> None:
    """An update of Adam or AdamW."""
    alpha, eps = special.lift(group["lr"], P), special.lift(group["eps"], P)
    beta1, beta2 = group["betas"]
    state, t = opt.counted(name, P, group)
    M, V = state["exp_avg"], state["exp_avg_sq"]
    # g[.] = dtheta[.], or -dtheta[.]; coupled: g[.] = g[.] + lambda theta[.]
    G = opt.gradient(P, G, group, coupled=not decoupled)
    if decoupled:
        # theta[.] = theta[.] - alpha lambda theta[.]
        opt.decay(P, group)
    # m[.] = beta1 m[.] + (1 - beta1) g[.]
    M[...] = opt.moving_average(M, beta1, G)
    # v[.] = beta2 v[.] + (1 - beta2) g[.]^2
    V[...] = opt.moving_average_of_squares(V, beta2, G)
    U = V
    if group["amsgrad"]:
        U = state["max_exp_avg_sq"]
        # u[.] = max(u[.], v[.]), NaN where v is
        U[...] = np.where(U >= V, U, V)
    C1, C2 = opt.correction(beta1, t, P), opt.correction(beta2, t, P)
    # theta[.] = theta[.] - alpha / (1 - beta1^t) m[.] / (sqrt(u[.] / (1 - beta2^t)) + eps)
    P[...] = P - alpha / C1 * (M / (np.sqrt(U / C2) + eps))


class Adam(Optimizer):
    """Descent along a running mean of the gradient, divided by the root of a running mean of its square.

    For one parameter theta with gradient dtheta, at its t-th step; alpha = `lr`, (beta1, beta2) = `betas`,
    lambda = `weight_decay`:

        g_t = dtheta, or -dtheta with `maximize`
        g_t = g_t + lambda theta_(t-1)                            where lambda is not 0
        m_t = beta1 m_(t-1) + (1 - beta1) g_t                     m_0 = 0
        v_t = beta2 v_(t-1) + (1 - beta2) g_t^2                   v_0 = 0
        u_t = v_t, or max(u_(t-1), v_t) with `amsgrad`            u_0 = 0
        mhat_t = m_t / (1 - beta1^t)     vhat_t = u_t / (1 - beta2^t)
        theta_t = theta_(t-1) - alpha mhat_t / (sqrt(vhat_t) + eps)

    With `decoupled_weight_decay` the decay is no part of g; theta_(t-1) loses alpha lambda theta_(t-1) before all else.

    1 - beta^t has its own error to a few units in the last place (`special.one_minus_power`). torch computes it in
    binary64 as `1 - beta ** t`, which cancels while beta^t is near 1: at t = 1 with beta2 = 0.999 it is off by up to
    5e-14 of itself, which is seen in float64 alone. 1 - beta is taken exactly and rounded once, in float32 too.

    Source: D. P. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 1; S. J. Reddi,
    S. Kale, S. Kumar, "On the convergence of Adam and beyond", ICLR 2018, for amsgrad; I. Loshchilov, F. Hutter,
    "Decoupled weight decay regularization", ICLR 2019. In amsgrad the largest v is kept and then divided by
    1 - beta2^t, as in torch's documentation; the paper corrects nothing.

    State: `step` (t, a 0-d array of float32), `exp_avg` (m), `exp_avg_sq` (v), and `max_exp_avg_sq` (u) with amsgrad.

    Args:
        params: as for every `Optimizer`.
        lr, betas, eps, weight_decay: as above. A float means its exact binary64 value.
        amsgrad: divide by the largest v so far.
        maximize: ascend instead of descend.
        decoupled_weight_decay: as above; this is AdamW.
        foreach, capturable, differentiable, fused: accepted as torch's, and without a meaning here.
    """

    options: ClassVar[Mapping[str, Check]] = {
        "lr": _check.not_negative,
        "betas": _check.decays,
        "eps": _check.not_negative,
        "weight_decay": _check.not_negative,
        "amsgrad": _check.flag,
        "maximize": _check.flag,
        "decoupled_weight_decay": _check.flag,
    }
    schema: ClassVar[tuple[State, ...]] = SCHEMA

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ) -> None:
        values = (lr, betas, eps, weight_decay, amsgrad, maximize, decoupled_weight_decay)
        super().__init__(params, dict(zip(self.options, values, strict=True)))

    def update(self, name: str, P: Array, G: Array, group: Mapping[str, Any]) -> None:
        step_by_moments(self, name, P, G, group, group["decoupled_weight_decay"])
