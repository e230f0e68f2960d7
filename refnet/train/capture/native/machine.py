"""A program as machine code: one call for many updates, and no other bits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refnet.train.addresses import address_of
from refnet.train.capture import replay
from refnet.train.capture.native import block_memory, translator
from refnet.train.capture.native.innermost import Innermost
from refnet.train.capture.native.lowering import Call, Lowering
from refnet.train.capture.native.translator import NotNative
from refnet.train.capture.native.ufunc_loops import Loop
from refnet.train.capture.program import Program, Ref, results_of
from refnet.train.capture.recorder import Interrupted, never

LOWERING = 1e-4
"""Seconds that an operation takes to become a line of the table, about."""


class Machine:
    """A program as a table of calls that a function of machine code goes through.

    Args:
        program, arrays: the program, and where its arrays lie (`replay.layout`).
        data: each whole set with the buffer that a batch of it goes to.
        cells: arrays that may be set anew for each update: the learning rates.
        worth: seconds that a translation may take.
        interrupted: whether to give up, because somebody wants to interrupt.
        innermost: its arrays with the runs innermost, on which it works then.

    Attributes:
        table: the calls of an update, one a line.
        inside: what an update leaves of what it computes in between, where the replay does and where this does, in the
            same order.
        memory: what it computes in, and where nothing stays from one update to the next.

    Raises:
        NotNative: llvmlite is missing; something in the program is no loop of NumPy's; or the translation would take
            longer than it is worth.
        Interrupted: somebody wants to interrupt.
    """

    def __init__(
        self,
        program: Program,
        arrays: dict[Ref, NDArray[Any]],
        data: Sequence[tuple[NDArray[Any], NDArray[Any]]],
        cells: Sequence[NDArray[Any]],
        worth: float = float("inf"),
        interrupted: Callable[[], bool] = never,
        innermost: Innermost | None = None,
    ) -> None:
        cost = len(program.operations) * LOWERING + (0 if translator.loaded() else translator.LOADING)
        if worth < cost:
            raise NotNative("machine code pays only in a longer training")
        here = arrays if innermost is None else innermost.arrays
        self.memory = replay.own_memory(program, here)
        self._lasting = [] if innermost is None else innermost.lasting
        self._result = here[program.result]
        if not self._result.flags.c_contiguous:
            raise NotNative("a loss that does not lie in order")
        self._state = np.zeros(3, np.int64)
        lowering, state = Lowering(block_memory.spans_of(program), program.constant), address_of(self._state)
        self._samples = 0
        for whole, buffer in data:
            row = whole[:1].nbytes
            if not (whole.flags.c_contiguous and buffer.flags.c_contiguous) or row == 0:
                raise NotNative("samples that do not lie side by side")
            self._samples = buffer.nbytes // row
            lowering.fixed("take", (whole, buffer), (self._samples, row), state)
        start = 0
        for cell in cells:
            lowering.fixed("rate", (cell,), (cell.nbytes, start), state)
            start += cell.nbytes
        self._rates = start
        for operation in program.operations:
            if interrupted():
                raise Interrupted
            out = here[operation.out]
            args = [here[arg] if isinstance(arg, Ref) else np.asarray(arg, out.dtype) for arg in operation.args]
            lowering.kept.append(args)
            recorded = None if innermost is None else [arrays[ref] for ref in (*operation.refs, operation.out)]
            lowering.operation(operation, args, out, recorded)
        lowering.done().fixed("loss", (self._result,), (self._result.nbytes,), state)
        self._kept: list[Any] = [lowering.kept, arrays, innermost, program.given, list(data), list(cells)]
        if innermost is None:
            inside = {ref: ([arrays[ref]], [arrays[ref]]) for ref in results_of(program, arrays)}
        else:
            inside = innermost.inside
        pairs = [pair for ref, pair in inside.items() if ref.root not in lowering.passing]
        self.inside = [array for pair in pairs for array in pair[0]], [array for pair in pairs for array in pair[1]]
        self.table = self._translated(lowering, worth, interrupted)

    def _translated(self, lowering: Lowering, worth: float, interrupted: Callable[[], bool]) -> NDArray[np.int64]:
        """The table, with addresses in place of kernels and names."""
        calls = [*lowering.calls, *(call for _, inside in lowering.inside for call in inside)]
        texts = [call.loop.function for call in calls if isinstance(call.loop.function, str)]
        texts = [text for text in texts if text not in translator.FUNCTIONS]
        if translator.missing(texts) * translator.SECONDS > worth:
            raise NotNative("machine code pays only in a longer training")
        addresses, self._function, code = translator.functions()
        kernels = translator.translated(texts, worth, interrupted)
        self._kept.append([code, *kernels.values()])

        def lines(calls: Sequence[Call]) -> NDArray[np.int64]:
            table = []
            for (function, own), *numbers in calls:
                if isinstance(function, str):
                    function = addresses[function] if function in addresses else kernels[function][0]
                table.append((function, own, *numbers))
            return np.array(table, np.int64).reshape(-1, len(Loop._fields) + len(Call._fields) - 1)

        table = lines(lowering.calls)
        for number, inside in lowering.inside:
            block = lines(inside)
            self._kept.append(block)
            table[number, 1] = address_of(block)
        return table

    def run(
        self,
        updates: int,
        indices: NDArray[np.int64] | None = None,
        rates: NDArray[Any] | None = None,
        losses: NDArray[Any] | None = None,
    ) -> NDArray[Any]:
        """So many updates, on the samples with the given indices (updates, ...) where a batch is not the whole set, at
        the rates (updates, cells) where given; their losses (updates, ...), in `losses` if that is given and fits.
        """
        if self._samples:
            indices = np.ascontiguousarray(np.empty(0, np.int64) if indices is None else indices, np.int64)
            if indices.size != updates * self._samples:
                raise ValueError(f"Machine: expected batches of {self._samples} samples, got {indices.shape}")
        fits = losses is not None and losses.flags.c_contiguous and losses.dtype == self._result.dtype
        if losses is None or not fits or losses.shape != (updates, *self._result.shape):
            losses = self._losses(updates)
        self._called(self.table, updates, indices, rates, losses)
        return losses

    def _losses(self, updates: int) -> NDArray[Any]:
        return np.empty((updates, *self._result.shape), self._result.dtype)

    def repeat(self, table: NDArray[np.int64], times: int) -> None:
        """Some lines of the table again and again, as updates on the first sample: to find out what they take."""
        indices = np.zeros(times * self._samples, np.int64) if self._samples else None
        self._called(table, times, indices, None, self._losses(times))

    def _called(
        self,
        table: NDArray[np.int64],
        updates: int,
        indices: NDArray[np.int64] | None,
        rates: NDArray[Any] | None,
        losses: NDArray[Any],
    ) -> None:
        addresses = [0 if array is None else address_of(array) for array in (indices, losses, rates)]
        steps = (8 * self._samples, self._result.nbytes, self._rates)
        ways = [number for pair in zip(addresses, steps, strict=True) for number in pair]
        for elsewhere, own in self._lasting:
            own[...] = elsewhere
        self._function(updates, address_of(table), len(table), address_of(self._state), *ways)
        for elsewhere, own in self._lasting:
            elsewhere[...] = own
