"""torch.nn.Linear, as its page says it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mpmath import mp, mpf

from parity.families.mpmath_arrays import Array, Module, array_of


def _linear(m: Module, x: Array, in_features: int, out_features: int, bias: bool = True) -> Array:
    """torch.nn.Linear: y = x Aᵀ + b, where A is `weight`, of shape (out_features, in_features)."""
    A, b = m.arrays["weight"], m.arrays["bias"] if bias else array_of((out_features,), lambda o: mpf(0))

    def y(*index: int) -> Any:
        *n, o = index
        return mp.fsum(x[*n, i] * A[o, i] for i in range(in_features)) + b[o]

    return array_of((*x.shape[:-1], out_features), y)


LAYERS: Mapping[str, Callable[..., Any]] = {
    "Linear": _linear,
}
