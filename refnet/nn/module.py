"""The contract that every layer, loss and container keeps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, Self

import numpy as np

Array = Any  # see refnet.arithmetic.special
Params = dict[str, Array]


class Module(ABC):
    """A function of arrays with parameters, buffers and a hand-written derivative.

    A module holds parameters and buffers and nothing else: what `backward` needs travels in `saved`, so one module can
    stand at two places of a network, and two forward passes can be under way at once.

    Attributes:
        params: parameters under torch's state_dict names. Their arrays are updated in place, never rebound.
        buffers: state that is not trained (running statistics, class weights), under torch's names, written in place.
        training: whether the module is in training mode.
    """

    params: Params
    buffers: Params

    def __init__(self) -> None:
        self.params = {}
        self.buffers = {}
        self.training = True

    @abstractmethod
    def forward(self, *inputs: Array) -> tuple[Array, Any]:
        """Return `(output, saved)`; a tuple of outputs where the module has several."""

    @abstractmethod
    def backward(self, grad_output: Array, saved: Any) -> tuple[Array, Params]:
        """Return `(grad_input, grad_params)` for the upstream gradient of the output.

        `grad_input` is a tuple where the module has several inputs, with None for an input that has no derivative
        (integers); `grad_params` has the keys of `params`.
        """

    def modules(self) -> Iterator[Module]:
        """This module and every module inside it, each once."""
        yield self

    def train(self, mode: bool = True) -> Self:
        """Put every module inside into training mode (or, with False, evaluation mode); returns self."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Put every module inside into evaluation mode; returns self."""
        return self.train(False)

    def state_dict(self) -> Params:
        """Parameters and buffers under torch's names. The arrays are the module's own: copy what must not move on."""
        return {**self.params, **self.buffers}

    def bind(self, arrays: Mapping[str, Array]) -> None:
        """Stand on these very arrays, of any arithmetic, in place of the present ones; `arrays` has a value for every
        name of `params` and `buffers` (further names are left alone)."""
        self.params = {name: arrays[name] for name in self.params}
        self.buffers = {name: arrays[name] for name in self.buffers}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Copy `state` into the parameters and buffers, in place.

        Nothing is written unless everything fits.

        Raises:
            KeyError: a name is missing or unexpected.
            ValueError: a shape differs, or a floating-point value is NaN or infinite.
            TypeError: a dtype differs.
        """
        own = self.state_dict()
        missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        if missing or unexpected:
            raise KeyError(f"load_state_dict: expected {sorted(own)}; missing {missing}, unexpected {unexpected}")
        for name, array in own.items():
            given = np.asarray(state[name])
            if given.shape != array.shape:
                raise ValueError(f"load_state_dict: expected {name} of shape {array.shape}, got {given.shape}")
            if given.dtype != array.dtype:
                raise TypeError(f"load_state_dict: expected {name} of dtype {array.dtype}, got {given.dtype}")
            if given.dtype.kind == "f" and not np.isfinite(given).all():
                raise ValueError(f"load_state_dict: expected finite values in {name}, got NaN or infinity")
        for name, array in own.items():
            array[...] = state[name]
