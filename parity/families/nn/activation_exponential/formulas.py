"""Other formulas of the exponential units: what cancels near 0, and the slope there."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.families.formula import Variant
from refnet.arithmetic import special
from refnet.nn.activation import ALPHA, SCALE


def _exp_minus_one(module: Any) -> None:
    """An exponential unit with exp(x) - 1 for expm1(x)."""

    def function(X: Any) -> Any:
        a = special.lift(getattr(module, "alpha", ALPHA), X)
        l = special.lift(SCALE if not hasattr(module, "alpha") else 1.0, X)  # noqa: E741
        off = X <= 0
        Z = np.where(off, X, special.lift(0.0, X))
        # Y[.] = l a (exp(X[.]) - 1) where X[.] <= 0, l X[.] elsewhere; of CELU, exp(X[.] / a)
        E = np.exp(Z / a if type(module).__name__ == "CELU" else Z)
        return np.where(off, l * (a * (E - 1)), l * X)

    module.function = function


def _slope_from_expm1(module: Any) -> None:
    def gradient(dY: Any, X: Any) -> Any:
        a = special.lift(getattr(module, "alpha", ALPHA), X)
        l = special.lift(SCALE if not hasattr(module, "alpha") else 1.0, X)  # noqa: E741
        off, celu = X <= 0, type(module).__name__ == "CELU"
        Z = np.where(off, X, special.lift(0.0, X))
        E = np.expm1(Z / a if celu else Z)
        # dX[.] = dY[.] l a (expm1(X[.]) + 1) where X[.] <= 0, dY[.] l elsewhere; of CELU, dY[.] a (...) / a
        D = dY * l * a * (E + 1)
        return np.where(off, D / a if celu else D, dY * l)

    module.gradient = gradient


def _slope_at_zero(module: Any) -> None:
    right = module.gradient
    slope = SCALE if not hasattr(module, "alpha") else 1.0
    # dX[.] = dY[.] l where X[.] = 0, l = 1 but for SELU
    module.gradient = lambda dY, X: np.where(X == 0, dY * special.lift(slope, X), right(dY, X))


WEAKER = (
    Variant(
        "exp(x) - 1",
        "The exponential units without expm1: the difference has few digits where x is near 0.",
        "ONNX: onnx/reference/ops/op_elu.py, op_selu.py, op_celu.py",
        dict.fromkeys(("ELU", "SELU", "CELU"), _exp_minus_one),
    ),
    Variant(
        "expm1(x) + 1 in elu'",
        "The derivative exp(x) from expm1(x), which is near -1 where x is far below 0: the sum has few digits there.",
        "JAX: jax/_src/lax/lax.py, the derivative of expm1; jax/_src/nn/functions.py, elu, selu, celu",
        dict.fromkeys(("ELU", "SELU", "CELU"), _slope_from_expm1),
        ("jax",),
    ),
)

CONVENTIONS = (
    Variant(
        "elu'(0) = 1",
        "The subgradient at the kink from the right; 1.0507... for SELU.",
        "tinygrad/tinygrad#17852; ONNX Runtime: x >= 0",
        dict.fromkeys(("ELU", "SELU"), _slope_at_zero),
    ),
)
