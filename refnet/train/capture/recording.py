"""An update recorded: carried out once on arrays that note down what is done to them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refnet.arithmetic.runs import Runs, plain
from refnet.generator import Generator
from refnet.train.capture import program
from refnet.train.capture.recorder import Recorder, Traced, Uncapturable
from refnet.train.capture.storage import Storage, arrays_of
from refnet.train.configuration import configuration_of
from refnet.train.step import Update


@dataclass(frozen=True, eq=False)
class Recording:
    """An update on batches of one size.

    Attributes:
        program: its operations.
        data: each whole set of samples with the buffer that a batch of it goes to.
        rates: the cells that hold the groups' learning rates.
        generators: the generators that it draws from, with their state before.
        checks: what the modules check of the samples' values, each with the whole set.
        ignores_overflow: whether an operation was carried out with overflow ignored.
    """

    program: program.Program
    data: list[tuple[NDArray[Any], NDArray[Any]]]
    rates: list[NDArray[Any]]
    generators: list[tuple[Generator, NDArray[np.uint8]]]
    checks: list[tuple[Callable[[NDArray[Any]], None], NDArray[Any]]]
    ignores_overflow: bool


def record(
    update: Update, storage: Storage, rates: Sequence[NDArray[Any]], batch: Any, interrupted: Callable[[], bool]
) -> Recording:
    """Record an update on batches like this one. Arrays and generators are left as they were.

    `rates`: the cells of the groups' learning rates, if there are any yet; `interrupted`: whether to stop.
    """
    recorder = Recorder(interrupted=interrupted)
    data, seen = [], []

    def samples(whole: NDArray[Any]) -> Any:
        buffer = whole
        if not isinstance(batch, slice) or batch != slice(0, len(whole)):
            buffer = np.array(whole[batch])
            data.append((whole, buffer))
        seen.append(buffer)
        recorder.samples[id(buffer)] = whole
        return update.of_runs(Traced(buffer, recorder), batch)

    before = storage.contents()
    try:
        with _standing_in(update, storage, rates, recorder) as (opt, cells):
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
        storage.restore(before)
        for generator, state in recorder.generators:
            generator.set_state(state)
    if not isinstance(result, Traced):
        raise Uncapturable("the loss does not depend on what is trained")
    made = program.build(recorder.operations, storage.homes() + cells + seen, result.a)
    program.simplify(made, len(update.held), interrupted)
    return Recording(made, data, cells, recorder.generators, recorder.checks, recorder.quiet)


@contextmanager
def _standing_in(
    update: Update, storage: Storage, rates: Sequence[NDArray[Any]], recorder: Recorder
) -> Iterator[tuple[Any, list[NDArray[Any]]]]:
    """Arrays that record in the place of the network's; gives an optimizer on them, and the cells of its rates."""
    net, loss, opt = update.net, update.loss, copy.copy(update.opt)

    def traced(array: Any) -> Any:
        return _like(array, Traced(storage.home(plain(array)), recorder))

    arrays, of_loss = arrays_of(net), arrays_of(loss)
    dtype = next(iter(arrays.values())).dtype
    cells = list(rates) or [np.array(plain(group["lr"]), dtype) for group in opt.param_groups]
    standing = {name: traced(array) for name, array in arrays.items()}
    opt.state = {name: {key: traced(array) for key, array in kept.items()} for name, kept in update.opt.state.items()}
    opt.param_groups = [
        {
            **group,
            "params": {name: standing[name] for name in group["params"]},
            "lr": _like(group["lr"], Traced(cell, recorder)),
        }
        for group, cell in zip(update.opt.param_groups, cells, strict=True)
    ]
    try:
        net.bind(standing)
        loss.bind({name: traced(array) for name, array in of_loss.items()})
        yield opt, cells
    finally:
        net.bind(arrays)
        loss.bind(of_loss)
    before, after = ({name: list(kept) for name, kept in o.state.items()} for o in (update.opt, opt))
    if before != after:
        raise Uncapturable("the optimizer makes new state in later updates")
    before, after = (configuration_of({**vars(o), "state": None, "param_groups": None}) for o in (update.opt, opt))
    if before != after:
        raise Uncapturable("the optimizer has attributes that change with its steps")


def _like(array: Any, inner: Any) -> Any:
    """`inner` as runs, if `array` is."""
    return Runs(inner) if isinstance(array, Runs) else inner
