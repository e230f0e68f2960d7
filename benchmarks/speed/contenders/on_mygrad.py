"""MyGrad, with its guard of arrays in use turned off, as its documentation advises for speed."""

from __future__ import annotations

from typing import Any

import mygrad as mg
from mygrad.nnet.activations import relu, sigmoid
from mygrad.nnet.layers import conv_nd
from mygrad.nnet.losses import softmax_crossentropy

from benchmarks.speed.contenders import Training
from benchmarks.speed.initial_state import data, start
from benchmarks.speed.networks import RATE, Network, forward


def _convolution(X: Any, W: Any) -> Any:
    return conv_nd(X, W, stride=1)


def tape(network: Network) -> Training:
    X, T = data(network)
    P = {name: mg.tensor(array[0]) for name, array in start(network).items()}

    def run(steps: int) -> Any:
        with mg.mem_guard_off:
            for _ in range(steps):
                Y = forward(network, P, X, convolution=_convolution, sigmoid=sigmoid, relu=relu)
                value = mg.mean((Y - T) ** 2) if network.loss == "mse" else softmax_crossentropy(Y, T)
                value.backward()
                for theta in P.values():
                    theta.data -= RATE * theta.grad
        return value.item()

    return Training(run, lambda: {name: theta.data.copy() for name, theta in P.items()})
