"""A training drawn from a seed: network, loss, optimizer, data and what happens meanwhile."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

import refnet
from benchmarks.trainings import drawn_optimizers
from benchmarks.trainings.drawn_layers import DrawnLayers
from benchmarks.trainings.drawn_optimizers import SCHEDULERS
from refnet import nn

Array = NDArray[Any]


@dataclass
class Start:
    """Everything that a training begins with, and the callback and the schedule that go with it."""

    net: nn.Module
    loss: nn.Module
    opt: Any
    inputs: Array
    targets: Array
    generators: list[refnet.Generator]
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Training:
    """A training that can be begun again and again.

    Attributes:
        begin: makes a start, the same every time; of run r, which has weights, rate and order of its own.
        features: what it has, by name.
        alone: whether it has a callback or draws, so that it cannot be one of an ensemble.
    """

    begin: Callable[[int], Start]
    features: tuple[str, ...]
    alone: bool


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "as it is": lambda array: array,
    "turned": np.asfortranarray,
    "strided": lambda array: np.repeat(array, 2, axis=0)[::2],
    "backwards": lambda array: array[::-1].copy()[::-1],
    "read-only": lambda array: np.broadcast_to(array, array.shape),
}

LONG = 0.04
"""The share of trainings with arrays of more than 4,096 elements, which machine code computes block by block."""

HIDDEN = (0.25, 0.4, 0.25, 0.1)
"""How likely a network has none, one, two or three hidden layers. What is done for an operation, and for two that come
after each other, hardly asks how many others there are; what a training takes does."""

FEW, COMPARED, LATE = (3, 14), (31, 38), 0.25
"""Updates of most trainings; and of the others, which reach the comparison that comes when their number has grown
tenfold. Their share."""

CHANGES = 12
"""Updates after which a callback has changed modes and options for the last time: each change is a new record."""

DRAWING = {"Dropout", "TransformerEncoderLayer", "MultiheadAttention"}
"""Layers with a generator of their own, which an ensemble refuses."""

CALLBACKS = ("nothing", "rate", "momentum", "weights", "mode", "state", "samples", "interrupt", "error", "options")
SCHEDULES = ("falling", "declared", "by weights", "numpy")


def training(seed: int) -> Training:
    """The training of a seed."""
    draws = np.random.default_rng(seed)
    dtype = str(draws.choice(["float32", "float64"]))
    long = bool(draws.random() < LONG)
    samples, batches = ((130, 144, 160), (65, 96, 130)) if long else ((2, 3, 5, 8, 13, 17), (1, 2, 3, 4, 8))
    n, batch_size = int(draws.choice(samples)), int(draws.choice(batches))
    whole = draws.random() < 0.2
    layers = DrawnLayers(draws, dtype, long)
    layers.first()
    for _ in range(max(long, int(draws.choice(4, p=HIDDEN)))):
        layers.hidden()
    outputs = int(draws.integers(2, 5))
    layers.last(outputs)
    features, sample = layers.features, layers.sample
    loss, classes = _loss(draws, features)
    options = {
        "batch_size": None if whole else min(batch_size, n),
        "shuffle": bool(draws.random() < 0.7),
        "drop_last": bool(draws.random() < 0.3),
        "iterations": int(draws.integers(*(COMPARED if draws.random() < LATE else FEW))),
        "record": [False, True, [0, 2, 3]][draws.integers(3)],
    }
    options["replacement"] = bool(options["shuffle"] and draws.random() < 0.2)
    optimizer, make_optimizer = drawn_optimizers.drawn(draws)
    if draws.random() < 0.15:
        options["clip_norm"] = 0.5
    layout = str(draws.choice(list(LAYOUTS)))
    callback = str(draws.choice(CALLBACKS)) if draws.random() < 0.4 else ""
    schedule = str(draws.choice(SCHEDULES)) if draws.random() < 0.3 else ""
    scheduler = str(draws.choice(list(SCHEDULERS))) if not schedule and draws.random() < 0.2 else ""
    grid, frozen = draws.random() < 0.2, draws.random() < 0.15
    data = int(draws.integers(2**31))
    features += [optimizer, *("clip_norm",) * ("clip_norm" in options), *(scheduler,) * bool(scheduler)]
    features += [dtype, f"layout {layout}", *(f"callback {callback}",) * bool(callback)]
    features += ["long arrays"] * long
    features += [f"schedule {schedule}"] * bool(schedule) + ["frozen parameter"] * frozen + ["whole set"] * whole

    def begin(run: int = 0) -> Start:
        own = np.random.default_rng(data)
        scale = (lambda shape: own.integers(-64, 65, shape) / 64) if grid else own.standard_normal
        X = scale((n, *sample)).astype(dtype)
        if classes:
            T: Array = own.integers(0, outputs, n)
        else:
            T = (own.random((n, outputs)) if loss is nn.BCEWithLogitsLoss else scale((n, outputs))).astype(dtype)
        order, weights = refnet.Generator(), refnet.Generator()
        order.manual_seed(1000 + run)
        weights.manual_seed(2000 + run)
        net = nn.Sequential(*layers.make(weights))
        names = list(net.params)[1:] if frozen and len(net.params) > 1 else list(net.params)
        opt = make_optimizer({name: net.params[name] for name in names}, run)
        start = Start(net, loss(), opt, LAYOUTS[layout](X), LAYOUTS[layout](T), [order, weights], dict(options))
        if callback:
            start.options["callback"] = _callback(callback, start)
        if schedule:
            start.options["lr_lambda"] = _schedule(schedule, start)
        if scheduler:
            start.options["scheduler"] = SCHEDULERS[scheduler](opt)
        return start

    alone = bool(callback) or schedule == "by weights" or not DRAWING.isdisjoint(features)
    return Training(begin, tuple(features), alone)


def _loss(draws: np.random.Generator, features: list[str]) -> tuple[Any, bool]:
    """A loss, and whether its targets are classes."""
    name = str(draws.choice(["MSELoss", "CrossEntropyLoss", "BCEWithLogitsLoss", "L1Loss", "SmoothL1Loss"]))
    features.append(name)
    return getattr(nn, name, nn.MSELoss), name == "CrossEntropyLoss"


def _callback(name: str, start: Start) -> Callable[[int, Any], object]:
    """What happens after some of the updates."""
    net, opt = start.net, start.opt
    group, first = opt.param_groups[0], next(iter(net.params.values()))

    def interrupt() -> bool:
        signal.raise_signal(signal.SIGINT)
        return True

    def error() -> bool:
        raise ArithmeticError("enough")

    acts: dict[str, Callable[[int], object]] = {
        "nothing": lambda k: None,
        "rate": lambda k: group.update(lr=group["lr"] * 0.9),
        "momentum": lambda k: group.update(momentum=0.5) if group.get("momentum") else None,
        "weights": lambda k: first.__imul__(0.5),
        "mode": lambda k: k <= CHANGES and net.train(k % 2 == 0),
        "state": lambda k: [array.__imul__(0.5) for kept in opt.state.values() for array in kept.values()],
        "samples": lambda k: start.inputs.flags.writeable and start.inputs.__imul__(0.5),
        "interrupt": lambda k: k >= 6 and interrupt(),
        "error": lambda k: k >= 6 and error(),
        "options": lambda k: (
            group.update(weight_decay=0.01 * (k % 2)) if k <= CHANGES and "weight_decay" in group else None
        ),
    }
    return lambda k, _: acts[name](k) if k % 3 == 0 else None


def _schedule(name: str, start: Start) -> Callable[[int], Any]:
    first = next(iter(start.net.params.values()))

    def declared(k: int) -> float:
        return 1 / (1 + k / 10)

    declared.capturable = True  # type: ignore[attr-defined]
    return {
        "falling": lambda k: 0.95**k,
        "declared": declared,
        "by weights": lambda k: 1 / (1 + abs(float(first.flat[0]))),
        "numpy": lambda k: np.cos(k / 20),
    }[name]
