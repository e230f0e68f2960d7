"""Rprop: resilient propagation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from refnet import _check
from refnet.arithmetic import special
from refnet.nn.module import Array
from refnet.optim.optimizer import Check, Optimizer, State


class Rprop(Optimizer):
    """Descent by the sign of the gradient alone, in steps that grow while it stays and shrink when it changes.

    For one parameter theta with gradient dtheta, at its t-th step; (eta-, eta+) = `etas`,
    (least, most) = `step_sizes`:

        g_t = dtheta, or -dtheta with `maximize`
        c_t = sign(g_t) sign(g_(t-1))                         g_0 = 0
        d_t = d_(t-1) times eta+, eta- or 1 for c_t above, below or at 0, between least and most;  d_0 = `lr`
        g_t = 0 where c_t is below 0
        theta_t = theta_(t-1) - sign(g_t) d_t

    Source: M. Riedmiller, H. Braun, "A direct adaptive method for faster backpropagation learning: the RPROP
    algorithm", ICNN 1993, in the form that takes no step back where the sign has changed (iRprop-: C. Igel,
    M. Huesken, "Empirical evaluation of the improved Rprop learning algorithms", Neurocomputing 50, 2003). torch takes
    the sign of the product g_t g_(t-1), which underflows to 0 for gradients whose signs are known.

    The sign of NaN is 0, as in torch.

    State: `step` (t, a 0-d array of float32), `prev` (g), `step_size` (d).

    Args:
        params: as for every `Optimizer`.
        lr, etas, step_sizes: as above. A float means its exact binary64 value.
        maximize: ascend instead of descend.
        capturable, foreach, differentiable: accepted as torch's, and without a meaning here.
    """

    options: ClassVar[Mapping[str, Check]] = {
        "lr": _check.not_negative,
        "etas": _check.pair,
        "step_sizes": _check.pair,
        "maximize": _check.flag,
    }
    schema: ClassVar[tuple[State, ...]] = (
        State("step", counter=True, least=0),
        State("prev"),
        State("step_size", start="lr"),
    )

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50),
        *,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        super().__init__(params, dict(zip(self.options, (lr, etas, step_sizes, maximize), strict=True)))

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        super().check(options)
        smaller, larger = options["etas"]
        if not 0 < smaller < 1 < larger:
            raise ValueError(f"Rprop: expected etas with 0 < eta- < 1 < eta+, got {options['etas']!r}")

    def sign_of_product(self, G: Array, before: Array) -> Array:
        """c[.] = sign(g[.]) sign(g'[.])"""
        return _sign(G) * _sign(before)

    def update(self, name: str, P: Array, G: Array, group: Mapping[str, Any]) -> None:
        one, zero = special.lift(1.0, P), special.lift(0.0, P)
        smaller, larger = (special.lift(eta, P) for eta in group["etas"])
        least, most = (special.lift(size, P) for size in group["step_sizes"])
        state, _ = self.counted(name, P, group)
        D = state["step_size"]
        # g[.] = dtheta[.], or -dtheta[.]
        G = self.gradient(P, G, group, coupled=False)
        C = self.sign_of_product(G, state["prev"])
        # d[.] = d[.] eta+, d[.] eta- or d[.], by the sign of c[.]
        D[...] = D * np.where(C > 0, larger, np.where(C < 0, smaller, one))
        # d[.] = min(max(d[.], least), most)
        D[...] = -special.maximum(-special.maximum(D, least), -most)
        # g[.] = 0 where c[.] < 0
        G = np.where(C < 0, zero, G)
        # theta[.] = theta[.] - sign(g[.]) d[.]
        P[...] = P - _sign(G) * D
        state["prev"][...] = G


def _sign(X: Array) -> Array:
    """sign(x[.])"""
    one, zero = special.lift(1.0, X), special.lift(0.0, X)
    return np.where(X > 0, one, np.where(X < 0, -one, zero))
