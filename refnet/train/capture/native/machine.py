"""A program as machine code: one call for many updates.

Nothing gets other bits. Operations that IEEE 754 prescribes are written out (`written`) and left to the translator to
keep in registers, unroll and vectorize, which changes no bit of them. For all else the code calls the very inner loops
that NumPy's ufuncs call, found in the ufuncs' public C structure (`PyUFuncObject` in numpy/ufuncobject.h: `functions`,
`data`, `types`), with pointers, sizes and strides written down in advance. The code is LLVM's intermediate
representation and translated by llvmlite, if it is installed.

An elementwise loop may go through the elements in any order. In a sum the order is NumPy's own: it starts from 0 and
adds, along axes sorted by stride, rows to a row where the innermost axis stays, and otherwise the pairwise sum of a row
that its loop makes of it.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.resources
import itertools
import math
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from refnet.train.capture.native import llvm_loops
from refnet.train.capture.program import ELEMENTWISE, Operation, Program, Ref

BLOCK = 2048
"""Elements that operations on long arrays are carried out on in turn: a few such blocks fit into the nearest cache."""

LONG = 2 * BLOCK
"""Elements from which on an operation is long."""

SMALL_PRODUCT = 4096
"""Multiplications of a matrix product up to which it is worth writing out."""

FACTORS = 16
"""Multiplications of a matrix product up to which those of a stack are written out one by one."""

PAIRWISE = 8
"""So many numbers in a row NumPy adds up by halves; fewer one after the other, before they go to the total."""


class NotNative(Exception):
    """A program cannot be translated; the message says what stands against it."""


class _UFunc(ctypes.Structure):
    """The beginning of NumPy's PyUFuncObject."""

    _fields_ = (
        ("head", ctypes.c_byte * object.__basicsize__),
        *((name, ctypes.c_int) for name in ("nin", "nout", "nargs", "identity")),
        *((name, ctypes.POINTER(ctypes.c_void_p)) for name in ("functions", "data")),
    )


def _loop(ufunc: np.ufunc, arrays: Sequence[NDArray[Any]]) -> tuple[str, int]:
    """The inner loop of a ufunc for operands of these dtypes, and the data that it is called with."""
    chars = "".join(array.dtype.char for array in arrays)
    types = f"{chars[: ufunc.nin]}->{chars[ufunc.nin :]}"
    if types not in ufunc.types:
        raise NotNative(f"np.{ufunc.__name__} has no loop {types}")
    at = ufunc.types.index(types)
    fields = _UFunc.from_address(id(ufunc))
    return f"inttoptr (i64 {fields.functions[at]} to ptr)", fields.data[at] or 0


@functools.cache
def _helpers() -> str:
    """The code that is the same for every program."""
    return importlib.resources.files(__package__).joinpath("loops.ll").read_text("utf-8")


@dataclass(frozen=True)
class _Axes:
    """The axes of a call: sizes, and for each the step of every operand in bytes; the innermost last."""

    sizes: tuple[int, ...]
    steps: tuple[tuple[int, ...], ...]


def _axes(shape: Sequence[int], operands: Sequence[Sequence[int]]) -> _Axes:
    """Axes without those of size 1, and joined where one step leads on from another in every operand."""
    axes = [(size, steps) for size, *steps in zip(shape, *operands, strict=True) if size != 1]
    joined: list[tuple[int, list[int]]] = []
    for size, steps in axes:
        if joined and all(outer == size * inner for outer, inner in zip(joined[-1][1], steps, strict=True)):
            joined[-1] = (joined[-1][0] * size, steps)
        else:
            joined.append((size, steps))
    joined = joined or [(1, [0] * len(operands))]
    return _Axes(tuple(size for size, _ in joined), tuple(tuple(steps) for _, steps in joined))


def _spread(array: NDArray[Any], shape: tuple[int, ...]) -> tuple[int, ...]:
    return np.broadcast_to(array, shape).strides


@dataclass(frozen=True)
class _Work:
    """An elementwise operation that waits for others to share a loop with: its operands and result, where they begin
    and their steps; written out, or a loop of NumPy's.
    """

    axes: _Axes
    first: tuple[int, ...]
    does: llvm_loops.Statement | tuple[str, int]

    def goes_with(self, other: _Work) -> bool:
        """Whether the two may take turns at every place: what one writes, the other has at the same places or not at
        all.
        """
        if self.axes.sizes != other.axes.sizes:
            return False
        for mine, my_steps in zip(self.first, zip(*self.axes.steps, strict=True), strict=True):
            for theirs, their_steps in zip(other.first, zip(*other.axes.steps, strict=True), strict=True):
                is_written = mine == self.first[-1] or theirs == other.first[-1]
                (low, high), (other_low, other_high) = self._span(mine, my_steps), self._span(theirs, their_steps)
                apart = high <= other_low or other_high <= low
                if is_written and not apart and (mine, my_steps) != (theirs, their_steps):
                    return False
        return True

    def _span(self, first: int, steps: Sequence[int]) -> tuple[int, int]:
        """Where the elements lie, at most: from the lowest byte to behind the highest."""
        ways = [(size - 1) * step for size, step in zip(self.axes.sizes, steps, strict=True)]
        return first + sum(way for way in ways if way < 0), first + sum(way for way in ways if way > 0) + 8


class _Writer:
    """Calls, one after the other, as lines of the intermediate representation.

    Attributes:
        base: an address; operations that are written out find their operands by the distance from it, so that the
            translator knows what lies where and keeps in registers what is only passed on.
        functions: the functions that the lines call.
        most: the largest number of places that one of them goes through.
    """

    def __init__(self, base: int) -> None:
        self.base = base
        self.lines: list[str] = []
        self.functions: list[str] = []
        self.most = 0
        self.kept: list[Any] = []
        self._pending: list[_Work] = []

    def done(self) -> Self:
        self._flush()
        return self

    def table(self, numbers: Sequence[int]) -> int:
        """The address of these numbers."""
        memory = np.array(numbers, np.int64)
        self.kept.append(memory)
        return _address(memory)

    def call(self, loop: tuple[str, int], arrays: Sequence[NDArray[Any]], dims: Sequence[int], axes: _Axes) -> None:
        """`loop` along the innermost axis, or with its own `dims` behind that, once for each place on the others."""
        self._flush()
        self._call(loop, tuple(map(_address, arrays)), dims, axes)

    def _call(self, loop: tuple[str, int], first: tuple[int, ...], dims: Sequence[int], axes: _Axes) -> None:
        """(A loop may leave its pointers anywhere, as that of matmul does, so each call gets them anew.)"""
        function, data = loop
        if 0 in axes.sizes:
            return
        *outer, size = axes.sizes
        *around, steps = axes.steps
        args, start, dims_at, steps_at = map(self.table, (first, first, [size, *dims], steps))
        if not outer:
            self.lines.append(_memcpy(_pointers(args, start), 8 * len(first)))
            self.lines.append(f"call void {function}({_pointers(args, dims_at, steps_at, data)})")
            return
        if len(outer) > 2:
            raise NotNative("an operation with more than two axes outside its loop")
        if len(outer) == 1:
            outer, around = [1, *outer], [around[0], *around]
        n, m = outer
        self.lines.append(
            f"call void @calls(ptr {function}, {_pointers(data, args, start, dims_at, steps_at)}, "
            f"i64 {len(first)}, i64 {n}, i64 {m}, {_pointers(*map(self.table, around))})"
        )

    def operation(self, operation: Operation, args: list[NDArray[Any]], out: NDArray[Any]) -> None:
        """What `replay` does by a call into NumPy."""
        called, options = operation.function, dict(operation.options)
        if called in ELEMENTWISE:
            # (a long operation gains nothing by being written out, and costs the translator its time)
            form = llvm_loops.formula(called, [array.dtype for array in args], out.dtype) if out.size < LONG else None
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

    def elementwise(self, does: str | tuple[str, int], arrays: Sequence[NDArray[Any]]) -> None:
        """By a formula, or a loop of NumPy's."""
        shape, out = arrays[-1].shape, arrays[-1]
        for array in arrays[:-1]:
            same = _address(array) == _address(out) and (array.shape, array.strides) == (out.shape, out.strides)
            if not same and np.shares_memory(array, out):
                raise NotNative("an operation that writes over its operand")
        steps = [_spread(array, shape) for array in arrays]
        order = sorted(range(len(shape)), key=lambda axis: -abs(steps[-1][axis]))
        axes = _axes([shape[k] for k in order], [[step[k] for k in order] for step in steps])
        if 0 in axes.sizes:
            return
        if isinstance(does, tuple) and (len(axes.sizes) > 1 or min(axes.steps[0]) < 0):
            self.call(does, arrays, (), axes)
            return
        *operands, result = self._operands(arrays, axes)
        work = llvm_loops.elementwise(does, operands, result) if isinstance(does, str) else does
        self._add(_Work(axes, tuple(map(_address, arrays)), work))

    def _operands(self, arrays: Sequence[NDArray[Any]], axes: _Axes) -> list[llvm_loops.Operand]:
        return [
            llvm_loops.Operand(_address(array) - self.base, steps, llvm_loops.type_of(array.dtype))
            for array, steps in zip(arrays, zip(*axes.steps, strict=True), strict=True)
        ]

    def _add(self, work: _Work) -> None:
        if not all(work.goes_with(other) for other in self._pending):
            self._flush()
        self._pending.append(work)

    def statement(self, axes: _Axes, statement: llvm_loops.Statement) -> None:
        """A loop of its own."""
        self._flush()
        self.lines.append(f"call void @{self._nest(axes.sizes, [statement])}(ptr %base)")

    def _nest(self, sizes: Sequence[int], statements: Sequence[llvm_loops.Statement], *, part: bool = False) -> str:
        self.most = max(self.most, math.prod(sizes))
        name = f"nest{len(self.functions)}"
        self.functions.append(llvm_loops.nest(name, sizes, statements, part=part))
        return name

    def _flush(self) -> None:
        """Write down the operations that wait: those written out in common loops between NumPy's; if there are many
        elements, block by block, so that what one writes is still in the cache when the next reads it.
        """
        pending, self._pending = self._pending, []
        if not pending:
            return
        sizes = pending[0].axes.sizes
        in_blocks = len(pending) > 1 and len(sizes) == 1 and sizes[0] >= LONG
        outside, self.lines = self.lines, [] if in_blocks else self.lines
        for is_statement, group in itertools.groupby(pending, lambda work: isinstance(work.does, llvm_loops.Statement)):
            if is_statement:
                name = self._nest(sizes, [work.does for work in group], part=in_blocks)  # type: ignore[misc]
                self.lines.append(f"call void @{name}(ptr %base{', i64 %from, i64 %to' if in_blocks else ''})")
                continue
            for work in group:
                assert isinstance(work.does, tuple)
                if in_blocks:
                    self._call_on_block(work.does, work.first, work.axes.steps[0])
                else:
                    self._call(work.does, work.first, (), work.axes)
        if in_blocks:
            inside, self.lines = "\n  ".join(self.lines), outside
            name = f"blocks{len(self.functions)}"
            self.functions.append(_blocks(name, sizes[0], inside))
            self.lines.append(f"call void @{name}(ptr %base)")

    def _call_on_block(self, loop: tuple[str, int], first: tuple[int, ...], steps: tuple[int, ...]) -> None:
        function, data = loop
        args, dims, steps_at = map(self.table, (first, [0], steps))
        number = len(self.kept)
        self.lines.append(f"store i64 %n, {_pointers(dims)}")
        for k, (start, step) in enumerate(zip(first, steps, strict=True)):
            self.lines += [
                f"%m{number}.{k} = mul i64 %from, {step}",
                f"%a{number}.{k} = add i64 {start}, %m{number}.{k}",
                f"store i64 %a{number}.{k}, {_pointers(args + 8 * k)}",
            ]
        self.lines.append(f"call void {function}({_pointers(args, dims, steps_at, data)})")

    def copy(self, array: NDArray[Any], out: NDArray[Any]) -> None:
        if array.dtype != out.dtype or out.itemsize not in (1, 4, 8):
            raise NotNative(f"a copy from {array.dtype} to {out.dtype}")
        lie_alike = array.shape == out.shape and array.flags.c_contiguous and out.flags.c_contiguous
        if lie_alike and out.size > BLOCK:
            if _address(out) != _address(array) and np.shares_memory(array, out):
                raise NotNative("an operation that writes over its operand")
            self._flush()
            self.lines.append(_memcpy(_pointers(_address(out), _address(array)), out.nbytes))
        else:
            self.elementwise(llvm_loops.COPY, (array, out))

    def matmul(self, a: NDArray[Any], b: NDArray[Any], out: NDArray[Any]) -> None:
        if min(a.ndim, b.ndim) < 2 or 0 in (*a.shape, *b.shape):
            raise NotNative("a matrix product of vectors, or of nothing")
        outer = out.shape[:-2]
        strides = [np.broadcast_to(array, (*outer, *array.shape[-2:])).strides for array in (a, b, out)]
        (m, k), n = a.shape[-2:], b.shape[-1]
        how = None
        of_floats = a.dtype == b.dtype == out.dtype and out.dtype.str[1:] in ("f4", "f8") and out.dtype.isnative
        plain = of_floats and not np.shares_memory(a, b) and min(*strides[0][-2:], *strides[1][-2:]) >= 0
        if plain and m * k * n <= SMALL_PRODUCT:
            how = llvm_loops.summation((m, k, n), strides[0][-2:], strides[1][-2:], out.dtype.str, fused=_fuses())
        if how is not None:
            self._summed(how, a, b, out)
            return
        axes = _axes(outer, [steps[:-2] for steps in strides])
        *rest, innermost = axes.steps
        cores = [stride for array in (a, b, out) for stride in array.strides[-2:]]
        self.call(
            _loop(np.matmul, (a, b, out)), (a, b, out), (m, k, n), _Axes(axes.sizes, (*rest, (*innermost, *cores)))
        )

    def _summed(self, how: llvm_loops.Summation, a: NDArray[Any], b: NDArray[Any], out: NDArray[Any]) -> None:
        """A matrix product, term by term."""
        (m, k), n = a.shape[-2:], b.shape[-1]
        if b.ndim == 2 and m > 2 and n > 2 and b.strides[1] != b.itemsize:
            # The numbers of a row side by side can be added to together.
            packed = np.empty(b.shape, b.dtype)
            self.kept.append(packed)
            self.copy(b, packed)
            b = packed
        if how.backwards:
            a, b = a[..., ::-1], b[..., ::-1, :]
        if how.from_zero:
            self.elementwise(llvm_loops.ZERO, (out,))
        else:
            self.elementwise(llvm_loops.OF_FLOATS[np.multiply], (a[..., :1], b[..., :1, :], out))
            a, b, k = a[..., 1:], b[..., 1:, :], k - 1
        if k == 0:
            return
        if out.ndim > 2 and m * k * n <= FACTORS:
            self._summed_in_each(how, a, b, out)
            return
        # All elements get a term before any gets the next: none has to wait for its own last addition.
        shape = (*out.shape[:-2], k, m, n)
        operands = (np.expand_dims(out, -3), np.expand_dims(a.mT, -1), np.expand_dims(b, -2))
        axes = _axes(shape, [_spread(array, shape) for array in operands])
        total, left, right = self._operands((out, a, b), axes)
        self.statement(axes, llvm_loops.product_term(how, total, left, right))

    def _summed_in_each(self, how: llvm_loops.Summation, a: NDArray[Any], b: NDArray[Any], out: NDArray[Any]) -> None:
        """The same in a loop over the matrices of a stack, each of few numbers."""
        outer = out.shape[:-2]
        a, b = (np.broadcast_to(array, (*outer, *array.shape[-2:])) for array in (a, b))
        statements = []
        for k, m, n in itertools.product(range(a.shape[-1]), *map(range, out.shape[-2:])):
            numbers = (out[..., m, n], a[..., m, k], b[..., k, n])
            axes = _axes(outer, [array.strides for array in numbers])
            statements.append(llvm_loops.product_term(how, *self._operands(numbers, axes)))
        self._flush()
        self.lines.append(f"call void @{self._nest(axes.sizes, statements)}(ptr %base)")

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
            self.statement(joined, llvm_loops.elementwise(form, (total, row), total))
        else:
            rows = _Axes(joined.sizes[:-1] or (1,), tuple(around) or ((0, 0, 0),))
            total, row, _ = self._operands((out, array, out), rows)
            self.statement(rows, llvm_loops.short_sum(total, row, joined.sizes[-1], array_step))


def _blocks(name: str, size: int, inside: str) -> str:
    """A function of the base that does what is inside for one block of so many elements after the other."""
    return f"""define internal void @{name}(ptr %base) {{
entry:
  br label %block
block:
  %from = phi i64 [0, %entry], [%to, %block]
  %end = add i64 %from, {BLOCK}
  %short = icmp slt i64 {size}, %end
  %to = select i1 %short, i64 {size}, i64 %end
  %n = sub i64 %to, %from
  {inside}
  %more = icmp slt i64 %to, {size}
  br i1 %more, label %block, label %done
done:
  ret void
}}"""


def _pointers(*addresses: int) -> str:
    return ", ".join(f"ptr inttoptr (i64 {address} to ptr)" for address in addresses)


def _memcpy(pointers: str, size: int) -> str:
    return f"call void @llvm.memcpy.p0.p0.i64({pointers}, i64 {size}, i1 false)"


def _address(array: NDArray[Any]) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


class Machine:
    """A program as a function of machine code.

    Args:
        program, arrays: the program, and where its arrays lie (`replay.layout`).
        data: each whole set with the buffer that a batch of it goes to.
        cells: arrays that may be set anew for each update: the learning rates.

    Raises:
        NotNative: llvmlite is missing, or something in the program is no loop of NumPy's.
    """

    def __init__(
        self,
        program: Program,
        arrays: dict[Ref, NDArray[Any]],
        data: Sequence[tuple[NDArray[Any], NDArray[Any]]],
        cells: Sequence[NDArray[Any]],
    ) -> None:
        self._result = arrays[program.result]
        self._base = _address(self._result)
        writer = _Writer(self._base)
        self._samples = 0
        for whole, buffer in data:
            row = whole[:1].nbytes
            if not (whole.flags.c_contiguous and buffer.flags.c_contiguous) or row == 0:
                raise NotNative("samples that do not lie side by side")
            self._samples = buffer.nbytes // row
            writer.lines.append(
                f"call void @take({_pointers(_address(buffer), _address(whole))}, ptr %batch, "
                f"i64 {self._samples}, i64 {row})"
            )
        for operation in program.operations:
            out = arrays[operation.out]
            args = [arrays[arg] if isinstance(arg, Ref) else np.asarray(arg, out.dtype) for arg in operation.args]
            writer.kept.append(args)
            writer.operation(operation, args, out)
        if not self._result.flags.c_contiguous:
            raise NotNative("a loss that does not lie in order")
        self._kept = (writer.kept, arrays, program.given, list(data), list(cells))
        self._run = _compiled(
            _source(writer.done(), self._samples, self._result, cells), unrolled=writer.most <= llvm_loops.FEW
        )

    def run(
        self, updates: int, indices: NDArray[np.int64] | None = None, rates: NDArray[Any] | None = None
    ) -> NDArray[Any]:
        """So many updates, on the samples with the given indices (updates, ...) where a batch is not the whole set, at
        the rates (updates, cells) where given; their losses (updates, ...).
        """
        if self._samples:
            indices = np.ascontiguousarray(np.empty(0, np.int64) if indices is None else indices, np.int64)
            if indices.size != updates * self._samples:
                raise ValueError(f"Machine: expected batches of {self._samples} samples, got {indices.shape}")
        losses = np.empty((updates, *self._result.shape), self._result.dtype)
        addresses = [None if array is None else _address(array) for array in (indices, losses, rates)]
        self._run(updates, *addresses, self._base)
        return losses


def _source(writer: _Writer, samples: int, result: NDArray[Any], cells: Sequence[NDArray[Any]]) -> str:
    """A function of the number of updates and of the addresses of batches, losses and rates (or null)."""
    width, setting, start = sum(cell.nbytes for cell in cells), [], 0
    for number, cell in enumerate(cells):
        setting += [
            f"%rate.{number} = getelementptr i8, ptr %rates.k, i64 {start}",
            _memcpy(f"{_pointers(_address(cell))}, ptr %rate.{number}", cell.nbytes),
        ]
        start += cell.nbytes
    set_rates, update, functions = "\n  ".join(setting), "\n  ".join(writer.lines), "\n".join(writer.functions)
    return f"""{_helpers()}
{llvm_loops.DECLARATIONS}
{functions}
define void @run(i64 %n, ptr %batches, ptr %losses, ptr %rates, ptr %base) {{
entry:
  %steady = icmp eq ptr %rates, null
  br label %head
head:
  %k = phi i64 [0, %entry], [%k.next, %update]
  %more = icmp slt i64 %k, %n
  br i1 %more, label %body, label %done
body:
  br i1 %steady, label %update, label %set
set:
  %rates.off = mul i64 %k, {width}
  %rates.k = getelementptr i8, ptr %rates, i64 %rates.off
  {set_rates}
  br label %update
update:
  %batch.off = mul i64 %k, {samples}
  %batch = getelementptr i64, ptr %batches, i64 %batch.off
  {update}
  %loss.off = mul i64 %k, {result.nbytes}
  %loss = getelementptr i8, ptr %losses, i64 %loss.off
  {_memcpy(f"ptr %loss, {_pointers(_address(result))}", result.nbytes)}
  %k.next = add i64 %k, 1
  br label %head
done:
  ret void
}}
"""


@functools.cache
def _target() -> tuple[Any, Any, str]:
    """The translator, its target, and what this processor can do beyond it."""
    try:
        from llvmlite import binding
    except ImportError:
        raise NotNative("llvmlite is not installed") from None
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    try:
        features = binding.get_host_cpu_features().flatten()
    except RuntimeError:  # it cannot tell
        features = ""
    return binding, binding.Target.from_default_triple(), features


def _fuses() -> bool:
    """Whether the processor computes a b + c with one rounding."""
    _, _, features = _target()
    return "+fma" in features.split(",") or platform.machine() in ("aarch64", "arm64")


def _compiled(source: str, *, unrolled: bool) -> Any:
    """The function `run` of a module; with loops that are unrolled, or are vectorized."""
    binding, target, features = _target()
    machine = target.create_target_machine(cpu=binding.get_host_cpu_name(), features=features, opt=2, jit=True)
    module = binding.parse_assembly(source)
    options = binding.create_pipeline_tuning_options(speed_level=2)
    options.loop_unrolling = unrolled
    options.loop_vectorization = not unrolled
    options.loop_interleaving = options.slp_vectorization = False
    passes = binding.create_pass_builder(machine, options)
    passes.getModulePassManager().run(module, passes)
    engine = binding.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    pointers = (ctypes.c_void_p,) * 4
    run = ctypes.CFUNCTYPE(None, ctypes.c_int64, *pointers)(engine.get_function_address("run"))
    run.engine = engine  # type: ignore[attr-defined]  # the code lives as long as the engine
    return run


def loaded() -> bool:
    """Whether the translator is there without having to be loaded."""
    return "llvmlite.binding" in sys.modules
