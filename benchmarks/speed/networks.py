"""The networks that are timed, as data that every contender translates into its own layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal, NamedTuple, TypeAlias

RATE = 0.125
"""The learning rate of gradient descent: a power of two, so that a peer which keeps it in float32 has the same one."""

ADAM_RATE = 2.0**-13
BETAS = 0.9, 0.999
EPS = 1e-8
"""Adam's options: the last two are the defaults. At eight times this rate the loss of 64-64-10 is 1e-7 after 10,000
updates, and hangs on last bits: torch's was 9 times refnet's, JAX's 1.3 times. At this rate it is 6.8e-6, and they
agree to 15 digits."""

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


@dataclass(frozen=True)
class GELU:
    """x Phi(x), by the error function."""


@dataclass(frozen=True)
class LayerNorm:
    """Over the last axis, with weight and bias."""

    units: int


@dataclass(frozen=True)
class LSTM:
    """An LSTM cell over the steps of (steps, inputs) from states of 0: the last hidden state."""

    inputs: int
    units: int
    steps: int


@dataclass(frozen=True)
class SelfAttention:
    """What the rows of (steps, units) attend to in themselves."""

    units: int
    heads: int
    steps: int


@dataclass(frozen=True)
class Encoder:
    """A layer of a transformer's encoder on (steps, units), normalized after each half, ReLU, no dropout."""

    units: int
    heads: int
    hidden: int
    steps: int


Basic: TypeAlias = Linear | Conv2d | Sigmoid | ReLU | Flatten
Layer: TypeAlias = Basic | GELU | LayerNorm | LSTM | SelfAttention | Encoder


class Product(NamedTuple):
    """A matrix product of a forward pass: (rows, inner) times (inner, columns), so many of them; whether its first
    factor needs no gradient, and whether its second one is the same for all."""

    rows: int
    inner: int
    columns: int
    stack: int = 1
    of_input: bool = False


@dataclass(frozen=True)
class Network:
    """A network and its training: one full batch, the same at every update.

    Attributes:
        name: without the batch, as on the command line.
        loss: the mean of the squares, against targets in (0, 1); or the mean cross-entropy of classes.
        runs: how many trainings, each from its own start; None where a single one is timed. `many` says which.
        dtype: float64 or float32.
        optimizer: gradient descent at rate RATE, or Adam at ADAM_RATE.
        updates: of a whole training.
    """

    name: str
    layers: tuple[Layer, ...]
    batch: int
    loss: Literal["mse", "cross-entropy"] = "mse"
    runs: int | None = None
    dtype: str = "float64"
    optimizer: Literal["SGD", "Adam"] = "SGD"
    updates: int = STUDY

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
        return sum((2 if p.of_input else 3) * p.rows * p.inner * p.columns * p.stack for p in self.products)

    @property
    def basic(self) -> bool:
        """Whether it has none but basic layers, and gradient descent."""
        return self.optimizer == "SGD" and all(isinstance(layer, Basic) for layer in self.layers)

    @property
    def products(self) -> list[Product]:
        """Each layer's forward products; a convolution's has a row for each output position and its window as inner
        axis."""
        found: list[Product] = []
        rows = self.batch
        for layer in self.layers:
            match layer:
                case Linear(inputs, outputs):
                    found.append(Product(rows, inputs, outputs, of_input=not found))
                case Conv2d(channels, outputs, kernel, side):
                    positions = (side - kernel + 1) ** 2
                    found.append(Product(rows * positions, channels * kernel**2, outputs, of_input=not found))
                case LSTM(inputs, units, steps):
                    found += [Product(rows, inputs, 4 * units, of_input=True)] * steps
                    found += [Product(rows, units, 4 * units)] * steps
                case SelfAttention(units, heads, steps) | Encoder(units, heads, _, steps):
                    found.append(Product(rows * steps, units, 3 * units, of_input=True))
                    found.append(Product(steps, units // heads, steps, rows * heads))
                    found.append(Product(steps, steps, units // heads, rows * heads))
                    found.append(Product(rows * steps, units, units))
                    if isinstance(layer, Encoder):
                        found.append(Product(rows * steps, units, layer.hidden))
                        found.append(Product(rows * steps, layer.hidden, units))
        return found

    @property
    def sample_shape(self) -> tuple[int, ...]:
        match self.layers[0]:
            case Linear(inputs):
                return (inputs,)
            case Conv2d(channels, _, _, side):
                return (channels, side, side)
            case LayerNorm(units):
                return (units,)
            case LSTM(inputs, _, steps) | SelfAttention(inputs, _, steps) | Encoder(inputs, _, _, steps):
                return (steps, inputs)
            case first:
                raise ValueError(f"Network: expected a first layer with weights, got {first}")

    @property
    def output_shape(self) -> tuple[int, ...]:
        for layer in reversed(self.layers):
            if isinstance(layer, Linear):
                return (layer.outputs,)
        return self.sample_shape

    @property
    def outputs(self) -> int:
        return self.output_shape[-1]


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
    replace(perceptron(784, 512, 512, 10, batch=128), updates=1_000),
)

FURTHER = (
    replace(perceptron(8, 16, 4, batch=16), name="short", updates=300),
    Network("deep", tuple(layer for _ in range(30) for layer in (Linear(64, 64), ReLU())), 32, updates=2_000),
    Network(
        "conv2d",
        (Conv2d(1, 8, 3, 14), ReLU(), Conv2d(8, 8, 3, 12), ReLU(), Flatten(), Linear(800, 10)),
        16,
        "cross-entropy",
        updates=2_000,
    ),
    Network("lstm", (LSTM(8, 16, 8), Linear(16, 4)), 16, updates=2_000),
    Network(
        "layernorm-mlp",
        (Linear(32, 64), LayerNorm(64), GELU(), Linear(64, 64), LayerNorm(64), GELU(), Linear(64, 10)),
        32,
    ),
    replace(perceptron(64, 64, 10, batch=32), name="adam", optimizer="Adam"),
    replace(perceptron(64, 64, 10, batch=32), name="float32", dtype="float32"),
    replace(perceptron(784, 128, 10, batch=64), name="wide-float32", dtype="float32", updates=2_000),
)

TRANSFORMER = (
    Network("encoder", (Encoder(128, 4, 512, 32),), 16, dtype="float32", updates=300),
    Network("mlp-block", (Linear(512, 1024), GELU(), Linear(1024, 512)), 128, dtype="float32", updates=300),
    Network("layernorm", (LayerNorm(512),), 512, dtype="float32", updates=300),
    Network("gelu", (Linear(1, 1024), GELU()), 256, dtype="float32", updates=300),
    Network("attention", (SelfAttention(128, 4, 32),), 16, dtype="float32", updates=300),
)
"""A layer of a transformer, on 16 sequences of 32 steps of 128 units, and its parts: two linear layers of a million
parameters; a normalization, an activation and attention alone."""

MANY = tuple(perceptron(2, 2, 2, batch=1, runs=runs) for runs in (1, 16, 256, 4096))

NETWORKS = (*SINGLE, *FURTHER, *TRANSFORMER, *MANY)


def modules(network: Network, nn: Any, own: Mapping[type, Callable[..., Any]], **options: Any) -> Any:
    """The network as a Sequential of a library with torch's module names; `options` go to each layer with weights.

    `own`: for layers that the library has no module of, what makes them.
    """

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
            case GELU():
                return nn.GELU()
            case LayerNorm(units):
                return nn.LayerNorm(units, **without_draws)
            case Encoder(units, heads, hidden):
                return nn.TransformerEncoderLayer(units, heads, hidden, 0.0, batch_first=True, **options)
            case _:
                return own[type(layer)](layer, **options)

    without_draws = {name: value for name, value in options.items() if name != "generator"}
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
    further: Callable[[Any, Mapping[str, Any], Any], Any] | None = None,
) -> Any:
    """The network's outputs, in the functions of a library that has arrays and no modules.

    Args:
        P: the weights under torch's names.
        convolution: of images (n, channels, side, side) with weights (outputs, channels, kernel, kernel), without bias.
        further: the output of a layer that is not basic: of the layer, its weights by the end of their names, and X.

    Raises NotImplementedError for such a layer without `further`.
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
            case _ if further is None:
                raise NotImplementedError(f"no {type(layer).__name__} is written for this library")
            case _:
                head = f"{place}."
                X = further(layer, {name[len(head) :]: W for name, W in P.items() if name.startswith(head)}, X)
    return X
