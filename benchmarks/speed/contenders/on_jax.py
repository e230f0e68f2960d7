"""JAX: a compiled step, a compiled loop of steps, and many runs of that loop."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.speed import initial_state, thread_limits
from benchmarks.speed.contenders import Training
from benchmarks.speed.networks import RATE, Network, forward


def _convolution(X: Any, W: Any) -> Any:
    return lax.conv(X, W, (1, 1), "VALID")


def _forward(network: Network, P: dict[str, Any], X: Any) -> Any:
    return forward(network, P, X, convolution=_convolution, sigmoid=jax.nn.sigmoid, relu=jax.nn.relu)


def _update(network: Network) -> Any:
    """(weights, inputs, targets) -> (weights, loss)."""

    def objective(P: dict[str, Any], X: Any, T: Any) -> Any:
        Y = _forward(network, P, X)
        if network.loss == "mse":
            return jnp.mean((Y - T) ** 2)
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(Y), T[:, None], axis=-1))

    def update(P: dict[str, Any], X: Any, T: Any) -> Any:
        value, G = jax.value_and_grad(objective)(P, X, T)
        return jax.tree.map(lambda p, g: p - RATE * g, P, G), value

    return update


def _data(network: Network) -> tuple[Any, Any]:
    jax.config.update("jax_enable_x64", True)  # without it there is no float64
    # Asynchronous dispatch hands each computation to a second thread.
    jax.config.update("jax_cpu_enable_async_dispatch", thread_limits.allowed() > 1)
    inputs, targets = initial_state.data(network)
    return jnp.array(inputs), jnp.array(targets)


class _Run:
    """Weights that `advance(weights, steps)` moves on."""

    def __init__(self, weights: dict[str, Any], advance: Any) -> None:
        self.weights, self.advance = weights, advance

    def run(self, steps: int) -> Any:
        self.weights, value = self.advance(self.weights, steps)
        return np.asarray(value)

    def training(self) -> Training:
        return Training(self.run, lambda: {name: np.array(P) for name, P in self.weights.items()})


def _start(network: Network, lone: bool) -> dict[str, Any]:
    return {name: jnp.array(P[0] if lone else P) for name, P in initial_state.start(network).items()}


def step(network: Network) -> Training:
    X, T = _data(network)
    update = jax.jit(_update(network), donate_argnums=0)

    def advance(P: Any, steps: int) -> Any:
        for _ in range(steps):
            P, value = update(P, X, T)
        return jax.block_until_ready((P, value))

    return _Run(_start(network, lone=True), advance).training()


def _loop(network: Network) -> Any:
    """(weights, inputs, targets, steps) -> (weights, loss of the last step)."""
    update = _update(network)

    def loop(P: Any, X: Any, T: Any, steps: Any) -> Any:
        return lax.fori_loop(0, steps, lambda _, now: update(now[0], X, T), (P, jnp.zeros((), X.dtype)))

    return loop


def loop(network: Network) -> Training:
    X, T = _data(network)
    compiled = jax.jit(_loop(network), donate_argnums=0)
    return _Run(_start(network, lone=True), lambda P, n: jax.block_until_ready(compiled(P, X, T, n))).training()


def vmap(network: Network) -> Training:
    X, T = _data(network)
    compiled = jax.jit(jax.vmap(_loop(network), in_axes=(0, None, None, None)), donate_argnums=0)
    return _Run(_start(network, lone=False), lambda P, n: jax.block_until_ready(compiled(P, X, T, n))).training()
