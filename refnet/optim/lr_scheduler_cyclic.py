"""Schedules that cycle the rate, and the momentum against it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from refnet import _check
from refnet.optim.lr_scheduler_base import LRScheduler, whole_or_none
from refnet.optim.optimizer import Optimizer

_PHASE = ("end_step", "start_lr", "end_lr", "start_momentum", "end_momentum")
"""What a phase of `OneCycleLR` tells."""


def _has_momentum(operation: str, optimizer: Optimizer) -> bool:
    """Whether the momentum of an optimizer is the first of its betas."""
    if not {"momentum", "betas"} & optimizer.defaults.keys():
        raise ValueError(
            f"{operation}: expected an optimizer with momentum or betas, got {type(optimizer).__name__}; "
            "cycle_momentum=False cycles the rate alone"
        )
    return "betas" in optimizer.defaults


def _momentum_check(is_beta: bool) -> Callable[[str, str, Any], None]:
    """What an optimizer asks of its momentum, or of the first of its betas."""
    return _check.between(0, 1, high_too=False) if is_beta else _check.not_negative


class CyclicLR(LRScheduler):
    """The rate rises from b = `base_lr` to t = `max_lr` in a line over U = `step_size_up` epochs, falls back over D =
    `step_size_down`, and so on; the momentum goes against it.

        c = floor(1 + e / (U + D))     x = 1 + e / (U + D) - c     r = U / (U + D)
        h = x / r, or (x - 1) / (r - 1) where x > r
        eta_e = b + (t - b) h s     mu_e = M - (M - m) h s
        s = 1 with `mode` triangular, 1 / 2^(c-1) with triangular2, gamma^e with exp_range

    m = `base_momentum` and M = `max_momentum` are set as `momentum`, or as the first of `betas`.

    Source: L. N. Smith, "Cyclical learning rates for training neural networks", WACV 2017, sections 3.1 and 3.2.

    Args:
        optimizer, last_epoch: as for every `LRScheduler`.
        base_lr, max_lr: b and t, or lists of one for each group. The groups' own rates are not used.
        step_size_up, step_size_down: U and D; None is U.
        mode, gamma: as above.
        scale_fn, scale_mode: a function in place of `mode`: s = f(c) with cycle, f(e) with iterations.
        cycle_momentum: whether the momentum moves.
        base_momentum, max_momentum: m and M, or lists of one for each group.
    """

    functions: ClassVar[tuple[str, ...]] = ("_scale_fn_custom",)
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "mode": ("triangular", "triangular2", "exp_range"),
        "scale_mode": ("cycle", "iterations"),
    }

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float | list[float],
        max_lr: float | list[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.8,
        max_momentum: float | list[float] = 0.9,
        last_epoch: int = -1,
    ) -> None:
        self.optimizer = self._own(optimizer)
        base_lrs = self.per_group("base_lr", base_lr, _check.not_negative)
        self.max_lrs = self.per_group("max_lr", max_lr, _check.not_negative)
        up = float(_check.size(self._name, "step_size_up", step_size_up, 1))
        down = up if step_size_down is None else float(_check.size(self._name, "step_size_down", step_size_down, 1))
        self.total_size = up + down
        self.step_ratio = up / self.total_size
        if scale_fn is None:
            _check.one_of(self._name, "mode", mode, self.choices["mode"])
            scale_mode = "iterations" if mode == "exp_range" else "cycle"
        elif not callable(scale_fn):
            raise TypeError(f"{self._name}: expected scale_fn to be a function or None, got {scale_fn!r}")
        _check.one_of(self._name, "scale_mode", scale_mode, self.choices["scale_mode"])
        _check.number(self._name, "gamma", gamma)
        _check.flag(self._name, "cycle_momentum", cycle_momentum)
        self.mode, self.gamma, self.scale_mode = mode, gamma, scale_mode
        self._scale_fn_custom = scale_fn
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            self.use_beta1 = _has_momentum(self._name, optimizer)
            check = _momentum_check(self.use_beta1)
            self.base_momentums = self.per_group("base_momentum", base_momentum, check)
            self.max_momentums = self.per_group("max_momentum", max_momentum, check)
        with whole_or_none(optimizer):
            if last_epoch == -1:
                if cycle_momentum:
                    self._set_momentums(self.max_momentums)
                    both = zip(self.max_momentums, self.base_momentums, strict=True)
                    for group, (M, m) in zip(optimizer.param_groups, both, strict=True):
                        group.update(max_momentum=M, base_momentum=m)
                for group, b in zip(optimizer.param_groups, base_lrs, strict=True):
                    group["lr"] = b
            super().__init__(optimizer, last_epoch)
        self.base_lrs = base_lrs

    def _height(self) -> tuple[float, float]:
        """h and s."""
        e = self.last_epoch
        # c = floor(1 + e / (U + D))     x = 1 + e / (U + D) - c
        c = math.floor(1 + e / self.total_size)
        x = 1.0 + e / self.total_size - c
        # h = x / r, or (x - 1) / (r - 1)
        h = x / self.step_ratio if x <= self.step_ratio else (x - 1) / (self.step_ratio - 1)
        return h, self._scale(c, e)

    def _scale(self, c: int, e: int) -> float:
        if self._scale_fn_custom is not None:
            made: float = self._number("scale_fn", self._scale_fn_custom(c if self.scale_mode == "cycle" else e))
            return made
        if self.mode == "triangular":
            return 1.0
        # s = 1 / 2^(c-1), or gamma^e
        return 1 / (2.0 ** (c - 1)) if self.mode == "triangular2" else self.gamma**e

    def get_lr(self) -> list[Any]:
        h, s = self._height()
        # eta_e = b + (t - b) h s
        return [b + (t - b) * h * s for b, t in zip(self.base_lrs, self.max_lrs, strict=True)]

    def get_momentum(self) -> list[Any] | None:
        if not self.cycle_momentum:
            return None
        h, s = self._height()
        # mu_e = M - (M - m) h s
        return [M - (M - m) * h * s for m, M in zip(self.base_momentums, self.max_momentums, strict=True)]


class OneCycleLR(LRScheduler):
    """One cycle over N = `total_steps` epochs: the rate rises from i = t / `div_factor` to t = `max_lr`, and falls to
    l = i / `final_div_factor`; the momentum goes against it.

        in a phase from epoch p to q, from rate a to b:  z = (e - p) / (q - p)
        eta_e = b + (a - b) / 2 (cos(pi z) + 1) with `anneal_strategy` cos, (b - a) z + a with linear
        mu_e likewise

        phases: 0 to k N - 1        i to t    M to m      k = `pct_start`
                to N - 1            t to l    m to M
        or, with `three_phase`, the second to 2 k N - 2, from t to i and m to M, and a third to N - 1, from i to l and
        M to M

    m = `base_momentum` and M = `max_momentum` are set as `momentum`, or as the first of `betas`. A phase without length
    is at its end (z = 1); torch divides by 0. `step` may be called N times. At the last call the cycle is over: e = N,
    z is above 1, and the rate is that of the equation, as in torch.

    Source: L. N. Smith, N. Topin, "Super-convergence: very fast training of neural networks using large learning
    rates", 2018, arXiv:1708.07120, section 4; documentation of torch.optim.lr_scheduler.OneCycleLR.

    Args:
        optimizer, last_epoch: as for every `LRScheduler`.
        max_lr: t, or a list of one for each group. The groups' own rates are not used.
        total_steps: N; None is `epochs` times `steps_per_epoch`.
        pct_start: k, a share, not a percentage.
        anneal_strategy: cos or linear.
        cycle_momentum: whether the momentum moves.
        base_momentum, max_momentum: m and M, or lists of one for each group.
        div_factor, final_div_factor: as above.
        three_phase: as above.
    """

    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {"_anneal_func_type": ("cos", "linear")}

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | list[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.85,
        max_momentum: float | list[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        self.optimizer = self._own(optimizer)
        if total_steps is not None:
            self.total_steps = _check.size(self._name, "total_steps", total_steps, 1)
        elif epochs is not None and steps_per_epoch is not None:
            self.total_steps = _check.size(self._name, "epochs", epochs, 1)
            self.total_steps *= _check.size(self._name, "steps_per_epoch", steps_per_epoch, 1)
        else:
            raise ValueError(f"{self._name}: expected total_steps, or epochs and steps_per_epoch, got neither")
        _check.between(0, 1)(self._name, "pct_start", pct_start)
        _check.one_of(self._name, "anneal_strategy", anneal_strategy, self.choices["_anneal_func_type"])
        positive = _check.between(0, math.inf, low_too=False)
        positive(self._name, "div_factor", div_factor)
        positive(self._name, "final_div_factor", final_div_factor)
        for name, value in (("cycle_momentum", cycle_momentum), ("three_phase", three_phase)):
            _check.flag(self._name, name, value)
        top = self.per_group("max_lr", max_lr, _check.not_negative)
        self._schedule_phases = _phases(pct_start, self.total_steps, three_phase)
        self._anneal_func_type = anneal_strategy
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            self.use_beta1 = _has_momentum(self._name, optimizer)
            check = _momentum_check(self.use_beta1)
            low = self.per_group("base_momentum", base_momentum, check)
            high = self.per_group("max_momentum", max_momentum, check)
        if last_epoch == -1:
            if cycle_momentum:
                self._set_momentums(high)
                for group, M, m in zip(optimizer.param_groups, high, low, strict=True):
                    group.update(max_momentum=M, base_momentum=m)
            for group, t in zip(optimizer.param_groups, top, strict=True):
                i = t / div_factor
                group.update(initial_lr=i, max_lr=t, min_lr=i / final_div_factor)
        super().__init__(optimizer, last_epoch)

    def _check_state(self, state: Any) -> None:
        super()._check_state(state)
        given, names = state["_schedule_phases"], set(_PHASE)
        if not isinstance(given, list) or not given or any(getattr(one, "keys", dict)() != names for one in given):
            raise ValueError(
                f"{self._name}.load_state_dict: expected _schedule_phases, each with {', '.join(_PHASE)}, got {given!r}"
            )

    def _annealed(self, what: str) -> list[Any]:
        """The rate or momentum of each group."""
        e, p = self.last_epoch, 0.0
        if e > self.total_steps:
            raise ValueError(f"{self._name}: expected at most {self.total_steps} steps, total_steps, got one more")
        *firsts, phase = self._schedule_phases
        for one in firsts:
            if e <= one["end_step"]:
                phase = one
                break
            p = one["end_step"]
        q = phase["end_step"]
        # z = (e - p) / (q - p)
        z = (e - p) / (q - p) if q != p else 1.0
        ends = [(group[phase[f"start_{what}"]], group[phase[f"end_{what}"]]) for group in self.optimizer.param_groups]
        if self._anneal_func_type == "cos":
            # eta_e = b + (a - b) / 2 (cos(pi z) + 1)
            return [b + (a - b) / 2.0 * (math.cos(math.pi * z) + 1) for a, b in ends]
        # eta_e = (b - a) z + a
        return [(b - a) * z + a for a, b in ends]

    def get_lr(self) -> list[Any]:
        return self._annealed("lr")

    def get_momentum(self) -> list[Any] | None:
        return self._annealed("momentum") if self.cycle_momentum else None


def _phases(k: float, N: int, three: bool) -> list[dict[str, Any]]:
    """Where each phase ends, and between which options of a group it goes."""
    ends = [(float(k * N) - 1, "initial_lr", "max_lr", "max_momentum", "base_momentum")]
    if three:
        ends += [
            (float(2 * k * N) - 2, "max_lr", "initial_lr", "base_momentum", "max_momentum"),
            (N - 1, "initial_lr", "min_lr", "max_momentum", "max_momentum"),
        ]
    else:
        ends += [(N - 1, "max_lr", "min_lr", "base_momentum", "max_momentum")]
    return [dict(zip(_PHASE, phase, strict=True)) for phase in ends]
