"""Other subgradients of RReLU."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.families.formula import Variant


def _at_zero(module: Any) -> None:
    right = module.backward

    def backward(dY: Any, saved: Any) -> Any:
        dX, grads = right(dY, saved)
        # dX[.] = dY[.] where X[.] = 0; the slopes' gradient is 0 there either way
        own, *others = dX if saved.given else (dX,)
        own = np.where(saved.X == 0, dY, own)
        return ((own, *others) if saved.given else own), grads

    module.backward = backward


CONVENTIONS = (
    Variant(
        "rrelu'(0) = 1",
        "The subgradient at the kink from the right.",
        "torch's documentation of RReLU: x where x >= 0; its kernels have the slope there",
        {"RReLU": _at_zero},
    ),
)
