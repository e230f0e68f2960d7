"""Other formulas of Adafactor. Letters as there: g gradient, r and c rows and columns, v second moment."""

from __future__ import annotations

from typing import Any

from parity.families.fault import replaced
from parity.families.formula import Patch, Variant


def _added_to_squares(opt: Any) -> None:
    replaced("squares", lambda opt, right, G, eps1: G * G + eps1)(opt)
    replaced("floored", lambda opt, right, V, eps1: V)(opt)


ADDED: Patch = _added_to_squares

CONVENTIONS = (
    Variant(
        "eps1 added to the squares",
        "The means are of g^2 + eps1, and nothing is bounded by eps1^2.",
        "N. Shazeer, M. Stern, 'Adafactor', ICML 2018, algorithm 4; optax.adafactor; transformers.Adafactor",
        {"Adafactor": ADDED},
        ("jax",),
    ),
)
