"""The losses of element with element, as their pages say it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mpmath import mp, mpf

from parity.families.mpmath_arrays import Array, Index, Module, array_of, reduced, sigmoid_of


def _weight(m: Module, name: str, n: Index) -> Any:
    """The weight of element n, 1 where there are none: <https://docs.pytorch.org/docs/stable/notes/broadcasting.html>."""
    if name not in m.arrays:
        return mpf(1)
    w = m.arrays[name]
    last = n[len(n) - w.ndim :]
    return w[tuple(0 if size == 1 else k for k, size in zip(last, w.shape, strict=True))]


def mse_loss(m: Module, x: Array, y: Array, reduction: str = "mean") -> Array:
    """torch.nn.MSELoss: l_n = (x_n - y_n)²."""
    return reduced(array_of(x.shape, lambda *n: (x[n] - y[n]) ** 2), reduction)


def l1_loss(m: Module, x: Array, y: Array, reduction: str = "mean") -> Array:
    """torch.nn.L1Loss: l_n = |x_n - y_n|."""
    return reduced(array_of(x.shape, lambda *n: abs(x[n] - y[n])), reduction)


def half_squared_error(m: Module, output: Array, target: Array, reduction: str = "sum") -> Array:
    """Not torch's but the article's: E = sum over outputs of 1/2 (target - output)²."""
    return reduced(array_of(output.shape, lambda *n: (target[n] - output[n]) ** 2 / 2), reduction)


def bce_loss(m: Module, x: Array, y: Array, reduction: str = "mean") -> Array:
    """torch.nn.BCELoss: l_n = -w_n [y_n log x_n + (1 - y_n) log(1 - x_n)], where a logarithm below -100 is -100."""

    def log(p: Any) -> Any:
        return max(mp.log(p), mpf(-100)) if p > 0 else mpf(-100)

    return reduced(
        array_of(x.shape, lambda *n: -_weight(m, "weight", n) * (y[n] * log(x[n]) + (1 - y[n]) * log(1 - x[n]))),
        reduction,
    )


def bce_with_logits_loss(m: Module, x: Array, y: Array, reduction: str = "mean") -> Array:
    """torch.nn.BCEWithLogitsLoss: l_n = -w_n [p_n y_n log σ(x_n) + (1 - y_n) log(1 - σ(x_n))]; p is `pos_weight`."""

    def loss(*n: int) -> Any:
        s, p = sigmoid_of(x[n]), _weight(m, "pos_weight", n)
        return -_weight(m, "weight", n) * (p * y[n] * mp.log(s) + (1 - y[n]) * mp.log(1 - s))

    return reduced(array_of(x.shape, loss), reduction)


LAYERS: Mapping[str, Callable[..., Any]] = {
    "MSELoss": mse_loss,
    "L1Loss": l1_loss,
    "HalfSquaredError": half_squared_error,
    "BCELoss": bce_loss,
    "BCEWithLogitsLoss": bce_with_logits_loss,
}
