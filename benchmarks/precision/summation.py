"""Sums of float32 numbers in many orders, rounded in several ways: what a profile allows, and no better."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Add = Callable[[Array, Array], Array]


def to_nearest(a: Array, b: Array) -> Array:
    return np.asarray(a + b)


def toward_zero(a: Array, b: Array) -> Array:
    """The sum rounded toward zero: the float32 number next to the exact sum on the side of 0."""
    exact = a.astype(np.float64) + b.astype(np.float64)
    near = exact.astype(np.float32)
    return np.where(abs(near.astype(np.float64)) > abs(exact), np.nextafter(near, np.float32(0)), near)


def away_from_zero(a: Array, b: Array) -> Array:
    exact = a.astype(np.float64) + b.astype(np.float64)
    near = exact.astype(np.float32)
    return np.where(abs(near.astype(np.float64)) < abs(exact), np.nextafter(near, np.copysign(np.inf, near)), near)


ROUNDINGS: dict[str, Add] = {"to nearest": to_nearest, "toward zero": toward_zero, "away from zero": away_from_zero}


def tree(terms: Array, depth: int, draws: np.random.Generator, add: Add) -> Array:
    """The sum along the first axis by a random binary tree in which no term goes through more than `depth` additions.

    Half of the splits are as uneven as the depth allows: chains, which err most.

    Raises:
        ValueError: no tree of this depth has so many terms.
    """
    n = len(terms)
    if n > 2**depth:
        raise ValueError(f"tree: expected at most {2**depth} terms at depth {depth}, got {n}")
    if n == 1:
        return np.asarray(terms[0])
    most = min(n - 1, 2 ** (depth - 1))
    least = n - most
    chance = draws.random()
    k = least if chance < 0.25 else most if chance < 0.5 else int(draws.integers(least, most + 1))
    return add(tree(terms[:k], depth - 1, draws, add), tree(terms[k:], depth - 1, draws, add))


def in_blocks(terms: Array, block: int, draws: np.random.Generator, add: Add) -> Array:
    """Blocks of terms by random trees of any depth, then their sums likewise."""
    sums = [
        tree(terms[k : k + block], max(len(terms[k : k + block]) - 1, 1), draws, add)
        for k in range(0, len(terms), block)
    ]
    return tree(np.stack(sums), max(len(sums) - 1, 1), draws, add)


def rounded(x: Array, bits: int) -> Array:
    """Rounded to so many bits of significand, ties to even, whatever the exponent."""
    mantissa, exponent = np.frexp(np.asarray(x, np.float64))
    return np.asarray(np.ldexp(np.rint(np.ldexp(mantissa, bits)), exponent - bits))
