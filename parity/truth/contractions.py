"""Contractions of arrays that know matrix products, sums along axes and how to move their elements about."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from refnet.arithmetic.array_like import ArrayLike

Array = Any
"""Tensors of balls, computed or not."""


def einsum(subscripts: str, *operands: Any) -> Array:
    """One operand: axes are moved and summed. Two: a stack of matrix products. More: from left to right."""
    inputs, output = subscripts.replace(" ", "").split("->")
    like = next(x for x in operands if isinstance(x, ArrayLike) and x.SPECIALS)
    terms, values = inputs.split(","), [like.__special__("lift", x) for x in operands]
    while len(values) > 1:
        later = set(output).union(*terms[2:])
        kept = "".join(dict.fromkeys(c for c in terms[0] + terms[1] if c in later))
        values[:2] = [_contracted(terms[0], values[0], terms[1], values[1], kept)]
        terms[:2] = [kept]
    return _reduced(terms[0], values[0], output)


def _reduced(term: str, value: Array, output: str) -> Array:
    """The axes of `output`, in its order; the others are summed over, and a repeated one is a diagonal."""
    for c in dict.fromkeys(term):
        while term.count(c) > 1:
            first = term.index(c)
            second = term.index(c, first + 1)
            value = _diagonal(value, first, second)
            term = term[:first] + term[first + 1 : second] + term[second + 1 :] + c
    gone = tuple(k for k, c in enumerate(term) if c not in output)
    if gone:
        value = value.sum(axis=gone)
        term = "".join(c for c in term if c in output)
    return value.transpose(tuple(term.index(c) for c in output))


def _diagonal(value: Array, first: int, second: int) -> Array:
    return value._moved(lambda a: np.diagonal(a, axis1=first, axis2=second))


def _contracted(s: str, a: Array, t: str, b: Array, output: str) -> Array:
    both = [c for c in dict.fromkeys(s) if c in t]
    stack = [c for c in both if c in output]
    inner = [c for c in both if c not in output]
    left = [c for c in dict.fromkeys(s) if c not in t and c in output]
    right = [c for c in dict.fromkeys(t) if c not in s and c in output]
    a = _reduced(s, a, "".join([*stack, *left, *inner]))
    b = _reduced(t, b, "".join([*stack, *inner, *right]))
    sizes = dict(zip([*stack, *left, *inner], a.shape, strict=True)) | dict(
        zip([*stack, *inner, *right], b.shape, strict=True)
    )

    def joined(names: Iterable[str]) -> int:
        return math.prod(sizes[c] for c in names)

    product = a.reshape(joined(stack), joined(left), joined(inner)) @ b.reshape(
        joined(stack), joined(inner), joined(right)
    )
    order = [*stack, *left, *right]
    return product.reshape(tuple(sizes[c] for c in order)).transpose(tuple(order.index(c) for c in output))
