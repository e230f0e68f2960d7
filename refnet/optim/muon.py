"""Muon: momentum, orthogonalized by Newton-Schulz iterations."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np

from refnet import _check
from refnet.arithmetic import special
from refnet.nn.module import Array
from refnet.optim.optimizer import Check, Optimizer, State


def _coefficients(operation: str, name: str, value: Any) -> None:
    if not isinstance(value, tuple | list) or len(value) != 3:
        raise ValueError(f"{operation}: expected {name} to be three numbers, got {value!r}")
    for one in value:
        _check.number(operation, name, one)


def _steps(operation: str, name: str, value: Any) -> None:
    if _check.size(operation, name, value) >= 100:
        raise ValueError(f"{operation}: expected {name} to be less than 100, got {value!r}")


def _adjustment(operation: str, name: str, value: Any) -> None:
    if value is not None:
        _check.one_of(operation, name, value, ("original", "match_rms_adamw"))


class Muon(Optimizer):
    """Descent of matrices along a momentum whose singular values are all made about 1.

    For one parameter theta of n rows and m columns with gradient g, at its t-th step; gamma = `lr`, mu = `momentum`,
    lambda = `weight_decay`, (a, b, c) = `ns_coefficients`, k = `ns_steps`:

        B_t = mu B_(t-1) + (1 - mu) g_t                      B_0 = 0
        X = mu B_t + (1 - mu) g_t with `nesterov`, else B_t; transposed where n > m
        X = X / max(|X|, eps)                                |X| the root of the sum of x^2
        k times:  A = X X^T,  X = a X + (b A + c A A) X;     transposed back where n > m
        theta_t = theta_(t-1) - gamma lambda theta_(t-1)     where lambda is not 0
        theta_t = theta_t - s gamma X
        s = sqrt(max(1, n / m)) with `adjust_lr_fn` None or "original", 0.2 sqrt(max(n, m)) with "match_rms_adamw"

    Source: K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024
    (kellerjordan.github.io/posts/muon); J. Liu et al., "Muon is scalable for LLM training", arXiv:2502.16982, for
    "match_rms_adamw". torch's documentation writes B_t = mu B_(t-1) + g_t; its code computes the mean above, as
    Jordan's does. torch carries out the iterations in bfloat16 whatever the dtype; here they are in that of the
    parameter.

    State: `momentum_buffer` (B).

    Args:
        params: as for every `Optimizer`; each has two axes.
        lr, weight_decay, momentum, ns_coefficients, eps: as above. A float means its exact binary64 value.
        nesterov, ns_steps, adjust_lr_fn: as above.
    """

    options: ClassVar[Mapping[str, Check]] = {
        "lr": _check.not_negative,
        "weight_decay": _check.not_negative,
        "momentum": _check.not_negative,
        "nesterov": _check.flag,
        "ns_coefficients": _coefficients,
        "eps": _check.number,
        "ns_steps": _steps,
        "adjust_lr_fn": _adjustment,
    }
    schema: ClassVar[tuple[State, ...]] = (State("momentum_buffer"),)

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
    ) -> None:
        values = (lr, weight_decay, momentum, nesterov, ns_coefficients, eps, ns_steps, adjust_lr_fn)
        super().__init__(params, dict(zip(self.options, values, strict=True)))

    def admit(self, name: str, P: Array) -> None:
        if getattr(P, "ndim", 2) != 2:
            raise ValueError(f"Muon: expected {name} to be a matrix, got shape {tuple(P.shape)}")

    def normalized(self, X: Array, group: Mapping[str, Any]) -> Array:
        """x[i,j] / max(|x|, eps)"""
        # |x| = sqrt(sum_ij x[i,j]^2)
        size = np.sqrt(special.total(X * X, (-2, -1), keepdims=True))
        # x[i,j] = x[i,j] / max(|x|, eps)
        return X / special.maximum(size, special.lift(group["eps"], X))

    def orthogonalized(self, X: Array, group: Mapping[str, Any]) -> Array:
        """Newton-Schulz iterations."""
        a, b, c = (special.lift(value, X) for value in group["ns_coefficients"])
        X = self.normalized(X, group)
        tall = X.shape[-2] > X.shape[-1]
        if tall:
            X = X.mT
        for _ in range(group["ns_steps"]):
            # a[i,k] = sum_j x[i,j] x[k,j]
            A = special.product(X, X.mT)
            # x[i,j] = a x[i,j] + sum_k (b a[i,k] + c sum_l a[i,l] a[l,k]) x[k,j]
            X = a * X + special.product(b * A + c * special.product(A, A), X)
        return X.mT if tall else X

    def update(self, name: str, P: Array, G: Array, group: Mapping[str, Any]) -> None:
        gamma, (rows, columns) = special.lift(group["lr"], P), P.shape
        B = self.kept(name, P, group)["momentum_buffer"]
        # b[i,j] = mu b[i,j] + (1 - mu) g[i,j]
        B[...] = self.moving_average(B, group["momentum"], G)
        # x[i,j] = mu b[i,j] + (1 - mu) g[i,j], or b[i,j]
        X = self.moving_average(B, group["momentum"], G) if group["nesterov"] else B
        X = self.orthogonalized(X, group)
        # theta[i,j] = theta[i,j] - gamma lambda theta[i,j]
        self.decay(P, group)
        # theta[i,j] = theta[i,j] - s gamma x[i,j]
        P[...] = P - gamma * self.scale(rows, columns, group, P) * X

    def scale(self, rows: int, columns: int, group: Mapping[str, Any], P: Array) -> Array:
        """s"""
        if group["adjust_lr_fn"] == "match_rms_adamw":
            # s = 0.2 sqrt(max(n, m))
            return special.lift(0.2, P) * np.sqrt(special.lift(float(max(rows, columns)), P))
        # s = sqrt(max(1, n / m))
        return np.sqrt(special.lift(Fraction(max(rows, columns), columns) if columns else 1.0, P))
