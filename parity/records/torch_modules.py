"""What a module of torch.nn is: the specification of its class with its arguments, and the record of a call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

import refnet
from parity.records import functionals
from parity.records.record import VJP, Spec, UsageError

Array = np.ndarray[Any, Any]
Args = Mapping[str, Any]

ATTRIBUTES = {
    ("PairwiseDistance", "p"): "norm",
    ("LinearCrossEntropyLoss", "in_features"): "linear.in_features",
    ("LinearCrossEntropyLoss", "bias"): "linear.bias",
    **{
        (f"Transformer{part}Layer", name): path
        for part in ("Encoder", "Decoder")
        for name, path in (
            ("d_model", "self_attn.embed_dim"),
            ("nhead", "self_attn.num_heads"),
            ("dim_feedforward", "linear1.out_features"),
            ("dropout", "dropout.p"),
            ("layer_norm_eps", "norm1.eps"),
            ("batch_first", "self_attn.batch_first"),
            ("bias", "linear1.bias"),
        )
    },
}
"""Where a torch module keeps an argument of its class under another name."""

LAYERS: Mapping[str, tuple[str, ...]] = {
    "TransformerEncoder": ("layers.0", "norm"),
    "TransformerDecoder": ("layers.0", "norm"),
    "Transformer": ("encoder", "decoder"),
}
"""Where it keeps those that are modules (`Facts.modules`)."""

CHANGED = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "parametrizations")
"""Attributes of a module that make it another function than its class."""

_ABSENT = object()


def class_name(module: Any) -> str:
    """The class of a module; of a scripted one, that which it was made from."""
    return str(getattr(module, "original_name", type(module).__name__))


def _attribute(module: Any, path: str) -> Any:
    """An attribute of a module, or of one inside it; _ABSENT where there is none."""
    for name in path.split("."):
        module = getattr(module, name, _ABSENT)
    return module


def spec_of_module(module: Any, kind: str) -> Spec:
    """The specification of a torch module of that class, from its attributes.

    Raises:
        UsageError: refnet does not cover the class, or it has what no attribute tells.
    """
    if kind == "Sequential":
        children = list(module.children())
        return Spec("Sequential", {}, tuple(spec_of_module(m, class_name(m)) for m in children))
    if not hasattr(refnet.nn, kind):
        raise UsageError(
            f"check: expected a module that refnet covers, got a {kind}; a module of one's own has a reference "
            "before its inputs, a name, an expression in NumPy or parity.trusted(function): "
            'parity.check(module, "rms_norm", x, normalized_shape=[8])'
        )
    inside = [found for path in LAYERS.get(kind, ()) if (found := _attribute(module, path)) is not None]
    layers = tuple(spec_of_module(m, class_name(m)) for m in inside)
    told = _TOLD[kind](module) if kind in _TOLD else {}
    args = {}
    for name, parameter in inspect.signature(getattr(refnet.nn, kind)).parameters.items():
        variadic = parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        if name in ELSEWHERE or variadic or name in Spec(kind).facts.modules or name in told:
            continue
        found = _attribute(module, ATTRIBUTES.get((kind, name), name))
        if name == "bias":
            args[name] = found is not None and found is not _ABSENT
        elif found is not _ABSENT:
            args[name] = found
        elif parameter.default is inspect.Parameter.empty:
            raise UsageError(f"check: expected a {kind} with the attribute {name}, got none")
    return Spec(kind, {**args, **told}, layers)


ELSEWHERE = ("dtype", "generator", "device", "weight", "pos_weight", "size_average", "reduce", "inplace")
"""Arguments that the record says otherwise, or that have no meaning in it."""


def _of_transformer_layer(module: Any) -> Args:
    """The activation of a transformer's layer, once its parts are seen to be those that its class makes."""
    kind = class_name(module)
    parts = dict(module.named_children())
    norms = [part for name, part in parts.items() if name.startswith("norm")]
    dropouts = [part for name, part in parts.items() if name.startswith("dropout")]
    for what, due in ((norms, "LayerNorm"), (dropouts, "Dropout")):
        if other := {class_name(part) for part in what} - {due}:
            raise UsageError(f"check: expected a {kind} with a {due} at each of its places, got {min(other)}")
    shares = {part.p for part in dropouts} | {part.dropout for name, part in parts.items() if name.endswith("attn")}
    for name, values in (("dropout", shares), ("layer_norm_eps", {part.eps for part in norms})):
        if len(values) > 1:
            came = " and ".join(map(str, sorted(values)))
            raise UsageError(f"check: expected a {kind} with one {name} in all its parts, got {came}")
    activation = module.activation
    name = getattr(activation, "__name__", "")
    if name in ("relu", "gelu"):
        return {"activation": name}
    if not hasattr(activation, "named_parameters"):
        raise UsageError(f"check: expected a {kind} whose activation is relu, gelu or a module, got {activation!r}")
    spec = spec_of_module(activation, class_name(activation))
    return {"activation": getattr(refnet.nn, spec.type)(**spec.args)}


def _of_stack(module: Any) -> Args:
    """None, once all layers are seen to be alike: a stack's class makes them copies of one."""
    first, *others = (spec_of_module(layer, class_name(layer)) for layer in module.layers)
    for k, other in enumerate(others, 1):
        if str(other) != str(first):
            raise UsageError(f"check: expected layers of a {class_name(module)} that are alike, got {other} as no. {k}")
    return {}


_TOLD: Mapping[str, Callable[[Any], Args]] = {
    "MultiheadAttention": lambda module: {
        "bias": module.in_proj_bias is not None,
        "add_bias_kv": module.bias_k is not None,
    },
    "TransformerEncoderLayer": _of_transformer_layer,
    "TransformerDecoderLayer": _of_transformer_layer,
    "TransformerEncoder": _of_stack,
    "TransformerDecoder": _of_stack,
    # Its encoder and decoder have their own, and no attribute says it.
    "Transformer": lambda module: {"bias": True},
}
"""What the attributes of a class say under other names."""


def given_together(module: Any) -> int:
    """How many of the last inputs a module takes as one tuple."""
    return Spec(class_name(getattr(module, "_orig_mod", module))).facts.together


# ---- records


def record_of_module(
    module: Any,
    values: Sequence[Any],
    to_numpy: Callable[[Any], Array],
    keywords: Sequence[str] = (),
    options: Args | None = None,
) -> tuple[VJP, dict[int, str]]:
    """The record that a call of a torch module makes, and the name of each value's gradient in an answer.

    Args:
        values: what it is called with, arrays or not. keywords: the names of the last ones, which are given by keyword.
        options: arguments of `forward` that are no arrays.

    Raises:
        UsageError: refnet does not cover the class, the module is not as torch has it, or it does not take these; or it
            draws random numbers.
    """
    module = getattr(module, "_orig_mod", module)
    kind = class_name(module)
    if isinstance(module, refnet.nn.Module):
        raise UsageError(
            f"check: expected a reference beside a module of refnet's, got none for {kind}: the name of a function or "
            "class of torch, or an expression"
        )
    for part in module.modules():
        for what in CHANGED:
            if getattr(part, what, None):
                raise UsageError(f"check: expected a {kind} as torch has it, got one with {what.strip('_')}")
    state = dict(module.state_dict())
    for name, tensor in state.items():
        if str(tensor.device) == "meta":
            raise UsageError(f"check: expected values in {name}, got a tensor on the meta device")
    params = {name: to_numpy(t) for name, t in state.items()}
    spec, training = spec_of_module(module, kind), bool(module.training)
    if training and (drawing := next(_drawing(spec), "")):
        instead = f"{kind}.eval()" if drawing == "RReLU" else f"{kind}.eval(), or no dropout"
        raise UsageError(f"check: expected {instead}: what {drawing} draws is not known")
    if not (spec.facts.options or keywords or options):
        return VJP(spec, params, tuple(values), (), training), functionals.places_of(len(values), range(len(values)))
    given = _arguments(module, kind, values, keywords, options or {})
    arrays = [name for name in spec.facts.inputs if isinstance(given.get(name), np.ndarray)]
    rest = {name: value for name, value in given.items() if name not in arrays and value is not None}
    if other := [name for name in rest if name not in spec.facts.options]:
        due = ", ".join((*spec.facts.inputs, *spec.facts.options))
        raise UsageError(f"check: expected arguments of {kind} among {due}, got {other[0]}={rest[other[0]]!r}")
    number = {name: k for k, name in enumerate(given)}
    places = functionals.places_of(len(arrays), [number[name] for name in arrays])
    spec = Spec(spec.type, {**spec.args, **rest}, spec.layers)
    return VJP(spec, params, tuple(given[name] for name in arrays), (), training, tuple(arrays)), places


def state_for(
    module: Any, reference: str, to_numpy: Callable[[Any], Array], keywords: Sequence[str], options: Args
) -> dict[str, Array]:
    """The parameters and buffers of a module that the reference takes under their names; none of a function.

    Args:
        reference: the name of a functional or a class. keywords, options: what the reference is given already.

    Raises:
        UsageError: the module has a parameter that the reference does not take.
    """
    module = getattr(module, "_orig_mod", module)
    if not hasattr(module, "named_parameters"):
        return {}
    taken = functionals.own_arrays_of(reference, options)
    params = [name for name, _ in module.named_parameters()]
    if taken and (other := [name for name in params if name not in taken]):
        due = f"called as {reference} has them ({', '.join(taken)})"
        raise UsageError(
            f"check: expected the parameters of {class_name(module)} {due}, got {', '.join(other)}; "
            "a function that takes them as inputs is made by torch.func.functional_call"
        )
    state = dict(module.state_dict())
    return {name: to_numpy(state[name]) for name in taken if name in state and name not in (*keywords, *options)}


def _arguments(module: Any, kind: str, values: Sequence[Any], keywords: Sequence[str], options: Args) -> dict[str, Any]:
    """What `forward` is called with, by name, in the order of the values."""
    n = len(values) - len(keywords)
    signature = inspect.signature(module.forward)
    named = {**dict(zip(keywords, values[n:], strict=True)), **options}
    try:
        signature.bind(*values[:n], **named)
    except TypeError as error:
        raise UsageError(f"check: expected arguments of {kind}{signature}, got others: {error}") from None
    return {**dict(zip(signature.parameters, values[:n], strict=False)), **named}


def _drawing(spec: Spec) -> Iterator[str]:
    """The classes inside that draw random numbers in training."""
    facts = spec.facts
    share = spec.args.get("dropout", spec.args.get("p", 0))
    if spec.type == "RReLU" or ((facts.draws or facts.dropout_masks) and 0 < share < 1):
        yield spec.type
    for layer in spec.layers:
        yield from _drawing(layer)
