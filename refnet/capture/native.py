"""A program as machine code: one call for many updates.

Nothing is computed in another way. The code calls the very inner loops that NumPy's ufuncs call, found in the ufuncs'
public C structure (`PyUFuncObject` in numpy/ufuncobject.h: `functions`, `data`, `types`), with pointers, sizes and
strides written down in advance; what is left out is the way there through Python. Beside them there are loops that only
move numbers. The code is written as LLVM's intermediate representation and translated by llvmlite, if it is installed.

An elementwise loop may go through the elements in any order. In a sum the order is NumPy's own: it starts from 0 and
adds, along axes sorted by stride, rows to a row where the innermost axis stays, and otherwise the pairwise sum of a row
that its loop makes of it.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.resources
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refnet.capture.program import ELEMENTWISE, Operation, Program, Ref
from refnet.data import Batch

BLOCK = 2048
"""Elements that operations on long arrays are carried out on in turn: a few such blocks fit into the nearest cache."""


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
    """The code that is the same for every program; the moves once for each size of element."""
    here = importlib.resources.files(__package__)
    moves = here.joinpath("moves.ll").read_text("utf-8")
    sizes = (moves.replace("BITS", bits) for bits in ("64", "32", "8"))
    return "\n".join((*sizes, here.joinpath("loops.ll").read_text("utf-8")))


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
class _Long:
    """An elementwise operation on many elements: where its operands begin, their steps, the number of elements."""

    loop: tuple[str, int]
    first: tuple[int, ...]
    steps: tuple[int, ...]
    size: int

    def goes_with(self, other: _Long) -> bool:
        """Whether the two may take turns, block by block: what one writes, the other has at the same places or not at
        all.
        """
        if self.size != other.size:
            return False
        for mine, my_step in zip(self.first, self.steps, strict=True):
            for theirs, their_step in zip(other.first, other.steps, strict=True):
                written = mine == self.first[-1] or theirs == other.first[-1]
                apart = mine + self._extent(my_step) <= theirs or theirs + self._extent(their_step) <= mine
                if written and not apart and (mine, my_step) != (theirs, their_step):
                    return False
        return True

    def _extent(self, step: int) -> int:
        """Bytes from the first element to behind the last, at most."""
        return max(step, 8) * self.size if step else 8


class _Writer:
    """Calls, one after the other, as lines of the intermediate representation."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.kept: list[Any] = []
        self._pending: list[_Long] = []

    def done(self) -> list[str]:
        """All lines."""
        self._flush()
        return self.lines

    def table(self, numbers: Sequence[int]) -> int:
        """The address of these numbers."""
        memory = np.array(numbers, np.int64)
        self.kept.append(memory)
        return _address(memory)

    def call(self, loop: tuple[str, int], arrays: Sequence[NDArray[Any]], dims: Sequence[int], axes: _Axes) -> None:
        """`loop` along the innermost axis, or with its own `dims` behind that, once for each place on the others.

        A loop may leave its pointers anywhere, as that of matmul does, so each call gets them anew.
        """
        self._flush()
        function, data = loop
        if 0 in axes.sizes:
            return
        *outer, size = axes.sizes
        *around, steps = axes.steps
        first = [_address(array) for array in arrays]
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
            self.elementwise(_loop(called, (*args, out)), (*args, out))
        elif called is np.matmul:
            self.matmul(args[0], args[1], out)
        elif called is np.copyto:
            self.copy(args[0], out)
        elif called is np.where:
            kinds = {array.dtype for array in (*args[1:], out)}
            if len(kinds) > 1 or args[0].dtype != np.bool_:
                raise NotNative("np.where with operands of different dtypes")
            self.elementwise((f"@select{8 * out.itemsize}", 0), (*args, out))
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

    def elementwise(self, loop: tuple[str, int], arrays: Sequence[NDArray[Any]]) -> None:
        shape, out = arrays[-1].shape, arrays[-1]
        for array in arrays[:-1]:
            same = _address(array) == _address(out) and (array.shape, array.strides) == (out.shape, out.strides)
            if not same and np.shares_memory(array, out):
                raise NotNative("an operation that writes over its operand")
        steps = [_spread(array, shape) for array in arrays]
        order = sorted(range(len(shape)), key=lambda axis: -abs(steps[-1][axis]))
        axes = _axes([shape[k] for k in order], [[step[k] for k in order] for step in steps])
        if len(axes.sizes) > 1 or axes.sizes[0] < 2 * BLOCK or min(axes.steps[0]) < 0:
            self.call(loop, arrays, (), axes)
            return
        operation = _Long(loop, tuple(map(_address, arrays)), axes.steps[0], axes.sizes[0])
        if not all(operation.goes_with(other) for other in self._pending):
            self._flush()
        self._pending.append(operation)

    def _flush(self) -> None:
        """Write down the long operations that can be taken through their elements together."""
        if not self._pending:
            return
        numbers: list[Any] = []
        for operation in self._pending:
            function, data = operation.loop
            args, first, dims, steps = map(self.table, (operation.first, operation.first, [0], operation.steps))
            numbers.append((function, data, args, first, dims, steps, len(operation.first)))
        table = self.table([0] * (7 * len(numbers)))
        for k, (function, *rest) in enumerate(numbers):
            self.lines.append(f"store ptr {function}, {_pointers(table + 56 * k)}")
            self.kept[-1][7 * k + 1 : 7 * k + 7] = rest
        self.lines.append(
            f"call void @blocks({_pointers(table)}, i64 {len(numbers)}, i64 {self._pending[0].size}, i64 {BLOCK})"
        )
        self._pending = []

    def copy(self, array: NDArray[Any], out: NDArray[Any]) -> None:
        if array.dtype != out.dtype or out.itemsize not in (1, 4, 8):
            raise NotNative(f"a copy from {array.dtype} to {out.dtype}")
        if array.shape == out.shape and array.flags.c_contiguous and out.flags.c_contiguous:
            if _address(out) != _address(array) and np.shares_memory(array, out):
                raise NotNative("an operation that writes over its operand")
            self._flush()
            self.lines.append(_memcpy(_pointers(_address(out), _address(array)), out.nbytes))
        else:
            self.elementwise((f"@copy{8 * out.itemsize}", 0), (array, out))

    def matmul(self, a: NDArray[Any], b: NDArray[Any], out: NDArray[Any]) -> None:
        if min(a.ndim, b.ndim) < 2 or 0 in (*a.shape, *b.shape):
            raise NotNative("a matrix product of vectors, or of nothing")
        outer = out.shape[:-2]
        steps = [np.broadcast_to(array, (*outer, *array.shape[-2:])).strides[:-2] for array in (a, b, out)]
        axes = _axes(outer, steps)
        *rest, innermost = axes.steps
        cores = [stride for array in (a, b, out) for stride in array.strides[-2:]]
        dims = (a.shape[-2], a.shape[-1], b.shape[-1])
        self.call(_loop(np.matmul, (a, b, out)), (a, b, out), dims, _Axes(axes.sizes, (*rest, (*innermost, *cores))))

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
        self._flush()
        if ufunc is np.add:
            self.lines.append(
                f"call void @llvm.memset.p0.i64({_pointers(_address(out))}, i8 0, i64 {out.nbytes}, i1 false)"
            )
        else:
            first = array[tuple(slice(0, 1) if k in axes else slice(None) for k in range(array.ndim))]
            self.copy(first, kept)
        joined = _axes(array.shape, [steps, array.strides, steps])
        self.call(_loop(ufunc, (out, array, out)), (out, array, out), (), joined)


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
        writer = _Writer()
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
        self._result = arrays[program.result]
        if not self._result.flags.c_contiguous:
            raise NotNative("a loss that does not lie in order")
        self._kept = (writer.kept, arrays, program.given, list(data), list(cells))
        self._run = _compiled(_source(writer.done(), self._samples, self._result, cells))

    def run(self, batches: Sequence[Batch], rates: NDArray[Any] | None = None) -> NDArray[Any]:
        """An update on each of the batches, at the rates (updates, cells) where given; their losses (updates, ...)."""
        updates, indices = len(batches), None
        if self._samples:
            first = batches[0]
            rows = batches if isinstance(first, np.ndarray) else [np.r_[batch] for batch in batches]
            indices = np.ascontiguousarray(rows, np.int64)
            if indices.size != updates * self._samples:
                raise ValueError(f"Machine: expected batches of {self._samples} samples, got {indices.shape}")
        losses = np.empty((updates, *self._result.shape), self._result.dtype)
        self._run(updates, *(None if array is None else _address(array) for array in (indices, losses, rates)))
        return losses


def _source(lines: Sequence[str], samples: int, result: NDArray[Any], cells: Sequence[NDArray[Any]]) -> str:
    """A function of the number of updates and of the addresses of batches, losses and rates (or null)."""
    width, setting, start = sum(cell.nbytes for cell in cells), [], 0
    for number, cell in enumerate(cells):
        setting += [
            f"%rate.{number} = getelementptr i8, ptr %rates.k, i64 {start}",
            _memcpy(f"{_pointers(_address(cell))}, ptr %rate.{number}", cell.nbytes),
        ]
        start += cell.nbytes
    set_rates, update = "\n  ".join(setting), "\n  ".join(lines)
    return f"""{_helpers()}
define void @run(i64 %n, ptr %batches, ptr %losses, ptr %rates) {{
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
def _target() -> Any:
    try:
        from llvmlite import binding
    except ImportError:
        raise NotNative("llvmlite is not installed") from None
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    return binding, binding.Target.from_default_triple()


def _compiled(source: str) -> Any:
    """The function `run` of a module."""
    binding, target = _target()
    module = binding.parse_assembly(source)
    engine = binding.create_mcjit_compiler(module, target.create_target_machine(opt=2, jit=True))
    engine.finalize_object()
    pointers = (ctypes.c_void_p,) * 3
    run = ctypes.CFUNCTYPE(None, ctypes.c_int64, *pointers)(engine.get_function_address("run"))
    run.engine = engine  # type: ignore[attr-defined]  # the code lives as long as the engine
    return run


def loaded() -> bool:
    """Whether the translator is there without having to be loaded."""
    return "llvmlite.binding" in sys.modules
