"""A program as a table of calls.

What is called are the very inner loops that NumPy's ufuncs call, found in the ufuncs' public C structure
(`PyUFuncObject` in numpy/ufuncobject.h: `functions`, `data`, `types`), with pointers, sizes and strides written down in
advance. Operations that IEEE 754 prescribes are written out as loops of their own (`llvm_loops`), with the same
signature, and left to the translator to keep in registers, unroll and vectorize, which changes no bit of them. There is
no address in them, so that equal layers, and other trainings, have them in common.

An elementwise loop may go through the elements in any order. In a sum the order is NumPy's own: it starts from 0 and
adds, along axes sorted by stride, rows to a row where the innermost axis stays, and otherwise the pairwise sum of a row
that its loop makes of it.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from refnet.train.capture.native import block_memory, llvm_loops
from refnet.train.capture.native.pending import Axes, Loop, Pending, Work, grouped
from refnet.train.capture.native.summation import Summation, order_of_products
from refnet.train.capture.native.translator import NotNative, fuses
from refnet.train.capture.program import ELEMENTWISE, Operation, Ref
from refnet.train.capture.replay import aligned

BLOCK = 2048
"""Elements that operations on long arrays are carried out on in turn: a few such blocks fit into the nearest cache."""

LONG = 2 * BLOCK
"""Elements from which on an operation is long."""

TINY_PRODUCT = 16
"""Multiplications of a matrix product up to which those of a stack are written out."""

PAIRWISE = 8
"""So many numbers in a row NumPy adds up by halves; fewer one after the other, before they go to the total."""


class _UFunc(ctypes.Structure):
    """The beginning of NumPy's PyUFuncObject."""

    _fields_ = (
        ("head", ctypes.c_byte * object.__basicsize__),
        *((name, ctypes.c_int) for name in ("nin", "nout", "nargs", "identity")),
        *((name, ctypes.POINTER(ctypes.c_void_p)) for name in ("functions", "data")),
    )


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


def _loop(ufunc: np.ufunc, arrays: Sequence[NDArray[Any]]) -> Loop:
    """The inner loop of a ufunc for operands of these dtypes, and the data that it is called with."""
    chars = "".join(array.dtype.char for array in arrays)
    types = f"{chars[: ufunc.nin]}->{chars[ufunc.nin :]}"
    if types not in ufunc.types:
        raise NotNative(f"np.{ufunc.__name__} has no loop {types}")
    at = ufunc.types.index(types)
    fields = _UFunc.from_address(id(ufunc))
    return Loop(fields.functions[at] or 0, fields.data[at] or 0)


def loops_of(ufunc: np.ufunc) -> list[int]:
    """The addresses of a ufunc's inner loops."""
    fields = _UFunc.from_address(id(ufunc))
    return [fields.functions[at] or 0 for at in range(len(ufunc.types))]


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


def _spread(array: NDArray[Any], shape: tuple[int, ...]) -> tuple[int, ...]:
    return array.strides if array.shape == shape else np.broadcast_to(array, shape).strides


class Lowering:
    """Calls, one after the other.

    Args:
        spans: see `block_memory.spans_of`.

    Attributes:
        calls: the table.
        inside: for a line of the table that does calls block by block, its number and these.
        kept: what must live as long as the table.
        passing: the roots that never are in their place, but in memory of one block's size.
    """

    def __init__(self, spans: Mapping[int, block_memory.Span] = MappingProxyType({})) -> None:
        self.calls: list[Call] = []
        self.kept: list[Any] = []
        self.inside: list[tuple[int, list[Call]]] = []
        self.passing: set[int] = set()
        self._spans = spans
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

    def operation(self, operation: Operation, args: list[NDArray[Any]], out: NDArray[Any]) -> None:
        """What `replay` does by a call into NumPy."""
        called, options = operation.function, dict(operation.options)
        self._number += 1
        refs = zip((*operation.args, operation.out), (*args, out), strict=True)
        self._roots = {id(array): ref.root for ref, array in refs if isinstance(ref, Ref) and ref.root in self._spans}
        if called in ELEMENTWISE:
            form = llvm_loops.formula(called, [array.dtype for array in args], out.dtype)
            self.elementwise(form or _loop(called, (*args, out)), (*args, out))
        elif called is np.matmul:
            self.matmul(args[0], args[1], out)
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
            self.reduce(called, args[0], out, options)
        else:
            raise NotNative(f"{getattr(called, '__name__', called)} is no loop of NumPy's")

    def elementwise(self, does: str | Loop, arrays: Sequence[NDArray[Any]]) -> None:
        """By a formula, or a loop of NumPy's."""
        shape, out = arrays[-1].shape, arrays[-1]
        for array in arrays[:-1]:
            same = address_of(array) == address_of(out) and (array.shape, array.strides) == (out.shape, out.strides)
            if not same and np.shares_memory(array, out):
                raise NotNative("an operation that writes over its operand")
        steps = [_spread(array, shape) for array in arrays]
        order = sorted(range(len(shape)), key=lambda axis: -abs(steps[-1][axis]))
        axes = _axes([shape[k] for k in order], [[step[k] for k in order] for step in steps])
        if 0 in axes.sizes:
            return
        if isinstance(does, Loop) and (len(axes.sizes) > 1 or min(axes.steps[0]) < 0):
            self.call(does, arrays, (), axes)
            return
        *operands, result = self._operands(arrays, axes)
        work = llvm_loops.elementwise(does, operands, result) if isinstance(does, str) else does
        roots = tuple(self._roots.get(id(array)) for array in arrays)
        self._add(Work(axes, tuple(map(address_of, arrays)), work, self._number, roots))

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

    def _kernel(self, sizes: Sequence[int], statements: Sequence[llvm_loops.Statement]) -> Call:
        text, operands = llvm_loops.kernel(sizes, statements)
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
                self.calls.append(self._kernel(sizes, statements))
            for work in [] if statements else works:
                assert isinstance(work.does, Loop)
                self._call(work.does, work.first, (), work.axes)

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
                text, operands = llvm_loops.kernel([0], placed, blocks - live, long=True)
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

    def matmul(self, a: NDArray[Any], b: NDArray[Any], out: NDArray[Any]) -> None:
        if min(a.ndim, b.ndim) < 2 or 0 in (*a.shape, *b.shape):
            raise NotNative("a matrix product of vectors, or of nothing")
        outer = out.shape[:-2]
        (m, k), n = a.shape[-2:], b.shape[-1]
        if k == 1 and out.size >= LONG and (how := _order(a, b, out)) is not None:
            self.elementwise(llvm_loops.single_term(how.fused), (a, b, out))
            return
        if outer and m * k * n <= TINY_PRODUCT and (how := _order(a, b, out)) is not None:
            self._products(how, a, b, out)
            return
        strides = [np.broadcast_to(array, (*outer, *array.shape[-2:])).strides for array in (a, b, out)]
        axes = _axes(outer, [steps[:-2] for steps in strides])
        *rest, innermost = axes.steps
        cores = [stride for array in (a, b, out) for stride in array.strides[-2:]]
        self.call(
            _loop(np.matmul, (a, b, out)), (a, b, out), (m, k, n), Axes(axes.sizes, (*rest, (*innermost, *cores)))
        )

    def _products(self, how: Summation, a: NDArray[Any], b: NDArray[Any], out: NDArray[Any]) -> None:
        """The matrix products of a stack, term by term, in one loop over the stack."""
        if how.backwards:
            a, b = a[..., ::-1], b[..., ::-1, :]
        self.elementwise(llvm_loops.ZERO, (out,))
        outer = out.shape[:-2]
        a, b = (np.broadcast_to(array, (*outer, *array.shape[-2:])) for array in (a, b))
        statements = []
        for k, m, n in itertools.product(range(a.shape[-1]), *map(range, out.shape[-2:])):
            numbers = (out[..., m, n], a[..., m, k], b[..., k, n])
            axes = _axes(outer, [array.strides for array in numbers])
            statements.append(llvm_loops.product_term(how.fused, *self._operands(numbers, axes)))
        self.statements(axes, statements)

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
        if form is None or (step == 0 and (ufunc is not np.add or joined.sizes[-1] >= PAIRWISE)):
            self.call(_loop(ufunc, (out, array, out)), (out, array, out), (), joined)
        elif step:
            total, row, _ = self._operands((out, array, out), joined)
            self.statements(joined, [llvm_loops.elementwise(form, (total, row), total)])
        else:
            rows = Axes(joined.sizes[:-1] or (1,), tuple(around) or ((0, 0, 0),))
            total, row, _ = self._operands((out, array, out), rows)
            self.statements(rows, [llvm_loops.short_sum(total, row, joined.sizes[-1], array_step)])


def _order(a: NDArray[Any], b: NDArray[Any], out: NDArray[Any]) -> Summation | None:
    """The order in which the products of a stack are added up, if it is known."""
    of_floats = a.dtype == b.dtype == out.dtype and out.dtype.str[1:] in ("f4", "f8") and out.dtype.isnative
    steps = a.strides[-2:], b.strides[-2:]
    if not of_floats or np.shares_memory(a, b) or min(map(min, steps)) < 0:
        return None
    return order_of_products((*a.shape[-2:], b.shape[-1]), *steps, out.dtype.str, fused=fuses())


_NAMES = tuple(np.empty(0).__array_interface__)
"""Kept alive. NumPy interns these names at every access, and one that nothing else in the process has is made and given
up each time: CPython then makes its whole table of interned strings anew every few thousand updates."""


def address_of(array: NDArray[Any]) -> int:
    address: int = array.__array_interface__["data"][0]
    return address
