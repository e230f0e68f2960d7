"""ELU, SELU, CELU."""

from __future__ import annotations

from parity.families.nn.activation.cases import elementwise

# At 0, and on both sides of it.
ZERO = (0.0, -0.0, 1 / 64, -1 / 64, 1.0, -1.0, 0.0, -0.0)

CASES = (
    *elementwise("ELU", {}, {"alpha": 1.5}, {"alpha": -0.25}, kinks=ZERO),
    *elementwise("SELU", kinks=ZERO),
    *elementwise("CELU", {}, {"alpha": 0.75}, {"alpha": -2.0}, {"alpha": 0.3}, kinks=ZERO),
)
