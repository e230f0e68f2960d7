"""RMSprop: the gradient divided by the root of a running mean of its square."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from refnet import _check
from refnet.arithmetic import special
from refnet.nn.module import Array
from refnet.optim.optimizer import Check, Optimizer, State


class RMSprop(Optimizer):
    """Descent along the gradient, divided by the root of a running mean of its square, with a momentum if asked for.

    For one parameter theta with gradient dtheta, at its t-th step; gamma = `lr`, mu = `momentum`,
    lambda = `weight_decay`:

        g_t = dtheta, or -dtheta with `maximize`
        g_t = g_t + lambda theta_(t-1)                       where lambda is not 0
        v_t = alpha v_(t-1) + (1 - alpha) g_t^2              v_0 = 0
        a_t = alpha a_(t-1) + (1 - alpha) g_t                with `centered`; a_0 = 0
        d_t = sqrt(v_t) + eps, or sqrt(v_t - a_t^2) + eps with `centered`
        b_t = mu b_(t-1) + g_t / d_t                         where mu is not 0; b_0 = 0
        theta_t = theta_(t-1) - gamma b_t, or gamma g_t / d_t

    Source: T. Tieleman, G. Hinton, "Lecture 6.5, RMSProp", COURSERA: Neural networks for machine learning, 2012;
    A. Graves, "Generating sequences with recurrent neural networks", arXiv:1308.0850, for the centered one, with eps
    inside the root, as TensorFlow and optax have it. Here, as in torch, eps is outside. v_t - a_t^2 cancels where the
    gradient hardly changes, and may come out below 0: the root is NaN then, in torch too.

    State: `step` (t, a 0-d array of float32), `square_avg` (v), `momentum_buffer` (b) with a momentum, and `grad_avg`
    (a) with `centered`.

    Args:
        params: as for every `Optimizer`.
        lr, alpha, eps, weight_decay, momentum: as above. A float means its exact binary64 value.
        centered: divide by an estimate of the standard deviation.
        maximize: ascend instead of descend.
        capturable, foreach, differentiable: accepted as torch's, and without a meaning here.
    """

    options: ClassVar[Mapping[str, Check]] = {
        "lr": _check.not_negative,
        "momentum": _check.not_negative,
        "alpha": _check.not_negative,
        "eps": _check.not_negative,
        "centered": _check.flag,
        "weight_decay": _check.not_negative,
        "maximize": _check.flag,
    }
    schema: ClassVar[tuple[State, ...]] = (
        State("step", counter=True, least=0),
        State("square_avg"),
        State("momentum_buffer", when="momentum"),
        State("grad_avg", when="centered"),
    )

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        values = (lr, momentum, alpha, eps, centered, weight_decay, maximize)
        super().__init__(params, dict(zip(self.options, values, strict=True)))

    def update(self, name: str, P: Array, G: Array, group: Mapping[str, Any]) -> None:
        gamma, eps = special.lift(group["lr"], P), special.lift(group["eps"], P)
        state, _ = self.counted(name, P, group)
        V = state["square_avg"]
        # g[.] = dtheta[.], or -dtheta[.], + lambda theta[.]
        G = self.gradient(P, G, group)
        # v[.] = alpha v[.] + (1 - alpha) g[.]^2
        V[...] = self.moving_average_of_squares(V, group["alpha"], G)
        if group["centered"]:
            A = state["grad_avg"]
            # a[.] = alpha a[.] + (1 - alpha) g[.]
            A[...] = self.moving_average(A, group["alpha"], G)
            # d[.] = sqrt(v[.] - a[.]^2) + eps
            D = np.sqrt(V - A * A) + eps
        else:
            # d[.] = sqrt(v[.]) + eps
            D = np.sqrt(V) + eps
        if group["momentum"] != 0:
            B, mu = state["momentum_buffer"], special.lift(group["momentum"], P)
            # b[.] = mu b[.] + g[.] / d[.]
            B[...] = mu * B + G / D
            # theta[.] = theta[.] - gamma b[.]
            P[...] = P - gamma * B
        else:
            # theta[.] = theta[.] - gamma g[.] / d[.]
            P[...] = P - gamma * (G / D)
