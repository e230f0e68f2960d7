"""Mistakes in RMSprop. Letters as there: g gradient, v and a means, d divisor, b buffer."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.families.optim.rmsprop.formulas import updating
from parity.families.optimizer_faults import common, mistake
from refnet.arithmetic import special


def _centered_in_place(opt: Any, V: Any, A: Any, eps: Any) -> Any:
    if A is not None:
        V[...] = V - A * A
    return np.sqrt(V) + eps


def _divided_late(mu: Any, B: Any, G: Any, D: Any, gamma: Any) -> tuple[Any, Any]:
    B = mu * B + G
    return B, gamma * (B / D)


FAULTS = (
    *common("RMSprop", counted=False),
    mistake(
        "RMSprop",
        "no root",
        "g / (v + eps) against g / (sqrt(v) + eps)",
        "any",
        "kind of bug: square against root",
        updating(divisor=lambda opt, V, A, eps: (V if A is None else V - A * A) + eps),
    ),
    mistake(
        "RMSprop",
        "centered in place",
        "v = v - a^2 in the state against a value of its own",
        "centered, and two steps",
        "UselessToys/Ecosystem_WebUI#383",
        updating(divisor=_centered_in_place),
    ),
    mistake(
        "RMSprop",
        "the mean not squared",
        "sqrt(v - a) against sqrt(v - a^2)",
        "centered",
        "kind of bug: a missing square",
        updating(divisor=lambda opt, V, A, eps: np.sqrt(V if A is None else np.absolute(V - A)) + eps),
    ),
    mistake(
        "RMSprop",
        "divided after the momentum",
        "(mu b + g) / d against mu b + g / d",
        "momentum, and two steps",
        "kind of bug: order of operations",
        updating(momentum=_divided_late),
    ),
    mistake(
        "RMSprop",
        "squares added up",
        "v = alpha v + g^2 against alpha v + (1 - alpha) g^2",
        "any",
        "kind of bug: momentum against a moving average",
        updating(second=lambda V, alpha, G: special.lift(alpha, G) * V + G * G),
    ),
)
