"""HIPS autograd."""

from __future__ import annotations

from typing import Any

import autograd.numpy as anp
import numpy as np
from autograd import value_and_grad
from autograd.scipy.signal import convolve
from autograd.scipy.special import logsumexp

from benchmarks.speed import networks
from benchmarks.speed.contenders import Training
from benchmarks.speed.networks import RATE, Network


def _forward(network: Network, P: dict[str, Any], X: Any) -> Any:
    for place, layer in enumerate(network.layers):
        match layer:
            case networks.Linear():
                X = X @ P[f"{place}.weight"].T + P[f"{place}.bias"]
            case networks.Conv2d():
                flipped = P[f"{place}.weight"][:, :, ::-1, ::-1]
                X = convolve(X, flipped, axes=([2, 3], [2, 3]), dot_axes=([1], [1]), mode="valid")
                X = X + P[f"{place}.bias"][:, None, None]
            case networks.Sigmoid():
                X = 1 / (1 + anp.exp(-X))
            case networks.ReLU():
                X = anp.where(X > 0, X, 0)
            case networks.Flatten():
                X = X.reshape(len(X), -1)
    return X


def tape(network: Network) -> Training:
    X, T = networks.data(network)
    P = {name: array[0].copy() for name, array in networks.start(network).items()}
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
