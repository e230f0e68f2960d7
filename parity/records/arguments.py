"""What the arguments of torch.nn.functional tell a class: the specification that they make."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from parity.records.record import UsageError

Args = dict[str, Any]


@dataclass(frozen=True)
class Functional:
    """A functional and its class.

    Attributes:
        type: the class. signature: the arguments with their defaults, in order, as torch has them.
        inputs, params: which arguments `forward` takes, and which are parameters or buffers of the class.
        args: what the class is built with, from the bound arguments.
        of: the class, where it depends on the bound arguments. buffers: those of `params` that have no gradient.
        training: the argument that says whether the class is in training mode; always, if empty.
    """

    type: str
    signature: inspect.Signature
    inputs: tuple[str, ...]
    params: tuple[str, ...]
    args: Callable[[Mapping[str, Any]], Args]
    of: Callable[[Mapping[str, Any]], str] | None = None
    buffers: tuple[str, ...] = ()
    training: str = ""


def functional(
    kind: str, like: Callable[..., Any], inputs: str, params: str = "", args: Callable[[Any], Args] | None = None
) -> Functional:
    signature = inspect.signature(like)
    taken = (*inputs.split(), *params.split())

    def rest(bound: Mapping[str, Any]) -> Args:
        return {name: value for name, value in bound.items() if name not in taken}

    return Functional(kind, signature, tuple(inputs.split()), tuple(params.split()), args or rest)


def linear(bound: Mapping[str, Any]) -> Args:
    o, i = bound["weight"].shape
    return {"in_features": i, "out_features": o, "bias": bound["bias"] is not None}


def conv2d(bound: Mapping[str, Any]) -> Args:
    o, i, *kernel = bound["weight"].shape
    made = {name: bound[name] for name in ("stride", "padding", "dilation", "groups")}
    size = {"in_channels": i * bound["groups"], "out_channels": o, "kernel_size": tuple(kernel)}
    return {**size, **made, "bias": bound["bias"] is not None}


def layer_norm(bound: Mapping[str, Any]) -> Args:
    made = {"normalized_shape": tuple(bound["normalized_shape"]), "eps": bound["eps"]}
    return {**made, "elementwise_affine": bound["weight"] is not None, "bias": bound["bias"] is not None}


def loss(kind: str, like: Callable[..., Any], weight: str = "") -> Functional:
    """A loss, whose inputs come first, those without a default."""
    parameters = inspect.signature(like).parameters
    inputs = [name for name, p in parameters.items() if p.default is inspect.Parameter.empty]

    def rest(bound: Mapping[str, Any]) -> Args:
        return {k: v for k, v in bound.items() if k not in (*inputs, weight)}

    return functional(kind, like, " ".join(inputs), weight, rest)


def rms_norm(bound: Mapping[str, Any]) -> Args:
    made = {"normalized_shape": tuple(bound["normalized_shape"]), "eps": bound["eps"]}
    return {**made, "elementwise_affine": bound["weight"] is not None}


def group_norm(bound: Mapping[str, Any]) -> Args:
    made = {"num_groups": bound["num_groups"], "num_channels": bound["input"].shape[1], "eps": bound["eps"]}
    return {**made, "affine": bound["weight"] is not None, "bias": bound["bias"] is not None}


def by_channel(training: str, arguments: Callable[..., Any]) -> Functional:
    """A normalization with running statistics; `training` is the argument that says whether it is without them."""

    def args(bound: Mapping[str, Any]) -> Args:
        tracked = bound["running_mean"] is not None
        if tracked and bound[training]:
            raise UsageError(
                f"check: expected {training}=False with running statistics, which a function writes into with True"
            )
        made = {"num_features": bound["input"].shape[1], "eps": bound["eps"]}
        affine = bound["weight"] is not None
        return {**made, "affine": affine, "bias": bound["bias"] is not None, "track_running_stats": tracked}

    kind = "BatchNorm" if training == "training" else "InstanceNorm"
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    taken = ("weight", "bias", *buffers)

    def of(bound: Mapping[str, Any]) -> str:
        return f"{kind}{max(bound['input'].ndim - 2, 1)}d"

    return Functional(f"{kind}1d", inspect.signature(arguments), ("input",), taken, args, of, buffers, training)


def embedding(bound: Mapping[str, Any]) -> Args:
    if bound["max_norm"] is not None:
        raise UsageError("check: expected max_norm=None, as a function writes into its table with it")
    rows, size = bound["weight"].shape
    own = ("input", "weight", "offsets", "per_sample_weights")
    return {"num_embeddings": rows, "embedding_dim": size, **{n: v for n, v in bound.items() if n not in own}}


def bags(
    input: Any,
    weight: Any,
    offsets: Any = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Any = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> None:
    """torch's arguments of embedding_bag."""


def instances(
    input: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> None:
    """torch's arguments of instance_norm."""


def embedding_bag(bound: Mapping[str, Any]) -> Args:
    if bound["offsets"] is None and bound["per_sample_weights"] is not None:
        raise UsageError("check: expected offsets with per_sample_weights, got none")
    return embedding(bound)


def attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    dropout_mask: Any = None,
    scale: float | None = None,
    enable_gqa: bool = False,
    alignment: str = "upper_left",
) -> None:
    """torch's arguments; the mask that torch.ops.aten._scaled_dot_product_attention_math takes; and the alignment."""


def of_attention(bound: Mapping[str, Any]) -> Args:
    if bound["dropout_p"] and bound["dropout_mask"] is None:
        raise UsageError("check: expected a dropout_mask with dropout_p, as what is drawn can't be known, got none")
    return {name: bound[name] for name in ("dropout_p", "is_causal", "scale", "enable_gqa", "alignment")}


def slopes(
    input: Any,
    lower: float = 1 / 8,
    upper: float = 1 / 3,
    training: bool = False,
    inplace: bool = False,
    slopes: Any = None,
) -> None:
    """torch's arguments of rrelu, and the slopes that a function may be handed."""


def rrelu(bound: Mapping[str, Any]) -> Args:
    if bound["training"] and bound["slopes"] is None:
        raise UsageError("check: expected slopes with training=True, as what is drawn can't be known, got none")
    if bound["slopes"] is not None and not bound["training"]:
        raise UsageError("check: expected training=True with slopes, which evaluation leaves alone")
    return {name: bound[name] for name in ("lower", "upper", "inplace")}


def prelu(bound: Mapping[str, Any]) -> Args:
    return {"num_parameters": bound["weight"].size}
