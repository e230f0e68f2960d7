"""A program as machine code: one call for many updates, and no other bits.

The code is LLVM's intermediate representation (`lowering`), translated by llvmlite if that is installed.
"""

from __future__ import annotations

import functools
import importlib.resources
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refnet.train.capture.native import llvm_loops
from refnet.train.capture.native.lowering import Lowering, address_of, memcpy, pointers
from refnet.train.capture.native.translator import NotNative, compiled
from refnet.train.capture.program import Program, Ref


@functools.cache
def _helpers() -> str:
    """The code that is the same for every program."""
    return importlib.resources.files(__package__).joinpath("loops.ll").read_text("utf-8")


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
        self._base = address_of(self._result)
        lowering = Lowering(self._base)
        self._samples = 0
        for whole, buffer in data:
            row = whole[:1].nbytes
            if not (whole.flags.c_contiguous and buffer.flags.c_contiguous) or row == 0:
                raise NotNative("samples that do not lie side by side")
            self._samples = buffer.nbytes // row
            lowering.lines.append(
                f"call void @take({pointers(address_of(buffer), address_of(whole))}, ptr %batch, "
                f"i64 {self._samples}, i64 {row})"
            )
        for operation in program.operations:
            out = arrays[operation.out]
            args = [arrays[arg] if isinstance(arg, Ref) else np.asarray(arg, out.dtype) for arg in operation.args]
            lowering.kept.append(args)
            lowering.operation(operation, args, out)
        if not self._result.flags.c_contiguous:
            raise NotNative("a loss that does not lie in order")
        self._kept = (lowering.kept, arrays, program.given, list(data), list(cells))
        self._run = compiled(
            _source(lowering.done(), self._samples, self._result, cells), unrolled=lowering.most <= llvm_loops.FEW
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
        addresses = [None if array is None else address_of(array) for array in (indices, losses, rates)]
        self._run(updates, *addresses, self._base)
        return losses


def _source(lowering: Lowering, samples: int, result: NDArray[Any], cells: Sequence[NDArray[Any]]) -> str:
    """A function of the number of updates and of the addresses of batches, losses and rates (or null)."""
    width, setting, start = sum(cell.nbytes for cell in cells), [], 0
    for number, cell in enumerate(cells):
        setting += [
            f"%rate.{number} = getelementptr i8, ptr %rates.k, i64 {start}",
            memcpy(f"{pointers(address_of(cell))}, ptr %rate.{number}", cell.nbytes),
        ]
        start += cell.nbytes
    set_rates, update, functions = "\n  ".join(setting), "\n  ".join(lowering.lines), "\n".join(lowering.functions)
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
  {memcpy(f"ptr %loss, {pointers(address_of(result))}", result.nbytes)}
  %k.next = add i64 %k, 1
  br label %head
done:
  ret void
}}
"""
