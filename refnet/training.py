"""The training loop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refnet import data
from refnet.generator import Generator
from refnet.nn.module import Array, Module


@dataclass(frozen=True, eq=False)
class History:
    """What a training went through.

    Attributes:
        loss: (updates,); `loss[k]` is the loss of the batch of update k + 1 before that update: the one it descends.
        updates_per_epoch: so many updates see the data once; update k + 1 belongs to epoch `k // updates_per_epoch`.
        recorded: (r,); after how many updates the weights were recorded, ascending.
        weights: `weights[name][j]` is the parameter after `recorded[j]` updates; (r, *shape), under the names and in
            the order of `net.params`; empty if nothing was recorded.
    """

    loss: NDArray[Any]
    updates_per_epoch: int
    recorded: NDArray[np.int64]
    weights: dict[str, NDArray[Any]]


def fit(
    net: Module,
    loss: Module,
    opt: Any,
    inputs: Array,
    targets: Array,
    *,
    batch_size: int | None = 32,
    shuffle: bool = True,
    drop_last: bool = False,
    iterations: int = 10_000,
    generator: Generator | None = None,
    callback: Callable[[int, Any], object] | None = None,
    record: bool | Iterable[int] = False,
) -> History:
    """Train `net` for `iterations` updates: forward, loss, backward from an upstream gradient of 1, step.

    The data come in the order of torch's DataLoader with these arguments, one epoch after the other. A further call
    begins a new epoch; after whole epochs, with the same generator, it goes on as if there had been one call. Modules
    stay in the mode that they are in, and parameters of `net` that `opt` does not hold stay as they are.

    An interrupt (Ctrl-C) waits for the update under way, so that it leaves the parameters at the end of a whole update;
    a second one does not wait.

    Args:
        net: the network; `opt` holds its arrays.
        loss: a loss whose output is one number.
        opt: an optimizer on `net.params`, or on some of them.
        inputs, targets: (n, ...) and (n, ...), one row a sample.
        batch_size: samples an update; None is the whole set in its own order (batch gradient descent), 1 is stochastic
            gradient descent.
        shuffle: whether each epoch goes through the samples in a new random order (no effect with None).
        drop_last: whether an epoch ends before a last batch that is not full (no effect with None).
        iterations: the number of updates.
        generator: the source of the order; None is the default generator.
        callback: called as `callback(k, loss)` after update k = 1, 2, ... with the loss that it descended; what it
            returns is not used.
        record: which weights `History.weights` holds: True all, from update 0 (the start) to the last; or the numbers
            of updates after which to record, such as `range(0, iterations + 1, 100)`.

    Raises:
        ValueError: there are no samples, or not as many inputs as targets; `drop_last` leaves no batch; `iterations` is
            no integer or negative; `record` has a number outside 0 to `iterations`; a parameter, buffer, input or
            target is NaN or infinite; `opt` holds arrays that are not `net`'s; the loss is not one number.
        TypeError: inputs or targets are not of the dtype that layers and loss expect.
    """
    inputs, targets = np.asarray(inputs), np.asarray(targets)
    held = _check_arguments(net, opt, inputs, targets, iterations)
    n, dtype = len(inputs), next(iter(net.params.values())).dtype
    batches = data.batches(n, batch_size, shuffle=shuffle, drop_last=drop_last, generator=generator)
    size = n if batch_size is None else batch_size
    updates_per_epoch = n // size if drop_last else -(-n // size)

    rows = _rows(record, iterations)
    weights = {name: np.empty((len(rows), *P.shape), P.dtype) for name, P in net.params.items()} if rows else {}
    losses = np.empty(iterations, dtype)
    one = np.ones((), dtype)
    frozen = net.params.keys() - held

    def keep(update: int) -> None:
        if (row := rows.get(update)) is not None:
            for name, P in net.params.items():
                weights[name][row] = P

    keep(0)
    with _whole_updates() as (interrupts, deliver):
        for k, batch in enumerate(islice(batches, iterations)):
            Y, saved = net.forward(inputs[batch])
            value, saved_loss = loss.forward(Y, targets[batch])
            if value.ndim:
                raise ValueError(f"fit: expected a loss that is one number, got shape {tuple(value.shape)}")
            (dY, _), _ = loss.backward(one, saved_loss)
            _, grads = net.backward(dY, saved)
            opt.step({name: grads[name] for name in held} if frozen else grads)
            losses[k] = value
            if rows:
                keep(k + 1)
            if callback is not None:
                callback(k + 1, value)
            if interrupts:
                deliver()

    permutation_left = shuffle and batch_size is not None and (n % size == 0 or drop_last)
    if generator is not None and permutation_left and iterations > 0 and iterations % updates_per_epoch == 0:
        # What torch draws when its loop asks for a batch after the last (`refnet.data`, point 3), as ours does not.
        generator.random_raw(n - 1)
    return History(losses, updates_per_epoch, np.array(list(rows), np.int64), weights)


def _check_arguments(net: Module, opt: Any, inputs: Array, targets: Array, iterations: int) -> list[str]:
    """Refuse what cannot be trained, before anything is written or drawn; return the names of the arrays in `opt`."""
    for what, array in (("inputs", inputs), ("targets", targets)):
        if array.ndim == 0 or len(array) == 0:
            raise ValueError(
                f"fit: expected {what} of at least one sample along the first axis, got shape {array.shape}"
            )
    if len(inputs) != len(targets):
        raise ValueError(f"fit: expected as many inputs as targets, got {len(inputs)} and {len(targets)}")
    if not hasattr(iterations, "__index__") or iterations < 0:
        raise ValueError(f"fit: expected iterations to be an integer of at least 0, got {iterations!r}")
    for what, array in {**net.state_dict(), "inputs": inputs, "targets": targets}.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"fit: expected finite values in {what}, got NaN or infinity")
    held = {name: P for group in opt.param_groups for name, P in group["params"].items()}
    for name, P in held.items():
        if net.params.get(name) is not P:
            raise ValueError(
                f"fit: expected an optimizer on net.params, got one that holds an array {name} which is not net's"
            )
    return list(held)


def _rows(record: bool | Iterable[int], iterations: int) -> dict[int, int]:
    """For each number of updates after which the weights are recorded, its row in `History.weights`."""
    if isinstance(record, bool):
        record = range(iterations + 1) if record else ()
    updates = sorted(set(record))
    if updates and not 0 <= updates[0] <= updates[-1] <= iterations:
        raise ValueError(f"fit: expected record within 0 to {iterations}, got {updates[0]} to {updates[-1]}")
    return {update: row for row, update in enumerate(updates)}


@contextmanager
def _whole_updates() -> Iterator[tuple[list[Any], Callable[[], None]]]:
    """Hold interrupts back: `(interrupts, deliver)`, the list of those that came and a function that hands one on.

    Python delivers them to the main thread alone, and only if it handles them at all; elsewhere none is held back.
    """
    interrupts: list[Any] = []
    previous = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(previous):
        yield interrupts, lambda: None
        return

    def hold(*interrupt: Any) -> None:
        interrupts.append(interrupt)
        if len(interrupts) > 1:
            deliver()

    def deliver() -> None:
        last = interrupts[-1]
        interrupts.clear()
        previous(*last)

    signal.signal(signal.SIGINT, hold)
    try:
        yield interrupts, deliver
    finally:
        signal.signal(signal.SIGINT, previous)
        if interrupts:
            deliver()
