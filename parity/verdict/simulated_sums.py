"""Sums as an engine makes them that keeps every partial sum in a narrow format."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from refnet.arithmetic.array_like import Undecided

Rules = dict[str, Callable[..., Any]]

LONGEST, MOST = 2**14, 2**26
"""Terms of a sum, and of all sums together, that are added up one by one."""


def one_by_one(nearest: Callable[[Any], Any]) -> Rules:
    """Sums and products of matrices, of floats, from the first term to the last.

    Args:
        nearest: rounds numbers to the format. Every term and every partial sum is rounded.

    The functions raise Undecided where there are more terms than LONGEST, or MOST in all.
    """

    def added(term: Callable[[int], Any], terms: int, shape: tuple[int, ...]) -> Any:
        if terms > LONGEST or terms * math.prod(shape) > MOST:
            raise Undecided(f"{terms} terms for each of {math.prod(shape)} sums: expected fewer to be added one by one")
        s = np.zeros(shape)
        for k in range(terms):
            s = nearest(s + nearest(term(k)))
        return s

    def matmul(a: Any, b: Any) -> Any:
        shape = (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
        # s[n,m] = sum_k a[n,k] b[k,m]
        return added(lambda k: a[..., :, k, None] * b[..., None, k, :], a.shape[-1], shape).astype(a.dtype)

    def summed(a: Any, axis: Any = None, keepdims: bool = False) -> Any:
        axes = {*(range(a.ndim) if axis is None else np.atleast_1d(axis) % max(a.ndim, 1))}
        rest = [k for k in range(a.ndim) if k not in axes]
        shape = [1 if k in axes else size for k, size in enumerate(a.shape) if keepdims or k in rest]
        kept = tuple(a.shape[k] for k in rest)
        terms = a.transpose(*axes, *rest).reshape(math.prod(a.shape[k] for k in axes), *kept)
        return added(lambda k: terms[k], len(terms), kept).reshape(shape).astype(a.dtype)

    return {"matmul": matmul, "sum": summed}
