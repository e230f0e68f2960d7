"""torch.nn.Conv2d, as its page says it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mpmath import mp, mpf

from parity.families.mpmath_arrays import Array, Index, Module, array_of

Pair = int | tuple[int, int]


def conv_2d(
    m: Module,
    x: Array,
    in_channels: int,
    out_channels: int,
    kernel_size: Pair,
    stride: Pair = 1,
    padding: Pair | str = 0,
    dilation: Pair = 1,
    groups: int = 1,
    bias: bool = True,
    padding_mode: str = "zeros",
) -> Array:
    """torch.nn.Conv2d, of (N, C, H, W) or (C, H, W).

    An output channel is its bias plus the sum, over the input channels of its group, of their cross-correlations with
    its kernels. Modes of padding are those of torch.nn.ReflectionPad2d, torch.nn.ReplicationPad2d and
    torch.nn.CircularPad2d. Of padding="same" the pages say that the output has the input's shape, not which side gets
    the odd row or column: it is the far one, as torch does it.
    """
    (K, L), (s, r), (d, e) = _pair(kernel_size), _pair(stride), _pair(dilation)
    spans = (d * (K - 1), e * (L - 1))
    if isinstance(padding, str):
        totals = {"valid": (0, 0), "same": spans}[padding]
        before = (totals[0] // 2, totals[1] // 2)
    else:
        before = _pair(padding)
        totals = (2 * before[0], 2 * before[1])
    H, W = x.shape[-2:]
    height = (H + totals[0] - spans[0] - 1) // s + 1
    width = (W + totals[1] - spans[1] - 1) // r + 1
    A, b = m.arrays["weight"], m.arrays["bias"] if bias else array_of((out_channels,), lambda o: mpf(0))
    ins, outs = in_channels // groups, out_channels // groups

    def pixel(n: Index, c: int, h: int, w: int) -> Any:
        h, w = _source(h, H, padding_mode), _source(w, W, padding_mode)
        return mpf(0) if h < 0 or w < 0 else x[*n, c, h, w]

    def y(*index: int) -> Any:
        *n, o, h, w = index
        first = o // outs * ins
        return b[o] + mp.fsum(
            A[o, c, u, v] * pixel(tuple(n), first + c, h * s + u * d - before[0], w * r + v * e - before[1])
            for c in range(ins)
            for u in range(K)
            for v in range(L)
        )

    return array_of((*x.shape[:-3], out_channels, height, width), y)


def _pair(value: Pair) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def _source(i: int, size: int, mode: str) -> int:
    """Which of `size` elements is at place i, which may lie outside; -1 is a zero."""
    if 0 <= i < size:
        return i
    if mode == "reflect":
        return -i if i < 0 else 2 * (size - 1) - i
    if mode == "replicate":
        return 0 if i < 0 else size - 1
    return i % size if mode == "circular" else -1


LAYERS: Mapping[str, Callable[..., Any]] = {
    "Conv2d": conv_2d,
}
