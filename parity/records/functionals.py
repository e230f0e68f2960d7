"""torch.nn.functional's names: which class each is, which of its arguments are arrays, and what they tell the class."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from itertools import chain
from typing import Any

import numpy as np

import refnet
from parity.records import arguments
from parity.records.arguments import Functional
from parity.records.arguments import functional as _of
from parity.records.arguments import loss as _loss
from parity.records.record import VJP, Spec, UsageError

OF_INPUT = {
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "logsigmoid": "LogSigmoid",
    "softsign": "Softsign",
    "tanhshrink": "Tanhshrink",
}
IN_PLACE = {
    "relu": "ReLU",
    "relu6": "ReLU6",
    "silu": "SiLU",
    "mish": "Mish",
    "selu": "SELU",
    "hardsigmoid": "Hardsigmoid",
    "hardswish": "Hardswish",
}
ALONG_AXIS = {"softmax": "Softmax", "log_softmax": "LogSoftmax", "softmin": "Softmin"}

FUNCTIONALS = {
    "linear": _of("Linear", lambda input, weight, bias=None: 0, "input", "weight bias", arguments.linear),
    **{name: _of(kind, lambda input: 0, "input") for name, kind in OF_INPUT.items()},
    **{name: _of(kind, lambda input, inplace=False: 0, "input") for name, kind in IN_PLACE.items()},
    **{name: _of(kind, lambda input, dim: 0, "input") for name, kind in ALONG_AXIS.items()},
    "gelu": _of("GELU", lambda input, approximate="none": 0, "input"),
    "softplus": _of("Softplus", lambda input, beta=1.0, threshold=20.0: 0, "input"),
    "elu": _of("ELU", lambda input, alpha=1.0, inplace=False: 0, "input"),
    "celu": _of("CELU", lambda input, alpha=1.0, inplace=False: 0, "input"),
    "leaky_relu": _of("LeakyReLU", lambda input, negative_slope=0.01, inplace=False: 0, "input"),
    # (of the class, so that the class of that name keeps arguments of its own: it is in training mode)
    "rrelu": replace(
        _of("RReLU", arguments.slopes, "input slopes", args=arguments.rrelu),
        of=lambda bound: "RReLU",
        training="training",
    ),
    "prelu": _of("PReLU", lambda input, weight: 0, "input", "weight", arguments.prelu),
    "hardtanh": _of("Hardtanh", lambda input, min_val=-1.0, max_val=1.0, inplace=False: 0, "input"),
    "hardshrink": _of("Hardshrink", lambda input, lambd=0.5: 0, "input"),
    "softshrink": _of("Softshrink", lambda input, lambd=0.5: 0, "input"),
    "threshold": _of("Threshold", lambda input, threshold, value, inplace=False: 0, "input"),
    "glu": _of("GLU", lambda input, dim=-1: 0, "input"),
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
    "scaled_dot_product_attention": _of(
        "ScaledDotProductAttention",
        arguments.attention,
        "query key value attn_mask dropout_mask",
        args=arguments.of_attention,
    ),
    "huber_loss": _loss("HuberLoss", lambda input, target, reduction="mean", delta=1.0: 0),
    "smooth_l1_loss": _loss("SmoothL1Loss", lambda input, target, reduction="mean", beta=1.0: 0),
    "nll_loss": _loss("NLLLoss", lambda input, target, weight=None, ignore_index=-100, reduction="mean": 0, "weight"),
    "kl_div": _loss("KLDivLoss", lambda input, target, reduction="mean", log_target=False: 0),
    "gaussian_nll_loss": _loss("GaussianNLLLoss", lambda input, target, var, full=False, eps=1e-6, reduction="mean": 0),
    "poisson_nll_loss": _loss(
        "PoissonNLLLoss", lambda input, target, log_input=True, full=False, eps=1e-8, reduction="mean": 0
    ),
    "soft_margin_loss": _loss("SoftMarginLoss", lambda input, target, reduction="mean": 0),
    "multilabel_soft_margin_loss": _loss(
        "MultiLabelSoftMarginLoss", lambda input, target, weight=None, reduction="mean": 0, "weight"
    ),
    "hinge_embedding_loss": _loss("HingeEmbeddingLoss", lambda input, target, margin=1.0, reduction="mean": 0),
    "margin_ranking_loss": _loss("MarginRankingLoss", lambda input1, input2, target, margin=0.0, reduction="mean": 0),
    "cosine_embedding_loss": _loss(
        "CosineEmbeddingLoss", lambda input1, input2, target, margin=0.0, reduction="mean": 0
    ),
    "triplet_margin_loss": _loss(
        "TripletMarginLoss",
        lambda anchor, positive, negative, margin=1.0, p=2.0, eps=1e-6, swap=False, reduction="mean": 0,
    ),
    "multi_margin_loss": _loss(
        "MultiMarginLoss", lambda input, target, p=1, margin=1.0, weight=None, reduction="mean": 0, "weight"
    ),
    "multilabel_margin_loss": _loss("MultiLabelMarginLoss", lambda input, target, reduction="mean": 0),
    "cosine_similarity": _loss("CosineSimilarity", lambda x1, x2, dim=1, eps=1e-8: 0),
    "pairwise_distance": _loss("PairwiseDistance", lambda x1, x2, p=2.0, eps=1e-6, keepdim=False: 0),
    "conv2d": _of(
        "Conv2d",
        lambda input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1: 0,
        "input",
        "weight bias",
        arguments.conv2d,
    ),
    "layer_norm": _of(
        "LayerNorm",
        lambda input, normalized_shape, weight=None, bias=None, eps=1e-5: 0,
        "input",
        "weight bias",
        arguments.layer_norm,
    ),
    "group_norm": _of(
        "GroupNorm",
        lambda input, num_groups, weight=None, bias=None, eps=1e-5: 0,
        "input",
        "weight bias",
        arguments.group_norm,
    ),
    "batch_norm": arguments.by_channel(
        "training",
        lambda input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5: 0,
    ),
    "instance_norm": arguments.by_channel(
        "use_input_stats",
        arguments.instances,
    ),
    "embedding": _of(
        "Embedding",
        lambda input, weight, padding_idx=None, max_norm=None, norm_type=2.0, scale_grad_by_freq=False, sparse=False: 0,
        "input",
        "weight",
        arguments.embedding,
    ),
    "embedding_bag": _of(
        "EmbeddingBag",
        arguments.bags,
        "input offsets per_sample_weights",
        "weight",
        arguments.embedding_bag,
    ),
    "rms_norm": _of(
        "RMSNorm", lambda input, normalized_shape, weight=None, eps=None: 0, "input", "weight", arguments.rms_norm
    ),
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
    alike = [known for known in covered() if known.lower().replace("_", "") == name.lower().replace("_", "")]
    near = alike or get_close_matches(name, covered(), n=3, cutoff=0.5)
    hint = f"; near it: {', '.join(near)}" if near else ""
    raise UsageError(
        f"check: expected a function or class of torch.nn that refnet covers, got {name!r}{hint}; "
        "else give an expression in NumPy, or parity.trusted(function), as the reference"
    )


def bind(name: str, functional: Functional, inputs: Sequence[Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a functional by name.

    Raises:
        UsageError: it does not take these.
    """
    free = _without_names(functional, options)
    try:
        if len(inputs) > len(free):
            functional.signature.bind(*inputs, **options)  # says what is too much
        bound = functional.signature.bind(**dict(zip(free, inputs, strict=False)), **options)
    except TypeError as error:
        raise UsageError(f"check: expected arguments of {name}{functional.signature}, got others: {error}") from None
    bound.apply_defaults()
    taken = (*functional.inputs, *functional.params)
    order = f"the arguments of {name}{functional.signature}"
    for given, value in bound.arguments.items():
        if isinstance(value, np.ndarray) and value.ndim and given not in taken:
            raise UsageError(
                f"check: expected {order} in this order, got an array of shape {value.shape} as {given}; "
                f"where your function does not take {given} there, give it by name, {given}=..., after the others"
            )
    for given in taken:
        value = bound.arguments.get(given)
        if value is not None and not isinstance(value, np.ndarray):
            raise UsageError(
                f"check: expected an array as {given}, got {type(value).__name__}; "
                f"what has no name is taken as {order}, in this order"
            )
    return dict(bound.arguments)


def _without_names(functional: Functional, named: Iterable[str]) -> list[str]:
    """The arguments that inputs without a name are, in their order: all that nobody gave by name."""
    named = set(named)
    return [given for given in functional.signature.parameters if given not in named]


def inputs_of(kind: str) -> int:
    """How many inputs a class takes."""
    return len([p for p in inspect.signature(getattr(refnet.nn, kind).forward).parameters if p != "self"])


def own_arrays_of(name: str, options: Mapping[str, Any]) -> list[str]:
    """The names of the parameters and buffers of a functional or a class."""
    look_up(name)
    functional = _functional(name)
    if functional is None:
        return list(chain(*_own_arrays(name, options)))
    return [given for given in functional.params if given in functional.signature.parameters]


def _own_arrays(kind: str, args: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """The names of a class's parameters and buffers, in the order of its state_dict."""
    try:
        made = getattr(refnet.nn, kind)(**args)
    except (TypeError, ValueError) as error:
        raise UsageError(f"check: expected arguments that {kind} takes, got others: {error}") from None
    return list(made.params), list(made.buffers)


def buffers_among(name: Any, count: int, keywords: Sequence[str], named: Iterable[str]) -> set[int]:
    """The numbers of the arrays of a functional that have no gradient: `count` of them in their order, then those given
    by keyword. `named` are all arguments that were given by keyword.
    """
    functional = _functional(name) if isinstance(name, str) else None
    if functional is None:
        return set()
    names = [*_without_names(functional, named)[:count], *keywords]
    return {k for k, given in enumerate(names) if given in _without_gradient(functional)}


def _functional(name: str) -> Functional | None:
    """The functional of that name, or that of the class of that name."""
    return FUNCTIONALS.get(name) or next((f for f in FUNCTIONALS.values() if f.type == name and not f.of), None)


def _without_gradient(functional: Functional) -> tuple[str, ...]:
    """Its buffers; of a loss the weights of its classes, which torch takes for constants."""
    return functional.params if functional.type.endswith("Loss") else functional.buffers


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
    look_up(name)
    functional = _functional(name)
    if functional is None:
        return _record_of_class(name, arrays, keywords, options)
    n = len(arrays) - len(keywords)
    by_name = {**options, **dict(zip(keywords, arrays[n:], strict=True))}
    bound = bind(name, functional, arrays[:n], by_name)
    if bound.get("running_mean") is not None:
        bound[COUNTER] = np.zeros((), np.int64)
    number = {given: k for k, given in enumerate([*_without_names(functional, by_name)[:n], *keywords])}
    inputs = [given for given in functional.inputs if bound[given] is not None]
    params = {given: bound[given] for given in functional.params if bound.get(given) is not None}
    places = places_of(len(inputs), [number[given] for given in inputs])
    constant = _without_gradient(functional)
    places |= {number[given]: f"grad.{given}" for given in params if given not in constant}
    try:
        kind = functional.of(bound) if functional.of else functional.type
        spec = Spec(kind, functional.args(bound))
    except (ValueError, TypeError, IndexError) as error:
        shapes = ", ".join(f"{given} of shape {bound[given].shape}" for given in [*inputs, *params])
        raise UsageError(f"check: expected {name}{functional.signature}, got {shapes}: {error}") from None
    training = bool(bound[functional.training]) if functional.training else True
    return VJP(spec, params, tuple(bound[given] for given in inputs), (), training), places


def _record_of_class(
    kind: str, arrays: Sequence[Any], keywords: Sequence[str], options: Mapping[str, Any]
) -> tuple[VJP, dict[int, str]]:
    """Of a class: its inputs come first, then the parameters that are not given by name. Buffers are, all of them."""
    n, m = inputs_of(kind), len(arrays) - len(keywords)
    if len(arrays) < n:
        raise UsageError(f"check: expected {n} inputs of {kind}, got {len(arrays)}")
    params, buffers = _own_arrays(kind, options)
    number = {name: m + k for k, name in enumerate(keywords) if name in (*params, *buffers)}
    others = [k for k in range(len(arrays)) if k not in number.values()]
    unnamed = [name for name in params if name not in number]
    if len(others) - n != len(unnamed):
        due = ", ".join(unnamed) or "no parameters"
        raise UsageError(f"check: expected {due} after the input, got {max(len(others) - n, 0)}")
    number |= dict(zip(unnamed, others[n:], strict=True))
    if lacking := [name for name in buffers if name not in number and name != COUNTER]:
        raise UsageError(
            f"check: expected the buffers of {kind} by their names, got no {', '.join(lacking)}; a module of one's own "
            f"registers them, and a function that keeps none is held against {kind} with track_running_stats=False"
        )
    held = {name: arrays[number[name]] for name in (*params, *buffers) if name in number}
    held |= {name: np.zeros((), np.int64) for name in buffers if name not in number}
    places = {**places_of(n, others[:n]), **{number[name]: f"grad.{name}" for name in params}}
    return VJP(Spec(kind, dict(options)), held, tuple(arrays[k] for k in others[:n]), ()), places


COUNTER = "num_batches_tracked"
"""The buffer that a module of one's own may lack: it counts calls, and is used without a momentum only."""


def with_eps(spec: Spec, eps: float) -> Spec:
    """The specification where the default eps of RMSNorm, another one in each format, is this number."""
    args = {**spec.args, "eps": eps} if spec.type == "RMSNorm" and spec.args.get("eps") is None else spec.args
    return replace(spec, args=args, layers=tuple(with_eps(layer, eps) for layer in spec.layers))


def writes(spec: Spec) -> tuple[str, ...]:
    """What a right module writes into beside its buffers: max_norm scales rows of the table itself."""
    return ("parameter weight",) if spec.args.get("max_norm") is not None else ()


def places_of(count: int, numbers: Iterable[int]) -> dict[int, str]:
    return {k: "grad_input" if count == 1 else f"grad_input.{place}" for place, k in enumerate(numbers)}
