"""Operations on tensors of balls that are written down first and done later, for the elements that are asked for.

A `Plan` is a tensor that has not been computed: what it is made of, and how. Each kind of plan says which elements of
its operands some of its own elements need. `computed` goes through all plans twice: from the results back, to find out
which elements are needed, and forward, to compute these and no others. What no later plan needs is forgotten, so that
memory holds the tensors that are still in use.

A sampled element of a matrix product needs one row and one column; one of an elementwise operation needs one element of
each operand; one of a softmax or of a norm needs all of its row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from flint import arb, arb_mat

from parity.truth import waiting
from parity.truth.ball import Objects
from parity.truth.tensor_balls import TensorBalls, filled, lifted, product_of_matrices

Flags = np.ndarray[Any, Any]
"""Which elements of a tensor, in its flat order."""

BLOCK = 2**16
"""Elements that are computed at a time: a loop inside NumPy or Arb is not interrupted."""

PER_BALL, PER_TERM = 2e-7, 3e-8
"""About the seconds that it takes to hand a ball to a matrix of Arb's, and that a term of a sum of products takes
there."""


class Plan:
    """A tensor that has not been computed.

    Attributes:
        operands: what it is made of. balls: all its elements in flat order, where they are known; else None.
    """

    __slots__ = ("balls", "operands", "shape", "size")

    def __init__(self, shape: tuple[int, ...], operands: Sequence[Plan] = ()) -> None:
        self.shape, self.size, self.operands = shape, math.prod(shape), tuple(operands)
        self.balls: Objects | None = None

    def needs(self, wanted: Flags) -> list[Flags]:
        """Which elements of each operand the wanted elements are made of."""
        raise NotImplementedError

    def made(self, wanted: Flags, operands: Sequence[Objects]) -> Objects:
        """The wanted elements, of operands in their flat order, of which at least what is needed is there."""
        raise NotImplementedError


class Given(Plan):
    """Numbers as they are now: a counter, say, is written in place later."""

    __slots__ = ("values",)

    def __init__(self, values: Any) -> None:
        self.values = np.array(values)
        super().__init__(self.values.shape)

    def needs(self, wanted: Flags) -> list[Flags]:
        return []

    def made(self, wanted: Flags, operands: Sequence[Objects]) -> Objects:
        return lifted(self.values.reshape(-1)[wanted])


class Elementwise(Plan):
    """An operation element by element, on operands that are spread to one shape."""

    __slots__ = ("rule",)

    def __init__(self, rule: Callable[..., Any], operands: Sequence[Plan]) -> None:
        super().__init__(np.broadcast_shapes(*(o.shape for o in operands)), operands)
        self.rule = rule

    def needs(self, wanted: Flags) -> list[Flags]:
        return [_flags(o, self._places(o, wanted)) for o in self.operands]

    def made(self, wanted: Flags, operands: Sequence[Objects]) -> Objects:
        places = [self._places(o, wanted) for o in self.operands]
        made = np.empty(int(wanted.sum()), object)
        for some in _blocks(len(made)):
            made[some] = self.rule(*(_balls(v[p[some]]) for v, p in zip(operands, places, strict=True))).balls
            waiting.step(len(made[some]))
        return made

    def _places(self, operand: Plan, wanted: Flags) -> Any:
        if operand.shape == self.shape:
            return np.flatnonzero(wanted)
        return np.broadcast_to(np.arange(operand.size).reshape(operand.shape), self.shape).reshape(-1)[wanted]


class Moved(Plan):
    """Elements of some operands at other places; where there is none, zero.

    `move` does to arrays what is done to the operands. It is put to the numbers of their elements.
    """

    __slots__ = ("move",)

    def __init__(self, move: Callable[..., Any], operands: Sequence[Plan], shape: tuple[int, ...]) -> None:
        super().__init__(shape, operands)
        self.move = move

    def needs(self, wanted: Flags) -> list[Flags]:
        source = self._source()[wanted]
        found, start = [], 1
        for o in self.operands:
            own = source[(source >= start) & (source < start + o.size)]
            found.append(_flags(o, own - start))
            start += o.size
        return found

    def made(self, wanted: Flags, operands: Sequence[Objects]) -> Objects:
        source = self._source()[wanted]
        made = np.full(len(source), arb(0), object)
        start = 1
        for values in operands:
            own = (source >= start) & (source < start + len(values))
            made[own] = values[source[own] - start]
            start += len(values)
        waiting.step(len(made))
        return made

    def _source(self) -> Any:
        """The number of the element that goes to each place, over all operands, from 1; 0 where none goes."""
        start, numbers = 1, []
        for o in self.operands:
            numbers.append(np.arange(start, start + o.size).reshape(o.shape))
            start += o.size
        return np.asarray(self.move(*numbers)).reshape(-1)


class Rows(Plan):
    """What a rule makes of whole rows: one element of each, or a row again."""

    __slots__ = ("rule",)

    def __init__(self, rule: Callable[[TensorBalls], TensorBalls], operand: Plan, kept: bool) -> None:
        super().__init__(operand.shape if kept else operand.shape[:-1], (operand,))
        self.rule = rule

    def needs(self, wanted: Flags) -> list[Flags]:
        of = self.operands[0].shape
        return [np.broadcast_to(self._rows(wanted)[:, None], (math.prod(of[:-1]), of[-1])).reshape(-1)]

    def made(self, wanted: Flags, operands: Sequence[Objects]) -> Objects:
        of = self.operands[0].shape
        rows = np.flatnonzero(self._rows(wanted))
        given = operands[0].reshape(math.prod(of[:-1]), of[-1])
        parts = []
        for some in _blocks(len(rows), max(1, BLOCK // max(1, of[-1]))):
            parts.append(self.rule(_balls(given[rows[some]])).balls)
            waiting.step(parts[-1].size)
        made = np.concatenate(parts) if parts else np.empty((0,), object)
        return made if made.ndim < 2 else made[wanted.reshape(-1, of[-1])[rows]]

    def _rows(self, wanted: Flags) -> Flags:
        if len(self.shape) < len(self.operands[0].shape):
            return wanted
        last = self.shape[-1]
        return np.asarray(wanted.reshape(math.prod(self.shape[:-1]), last).any(axis=1))


class Added(Plan):
    """Elements of an operand, each added to what else goes to the same place; where none goes, zero."""

    __slots__ = ("places",)

    def __init__(self, operand: Plan, places: Any, shape: tuple[int, ...]) -> None:
        super().__init__(shape, (operand,))
        self.places = np.asarray(places).reshape(-1)

    def needs(self, wanted: Flags) -> list[Flags]:
        return [wanted[self.places]]

    def made(self, wanted: Flags, operands: Sequence[Objects]) -> Objects:
        sums = np.full(self.size, arb(0), object)
        for k in np.flatnonzero(wanted[self.places]).tolist():
            sums[self.places[k]] += operands[0][k]
        waiting.step(self.size)
        return np.asarray(sums[wanted])


class Product(Plan):
    """A stack of matrix products, of operands with shapes (s, m, k) and (s, k, n)."""

    __slots__ = ()

    def __init__(self, a: Plan, b: Plan) -> None:
        super().__init__((*a.shape[:-1], b.shape[-1]), (a, b))

    def needs(self, wanted: Flags) -> list[Flags]:
        (s, m, k), n = self.operands[0].shape, self.shape[-1]
        places = wanted.reshape(s, m, n)
        rows, columns = np.asarray(places.any(axis=2)), np.asarray(places.any(axis=1))
        return [
            np.broadcast_to(rows[:, :, None], (s, m, k)).reshape(-1),
            np.broadcast_to(columns[:, None, :], (s, k, n)).reshape(-1),
        ]

    def made(self, wanted: Flags, operands: Sequence[Objects]) -> Objects:
        a, b = (values.reshape(o.shape) for values, o in zip(operands, self.operands, strict=True))
        places = wanted.reshape(self.shape)
        return np.concatenate([_product(a[s], b[s], places[s]) for s in range(len(places))] or [np.empty(0, object)])


def _product(a: Objects, b: Objects, wanted: Flags) -> Objects:
    """The wanted elements of a product: one by one, or with all others in their rows and columns, whichever takes less
    time."""
    rows, columns = np.flatnonzero(wanted.any(axis=1)), np.flatnonzero(wanted.any(axis=0))
    count, terms = int(wanted.sum()), a.shape[1]
    if not count or not terms:
        return np.full(count, arb(0), object)
    handed = (len(rows) + len(columns)) * terms * PER_BALL
    together = handed + len(rows) * len(columns) * (terms * PER_TERM / 6 + PER_BALL)
    if together <= handed + count * terms * PER_TERM:
        made = product_of_matrices(a[rows], b[:, columns])
        return np.asarray(made[wanted[np.ix_(rows, columns)]])
    right = {}
    for j in columns.tolist():
        right[j] = arb_mat(terms, 1, b[:, j].tolist())
        waiting.step(terms)
    found = []
    for i in rows.tolist():
        left = arb_mat(1, terms, a[i].tolist())
        found += [(left * right[j]).entries()[0] for j in np.flatnonzero(wanted[i]).tolist()]
        waiting.step(terms)
    return filled(found, (count,))


def _flags(plan: Plan, places: Any) -> Flags:
    flags = np.zeros(plan.size, bool)
    flags[places] = True
    return flags


def _blocks(count: int, size: int = 0) -> list[slice]:
    size = size or BLOCK
    return [slice(start, start + size) for start in range(0, count, size)]


def _balls(values: Objects) -> TensorBalls:
    return TensorBalls(values, np.dtype(np.float64))


def computed(asked: Sequence[tuple[Plan, Flags]]) -> list[Objects]:
    """The elements of some plans that are asked for, in flat order."""
    order = _in_order([plan for plan, _ in asked])
    wanted: dict[int, Flags] = {}

    def want(plan: Plan, flags: Flags) -> None:
        known = wanted.get(id(plan))
        wanted[id(plan)] = flags if known is None else known | flags

    for plan, flags in asked:
        want(plan, flags)
    uses: dict[int, int] = {id(plan): 1 for plan, _ in asked}
    work = 0
    for plan in reversed(order):
        if id(plan) not in wanted or plan.balls is not None:
            continue
        work += int(wanted[id(plan)].sum())
        for operand, needed in zip(plan.operands, plan.needs(wanted[id(plan)]), strict=True):
            want(operand, needed)
            uses[id(operand)] = uses.get(id(operand), 0) + 1
    waiting.expect(work)
    held: dict[int, Objects] = {}
    for plan in order:
        if id(plan) not in wanted:
            continue
        flags = wanted[id(plan)]
        if plan.balls is not None:
            held[id(plan)] = plan.balls
            continue
        values = np.empty(plan.size, object)
        values[flags] = plan.made(flags, [held[id(o)] for o in plan.operands])
        held[id(plan)] = values
        for operand in plan.operands:
            uses[id(operand)] -= 1
            if not uses[id(operand)]:
                del held[id(operand)]
    return [held[id(plan)][flags] for plan, flags in asked]


def _in_order(results: Sequence[Plan]) -> list[Plan]:
    """Every plan behind some results, after its operands."""
    order: list[Plan] = []
    seen: set[int] = set()
    stack = [(plan, False) for plan in results]
    while stack:
        plan, done = stack.pop()
        if done:
            order.append(plan)
        elif id(plan) not in seen:
            seen.add(id(plan))
            stack.append((plan, True))
            if plan.balls is None:
                stack.extend((operand, False) for operand in plan.operands)
    return order
