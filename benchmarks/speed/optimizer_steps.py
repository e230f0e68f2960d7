"""The plain step of Adam beside torch's foreach implementation, on given gradients: what it must be, and what it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import refnet
from benchmarks.speed.floors import Finding, Floor
from refnet import optim

REFNET, TORCH = "refnet-plain", "torch-foreach"


@dataclass(frozen=True)
class Tensors:
    """What is moved: `count` tensors of `elements` elements; the floor names refnet and torch in its own order."""

    count: int
    elements: int
    dtype: str
    floor: Floor

    def begin(self) -> dict[str, Callable[[], object]]:
        """A step of each, on the same parameters and gradients, which stay."""
        import torch

        g = refnet.Generator(0)
        drawn = [g.randn((2, self.elements), dtype=np.dtype(self.dtype)) for _ in range(self.count)]
        params = {f"{k}": pair[0].copy() for k, pair in enumerate(drawn)}
        grads = {f"{k}": pair[1].copy() for k, pair in enumerate(drawn)}
        ours = optim.Adam(params)
        theirs = [torch.nn.Parameter(torch.tensor(P)) for P in params.values()]
        for P, G in zip(theirs, grads.values(), strict=True):
            P.grad = torch.tensor(G)
        return {REFNET: lambda: ours.step(grads), TORCH: torch.optim.Adam(theirs, foreach=True).step}


def _most(count: int, elements: int, dtype: str, bound: float) -> Tensors:
    name = f"Adam, {count} x {elements:,}, {dtype}"
    return Tensors(count, elements, dtype, Floor(name, REFNET, TORCH, bound, "most"))


def _least(count: int, elements: int, dtype: str, bound: float) -> Tensors:
    name = f"Adam, {count} x {elements:,}, {dtype}"
    return Tensors(count, elements, dtype, Floor(name, TORCH, REFNET, bound))


ASKED = (
    _most(100, 10_000, "float64", 1.5),
    _most(100, 10_000, "float32", 1.5),
    _least(1, 1, "float64", 5),
    _least(1, 1, "float32", 5),
)


def measure(
    rounds: int, turn: float, asked: Sequence[Tensors] = ASKED, told: Callable[[str], object] = lambda text: None
) -> list[Finding]:
    """In each round both in turn, for `turn` seconds or one step at least; seconds of the processor."""
    try:
        import torch  # noqa: F401
    except ImportError:
        return [Finding(tensors.floor, np.empty(0), None, "torch is not installed") for tensors in asked]
    return [_measured(tensors, rounds, turn, told) for tensors in asked]


def _measured(tensors: Tensors, rounds: int, turn: float, told: Callable[[str], object]) -> Finding:
    told(tensors.floor.network)
    steps = tensors.begin()
    times = {name: max(1, int(turn / _seconds(step, 3))) for name, step in steps.items()}
    seconds = [{name: _seconds(step, times[name]) for name, step in steps.items()} for _ in range(rounds)]
    floor = tensors.floor
    ratios = np.array([each[floor.over] / each[floor.under] for each in seconds])
    middle = float(np.median(ratios))
    assert floor.bound is not None
    return Finding(floor, ratios, middle <= floor.bound if floor.kind == "most" else middle >= floor.bound)


def _seconds(step: Callable[[], Any], times: int) -> float:
    begun = time.process_time()
    for _ in range(times):
        step()
    return max(time.process_time() - begun, 1e-9) / times
