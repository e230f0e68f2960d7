"""A network and a loss as one module: what a batch's gradient is the gradient of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from refnet.nn import Module

Array = Any
Arrays = Mapping[str, Array]


class Objective(Module):
    """L = loss(network(X), T), as a module of two inputs; names are `network.NAME` and `loss.NAME`."""

    def __init__(self, network: Module, loss: Module) -> None:
        super().__init__()
        self.network, self.loss = network, loss
        self.adopt({"network": network, "loss": loss})

    def forward(self, *inputs: Array) -> tuple[Array, Any]:
        X, T = inputs
        Y, saved_network = self.network.forward(X)
        L, saved_loss = self.loss.forward(Y, T)
        return L, (saved_network, saved_loss)

    def backward(self, grad_output: Array, saved: Any) -> tuple[Array, dict[str, Array]]:
        saved_network, saved_loss = saved
        (dY, dT), _ = self.loss.backward(grad_output, saved_loss)
        dX, grads = self.network.backward(dY, saved_network)
        return (dX, dT), {f"network.{name}": grad for name, grad in grads.items()}


def within(arrays: Arrays, prefix: str) -> dict[str, Array]:
    """The arrays whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}
