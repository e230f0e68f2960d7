"""Adafactor: a second moment kept as a product of its rows and columns."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from refnet import _check
from refnet.arithmetic import special
from refnet.nn.module import Array, Params
from refnet.optim.optimizer import Check, Optimizer, Shape, State

Pair = tuple[float | None, float]


def _rows(shape: Shape) -> Shape | None:
    return (*shape[:-1], 1) if len(shape) > 1 else None


def _columns(shape: Shape) -> Shape | None:
    return (*shape[:-2], 1, shape[-1]) if len(shape) > 1 else None


def _unfactored(shape: Shape) -> Shape | None:
    return shape if len(shape) < 2 else None


def _eps(operation: str, name: str, value: Any) -> None:
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise TypeError(f"{operation}: expected {name} to be a pair of numbers, the first or None, got {value!r}")
    for one in value if value[0] is not None else value[1:]:
        _check.not_negative(operation, name, one)


class Adafactor(Optimizer):
    """Descent along the gradient, divided by the root of a running mean of its square that is kept as a column times a
    row, in steps that are in proportion to the parameter.

    For one parameter theta with gradient dtheta, at its t-th step; gamma = `lr`, tau = `beta2_decay`,
    (eps1, eps2) = `eps`, lambda = `weight_decay`, RMS(X) the root of the mean of x^2:

        g_t = dtheta, or -dtheta with `maximize`
        alpha_t = max(eps2, RMS(theta_(t-1))) min(gamma, 1 / sqrt(t))
        theta_t = theta_(t-1) - gamma lambda theta_(t-1)                       where lambda is not 0
        with at least two axes, the last of them i (n rows) and j (m columns):
        r_t[i] = (1 - t^tau) r_(t-1)[i] + t^tau mean_j g_t[i,j]^2              r_0 = 0
        c_t[j] = (1 - t^tau) c_(t-1)[j] + t^tau mean_i g_t[i,j]^2              c_0 = 0
        v_t[i,j] = r_t[i] c_t[j] / max(mean_i r_t[i], eps1)
        otherwise v_t = (1 - t^tau) v_(t-1) + t^tau g_t^2                      v_0 = 0
        u_t = g_t / sqrt(max(v_t, eps1^2))
        theta_t = theta_t - alpha_t u_t / max(1, RMS(u_t) / d)

    Source: N. Shazeer, M. Stern, "Adafactor: adaptive learning rates with sublinear memory cost", ICML 2018, algorithm
    4. There eps1 is added to each g^2 before the means; here, as in torch, it bounds what is divided by. eps1 is the
    distance from 1 to the next number of the parameter's dtype where it is None.

    State: `step` (t, a 0-d array of float32); `row_var` (r) and `col_var` (c), with an axis of size 1 where the mean
    went over; or `variance` (v).

    Args:
        params: as for every `Optimizer`.
        lr, beta2_decay, eps, d, weight_decay: as above. A float means its exact binary64 value.
        maximize: ascend instead of descend.
        foreach: accepted as torch's, and without a meaning here.
    """

    options: ClassVar[Mapping[str, Check]] = {
        "lr": _check.not_negative,
        "beta2_decay": _check.between(-math.inf, 0),
        "eps": _eps,
        "d": _check.between(1, math.inf),
        "weight_decay": _check.not_negative,
        "maximize": _check.flag,
    }
    schema: ClassVar[tuple[State, ...]] = (
        State("step", counter=True, least=0),
        State("row_var", shape=_rows, least=0),
        State("col_var", shape=_columns, least=0),
        State("variance", shape=_unfactored, least=0),
    )

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        beta2_decay: float = -0.8,
        eps: Pair = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params, dict(zip(self.options, (lr, beta2_decay, eps, d, weight_decay, maximize), strict=True))
        )

    def weight(self, T: Array, tau: float) -> Array:
        """t^tau"""
        return np.power(T, tau)

    def mixed(self, V: Array, w: Array, X: Array) -> Array:
        """(1 - w) v[.] + w x[.]"""
        return (1 - w) * V + w * X

    def squares(self, G: Array, eps1: Array) -> Array:
        """g[.]^2"""
        return G * G

    def floored(self, V: Array, eps1: Array) -> Array:
        """max(v[.], eps1^2)"""
        return special.maximum(V, eps1 * eps1)

    def scaled(self, G: Array, state: Params, w: Array, eps1: Array) -> Array:
        """u, with r and c, or v, one step on; w = t^tau."""
        squares = self.squares(G, eps1)
        if G.ndim > 1:
            R, C = state["row_var"], state["col_var"]
            # r[i] = (1 - t^tau) r[i] + t^tau mean_j g[i,j]^2
            R[...] = self.mixed(R, w, special.total(squares, -1, keepdims=True) / G.shape[-1])
            # c[j] = (1 - t^tau) c[j] + t^tau mean_i g[i,j]^2
            C[...] = self.mixed(C, w, special.total(squares, -2, keepdims=True) / G.shape[-2])
            # v[i,j] = r[i] c[j] / max(mean_i r[i], eps1)
            V = R * C / special.maximum(special.total(R, -2, keepdims=True) / G.shape[-2], eps1)
        else:
            V = state["variance"]
            # v[.] = (1 - t^tau) v[.] + t^tau g[.]^2
            V[...] = self.mixed(V, w, squares)
        # u[.] = g[.] / sqrt(max(v[.], eps1^2))
        return G / np.sqrt(self.floored(V, eps1))

    def update(self, name: str, P: Array, G: Array, group: Mapping[str, Any]) -> None:
        given, eps2 = group["eps"]
        eps1 = special.lift(special.epsilon(P, self.stands_for) if given is None else given, P)
        gamma, one = special.lift(group["lr"], P), special.lift(1.0, P)
        state, t = self.counted(name, P, group)
        T = special.lift(t, P)
        # g[.] = dtheta[.], or -dtheta[.]
        G = self.gradient(P, G, group, coupled=False)
        # alpha = max(eps2, RMS(theta)) min(gamma, 1 / sqrt(t))
        alpha = _at_least(_rms(P, P.size), special.lift(eps2, P)) * -special.maximum(-(1 / np.sqrt(T)), -gamma)
        # theta[.] = theta[.] - gamma lambda theta[.]
        self.decay(P, group)
        U = self.scaled(G, state, self.weight(T, group["beta2_decay"]), eps1)
        # theta[.] = theta[.] - alpha u[.] / max(1, RMS(u) / d)
        P[...] = P - alpha / _at_least(_rms(U, P.size) / special.lift(group["d"], P), one) * U


def _at_least(size: Array, least: Array) -> Array:
    """max(least, size) as Python and torch have it, for which a NaN is no larger; a size is not below 0."""
    return np.where(size > special.lift(-1.0, size), special.maximum(size, least), least)


def _rms(X: Array, n: int) -> Array:
    """sqrt(mean x[.]^2), with axes of size 1"""
    if not X.ndim:
        return np.absolute(X)
    squares = special.total(X * X, tuple(range(-X.ndim, 0)), keepdims=True)
    return np.sqrt(squares / max(n, 1))
