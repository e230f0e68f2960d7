"""Layers drawn at random: rows of numbers, images or sequences come in, and so many outputs go out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import refnet
from refnet import nn

Maker = Callable[[refnet.Generator], nn.Module]


class Scaled(nn.Module):
    """A layer of a user's own, which declares itself; y = x times a parameter."""

    capturable = True

    def __init__(self, size: int, dtype: Any) -> None:
        super().__init__()
        self.params = {"scale": np.linspace(0.5, 1.5, size, dtype=dtype)}

    def forward(self, *inputs: Any) -> tuple[Any, Any]:
        (X,) = inputs
        return X * self.params["scale"], X

    def backward(self, grad_output: Any, saved: Any) -> tuple[Any, dict[str, Any]]:
        return grad_output * self.params["scale"], {"scale": (grad_output * saved).sum(axis=-2)}


class Undeclared(Scaled):
    """The same, without a declaration."""


class Counted(Scaled):
    """One that counts its calls, and does not declare itself."""

    calls = 0

    def forward(self, *inputs: Any) -> tuple[Any, Any]:
        self.calls += 1
        return super().forward(*inputs)


ACTIVATIONS = ("Sigmoid", "Tanh", "ReLU", "GELU", "SiLU", "Softplus", "ELU", "Hardswish")
NORMALIZATIONS = ("LayerNorm", "RMSNorm", "GroupNorm", "BatchNorm1d")
ROWS, UNITS, LONG_ROWS = (1, 2, 3, 5, 8), (1, 2, 3, 5, 8, 17), (65, 72, 96, 129)
"""Numbers of a sample, units of a linear layer, and both where arrays are long. They lie around what NumPy and machine
code treat apart: sums of 8 terms, and vectors of 2 to 16. They are few, so that translated loops come again."""

OTHERS = ("Softmax", "LogSoftmax", "own", "Dropout", "residual", "LSTMCell", "PReLU")


@dataclass
class DrawnLayers:
    """Layers under way.

    Attributes:
        draws: the source of what they are.
        long: whether rows and linear layers are wide: a batch of 65 samples or more has long arrays.
        sample: the shape of a sample that goes in.
        width: numbers that come out of the last one for each sample.
        makers, features: each layer's maker and name.
    """

    draws: np.random.Generator
    dtype: Any
    long: bool = False
    sample: tuple[int, ...] = ()
    width: int = 0
    makers: list[Maker] = field(default_factory=list)
    features: list[str] = field(default_factory=list)

    def add(self, name: str, maker: Maker) -> None:
        self.makers.append(maker)
        self.features.append(name)

    def make(self, generator: refnet.Generator) -> list[nn.Module]:
        return [maker(generator) for maker in self.makers]

    def some(self, low: int, high: int) -> int:
        """A number from `low` to `high - 1`."""
        return int(self.draws.integers(low, high))

    def of(self, sizes: Sequence[int]) -> int:
        return int(self.draws.choice(sizes))

    def one(self, *names: str) -> str:
        return str(self.draws.choice(list(names)))

    def first(self) -> None:
        """What takes the samples: images, sequences or rows."""
        kind = self.draws.choice(["rows", "images", "sequences"], p=[0.65, 0.2, 0.15])
        if kind == "images":
            self._images()
        elif kind == "sequences":
            self._sequences()
        else:
            self.width = self.of(LONG_ROWS if self.long else ROWS)
            self.sample = (self.width,)

    def _images(self) -> None:
        channels, side, kernel = self.some(1, 3), self.some(3, 6), self.some(1, 4)
        padding, maps, d = self.some(0, 2), self.some(1, 4), self.dtype
        self.sample, out = (channels, side, side), side + 2 * padding - kernel + 1
        self.add("Conv2d", lambda g: nn.Conv2d(channels, maps, kernel, padding=padding, dtype=d, generator=g))
        if self.draws.random() < 0.3:
            self.add("BatchNorm2d", lambda g: nn.BatchNorm2d(maps, dtype=d))
        self.add("ReLU", lambda g: nn.ReLU())
        self.add("Flatten", lambda g: nn.Flatten())
        self.width = maps * out * out

    def _sequences(self) -> None:
        heads = self.some(1, 3)
        steps, units, d = self.some(1, 5), heads * self.some(1, 4), self.dtype
        self.sample, self.width = (steps, units), steps * units
        if self.draws.random() < 0.5:
            first = bool(self.draws.random() < 0.5)
            activation = self.one("relu", "gelu")
            self.add(
                "TransformerEncoderLayer",
                lambda g: nn.TransformerEncoderLayer(
                    *(units, heads, 8, 0.0, activation), batch_first=True, norm_first=first, dtype=d, generator=g
                ),
            )
        else:
            self.add("MultiheadAttention", lambda g: attention(units, heads, d, g))
        self.add("Flatten", lambda g: nn.Flatten())

    def hidden(self) -> None:
        """A linear layer, and what comes after it."""
        size = self.of(LONG_ROWS if self.long else UNITS)
        bias, width, d = bool(self.draws.random() < 0.8), self.width, self.dtype
        self.add("Linear", lambda g: nn.Linear(width, size, bias=bias, dtype=d, generator=g))
        self.width = size
        name = self.one(self.one(*ACTIVATIONS), self.one(*NORMALIZATIONS), self.one(*OTHERS))
        makers: dict[str, Maker] = {
            "LayerNorm": lambda g: nn.LayerNorm(size, dtype=d),
            "RMSNorm": lambda g: nn.RMSNorm(size, dtype=d),
            "GroupNorm": lambda g: nn.GroupNorm(1, size, dtype=d),
            "BatchNorm1d": lambda g: nn.BatchNorm1d(size, dtype=d),
            "Softmax": lambda g: nn.Softmax(-1),
            "LogSoftmax": lambda g: nn.LogSoftmax(-1),
            "Dropout": lambda g: nn.Dropout(0.3, generator=g),
            "PReLU": lambda g: nn.PReLU(dtype=d),
            "residual": lambda g: residual(size, d, g),
            "LSTMCell": lambda g: two_steps(size, d, g),
        }
        if name == "own":
            kind = [Scaled, Undeclared, Counted][self.draws.choice(3, p=[0.6, 0.2, 0.2])]
            self.add(kind.__name__, lambda g: kind(size, d))
        else:
            self.add(name, makers.get(name, lambda g: getattr(nn, name)()))

    def last(self, outputs: int) -> None:
        width, d = self.width, self.dtype
        self.add("Linear", lambda g: nn.Linear(width, outputs, dtype=d, generator=g))


def residual(size: int, dtype: Any, generator: refnet.Generator) -> nn.Graph:
    """x + tanh(Linear(x))."""
    layers = {"linear": nn.Linear(size, size, dtype=dtype, generator=generator), "tanh": nn.Tanh()}
    return nn.Graph(layers, (("h", "linear", "input"), ("y", "tanh", "h"), ("output", "+", "input", "y")))


def two_steps(size: int, dtype: Any, generator: refnet.Generator) -> nn.Graph:
    """An LSTM cell, twice on the same input."""
    cell = nn.LSTMCell(size, size, dtype=dtype, generator=generator)
    steps = ((("h", "c"), "cell", "input"), (("output", "d"), "cell", "input", "h", "c"))
    return nn.Graph({"cell": cell}, steps)


def attention(units: int, heads: int, dtype: Any, generator: refnet.Generator) -> nn.Graph:
    """x + what x attends to in itself."""
    layer = nn.MultiheadAttention(units, heads, batch_first=True, dtype=dtype, generator=generator)
    steps = ((("h", "weights"), "attention", "input", "input", "input"), ("output", "+", "input", "h"))
    return nn.Graph({"attention": layer}, steps)
