"""Layers that only hand on or reshape, as their pages say it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from parity.families.mpmath_arrays import Array, Module, array_of


def identity(m: Module, x: Array) -> Array:
    """torch.nn.Identity: the input."""
    return x


def flatten(m: Module, x: Array, start_dim: int = 1, end_dim: int = -1) -> Array:
    """torch.flatten, torch.nn.Flatten: dimensions start to end become one, and the order of the elements stays."""
    if x.ndim == 0:
        return x.reshape(1)
    start, end = start_dim % x.ndim, end_dim % x.ndim
    size = math.prod(x.shape[start : end + 1])
    elements = iter([x[i] for i in np.ndindex(*x.shape)])
    return array_of((*x.shape[:start], size, *x.shape[end + 1 :]), lambda *i: next(elements))


LAYERS: Mapping[str, Callable[..., Any]] = {
    "Identity": identity,
    "Flatten": flatten,
}
