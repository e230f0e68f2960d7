"""Optimizers and schedulers drawn at random, with their options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from refnet import optim
from refnet.optim import lr_scheduler

OPTIONS: dict[str, dict[str, tuple[Any, ...]]] = {
    "SGD": {"momentum": (0.0, 0.9), "weight_decay": (0.0, 0.01), "dampening": (0.0, 0.1)},
    "Adam": {"amsgrad": (False, True), "weight_decay": (0.0, 0.01), "betas": ((0.9, 0.999), (0.5, 0.6))},
    "AdamW": {"amsgrad": (False, True), "maximize": (False, True)},
    "Adamax": {"weight_decay": (0.0, 0.01)},
    "NAdam": {"decoupled_weight_decay": (False, True), "weight_decay": (0.0, 0.01)},
    "RAdam": {"weight_decay": (0.0, 0.01)},
    "Adagrad": {"lr_decay": (0.0, 0.1), "initial_accumulator_value": (0.0, 0.5)},
    "Adadelta": {"rho": (0.9, 0.5)},
    "RMSprop": {"centered": (False, True), "momentum": (0.0, 0.9)},
    "Rprop": {},
    "ASGD": {"t0": (1e6, 3.0)},
    "Adafactor": {},
    "Lion": {"weight_decay": (0.0, 0.01)},
}
"""Options of each, of which one value is drawn."""

RATES = (1e-3, 0.05, 0.3, 30.0)

SCHEDULERS: dict[str, Callable[[Any], lr_scheduler.LRScheduler]] = {
    "StepLR": lambda opt: lr_scheduler.StepLR(opt, 3, 0.5),
    "CosineAnnealingLR": lambda opt: lr_scheduler.CosineAnnealingLR(opt, 10),
    "LinearLR": lambda opt: lr_scheduler.LinearLR(opt, total_iters=7),
    "LambdaLR": lambda opt: lr_scheduler.LambdaLR(opt, lambda k: 0.9**k),
    "OneCycleLR": lambda opt: lr_scheduler.OneCycleLR(opt, 0.1, 100, cycle_momentum=False),
}


def drawn(draws: np.random.Generator) -> tuple[str, Callable[[Any, int], Any]]:
    """Its name; and what makes it on parameters, in run r."""
    name = str(draws.choice(list(OPTIONS), p=[0.4, *[0.6 / (len(OPTIONS) - 1)] * (len(OPTIONS) - 1)]))
    options = {key: values[draws.integers(len(values))] for key, values in OPTIONS[name].items()}
    if name == "SGD":
        options["nesterov"] = bool(options["momentum"] and not options["dampening"] and draws.random() < 0.3)
    lr = float(draws.choice(RATES, p=[0.3, 0.4, 0.25, 0.05]))
    return name, lambda params, run: getattr(optim, name)(params, lr=lr / (1 + run), **options)
