"""The learning rates of the updates of a training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from refnet import _check
from refnet.arithmetic.runs import Runs
from refnet.optim.lr_scheduler_base import LRScheduler
from refnet.optim.lr_scheduler_plateau import ReduceLROnPlateau
from refnet.train.capture.contract import is_capturable

Rates = list[Any]
"""One for each group."""


class Schedule:
    """Rates that stay as they are; what has others says when they are set.

    Attributes:
        ahead: whether updates may be done together, at rates asked for before.
        uncapturable: why no update can be captured; empty if it can.
        before, after: called before update k = 0, 1, ..., and after it; None where there is nothing to do.
    """

    ahead = True
    uncapturable = ""
    before: Callable[[int], None] | None = None
    after: Callable[[], None] | None = None

    def rates(self, first: int, updates: int) -> tuple[list[Rates] | None, Exception | None]:
        """The rates of the next updates. Where they cannot all be found out, those that can, and the error behind them;
        None where all are what the groups have."""
        return None, None

    def finish(self) -> None:
        """Called when the training is over, or was left."""


class ByFunction(Schedule):
    """The groups' rates times a function of the number of the update; afterwards they have their own again."""

    def __init__(self, opt: Any, lr_lambda: Callable[[int], float]) -> None:
        self._opt, self._function = opt, lr_lambda
        self._own = [group["lr"] for group in opt.param_groups]
        self.ahead = is_capturable(lr_lambda)
        self.before = self._set

    def _set(self, k: int) -> None:
        set_rates(self._opt, self._at(k))

    def _at(self, k: int) -> Rates:
        factor = self._function(k)
        _check.is_number("lr_lambda", f"its value at {k}", factor)
        return [rate * factor for rate in self._own]

    def rates(self, first: int, updates: int) -> tuple[list[Rates] | None, Exception | None]:
        rows: list[Rates] = []
        try:
            for k in range(first, first + updates):
                rows.append(self._at(k))
        except Exception as error:
            return rows, error
        return rows, None

    def finish(self) -> None:
        set_rates(self._opt, self._own)


class ByScheduler(Schedule):
    """Those of a scheduler that takes a step after each update, or of one for each run."""

    def __init__(self, opt: Any, schedulers: Sequence[LRScheduler], *, runs: bool) -> None:
        self._opt, self._schedulers, self._runs = opt, schedulers, runs
        parts = [part for scheduler in schedulers for part in scheduler.parts()]
        self.ahead = all(map(is_capturable, [*parts, *(f for part in parts for f in _functions(part))]))
        if any(vars(part).get("cycle_momentum") for part in parts):
            self.uncapturable = "the scheduler changes the momentum, which a record has as a constant"
        self.after = self._step
        self._spread()

    def _now(self) -> Rates:
        each = [[group["lr"] for group in scheduler.optimizer.param_groups] for scheduler in self._schedulers]
        return [Runs(np.array(rates)) for rates in zip(*each, strict=True)] if self._runs else each[0]

    def _spread(self) -> None:
        """Let the optimizer of all runs have the rates of each."""
        if self._runs:
            set_rates(self._opt, self._now())

    def _step(self) -> None:
        for scheduler in self._schedulers:
            scheduler.step()
        self._spread()

    def rates(self, first: int, updates: int) -> tuple[list[Rates] | None, Exception | None]:
        rows: list[Rates] = []
        try:
            for _ in range(updates):
                rows.append(self._now())
                self._step()
        except Exception as error:
            return rows, error
        return rows, None


def set_rates(opt: Any, rates: Sequence[Any]) -> None:
    for group, rate in zip(opt.param_groups, rates, strict=True):
        # Past the check of the group: a schedule may go below 0, as torch's may.
        dict.update(group, lr=rate)


def _functions(part: LRScheduler) -> list[Any]:
    """Those of the user's that a scheduler calls."""
    found = []
    for value in (vars(part)[name] for name in part.functions):
        found += value if isinstance(value, list) else [] if value is None else [value]
    return found


def check_scheduler(operation: str, scheduler: Any, opt: Any, lr_lambda: Any) -> None:
    """Raise unless it is a scheduler that can take its steps in a training with this optimizer."""
    if lr_lambda is not None:
        raise ValueError(f"{operation}: expected lr_lambda or a scheduler, got both")
    if not isinstance(scheduler, LRScheduler):
        raise TypeError(f"{operation}: expected scheduler to be one of refnet's, got {type(scheduler).__name__}")
    if isinstance(scheduler, ReduceLROnPlateau):
        raise ValueError(
            f"{operation}: expected a scheduler that steps by itself, got ReduceLROnPlateau, which needs a metric; "
            "step it in a callback"
        )
    if scheduler.optimizer is not opt:
        raise ValueError(f"{operation}: expected a scheduler of the optimizer opt, got one of another optimizer")
