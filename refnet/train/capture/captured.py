"""Updates that are replayed in place of the plain ones."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refnet.arithmetic.runs import plain
from refnet.train.capture import native, replay
from refnet.train.capture.program import Program, Ref
from refnet.train.capture.recorder import Uncapturable
from refnet.train.capture.recording import Recording, record
from refnet.train.capture.storage import Storage, arrays_of
from refnet.train.configuration import configuration_of
from refnet.train.step import Update

SHORT = 100
"""So many updates are done before a record of one has paid for itself."""

CHANGES = 20
"""How often a callback may change what an update is before replaying is given up."""

CALL = 0.3e-6
TRANSLATION = {True: 0.1, False: 0.35}
"""Seconds that a call into NumPy costs beside its work, three times as many as one of its library's for each small
matrix of a stack; and that machine code takes to make, the translator loaded or not: roughly, to tell whether a
training is long enough for it."""

SHARE = {True: 0.3, False: 0.02}
"""The share of a plain update that machine code saves over a replay, at least: with operations that are all written out
in loops of few elements, or with long ones, which save what they save by being carried out block by block."""

AT_ONCE = 0.02
"""Seconds of machine code without a pause, so that an interrupt need not wait long."""


@dataclass(eq=False)
class _Step:
    """How an update on batches of one size is done."""

    replay: Callable[[Any], Any]
    machine: native.Machine | None
    at_once: int = 8


class Captured:
    """Does what an `Update` does, bit for bit, and sooner.

    The first update of all is plain: it makes the optimizer's state. Then, for each size of batch, one update is
    recorded, carried out both ways on the same values, and compared; from there on it is replayed. If anything stands
    against it, all updates are plain, and `why_plain` says what.

    While updates are replayed, parameters and state of a small network live in memory of this class, and an overflow
    that the definitions ignore somewhere is ignored everywhere. `settle` writes the arrays back to the network and the
    optimizer, `resume` takes them over again, with whatever has changed meanwhile.
    """

    def __init__(self, update: Update, iterations: int) -> None:
        self.update = update
        self.iterations = iterations
        self.why_plain = "" if iterations > SHORT else f"a record pays only beyond {SHORT} updates"
        self.why_not_native = "no update was captured"
        self._plainly: float | None = None  # seconds of a plain update
        self._changes = 0
        self._errors: Any = None
        self._forget()

    def _forget(self) -> None:
        self._steps: dict[int, _Step] = {}
        self._quiet = False
        self._made_of: Any = None
        self._rates: list[NDArray[Any]] = []
        self._storage: Storage | None = None

    def __call__(self, batch: Any) -> Any:
        step = self._steps.get(size := _size(batch))
        if step is not None and step.machine is not None:
            return step.machine.run(1, _indices(batch))[0]
        if step is not None:
            return step.replay(batch)
        if self.why_plain:
            return self.update(batch)
        if self._plainly is None:
            start = time.perf_counter()
            value = self.update(batch)
            self._plainly = time.perf_counter() - start
            return value
        try:
            return self._first(size, batch)
        except Uncapturable as reason:
            self.why_plain = str(reason)
        self.settle()
        self._forget()
        return self.update(batch)

    def at_once(self, samples: int, most: int) -> int:
        """How many updates on batches of so many samples, out of `most`, `many` takes at once; 1 if it takes none."""
        step = self._steps.get(samples)
        return 1 if step is None or step.machine is None else min(most, step.at_once)

    def many(
        self,
        samples: int,
        indices: NDArray[np.int64] | None,
        losses: NDArray[Any],
        own_rates: Sequence[Any],
        factors: Sequence[float] | None,
    ) -> None:
        """Updates on batches of so many samples, at the groups' rates or at these times the factors; fills in the
        losses. `indices`: (updates, ...), or None where each batch is the whole set.
        """
        step = self._steps[samples]
        assert step.machine is not None
        rates = None
        if factors is not None:
            # Each product is the plain update's own: in the dtype that rate and factor have.
            cells = [np.array([plain(rate * factor) for factor in factors]) for rate in own_rates]
            rates = np.concatenate([cell.reshape(len(factors), -1) for cell in cells], axis=1)
            rates = rates.astype(self._rates[0].dtype)
        start = time.perf_counter()
        losses[...] = step.machine.run(len(losses), indices, rates)
        each = (time.perf_counter() - start) / len(losses)
        # Never back to one by one: a moment's pause of the machine would end all calls of many.
        step.at_once = max(2, min(int(AT_ONCE / each), 8 * step.at_once))

    def settle(self) -> None:
        """Let network and optimizer hold what they would hold had the updates been plain."""
        if self._storage is not None:
            self._storage.settle()
        if self._errors is not None:
            np.seterr(**self._errors)
            self._errors = None

    def resume(self) -> None:
        """Go on from what network and optimizer hold."""
        if not self._steps or self._storage is None:
            return
        if self._made_of != self._constitution():
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
        if self._quiet and self._errors is None:
            self._errors = np.seterr(over="ignore")

    def _constitution(self) -> list[Any]:
        """All that a record depends on, values of arrays apart."""
        update, opt = self.update, self.update.opt
        arrays = [arrays_of(update.net), arrays_of(update.loss), *(group["params"] for group in opt.param_groups)]
        return [
            [{name: id(array) for name, array in part.items()} for part in (*arrays, *opt.state.values())],
            configuration_of([{**group, "params": None, "lr": None} for group in opt.param_groups]),
            configuration_of(update.net),
            configuration_of(update.loss),
        ]

    def _first(self, size: int, batch: Any) -> Any:
        """The update on the first batch of a size: plain, and the size's step from now on if that does the same."""
        self._storage = storage = self._storage or Storage(self.update)
        recording = record(self.update, storage, self._rates, batch)
        self._rates = recording.rates
        self._quiet = self._quiet or recording.ignores_overflow
        arrays = replay.layout(recording.program)
        call = replay.function(recording.program, arrays, recording.data, indexed=isinstance(batch, np.ndarray))
        step = _Step(call, self._machine(recording, arrays))
        replayed = self._tried(storage, lambda: step.replay(batch))
        for generator, state in recording.generators:
            generator.set_state(state)
        machine = step.machine
        translated = replayed
        if machine is not None:
            translated = self._tried(storage, lambda: machine.run(1, _indices(batch))[0])
        self.settle()
        value = self.update(batch)
        expected = [np.asarray(plain(value)).tobytes(), *(own.tobytes() for own in storage.originals())]
        if replayed != expected:
            self._forget()
            self.why_plain = "a replay has other bits than the plain update"
            return value
        if translated != expected:
            step.machine, self.why_not_native = None, "the machine code gives other bits than the plain update"
        storage.leave()
        self._steps[size] = step
        self._made_of = self._constitution()
        self._ignore_overflow()
        return value

    def _tried(self, storage: Storage, update: Callable[[], Any]) -> list[bytes]:
        """The bits of the loss and of all lasting arrays after an update that is then taken back."""
        before = storage.contents()
        self._ignore_overflow()
        try:
            value = np.array(update())
            return [value.tobytes(), *(home.tobytes() for home in storage.homes())]
        except Exception as error:
            raise Uncapturable(f"a replay failed: {type(error).__name__}: {error}") from error
        finally:
            storage.restore(before)

    def _machine(self, recording: Recording, arrays: dict[Ref, NDArray[Any]]) -> native.Machine | None:
        """Its program as machine code, if it is worth it and can be."""
        if {"raise", "call", "print", "log"} & set(np.geterr().values()):
            self.why_not_native = "NumPy is told to do more than warn of floating-point errors"
            return None
        if self.iterations * _saved(recording.program, self._plainly or 0) < TRANSLATION[native.loaded()]:
            self.why_not_native = "machine code pays only in a longer training"
            return None
        try:
            machine = native.Machine(recording.program, arrays, recording.data, recording.rates)
        except native.NotNative as reason:
            self.why_not_native = str(reason)
            return None
        self.why_not_native = ""
        return machine


def _saved(made: Program, plainly: float) -> float:
    """Seconds of an update that machine code saves, roughly."""
    products = [op for op in made.operations if op.function is np.matmul]
    tiny = [op for op in products if op.refs[0].shape[-1] * math.prod(op.out.shape[-2:]) <= native.TINY_PRODUCT]
    calls = len(made.operations) + sum(math.prod(op.out.shape[:-2]) for op in tiny if len(op.out.shape) > 2) / 3
    short = all(math.prod(op.out.shape) < native.LONG for op in made.operations)
    return max(calls * CALL, plainly * SHARE[short])


def _size(batch: Any) -> int:
    """How many samples each run sees."""
    size: int = batch.shape[-1] if isinstance(batch, np.ndarray) else batch.stop - batch.start
    return size


def _indices(batch: Any) -> NDArray[np.int64]:
    """(1, ...)."""
    return np.asarray(np.r_[batch] if isinstance(batch, slice) else batch, np.int64)[None]
