"""The command `python -m benchmarks slower`: whether capturing ever costs time."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import click
import numpy as np

import refnet
from benchmarks.trainings.drawn_layers import attention, two_steps
from refnet import nn, optim
from refnet.train.capture.native import object_cache, translator

SHARE, SECONDS = 1.1, 0.05
"""A captured training may take so many times as long as a plain one, and so many seconds more."""

LONGEST = 20.0
"""Seconds of plain training beyond which a situation is not tried with more updates."""

ROUNDS, MORE = 2, 4
"""How often each is done, and how often again, one after the other, while the captured one seems slower: a busy machine
takes its time from either."""


def deep(layers: int) -> Callable[[refnet.Generator], list[nn.Module]]:
    return lambda g: [part for _ in range(layers) for part in (nn.Linear(8, 8, generator=g), nn.Tanh())]


def images(g: refnet.Generator) -> list[nn.Module]:
    convolutions = [part for _ in range(6) for part in (nn.Conv2d(2, 2, 3, padding=1, generator=g), nn.ReLU())]
    return [*convolutions, nn.Flatten(), nn.Linear(72, 8, generator=g)]


NETWORKS: dict[str, tuple[Callable[[refnet.Generator], list[nn.Module]], tuple[int, ...]]] = {
    **{f"{layers} layers": (deep(layers), (8,)) for layers in (1, 5, 20, 80)},
    "six Conv2d": (images, (2, 6, 6)),
    "LSTMCell": (lambda g: [two_steps(8, np.float64, g)], (8,)),
    "attention": (lambda g: [attention(8, 2, np.float64, g), nn.Flatten(), nn.Linear(32, 8, generator=g)], (4, 8)),
}

WAYS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "callback": {"callback": lambda k, value: None},
    "recorded weights": {"record": True},
    "partial batches": {"batch_size": 5},
}

UPDATES = (1, 10, 110, 300, 1_000, 10_000, 100_000)


def seconds(network: str, way: str, updates: int, capture: bool) -> float:
    """Of the processor, for a training from its start, with nothing translated before it."""
    layers, sample = NETWORKS[network]
    g = refnet.Generator(0)
    net = nn.Sequential(*layers(g))
    X, T = g.rand((16, *sample), dtype=np.float64), g.rand((16, 8), dtype=np.float64)
    opt = optim.SGD(net.params, lr=0.01, momentum=0.9)
    options = {"batch_size": 4, **WAYS[way]}
    translator.forget()
    with mock.patch.dict(os.environ, {object_cache.VARIABLE: "0"}):
        begun = time.process_time()
        refnet.fit(net, nn.MSELoss(), opt, X, T, iterations=updates, generator=g, capture=capture, **options)
        return time.process_time() - begun


@click.command()
@click.option("-k", "named", default="", help="Only networks with this in their name.")
@click.option("--most", type=click.IntRange(1), default=100_000, show_default=True, help="At most this many updates.")
@click.option("--updates", "counts", type=click.IntRange(1), multiple=True, help="This many updates, in place of all.")
def slower(named: str, most: int, counts: tuple[int, ...]) -> None:
    """Run trainings plainly and captured, and name those that capturing makes slower.

    From 1 to 100,000 updates, 1 to 80 layers, Conv2d, LSTMCell, attention, callbacks, recorded weights and partial
    batches; the quickest of two, in processor seconds, and of more where the captured one seems slower. Exit code 1 if
    it takes more than 1.1 times as long as a plain one and 0.05 s more.
    """
    chosen = [name for name in NETWORKS if named in name]
    if not chosen:
        raise click.UsageError(f"-k: expected a part of {', '.join(NETWORKS)}; got {named!r}")
    worse = 0
    for network in chosen:
        for way in WAYS:
            for updates in (updates for updates in counts or UPDATES if updates <= most):
                plain = captured = math.inf
                late = True
                for done in range(ROUNDS + MORE):
                    if done >= ROUNDS and not late:
                        break
                    plain = min(plain, seconds(network, way, updates, capture=False))
                    captured = min(captured, seconds(network, way, updates, capture=True))
                    late = captured > SHARE * plain + SECONDS
                worse += late
                click.echo(
                    f"{network:<12}{way:<18}{updates:>8,} updates: plain {plain:8.3f} s, captured {captured:8.3f} s"
                    + "  SLOWER" * late
                )
                if plain > LONGEST / 10:
                    break
    click.echo(f"{worse} slower than plain by more than a tenth and {SECONDS:g} s")
    sys.exit(1 if worse else 0)
