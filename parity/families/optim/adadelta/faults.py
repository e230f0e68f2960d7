"""Mistakes in Adadelta. Letters as there: g gradient, v and u means of squares, x step."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.families.optimizer_faults import common, mistake
from refnet.arithmetic import special


def _updating(
    ratio: Any = lambda U, V, eps: np.sqrt(U + eps) / np.sqrt(V + eps),
    kept: Any = lambda G, X, gamma: X,
) -> Any:
    def update(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
        gamma, eps = special.lift(group["lr"], P), special.lift(group["eps"], P)
        state, _ = opt.counted(name, P, group)
        V, U = state["square_avg"], state["acc_delta"]
        G = opt.gradient(P, G, group)
        V[...] = opt.moving_average_of_squares(V, group["rho"], G)
        X = ratio(U, V, eps) * G
        U[...] = opt.moving_average_of_squares(U, group["rho"], kept(G, X, gamma))
        P[...] = P - gamma * X

    return update


def _rho_exchanged(opt: Any, right: Any, name: str, P: Any, G: Any, group: Any) -> None:
    right(name, P, G, group | {"rho": 1 - group["rho"]})


FAULTS = (
    *common("Adadelta", counted=False),
    mistake(
        "Adadelta",
        "eps outside the roots",
        "(sqrt(u) + eps) / (sqrt(v) + eps) against sqrt(u + eps) / sqrt(v + eps)",
        "any",
        "kind of bug: eps placement",
        _updating(ratio=lambda U, V, eps: (np.sqrt(U) + eps) / (np.sqrt(V) + eps)),
    ),
    mistake(
        "Adadelta",
        "no roots",
        "(u + eps) / (v + eps) against the quotient of the roots",
        "any",
        "kind of bug: square against root",
        _updating(ratio=lambda U, V, eps: (U + eps) / (V + eps)),
    ),
    mistake(
        "Adadelta",
        "the mean of gradients for that of steps",
        "u of g^2 against u of x^2",
        "two steps",
        "kind of bug: another variable",
        _updating(kept=lambda G, X, gamma: G),
    ),
    mistake(
        "Adadelta",
        "the rate in the mean",
        "u of (gamma x)^2 against u of x^2",
        "a rate other than 1, and two steps",
        "kind of bug: the rate inside or outside",
        _updating(kept=lambda G, X, gamma: gamma * X),
    ),
    mistake(
        "Adadelta",
        "rho exchanged",
        "(1 - rho) v + rho g^2 against rho v + (1 - rho) g^2",
        "a rho other than 1/2",
        "kind of bug: momentum against a moving average",
        _rho_exchanged,
    ),
)
