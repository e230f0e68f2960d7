"""JAX: a compiled step, a compiled loop of steps, and many runs of that loop."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.speed import initial_state, thread_limits
from benchmarks.speed.contenders import Training
from benchmarks.speed.networks import (
    ADAM_RATE,
    BETAS,
    EPS,
    GELU,
    LSTM,
    RATE,
    Encoder,
    LayerNorm,
    Network,
    SelfAttention,
    forward,
)


def _convolution(X: Any, W: Any) -> Any:
    return lax.conv(X, W, (1, 1), "VALID")


def _forward(network: Network, P: dict[str, Any], X: Any) -> Any:
    return forward(network, P, X, convolution=_convolution, sigmoid=jax.nn.sigmoid, relu=jax.nn.relu, further=_further)


def _further(layer: Any, P: Any, X: Any) -> Any:
    """A layer that is not basic, as it would be written in JAX's own functions."""
    match layer:
        case GELU():
            return jax.nn.gelu(X, approximate=False)
        case LayerNorm():
            return _normalized(X, P["weight"], P["bias"])
        case LSTM(_, units):
            return _over_steps(P, X, units)
        case SelfAttention(_, heads):
            return _attended(P, "attention.", X, heads)
        case Encoder(_, heads):
            Y = _normalized(X + _attended(P, "self_attn.", X, heads), P["norm1.weight"], P["norm1.bias"])
            H = jax.nn.relu(Y @ P["linear1.weight"].T + P["linear1.bias"])
            H = H @ P["linear2.weight"].T + P["linear2.bias"]
            return _normalized(Y + H, P["norm2.weight"], P["norm2.bias"])
    raise NotImplementedError(f"no {type(layer).__name__}")


def _normalized(X: Any, weight: Any, bias: Any) -> Any:
    centred = X - X.mean(-1, keepdims=True)
    return centred * lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * weight + bias


def _over_steps(P: Any, X: Any, units: int) -> Any:
    def step(states: Any, x: Any) -> Any:
        h, c = states
        Z = x @ P["cell.weight_ih"].T + P["cell.bias_ih"] + h @ P["cell.weight_hh"].T + P["cell.bias_hh"]
        i, f, g, o = jnp.split(Z, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

    zero = jnp.zeros((len(X), units), X.dtype)
    (h, _), _ = lax.scan(step, (zero, zero), jnp.swapaxes(X, 0, 1))
    return h


def _attended(P: Any, head: str, X: Any, heads: int) -> Any:
    n, t, units = X.shape
    projected = X @ P[f"{head}in_proj_weight"].T + P[f"{head}in_proj_bias"]
    Q, K, V = (part.reshape(n, t, heads, -1) for part in jnp.split(projected, 3, axis=-1))
    # (jax.nn.dot_product_attention takes its softmax in float32, whatever the dtype)
    A = jax.nn.softmax(jnp.einsum("nqhd,nkhd->nhqk", Q, K) / (units // heads) ** 0.5)
    Y = jnp.einsum("nhqk,nkhd->nqhd", A, V).reshape(n, t, units)
    return Y @ P[f"{head}out_proj.weight"].T + P[f"{head}out_proj.bias"]


def _update(network: Network) -> Any:
    """(what is trained, inputs, targets) -> (what is trained, loss): weights, and with Adam its state."""

    def objective(P: dict[str, Any], X: Any, T: Any) -> Any:
        Y = _forward(network, P, X)
        if network.loss == "mse":
            return jnp.mean((Y - T) ** 2)
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(Y), T[:, None], axis=-1))

    def update(P: dict[str, Any], X: Any, T: Any) -> Any:
        value, G = jax.value_and_grad(objective)(P, X, T)
        return jax.tree.map(lambda p, g: p - RATE * g, P, G), value

    def adam(now: Any, X: Any, T: Any) -> Any:
        P, M, V, t = now
        value, G = jax.value_and_grad(objective)(P, X, T)
        t = t + 1
        M = jax.tree.map(lambda m, g: BETAS[0] * m + (1 - BETAS[0]) * g, M, G)
        V = jax.tree.map(lambda v, g: BETAS[1] * v + (1 - BETAS[1]) * g * g, V, G)
        rate, root = ADAM_RATE / (1 - BETAS[0] ** t), jnp.sqrt(1 - BETAS[1] ** t)
        P = jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) / root + EPS), P, M, V)
        return (P, M, V, t), value

    return adam if network.optimizer == "Adam" else update


def _data(network: Network) -> tuple[Any, Any]:
    jax.config.update("jax_enable_x64", True)  # without it there is no float64
    # Asynchronous dispatch hands each computation to a second thread.
    jax.config.update("jax_cpu_enable_async_dispatch", thread_limits.allowed() > 1)
    inputs, targets = initial_state.data(network)
    return jnp.array(inputs), jnp.array(targets)


class _Run:
    """Weights that `advance(weights, steps)` moves on."""

    def __init__(self, weights: Any, advance: Any) -> None:
        self.weights, self.advance = weights, advance

    def run(self, steps: int) -> Any:
        self.weights, value = self.advance(self.weights, steps)
        return np.asarray(value)

    def training(self) -> Training:
        def weights() -> dict[str, Any]:
            trained = self.weights[0] if isinstance(self.weights, tuple) else self.weights
            return {name: np.array(P) for name, P in trained.items()}

        return Training(self.run, weights)


def _start(network: Network, lone: bool) -> Any:
    weights = {name: jnp.array(P[0] if lone else P) for name, P in initial_state.start(network).items()}
    if network.optimizer == "SGD":
        return weights
    first, second = ({name: jnp.zeros_like(P) for name, P in weights.items()} for _ in range(2))
    return weights, first, second, jnp.zeros((), network.dtype)


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
