"""Reverse differentiation of what was computed, over scalars and over arrays.

A `Node` (node.py) is a scalar, an Arb ball, that remembers how it was made. NumPy object arrays of nodes run the
layers' own lines, and that is how the truth is found: the only rules of differentiation in it are those of single
scalar operations, so it owes nothing to a layer's hand-written backward pass.

A `Taped` (taped.py) is a whole array that remembers how it was made, of any arithmetic that answers to NumPy's
protocols: budgets, for `parity.enclose`. A sum is one operation there, whose terms have no order; a chain of scalar
additions has one.

Both differentiate single operations by the same PULLBACKS (pullbacks.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import numpy as np

from parity.truth.pullbacks import Value

Pull = Callable[[Value], Sequence[Value]]
"""From the gradient of a result to what it contributes to the gradient of each parent."""

_recording = True
_room = math.inf


@contextmanager
def untaped() -> Iterator[None]:
    """Make nodes without a memory, for long computations that are not differentiated."""
    global _recording
    before, _recording = _recording, False
    try:
        yield
    finally:
        _recording = before


@contextmanager
def at_most(nodes: int) -> Iterator[None]:
    """Let operations make at most this number of nodes; OverflowError at the next."""
    global _room
    before, _room = _room, nodes
    try:
        yield
    finally:
        _room = before


def remembers() -> bool:
    """Whether the node that an operation is making should remember how; it counts towards `at_most`.

    Raises:
        OverflowError: more nodes than `at_most` lets be made.
    """
    global _room
    if _recording:
        _room -= 1
        if _room < 0:
            raise OverflowError("more nodes than were allowed")
    return _recording


class Made:
    """A result: its value, its parents, and (after `differentiate`) its gradient."""

    __slots__ = ("grad", "parents", "pull", "value")

    def __init__(self, value: Value, parents: tuple[Self, ...] = (), pull: Pull | None = None) -> None:
        self.value = value
        self.parents = parents
        self.pull = pull
        self.grad: Value = 0


def differentiate(outputs: Iterable[Any], seeds: Iterable[Value], total: Callable[[list[Value]], Value] = sum) -> int:
    """Set `grad` of every node behind `outputs` to the derivative of sum(seed * output); returns the number of nodes.

    `total` adds up what the gradient of one node has from each of its uses.
    """
    pairs = [(output, seed) for output, seed in zip(outputs, seeds, strict=True) if isinstance(output, Made)]
    order: list[Any] = []
    seen: set[int] = set()
    stack: list[tuple[Any, bool]] = [(output, False) for output, _ in pairs]
    while stack:
        node, done = stack.pop()
        if done:
            order.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack.extend((parent, False) for parent in node.parents)
    for node in order:
        node.grad = []
    for output, seed in pairs:
        output.grad.append(seed)
    for node in reversed(order):
        node.grad = total(node.grad)
        if node.parents:
            for parent, contribution in zip(node.parents, node.pull(node.grad), strict=True):
                parent.grad.append(contribution)
    return len(order)


def together(contributions: list[Value]) -> Value:
    """The sum of arrays in no particular order."""
    if len(contributions) < 3:
        return contributions[0] if len(contributions) == 1 else contributions[0] + contributions[1]
    return np.concatenate([np.expand_dims(c, -1) for c in contributions], axis=-1).sum(axis=-1)
