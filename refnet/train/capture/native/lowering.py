"""A program as a table of calls.

What is called are the very inner loops that NumPy's ufuncs call (`ufunc_loops`), with pointers, sizes and strides
written down in advance. Operations that IEEE 754 prescribes are written out as loops of their own (`llvm_loops`), with
the same signature, and left to the translator to keep in registers, unroll and vectorize, which changes no bit of them.
There is no address in them, so that equal layers, and other trainings, have them in common.

An elementwise loop may go through the elements in any order. In a sum the order is NumPy's own: it starts from 0 and
adds, along axes sorted by stride, rows to a row where the innermost axis stays, and otherwise the pairwise sum of a row
that its loop makes of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from refnet.train.addresses import address_of
from refnet.train.capture.native import block_memory, llvm_loops
from refnet.train.capture.native.innermost import terms
from refnet.train.capture.native.pending import Axes, Pending, Work, grouped
from refnet.train.capture.native.summation import Summation, order_of_products
from refnet.train.capture.native.translator import NotNative, fuses
from refnet.train.capture.native.ufunc_loops import Loop, loop_of
from refnet.train.capture.program import ELEMENTWISE, Operation, Ref
from refnet.train.capture.replay import aligned

BLOCK = 2048
"""Elements that operations on long arrays are carried out on in turn: a few such blocks fit into the nearest cache."""

LONG = 2 * BLOCK
"""Elements from which on an operation is long."""

WIDE = 64
"""Elements in a row from which on the widest vectors pay: what is left over behind the last is done one by one."""

TINY_PRODUCT = 16
"""Multiplications of a matrix product up to which those of a stack are written out."""


class Call(NamedTuple):
    """A line of the table: see `%call` in loops.ll. All but the loop are addresses and numbers."""

    loop: Loop
    args: int = 0
    first: int = 0
    dims: int = 0
    steps: int = 0
    pointers: int = 0
    n: int = 1
    m: int = 1
    outer: int = 0
    inner: int = 0


def _axes(shape: Sequence[int], operands: Sequence[Sequence[int]]) -> Axes:
    """Axes without those of size 1, and joined where one step leads on from another in every operand."""
    axes = [(size, steps) for size, *steps in zip(shape, *operands, strict=True) if size != 1]
    joined: list[tuple[int, list[int]]] = []
    for size, steps in axes:
        if joined and all(outer == size * inner for outer, inner in zip(joined[-1][1], steps, strict=True)):
            joined[-1] = (joined[-1][0] * size, steps)
        else:
            joined.append((size, steps))
    joined = joined or [(1, [0] * len(operands))]
    return Axes(tuple(size for size, _ in joined), tuple(tuple(steps) for _, steps in joined))


def _sorted_axes(arrays: Sequence[NDArray[Any]]) -> Axes:
    """The axes of an elementwise operation, in the order in which its result lies."""
    shape = arrays[-1].shape
    if all(array.flags.c_contiguous and array.shape in (shape, ()) for array in arrays):  # (a shorter way)
        size = arrays[-1].size
        return Axes((size,), (tuple(array.itemsize if array.size == size > 1 else 0 for array in arrays),))
    steps = [_spread(array, shape) for array in arrays]
    order = sorted(range(len(shape)), key=lambda axis: -abs(steps[-1][axis]))
    return _axes([shape[k] for k in order], [[step[k] for k in order] for step in steps])


def _spread(array: NDArray[Any], shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides of an array that is broadcast to a shape."""
    if array.shape == shape:
        return array.strides
    missing = len(shape) - array.ndim
    own = zip(array.shape, array.strides, shape[missing:], strict=True)
    return (0,) * missing + tuple(stride if size == wide else 0 for size, stride, wide in own)


class Lowering:
    """Calls, one after the other.

    Args:
        spans: see `block_memory.spans_of`.
        constant: the roots that nobody writes.

    Attributes:
        calls: the table.
        inside: for a line of the table that does calls block by block, its number and these.
        kept: what must live as long as the table.
        passing: the roots that never are in their place, but in memory of one block's size or in a register alone.
    """

    def __init__(
        self, spans: Mapping[int, block_memory.Span] = MappingProxyType({}), constant: Collection[int] = ()
    ) -> None:
        self.calls: list[Call] = []
        self.kept: list[Any] = []
        self.inside: list[tuple[int, list[Call]]] = []
        self.passing: set[int] = set()
        self._spans, self._constant = spans, constant
        self._blocks: dict[int, int] = {}
        self._number = -1
        self._roots: dict[int, int] = {}
        self._pending = Pending()

    def done(self) -> Self:
        self._flush()
        return self

    def numbers(self, numbers: Sequence[int]) -> int:
        """The address of these numbers."""
        memory = np.array(numbers, np.int64)
        self.kept.append(memory)
        return address_of(memory)

    def fixed(self, name: str, arrays: Sequence[NDArray[Any]], dims: Sequence[int], data: int = 0) -> None:
        """A function of loops.ll."""
        self._flush()
        self.calls.append(Call(Loop(name, data), self.numbers(list(map(address_of, arrays))), 0, self.numbers(dims)))

    def call(self, loop: Loop, arrays: Sequence[NDArray[Any]], dims: Sequence[int], axes: Axes) -> None:
        """`loop` along the innermost axis, or with its own `dims` behind that, once for each place on the others."""
        self._flush()
        self._call(loop, tuple(map(address_of, arrays)), dims, axes)

    def _call(self, loop: Loop, first: tuple[int, ...], dims: Sequence[int], axes: Axes) -> None:
        """(A loop may leave its pointers anywhere, as that of matmul does, so each call gets them anew.)"""
        if 0 in axes.sizes:
            return
        *outer, size = axes.sizes
        *around, steps = axes.steps
        if len(outer) > 2:
            raise NotNative("an operation with more than two axes outside its loop")
        n, m = [1] * (2 - len(outer)) + outer
        still = (0,) * len(first)
        args, start, dims_at, steps_at, *around_at = map(
            self.numbers, (first, first, [size, *dims], steps, *[still] * (2 - len(outer)), *around)
        )
        self.calls.append(Call(loop, args, start, dims_at, steps_at, len(first), n, m, *around_at))

    def operation(
        self,
        operation: Operation,
        args: list[NDArray[Any]],
        out: NDArray[Any],
        recorded: list[NDArray[Any]] | None = None,
    ) -> None:
        """What `replay` does by a call into NumPy.

        Args:
            recorded: operands and result as they lie there, if they lie here with the runs innermost.
        """
        called, options = operation.function, dict(operation.options)
        self._number += 1
        by_constant = called is np.divide and self._stays(operation.args[1])
        if by_constant and (inverse := llvm_loops.inverse_of(args[1])) is not None:
            called, args = np.multiply, [args[0], inverse]
            self.kept.append(inverse)
        refs = zip((*operation.args, operation.out), (*args, out), strict=True)
        self._roots = {id(array): ref.root for ref, array in refs if isinstance(ref, Ref) and ref.root in self._spans}
        if called in ELEMENTWISE:
            form = llvm_loops.formula(called, [array.dtype for array in args], out.dtype)
            self.elementwise(form or loop_of(called, (*args, out)), (*args, out))
        elif called is np.matmul:
            self.matmul(args[0], args[1], out, recorded)
        elif called is np.copyto:
            self.copy(args[0], out)
        elif called is np.where:
            kinds = {array.dtype for array in (*args[1:], out)}
            if len(kinds) > 1 or args[0].dtype != np.bool_:
                raise NotNative("np.where with operands of different dtypes")
            self.elementwise(llvm_loops.SELECT, (*args, out))
        elif called is np.concatenate:
            axis, start = options["axis"], 0
            if axis is None:
                raise NotNative("arrays that are joined without regard to their axes")
            for array in args:
                part = np.moveaxis(out, axis, 0)[start : start + array.shape[axis]]
                self.copy(array, np.moveaxis(part, 0, axis))
                start += array.shape[axis]
        elif called in (np.add.reduce, np.maximum.reduce):
            if recorded is None:
                self.reduce(called, args[0], out, options)
            else:
                self.sum_of_runs(called, args[0], out, options, recorded)
        else:
            raise NotNative(f"{getattr(called, '__name__', called)} is no loop of NumPy's")

    def _stays(self, arg: Any) -> bool:
        return not isinstance(arg, Ref) or arg.root in self._constant

    def elementwise(self, does: str | Loop, arrays: Sequence[NDArray[Any]]) -> None:
        """By a formula, or a loop of NumPy's."""
        out, first = arrays[-1], tuple(map(address_of, arrays))
        for array, begin in zip(arrays[:-1], first, strict=False):
            same = begin == first[-1] and array.shape == out.shape and array.strides == out.strides
            if not same and np.shares_memory(array, out):
                raise NotNative("an operation that writes over its operand")
        axes = _sorted_axes(arrays)
        if 0 in axes.sizes:
            return
        if isinstance(does, Loop) and (len(axes.sizes) > 1 or min(axes.steps[0]) < 0):
            self.call(does, arrays, (), axes)
            return
        if isinstance(does, Loop):
            self._add(self._work(axes, arrays, does))
            return
        *operands, result = self._operands(arrays, axes)
        self._add(self._work(axes, arrays, llvm_loops.elementwise(does, operands, result)))

    def _work(self, axes: Axes, arrays: Sequence[NDArray[Any]], does: llvm_loops.Statement | Loop) -> Work:
        roots = tuple([self._roots.get(id(array)) for array in arrays])
        return Work(axes, tuple(map(address_of, arrays)), does, self._number, roots)

    def _operands(self, arrays: Sequence[NDArray[Any]], axes: Axes) -> list[llvm_loops.Operand]:
        return [
            llvm_loops.Operand(address_of(array), steps, llvm_loops.type_of(array.dtype))
            for array, steps in zip(arrays, zip(*axes.steps, strict=True), strict=True)
        ]

    def _add(self, work: Work) -> None:
        if not self._pending.take(work):
            self._flush()
            self._pending.take(work)

    def statements(self, axes: Axes, statements: Sequence[llvm_loops.Statement]) -> None:
        """A loop of its own."""
        self._flush()
        self.calls.append(self._kernel(axes.sizes, statements))

    def _kernel(
        self, sizes: Sequence[int], statements: Sequence[llvm_loops.Statement], unread: Collection[int] = ()
    ) -> Call:
        text, operands = llvm_loops.kernel(sizes, statements, unread, wide=sizes[-1] >= WIDE)
        return Call(Loop(text), self.numbers([operand.first for operand in operands]), 0, self.numbers(sizes))

    def _flush(self) -> None:
        """Write down the operations that wait: those written out in common loops between NumPy's; if there are many
        elements, block by block, so that what one writes is still in the cache when the next reads it.
        """
        pending = self._pending.works
        if not pending:
            return
        self._pending = Pending()
        sizes = pending[0].axes.sizes
        if len(pending) > 1 and len(sizes) == 1 and sizes[0] >= LONG:
            inside = self._on_blocks(pending)
            self.calls.append(Call(Loop("blocks"), 0, 0, self.numbers([sizes[0], BLOCK, len(inside)])))
            self.inside.append((len(self.calls) - 1, inside))
            return
        for statements, works in grouped(pending):
            if statements:
                self.calls.append(self._kernel(sizes, statements, self._unread(works)))
            for work in [] if statements else works:
                assert isinstance(work.does, Loop)
                self._call(work.does, work.first, (), work.axes)

    def _unread(self, works: Sequence[Work]) -> set[int]:
        """Where a loop leaves what nothing but itself reads: of what it writes at a place, the last counts."""
        roots = block_memory.inside(works, self._spans)
        self.passing |= roots
        left = {work.first[-1]: work.roots[-1] for work in works}
        return {address for address, root in left.items() if root in roots}

    def _on_blocks(self, works: Sequence[Work]) -> list[Call]:
        """What is done on each block; from the last to the first, as what is read later says what must be stored."""
        roots = block_memory.inside(works, self._spans)
        self.passing |= roots
        for work in works:
            places = zip(work.first, work.roots, strict=True)
            work.first = tuple(self._block(address) if root in roots else address for address, root in places)
        blocks = {
            address for work in works for address, root in zip(work.first, work.roots, strict=True) if root in roots
        }
        calls, live = list[Call](), set[int]()
        for statements, group in reversed(grouped(works)):
            if statements:
                placed = [block_memory.moved(does, work.first) for does, work in zip(statements, group, strict=True)]
                text, operands = llvm_loops.kernel([0], placed, blocks - live, wide=True)
                first, steps = [operand.first for operand in operands], [operand.steps[0] for operand in operands]
                calls.append(self._on_block(Loop(text), first, steps, blocks))
            for work in reversed(group):
                if isinstance(work.does, Loop):
                    calls.append(self._on_block(work.does, work.first, work.axes.steps[0], blocks))
                live.discard(work.first[-1])
                live.update(blocks.intersection(work.first[:-1]))
        return calls[::-1]

    def _on_block(self, loop: Loop, first: Sequence[int], steps: Sequence[int], blocks: set[int]) -> Call:
        moves = [0 if address in blocks else step for address, step in zip(first, steps, strict=True)]
        args, start, dims, steps_at, moves_at = map(self.numbers, (first, first, [0], steps, moves))
        return Call(loop, args, start, dims, steps_at, len(first), outer=moves_at)

    def _block(self, address: int) -> int:
        """Memory of one block's size for what the program has laid out at this address."""
        if address not in self._blocks:
            memory = aligned(8 * BLOCK)
            self.kept.append(memory)
            self._blocks[address] = address_of(memory)
        return self._blocks[address]

    def copy(self, array: NDArray[Any], out: NDArray[Any]) -> None:
        cast = llvm_loops.CASTS.get((llvm_loops.type_of(array.dtype), llvm_loops.type_of(out.dtype)))
        if cast is not None:
            self.elementwise(cast, (array, out))
            return
        if array.dtype != out.dtype or out.itemsize not in (1, 4, 8):
            raise NotNative(f"a copy from {array.dtype} to {out.dtype}")
        lie_alike = array.shape == out.shape and array.flags.c_contiguous and out.flags.c_contiguous
        if lie_alike and out.size > BLOCK:
            if address_of(out) != address_of(array) and np.shares_memory(array, out):
                raise NotNative("an operation that writes over its operand")
            self.fixed("copy", (array, out), [out.nbytes])
        else:
            self.elementwise(llvm_loops.COPY, (array, out))

    def matmul(
        self, a: NDArray[Any], b: NDArray[Any], out: NDArray[Any], recorded: list[NDArray[Any]] | None = None
    ) -> None:
        if min(a.ndim, b.ndim) < 2 or 0 in (*a.shape, *b.shape):
            raise NotNative("a matrix product of vectors, or of nothing")
        outer = out.shape[:-2]
        (m, k), n = a.shape[-2:], b.shape[-1]
        if k == 1 and out.size >= LONG and (how := _order(*(recorded or (a, b, out)))) is not None:
            self.elementwise(llvm_loops.single_term(how.fused and not how.zero_last), (a, b, out))
            return
        if outer and m * k * n <= TINY_PRODUCT and (how := _order(*(recorded or (a, b, out)))) is not None:
            self._products(how, a, b, out, apart=recorded is not None)
            return
        if recorded is not None:
            raise NotNative("a matrix product that is left to the library, of arrays with the runs innermost")
        strides = [_spread(array, (*outer, *array.shape[-2:])) for array in (a, b, out)]
        axes = _axes(outer, [steps[:-2] for steps in strides])
        *rest, innermost = axes.steps
        cores = [stride for array in (a, b, out) for stride in array.strides[-2:]]
        self.call(
            loop_of(np.matmul, (a, b, out)), (a, b, out), (m, k, n), Axes(axes.sizes, (*rest, (*innermost, *cores)))
        )

    def _products(
        self, how: Summation, a: NDArray[Any], b: NDArray[Any], out: NDArray[Any], *, apart: bool = False
    ) -> None:
        """The matrix products of a stack, in one loop over the stack; each sum begins in a register. `apart`: the
        numbers of one place in all products lie side by side, so that others may share the loop.
        """
        if how.backwards:
            a, b = a[..., ::-1], b[..., ::-1, :]
        outer = out.shape[:-2]
        a, b = (np.broadcast_to(array, (*outer, *array.shape[-2:])) for array in (a, b))
        if len(outer) > 1 and out.strides[0] < out.strides[1]:
            outer = (*outer[1:], outer[0])
            a, b, out = (np.moveaxis(array, 0, -3) for array in (a, b, out))
        made = []
        for m, n in itertools.product(*map(range, out.shape[-2:])):
            factors = [array for k in range(a.shape[-1]) for array in (a[..., m, k], b[..., k, n])]
            numbers = [*factors, out[..., m, n]]
            axes = _axes(outer, [array.strides for array in numbers])
            *operands, total = self._operands(numbers, axes)
            pairs = list(zip(operands[::2], operands[1::2], strict=True))
            made.append((numbers, llvm_loops.product(pairs, total, fused=how.fused, zero_last=how.zero_last)))
        if apart:
            for numbers, statement in made:
                self._add(self._work(axes, numbers, statement))
        else:
            self.statements(axes, [statement for _, statement in made])

    def reduce(self, called: Any, array: NDArray[Any], out: NDArray[Any], options: dict[str, Any]) -> None:
        axis = options["axis"]
        axes = range(array.ndim) if axis is None else [k % array.ndim for k in np.atleast_1d(axis).tolist()]
        kept = out.reshape([1 if k in axes else size for k, size in enumerate(array.shape)])
        steps = [0 if k in axes else stride for k, stride in enumerate(kept.strides)]
        if not np.shares_memory(kept, out) or any(stride < 0 for stride in array.strides) or array.size == 0:
            raise NotNative("a reduction of nothing, or of an array that runs backwards")
        order = sorted(range(array.ndim), key=lambda k: -array.strides[k])
        if array.dtype != out.dtype or order != list(range(array.ndim)) or not out.flags.c_contiguous:
            raise NotNative("a reduction of an array whose axes do not lie in their order")
        ufunc = called.__self__
        if ufunc is np.add:
            self.elementwise(llvm_loops.ZERO, (out,))
        else:
            first = array[tuple(slice(0, 1) if k in axes else slice(None) for k in range(array.ndim))]
            self.copy(first, kept)
        joined = _axes(array.shape, [steps, array.strides, steps])
        form = llvm_loops.formula(ufunc, [out.dtype, array.dtype], out.dtype) if array.size < LONG else None
        *around, (step, array_step, _) = joined.steps
        if form is None or (step == 0 and (ufunc is not np.add or joined.sizes[-1] >= llvm_loops.PAIRWISE)):
            self.call(loop_of(ufunc, (out, array, out)), (out, array, out), (), joined)
        elif step:
            total, row, _ = self._operands((out, array, out), joined)
            self.statements(joined, [llvm_loops.elementwise(form, (total, row), total)])
        else:
            rows = Axes(joined.sizes[:-1] or (1,), tuple(around) or ((0, 0, 0),))
            total, row, _ = self._operands((out, array, out), rows)
            self.statements(rows, [llvm_loops.short_sum(total, row, joined.sizes[-1], array_step)])

    def sum_of_runs(
        self, called: Any, array: NDArray[Any], out: NDArray[Any], options: dict[str, Any], recorded: list[NDArray[Any]]
    ) -> None:
        """A sum in each run, of arrays with the runs innermost."""
        axis, (seen, result) = options["axis"], recorded
        axes = range(array.ndim) if axis is None else [k % array.ndim for k in np.atleast_1d(axis).tolist()]
        kept = out.reshape([1 if k in axes else size for k, size in enumerate(array.shape)])
        if called != np.add.reduce or array.dtype != out.dtype or not np.shares_memory(kept, out):
            raise NotNative("a reduction that is no sum")
        if not (seen.flags.c_contiguous and result.flags.c_contiguous):
            raise NotNative("a reduction of an array whose axes do not lie in their order")
        rows = terms(array, list(axes))
        numbers = [number for row in rows for number in row]
        places = _sorted_axes([*numbers, kept])
        *operands, total = self._operands([*numbers, kept], places)
        of_rows = [[operands.pop(0) for _ in row] for row in rows]
        self._add(self._work(places, [*numbers, kept], llvm_loops.ordered_sum(of_rows, total)))


def _order(a: NDArray[Any], b: NDArray[Any], out: NDArray[Any]) -> Summation | None:
    """The order in which the products of a stack are added up, if it is known."""
    of_floats = a.dtype == b.dtype == out.dtype and out.dtype.str[1:] in ("f4", "f8") and out.dtype.isnative
    steps = a.strides[-2:], b.strides[-2:]
    if not of_floats or np.shares_memory(a, b) or min(map(min, steps)) < 0:
        return None
    return order_of_products((*a.shape[-2:], b.shape[-1]), *steps, out.dtype.str, fused=fuses())
