"""Mistakes of the training procedure: each is the whole loop with one of its lines wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from parity.families.fault import Fault, Lift, Steps, Train
from parity.records import definition
from refnet.arithmetic import special
from refnet.nn import Sequential
from refnet.train.step import Update

Grads = dict[str, Any]


@dataclass
class _Loop:
    """What a training loop has at hand."""

    update: Update

    def gradients(self, batch: Any, rows: Any = None) -> tuple[Any, Grads]:
        """Loss and gradients of a batch, with the targets of other rows if these are given."""
        grads, value = self.update.gradients(
            self.update.inputs[batch], self.update.targets[batch if rows is None else rows]
        )
        return value, grads

    def step(self, grads: Grads) -> None:
        self.update.opt.step({name: grads[name] for name in self.update.held if name in grads})


def _loop(update: Callable[[_Loop, Train, int], Any]) -> Callable[[Train, Lift], Steps]:
    """A training whose update number k is `update(loop, record, k)`; it returns the loss that it records."""

    def train(record: Train, lift: Lift) -> Steps:
        arrays = {name: lift(a) for name, a in record.arrays.items()}
        state = definition.lifted_state(record.optimizer, record.state, lift)
        loop = _Loop(definition.updating(record, arrays, state, lift))
        yield definition.moment(0, None, loop.update)
        for k in range(record.iterations):
            yield definition.moment(k + 1, update(loop, record, k), loop.update)

    return train


def _sequential(loop: _Loop, record: Train, k: int) -> Any:
    batch = record.batches[k]
    network, loss = loop.update.net, loop.update.loss
    assert isinstance(network, Sequential)
    output, saved = network.forward(loop.update.inputs[batch])
    value, saved_loss = loss.forward(output, loop.update.targets[batch])
    (dX, _), _ = loss.backward(special.lift(1.0, value), saved_loss)
    for place in range(len(network.layers) - 1, -1, -1):
        layer = network.layers[place]
        _, grads = layer.backward(dX, saved[place])
        loop.step({f"{place}.{name}": grad for name, grad in grads.items()})
        # dX[n,i] = sum_o dY[n,o] W[o,i] with the W that has just been updated
        dX, _ = layer.backward(dX, saved[place])
    return value


def _accumulating() -> Callable[[Train, Lift], Steps]:
    def train(record: Train, lift: Lift) -> Steps:
        total: Grads = {}

        def update(loop: _Loop, record: Train, k: int) -> Any:
            value, grads = loop.gradients(record.batches[k])
            for name, grad in grads.items():
                # dP = dP of all updates so far
                total[name] = total[name] + grad if name in total else grad
            loop.step(total)
            return value

        return _loop(update)(record, lift)

    return train


def _one_late() -> Callable[[Train, Lift], Steps]:
    def train(record: Train, lift: Lift) -> Steps:
        held: list[Grads] = []

        def update(loop: _Loop, record: Train, k: int) -> Any:
            value, grads = loop.gradients(record.batches[k])
            held.append(grads)
            # theta_(k+1) = theta_k - gamma dP_(k-1)
            loop.step(held.pop(0) if len(held) > 1 else grads)
            return value

        return _loop(update)(record, lift)

    return train


def _out_of_step(loop: _Loop, record: Train, k: int) -> Any:
    batch = np.asarray(record.batches[k])
    # the targets of rows n + 1 for the inputs of rows n
    value, grads = loop.gradients(batch, (batch + 1) % len(record.inputs))
    loop.step(grads)
    return value


def _biases_frozen(loop: _Loop, record: Train, k: int) -> Any:
    value, grads = loop.gradients(record.batches[k])
    loop.step({name: grad for name, grad in grads.items() if not name.endswith("bias")})
    return value


def _recorded_after(loop: _Loop, record: Train, k: int) -> Any:
    _, grads = loop.gradients(record.batches[k])
    loop.step(grads)
    # the loss after update k + 1 for that before it
    return loop.gradients(record.batches[k])[0]


def _divided_again(loop: _Loop, record: Train, k: int) -> Any:
    value, grads = loop.gradients(record.batches[k])
    # theta = theta - gamma dP / N
    loop.step({name: grad / len(record.batches[k]) for name, grad in grads.items()})
    return value


def _micro_batches_not_averaged(loop: _Loop, record: Train, k: int) -> Any:
    batch = record.batches[k]
    half = len(batch) // 2
    value, grads = loop.gradients(batch)
    if half:
        (_, first), (_, second) = loop.gradients(batch[:half]), loop.gradients(batch[half:])
        # dP = g_1 + g_2, the gradients of the two halves' mean losses, against (g_1 + g_2) / 2
        grads = {name: first[name] + second[name] for name in grads}
    loop.step(grads)
    return value


def _in_plain_order(loop: _Loop, record: Train, k: int) -> Any:
    size, n = len(record.batches[0]), len(record.inputs)
    value, grads = loop.gradients((np.arange(len(record.batches[k])) + k * size) % n)
    loop.step(grads)
    return value


def _first_batch_always(loop: _Loop, record: Train, k: int) -> Any:
    value, grads = loop.gradients(record.batches[0])
    loop.step(grads)
    return value


FAULTS = (
    Fault(
        "sequential update",
        "dX = dY W with the W of after the update, against the W of before",
        "two layers and one step; the loss alone differs by 1e-7",
        "the article; mattm/simple-neural-network before 2015-03-15",
        train=_loop(_sequential),
    ),
    Fault(
        "gradients not cleared",
        "dP += g at every update against dP = g",
        "two updates",
        "issue class: zero_grad left out",
        train=_accumulating(),
    ),
    Fault(
        "gradients one update late",
        "theta_k - gamma dP_(k-1) against theta_k - gamma dP_k",
        "two updates",
        "issue class: a stale gradient",
        train=_one_late(),
    ),
    Fault(
        "targets out of step",
        "targets of rows n + 1 against targets of rows n",
        "two samples of different targets",
        "issue class: inputs shuffled without their targets",
        train=_loop(_out_of_step),
    ),
    Fault(
        "biases never updated",
        "b against b - gamma db",
        "a bias among the parameters",
        "the article, and programs after it",
        train=_loop(_biases_frozen),
    ),
    Fault(
        "loss recorded after the update",
        "the loss at theta_(k+1) against the loss at theta_k",
        "any",
        "the article's figure after 10,000 updates, and programs after it",
        train=_loop(_recorded_after),
    ),
    Fault(
        "divided by the batch again",
        "theta - gamma dP / N against theta - gamma dP",
        "a batch of more than one",
        "d2l-ai/d2l-en#1000",
        train=_loop(_divided_again),
    ),
    Fault(
        "data in plain order",
        "rows 0, 1, 2, ... against the shuffled order",
        "shuffled data",
        "issue class: an option ignored",
        train=_loop(_in_plain_order),
    ),
    Fault(
        "first batch always",
        "the first batch at every update against the next one",
        "two batches",
        "issue class: an iterator made anew",
        train=_loop(_first_batch_always),
    ),
    Fault(
        "micro-batches not averaged",
        "g_1 + g_2 against (g_1 + g_2) / 2, each the gradient of a mean over half of the batch",
        "a batch of more than one",
        "issue class: accumulated gradients not scaled",
        train=_loop(_micro_batches_not_averaged),
    ),
)
