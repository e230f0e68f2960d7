"""The one definition, run in any arithmetic: refnet's own lines on floats, balls, budgets and runs of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, reduce
from operator import add
from typing import Any, NamedTuple

import numpy as np

import refnet
from parity.records.record import VJP, Optimize, Spec, Train, parts_of_state, within
from refnet.arithmetic import special
from refnet.arithmetic.sparse_gradient import SparseGradient
from refnet.nn.utils import Clipping
from refnet.train.schedule import set_rates
from refnet.train.step import Update

Array = Any
Tensors = dict[str, Array]
Patch = Callable[[Any], None]
"""Changes one module or optimizer into a variant of itself: a weaker formula, another convention, a mistake."""

NO_PATCHES: Mapping[str, Patch] = {}


class Moment(NamedTuple):
    """A training between two updates: how many are done, the loss that the last of them descended (None before the
    first), and the live parameters, optimizer state and buffers (copy what must not move on)."""

    done: int
    loss: Array | None
    params: Tensors
    state: Tensors
    buffers: Tensors


def build(
    spec: Spec, arrays: Mapping[str, Array], patches: Mapping[str, Patch] = NO_PATCHES, dtype: str = "float64"
) -> refnet.nn.Module:
    """The refnet module of `spec`, standing on `arrays` (parameters and buffers of any arithmetic), changed by the
    patches for its types. `dtype` is that of the record, which balls do not tell.
    """
    module = _construct(spec, arrays, patches, dtype)
    module.bind(arrays)
    return module


STACKS = ("TransformerEncoder", "TransformerDecoder")
"""Modules that are made of copies of a layer."""


def _nothing(module: refnet.nn.Module) -> None:
    """The patch of a module that is left as it is."""


def _construct(spec: Spec, arrays: Mapping[str, Array], patches: Mapping[str, Patch], dtype: str) -> refnet.nn.Module:
    if spec.type == "Sequential":
        layers = [_construct(layer, {}, patches, dtype) for layer in spec.layers]
        module: refnet.nn.Module = refnet.nn.Sequential(*(layers[k] for k in spec.places))
    elif spec.type == "Graph":
        layers = [_construct(layer, {}, patches, dtype) for layer in spec.layers]
        module = refnet.nn.Graph({str(place): layers[k] for place, k in enumerate(spec.places)}, **spec.args)
    elif spec.type == "Objective":
        network, loss = spec.layers
        module = Objective(
            _construct(network, {}, patches, dtype), _construct(loss, within(arrays, "loss."), patches, dtype)
        )
    else:
        more: dict[str, Any] = {"dtype": dtype} if spec.facts.dtype else {}
        # A stack copies its layer. What a patch puts into that stays the original's: the copies are patched.
        copied = spec.type in STACKS
        inside = (_construct(layer, {}, NO_PATCHES if copied else patches, dtype) for layer in spec.layers)
        more |= zip(spec.facts.modules, inside, strict=False)
        arguments = {**spec.class_args, **spec.constructor_arrays(arrays), **_generator(spec), **more}
        module = getattr(refnet.nn, spec.type)(**arguments)
        for child in module.children() if copied else ():
            patches.get(type(child).__name__, _nothing)(child)
    if spec.type in patches:
        patches[spec.type](module)
    return module


@cache
def _takes_generator(name: str) -> bool:
    return "generator" in inspect.signature(getattr(refnet.nn, name)).parameters


class _Zeros(refnet.Generator):
    """A source of initial values that are replaced at once: to draw them costs more than a small layer's pass."""

    def uniform_(self, array: Array, from_: float = 0.0, to: float = 1.0) -> Array:
        array[...] = 0
        return array

    def normal_(self, array: Array, mean: float = 0.0, std: float = 1.0) -> Array:
        array[...] = 0
        return array


_ZEROS = _Zeros(0)


def _generator(spec: Spec) -> dict[str, refnet.Generator]:
    """A source of initial values, which are replaced at once: not the default generator, which is the user's."""
    if not _takes_generator(spec.type):
        return {}
    # What draws later on draws the same from every build.
    return {"generator": refnet.Generator(0) if spec.facts.draws else _ZEROS}


class Objective(refnet.nn.Module):
    """L = loss(network(X), T), as a module of two inputs; names are `network.NAME` and `loss.NAME`."""

    def __init__(self, network: refnet.nn.Module, loss: refnet.nn.Module) -> None:
        super().__init__()
        self.network, self.loss = network, loss
        self.adopt({"network": network, "loss": loss})

    def forward(self, *inputs: Array) -> tuple[Array, Any]:
        X, T = inputs
        Y, saved_network = self.network.forward(X)
        L, saved_loss = self.loss.forward(Y, T)
        return L, (saved_network, saved_loss)

    def backward(self, grad_output: Array, saved: Any) -> tuple[Array, dict[str, Array]]:
        saved_network, saved_loss = saved
        (dY, dT), _ = self.loss.backward(grad_output, saved_loss)
        dX, grads = self.network.backward(dY, saved_network)
        return (dX, dT), {f"network.{name}": grad for name, grad in grads.items()}


def tensors(
    record: VJP | Optimize, lift: Callable[[Array], Array], patches: Mapping[str, Patch] = NO_PATCHES
) -> Mapping[str, Any]:
    """What `vjp` or `optimize` gives."""
    return vjp(record, lift, patches) if isinstance(record, VJP) else optimize(record, lift, patches)


def vjp(record: VJP, lift: Callable[[Array], Array], patches: Mapping[str, Patch] = NO_PATCHES) -> Tensors:
    """The answer to a VJP record in the arithmetic that `lift` takes floating-point arrays to."""

    def lifted(array: Array) -> Array:
        return lift(array) if array.dtype.kind == "f" else array

    # A module writes its buffers: they are copied, inputs and upstream gradients keep their memory layout.
    module = build(
        record.spec, {name: lifted(a.copy()) for name, a in record.arrays.items()}, patches, record.arrays_dtype
    )
    module.train(record.training)
    output, saved = forward(module, record, [lifted(x) for x in record.inputs])
    grads = tuple(lifted(g) for g in record.grad_outputs)
    grad_input, grad_params = module.backward(grads if len(grads) > 1 else grads[0], saved)
    return named(output, grad_input, grad_params, module.buffers)


def forward(module: refnet.nn.Module, record: VJP, inputs: Sequence[Array]) -> tuple[Any, Any]:
    """`module.forward` at these inputs, which are those of a record; of several outputs those that are given."""
    if record.names or record.spec.facts.options:
        named = dict(zip(record.input_names, inputs, strict=True))
        output, saved = module.forward(**named, **record.spec.forward_args)
    else:
        output, saved = module.forward(*inputs)
    if isinstance(output, tuple):
        given = tuple(y for y in output if y is not None)
        output = given if len(given) > 1 else given[0]
    return output, saved


def named(output: Any, grad_input: Any, grad_params: Mapping[str, Array], buffers: Mapping[str, Array]) -> Tensors:
    """Tensors under the names that a VJP answer gives them."""
    return {
        **_numbered("output", output),
        **_numbered("grad_input", grad_input),
        **{f"grad.{name}": grad for name, grad in grad_params.items()},
        **{f"buffer.{name}": buffer for name, buffer in buffers.items()},
    }


def _numbered(name: str, arrays: Any) -> Tensors:
    if arrays is None:
        return {}
    if not isinstance(arrays, tuple):
        return {name: arrays}
    return {f"{name}.{k}": array for k, array in enumerate(arrays) if array is not None}


def combination(parts: Sequence[Mapping[str, Array]], weights: Sequence[float], divisor: float) -> Tensors:
    """sum_k w_k g_k / d of the gradients g_k by each parameter in some VJP answers."""
    made: Tensors = {}
    for name in (name for name in parts[0] if name.startswith("grad.")):
        # G = sum_k w[k] g[k] / d
        total = reduce(add, (part[name] if w == 1 else w * part[name] for w, part in zip(weights, parts, strict=True)))
        made[name] = total if divisor == 1 else total / divisor
    return made


def optimizer(
    spec: Spec,
    params: Mapping[str, Array],
    groups: Any = None,
    patches: Mapping[str, Patch] = NO_PATCHES,
) -> Any:
    """The refnet optimizer of `spec` over `params`."""
    make = getattr(refnet.optim, spec.type)
    given = params if groups is None else [{"params": {n: params[n] for n in names}, **args} for names, args in groups]
    made = make(given, **spec.args)
    if spec.type in patches:
        patches[spec.type](made)
    return made


def optimize(
    record: Optimize, lift: Callable[[Array], Array], patches: Mapping[str, Patch] = NO_PATCHES
) -> dict[str, list[Array]]:
    """`param.NAME` before and after each step, and `state.NAME.KEY` after each step from the first after which it is
    there, in the arithmetic of `lift`.
    """
    params = {name: lift(p) for name, p in record.params.items()}
    made = optimizer(record.spec, params, record.groups, patches)
    made.stands_for = record.arrays_dtype
    tensors: dict[str, list[Array]] = {f"param.{name}": [p.copy()] for name, p in params.items()}
    evaluated = _objective(record, params, lift) if made.takes_closure else None
    for k in range(record.steps):
        made.step(evaluated(k) if evaluated else {name: _lifted(lift, g) for name, g in record.gradients(k).items()})
        for name, p in params.items():
            tensors[f"param.{name}"].append(p.copy())
        for path, array in state_of(made).items():
            # A bare number of the arithmetic is never written.
            tensors.setdefault(f"state.{path}", []).append(array.copy() if hasattr(array, "copy") else array)
    return tensors


def _lifted(lift: Callable[[Array], Array], gradient: Any) -> Any:
    """A gradient, whole or sparse."""
    if isinstance(gradient, SparseGradient):
        return SparseGradient(gradient.indices, lift(gradient.values))
    return lift(gradient)


def _objective(
    record: Optimize, params: Tensors, lift: Callable[[Array], Array]
) -> Callable[[int], Callable[[], tuple[Array, Tensors]]]:
    """For each step, from 0, the function that evaluates the objective of a record and its gradients at `params`."""
    if record.objective is None:

        def value(grads: Tensors) -> Array:
            # f = sum_n g[n] theta[n]
            return reduce(add, (special.total(g.reshape(-1) * params[n].reshape(-1), -1) for n, g in grads.items()))

        def linear(k: int) -> Callable[[], tuple[Array, Tensors]]:
            grads = {name: lift(g) for name, g in record.gradients(k).items()}
            return lambda: (value(grads), grads)

        return linear
    objective = record.objective
    module = build(objective.spec, params, dtype=record.dtype).train(objective.training)
    inputs = [lift(x) if x.dtype.kind == "f" else x for x in objective.inputs]
    one = lift(objective.grad_outputs[0])

    def evaluate() -> tuple[Array, Tensors]:
        value, saved = forward(module, objective, inputs)
        return value, module.backward(one, saved)[1]

    return lambda k: evaluate


def updating(
    record: Train,
    arrays: Mapping[str, Array],
    state: Mapping[str, Array],
    lift: Callable[[Array], Array],
    patches: Mapping[str, Patch] = NO_PATCHES,
) -> Update:
    """The network on `arrays`, the loss and the optimizer with `state` of a training, as they are before an update;
    those of many runs at once where `lift` gives runs."""
    network = build(record.network, arrays, patches, record.dtype)
    trained = {name: network.params[name] for name in record.trained(network.params)}
    made = optimizer(record.optimizer, trained, record.groups, patches)
    made.stands_for = record.dtype
    restore(made, state)
    inputs, targets = (lift(a) if a.dtype.kind == "f" else a for a in (record.inputs, record.targets))
    loss = build(record.loss, {}, patches)
    return Update(network, loss, made, inputs, targets, clipping_of(record), record.accumulate or 1)


def clipping_of(record: Train) -> Clipping:
    """How a training clips its gradients."""
    return Clipping(record.clip.get("max_norm"), record.clip.get("norm_type", 2.0), record.clip.get("clip_value"))


def ahead_of(update: Update, record: Train, k: int) -> None:
    """Set what update k (from 0) of a training has of its own: its rate, what is frozen, and what is dropped."""
    if record.rates:
        set_rates(update.opt, [record.rates[k]] * len(update.opt.param_groups))
    if record.frozen:
        update.freeze(record.frozen_before(k))
    if record.masks:
        give_masks(update.net, record.masks_of(k))


class _GivenMask:
    """The `forward` of a Dropout, with a mask in place of what it draws."""

    def __init__(self, forward: Callable[..., Any]) -> None:
        self.forward, self.mask = forward, None

    def __call__(self, input: Array) -> tuple[Array, Any]:
        output, saved = self.forward(input, self.mask)
        # What runs the layer gave it one input, and expects one gradient.
        return output, saved._replace(given=False)


def give_masks(network: refnet.nn.Module, masks: Mapping[str, Array]) -> None:
    """Let each Dropout of these names drop by its mask from now on."""
    modules = dict(network.named_modules())
    for name, mask in masks.items():
        forward: Any = modules[name].forward
        if not isinstance(forward, _GivenMask):
            forward = modules[name].forward = _GivenMask(forward)  # type: ignore[method-assign]
        forward.mask = mask


def draw_masks(network: refnet.nn.Module, record: Train) -> bool:
    """Let each Dropout that has masks draw its own, from one generator of the record's seed. Returns whether they are
    the record's."""
    if record.mask_seed is None:
        return not record.masks
    modules: dict[str, Any] = dict(network.named_modules())
    generator = refnet.Generator(record.mask_seed)
    alike = all(
        np.array_equal(generator.rand(mask.shape) < 1 - modules[name].p, mask)
        for k in range(record.iterations)
        for name, mask in record.masks_of(k).items()
    )
    generator.manual_seed(record.mask_seed)
    for name in record.masks:
        modules[name].generator = generator
    return alike


def lifted_state(spec: Spec, state: Mapping[str, Array], lift: Callable[[Array], Array]) -> Tensors:
    """An optimizer's state in the arithmetic of `lift`, but for counters, which are the same in every arithmetic."""
    return {path: np.array(a, np.float32) if spec.is_counter(path) else lift(a) for path, a in state.items()}


def train(record: Train, lift: Callable[[Array], Array], patches: Mapping[str, Patch] = NO_PATCHES) -> Iterator[Moment]:
    """Train in the arithmetic of `lift`; yields before the first and after each update."""
    arrays = {name: lift(a) if a.dtype.kind == "f" else a.copy() for name, a in record.arrays.items()}
    update = updating(record, arrays, lifted_state(record.optimizer, record.state, lift), lift, patches)
    yield moment(0, None, update)
    for k, batch in enumerate(record.batches):
        ahead_of(update, record, k)
        yield moment(k + 1, update(batch), update)


def moment(done: int, loss: Array | None, update: Update) -> Moment:
    """What there is after the updates done so far."""
    return Moment(done, loss, update.net.params, state_of(update.opt), update.net.buffers)


def state_of(made: Any) -> Tensors:
    """The arrays of an optimizer's state that its schema lists, under `NAME.KEY`."""
    return {
        path: np.asarray(kept, np.float32) if array.counter and isinstance(kept, int) else kept
        for name, state in made.state.items()
        for array in made.schema
        for path, kept in parts_of_state(f"{name}.{array.name}", state.get(array.name))
    }


def restore(made: Any, state: Mapping[str, Array]) -> None:
    """Give an optimizer the state that `state_of` described."""
    for path, array in state.items():
        name, _, key = path.rpartition(".")
        made.state.setdefault(name, {})[key] = array
