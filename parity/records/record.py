"""What an engine is asked to do, as data: small frozen records that could as well travel over a pipe. And what there is
to say instead of an answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Arrays = Mapping[str, Array]
Answer = dict[str, Array]

LATER = {"later": True}
"""Marks a field that records have not always had. At its default it is no part of a record's content, so that the
answers kept before stay valid."""

DERIVED = {"derived": True}
"""Marks a field that says again what others say, and is no part of a record's content."""


@dataclass(frozen=True)
class Spec:
    """A module, loss or optimizer to build: torch's class name and keyword arguments.

    A `Sequential` has `layers`, the different ones, and `order`, the places at which they stand (each once, in turn,
    where it is None): a layer that stands at two places is one layer, with shared parameters. An `Objective` has two
    `layers`, a network and a loss of its output: the module of two inputs loss(network(input), target), whose arrays
    are `network.NAME` and `loss.NAME`.
    """

    type: str
    args: Mapping[str, Any] = field(default_factory=dict)
    layers: tuple[Spec, ...] = ()
    order: tuple[int, ...] | None = None

    @property
    def places(self) -> tuple[int, ...]:
        return tuple(range(len(self.layers))) if self.order is None else self.order

    def types(self) -> set[str]:
        """The class names in this module and everything inside it."""
        return {self.type}.union(*(layer.types() for layer in self.layers))

    def __str__(self) -> str:
        inside = ", ".join([*map(str, self.layers), *(f"{name}={value!r}" for name, value in self.args.items())])
        return f"{self.type}({inside})"


@dataclass(frozen=True)
class VJP:
    """Forward at `inputs`, then backward from `grad_outputs`.

    The answer is a dict: `output` (`output.0`, `output.1`, ... where there are several), `grad_input` (likewise, for
    inputs that have a derivative), `grad.NAME` for each parameter, `buffer.NAME` for each buffer after the forward
    pass.

    Attributes:
        spec: the module. arrays: its parameters and buffers under torch's state_dict names, as they are before.
        inputs: as `forward` takes them. grad_outputs: upstream gradients, one for each output; their memory layout is
        part of the case.
        training: whether the module is in training mode.
        format: the format that an answer is due in, where that is narrower than the arrays': these are in float32 then,
            and have numbers of the format. Formats that NumPy lacks may be answered in float32.
    """

    spec: Spec
    arrays: Arrays
    inputs: tuple[Array, ...]
    grad_outputs: tuple[Array, ...]
    training: bool = True
    format: str = field(default="", metadata=LATER)

    @property
    def dtype(self) -> str:
        return self.format or next(str(a.dtype) for a in (*self.inputs, *self.arrays.values()) if a.dtype.kind == "f")


@dataclass(frozen=True)
class Optimize:
    """Steps of an optimizer from `params` on a given stream of gradients.

    The answer is a dict of arrays with a leading step axis: `update.NAME` (the parameter after each step minus before
    it, subtracted in float64) and `state.NAME.KEY` for each array of the optimizer's state (from the first step after
    which it is there). A counter of steps is a number, in float32, as torch's is.

    Attributes:
        spec: the optimizer. params: initial values. grads: (steps, *shape) for each name.
        groups: for parameter groups, the names of each and the arguments in which it differs; None is one group of all.
        absent: for some names the steps, from 0, at which the parameter has no gradient: it is left alone then.
        format: as in `VJP`.
    """

    spec: Spec
    params: Arrays
    grads: Arrays
    groups: tuple[tuple[tuple[str, ...], Mapping[str, Any]], ...] | None = None
    absent: Mapping[str, tuple[int, ...]] = field(default_factory=dict, metadata=LATER)
    format: str = field(default="", metadata=LATER)

    def gradients(self, step: int) -> Arrays:
        """Those of a step, from 0; a parameter without one is left out."""
        return {name: g[step] for name, g in self.grads.items() if step not in self.absent.get(name, ())}

    @property
    def steps(self) -> int:
        return len(next(iter(self.grads.values())))

    @property
    def dtype(self) -> str:
        return self.format or str(next(iter(self.params.values())).dtype)


@dataclass(frozen=True)
class Train:
    """Training from `arrays` by `iterations` updates.

    The answer is a dict: `loss` (iterations,), the loss of each update's batch before the update; `param.NAME`
    (iterations + 1, *shape), the parameter before the first and after each update; `state.NAME.KEY` and `buffer.NAME`
    (iterations, *shape), the optimizer's state and the network's buffers after each update, where there are any.

    Attributes:
        network, loss, optimizer: what to build. arrays: initial parameters and buffers.
        batches: the index array of each update's batch, the same for every engine.
        trainable: names that the optimizer is given; None is all parameters.
        state: the optimizer's state before the first update, under `NAME.KEY`; empty where there is none yet.
        groups: for parameter groups, as in `Optimize`; they name what is trained then.
        order: how a loader comes to the batches, where one does: `batch_size`, `shuffle`, `drop_last` and the `seed` of
            its generator.
    """

    network: Spec
    loss: Spec
    optimizer: Spec
    arrays: Arrays
    inputs: Array
    targets: Array
    batches: tuple[Array, ...]
    trainable: tuple[str, ...] | None = None
    state: Arrays = field(default_factory=dict)
    groups: tuple[tuple[tuple[str, ...], Mapping[str, Any]], ...] | None = field(default=None, metadata=LATER)
    order: Mapping[str, Any] = field(default_factory=dict, metadata=DERIVED)

    def trained(self, params: Iterable[str]) -> tuple[str, ...]:
        """The names that the optimizer is given, of a network with these."""
        if self.groups is not None:
            return tuple(name for names, _ in self.groups for name in names)
        return self.trainable or tuple(params)

    @property
    def iterations(self) -> int:
        return len(self.batches)

    def single(self, number: int, before: Arrays, state: Arrays) -> Train:
        """The record of the update of that number (from 1) alone, from these weights and this optimizer state."""
        batch = self.batches[number - 1]
        return replace(self, arrays=dict(before), state=dict(state), batches=(batch,), order={})

    @property
    def dtype(self) -> str:
        return str(self.inputs.dtype)


Record = VJP | Optimize | Train


@dataclass(frozen=True)
class Split:
    """A batch, and the same samples in parts: an engine is asked for the whole and for each part, in plain VJP records.

    Of the parts' gradients g_k by each parameter is made sum_k w_k g_k / d.

    Attributes:
        whole, parts: the records. weights, divisor: w and d. equal: whether that is the gradient of the whole: the
        oracle refuses to answer where it is not so.
    """

    whole: VJP
    parts: tuple[VJP, ...]
    weights: tuple[float, ...]
    divisor: float
    equal: bool

    @property
    def dtype(self) -> str:
        return self.whole.dtype


def within(arrays: Arrays, prefix: str) -> dict[str, Array]:
    """The arrays whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}


class Undecided(ArithmeticError):
    """A comparison (a kink, a branch) or a rounding that the enclosure does not settle: nobody may guess it."""


class Unsupported(Exception):
    """An engine says that it cannot do a case. Reported as such, never as a failure or in silence."""


class UsageError(Exception):
    """Bad input from the user: one message that names what was expected and what came; exit code 2."""
