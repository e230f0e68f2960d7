"""Updates that are done in a captured way in place of the plain one: when, and whether to rely on it."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refnet.arithmetic.runs import plain
from refnet.generator import Generator
from refnet.train.capture import comparison, native, replay
from refnet.train.capture.comparison import Comparison
from refnet.train.capture.contract import why_not
from refnet.train.capture.program import Program, Ref
from refnet.train.capture.recorder import Interrupted, Uncapturable, never
from refnet.train.capture.recording import Recording, record
from refnet.train.capture.storage import Storage, arrays_of
from refnet.train.capture.watch import Watch
from refnet.train.step import Update

SHORT = 100
"""Updates on batches of one size up to which these are plain: a record would not pay for itself. But it does wherever
it takes less than a tenth of them; it takes RECORDING seconds a module, about, and is not worth a thought for FEW."""

RECORDING = 3e-3
FEW = 10

DEEP, SMALL = 3, 0.05
"""Up to DEEP times SHORT updates, a record that takes more than SMALL seconds must take less than a third of them:
a callback after every update takes a part of what is saved."""

_clock = time.thread_time if time.get_clock_info("thread_time").resolution < 1e-4 else time.perf_counter
"""Tells what a plain update takes: time of the processor, where that is fine enough. By the wall's clock an update on a
busy machine would seem longer than it is, and a record worth more."""

_TOO_SHORT = f"a record pays only beyond {SHORT} updates"

CHANGES = 20
"""How often a callback may change what an update is before replaying is given up."""

FIRST = 3
"""The first updates on batches of each size that are compared with plain ones. Later, one is compared when the number
of updates has grown tenfold."""

CALL, NUMBER = 0.6e-6, 0.45e-9
"""Seconds that machine code saves over a replay, roughly: for each call into NumPy, and a third of it for each tiny
matrix of a stack; and for each number that no product computes. To tell whether a training is long enough for it."""

PAID_BACK = 0.5
"""The share of what machine code saves, roughly, that its translation may take."""

AT_ONCE = 0.02
"""Seconds of machine code without a pause, so that an interrupt need not wait long."""


@dataclass(eq=False)
class _Step:
    """How an update on batches of one size is done.

    Attributes:
        replay, machine: the ways of doing it; the second is taken if there is one.
        generators: those that it draws from.
        checks: what the modules check of the samples' values, each with the whole set.
        updates: how many were done; at `compared_at` one is compared with a plain one.
        at_once: how many may be done in one call.
    """

    replay: Callable[[Any], Any]
    machine: native.Machine | None
    generators: list[Generator]
    checks: list[tuple[Callable[[NDArray[Any]], None], NDArray[Any]]]
    updates: int
    compared_at: int
    at_once: int = 8

    def run(self, batch: Any) -> Any:
        return self.replay(batch) if self.machine is None else self.machine.run(1, _indices(batch))[0]


class Captured:
    """Does what an `Update` does, bit for bit, and sooner.

    The first updates are plain: they make the optimizer's state. Then, for each size of batch, one update is recorded,
    tried beside the plain one (`comparison`), and from there on replayed. If anything stands against it, all updates
    are plain, and `why_plain` says what.

    While updates are captured, parameters and state of a small network live in memory of this class (`Storage`), and an
    overflow that the definitions ignore somewhere is ignored everywhere. `settle` writes the arrays back to the network
    and the optimizer. Afterwards `proceed` goes on, or, if foreign code has run that may have changed anything,
    `resume`.
    """

    def __init__(self, update: Update, expected: Mapping[int, int], interrupted: Callable[[], bool] = never) -> None:
        """`expected`: how many updates there will be on batches of each size; `interrupted`: whether somebody waits for
        the update to be over."""
        self.update = update
        self._expected, self._interrupted = expected, interrupted
        self.why_plain = "" if sum(expected.values()) > min(SHORT, FEW) else _TOO_SHORT
        self.why_not_native = "no update was captured"
        self._seconds = math.inf  # of a plain update
        # Until then an optimizer makes new state.
        schema = getattr(type(update.opt), "schema", ())
        self._plain_first = max((getattr(entry, "since", 1) for entry in schema), default=1)
        self._changes = 0
        self._foreign = False
        self._errors: Any = None
        self._forget()

    def _forget(self) -> None:
        self._steps: dict[int, _Step] = {}
        self._ignores_overflow = False
        self._rates: list[NDArray[Any]] = []
        self._storage: Storage | None = None
        self._watch: Watch | None = None

    def __call__(self, batch: Any) -> Any:
        step = self._steps.get(size := _size(batch))
        if step is not None:
            return self._captured(step, batch)
        if self.why_plain:
            return self.update(batch)
        if self._plain_first > 0:
            return self._plainly(batch)
        if not self._pays(size):
            return self._plain_between(batch)
        try:
            return self._first(size, batch)
        except Interrupted:
            # What was begun is left, and begun again if there is an update after this one.
            self.settle()
            self._forget()
            return self.update(batch)
        except Uncapturable as reason:
            return self._give_up(str(reason), batch)

    def _plainly(self, batch: Any) -> Any:
        start = _clock()
        value = self.update(batch)
        self._seconds = min(self._seconds, _clock() - start)
        self._plain_first -= 1
        return value

    def _pays(self, size: int) -> bool:
        """Whether a record pays for batches of this size."""
        updates, cost = self._expected.get(size, 0), RECORDING * sum(1 for _ in self.update.net.modules())
        if SHORT < updates <= DEEP * SHORT and cost > SMALL:
            return updates * self._seconds > 3 * cost
        return updates > SHORT or (updates > FEW and updates * self._seconds > 10 * cost)

    def _plain_between(self, batch: Any) -> Any:
        """A plain update among captured ones, or, if there are none, with nothing but plain ones to come."""
        self.settle()
        value = self.update(batch)
        if self._steps and self._storage is not None:
            self._storage.leave()
            self._ignore_overflow()
        elif not any(map(self._pays, self._expected)):
            self.why_plain = _TOO_SHORT
        return value

    def _give_up(self, why: str, batch: Any) -> Any:
        self.why_plain = why
        self.settle()
        self._forget()
        return self.update(batch)

    def _captured(self, step: _Step, batch: Any) -> Any:
        step.updates += 1
        if self._foreign and not _pass(step, batch):
            # It fails as the plain update fails.
            self.settle()
            value = self.update(batch)
            self.resume()
            return value
        if step.updates >= step.compared_at:
            return self._compared(step, batch)
        return step.run(batch)

    def _compared(self, step: _Step, batch: Any) -> Any:
        """An update that is also done plainly, which counts."""
        assert self._storage is not None
        beside = Comparison(self.update, self._storage, self._rates, step.generators)
        self._end_ignoring()
        value, (agrees,) = beside.real(batch, [comparison.Captured(step.run, ())])
        if not agrees:
            warnings.warn(
                f"fit: captured updates have other bits than plain ones, as was seen at update {step.updates} on "
                "batches of this size; from here on all are plain. Please report this",
                RuntimeWarning,
                stacklevel=4,
            )
            self._forget()
            self.why_plain = "a captured update had other bits than the plain one"
            return value
        step.compared_at = _next_comparison(step.updates)
        self._storage.leave()
        self._ignore_overflow()
        return value

    @property
    def captured(self) -> bool:
        """Whether updates on batches of some size are."""
        return bool(self._steps)

    def at_once(self, samples: int, most: int) -> int:
        """How many of the next `most` updates, on batches of this size, `many` does at once; 1 if it does none."""
        step = self._steps.get(samples)
        if step is None or step.machine is None or self._foreign:
            return 1
        return max(1, min(most, step.at_once, step.compared_at - 1 - step.updates))

    def many(
        self,
        samples: int,
        indices: NDArray[np.int64] | None,
        losses: NDArray[Any],
        rates: Sequence[Sequence[Any]] | None,
    ) -> None:
        """Updates on batches of this size, at the groups' rates or at those given for each; fills in the losses.
        `indices`: (updates, ...), or None where each batch is the whole set.
        """
        step = self._steps[samples]
        assert step.machine is not None
        values = None
        if rates is not None:
            # Each rate is the plain update's own, in the dtype that it has there.
            cells = [np.array([plain(rate) for rate in of_group]) for of_group in zip(*rates, strict=True)]
            values = np.concatenate([cell.reshape(len(rates), -1) for cell in cells], axis=1)
            values = values.astype(self._rates[0].dtype)
        start = time.perf_counter()
        made = step.machine.run(len(losses), indices, values, losses)
        if made is not losses:
            losses[...] = made
        if rates is not None:
            self.read_rates()
        each = (time.perf_counter() - start) / len(losses)
        step.updates += len(losses)
        # Never back to one by one: a moment's pause of the machine would end all calls of many.
        step.at_once = max(2, min(int(AT_ONCE / each), 8 * step.at_once))

    def settle(self) -> None:
        """Let network and optimizer hold what they would hold had the updates been plain."""
        if self._storage is not None:
            self._storage.settle()
        self._end_ignoring()

    def proceed(self) -> None:
        """Go on after `settle`, if nothing has been written since."""
        if self._steps and self._storage is not None:
            self._storage.away()
            self._ignore_overflow()

    def resume(self, *, again: bool = True) -> None:
        """Go on after `settle` from what network and optimizer hold now, if anything may have been changed.

        `again`: whether that may happen after every update; if not, all samples are checked once more, now.
        """
        self._foreign = self._foreign or again or not all(_pass(step, slice(None)) for step in self._steps.values())
        if not self._steps or self._storage is None or self._watch is None:
            return
        if self._watch.changed():
            self._forget()
            self._changes += 1
            if self._changes > CHANGES:
                self.why_plain = "a callback changes the optimizer's options or the modules' mode again and again"
            return
        self._storage.leave()
        self.read_rates()
        self._ignore_overflow()

    def read_rates(self) -> None:
        """Take the learning rates from the optimizer."""
        if self._steps:
            for cell, group in zip(self._rates, self.update.opt.param_groups, strict=True):
                cell[...] = plain(group["lr"])

    def _ignore_overflow(self) -> None:
        if self._ignores_overflow and self._errors is None:
            self._errors = np.seterr(over="ignore")

    def _end_ignoring(self) -> None:
        if self._errors is not None:
            np.seterr(**self._errors)
            self._errors = None

    def _first(self, size: int, batch: Any) -> Any:
        """The update on the first batch of a size: plain, and the size's step from now on if that does the same."""
        if reason := why_not(self.update):
            raise Uncapturable(reason)
        self.settle()
        self._storage = storage = self._storage or Storage(self.update)
        storage.leave()
        recording = record(self.update, storage, self._rates, batch, self._interrupted)
        self._rates = recording.rates
        self.read_rates()
        arrays = replay.layout(recording.program)
        call = replay.function(recording.program, arrays, recording.data, indexed=isinstance(batch, np.ndarray))
        generators = [generator for generator, _ in recording.generators]
        step = _Step(call, self._machine(recording, arrays, size), generators, recording.checks, 1, _next_comparison(1))
        machine = step.machine
        # (with one way alone there is nothing to compare it with)
        inside = ([], []) if machine is None else machine.inside
        ways = [comparison.Captured(call, inside[0], replay.own_memory(recording.program, arrays))]
        if machine is not None:
            ways.append(
                comparison.Captured(lambda batch: machine.run(1, _indices(batch))[0], inside[1], machine.memory)
            )
        beside = Comparison(self.update, storage, self._rates, generators, self._interrupted)
        computed = sum(math.prod(operation.out.shape) for operation in recording.program.operations)
        agree = beside.trials(batch, ways, computed)
        storage.leave()
        value, really = beside.real(batch, ways)
        replayed, *translated = (one and other for one, other in zip(agree, really, strict=True))
        if not replayed:
            self._forget()
            self.why_plain = "a replay has other bits than the plain update"
            return value
        if not all(translated):
            step.machine, self.why_not_native = None, "the machine code gives other bits than the plain update"
        self._steps[size] = step
        self._ignores_overflow = self._ignores_overflow or recording.ignores_overflow
        self._watch = self._look()
        storage.leave()
        self._ignore_overflow()
        return value

    def _look(self) -> Watch:
        update, storage = self.update, self._storage
        assert storage is not None
        own = [*arrays_of(update.net).values(), *arrays_of(update.loss).values()]
        lasting = [*own, *map(plain, own), *storage.originals(), update.inputs, update.targets]
        lasting += [array for kept in update.opt.state.values() for array in kept.values()]
        return Watch((update.net, update.loss, update.opt), lasting, update.opt.param_groups)

    def _machine(self, recording: Recording, arrays: dict[Ref, NDArray[Any]], size: int) -> native.Machine | None:
        """Its program as machine code, if it is worth it and can be."""
        if {"raise", "call", "print", "log"} & set(np.geterr().values()):
            self.why_not_native = "NumPy is told to do more than warn of floating-point errors"
            return None
        worth = PAID_BACK * self._expected.get(size, 0) * _saved(recording.program)
        made = (recording.program, arrays, recording.data, recording.rates, worth, self._interrupted)
        if (runs := self.update.runs) is not None:
            assert self._storage is not None
            with suppress(native.NotNative):
                layout = native.laid_out(recording.program, arrays, runs, self._storage.homes())
                machine = native.Machine(*made, layout)
                self.why_not_native = ""
                return machine
        try:
            machine = native.Machine(*made)
        except native.NotNative as reason:
            self.why_not_native = str(reason)
            return None
        self.why_not_native = ""
        return machine


def _next_comparison(updates: int) -> int:
    return updates + 1 if updates < FIRST else 10 * updates


def _pass(step: _Step, batch: Any) -> bool:
    """Whether the modules accept the samples of a batch."""
    try:
        for check, whole in step.checks:
            check(whole[batch])
    except Exception:
        return False
    return True


def _saved(made: Program) -> float:
    """Seconds of an update that machine code saves, roughly."""
    products = [op for op in made.operations if op.function is np.matmul]
    tiny = [op for op in products if op.refs[0].shape[-1] * math.prod(op.out.shape[-2:]) <= native.TINY_PRODUCT]
    calls = len(made.operations) + sum(math.prod(op.out.shape[:-2]) for op in tiny if len(op.out.shape) > 2) / 3
    numbers = sum(math.prod(op.out.shape) for op in made.operations if op.function is not np.matmul)
    return calls * CALL + numbers * NUMBER


def _size(batch: Any) -> int:
    """How many samples each run sees."""
    size: int = batch.shape[-1] if isinstance(batch, np.ndarray) else batch.stop - batch.start
    return size


def _indices(batch: Any) -> NDArray[np.int64]:
    """(1, ...)."""
    indices = np.arange(batch.start, batch.stop) if isinstance(batch, slice) else batch
    return np.asarray(indices, np.int64)[None]
