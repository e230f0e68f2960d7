"""Training loops as data: one update after another, with what a mistake is made of."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import numpy as np

from parity.families.fault import Lift, Steps, Train
from parity.records import definition
from refnet.nn.utils import Clipping
from refnet.train.step import Update, micro_batches

Grads = dict[str, Any]


@dataclass
class Loop:
    """What a training loop has at hand."""

    update: Update

    def gradients(self, batch: Any, rows: Any = None) -> tuple[Any, Grads]:
        """Loss and gradients of a batch, with the targets of other rows if these are given."""
        grads, value = self.update.gradients(
            self.update.inputs[batch], self.update.targets[batch if rows is None else rows]
        )
        return value, grads

    def ahead_of(self, record: Train, k: int) -> None:
        definition.ahead_of(self.update, record, k)

    def step(self, grads: Grads) -> None:
        self.update.opt.step({name: grads[name] for name in self.update.held if name in grads})


def loop_of(update: Callable[[Loop, Train, int], Any]) -> Callable[[Train, Lift], Steps]:
    """A training whose update number k is `update(loop, record, k)`; it returns the loss that it records."""

    def train(record: Train, lift: Lift) -> Steps:
        arrays = {name: lift(a) for name, a in record.arrays.items()}
        state = definition.lifted_state(record.optimizer, record.state, lift)
        loop = Loop(definition.updating(record, arrays, state, lift))
        yield definition.moment(0, None, loop.update)
        for k in range(record.iterations):
            definition.ahead_of(loop.update, record, k)
            yield definition.moment(k + 1, update(loop, record, k), loop.update)

    return train


def parts_of(loop: Loop, batch: Any, clipping: Clipping) -> list[tuple[Any, Grads, int]]:
    """Of each micro-batch the loss and the gradients of its own, clipped so, and its samples."""
    update, whole = loop.update, np.asarray(batch)
    alone = copy.copy(update)
    alone.accumulate, alone.clipping = 1, clipping
    found = []
    for rows in micro_batches(len(whole), update.accumulate):
        grads, value = alone.gradients(update.inputs[whole[rows]], update.targets[whole[rows]])
        found.append((value, grads, len(whole[rows])))
    return found


def summed(parts: list[Grads]) -> Grads:
    return {name: reduce(add, (grads[name] for grads in parts)) for name in parts[0]}
