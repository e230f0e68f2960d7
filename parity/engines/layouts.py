"""The same array in another memory layout, as real programs hand them to kernels; and upstream gradients of other
values."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.engines import function_call

INPUTS = ("transposed", "sliced", "expanded", "negative stride", "channels last")
"""What is done to an input. An expanded one repeats its first row, and has other values."""

SEEDS = (
    "transposed",
    "sliced",
    "negative stride",
    "channels last",
    "expanded",
    "one number expanded",
    "one-hot",
    "zero",
)
"""What is done to an upstream gradient. One number expanded to all elements is what `y.sum().backward()` sends."""

VALUES = ("expanded", "one number expanded", "one-hot", "zero")
"""Of these, those that have other values, in every framework."""


def laid_out(x: Any, layout: str) -> Any:
    """The array in another memory layout; None where its framework or its shape has none such."""
    framework = function_call.framework([x])
    if framework == "jax" or x.ndim == 0 or 0 in x.shape:
        return None
    x = x.detach() if framework == "torch" else x
    match layout:
        case "transposed":
            return _contiguous(x.mT).mT if x.ndim > 1 else None
        case "sliced":
            return (x.repeat_interleave(2, -1) if framework == "torch" else np.repeat(x, 2, -1))[..., ::2]
        case "expanded":
            return _expanded(x[:1], x.shape)
        case "one number expanded":
            return _expanded(x[(0,) * x.ndim], x.shape)
        case "negative stride":
            # torch has none.
            return _contiguous(x[::-1])[::-1] if framework == "numpy" else None
        case "channels last" if x.ndim in (4, 5):
            axes = (0, *range(2, x.ndim), 1)
            back = (0, x.ndim - 1, *range(1, x.ndim - 1))
            if framework == "torch":
                return x.permute(axes).contiguous().permute(back)
            return _contiguous(x.transpose(axes)).transpose(back)
    return None


def sent(seed: Any, layout: str) -> Any:
    """An upstream gradient in that layout, or as it is where it has none such."""
    other = laid_out(seed, layout)
    return seed if other is None else other


def values_of_seed(seed: Any, layout: str) -> Any:
    """The values of an upstream gradient (NumPy's) that is then laid out so."""
    match layout:
        case "zero":
            return np.zeros_like(seed)
        case "one-hot":
            flat = np.zeros_like(seed).reshape(-1)
            # Not 1, which a kernel that leaves the factor out would pass.
            flat[flat.size // 2 : flat.size // 2 + 1] = -1.5
            return flat.reshape(seed.shape)
        case "expanded" | "one number expanded":
            other = laid_out(seed, layout)
            return seed if other is None else np.array(other)
    return seed


def _expanded(x: Any, shape: tuple[int, ...]) -> Any:
    return x.expand(shape) if hasattr(x, "expand") else np.broadcast_to(x, shape)


def _contiguous(x: Any) -> Any:
    return x.contiguous() if hasattr(x, "contiguous") else np.ascontiguousarray(x)
