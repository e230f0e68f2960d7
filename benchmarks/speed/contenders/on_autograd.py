"""HIPS autograd."""

from __future__ import annotations

from typing import Any

import autograd.numpy as anp
import numpy as np
from autograd import value_and_grad
from autograd.scipy.signal import convolve
from autograd.scipy.special import logsumexp

from benchmarks.speed.contenders import Training
from benchmarks.speed.initial_state import data, start
from benchmarks.speed.networks import RATE, Network, forward


def _convolution(X: Any, W: Any) -> Any:
    return convolve(X, W[:, :, ::-1, ::-1], axes=([2, 3], [2, 3]), dot_axes=([1], [1]), mode="valid")


def _forward(network: Network, P: dict[str, Any], X: Any) -> Any:
    return forward(
        network,
        P,
        X,
        convolution=_convolution,
        sigmoid=lambda X: 1 / (1 + anp.exp(-X)),
        relu=lambda X: anp.where(X > 0, X, 0),
    )


def tape(network: Network) -> Training:
    X, T = data(network)
    P = {name: array[0].copy() for name, array in start(network).items()}
    chosen = T[:, None] == np.arange(network.outputs) if network.loss == "cross-entropy" else None

    def objective(P: dict[str, Any]) -> Any:
        Y = _forward(network, P, X)
        if chosen is None:
            return anp.mean((Y - T) ** 2)
        return anp.mean(logsumexp(Y, axis=-1)) - anp.sum(anp.where(chosen, Y, 0)) / len(chosen)

    gradient = value_and_grad(objective)

    def run(steps: int) -> Any:
        for _ in range(steps):
            value, G = gradient(P)
            for name, theta in P.items():
                theta -= RATE * G[name]
        return value

    return Training(run, lambda: {name: array.copy() for name, array in P.items()})
