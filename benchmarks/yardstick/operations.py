"""Operations of growing size, whose enclosing and judging is measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from refnet.arithmetic import special

Array = np.ndarray[Any, Any]


def product(a: Any, b: Any) -> Any:
    return a @ b


def attention(q: Any, k: Any, v: Any) -> Any:
    s = (q @ k.mT) * (1 / 8)
    e = np.exp(s - special.shift(s, -1))
    return (e / np.sum(e, axis=-1, keepdims=True)) @ v


def layer_norm(x: Any, w: Any, b: Any) -> Any:
    c = x - np.mean(x, axis=-1, keepdims=True)
    return c / np.sqrt(np.mean(c * c, axis=-1, keepdims=True) + 2.0**-17) * w + b


def mlp(x: Any, w: Any, v: Any) -> Any:
    return np.tanh(x @ w) @ v


def convolution(x: Any, w: Any) -> Any:
    return np.einsum("nchwij,ocij->nohw", sliding_window_view(x, (3, 3), axis=(-2, -1)), w)


Shapes = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Operation:
    """An expression, and the shapes of its arrays at each size."""

    f: Callable[..., Any]
    shapes: Callable[[int], Shapes]
    sizes: tuple[int, ...]

    def arrays(self, size: int, dtype: str) -> tuple[list[Array], Array]:
        """The arrays, and the upstream gradient; of bfloat16 its numbers, in float32."""
        draws = np.random.default_rng([size, len(self.f.__name__)])
        made = [_rounded(draws.standard_normal(shape), dtype) for shape in self.shapes(size)]
        with np.errstate(all="ignore"):
            shape = self.f(*made).shape
        return made, _rounded(draws.standard_normal(shape), dtype)

    def elements(self, size: int) -> int:
        """Of all arrays, the result and its gradient."""
        arrays, g = self.arrays(size, "float32")
        return sum(a.size for a in arrays) + 2 * g.size


def _rounded(a: Array, dtype: str) -> Array:
    if dtype != "bfloat16":
        return a.astype(dtype)
    mantissa, exponent = np.frexp(a)
    return np.ldexp(np.round(mantissa * 2.0**8) / 2.0**8, exponent).astype(np.float32)


OPERATIONS: dict[str, Operation] = {
    "product": Operation(product, lambda n: ((n, n), (n, n)), (32, 64, 128, 256, 512)),
    "attention": Operation(attention, lambda n: ((4, n, 64),) * 3, (16, 32, 64, 128)),
    "LayerNorm": Operation(layer_norm, lambda n: ((n, n), (n,), (n,)), (32, 64, 128, 256, 512)),
    "MLP": Operation(mlp, lambda n: ((n, n), (n, 4 * n), (4 * n, n)), (16, 32, 64, 128)),
    "convolution": Operation(convolution, lambda n: ((2, 8, n, n), (8, 8, 3, 3)), (8, 16, 32)),
}

DTYPES = ("float64", "float32", "bfloat16")
