"""Mistakes in Adafactor. Letters as there: g gradient, r and c rows and columns, v second moment, u step."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.families.optimizer_faults import common, mistake, otherwise
from refnet.arithmetic import special


def _not_relative(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
    Q = P.copy()
    right(name, Q, G, group)
    size = np.sqrt(special.total(P * P, tuple(range(-P.ndim, 0)), keepdims=True) / P.size) if P.ndim else np.absolute(P)
    alpha = special.maximum(size, special.lift(group["eps"][1], P))
    # theta[.] - rho_t u[.] / max(1, RMS(u) / d)
    P[...] = P + (Q - P) / alpha


def _eps_not_squared(opt: Any, right: Any, V: Any, eps1: Any) -> Any:
    return special.maximum(V, eps1)


def _no_root(opt: Any, right: Any, V: Any, eps1: Any) -> Any:
    V = right(V, eps1)
    return V * V


def _magnitudes(opt: Any, right: Any, G: Any, eps1: Any) -> Any:
    return np.absolute(G)


def _exchanged(opt: Any, right: Any, V: Any, w: Any, X: Any) -> Any:
    return w * V + (1 - w) * X


FAULTS = (
    *common("Adafactor", decoupled=True),
    mistake(
        "Adafactor",
        "step not clipped",
        "u against u / max(1, RMS(u) / d)",
        "a step larger than d",
        "kind of bug: an option ignored",
        otherwise(d=1e6),
    ),
    mistake(
        "Adafactor",
        "step not relative",
        "rho_t against max(eps2, RMS(theta)) rho_t",
        "any",
        "kind of bug: a missing factor",
        _not_relative,
    ),
    mistake(
        "Adafactor",
        "eps1 not squared",
        "max(v, eps1) against max(v, eps1^2)",
        "a gradient about as small as eps1",
        "kind of bug: a missing square",
        _eps_not_squared,
        "floored",
    ),
    mistake(
        "Adafactor",
        "no root",
        "g / v against g / sqrt(v)",
        "any",
        "kind of bug: square against root",
        _no_root,
        "floored",
    ),
    mistake(
        "Adafactor",
        "means of magnitudes",
        "|g| against g^2",
        "any",
        "kind of bug: a missing square",
        _magnitudes,
        "squares",
    ),
    mistake(
        "Adafactor",
        "weights exchanged",
        "t^tau v + (1 - t^tau) g^2 against (1 - t^tau) v + t^tau g^2",
        "any",
        "kind of bug: momentum against a moving average",
        _exchanged,
        "mixed",
    ),
)
