"""torch.nn.functional's names: which class each is, which of its arguments are arrays, and what they tell the class."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np

import refnet
from parity.records.record import VJP, Array, Spec, UsageError

Args = dict[str, Any]


@dataclass(frozen=True)
class Functional:
    """A functional and its class.

    Attributes:
        type: the class. signature: the arguments with their defaults, in order, as torch has them.
        inputs, params: which arguments `forward` takes, and which are parameters or buffers of the class.
        args: what the class is built with, from the bound arguments.
    """

    type: str
    signature: inspect.Signature
    inputs: tuple[str, ...]
    params: tuple[str, ...]
    args: Callable[[Mapping[str, Any]], Args]


def _of(
    kind: str, like: Callable[..., Any], inputs: str, params: str = "", args: Callable[[Any], Args] | None = None
) -> Functional:
    signature = inspect.signature(like)
    taken = (*inputs.split(), *params.split())

    def rest(bound: Mapping[str, Any]) -> Args:
        return {name: value for name, value in bound.items() if name not in taken}

    return Functional(kind, signature, tuple(inputs.split()), tuple(params.split()), args or rest)


def _linear(bound: Mapping[str, Any]) -> Args:
    o, i = bound["weight"].shape
    return {"in_features": i, "out_features": o, "bias": bound["bias"] is not None}


def _conv2d(bound: Mapping[str, Any]) -> Args:
    o, i, *kernel = bound["weight"].shape
    made = {name: bound[name] for name in ("stride", "padding", "dilation", "groups")}
    size = {"in_channels": i * bound["groups"], "out_channels": o, "kernel_size": tuple(kernel)}
    return {**size, **made, "bias": bound["bias"] is not None}


def _layer_norm(bound: Mapping[str, Any]) -> Args:
    made = {"normalized_shape": tuple(bound["normalized_shape"]), "eps": bound["eps"]}
    return {**made, "elementwise_affine": bound["weight"] is not None, "bias": bound["bias"] is not None}


def _rms_norm(bound: Mapping[str, Any]) -> Args:
    made = {"normalized_shape": tuple(bound["normalized_shape"]), "eps": bound["eps"]}
    return {**made, "elementwise_affine": bound["weight"] is not None}


FUNCTIONALS = {
    "linear": _of("Linear", lambda input, weight, bias=None: 0, "input", "weight bias", _linear),
    "sigmoid": _of("Sigmoid", lambda input: 0, "input"),
    "tanh": _of("Tanh", lambda input: 0, "input"),
    "relu": _of("ReLU", lambda input: 0, "input"),
    "gelu": _of("GELU", lambda input, approximate="none": 0, "input"),
    "silu": _of("SiLU", lambda input: 0, "input"),
    "softmax": _of("Softmax", lambda input, dim: 0, "input"),
    "log_softmax": _of("LogSoftmax", lambda input, dim: 0, "input"),
    "mse_loss": _of("MSELoss", lambda input, target, reduction="mean": 0, "input target"),
    "l1_loss": _of("L1Loss", lambda input, target, reduction="mean": 0, "input target"),
    "binary_cross_entropy": _of(
        "BCELoss", lambda input, target, weight=None, reduction="mean": 0, "input target", "weight"
    ),
    "binary_cross_entropy_with_logits": _of(
        "BCEWithLogitsLoss",
        lambda input, target, weight=None, reduction="mean", pos_weight=None: 0,
        "input target",
        "weight pos_weight",
    ),
    "cross_entropy": _of(
        "CrossEntropyLoss",
        lambda input, target, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0: 0,
        "input target",
        "weight",
    ),
    "conv2d": _of(
        "Conv2d",
        lambda input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1: 0,
        "input",
        "weight bias",
        _conv2d,
    ),
    "layer_norm": _of(
        "LayerNorm",
        lambda input, normalized_shape, weight=None, bias=None, eps=1e-5: 0,
        "input",
        "weight bias",
        _layer_norm,
    ),
    "rms_norm": _of("RMSNorm", lambda input, normalized_shape, weight=None, eps=None: 0, "input", "weight", _rms_norm),
}
"""By torch's name. A class that refnet does not have yet is no reference yet."""


def covered() -> list[str]:
    """The functionals and classes that are references."""
    classes = [name for name in refnet.nn.__all__ if isinstance(getattr(refnet.nn, name), type) and name != "Module"]
    return [*(name for name, f in FUNCTIONALS.items() if hasattr(refnet.nn, f.type)), *classes]


def look_up(name: str) -> Functional | None:
    """The functional of that name; None where it is a class.

    Raises:
        UsageError: it is neither.
    """
    if name in covered():
        return FUNCTIONALS.get(name)
    near = get_close_matches(name, covered(), n=3, cutoff=0.5)
    hint = f"; near it: {', '.join(near)}" if near else ""
    raise UsageError(f"check: expected a function or class of torch.nn that refnet covers, got {name!r}{hint}")


def bind(name: str, functional: Functional, inputs: Sequence[Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a functional by name.

    Raises:
        UsageError: it does not take these.
    """
    try:
        bound = functional.signature.bind(*inputs, **options)
    except TypeError as error:
        raise UsageError(f"check: expected arguments of {name}{functional.signature}, got others: {error}") from None
    bound.apply_defaults()
    return dict(bound.arguments)


def spec_of_module(module: Any, kind: str) -> Spec:
    """The specification of a torch module of that class, from its attributes.

    Raises:
        UsageError: refnet does not cover the class, or it has what no attribute tells.
    """
    if kind == "Sequential":
        children = list(module.children())
        return Spec("Sequential", {}, tuple(spec_of_module(m, class_name(m)) for m in children))
    if not hasattr(refnet.nn, kind):
        look_up(kind)
    args = {}
    for name, parameter in inspect.signature(getattr(refnet.nn, kind)).parameters.items():
        if name in ("dtype", "generator", "device", "weight", "pos_weight", "size_average", "reduce", "inplace"):
            continue
        if name == "bias":
            args[name] = getattr(module, "bias", None) is not None
        elif hasattr(module, name):
            args[name] = getattr(module, name)
        elif parameter.default is inspect.Parameter.empty:
            raise UsageError(f"check: expected a {kind} with the attribute {name}, got none")
    return Spec(kind, args)


def class_name(module: Any) -> str:
    """The class of a module; of a scripted one, that which it was made from."""
    return str(getattr(module, "original_name", type(module).__name__))


def inputs_of(kind: str) -> int:
    """How many inputs a class takes."""
    return len([p for p in inspect.signature(getattr(refnet.nn, kind).forward).parameters if p != "self"])


def arrays_in_order(kind: str, args: Mapping[str, Any], arrays: Sequence[Array]) -> dict[str, Array]:
    """Arrays under the names of a class's parameters, in the order of its state_dict."""
    try:
        names = list(getattr(refnet.nn, kind)(**args).params)
    except (TypeError, ValueError) as error:
        raise UsageError(f"check: expected arguments that {kind} takes, got others: {error}") from None
    if len(names) != len(arrays):
        raise UsageError(f"check: expected {', '.join(names) or 'no parameters'} after the input, got {len(arrays)}")
    return dict(zip(names, arrays, strict=True))


# ---- records


def record_of(
    name: str, arrays: Sequence[Any], keywords: Sequence[str], options: Mapping[str, Any]
) -> tuple[VJP, dict[int, str]]:
    """The record that a functional or a class makes of arrays, and the name of each array's gradient in an answer.

    Args:
        keywords: the names of the last arrays, which were given by keyword.

    Raises:
        UsageError: there is no such reference, or it does not take these.
    """
    functional = look_up(name) or next((f for f in FUNCTIONALS.values() if f.type == name), None)
    if functional is None:
        return _record_of_class(name, arrays, options)
    n = len(arrays) - len(keywords)
    bound = bind(name, functional, arrays[:n], {**options, **dict(zip(keywords, arrays[n:], strict=True))})
    number = {given: k for k, given in enumerate([*list(bound)[:n], *keywords])}
    inputs = [given for given in functional.inputs if bound[given] is not None]
    params = {given: bound[given] for given in functional.params if bound[given] is not None}
    for given in (*inputs, *params):
        if not isinstance(bound[given], np.ndarray):
            raise UsageError(f"check: expected an array as {given}, got {type(bound[given]).__name__}")
    places = _places(len(inputs), [number[given] for given in inputs])
    if not functional.type.endswith("Loss"):
        places |= {number[given]: f"grad.{given}" for given in params}
    try:
        spec = Spec(functional.type, functional.args(bound))
    except (ValueError, TypeError, IndexError) as error:
        raise UsageError(f"check: expected arguments that {name}{functional.signature} takes, got: {error}") from None
    return VJP(spec, params, tuple(bound[given] for given in inputs), ()), places


def _record_of_class(kind: str, arrays: Sequence[Any], options: Mapping[str, Any]) -> tuple[VJP, dict[int, str]]:
    n = inputs_of(kind)
    if len(arrays) < n:
        raise UsageError(f"check: expected {n} inputs of {kind}, got {len(arrays)}")
    params = arrays_in_order(kind, options, arrays[n:])
    places = {**_places(n, range(n)), **{n + k: f"grad.{name}" for k, name in enumerate(params)}}
    return VJP(Spec(kind, dict(options)), params, tuple(arrays[:n]), ()), places


def record_of_module(
    module: Any, arrays: Sequence[Any], to_numpy: Callable[[Any], Array]
) -> tuple[VJP, dict[int, str]]:
    """The record that a torch module's class makes of arrays.

    Raises:
        UsageError: refnet does not cover the class, or the module is not as torch has it.
    """
    module = getattr(module, "_orig_mod", module)
    kind = class_name(module)
    for part in module.modules():
        for what in CHANGED:
            if getattr(part, what, None):
                raise UsageError(f"check: expected a {kind} as torch has it, got one with {what.strip('_')}")
    state = dict(module.state_dict())
    for name, tensor in state.items():
        if str(tensor.device) == "meta":
            raise UsageError(f"check: expected values in {name}, got a tensor on the meta device")
    params = {name: to_numpy(t) for name, t in state.items()}
    record = VJP(spec_of_module(module, kind), params, tuple(arrays), (), bool(module.training))
    return record, _places(len(arrays), range(len(arrays)))


CHANGED = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "parametrizations")
"""Attributes of a module that make it another function than its class."""


def _places(count: int, numbers: Iterable[int]) -> dict[int, str]:
    return {k: "grad_input" if count == 1 else f"grad_input.{place}" for place, k in enumerate(numbers)}
