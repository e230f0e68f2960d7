"""Reported bugs of learning rate schedules: a training at the rates of the bug fails where those of torch are due."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import refnet
from parity.engines.refnet import RefnetEngine
from parity.records.record import Spec, Train
from parity.verdict.evaluation import TrainingRequest
from parity.verdict.lockstep import judge_steps
from parity.verdict.table import is_caught

torch = pytest.importorskip("torch")

UPDATES, LR, GAMMA = 9, 0.5, 0.125
Rates = tuple[float, ...]


def training(rates: Rates) -> Train:
    """The worked example at these rates."""
    linear = Spec("Linear", {"in_features": 2, "out_features": 2})
    return Train(
        Spec("Sequential", layers=(linear, Spec("Sigmoid"), linear, Spec("Sigmoid"))),
        Spec("HalfSquaredError"),
        Spec("SGD", {"lr": LR}),
        {
            "0.weight": np.array([[0.15, 0.20], [0.25, 0.30]]),
            "0.bias": np.array([0.35, 0.35]),
            "2.weight": np.array([[0.40, 0.45], [0.50, 0.55]]),
            "2.bias": np.array([0.60, 0.60]),
        },
        np.array([[0.05, 0.10]]),
        np.array([[0.01, 0.99]]),
        (np.array([0]),) * len(rates),
        rates=rates,
    )


def caught(due: Rates, made: Rates) -> bool:
    """Whether a training at some rates fails where others are due."""
    with np.errstate(all="ignore"):
        answer = RefnetEngine().train(replace(training(due), rates=made))
    return any(is_caught(v.verdict) for v in judge_steps(TrainingRequest.plain(training(due)), answer))


def of(library: Any, make: Callable[[Any, Any], Any], epochs: Callable[[int], int] | None = None) -> Rates:
    """The rates of the updates by a scheduler of torch or refnet; `epochs` are given to its step."""
    if library is torch:
        opt = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))], lr=LR)
    else:
        opt = refnet.optim.SGD({"w": np.zeros(1)}, lr=LR)
    rates = []
    with warnings.catch_warnings():
        # (to step without gradients, and with an epoch)
        warnings.simplefilter("ignore")
        scheduler = make(library.optim.lr_scheduler, opt)
        for k in range(UPDATES):
            rates.append(float(opt.param_groups[0]["lr"]))
            if library is torch:
                opt.step()
            scheduler.step(*(() if epochs is None else (epochs(k + 1),)))
    return tuple(rates)


def _recursive_cosine() -> Iterator[float]:
    lr = np.float64(LR)
    for t in range(UPDATES):
        if t:
            # gamma_t = gamma_(t-1) (1 + cos(pi t / T)) / (1 + cos(pi (t - 1) / T)): over 0 behind the end
            lr = lr * (1 + math.cos(math.pi * t / 4)) / np.float64(1 + math.cos(math.pi * (t - 1) / 4))
        yield float(lr)


def _gamma_at_every_call() -> Iterator[float]:
    lr = LR
    for k in range(UPDATES):
        # gamma times the rate at every call with the epoch of the milestone
        lr = lr * GAMMA if k // 3 == 1 else lr
        yield lr


def _to_the_end_of_each_cycle() -> Iterator[float]:
    # gamma_t of t / (T - 1): the last of a cycle is the smallest
    return (LR * (1 + math.cos(math.pi * (t % 4) / 3)) / 2 for t in range(UPDATES))


def _warm_then_exponential(library: Any, opt: Any, milestone: int) -> Any:
    parts = [library.ConstantLR(opt, factor=0.25, total_iters=UPDATES), library.ExponentialLR(opt, gamma=0.75)]
    return library.SequentialLR(opt, parts, milestones=[milestone])


def _exponential(library: Any, opt: Any) -> Any:
    return library.ExponentialLR(opt, gamma=0.75)


def _one_cycle(library: Any, opt: Any, div_factor: float) -> Any:
    return library.OneCycleLR(opt, max_lr=LR, total_steps=UPDATES + 1, div_factor=div_factor, cycle_momentum=False)


def _last_constructed_first() -> Rates:
    # gamma_0 of the scheduler that was made last
    return (of(torch, _exponential)[0], *of(torch, lambda s, opt: _warm_then_exponential(s, opt, 4))[1:])


SCHEDULES: dict[str, tuple[Callable[[Any], Rates], Callable[[], Rates]]] = {
    "cosine annealing, recursively": (
        lambda library: of(library, lambda s, opt: s.CosineAnnealingLR(opt, T_max=4)),
        lambda: tuple(_recursive_cosine()),
    ),
    "warm restarts to the end of each cycle": (
        lambda library: of(library, lambda s, opt: s.CosineAnnealingWarmRestarts(opt, T_0=4)),
        lambda: tuple(_to_the_end_of_each_cycle()),
    ),
    "gamma at every call of an epoch": (
        lambda library: of(library, lambda s, opt: s.MultiStepLR(opt, [1], gamma=GAMMA), lambda k: k // 3),
        lambda: tuple(_gamma_at_every_call()),
    ),
    "first rate of the scheduler made last": (
        lambda library: of(library, lambda s, opt: _warm_then_exponential(s, opt, 4)),
        _last_constructed_first,
    ),
    "milestone 0 never reached": (
        lambda library: of(library, _exponential),
        lambda: of(torch, lambda s, opt: s.ConstantLR(opt, factor=0.25, total_iters=UPDATES)),
    ),
    "div_factor ignored": (
        lambda library: of(library, lambda s, opt: _one_cycle(s, opt, 10.0)),
        lambda: of(torch, lambda s, opt: _one_cycle(s, opt, 1.0)),
    ),
}
"""The rates that are due, by a library; and those of the bug."""


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_rates_of_the_bug_fail_and_those_of_refnet_do_not(name: str) -> None:
    right, wrong = SCHEDULES[name]
    with np.errstate(all="ignore"):
        made = wrong()
    due = right(torch)
    assert len(made) == len(due) == UPDATES
    assert caught(due, made)
    assert not caught(due, right(refnet))
