"""What activations that go element by element have in common: the plumbing around two equations."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NamedTuple

from refnet import _check
from refnet.nn.module import Array, Module, Params


class ElementwiseSaved(NamedTuple):
    """The input."""

    X: Array


class Elementwise(Module):
    """y = f(x) for each element, without parameters. A class says what `function` and `gradient` are.

    `backward` computes what it needs from the input again: a rounded output has lost the digits where f saturates.

    Args:
        inplace: accepted as torch's; inputs are never written.
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    @abstractmethod
    def function(self, X: Array) -> Array:
        """Y[.] = f(X[.])"""

    @abstractmethod
    def gradient(self, dY: Array, X: Array) -> Array:
        """dX[.] = dY[.] f'(X[.])"""

    def arguments(self) -> str:
        """What `repr` says before `inplace`."""
        return ""

    def extra_repr(self) -> str:
        return ", ".join(filter(None, (self.arguments(), "inplace=True" if self.inplace else "")))

    def forward(self, input: Array) -> tuple[Array, ElementwiseSaved]:
        _check.floating(type(self).__name__, input=input)
        return self.function(input), ElementwiseSaved(input)

    def backward(self, grad_output: Array, saved: ElementwiseSaved) -> tuple[Array, Params]:
        X: Any = saved.X
        return self.gradient(_check.upstream(type(self).__name__, grad_output, X.shape, X.dtype), X), {}
