"""The networks that are timed, as data that every contender translates into its own layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal, TypeAlias

RATE = 0.125
"""The learning rate: a power of two, so that a peer which keeps it in float32 has the same one."""

STUDY = 10_000
"""Updates of a usual training."""


@dataclass(frozen=True)
class Linear:
    """x W^T + b."""

    inputs: int
    outputs: int


@dataclass(frozen=True)
class Conv2d:
    """Cross-correlation of square images (channels, side, side), without padding, step 1."""

    channels: int
    outputs: int
    kernel: int
    side: int


@dataclass(frozen=True)
class Sigmoid:
    """1 / (1 + exp(-x))."""


@dataclass(frozen=True)
class ReLU:
    """max(x, 0)."""


@dataclass(frozen=True)
class Flatten:
    """Joins all axes but the first."""


Layer: TypeAlias = Linear | Conv2d | Sigmoid | ReLU | Flatten


@dataclass(frozen=True)
class Network:
    """A network and its training: one full batch, the same at every update, and gradient descent at rate RATE.

    Attributes:
        name: without the batch, as on the command line.
        loss: the mean of the squares, against targets in (0, 1); or the mean cross-entropy of classes.
        runs: how many trainings, each from its own start; None where a single one is timed. `many` says which.
        dtype: float64 or float32.
    """

    name: str
    layers: tuple[Layer, ...]
    batch: int
    loss: Literal["mse", "cross-entropy"] = "mse"
    runs: int | None = None
    dtype: str = "float64"

    @property
    def title(self) -> str:
        return f"{self.name}, batch {self.batch}"

    @property
    def many(self) -> bool:
        return self.runs is not None

    @property
    def trainings(self) -> int:
        return self.runs or 1

    @property
    def lone(self) -> Network:
        """A single training of it: that of run 0."""
        return replace(self, runs=None)

    @property
    def multiplications(self) -> int:
        """Those of the matrix products of one training's step: each layer has three, but the first, which needs no
        gradient of its input."""
        return sum((3 if place else 2) * n * i * o for place, (n, i, o) in enumerate(self.products))

    @property
    def products(self) -> list[tuple[int, int, int]]:
        """(rows, inner, columns) of each layer's forward product; a convolution's has a row for each output position
        and its window as inner axis."""
        found = []
        for layer in self.layers:
            match layer:
                case Linear(inputs, outputs):
                    found.append((self.batch, inputs, outputs))
                case Conv2d(channels, outputs, kernel, side):
                    positions = (side - kernel + 1) ** 2
                    found.append((self.batch * positions, channels * kernel**2, outputs))
        return found

    @property
    def sample_shape(self) -> tuple[int, ...]:
        match self.layers[0]:
            case Linear(inputs):
                return (inputs,)
            case Conv2d(channels, _, _, side):
                return (channels, side, side)
            case first:
                raise ValueError(f"Network: expected a first layer with weights, got {first}")

    @property
    def outputs(self) -> int:
        return next(layer.outputs for layer in reversed(self.layers) if isinstance(layer, Linear))


def perceptron(*units: int, batch: int, runs: int | None = None) -> Network:
    """Linear layers with a sigmoid after each."""
    layers = tuple(layer for i, o in pairwise(units) for layer in (Linear(i, o), Sigmoid()))
    name = "-".join(map(str, units))
    return Network(name if runs is None else f"{runs}x{name}", layers, batch, runs=runs)


def convolutional(side: int, channels: int, classes: int, batch: int) -> Network:
    """Images of one channel, a convolution 3 x 3, a rectifier, a linear layer, cross-entropy of the classes."""
    layers = (Conv2d(1, channels, 3, side), ReLU(), Flatten(), Linear(channels * (side - 2) ** 2, classes))
    return Network(f"cnn-{side}x{side}", layers, batch, "cross-entropy")


SINGLE = (
    perceptron(2, 2, 2, batch=1),
    perceptron(8, 16, 4, batch=16),
    perceptron(64, 64, 10, batch=32),
    convolutional(14, 8, 10, batch=32),
    perceptron(784, 128, 10, batch=64),
    perceptron(784, 512, 512, 10, batch=128),
)

MANY = tuple(perceptron(2, 2, 2, batch=1, runs=runs) for runs in (1, 16, 256, 4096))

NETWORKS = (*SINGLE, *MANY)


def modules(network: Network, nn: Any, **options: Any) -> Any:
    """The network as a Sequential of a library with torch's module names; `options` go to each layer with weights."""

    def module(layer: Layer) -> Any:
        match layer:
            case Linear(inputs, outputs):
                return nn.Linear(inputs, outputs, **options)
            case Conv2d(channels, outputs, kernel):
                return nn.Conv2d(channels, outputs, kernel, **options)
            case Sigmoid():
                return nn.Sigmoid()
            case ReLU():
                return nn.ReLU()
            case Flatten():
                return nn.Flatten()

    return nn.Sequential(*map(module, network.layers))


def loss_module(network: Network, nn: Any) -> Any:
    return nn.MSELoss() if network.loss == "mse" else nn.CrossEntropyLoss()


def forward(
    network: Network,
    P: Mapping[str, Any],
    X: Any,
    *,
    convolution: Callable[[Any, Any], Any],
    sigmoid: Callable[[Any], Any],
    relu: Callable[[Any], Any],
) -> Any:
    """The network's outputs, in the functions of a library that has arrays and no modules.

    Args:
        P: the weights under torch's names.
        convolution: of images (n, channels, side, side) with weights (outputs, channels, kernel, kernel), without bias.
    """
    for place, layer in enumerate(network.layers):
        match layer:
            case Linear():
                X = X @ P[f"{place}.weight"].T + P[f"{place}.bias"]
            case Conv2d():
                X = convolution(X, P[f"{place}.weight"]) + P[f"{place}.bias"].reshape(-1, 1, 1)
            case Sigmoid():
                X = sigmoid(X)
            case ReLU():
                X = relu(X)
            case Flatten():
                X = X.reshape(len(X), -1)
    return X
