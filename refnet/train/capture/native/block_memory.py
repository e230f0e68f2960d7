"""Arrays that only the operations of one loop over blocks need: they get memory of one block's size, which stays in the
nearest cache, and what no later loop of the block reads is never stored. Whole arrays would go through the memory
behind the caches, which takes longer than the arithmetic. Nor is stored what a short loop alone needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from refnet.train.capture.native import llvm_loops
from refnet.train.capture.native.pending import Work
from refnet.train.capture.program import ELEMENTWISE, Program


class Span(NamedTuple):
    """The first and the last operation that has to do with a root, by their places in the program."""

    first: int
    last: int


def spans_of(program: Program) -> dict[int, Span]:
    """The program's own roots that elementwise operations alone write and read, whole each time, and nobody else."""
    spans: dict[int, Span] = {}
    others = {program.result.root, *program.first}
    for number, operation in enumerate(program.operations):
        simple = operation.function in ELEMENTWISE or operation.function in (np.where, np.copyto)
        for ref in (*operation.refs, operation.out):
            if simple and program.whole(ref):
                spans[ref.root] = Span(spans[ref.root].first if ref.root in spans else number, number)
            else:
                others.add(ref.root)
    return {root: span for root, span in spans.items() if root not in others}


def inside(works: Sequence[Work], spans: Mapping[int, Span]) -> set[int]:
    """The roots that no operation but these has to do with."""
    first, last = works[0].number, works[-1].number
    roots = {root for work in works for root in work.roots if root is not None}
    return {root for root in roots if first <= spans[root].first and spans[root].last <= last}


def moved(statement: llvm_loops.Statement, first: Sequence[int]) -> llvm_loops.Statement:
    """The same on operands that begin elsewhere."""
    operands = [
        operand._replace(first=address)
        for operand, address in zip((*statement.operands, statement.out), first, strict=True)
    ]
    return replace(statement, operands=tuple(operands[:-1]), out=operands[-1])
