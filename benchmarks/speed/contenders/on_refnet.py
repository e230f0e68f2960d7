"""refnet: its plain training loop, the captured one, and many trainings at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np

import refnet
from benchmarks.speed.contenders import Training, Unsupported
from benchmarks.speed.initial_state import data, refnet_network
from benchmarks.speed.networks import ADAM_RATE, RATE, STUDY, Network, loss_module
from refnet import nn, optim
from refnet.train.capture import native
from refnet.train.capture.captured import SHORT

SECONDS = 1.5
"""The longest call, about."""


def _seconds(run: Callable[[int], object], updates: int) -> float:
    """Of the processor: on a busy machine a study is as long as on a quiet one."""
    begun = time.process_time()
    run(updates)
    return time.process_time() - begun


@cache
def study(network: Network) -> int:
    """Updates of a usual training; fewer if plain ones would take longer than SECONDS, but no fewer than fit into them:
    what pays in a long training is not seen in a short one."""
    run = (_many(network, capture=False) if network.many else lone(network, capture=False)).run
    step = (min(_seconds(run, 23) for _ in range(3)) - min(_seconds(run, 3) for _ in range(3))) / 20
    usual = min(STUDY, network.updates)
    return max(SHORT + 1, usual if step * usual <= SECONDS else int(SECONDS / step))


class _Told:
    """What a training says of itself."""

    def __init__(self) -> None:
        self.text = ""

    def heard(self, history: refnet.History, steps: int, least: int) -> None:
        if steps >= least and history.why_plain:
            raise Unsupported(f"not captured: {history.why_plain}")
        how = f"replayed: {history.why_not_native}" if history.why_not_native else "as machine code"
        self.text = f"{steps:,} updates a call, {how}"


@contextmanager
def _no_machine_code() -> Iterator[None]:
    def machine(*args: Any) -> native.Machine:
        raise native.NotNative("machine code is left out")

    true = native.Machine
    native.Machine = machine  # type: ignore[assignment, misc]
    try:
        yield
    finally:
        native.Machine = true  # type: ignore[misc]


def _optimizer(network: Network, net: nn.Module) -> Any:
    return optim.Adam(net.params, lr=ADAM_RATE) if network.optimizer == "Adam" else optim.SGD(net.params, lr=RATE)


def lone(network: Network, *, capture: bool, run: int = 0, least: int = 1, machine_code: bool = True) -> Training:
    """The training of one run."""
    net, loss = refnet_network(network, run), loss_module(network, nn)
    opt = _optimizer(network, net)
    inputs, targets = data(network)
    told = _Told()

    def go_on(steps: int) -> Any:
        with nullcontext() if machine_code else _no_machine_code():
            history = refnet.fit(net, loss, opt, inputs, targets, batch_size=None, iterations=steps, capture=capture)
        if capture:
            told.heard(history, steps, least)
        return history.loss[-1]

    return Training(go_on, lambda: {name: P.copy() for name, P in net.params.items()}, least, lambda: told.text)


def _many(network: Network, *, capture: bool, least: int = 1) -> Training:
    nets = [refnet_network(network, run) for run in range(network.trainings)]
    opts = [_optimizer(network, net) for net in nets]
    loss = loss_module(network, nn)
    inputs, targets = data(network)
    told = _Told()

    def go_on(steps: int) -> Any:
        histories = refnet.ensemble(
            nets, loss, opts, inputs, targets, batch_size=None, iterations=steps, capture=capture
        )
        if capture:
            told.heard(histories[0], steps, least)
        return np.array([history.loss[-1] for history in histories])

    def weights() -> dict[str, Any]:
        return {name: np.stack([net.params[name] for net in nets]) for name in nets[0].params}

    return Training(go_on, weights, least, lambda: told.text)


def plain(network: Network) -> Training:
    return lone(network, capture=False)


def replayed(network: Network) -> Training:
    return lone(network, capture=True, least=study(network), machine_code=False)


def captured(network: Network) -> Training:
    _load_translator()
    return lone(network, capture=True, least=study(network))


def alone(network: Network) -> Training:
    """As in a process that does nothing else: nothing was tried out before."""
    return lone(network, capture=True)


def ensemble(network: Network) -> Training:
    _load_translator()
    return _many(network, capture=True, least=study(network))


def _load_translator() -> None:
    """As in a process that has trained for long before: else what is measured first is measured without."""
    with suppress(ImportError):
        import_module("llvmlite.binding")
