"""Other formulas of the activations: derivatives from a rounded output, and the slope of ReLU at 0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from parity.families.formula import Patch, Variant
from refnet.arithmetic import special


def _sigmoid_from_output(module: Any) -> None:
    def backward(dY: Any, saved: Any) -> Any:
        Y, _ = saved
        # dX[.] = dY[.] (1 - Y[.]) Y[.]
        return dY * ((1 - Y) * Y), {}

    module.backward = backward


def _tanh_from_output(module: Any) -> None:
    def backward(dY: Any, saved: Any) -> Any:
        Y = np.tanh(saved.X)
        # dX[.] = dY[.] (1 - Y[.]^2)
        return dY * (1 - Y * Y), {}

    module.backward = backward


def _sigmoid_through_tanh(module: Any) -> None:
    def forward(X: Any) -> Any:
        # Y[.] = 1/2 + 1/2 tanh(X[.] / 2)
        Y = 0.5 + 0.5 * np.tanh(0.5 * X)
        return Y, (Y, special.sigmoid(-X))

    module.forward = forward


def _relu_at_zero(slope: float) -> Patch:
    def patch(module: Any) -> None:
        def forward(X: Any) -> Any:
            on = X > 0
            return np.where(on, X, 0), (on, X == 0)

        def backward(dY: Any, saved: Any) -> Any:
            on, tie = saved
            # dX[.] = dY[.] ([X[.] > 0] + slope [X[.] = 0])
            return np.where(on, dY, np.where(tie, slope * dY, 0)), {}

        module.forward, module.backward = forward, backward

    return patch


WEAKER = (
    Variant(
        "y(1 - y)",
        "The sigmoid's derivative from its rounded output: 1 - y has lost its digits where y is near 1.",
        "torch: tools/autograd/derivatives.yaml, sigmoid_backward",
        {"Sigmoid": _sigmoid_from_output},
        ("torch", "jax"),
    ),
    Variant(
        "1 - y^2",
        "The derivative of tanh from its rounded output: 1 - y^2 has lost its digits where |y| is near 1.",
        "torch: tools/autograd/derivatives.yaml, tanh_backward",
        {"Tanh": _tanh_from_output},
        ("torch", "jax"),
    ),
    Variant(
        "(1 + tanh(x/2)) / 2",
        "The sigmoid through tanh: where x is far below 0 the two halves cancel.",
        "XLA: xla/service/logistic_expander.cc, ExpandLogisticWithTanh",
        {"Sigmoid": _sigmoid_through_tanh},
        ("jax",),
    ),
)

CONVENTIONS = (
    Variant(
        "relu'(0) = 1/2",
        "The subgradient at the kink that splits the tie of max(x, 0).",
        "JAX: jax-ml/jax issue 2342, the gradient of jnp.maximum at a tie",
        {"ReLU": _relu_at_zero(0.5)},
    ),
    Variant(
        "relu'(0) = 1",
        "The subgradient at the kink from the right.",
        "a choice of x >= 0 for x > 0",
        {"ReLU": _relu_at_zero(1.0)},
    ),
)

NO_OTHER: Mapping[str, str] = {
    "Softmax": "torch and JAX take off the maximum too, and no other formula is known in use",
    "LogSoftmax": "torch and JAX take off the maximum too, and no other formula is known in use",
}
