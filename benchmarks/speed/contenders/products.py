"""The matrix products that a training step cannot do without: the limit of everything that multiplies matrices as
NumPy does.

For a layer Y = X W^T: Y itself, dW = dY^T X and, but for the first layer, dX = dY W. A convolution's are those of its
windows, laid out beforehand. No activation, loss, bias or update.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.speed.contenders import Training
from benchmarks.speed.networks import Network


def products(network: Network) -> Training:
    draws = np.random.default_rng(0)
    runs = (network.runs,) if network.runs is not None else ()

    def drawn(*shape: int) -> Any:
        return draws.random((*runs, *shape)).astype(network.dtype)

    forward, backward = [], []
    for n, i, o, several, of_input in network.products:
        stack = (several,) if several > 1 else ()
        X, W, dY = drawn(*stack, n, i), drawn(*stack, o, i), drawn(*stack, n, o)
        forward.append((X, W.mT, drawn(*stack, n, o)))
        backward.append((dY.mT, X, drawn(*stack, o, i)))
        if not of_input:
            backward.append((dY, W, drawn(*stack, n, i)))
    step = [*forward, *reversed(backward)]
    matmul = np.matmul

    def run(steps: int) -> float:
        for _ in range(steps):
            for A, B, out in step:
                matmul(A, B, out)
        return 0.0

    return Training(run, dict)
