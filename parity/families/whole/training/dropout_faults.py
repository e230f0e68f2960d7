"""Mistakes of Dropout that show in a training, where every update has masks of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from parity.families.fault import Fault, Lift, Steps, Train
from parity.families.whole.training.loops import Grads, Loop, loop_of
from refnet.arithmetic import special


def _masked(masks: Callable[[Train, int], Grads]) -> Callable[[Train, Lift], Steps]:
    """Dropout by other masks than the update's."""

    def update(loop: Loop, record: Train, k: int) -> Any:
        loop.drop_by(masks(record, k))
        value, grads = loop.gradients(record.batches[k])
        loop.step(grads)
        return value

    return loop_of(update)


def _of_update(record: Train, k: int, at: int) -> Grads:
    """The masks of another update, in the batch of this one."""
    return {name: mask[at, : len(record.batches[k])] for name, mask in record.masks.items()}


def _of_one_sample(record: Train, k: int) -> Grads:
    # kept[n,.] = kept[0,.]
    return {name: np.broadcast_to(mask[:1], mask.shape) for name, mask in record.masks_of(k).items()}


def _dropouts(change: Callable[[Any, Any], None]) -> Callable[[Train, Lift], Steps]:
    """Each Dropout changed for an update by `change(module, kept)`; `kept` is its mask of the update before."""

    def update(loop: Loop, record: Train, k: int) -> Any:
        modules = dict(loop.update.net.named_modules())
        for name, kept in _of_update(record, k, max(0, k - 1)).items():
            change(modules[name], kept)
        value, grads = loop.gradients(record.batches[k])
        loop.step(grads)
        return value

    return loop_of(update)


def _stale_backward(module: Any, kept: Any) -> None:
    # dX[.] = [kept_(k-1)[.]] dY[.] / (1 - p)
    module.backward = lambda dY, saved: type(module).backward(module, dY, saved._replace(kept=kept))


def _no_scale(module: Any, kept: Any) -> None:
    def forward(X: Any, mask: Any) -> Any:
        _, saved = type(module).forward(module, X, mask)
        # Y[.] = [kept[.]] X[.], and dX[.] = [kept[.]] dY[.]
        return np.where(mask, X, X * 0), saved._replace(q=special.lift(1.0, X))

    module.forward.forward = forward


def _in_evaluation(module: Any, kept: Any) -> None:
    module.training = False


DROPOUT = (
    Fault(
        "dropout's mask of the update before, backward",
        "dX = [kept_(k-1)] dY / (1 - p) against [kept_k] dY / (1 - p)",
        "two updates with masks of their own",
        "kind of bug: a buffer used again before it was filled",
        train=_dropouts(_stale_backward),
        types=("Dropout",),
    ),
    Fault(
        "dropout's mask drawn once",
        "kept_0 at every update against kept_k",
        "two updates with masks of their own",
        "kind of bug: a generator seeded anew in every step",
        train=_masked(lambda record, k: _of_update(record, k, 0)),
        types=("Dropout",),
    ),
    Fault(
        "one mask of dropout for every sample",
        "kept[0] for every sample n against kept[n]",
        "a batch of more than one",
        "kind of bug: a mask without the batch axis, broadcast",
        train=_masked(_of_one_sample),
        types=("Dropout",),
    ),
    Fault(
        "dropout of a training without its scale",
        "[kept] X against [kept] X / (1 - p), forward and backward",
        "a mask that keeps something",
        "kind of bug: a missing factor",
        train=_dropouts(_no_scale),
        types=("Dropout",),
    ),
    Fault(
        "training in evaluation mode",
        "X against [kept] X / (1 - p)",
        "a network that drops",
        "kind of bug: eval() without train() after it",
        train=_dropouts(_in_evaluation),
        types=("Dropout",),
    ),
)
