"""MyGrad, with its guard of arrays in use turned off, as its documentation advises for speed."""

from __future__ import annotations

from typing import Any

import mygrad as mg
from mygrad.nnet.activations import relu, sigmoid
from mygrad.nnet.layers import conv_nd
from mygrad.nnet.losses import softmax_crossentropy

from benchmarks.speed import networks
from benchmarks.speed.contenders import Training
from benchmarks.speed.networks import RATE, Network


def _forward(network: Network, P: dict[str, Any], X: Any) -> Any:
    for place, layer in enumerate(network.layers):
        match layer:
            case networks.Linear():
                X = X @ P[f"{place}.weight"].T + P[f"{place}.bias"]
            case networks.Conv2d():
                X = conv_nd(X, P[f"{place}.weight"], stride=1) + P[f"{place}.bias"][:, None, None]
            case networks.Sigmoid():
                X = sigmoid(X)
            case networks.ReLU():
                X = relu(X)
            case networks.Flatten():
                X = X.reshape(len(X), -1)
    return X


def tape(network: Network) -> Training:
    X, T = networks.data(network)
    P = {name: mg.tensor(array[0]) for name, array in networks.start(network).items()}

    def run(steps: int) -> Any:
        with mg.mem_guard_off:
            for _ in range(steps):
                Y = _forward(network, P, X)
                value = mg.mean((Y - T) ** 2) if network.loss == "mse" else softmax_crossentropy(Y, T)
                value.backward()
                for theta in P.values():
                    theta.data -= RATE * theta.grad
        return value.item()

    return Training(run, lambda: {name: theta.data.copy() for name, theta in P.items()})
