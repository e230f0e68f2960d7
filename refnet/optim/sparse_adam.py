"""SparseAdam: Adam on the rows that have a gradient."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from refnet import _check
from refnet.arithmetic import special
from refnet.arithmetic.sparse_gradient import SparseGradient
from refnet.nn.module import Array
from refnet.optim.optimizer import Check, Optimizer, State

_positive = _check.between(0.0, math.inf, low_too=False, high_too=False)


class SparseAdam(Optimizer):
    """Adam for gradients of which only some rows are there: moments and parameters of all other rows stay as they are.

    For one parameter theta with gradient dtheta, at its t-th step; alpha = `lr`, (beta1, beta2) = `betas`. For each row
    r (or other slice) that the gradient has:

        g_t[r] = the sum of the gradient's values for r, or minus that with `maximize`
        m_t[r] = beta1 m_(t-1)[r] + (1 - beta1) g_t[r]            m_0 = 0
        v_t[r] = beta2 v_(t-1)[r] + (1 - beta2) g_t[r]^2          v_0 = 0
        theta_t[r] = theta_(t-1)[r] - alpha sqrt(1 - beta2^t) / (1 - beta1^t) m_t[r] / (sqrt(v_t[r]) + eps)

    t counts the steps of the whole parameter, as in torch: a row that is seen first at t = 1,000 is hardly corrected.
    eps is added before the correction of v, other than in Adam. A gradient without any row moves nothing, and counts.

    Source: D. P. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR 2015, the end of section 2, for the
    order of these operations; the documentation of torch.optim.SparseAdam for the rows.

    A gradient is a `SparseGradient(indices, values)` or any other pair of the two, as torch's sparse tensors have them.
    Layers of refnet give whole gradients; those of an embedding's rows are

        rows = np.unique(indices)
        optimizer.step({"weight": SparseGradient(rows, grads["weight"][rows])})

    State: `step` (t, a 0-d array of float32; a number in torch), `exp_avg` (m), `exp_avg_sq` (v).

    Args:
        params: as for every `Optimizer`; none without axes.
        lr, betas, eps: as above, lr and eps above 0. A float means its exact binary64 value.
        maximize: ascend instead of descend.
    """

    options: ClassVar[Mapping[str, Check]] = {
        "lr": _positive,
        "betas": _check.decays,
        "eps": _positive,
        "maximize": _check.flag,
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
        maximize: bool = False,
    ) -> None:
        super().__init__(params, dict(zip(self.options, (lr, betas, eps, maximize), strict=True)))

    def admit(self, name: str, P: Array) -> None:
        if getattr(P, "ndim", 1) == 0:
            raise ValueError(f"SparseAdam: expected {name} to have an axis for the indices, got shape ()")

    def check_gradient(self, name: str, P: Array, G: Any) -> None:
        if not isinstance(G, tuple) or len(G) != 2:
            raise TypeError(
                f"SparseAdam: expected a SparseGradient(indices, values) of {name}, got {type(G).__name__}; "
                "for whole gradients there is Adam"
            )
        SparseGradient(*G).check("SparseAdam", name, P)

    def update(self, name: str, P: Array, G: Any, group: Mapping[str, Any]) -> None:
        alpha, eps = special.lift(group["lr"], P), special.lift(group["eps"], P)
        beta1, beta2 = group["betas"]
        state, t = self.counted(name, P, group)
        sparse = SparseGradient(*G)
        if not sparse.values.size:
            return
        places, rows, D = sparse.coalesced(tuple(P.shape))
        G = -D if group["maximize"] else D
        M, V = (self.rows_of(state[key], rows, G) for key in ("exp_avg", "exp_avg_sq"))
        # m[r,.] = beta1 m[r,.] + (1 - beta1) g[r,.]
        M = self.moving_average(M, beta1, G)
        # v[r,.] = beta2 v[r,.] + (1 - beta2) g[r,.]^2
        V = self.moving_average_of_squares(V, beta2, G)
        C1, C2 = self.correction(beta1, t, P), self.correction(beta2, t, P)
        # theta[r,.] = theta[r,.] - alpha sqrt(1 - beta2^t) / (1 - beta1^t) m[r,.] / (sqrt(v[r,.]) + eps)
        W = self.rows_of(P, rows, G) - alpha * self.quotient(M, V, C1, C2, eps)
        slices = (len(rows), *P.shape[sparse.axes() :])
        for whole, made in ((state["exp_avg"], M), (state["exp_avg_sq"], V), (P, W)):
            whole[places] = made.reshape(slices)

    def quotient(self, M: Array, V: Array, C1: Array, C2: Array, eps: Array) -> Array:
        """sqrt(C2) / C1 m[r,.] / (sqrt(v[r,.]) + eps)"""
        return np.sqrt(C2) / C1 * (M / (np.sqrt(V) + eps))

    def rows_of(self, X: Array, rows: Array, like: Array) -> Array:
        """Some slices of X, as rows."""
        return special.gather(X.reshape(X.size // like.shape[-1], like.shape[-1]), rows)
