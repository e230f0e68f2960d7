"""The order in which NumPy's library adds up the terms of a small matrix product.

It is nowhere written, and differs between processors, shapes and layouts; it is found out by experiment. Knowing
it pays in stacks of tiny products, where the library takes a call for each: an update of 256 networks 2-2-2 on four
samples takes 37 us with it and 113 us without (AVX-512, float64, one thread). A single product is left to the library:
written out it takes longer to translate than 10,000 updates save, and from some hundred multiplications on it is slower
as well. But a long one of a single term, an outer product, is a loop like that of any elementwise operation.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from refnet.arithmetic.fma import fma


class Summation(NamedTuple):
    """How a matrix product adds a[0] b[0], a[1] b[1], ... to 0: each rounded before it is added or not (`fused`), from
    the last or from the first. If 0 is added after them (`zero_last`), a sum that underflows has no sign."""

    fused: bool
    backwards: bool
    zero_last: bool = False


ORDERS = (
    *(Summation(True, False), Summation(False, False), Summation(True, True)),
    *(Summation(True, False, zero_last=True), Summation(True, True, zero_last=True)),
)
"""The orders that OpenBLAS was seen to use for products of at most 16 multiplications. Prescott, Nehalem, Sandybridge,
Haswell, Zen and SkylakeX kernels add in one of them in four shapes and layouts out of five."""

ELEMENTS = 2_000
"""So many elements of products, at least, must have NumPy's bits in the order that is taken for its own. Any two orders
of three terms or more differ in about every third."""


@functools.cache
def order_of_products(
    shape: tuple[int, int, int], a_steps: tuple[int, int], b_steps: tuple[int, int], dtype: str, *, fused: bool
) -> Summation | None:
    """How np.matmul adds up the terms of products (m, k) by (k, n) with these strides in bytes; None if in none of
    `ORDERS`. `fused`: whether the processor has an instruction for a b + c, rounded once.
    """
    m, k, n = shape
    draws, samples = np.random.default_rng(0), 3 + ELEMENTS // (m * n)

    def drawn(rows: int, columns: int, steps: tuple[int, int], last: float) -> NDArray[Any]:
        size, info = np.dtype(dtype).itemsize, np.finfo(dtype)
        extent = (rows - 1) * steps[0] + (columns - 1) * steps[1] + size
        space = samples, -(-extent // size)
        memory = draws.standard_normal(space) * 2.0 ** draws.integers(-3, 4, space)
        memory[draws.random(space) < 0.1] *= 0  # zeros of both signs
        underflow = -(-samples // 8)
        memory[:underflow] = draws.standard_normal(memory[:underflow].shape)
        memory[:underflow] *= 2.0 ** ((info.minexp - info.nmant) // 2)
        memory[-1] = last
        memory = memory.astype(dtype)
        return as_strided(memory, (samples, rows, columns), (memory.strides[0], *steps))

    # In the first products terms underflow. In the last all are -0, and so is their sum if it does not begin with 0.
    A, B = drawn(m, k, a_steps, -0.0), drawn(k, n, b_steps, 1.0)
    # A library may compute on padding beside the numbers, and raise a floating-point flag that says nothing of them.
    with np.errstate(all="ignore"):
        expected = np.matmul(A, B)
    for how in ORDERS:
        if (fused or not how.fused) and _summed(how, A, B).tobytes() == expected.tobytes():
            return how
    return None


def _summed(how: Summation, A: NDArray[Any], B: NDArray[Any]) -> NDArray[Any]:
    terms = range(A.shape[-1])
    (x, w), *pairs = [(A[..., k, None], B[..., k, None, :]) for k in (reversed(terms) if how.backwards else terms)]
    # 0 + x w. Rounded once, it keeps the sign of a product that underflows.
    total: NDArray[Any] = np.where((x != 0) & (w != 0), x * w, x * w + 0) if how.fused else x * w + 0
    for x, w in pairs:
        total = fma(*np.broadcast_arrays(x, w, total)) if how.fused else total + x * w
    return total + 0 if how.zero_last else total
