"""Schedules of the learning rate, under torch.optim.lr_scheduler's names, arguments and defaults."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from refnet import _check
from refnet.optim.lr_scheduler_base import LRScheduler
from refnet.optim.lr_scheduler_combined import ChainedScheduler, SequentialLR
from refnet.optim.lr_scheduler_cyclic import CyclicLR, OneCycleLR
from refnet.optim.lr_scheduler_plateau import ReduceLROnPlateau
from refnet.optim.optimizer import Optimizer

__all__ = [
    "ChainedScheduler",
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "CyclicLR",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "OneCycleLR",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
]

THIRD = 0.3333333333333333
"""torch's default 1 / 3, in binary64."""


def _is_function(operation: str, name: str, value: Any) -> None:
    if not callable(value):
        raise TypeError(f"{operation}: expected {name} to be a function, got {type(value).__name__}")


class LambdaLR(LRScheduler):
    """The initial rate times a function f of the epoch.

        eta_e = eta f(e)

    Args:
        optimizer, last_epoch: as for every `LRScheduler`.
        lr_lambda: f, or a list of one for each group.
    """

    functions: ClassVar[tuple[str, ...]] = ("lr_lambdas",)

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | list[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        self.optimizer = self._own(optimizer)
        self.lr_lambdas = self.per_group("lr_lambda", lr_lambda, _is_function)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[Any]:
        self._check_groups(self.base_lrs)
        now = zip(self.base_lrs, self.lr_lambdas, strict=True)
        # eta_e = eta f(e)
        return [eta * self._number("lr_lambda", f(self.last_epoch)) for eta, f in now]


class MultiplicativeLR(LRScheduler):
    """The rate times a function f of the epoch, again at each.

        eta_e = eta_(e-1) f(e)     e > 0

    Args:
        optimizer, last_epoch: as for every `LRScheduler`.
        lr_lambda: f, or a list of one for each group.
    """

    functions: ClassVar[tuple[str, ...]] = ("lr_lambdas",)

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | list[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        self.optimizer = self._own(optimizer)
        self.lr_lambdas = self.per_group("lr_lambda", lr_lambda, _is_function)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[Any]:
        if self._is_initial:
            return self._rates()
        self._check_groups(self.lr_lambdas)
        now = zip(self._rates(), self.lr_lambdas, strict=True)
        # eta_e = eta_(e-1) f(e)
        return [eta * self._number("lr_lambda", f(self.last_epoch)) for eta, f in now]


class StepLR(LRScheduler):
    """The rate times gamma after every S = `step_size` epochs.

        eta_e = eta_(e-1) gamma   where S divides e > 0, otherwise eta_(e-1)
        closed form: eta_e = eta gamma^floor(e / S)

    Args:
        optimizer, last_epoch: as for every `LRScheduler`.
        step_size: S.
        gamma: gamma.
    """

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1) -> None:
        self.step_size = _check.size(self._name, "step_size", step_size, 1)
        _check.number(self._name, "gamma", gamma)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[Any]:
        if self.last_epoch == 0 or self.last_epoch % self.step_size:
            return self._rates()
        # eta_e = eta_(e-1) gamma
        return [eta * self.gamma for eta in self._rates()]

    def closed_form_lr(self) -> list[Any]:
        # eta_e = eta gamma^floor(e / S)
        return [eta * self.gamma ** (self.last_epoch // self.step_size) for eta in self.base_lrs]


class MultiStepLR(LRScheduler):
    """The rate times gamma at each milestone; a milestone that is there n times counts n times.

        eta_e = eta_(e-1) gamma^n   where e is n milestones, otherwise eta_(e-1)
        closed form: eta_e = eta gamma^k     k milestones of at most e

    Args:
        optimizer, last_epoch: as for every `LRScheduler`.
        milestones: epochs, in ascending order. (torch documents the order and does not ask for it.)
        gamma: gamma.
    """

    def __init__(
        self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        given = _check.listed(self._name, "milestones", milestones)
        listed = [_check.size(self._name, "a milestone", milestone) for milestone in given]
        if listed != sorted(listed):
            raise ValueError(f"{self._name}: expected milestones in ascending order, got {listed}")
        _check.number(self._name, "gamma", gamma)
        self.milestones = Counter(listed)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[Any]:
        if (n := self.milestones.get(self.last_epoch, 0)) == 0:
            return self._rates()
        # eta_e = eta_(e-1) gamma^n
        return [eta * self.gamma**n for eta in self._rates()]

    def _check_state(self, state: Any) -> None:
        super()._check_state(state)
        operation, given = f"{self._name}.load_state_dict", state["milestones"]
        if not isinstance(given, Counter):
            raise TypeError(f"{operation}: expected milestones to be a Counter, got {type(given).__name__}")
        for milestone, n in given.items():
            _check.size(operation, "a milestone", milestone)
            _check.size(operation, "how often a milestone counts", n)

    def closed_form_lr(self) -> list[Any]:
        k = bisect_right(sorted(self.milestones.elements()), self.last_epoch)
        # eta_e = eta gamma^k
        return [eta * self.gamma**k for eta in self.base_lrs]


class ConstantLR(LRScheduler):
    """The rate times a factor c until epoch T = `total_iters`.

        eta_0 = eta c     eta_T = eta_(T-1) (1 / c)     otherwise eta_e = eta_(e-1)
        closed form: eta_e = eta c for e < T, eta from there on

    Args:
        optimizer, last_epoch: as for every `LRScheduler`.
        factor: c, above 0 and at most 1. (torch takes 0, and then divides by it at T.)
        total_iters: T.
    """

    def __init__(self, optimizer: Optimizer, factor: float = THIRD, total_iters: int = 5, last_epoch: int = -1) -> None:
        _check.between(0, 1, low_too=False)(self._name, "factor", factor)
        self.factor = factor
        self.total_iters = _check.size(self._name, "total_iters", total_iters)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[Any]:
        if self.last_epoch == 0:
            # eta_0 = eta c
            return [eta * self.factor for eta in self._rates()]
        if self.last_epoch != self.total_iters:
            return self._rates()
        # eta_T = eta_(T-1) (1 / c)
        return [eta * (1.0 / self.factor) for eta in self._rates()]

    def closed_form_lr(self) -> list[Any]:
        done = self.last_epoch >= self.total_iters
        # eta_e = eta (c + [e >= T] (1 - c))
        return [eta * (self.factor + done * (1 - self.factor)) for eta in self.base_lrs]


class LinearLR(LRScheduler):
    """The rate times a factor that goes from a = `start_factor` to b = `end_factor` in a line, over T = `total_iters`
    epochs.

        eta_0 = eta a     eta_e = eta_(e-1) (1 + (b - a) / (T a + (e - 1) (b - a)))     0 < e <= T
        closed form: eta_e = eta (a + (b - a) min(T, e) / T)

    Args:
        optimizer, last_epoch: as for every `LRScheduler`.
        start_factor, end_factor: a, above 0, and b, at least 0; both at most 1.
        total_iters: T, at least 1. (torch takes 0, and the factor stays a.)
    """

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = THIRD,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        _check.between(0, 1, low_too=False)(self._name, "start_factor", start_factor)
        _check.between(0, 1)(self._name, "end_factor", end_factor)
        self.start_factor, self.end_factor = start_factor, end_factor
        self.total_iters = _check.size(self._name, "total_iters", total_iters, 1)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[Any]:
        a, b, e, T = self.start_factor, self.end_factor, self.last_epoch, self.total_iters
        if e == 0:
            # eta_0 = eta a
            return [eta * a for eta in self._rates()]
        if self._is_initial or e > T:
            return self._rates()
        # eta_e = eta_(e-1) (1 + (b - a) / (T a + (e - 1) (b - a)))
        return [eta * (1.0 + (b - a) / (T * a + (e - 1) * (b - a))) for eta in self._rates()]

    def closed_form_lr(self) -> list[Any]:
        a, b, e, T = self.start_factor, self.end_factor, self.last_epoch, self.total_iters
        # eta_e = eta (a + (b - a) min(T, e) / T)
        return [eta * (a + (b - a) * min(T, e) / T) for eta in self.base_lrs]


class ExponentialLR(LRScheduler):
    """The rate times gamma at each epoch.

        eta_e = eta_(e-1) gamma     e > 0
        closed form: eta_e = eta gamma^e

    Args:
        optimizer, last_epoch: as for every `LRScheduler`.
        gamma: gamma.
    """

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        _check.number(self._name, "gamma", gamma)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[Any]:
        if self._is_initial:
            return self._rates()
        # eta_e = eta_(e-1) gamma
        return [eta * self.gamma for eta in self._rates()]

    def closed_form_lr(self) -> list[Any]:
        # eta_e = eta gamma^e
        return [eta * self.gamma**self.last_epoch for eta in self.base_lrs]


class PolynomialLR(LRScheduler):
    """The rate falls to 0 over T = `total_iters` epochs, as a power p of what is left.

        eta_e = eta_(e-1) ((1 - e / T) / (1 - (e - 1) / T))^p     0 < e <= T
        closed form: eta_e = eta (1 - min(T, e) / T)^p

    Args:
        optimizer, last_epoch: as for every `LRScheduler`.
        total_iters: T, at least 1. (torch takes 0, and the rate stays.)
        power: p.
    """

    def __init__(self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1) -> None:
        self.total_iters = _check.size(self._name, "total_iters", total_iters, 1)
        _check.number(self._name, "power", power)
        self.power = power
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[Any]:
        e, T = self.last_epoch, self.total_iters
        if self._is_initial or e > T:
            return self._rates()
        factor = ((1.0 - e / T) / (1.0 - (e - 1) / T)) ** self.power
        # eta_e = eta_(e-1) ((1 - e / T) / (1 - (e - 1) / T))^p
        return [eta * factor for eta in self._rates()]

    def closed_form_lr(self) -> list[Any]:
        e, T = self.last_epoch, self.total_iters
        # eta_e = eta (1 - min(T, e) / T)^p
        return [eta * (1.0 - min(T, e) / T) ** self.power for eta in self.base_lrs]


class CosineAnnealingLR(LRScheduler):
    """The rate falls to m = `eta_min` over T = `T_max` epochs along half a wave of the cosine, and rises again over the
    next T.

        eta_e = (1 + cos(pi e / T)) / (1 + cos(pi (e - 1) / T)) (eta_(e-1) - m) + m     e > 0
        eta_e = eta_(e-1) + (eta - m) (1 - cos(pi / T)) / 2     where e - 1 is an odd multiple of T (0 / 0 above)
        closed form: eta_e = m + (eta - m) (1 + cos(pi e / T)) / 2

    Source: I. Loshchilov, F. Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017, equation 5,
    without the restarts.

    Args:
        optimizer, last_epoch: as for every `LRScheduler`.
        T_max: T.
        eta_min: m.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        _check.between(0, math.inf, low_too=False)(self._name, "T_max", T_max)
        _check.number(self._name, "eta_min", eta_min)
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[Any]:
        m, e, T = self.eta_min, self.last_epoch, self.T_max
        if self._is_initial:
            return self._rates()
        if (e - 1 - T) % (2 * T) == 0:
            self._check_groups(self.base_lrs)
            now = zip(self._rates(), self.base_lrs, strict=True)
            # eta_e = eta_(e-1) + (eta - m) (1 - cos(pi / T)) / 2
            return [last + (eta - m) * (1 - math.cos(math.pi / T)) / 2 for last, eta in now]
        ratio = (1 + math.cos(math.pi * e / T)) / (1 + math.cos(math.pi * (e - 1) / T))
        # eta_e = (1 + cos(pi e / T)) / (1 + cos(pi (e - 1) / T)) (eta_(e-1) - m) + m
        return [ratio * (last - m) + m for last in self._rates()]

    def closed_form_lr(self) -> list[Any]:
        m, e, T = self.eta_min, self.last_epoch, self.T_max
        # eta_e = m + (eta - m) (1 + cos(pi e / T)) / 2
        return [m + (eta - m) * (1 + math.cos(math.pi * e / T)) / 2 for eta in self.base_lrs]


class CosineAnnealingWarmRestarts(LRScheduler):
    """The rate falls to m = `eta_min` along half a wave of the cosine, and begins anew.

        eta_e = m + (eta - m) (1 + cos(pi t / T)) / 2

    t = `T_cur` counts the epochs since the last restart, which comes when t is T = `T_i`. Then T is multiplied by M =
    `T_mult`; the first is `T_0`.

    `step` takes epochs that are no integers too. At epoch e >= T_0 there have been n restarts, the most with

        T_0 (1 + M + ... + M^(n-1)) <= e     t = e - T_0 (1 + M + ... + M^(n-1))     T = T_0 M^n

    torch takes n from a quotient of logarithms, which can be one too small at a restart (docs/findings.md).

    Source: I. Loshchilov, F. Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017, equation 5.

    Args:
        optimizer, last_epoch: as for every `LRScheduler`.
        T_0, T_mult: the first T, and M.
        eta_min: m.
    """

    def __init__(
        self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        self.T_0 = self.T_i = _check.size(self._name, "T_0", T_0, 1)
        self.T_mult = _check.size(self._name, "T_mult", T_mult, 1)
        _check.number(self._name, "eta_min", eta_min)
        self.eta_min = eta_min
        self.T_cur: float = last_epoch
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[Any]:
        m, t, T = self.eta_min, self.T_cur, self.T_i
        # eta_e = m + (eta - m) (1 + cos(pi t / T)) / 2
        return [m + (eta - m) * (1 + math.cos(math.pi * t / T)) / 2 for eta in self.base_lrs]

    def step(self, epoch: float | None = None) -> None:
        if epoch is not None:
            _check.not_negative(f"{self._name}.step", "epoch", epoch)
        # (`_step_count` stays 0, as in torch)
        self._update_lr(epoch)

    def _update_lr(self, epoch: float | None = None) -> None:
        if epoch is None and self.last_epoch < 0:
            epoch = 0
        before = self.T_cur, self.T_i
        if epoch is None:
            epoch = self.last_epoch + 1
            self.T_cur += 1
            if self.T_cur >= self.T_i:
                self.T_cur %= self.T_i
                self.T_i *= self.T_mult
        elif epoch < self.T_0:
            self.T_cur, self.T_i = epoch, self.T_0
        elif self.T_mult == 1:
            self.T_cur = epoch % self.T_0
        else:
            T, begin = self.T_0, 0
            while begin + T <= epoch:
                begin, T = begin + T, T * self.T_mult
            self.T_cur, self.T_i = epoch - begin, T
        try:
            super()._update_lr(math.floor(epoch))
        except BaseException:
            self.T_cur, self.T_i = before
            raise
