"""Products of float32 matrices as right and as imprecise engines compute them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.precision.summation import Array, rounded

Product = Callable[[Array, Array, np.random.Generator], Array]
Rounding = Callable[[Array], Array]

F32 = np.float32


def to_bfloat16(x: Array) -> Array:
    """To nearest, ties to even, in the bits of float32."""
    bits = np.ascontiguousarray(x, F32).view(np.uint32)
    bits = (bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))) & np.uint32(0xFFFF0000)
    return bits.view(F32)


def to_tf32(x: Array) -> Array:
    bits = np.ascontiguousarray(x, F32).view(np.uint32)
    bits = (bits + (np.uint32(0xFFF) + ((bits >> np.uint32(13)) & np.uint32(1)))) & np.uint32(0xFFFFE000)
    return bits.view(F32)


def to_float16(x: Array) -> Array:
    with np.errstate(over="ignore"):
        return np.asarray(x, F32).astype(np.float16).astype(F32)


def without(bits: int) -> Rounding:
    """Leaves the last bits of float32 away."""
    mask = np.uint32((0xFFFFFFFF << bits) & 0xFFFFFFFF)
    return lambda x: (np.ascontiguousarray(x, F32).view(np.uint32) & mask).view(F32)


def half_away(bits: int) -> Rounding:
    """To nearest, ties away from zero, without the last bits of float32."""
    mask, half = np.uint32((0xFFFFFFFF << bits) & 0xFFFFFFFF), np.uint32(1 << (bits - 1))
    return lambda x: ((np.ascontiguousarray(x, F32).view(np.uint32) + half) & mask).view(F32)


def as_is(x: Array) -> Array:
    return np.asarray(x, F32)


def in_turn(a: Array, b: Array, order: Any, to: Rounding = as_is) -> Array:
    """One term after the other, in the order given, each sum rounded."""
    total = np.zeros((a.shape[0], b.shape[1]), F32)
    for k in order:
        total = to(total + a[:, k, None] * b[k])
    return total


def fused(a: Array, b: Array, order: Any) -> Array:
    """With fused multiply-add: products of float32 are exact in float64, which is rounded once more at most."""
    total = np.zeros((a.shape[0], b.shape[1]), F32)
    for k in order:
        exact: Array = total.astype(np.float64) + a[:, k, None].astype(np.float64) * b[k]
        total = exact.astype(F32)
    return total


def in_blocks_of_16(a: Array, b: Array, to: Rounding) -> Array:
    """Sixteen terms exactly, then added to the accumulator and rounded."""
    total = np.zeros((a.shape[0], b.shape[1]), F32)
    for k in range(0, a.shape[1], 16):
        part = a[:, k : k + 16].astype(np.float64) @ b[k : k + 16].astype(np.float64)
        total = to((total + part).astype(F32))
    return total


def in_pairs(a: Array, b: Array) -> Array:
    parts = [a[:, k, None] * b[k] for k in range(a.shape[1])]
    while len(parts) > 1:
        parts = [parts[k] + parts[k + 1] if k + 1 < len(parts) else parts[k] for k in range(0, len(parts), 2)]
    return np.asarray(parts[0])


def kahan(a: Array, b: Array) -> Array:
    """Compensated summation."""
    total = np.zeros((a.shape[0], b.shape[1]), F32)
    lost = total.copy()
    for k in range(a.shape[1]):
        term = a[:, k, None] * b[k] - lost
        after = total + term
        lost, total = (after - total) - term, after
    return total


def by_torch(a: Array, b: Array, _: Any) -> Array:
    import torch

    return np.asarray((torch.from_numpy(a) @ torch.from_numpy(b)).numpy())


def by_jax(a: Array, b: Array, _: Any) -> Array:
    import jax

    return np.asarray(jax.numpy.matmul(a, b, precision="highest"))


def by_refnet(a: Array, b: Array, _: Any) -> Array:
    from refnet import nn

    layer = nn.Linear(a.shape[1], b.shape[1], bias=False, dtype=F32)
    layer.params["weight"][...] = b.T
    return np.asarray(layer(a))


RIGHT: Mapping[str, Product] = {
    "torch": by_torch,
    "jax": by_jax,
    "refnet": by_refnet,
    "in turn": lambda a, b, _: in_turn(a, b, range(a.shape[1])),
    "in reverse": lambda a, b, _: in_turn(a, b, range(a.shape[1] - 1, -1, -1)),
    "in any order, fused": lambda a, b, draws: fused(a, b, draws.permutation(a.shape[1])),
    "in pairs": lambda a, b, _: in_pairs(a, b),
    "compensated": lambda a, b, _: kahan(a, b),
    "rounded once": lambda a, b, _: (a.astype(np.float64) @ b.astype(np.float64)).astype(F32),
}

ELEVEN, EIGHT = "factors of 11 bits", "factors of 8 bits"


def _factors(to: Rounding) -> Product:
    """Factors are rounded; the sum is the BLAS's, or one term after the other in any order."""

    def product(a: Array, b: Array, draws: np.random.Generator) -> Array:
        if draws.random() < 0.5:
            return np.asarray(to(a) @ to(b))
        return in_turn(to(a), to(b), draws.permutation(a.shape[1]))

    return product


def _sums(to: Rounding) -> Product:
    def product(a: Array, b: Array, draws: np.random.Generator) -> Array:
        return in_turn(a, b, draws.permutation(a.shape[1]), to) if draws.random() < 0.5 else in_blocks_of_16(a, b, to)

    return product


def _detour(a: Array, b: Array, _: Any) -> Array:
    return (a.astype(F32) @ b.astype(F32)).astype(np.float64)


def _detour_of_a_factor(a: Array, b: Array, _: Any) -> Array:
    return rounded(a, 24) @ rounded(b, 24)


IMPRECISE: Mapping[str, tuple[str, Product]] = {
    "TF32 factors": (ELEVEN, _factors(to_tf32)),
    "TF32 factors, ties away": (ELEVEN, _factors(half_away(13))),
    "float16 factors": (ELEVEN, _factors(to_float16)),
    "bfloat16 factors": (EIGHT, _factors(to_bfloat16)),
    "TF32 factors, truncated": (f"{ELEVEN}, truncated", _factors(without(13))),
    "bfloat16 factors, truncated": (f"{EIGHT}, truncated", _factors(without(16))),
    "sums in bfloat16": ("sums in bfloat16", _sums(to_bfloat16)),
    "sums in float16": ("sums in float16", _sums(to_float16)),
    "stored in bfloat16": ("stored in bfloat16", lambda a, b, _: to_bfloat16(a @ b)),
    "stored in float16": ("stored in float16", lambda a, b, _: to_float16(a @ b)),
    "float64 by float32": ("a detour through float32", _detour),
    "float64 with factors in float32": ("factors of 24 bits", _detour_of_a_factor),
}
"""What an engine does, the name that it should get, and its product."""
