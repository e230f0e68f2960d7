"""Averages of weights, and the schedule that goes with them, under torch.optim.swa_utils' names."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from refnet import _check
from refnet.arithmetic import special
from refnet.nn.module import Array
from refnet.optim.lr_scheduler_base import LRScheduler
from refnet.optim.optimizer import Optimizer

Average = Callable[[Array, Array, int], Array]
"""The next average, of the present one, the weights, and how many weights are in the present one."""


def get_ema_avg_fn(decay: float = 0.999) -> Average:
    """The exponential moving average, with d = `decay` from 0 to 1.

    a[.] = d a[.] + (1 - d) w[.]

    1 - d is exact and rounded once.
    """
    _check.between(0, 1)("get_ema_avg_fn", "decay", decay)

    def ema_update(A: Array, W: Array, num_averaged: int) -> Array:
        # a[.] = d a[.] + (1 - d) w[.]
        return special.lift(decay, A) * A + special.lift(float(1 - Fraction(decay)), A) * W

    return ema_update


def get_swa_avg_fn() -> Average:
    """The mean of all weights so far, of n = `num_averaged` and the present ones.

    a[.] = a[.] + (w[.] - a[.]) / (n + 1)
    """

    def swa_update(A: Array, W: Array, num_averaged: int) -> Array:
        # a[.] = a[.] + (w[.] - a[.]) / (n + 1)
        return A + (W - A) / special.lift(float(num_averaged + 1), A)

    return swa_update


class SWALR(LRScheduler):
    """The rate goes to s = `swa_lr` over E = `anneal_epochs` epochs, and stays there.

        eta_e = s alpha_e + (1 - alpha_e) (eta_(e-1) - alpha_(e-1) s) / (1 - alpha_(e-1))
        alpha_e = (1 - cos(pi t)) / 2 with `anneal_strategy` cos, t with linear     t = min(e / E, 1)

    (eta_(e-1) - alpha_(e-1) s) / (1 - alpha_(e-1)) is the rate that the way began with; where alpha_(e-1) is 1 it is s.

    Args:
        optimizer, last_epoch: as for every `LRScheduler`.
        swa_lr: s, or a list of one for each group; noted in the groups.
        anneal_epochs, anneal_strategy: as above.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        swa_lr: float | list[float],
        anneal_epochs: int = 10,
        anneal_strategy: str = "cos",
        last_epoch: int = -1,
    ) -> None:
        self.optimizer = self._own(optimizer)
        rates = self.per_group("swa_lr", swa_lr, _check.not_negative)
        _check.one_of(self._name, "anneal_strategy", anneal_strategy, ("cos", "linear"))
        self.anneal_epochs = _check.size(self._name, "anneal_epochs", anneal_epochs)
        self._anneal_strategy = anneal_strategy
        for group, s in zip(optimizer.param_groups, rates, strict=True):
            group["swa_lr"] = s
        super().__init__(optimizer, last_epoch)

    def _alpha(self, e: int) -> float:
        t = max(0, min(1, e / max(1, self.anneal_epochs)))
        return t if self._anneal_strategy == "linear" else (1 - math.cos(math.pi * t)) / 2

    def get_lr(self) -> list[Any]:
        e = self._step_count - 1 if self.anneal_epochs else max(1, self._step_count - 1)
        alpha, before = self._alpha(e), self._alpha(e - 1)
        rates = []
        for group in self.optimizer.param_groups:
            s = group["swa_lr"]
            first = s if before == 1 else (group["lr"] - before * s) / (1 - before)
            # eta_e = s alpha_e + (1 - alpha_e) (eta_(e-1) - alpha_(e-1) s) / (1 - alpha_(e-1))
            rates.append(s * alpha + first * (1 - alpha))
        return rates
