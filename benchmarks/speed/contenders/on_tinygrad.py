"""tinygrad on its CPU device, which compiles with clang."""

from __future__ import annotations

import os
import shutil
from typing import Any

from tinygrad import Context, Device, Tensor, TinyJit
from tinygrad.nn.optim import SGD

from benchmarks.speed import initial_state
from benchmarks.speed.contenders import Training, Unsupported
from benchmarks.speed.networks import RATE, Network, forward

DEVICE = "CPU"

CLANG = (
    "its CPU device needs the compiler clang, which pip does not bring: apt install clang on Debian and Ubuntu, "
    "dnf install clang on Fedora, xcode-select --install on macOS"
)


def _forward(network: Network, P: dict[str, Any], X: Any) -> Any:
    return forward(network, P, X, convolution=Tensor.conv2d, sigmoid=Tensor.sigmoid, relu=Tensor.relu)


def jit(network: Network) -> Training:
    if shutil.which(os.environ.get("CC", "clang")) is None:
        raise Unsupported(CLANG)
    try:
        Device[DEVICE]
    except Exception as error:
        raise Unsupported(f"its CPU device does not start: {type(error).__name__}: {error}") from error
    X, T = (Tensor(array.copy(), device=DEVICE).realize() for array in initial_state.data(network))
    P = {name: Tensor(array[0].copy(), device=DEVICE).realize() for name, array in initial_state.start(network).items()}
    opt = SGD(list(P.values()), lr=RATE)

    def step() -> Any:
        with Context(TRAINING=1):
            opt.zero_grad()
            Y = _forward(network, P, X)
            value = ((Y - T) * (Y - T)).mean() if network.loss == "mse" else Y.sparse_categorical_crossentropy(T)
            value.backward()
            return value.realize(*opt.schedule_step())

    replayed: Any = TinyJit(step)

    def run(steps: int) -> Any:
        for _ in range(steps):
            value = replayed()
        return value.item()

    return Training(run, lambda: {name: theta.numpy().copy() for name, theta in P.items()})
