"""Other formulas of the activations made of straight lines: the slopes at their kinks, and what cancels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from parity.families.formula import Patch, Variant
from refnet.arithmetic import special

Kinks = Callable[[Any, Any], tuple[Any, ...]]


def _slopes(kinks: Kinks, slopes: Callable[[Any], tuple[float, ...]]) -> Patch:
    """Other slopes at the kinks of a module, in their order."""

    def patch(module: Any) -> None:
        right = module.gradient

        def gradient(dY: Any, X: Any) -> Any:
            dX = right(dY, X)
            for kink, slope in zip(kinks(module, X), slopes(module), strict=True):
                # dX[.] = slope dY[.] where X[.] = kink
                dX = np.where(kink == X, special.lift(slope, X) * dY, dX)
            return dX

        module.gradient = gradient

    return patch


def _always(*slopes: float) -> Callable[[Any], tuple[float, ...]]:
    return lambda module: slopes


def _at(*kinks: float) -> Kinks:
    return lambda module, X: kinks


def _prelu_at_zero(module: Any) -> None:
    right = module.backward

    def backward(dY: Any, saved: Any) -> Any:
        X = saved.X
        dX, grads = right(dY, saved)
        # dX[.] = dY[.] where X[.] = 0
        return np.where(X == 0, dY, dX), grads

    module.backward = backward


def _thirds(module: Any) -> None:
    def gradient(dY: Any, X: Any) -> Any:
        # dX[.] = dY[.] (X[.] / 3 + 1 / 2) between the kinks
        return np.where(X <= -3, 0, np.where(X < 3, dY * (X / 3 + 0.5), dY))

    module.gradient = gradient


def _threshold(module: Any, X: Any) -> tuple[Any, ...]:
    return (special.lift(module.threshold, X),)


def _bounds(module: Any, X: Any) -> tuple[Any, ...]:
    return special.lift(module.min_val, X), special.lift(module.max_val, X)


def _lambd(module: Any, X: Any) -> tuple[Any, ...]:
    return special.lift(module.lambd, X), special.lift(-module.lambd, X)


WEAKER = (
    Variant(
        "x / 3 + 1/2",
        "The derivative of Hardswish by terms: the rounding of x / 3 stays where the sum is near 0, about x = -3/2.",
        "torch: aten/src/ATen/native/cpu/Activation.cpp, hardswish_backward_kernel",
        {"Hardswish": _thirds},
        ("torch",),
    ),
)

CONVENTIONS = (
    Variant(
        "leaky relu'(0) = 1",
        "The subgradient at the kink from the right.",
        "JAX: jax/_src/nn/functions.py, leaky_relu: x >= 0; ONNX's PRelu",
        {"LeakyReLU": _slopes(_at(0), _always(1.0)), "PReLU": _prelu_at_zero},
    ),
    Variant(
        "relu6' = 1/2 at 0 and 6",
        "The subgradients at the kinks that split the ties of min(max(x, 0), 6), and what follows from them.",
        "JAX: jax/_src/nn/functions.py, relu6, hard_sigmoid, hard_silu; tinygrad/tinygrad#18029",
        {
            "ReLU6": _slopes(_at(0, 6), _always(0.5, 0.5)),
            "Hardtanh": _slopes(_bounds, _always(0.5, 0.5)),
            "Hardsigmoid": _slopes(_at(-3, 3), _always(1 / 12, 1 / 12)),
            "Hardswish": _slopes(_at(-3, 3), _always(-0.25, 1.25)),
        },
    ),
    Variant(
        "hardtanh' = 1 at its bounds",
        "The subgradient at a bound as inside, that of a clamp in torch.",
        "JAX: jax/_src/nn/functions.py, hard_tanh; torch.clamp",
        {"Hardtanh": _slopes(_bounds, _always(1.0, 1.0)), "ReLU6": _slopes(_at(0, 6), _always(1.0, 1.0))},
    ),
    Variant(
        "hardswish'(-3) = -1/2, hardswish'(3) = 3/2",
        "The derivative of the middle piece at its ends, too.",
        "torch before 2.8: pytorch/pytorch#147801; BobMcDear/attorch#16",
        {"Hardswish": _slopes(_at(-3, 3), _always(-0.5, 1.5))},
    ),
    Variant(
        "the slope at a threshold is 1",
        "The derivative from the outside where a shrink or a threshold begins.",
        "a choice of x >= l for x > l",
        {
            "Hardshrink": _slopes(_lambd, _always(1.0, 1.0)),
            "Softshrink": _slopes(_lambd, _always(1.0, 1.0)),
            "Threshold": _slopes(_threshold, _always(1.0)),
        },
    ),
)

NO_OTHER: Mapping[str, str] = {}
