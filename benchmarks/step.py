"""A plain training step of a sigmoid network: `refnet.fit` beside torch eager, float64, one thread."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import refnet

NETWORKS = ((2, 2, 2, 1), (64, 64, 10, 32), (784, 128, 10, 64))
"""Inputs, hidden units, outputs, samples a batch."""

STEPS = 300


def report(rounds: int) -> Iterator[str]:
    """A line for each network: microseconds a step, medians over the rounds, and the median of the rounds' ratios."""
    yield "microseconds a step; how many times as fast as torch: median (least to most)"
    yield f"{'network, batch':<20}{'refnet':>10}{'torch':>10}{'ratio':>8}"
    for inputs, hidden, outputs, batch in NETWORKS:
        own, peer = _refnet(inputs, hidden, outputs, batch), _torch(inputs, hidden, outputs, batch)
        steps = STEPS if inputs < 100 else STEPS // 10
        pairs = []
        for timed in range(-2, rounds):
            pair = _seconds(own, steps), _seconds(peer, steps)
            if timed >= 0:
                pairs.append(pair)
        ratios = sorted(b / a for a, b in pairs)
        mine, theirs = (statistics.median(p[k] for p in pairs) / steps * 1e6 for k in (0, 1))
        yield (
            f"{f'{inputs}-{hidden}-{outputs}, {batch}':<20}{mine:>10.1f}{theirs:>10.1f}"
            f"{statistics.median(ratios):>8.2f}   ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        )


def _seconds(run: Callable[[int], object], steps: int) -> float:
    start = time.perf_counter()
    run(steps)
    return time.perf_counter() - start


def _data(inputs: int, outputs: int, batch: int) -> tuple[Any, Any]:
    draws = refnet.Generator(0)
    return draws.rand(batch, inputs), draws.rand(batch, outputs)


def _refnet(inputs: int, hidden: int, outputs: int, batch: int) -> Callable[[int], object]:
    nn, draws = refnet.nn, refnet.Generator(0)
    first, second = nn.Linear(inputs, hidden, generator=draws), nn.Linear(hidden, outputs, generator=draws)
    net = nn.Sequential(first, nn.Sigmoid(), second, nn.Sigmoid())
    opt = refnet.optim.SGD(net.params, lr=0.01)
    X, T = _data(inputs, outputs, batch)
    return lambda steps: refnet.fit(net, nn.MSELoss(), opt, X, T, batch_size=None, iterations=steps)


def _torch(inputs: int, hidden: int, outputs: int, batch: int) -> Callable[[int], object]:
    import torch

    torch.set_num_threads(1)
    nn = torch.nn
    net = nn.Sequential(nn.Linear(inputs, hidden), nn.Sigmoid(), nn.Linear(hidden, outputs), nn.Sigmoid()).double()
    opt, loss = torch.optim.SGD(net.parameters(), lr=0.01), nn.MSELoss()
    X, T = (torch.from_numpy(np.asarray(a)) for a in _data(inputs, outputs, batch))

    def run(steps: int) -> None:
        for _ in range(steps):
            opt.zero_grad()
            loss(net(X), T).backward()
            opt.step()

    return run
