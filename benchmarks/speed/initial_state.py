"""Where every contender begins: the weights before training, and the one batch that it trains on."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

import refnet
from benchmarks.speed.networks import Network, modules
from refnet import nn


def refnet_network(network: Network, run: int) -> nn.Sequential:
    """The network in refnet, its weights drawn from the seed `run`."""
    made: nn.Sequential = modules(network, nn, dtype=network.dtype, generator=refnet.Generator(run))
    return made


@cache
def start(network: Network) -> dict[str, Any]:
    """The weights before training, under torch's names: (trainings, *shape), read-only. Run r is drawn from seed r."""
    runs = [refnet_network(network, run).params for run in range(network.trainings)]
    weights = {name: np.stack([params[name] for params in runs]) for name in runs[0]}
    for array in weights.values():
        array.flags.writeable = False
    return weights


@cache
def data(network: Network) -> tuple[Any, Any]:
    """Inputs (batch, ...) and targets of the one batch, the same for all runs, read-only: floats in [0, 1) of the
    outputs' shape, or classes (batch,) of int64."""
    draws = refnet.Generator(2**31)
    inputs = draws.rand(network.batch, *network.sample_shape, dtype=network.dtype)
    targets = draws.rand(network.batch, network.outputs, dtype=network.dtype)
    if network.loss == "cross-entropy":
        targets = targets.argmax(axis=-1).astype(np.int64)
    inputs.flags.writeable = targets.flags.writeable = False
    return inputs, targets
