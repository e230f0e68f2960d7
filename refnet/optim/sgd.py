"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from refnet import _check
from refnet.arithmetic import special
from refnet.nn.module import Array
from refnet.optim.optimizer import Check, Optimizer, State


class SGD(Optimizer):
    """Gradient descent, with momentum, dampening, weight decay and Nesterov's look-ahead where asked for.

    For one parameter theta with gradient dtheta, at its t-th step; gamma = `lr`, mu = `momentum`, tau = `dampening`,
    lambda = `weight_decay`:

        g_t = dtheta, or -dtheta with `maximize`
        g_t = g_t + lambda theta_(t-1)              where lambda is not 0
        b_t = mu b_(t-1) + (1 - tau) g_t            where mu is not 0; b_1 = g_1
        g_t = b_t, or g_t + mu b_t with `nesterov`  where mu is not 0
        theta_t = theta_(t-1) - gamma g_t

    Decay, momentum and dampening that are 0 take no part: their operations are left out, not carried out with 0.

    Source: documentation of torch.optim.SGD; I. Sutskever, J. Martens, G. Dahl, G. Hinton, "On the importance of
    initialization and momentum in deep learning", ICML 2013. In the paper the velocity carries the rate,
    v_t = mu v_(t-1) - gamma g_t and theta_t = theta_(t-1) + v_t. Here the rate stands outside: while it stays the same,
    v_t = -gamma b_t; when it changes, all of b moves at the new rate at once, v only what enters it from then on. With
    Nesterov the paper takes the gradient at theta + mu v, which is the point that theta is here. The paper starts from
    v_0 = 0, so that dampening would act on the first gradient too; here it does not.

    Args:
        params: as for every `Optimizer`.
        lr, momentum, dampening, weight_decay: gamma, mu, tau, lambda. A float means its exact binary64 value.
        nesterov: step along g + mu b instead of b; needs a momentum and no dampening.
        maximize: ascend instead of descend.
        foreach, differentiable, fused: accepted as torch's, and without a meaning here.
    """

    options: ClassVar[Mapping[str, Check]] = {
        "lr": _check.not_negative,
        "momentum": _check.not_negative,
        "dampening": _check.number,
        "weight_decay": _check.not_negative,
        "nesterov": _check.flag,
        "maximize": _check.flag,
    }
    schema: ClassVar[tuple[State, ...]] = (State("momentum_buffer", when="momentum"),)

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        values = (lr, momentum, dampening, weight_decay, nesterov, maximize)
        super().__init__(params, dict(zip(self.options, values, strict=True)))

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        super().check(options)
        if options["nesterov"] and (options["momentum"] == 0 or options["dampening"] != 0):
            raise ValueError(
                "SGD: expected nesterov with a momentum and without dampening, "
                f"got momentum {options['momentum']} and dampening {options['dampening']}"
            )

    def update(self, name: str, P: Array, G: Array, group: Mapping[str, Any]) -> None:
        if group["maximize"]:
            # g[.] = -dtheta[.]
            G = -G
        if group["weight_decay"] != 0:
            lambda_ = special.lift(group["weight_decay"], P)
            # g[.] = g[.] + lambda theta[.]
            G = G + lambda_ * P
        if group["momentum"] != 0:
            mu = special.lift(group["momentum"], P)
            state = self.state.setdefault(name, {})
            if "momentum_buffer" not in state:
                # b[.] = g[.]
                B = state["momentum_buffer"] = P.copy()
                B[...] = G
            elif group["dampening"] == 0:
                B = state["momentum_buffer"]
                # b[.] = mu b[.] + g[.]
                B[...] = mu * B + G
            else:
                B, tau = state["momentum_buffer"], special.lift(group["dampening"], P)
                # b[.] = mu b[.] + (1 - tau) g[.]
                B[...] = mu * B + (1 - tau) * G
            # g[.] = g[.] + mu b[.], or b[.]
            G = G + mu * B if group["nesterov"] else B
        gamma = special.lift(group["lr"], P)
        # theta[.] = theta[.] - gamma g[.]
        P[...] = P - gamma * G
