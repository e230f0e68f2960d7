"""Where every contender begins: the weights before training, and the one batch that it trains on.

refnet draws them. A process of another library may be given them in a file, so that it need not load refnet.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.speed.networks import Network, modules

if TYPE_CHECKING:
    from refnet import nn

_given: dict[Network, tuple[dict[str, Any], Any, Any]] = {}


def refnet_network(network: Network, run: int) -> nn.Sequential:
    """The network in refnet, its weights drawn from the seed `run`."""
    import refnet
    from benchmarks.speed.refnet_layers import OWN

    made: nn.Sequential = modules(network, refnet.nn, OWN, dtype=network.dtype, generator=refnet.Generator(run))
    return made


@cache
def start(network: Network) -> dict[str, Any]:
    """The weights before training, under torch's names: (trainings, *shape), read-only. Run r is drawn from seed r."""
    if network in _given:
        return _given[network][0]
    runs = [refnet_network(network, run).params for run in range(network.trainings)]
    weights = {name: np.stack([params[name] for params in runs]) for name in runs[0]}
    for array in weights.values():
        array.flags.writeable = False
    return weights


@cache
def data(network: Network) -> tuple[Any, Any]:
    """Inputs (batch, ...) and targets of the one batch, the same for all runs, read-only: floats in [0, 1) of the
    outputs' shape, or classes (batch,) of int64."""
    if network in _given:
        return _given[network][1:]
    import refnet

    draws = refnet.Generator(2**31)
    inputs = draws.rand(network.batch, *network.sample_shape, dtype=network.dtype)
    targets = draws.rand(network.batch, *network.output_shape, dtype=network.dtype)
    if network.loss == "cross-entropy":
        targets = targets.argmax(axis=-1).astype(np.int64)
    inputs.flags.writeable = targets.flags.writeable = False
    return inputs, targets


def write(network: Network, file: Path) -> None:
    """Keep the state of a network for another process."""
    inputs, targets = data(network)
    np.savez(file, inputs=inputs, targets=targets, **{f"start.{name}": W for name, W in start(network).items()})


def give(network: Network, file: Path) -> None:
    """Take the state of a network from a file that `write` made."""
    with np.load(file, allow_pickle=False) as arrays:
        weights = {name.removeprefix("start."): arrays[name] for name in arrays if name.startswith("start.")}
        _given[network] = weights, arrays["inputs"], arrays["targets"]
