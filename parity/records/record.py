"""What an engine is asked to do, as data: small frozen records that could as well travel over a pipe. And what there is
to say instead of an answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

import refnet
from parity.records.facts import MODULES, OTHER, Facts

# What there is to say instead of an answer, where an enclosure does not settle it.
from refnet.arithmetic.array_like import Undecided as Undecided
from refnet.arithmetic.sparse_gradient import SparseGradient
from refnet.optim.optimizer import State

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

    @property
    def facts(self) -> Facts:
        """What is to be known of the class."""
        return MODULES.get(self.type, OTHER)

    @property
    def class_args(self) -> dict[str, Any]:
        """The arguments of the class, without those of its `forward`."""
        return {name: value for name, value in self.args.items() if name not in self.facts.options}

    @property
    def forward_args(self) -> dict[str, Any]:
        """The arguments that are those of `forward`."""
        return {name: value for name, value in self.args.items() if name in self.facts.options}

    def constructor_arrays(self, arrays: Arrays) -> Arrays:
        """The arrays that the class takes as constructor arguments, though they are its buffers."""
        return {name: arrays[name] for name in self.facts.arrays if name in arrays}

    @property
    def schema(self) -> Mapping[str, State]:
        """What an optimizer may keep for each parameter, by name."""
        return {array.name: array for array in getattr(refnet.optim, self.type).schema}

    def is_counter(self, path: str) -> bool:
        """Whether an optimizer's state `NAME.KEY` is a counter: a number, the same in every arithmetic."""
        known = self.schema.get(path.rpartition(".")[2])
        return known is not None and known.counter

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
        names: which arguments of `forward` the inputs are; empty where they are the first ones in order.
        format: the format that an answer is due in, where that is narrower than the arrays': these are in float32 then,
            and have numbers of the format. Formats that NumPy lacks may be answered in float32.
    """

    spec: Spec
    arrays: Arrays
    inputs: tuple[Array, ...]
    grad_outputs: tuple[Array, ...]
    training: bool = True
    names: tuple[str, ...] = field(default=(), metadata=LATER)
    format: str = field(default="", metadata=LATER)

    @property
    def dtype(self) -> str:
        return self.format or self.arrays_dtype

    @property
    def arrays_dtype(self) -> str:
        """The dtype of the arrays, in which a narrower format's numbers are."""
        return next(str(a.dtype) for a in (*self.inputs, *self.arrays.values()) if a.dtype.kind == "f")

    @property
    def input_names(self) -> tuple[str, ...]:
        """Which argument of `forward` each input is."""
        return self.names or self.spec.facts.inputs[: len(self.inputs)]

    def dtype_of(self, name: str) -> str:
        """The dtype of the tensor of that name in a right answer: a buffer keeps its own."""
        kind, _, path = name.partition(".")
        own = self.arrays[path].dtype if kind == "buffer" else None
        return self.dtype if own is None or own.kind == "f" else str(own)

    def types(self) -> set[str]:
        """The classes of what is to be built."""
        return self.spec.types()

    def steps_of(self, shape: tuple[int, ...]) -> Callable[[int], str] | None:
        """How to call the steps along the first axis of a tensor of this shape in an answer: there are none."""
        return None

    def arguments(self) -> Mapping[str, Any]:
        """What the class was given beside arrays."""
        return self.spec.args

    def read_only(self) -> dict[str, Array]:
        """What an engine has no reason to write into; parameters and buffers it may change as its own."""
        return {
            **{f"input {k}": x for k, x in enumerate(self.inputs)},
            **{f"upstream gradient {k}": g for k, g in enumerate(self.grad_outputs)},
        }

    def given(self) -> Iterator[tuple[str, Array]]:
        """The arrays of floats that an engine is given, with what they are."""
        yield from ((f"upstream gradient {k}", g) for k, g in enumerate(self.grad_outputs))
        yield from ((f"input {k}", x) for k, x in enumerate(self.inputs) if x.dtype.kind == "f")
        yield from ((name, a) for name, a in self.arrays.items() if a.dtype.kind == "f")

    def sizes(self) -> Iterator[tuple[str, int]]:
        """The sizes that a formula may divide by, with what they are."""
        shape = self.inputs[0].shape
        if shape:
            yield from (("the number of samples", shape[0]), ("the size of the last axis", shape[-1]))
            yield from (("the number of elements", math.prod(shape)), ("of a sample's elements", math.prod(shape[1:])))
        for g in self.grad_outputs[:1]:
            yield from (("the number of outputs", n) for n in g.shape[-1:])
            yield from (("the number of output positions", n) for n in (math.prod(g.shape[-2:]),) if g.ndim > 2)


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
        indices: for an optimizer that takes sparse gradients, which slices of each parameter the gradients of each step
            are of: (steps, n), or (steps, k, n) along the first k axes; `grads` has their values then.
        objective: for an optimizer that evaluates the objective itself: a module of one output, which is the objective
            at `inputs`; its parameters are `params`, and its `arrays` empty. `grads` is empty then. Without it the
            objective of a step is the linear function with the gradients of that step.
        times: how many steps there are where `grads` is empty.
    """

    spec: Spec
    params: Arrays
    grads: Arrays
    groups: tuple[tuple[tuple[str, ...], Mapping[str, Any]], ...] | None = None
    absent: Mapping[str, tuple[int, ...]] = field(default_factory=dict, metadata=LATER)
    format: str = field(default="", metadata=LATER)
    indices: Arrays = field(default_factory=dict, metadata=LATER)
    objective: VJP | None = field(default=None, metadata=LATER)
    times: int = field(default=0, metadata=LATER)

    def gradients(self, step: int) -> dict[str, Any]:
        """Those of a step, from 0: arrays, or sparse gradients; a parameter without one is left out."""
        return {
            name: SparseGradient(self.indices[name][step], g[step]) if name in self.indices else g[step]
            for name, g in self.grads.items()
            if step not in self.absent.get(name, ())
        }

    @property
    def steps(self) -> int:
        return self.times or len(next(iter(self.grads.values())))

    @property
    def dtype(self) -> str:
        return self.format or self.arrays_dtype

    @property
    def arrays_dtype(self) -> str:
        """As in `VJP`."""
        return str(next(iter(self.params.values())).dtype)

    def dtype_of(self, name: str) -> str:
        """The dtype of the tensor of that name in a right answer: an update's is float64."""
        kind, _, path = name.partition(".")
        return "float64" if kind == "update" else _dtype_of_state(self.spec, kind, path, self.dtype)

    def types(self) -> set[str]:
        """The classes of what is to be built."""
        return self.spec.types()

    def steps_of(self, shape: tuple[int, ...]) -> Callable[[int], str] | None:
        """How to call the steps along the first axis of a tensor of this shape in an answer. A state need not be there
        from the first on."""
        before = self.steps - shape[0]
        return lambda k: f"step {before + k + 1}"

    def arguments(self) -> Mapping[str, Any]:
        """What the class was given beside arrays."""
        return self.spec.args

    def read_only(self) -> dict[str, Array]:
        """What an engine has no reason to write into."""
        return {
            **{f"gradient of {name}": g for name, g in self.grads.items()},
            **{f"indices of {name}": k for name, k in self.indices.items()},
            **({} if self.objective is None else self.objective.read_only()),
        }

    def given(self) -> Iterator[tuple[str, Array]]:
        """None of the arrays is of the kind of an answer's."""
        yield from ()

    def sizes(self) -> Iterator[tuple[str, int]]:
        """The sizes that a formula may divide by: an update has none."""
        yield from ()


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
        clip: how gradients are clipped before each step: `max_norm` with `norm_type`, or `clip_value`; empty where not.
        accumulate: in how many micro-batches (torch.chunk's) a batch is seen; 0 is in one.
        frozen: for some of what is trained, after how many updates it is left alone.
        rates: the learning rate of each update, of all groups; empty where it is the optimizer's own.
        masks: for each Dropout of the network, by its name, what it keeps (True) in each update: (iterations, n, ...),
            with n the samples of the largest batch; a smaller one has the first rows. Not with `accumulate`.
        mask_seed: of the generator that drew the masks, where one did: one after the other, for all that drop.
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
    clip: Mapping[str, float] = field(default_factory=dict, metadata=LATER)
    accumulate: int = field(default=0, metadata=LATER)
    frozen: Mapping[str, int] = field(default_factory=dict, metadata=LATER)
    rates: tuple[float, ...] = field(default=(), metadata=LATER)
    masks: Arrays = field(default_factory=dict, metadata=LATER)
    mask_seed: int | None = field(default=None, metadata=DERIVED)

    def trained(self, params: Iterable[str]) -> tuple[str, ...]:
        """The names that the optimizer is given, of a network with these."""
        if self.groups is not None:
            return tuple(name for names, _ in self.groups for name in names)
        return self.trainable or tuple(params)

    @property
    def iterations(self) -> int:
        return len(self.batches)

    def first(self, updates: int) -> Train:
        """The record of that number of updates from the start."""
        masks = {name: mask[:updates] for name, mask in self.masks.items()}
        return replace(self, batches=self.batches[:updates], rates=self.rates[:updates], masks=masks)

    def single(self, number: int, before: Arrays, state: Arrays) -> Train:
        """The record of the update of that number (from 1) alone, from these weights and this optimizer state."""
        alone = self.of_updates(np.array([number - 1]))
        return replace(alone, arrays=dict(before), state=dict(state), order={}, mask_seed=None)

    def of_updates(self, numbers: Array) -> Train:
        """The record with these updates (from 0) alone, in which the same parameters are frozen."""
        return replace(
            self,
            batches=tuple(self.batches[k] for k in numbers),
            rates=tuple(self.rates[k] for k in numbers) if self.rates else (),
            frozen=dict.fromkeys(self.frozen_before(int(numbers[0])), 0),
            masks={name: mask[numbers] for name, mask in self.masks.items()},
        )

    def masks_of(self, update: int) -> dict[str, Array]:
        """The masks of an update, of those from 0, by the Dropout's name."""
        return {name: mask[update, : len(self.batches[update])] for name, mask in self.masks.items()}

    def frozen_before(self, update: int) -> tuple[str, ...]:
        """What is left alone in an update, of those from 0."""
        return tuple(name for name, after in self.frozen.items() if update >= after)

    def before(self, answer: Answer, updates: Array) -> tuple[dict[str, Array], dict[str, Array]]:
        """The parameters and buffers, and the optimizer's state, that some updates (from 0) of an answer find, with a
        leading axis for the updates: the first alone, or others."""
        if not updates[0]:
            # Only the first does not find what the one before it left.
            return leading(self.arrays), leading(self.state)
        state, buffers = (
            {name.removeprefix(kind): a[updates - 1] for name, a in answer.items() if name.startswith(kind)}
            for kind in ("state.", "buffer.")
        )
        params = {n: answer[f"param.{n}"][updates] for n in self.arrays if n not in buffers}
        return params | buffers, state

    @property
    def dtype(self) -> str:
        return next(str(a.dtype) for a in (self.inputs, *self.arrays.values()) if a.dtype.kind == "f")

    def dtype_of(self, name: str) -> str:
        """The dtype of the tensor of that name in a right answer, or of an update, which is subtracted in float64."""
        kind, _, path = name.partition(".")
        if kind == "buffer":
            return str(self.arrays[path].dtype)
        return "float64" if kind == "update" else _dtype_of_state(self.optimizer, kind, path, self.dtype)

    def types(self) -> set[str]:
        """The classes of what is to be built."""
        return self.network.types() | {self.loss.type, self.optimizer.type}

    def arguments(self) -> Mapping[str, Any]:
        """What the optimizer was given beside parameters."""
        return self.optimizer.args

    def read_only(self) -> dict[str, Array]:
        """What an engine has no reason to write into; parameters, buffers and state it may change as its own."""
        masks = {f"mask of {name}": mask for name, mask in self.masks.items()}
        return {"inputs": self.inputs, "targets": self.targets, **masks}

    def given(self) -> Iterator[tuple[str, Array]]:
        """None of the arrays is of the kind of an answer's."""
        yield from ()

    def sizes(self) -> Iterator[tuple[str, int]]:
        """The sizes that a formula may divide by, with what they are."""
        yield from (("the size of a batch", len(self.batches[0])), ("the number of samples", len(self.inputs)))
        yield "the number of batches", -(-len(self.inputs) // len(self.batches[0]))


def _dtype_of_state(spec: Spec, kind: str, path: str, dtype: str) -> str:
    """A counter of steps is torch's, in float32; everything else has the record's dtype."""
    return "float32" if kind == "state" and spec.is_counter(path) else dtype


def leading(arrays: Arrays) -> dict[str, Array]:
    """The arrays of one run, as those of the only run."""
    return {name: a[None] for name, a in arrays.items()}


Record = VJP | Optimize | Train


def lent(record: Record) -> Record:
    """The record with specs of its own, which a case gives to all its records, and an engine may take apart."""
    given = {f.name: getattr(record, f.name) for f in fields(record)}
    return replace(
        record, **{name: deepcopy(v) for name, v in given.items() if isinstance(v, Spec) or name == "groups"}
    )


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


def parts_of_state(path: str, kept: Any) -> list[tuple[str, Any]]:
    """One part of an optimizer's state by its path; of a list `PATH.0`, the oldest, and so on; nothing of None."""
    if isinstance(kept, list):
        return [(f"{path}.{k}", one) for k, one in enumerate(kept)]
    return [] if kept is None else [(path, kept)]


def within(arrays: Arrays, prefix: str) -> dict[str, Array]:
    """The arrays whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}


class Unsupported(Exception):
    """An engine says that it cannot do a case. Reported as such, never as a failure or in silence."""


class UsageError(Exception):
    """Bad input from the user: one message that names what was expected and what came; exit code 2."""
