"""Other formulas of Adafactor. Letters as there: g gradient, r and c rows and columns, v second moment, u step."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.families.fault import replaced
from parity.families.formula import Patch, Variant
from parity.families.optim.common.formulas import in_float32
from refnet.arithmetic import special
from refnet.arithmetic.runs import Runs


def _added_to_squares(opt: Any) -> None:
    replaced("squares", lambda opt, right, G, eps1: G * G + eps1)(opt)
    replaced("floored", lambda opt, right, V, eps1: V)(opt)


ADDED: Patch = _added_to_squares


def _weight_in_float32(opt: Any, right: Any, T: Any, tau: float) -> Any:
    return power_in_float32(right(T, tau), T, tau)


def power_in_float32(w: Any, T: Any, tau: float) -> Any:
    """t^tau computed in float32; in exact arithmetic it stays."""
    if isinstance(w, Runs):
        return Runs(power_in_float32(w.a, T.a, tau))
    if hasattr(w, "profile"):
        if w.profile.storage.u >= 2.0**-24:
            return w
        # Rounding tau moves the exponent tau ln t by half a unit, and x^p is off by two units in the last of 24 bits;
        # 1^p is 1 (C99, F.9.4.4).
        relative = np.expm1(abs(tau) * np.log(T.x) * 2.0**-24) + 2 * 2.0**-23
        return type(w).exact(w.x, w.profile, np.where(T.x == 1, 0.0, w.e + relative * (abs(w.x) + w.e)))
    if w.dtype == object:
        return w
    return np.asarray(np.power(np.float32(T), np.float32(tau)), w.dtype)


def _mixed_in_float32(opt: Any, right: Any, V: Any, w: Any, X: Any) -> Any:
    # d = 1 - t^tau
    D = in_float32(1 - w)
    # v[.] = d v[.] + (1 - d) x[.]
    return D * V + in_float32(1 - D) * X


def _decay_in_float32(opt: Any) -> None:
    replaced("weight", _weight_in_float32)(opt)
    replaced("mixed", _mixed_in_float32)(opt)


def _scaled_in_two(opt: Any, right: Any, G: Any, state: Any, w: Any, eps1: Any) -> Any:
    # g[.]^2 + eps1^2
    squares = opt.squares(G, eps1) + eps1 * eps1
    if G.ndim < 2:
        V = state["variance"]
        V[...] = opt.mixed(V, w, squares)
        # u[.] = g[.] v[.]^(-1/2)
        return G * np.power(V, -0.5)
    for key, axis in (("row_var", -1), ("col_var", -2)):
        mean = special.total(squares, axis, keepdims=True) / G.shape[axis]
        state[key][...] = opt.mixed(state[key], w, mean)
    R, C = state["row_var"], state["col_var"]
    if G.shape[-2] <= G.shape[-1]:
        # u[i,j] = g[i,j] (r[i] / mean_i r[i])^(-1/2) c[j]^(-1/2)
        return G * np.power(R / (special.total(R, -2, keepdims=True) / G.shape[-2]), -0.5) * np.power(C, -0.5)
    # u[i,j] = g[i,j] (c[j] / mean_j c[j])^(-1/2) r[i]^(-1/2), which is the same
    return G * np.power(C / (special.total(C, -1, keepdims=True) / G.shape[-1]), -0.5) * np.power(R, -0.5)


def _of_optax(opt: Any) -> None:
    _decay_in_float32(opt)
    replaced("scaled", _scaled_in_two)(opt)


WEAKER = (
    Variant(
        "1 - t^tau in float32",
        "The weights of the running mean, d = 1 - t^tau and 1 - d, in float32 for parameters in float64 too: from the "
        "second step on state and updates have 7 digits.",
        "optax: optax/_src/factorized.py, _decay_rate_pow, t = jnp.array(i + 1, jnp.float32)",
        {"Adafactor": _decay_in_float32},
        ("jax",),
        ("float64",),
    ),
)

CONVENTIONS = (
    Variant(
        "eps1 added to the squares",
        "The means are of g^2 + eps1, and nothing is bounded by eps1^2.",
        "N. Shazeer, M. Stern, 'Adafactor', ICML 2018, algorithm 4; transformers.Adafactor",
        {"Adafactor": ADDED},
    ),
    Variant(
        "eps1^2 added to the squares",
        "The means are of g^2 + eps1^2, and nothing is bounded by eps1 or eps1^2: the algorithm of the paper, whose "
        "epsilon is eps1^2. It differs where a mean of squares is about as small as eps1. The weights of the means are "
        "in float32.",
        "optax.adafactor(eps=eps1**2): optax.scale_by_factored_rms",
        {"Adafactor": _of_optax},
        ("jax",),
    ),
)
