"""A schedule that follows a metric."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, SupportsFloat

from refnet import _check
from refnet.optim.lr_scheduler_base import LRScheduler
from refnet.optim.optimizer import Optimizer


class ReduceLROnPlateau(LRScheduler):
    """The rate times a factor c when a metric has not become better for more than P = `patience` epochs.

        better: x_e < b (1 - h) with `mode` min and `threshold_mode` rel     x_e < b - h with abs
                x_e > b (1 + h) with max and rel                             x_e > b + h with max and abs
        b = x_e and n = 0 where x_e is better, otherwise n = n + 1
        n = 0 and w = w - 1 where w > 0
        eta_e = max(c eta_(e-1), l) if that is less by more than eps, n = 0 and w = W     where n > P

    x_e is the metric, b the best so far, h = `threshold`, n = `num_bad_epochs`, W = `cooldown`, w what is left of it,
    l = `min_lr`. A metric that is NaN is not better.

    Args:
        optimizer: as for every `LRScheduler`.
        mode: min or max: what is better.
        factor: c, at least 0 and below 1.
        patience: P.
        threshold, threshold_mode: as above; rel or abs.
        cooldown: W.
        min_lr: l, or a list of one for each group.
        eps: the least change.
    """

    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {"mode": ("min", "max"), "threshold_mode": ("rel", "abs")}

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: list[float] | float = 0,
        eps: float = 1e-8,
    ) -> None:
        self.optimizer = self._own(optimizer)
        _check.one_of(self._name, "mode", mode, self.choices["mode"])
        _check.between(0, 1, high_too=False)(self._name, "factor", factor)
        self.patience = _check.size(self._name, "patience", patience)
        _check.number(self._name, "threshold", threshold)
        _check.one_of(self._name, "threshold_mode", threshold_mode, self.choices["threshold_mode"])
        self.cooldown = _check.size(self._name, "cooldown", cooldown)
        _check.not_negative(self._name, "eps", eps)
        self.factor, self.eps = factor, eps
        self.mode, self.threshold, self.threshold_mode = mode, threshold, threshold_mode
        self.min_lrs = self.per_group("min_lr", min_lr)
        self.default_min_lr = None if isinstance(min_lr, list | tuple) else min_lr
        self.mode_worse = math.inf if mode == "min" else -math.inf
        self.best = self.mode_worse
        self.cooldown_counter = self.num_bad_epochs = self.last_epoch = 0
        self._last_lr = self._rates()

    def step(self, metrics: SupportsFloat, epoch: int | None = None) -> None:  # type: ignore[override]
        """Take in the metric of an epoch: a number, or an array of one."""
        try:
            x = float(metrics)
        except (TypeError, ValueError):
            raise TypeError(
                f"{self._name}.step: expected metrics to be a number, or an array of one, got {type(metrics).__name__}"
            ) from None
        self._check_limits()
        self.last_epoch = self.last_epoch + 1 if epoch is None else _check.size(f"{self._name}.step", "epoch", epoch)
        if self._is_better(x, self.best):
            self.best, self.num_bad_epochs = x, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter, self.num_bad_epochs = self.cooldown_counter - 1, 0
        if self.num_bad_epochs > self.patience:
            # eta_e = max(c eta_(e-1), l), if that is less by more than eps
            lower = [max(eta * self.factor, least) for eta, least in zip(self._rates(), self.min_lrs, strict=True)]
            now = zip(self._rates(), lower, strict=True)
            self._set([new if eta - new > self.eps else eta for eta, new in now])
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
        self._last_lr = self._rates()

    def _is_better(self, x: float, b: float) -> bool:
        h = self.threshold
        if self.mode == "min":
            # x < b (1 - h), or x < b - h
            return x < b * (1.0 - h) if self.threshold_mode == "rel" else x < b - h
        # x > b (1 + h), or x > b + h
        return x > b * (h + 1.0) if self.threshold_mode == "rel" else x > b + h

    def _check_limits(self) -> None:
        """One limit for all groups holds for groups that came later too."""
        if self.default_min_lr is not None:
            self.min_lrs = self.per_group("min_lr", self.default_min_lr)
        self._check_groups(self.min_lrs)
