"""Other formulas of Adafactor. Letters as there: g gradient, r and c rows and columns, v second moment."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.families.fault import replaced
from parity.families.formula import Patch, Variant


def _step_by_step(opt: Any, right: Any, V: Any, w: Any, X: Any) -> Any:
    # v[.] + w (x[.] - v[.]), or from the other end where that is the nearer one
    return np.where(w < 0.5, V + w * (X - V), X - (X - V) * (1 - w))


def _added_to_squares(opt: Any) -> None:
    replaced("squares", lambda opt, right, G, eps1: G * G + eps1)(opt)
    replaced("floored", lambda opt, right, V, eps1: V)(opt)


ADDED: Patch = _added_to_squares

WEAKER = (
    Variant(
        "v + t^tau (g^2 - v)",
        "The mean as a step towards the square: g^2 - v is rounded.",
        "torch: torch/optim/_adafactor.py, row_var.lerp_(row_mean, one_minus_beta2_t); aten/src/ATen/native/Lerp.h",
        {"Adafactor": replaced("mixed", _step_by_step)},
        ("torch",),
    ),
)

CONVENTIONS = (
    Variant(
        "eps1 added to the squares",
        "The means are of g^2 + eps1, and nothing is bounded by eps1^2.",
        "N. Shazeer, M. Stern, 'Adafactor', ICML 2018, algorithm 4; optax.adafactor; transformers.Adafactor",
        {"Adafactor": ADDED},
        ("jax",),
    ),
)
