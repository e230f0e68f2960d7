"""Schedules made of schedules: at once, and one after the other."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from refnet import _check
from refnet.optim.lr_scheduler_base import LRScheduler
from refnet.optim.lr_scheduler_plateau import ReduceLROnPlateau
from refnet.optim.optimizer import Optimizer


def _parts(operation: str, optimizer: Any, schedulers: Any) -> tuple[list[LRScheduler], Optimizer]:
    """The schedulers, all of one optimizer that step without a metric, and that optimizer."""
    listed = _check.listed(operation, "schedulers", schedulers)
    if not listed:
        raise ValueError(f"{operation}: expected at least one scheduler, got none")
    for place, part in enumerate(listed):
        if not isinstance(part, LRScheduler):
            raise TypeError(f"{operation}: expected schedulers, got {type(part).__name__} at place {place}")
        if isinstance(part, ReduceLROnPlateau):
            raise ValueError(
                f"{operation}: expected schedulers that step by themselves, got ReduceLROnPlateau, which needs a "
                f"metric, at place {place}"
            )
        if part.optimizer is not (optimizer or listed[0].optimizer):
            raise ValueError(
                f"{operation}: expected all schedulers on one optimizer, got {type(part).__name__} at place {place} on "
                "another"
            )
    return listed, listed[0].optimizer


class ChainedScheduler(LRScheduler):
    """Schedulers that step at once, each from the rates that the one before it has set.

        eta_e = eta_(e-1) f_1(e) f_2(e) ...     where scheduler k multiplies by f_k(e)

    One without a recursive equation (LambdaLR, CyclicLR, OneCycleLR, CosineAnnealingWarmRestarts) puts its own rate in
    the place of what those before it have set.

    Args:
        schedulers: in their order, all on one optimizer. Each has taken its first step already.
        optimizer: that optimizer, or None.
    """

    def __init__(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None) -> None:
        self._schedulers, self.optimizer = _parts(self._name, optimizer, schedulers)
        self._last_lr = self._rates()

    def step(self) -> None:  # type: ignore[override]
        """Step all of them. Those before one that fails have stepped."""
        for part in self._schedulers:
            part.step()
        self._last_lr = self._rates()


class SequentialLR(LRScheduler):
    """Schedulers that act one after the other: the one at place k from milestone k - 1 on, where it begins at its
    epoch 0.

        eta_e = eta_(e - m) of scheduler k     k milestones are at most e, and m is the last of them, or 0

    At a milestone the new scheduler sets the rate of its closed form at 0, and then goes on from there.

    Args:
        optimizer: that of all schedulers.
        schedulers: in their order. What they did to the rates when they were made is undone. None is made of
            schedulers itself: to chain such sequences, make a `ChainedScheduler` of them. (torch takes them, and cannot
            begin them at a milestone.)
        milestones: epochs in ascending order, one less than schedulers. (In torch any order is taken; out of order,
            schedulers are left out or come back.)
        last_epoch: where to go on from; -1 begins.
    """

    def __init__(
        self, optimizer: Optimizer, schedulers: list[LRScheduler], milestones: list[int], last_epoch: int = -1
    ) -> None:
        self._schedulers, self.optimizer = _parts(self._name, self._own(optimizer), schedulers)
        for place, part in enumerate(self._schedulers):
            if "_schedulers" in vars(part):
                raise ValueError(
                    f"{self._name}: expected schedulers that are not made of others, got {type(part).__name__} at "
                    f"place {place}"
                )
        self._milestones = self._in_order(self._name, milestones)
        self.last_epoch = _check.size(self._name, "last_epoch", last_epoch, -1) + 1
        for group in optimizer.param_groups:
            dict.update(group, lr=group["initial_lr"])
        for part in self._schedulers:
            part.last_epoch -= 1
        first = self._schedulers[bisect_right(self._milestones, 0)]
        first._initial_step()
        self._last_lr = first.get_last_lr()

    def _in_order(self, operation: str, milestones: Any) -> list[int]:
        """Milestones, if they are in ascending order and one less than schedulers."""
        given = _check.listed(operation, "milestones", milestones)
        made = [_check.size(operation, "a milestone", milestone) for milestone in given]
        if made != sorted(made):
            raise ValueError(f"{operation}: expected milestones in ascending order, got {made}")
        if len(made) != len(self._schedulers) - 1:
            raise ValueError(
                f"{operation}: expected one milestone less than schedulers, got {len(made)} and {len(self._schedulers)}"
            )
        return made

    def _check_state(self, state: Any) -> None:
        super()._check_state(state)
        self._in_order(f"{self._name}.load_state_dict", state["_milestones"])

    def step(self) -> None:  # type: ignore[override]
        """Set the rates of the next epoch."""
        k = bisect_right(self._milestones, self.last_epoch + 1)
        part = self._schedulers[k]
        if k > 0 and self._milestones[k - 1] == self.last_epoch + 1:
            part._update_lr(0)
        else:
            part.step()
        self.last_epoch += 1
        self._last_lr = part.get_last_lr()
