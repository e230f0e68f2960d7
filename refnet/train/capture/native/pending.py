"""Elementwise operations that wait for others to share a loop with."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from refnet.train.capture.native import llvm_loops
from refnet.train.capture.native.ufunc_loops import Loop


@dataclass(frozen=True)
class Axes:
    """The axes of a call: sizes, and for each the step of every operand in bytes; the innermost last."""

    sizes: tuple[int, ...]
    steps: tuple[tuple[int, ...], ...]


@dataclass(eq=False)
class Work:
    """An elementwise operation: written out, or a loop of NumPy's. The result comes behind the operands.

    Attributes:
        axes: how it goes through them.
        first: where each of them begins.
        number: its place in the program.
        roots: for each of them its root, if that is one of `block_memory.spans_of`.
    """

    axes: Axes
    first: tuple[int, ...]
    does: llvm_loops.Statement | Loop
    number: int
    roots: tuple[int | None, ...]

    @functools.cached_property
    def operands(self) -> list[_Operand]:
        """Each with its steps, and where its elements lie, at most: from the lowest byte to behind the highest. The
        result comes last.
        """
        found = []
        for first, steps in zip(self.first, zip(*self.axes.steps, strict=True), strict=True):
            ways = [(size - 1) * step for size, step in zip(self.axes.sizes, steps, strict=True)]
            low, high = first + sum(way for way in ways if way < 0), first + sum(way for way in ways if way > 0) + 8
            found.append((first, steps, low, high))
        return found


_Operand = tuple[int, tuple[int, ...], int, int]


class Pending:
    """Elementwise operations that share a loop: they take turns at every place.

    Attributes:
        works: the operations, in order.
    """

    def __init__(self) -> None:
        self.works: list[Work] = []
        # (as sets: many operations have operands in common)
        self._operands: set[_Operand] = set()
        self._results: set[_Operand] = set()

    def take(self, work: Work) -> bool:
        """Take one more, if it may be: what one operation writes, the others have at the same places or not at all."""
        operands = work.operands
        fits = not self.works or (
            work.axes.sizes == self.works[0].axes.sizes
            and _apart_or_same(operands[-1:], self._operands)
            and _apart_or_same(operands, self._results)
        )
        if fits:
            self.works.append(work)
            self._operands.update(operands)
            self._results.add(operands[-1])
        return fits


def _apart_or_same(some: Iterable[_Operand], others: Iterable[_Operand]) -> bool:
    for first, steps, low, high in some:
        for place, ways, lowest, highest in others:
            if low < highest and lowest < high and (first != place or steps != ways):
                return False
    return True


def grouped(works: Sequence[Work]) -> list[tuple[list[llvm_loops.Statement], list[Work]]]:
    """Operations in order: those that are one loop, with their statements, and those that are loops of NumPy's."""
    groups = itertools.groupby(works, lambda work: isinstance(work.does, llvm_loops.Statement))
    lists = [list(group) for _, group in groups]
    return [([work.does for work in group if isinstance(work.does, llvm_loops.Statement)], group) for group in lists]
