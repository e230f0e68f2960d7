"""Updates that are replayed in place of the plain ones."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refnet.arithmetic.runs import Runs, plain
from refnet.nn.module import Module
from refnet.train.capture import program, replay
from refnet.train.capture.native import machine as native
from refnet.train.capture.recorder import Recorder, Traced, Uncapturable
from refnet.train.configuration import make
from refnet.train.step import Update

SMALL = 2**15
"""Bytes up to which all parameters are laid side by side, so that one operation can update them together. Beyond, a
call costs little beside its work, and arrays are better off where the processor likes them."""

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
        # What belongs to network and optimizer, by the arrays' ids: the array itself, and the one that stands for it.
        self._homes: dict[int, tuple[NDArray[Any], NDArray[Any]]] = {}
        self._away = False

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
        if self._away:
            for own, home in self._homes.values():
                if own is not home:
                    own[...] = home
            self._away = False
        if self._errors is not None:
            np.seterr(**self._errors)
            self._errors = None

    def resume(self) -> None:
        """Go on from what network and optimizer hold."""
        if not self._steps:
            return
        if self._made_of != self._constitution():
            self._forget()
            self._changes += 1
            if self._changes > CHANGES:
                self.why_plain = "a callback changes the optimizer's options or the modules' mode again and again"
            return
        self._leave()
        self.read_rates()
        self._ignore_overflow()

    def _leave(self) -> None:
        """From here on the arrays' homes are ahead of the arrays."""
        for own, home in self._homes.values():
            if own is not home:
                home[...] = own
        self._away = True

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
        arrays = [_arrays(update.net), _arrays(update.loss), *(group["params"] for group in opt.param_groups)]
        return [
            [{name: id(array) for name, array in part.items()} for part in (*arrays, *opt.state.values())],
            make([{**group, "params": None, "lr": None} for group in opt.param_groups]),
            make(update.net),
            make(update.loss),
        ]

    def _first(self, size: int, batch: Any) -> Any:
        """The update on the first batch of a size: plain, and the size's step from now on if that does the same."""
        if not self._steps:
            self._homes = self._places()
        step, generators = self._record(batch)
        replayed = self._tried(lambda: step.replay(batch))
        for generator, state in generators:
            generator.set_state(state)
        machine = step.machine
        translated = replayed if machine is None else self._tried(lambda: machine.run(1, _indices(batch))[0])
        self.settle()
        value = self.update(batch)
        expected = [np.asarray(plain(value)).tobytes(), *(own.tobytes() for own, _ in self._homes.values())]
        if replayed != expected:
            self._forget()
            self.why_plain = "a replay has other bits than the plain update"
            return value
        if translated != expected:
            step.machine, self.why_not_native = None, "the machine code gives other bits than the plain update"
        self._leave()
        self._steps[size] = step
        self._made_of = self._constitution()
        self._ignore_overflow()
        return value

    def _tried(self, update: Callable[[], Any]) -> list[bytes]:
        """The bits of the loss and of all lasting arrays after an update that is then taken back."""
        before = self._contents()
        self._ignore_overflow()
        try:
            value = np.array(update())
            return [value.tobytes(), *(home.tobytes() for _, home in self._homes.values())]
        except Exception as error:
            raise Uncapturable(f"a replay failed: {type(error).__name__}: {error}") from error
        finally:
            for (_, home), content in zip(self._homes.values(), before, strict=True):
                home[...] = content

    def _contents(self) -> list[NDArray[Any]]:
        return [home.copy() for _, home in self._homes.values()]

    def _places(self) -> dict[int, tuple[NDArray[Any], NDArray[Any]]]:
        """A home for every array that lasts from one update to the next: its own, or for the parameters of a small
        network, and their state, one beside the other.
        """
        net, opt = self.update.net, self.update.opt
        moved = [net.params[name] for name in self.update.held]
        keys = dict.fromkeys(key for state in opt.state.values() for key in state)
        kinds = [
            moved,
            *([opt.state[name][key] for name in self.update.held if key in opt.state.get(name, {})] for key in keys),
        ]
        homes: dict[int, tuple[NDArray[Any], NDArray[Any]]] = {}
        for kind in kinds:
            own = [plain(array) for array in kind]
            for array, home in zip(own, _side_by_side(own), strict=True):
                homes[id(array)] = array, home
        for array in map(plain, (*_arrays(net).values(), *_arrays(self.update.loss).values())):
            homes.setdefault(id(array), (array, array))
        for array, _ in homes.values():
            if type(array) is not np.ndarray or array.dtype.kind not in "fiub":
                raise Uncapturable("the network's arrays are not NumPy's, or not of numbers")
        return homes

    def _record(self, batch: Any) -> tuple[_Step, list[Any]]:
        """A step on batches like this one, and the generators that it draws from."""
        update, recorder = self.update, Recorder()
        data, seen = [], []

        def samples(whole: NDArray[Any]) -> Any:
            buffer = whole
            if not isinstance(batch, slice) or batch != slice(0, len(whole)):
                buffer = np.array(whole[batch])
                data.append((whole, buffer))
            seen.append(buffer)
            recorder.samples[id(buffer)] = whole
            return update.of_runs(Traced(buffer, recorder), batch)

        before = self._contents()
        try:
            with self._standing_in(recorder) as (opt, rates):
                X, T = samples(update.inputs), samples(update.targets)
                grads, value = update.gradients(X, T)
                recorder.updates = True
                opt.step(grads)
                result = plain(value)
        except Uncapturable:
            raise
        except Exception as error:
            raise Uncapturable(f"{type(error).__name__}: {error}") from error
        finally:
            for (_, home), content in zip(self._homes.values(), before, strict=True):
                home[...] = content
            for generator, state in recorder.generators:
                generator.set_state(state)
        if not isinstance(result, Traced):
            raise Uncapturable("the loss does not depend on what is trained")
        self._rates = self._rates or rates
        given = [home for _, home in self._homes.values()] + rates + seen
        made = program.build(recorder.operations, given, result.a)
        program.simplify(made, len(update.held))
        self._quiet = self._quiet or recorder.quiet
        arrays = replay.layout(made)
        call = replay.function(made, arrays, data, indexed=isinstance(batch, np.ndarray))
        return _Step(call, self._machine(made, arrays, data)), recorder.generators

    def _machine(self, made: program.Program, arrays: Any, data: Any) -> native.Machine | None:
        """The program as machine code, if it is worth it and can be."""
        if {"raise", "call", "print", "log"} & set(np.geterr().values()):
            self.why_not_native = "NumPy is told to do more than warn of floating-point errors"
            return None
        if self.iterations * _saved(made, self._plainly or 0) < TRANSLATION[native.loaded()]:
            self.why_not_native = "machine code pays only in a longer training"
            return None
        try:
            machine = native.Machine(made, arrays, data, self._rates)
        except native.NotNative as reason:
            self.why_not_native = str(reason)
            return None
        self.why_not_native = ""
        return machine

    @contextmanager
    def _standing_in(self, recorder: Recorder) -> Iterator[tuple[Any, list[NDArray[Any]]]]:
        """Arrays that record in the place of the network's; gives an optimizer on them, and the cells of its rates."""
        net, loss, opt = self.update.net, self.update.loss, copy.copy(self.update.opt)

        def traced(array: Any) -> Any:
            return _like(array, Traced(self._homes[id(plain(array))][1], recorder))

        arrays, of_loss = _arrays(net), _arrays(loss)
        dtype = next(iter(arrays.values())).dtype
        cells = self._rates or [np.array(plain(group["lr"]), dtype) for group in opt.param_groups]
        standing = {name: traced(array) for name, array in arrays.items()}
        opt.state = {
            name: {key: traced(array) for key, array in kept.items()} for name, kept in self.update.opt.state.items()
        }
        opt.param_groups = [
            {
                **group,
                "params": {name: standing[name] for name in group["params"]},
                "lr": _like(group["lr"], Traced(cell, recorder)),
            }
            for group, cell in zip(self.update.opt.param_groups, cells, strict=True)
        ]
        try:
            net.bind(standing)
            loss.bind({name: traced(array) for name, array in of_loss.items()})
            yield opt, cells
        finally:
            net.bind(arrays)
            loss.bind(of_loss)
        before, after = ({name: list(kept) for name, kept in o.state.items()} for o in (self.update.opt, opt))
        if before != after:
            raise Uncapturable("the optimizer makes new state in later updates")
        before, after = (make({**vars(o), "state": None, "param_groups": None}) for o in (self.update.opt, opt))
        if before != after:
            raise Uncapturable("the optimizer has attributes that change with its steps")


def _arrays(module: Module) -> dict[str, Any]:
    return {**module.params, **module.buffers}


def _saved(made: program.Program, plainly: float) -> float:
    """Seconds of an update that machine code saves, roughly."""
    products = [op for op in made.operations if op.function is np.matmul]
    small = [op for op in products if op.refs[0].shape[-1] * math.prod(op.out.shape[-2:]) <= native.SMALL_PRODUCT]
    calls = len(made.operations) + sum(math.prod(op.out.shape[:-2]) for op in small) / 3
    short = all(math.prod(op.out.shape) < native.LONG for op in made.operations)
    return max(calls * CALL, plainly * SHARE[short])


def _size(batch: Any) -> int:
    """How many samples each run sees."""
    size: int = batch.shape[-1] if isinstance(batch, np.ndarray) else batch.stop - batch.start
    return size


def _indices(batch: Any) -> NDArray[np.int64]:
    """(1, ...)."""
    return np.asarray(np.r_[batch] if isinstance(batch, slice) else batch, np.int64)[None]


def _like(array: Any, inner: Any) -> Any:
    """`inner` as runs, if `array` is."""
    return Runs(inner) if isinstance(array, Runs) else inner


def _side_by_side(arrays: list[NDArray[Any]]) -> list[NDArray[Any]]:
    """Copies of the arrays in one piece of memory, if they are small and alike; otherwise the arrays themselves."""
    total = sum(array.size for array in arrays)
    alike = len({array.dtype for array in arrays}) == 1 and all(array.flags.c_contiguous for array in arrays)
    if len(arrays) < 2 or not alike or total * arrays[0].itemsize > SMALL:
        return arrays
    memory = np.empty(total, arrays[0].dtype)
    copies, start = [], 0
    for array in arrays:
        copies.append(memory[start : start + array.size].reshape(array.shape))
        copies[-1][...] = array
        start += array.size
    return copies
