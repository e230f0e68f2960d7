"""torch.nn.Dropout, as its page says it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mpmath import mpf

from parity.families.mpmath_arrays import Array, Module, array_of


def _dropout(m: Module, x: Array, mask: Array | None = None, p: float = 0.5) -> Array:
    """torch.nn.Dropout, with a given draw of what is kept: the rest is 0, and what is kept is scaled by 1 / (1 - p).

    In evaluation it is the identity. With p = 1 there is nothing that could have been kept.
    """
    if not m.training:
        return x
    assert mask is not None, "dropout: expected a mask in training, got none"
    return array_of(x.shape, lambda *i: x[i] / (1 - mpf(p)) if mask[i] and p < 1 else mpf(0))


LAYERS: Mapping[str, Callable[..., Any]] = {
    "Dropout": _dropout,
}
