"""torch.nn's layers and losses as JAX's users write them: in jax.numpy and jax.nn, in jax.lax for a convolution, and
by optax's losses.

Each function takes the arguments of its class by name, its arrays under torch's names, its inputs, and whether it is in
training; it gives the output, and the buffers that it changes. Where JAX or optax has a function of its own, that is
what is called, so that its formulas are what is judged. Layers are as JAX's libraries of layers have them. A class that
none of these has is in `ABSENT`, with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from parity.engines.jax_activations import ACTIVATIONS, linear
from parity.engines.jax_attention import multihead, scaled_dot_product
from parity.engines.jax_losses import LOSSES
from parity.records.record import Spec, Unsupported, within

Array = Any
Args = Mapping[str, Any]
Arrays = Mapping[str, Array]
Made = tuple[Array, dict[str, Array]]


def apply(spec: Spec, arrays: Arrays, inputs: Sequence[Array], training: bool, names: Sequence[str] = ()) -> Made:
    """The output of a module, or its outputs, and its buffers where they change.

    Args:
        names: which arguments the inputs are; empty where they are the first ones in order.

    Raises:
        Unsupported: there is no such class here.
    """
    if spec.type == "Sequential":
        (x,), changed = inputs, dict[str, Array]()
        for k in spec.places:
            # A layer has the name of its first place.
            x, own = _inside(f"{spec.places.index(k)}.", spec.layers[k], {**arrays, **changed}, (x,), training)
            changed |= own
        return x, changed
    if spec.type == "Graph":
        return _graph(spec, arrays, inputs, training)
    if spec.type == "Objective":
        network, loss = spec.layers
        x, target = inputs
        y, changed = _inside("network.", network, arrays, (x,), training)
        value, _ = _inside("loss.", loss, arrays, (y, target), training)
        return value, changed
    if spec.type not in FUNCTIONS:
        raise Unsupported(ABSENT.get(spec.type, f"no {spec.type}"))
    by_name = dict(zip(names, inputs, strict=True)) if names else {}
    made = FUNCTIONS[spec.type](spec.args, arrays, *(() if names else inputs), **by_name, training=training)
    return made if spec.type in CHANGING else (made, {})


def _inside(prefix: str, spec: Spec, arrays: Arrays, inputs: Sequence[Array], training: bool) -> Made:
    output, changed = apply(spec, within(arrays, prefix), inputs, training)
    return output, {prefix + name: a for name, a in changed.items()}


def _graph(spec: Spec, arrays: Arrays, inputs: Sequence[Array], training: bool) -> Made:
    """Modules and operations on values with names: see `refnet.nn.Graph`."""
    values = dict(zip(spec.args.get("inputs", ("input",)), inputs, strict=True))
    changed: dict[str, Array] = {}
    for result, place, *names in spec.args["steps"]:
        given = [values[name] for name in names]
        if place in ("+", "*"):
            made = given[0]
            for x in given[1:]:
                made = made + x if place == "+" else made * x
        else:
            k = spec.places[int(place)]
            # A layer has the name of its first place.
            made, own = _inside(f"{spec.places.index(k)}.", spec.layers[k], {**arrays, **changed}, given, training)
            changed |= own
        several = isinstance(result, tuple)
        values.update(zip(result if several else (result,), made if isinstance(made, tuple) else (made,), strict=False))
    outputs = tuple(values[name] for name in spec.args.get("outputs", ("output",)))
    return outputs if len(outputs) > 1 else outputs[0], changed


# ---- layers


def _linear(args: Args, p: Arrays, x: Array, training: bool) -> Array:
    return linear(p, x)


def _flatten(args: Args, p: Arrays, x: Array, training: bool) -> Array:
    if x.ndim == 0:
        return x.reshape(1)
    start, end = args.get("start_dim", 1) % x.ndim, args.get("end_dim", -1) % x.ndim
    return x.reshape(*x.shape[:start], math.prod(x.shape[start : end + 1]), *x.shape[end + 1 :])


def _dropout(args: Args, p: Arrays, x: Array, *mask: Array, training: bool) -> Array:
    rate = args.get("p", 0.5)
    if not training:
        return x
    if not mask:
        raise Unsupported("draws of its own")
    return x * mask[0].astype(x.dtype) / (1 - rate) if rate < 1 else jnp.zeros_like(x)


def _layer_norm(args: Args, p: Arrays, x: Array, training: bool) -> Array:
    return _affine(_standardized(x, _last(args), args), p)


def _standardized(x: Array, axes: int | tuple[int, ...], args: Args) -> Array:
    """By the variance of two passes, which is torch's; JAX's default is that of one."""
    return jax.nn.standardize(x, axes, epsilon=args.get("eps", 1e-5), algorithm="stable")


def _last(args: Args) -> tuple[int, ...]:
    """The axes of `normalized_shape`."""
    shape = args["normalized_shape"]
    return tuple(range(-len(shape) if not isinstance(shape, int) else -1, 0))


def _rms_norm(args: Args, p: Arrays, x: Array, training: bool) -> Array:
    eps = args.get("eps")
    eps = jnp.finfo(x.dtype).eps if eps is None else eps
    return _affine(x * lax.rsqrt(jnp.mean(jnp.square(x), _last(args), keepdims=True) + eps), p)


def _group_norm(args: Args, p: Arrays, x: Array, training: bool) -> Array:
    groups = x.reshape(x.shape[0], args["num_groups"], -1) if x.size else x
    y = _standardized(groups, -1, args).reshape(x.shape)
    return _affine(y, _along_channels(p, x.ndim))


def _along_channels(p: Arrays, ndim: int) -> dict[str, Array]:
    """Weight and bias of the second axis, beside an input of that number of axes."""
    return {name: p[name].reshape(-1, *(1,) * (ndim - 2)) for name in ("weight", "bias") if name in p}


def _affine(y: Array, p: Arrays) -> Array:
    y = y * p["weight"] if "weight" in p else y
    return y + p["bias"] if "bias" in p else y


def _batch_norm(args: Args, p: Arrays, x: Array, training: bool) -> Made:
    axes, shape = (0, *range(2, x.ndim)), (-1, *(1,) * (x.ndim - 2))
    changed: dict[str, Array] = {}
    if training or "running_mean" not in p:
        mean, var = jnp.mean(x, axes), jnp.var(x, axes)
        if "running_mean" in p:
            n = math.prod(x.shape[axis] for axis in axes)
            count = p["num_batches_tracked"] + 1
            momentum = args.get("momentum", 0.1)
            share = 1 / count.astype(x.dtype) if momentum is None else momentum
            for name, new in (("running_mean", mean), ("running_var", var * n / (n - 1))) if n else ():
                changed[name] = (1 - share) * p[name] + share * lax.stop_gradient(new)
            changed["num_batches_tracked"] = count
    else:
        mean, var = p["running_mean"], p["running_var"]
    y = (x - mean.reshape(shape)) * lax.rsqrt(var + args.get("eps", 1e-5)).reshape(shape)
    return _affine(y, _along_channels(p, x.ndim)), changed


def _instance_norm(axes: int) -> Callable[..., Made]:
    """Of inputs with that number of axes behind the channels."""

    def apply_norm(args: Args, p: Arrays, x: Array, training: bool) -> Made:
        single = x.ndim == axes + 1
        batch = x[None] if single else x
        places, shape, eps = tuple(range(2, batch.ndim)), (-1, *(1,) * axes), args.get("eps", 1e-5)
        changed: dict[str, Array] = {}
        if training or "running_mean" not in p:
            y = _standardized(batch, places, args)
            momentum = args.get("momentum", 0.1)
            if "running_mean" in p and momentum is not None and x.size:
                new = {"running_mean": jnp.mean(batch, places), "running_var": jnp.var(batch, places, ddof=1)}
                for name, value in new.items():
                    moved = lax.stop_gradient(jnp.mean(value, 0))
                    changed[name] = (1 - momentum) * p[name] + momentum * moved
        else:
            mean, variance = p["running_mean"].reshape(shape), p["running_var"].reshape(shape)
            y = jax.nn.standardize(batch, places, mean=mean, variance=variance, epsilon=eps)
        y = _affine(y, _along_channels(p, batch.ndim))
        return y[0] if single else y, changed

    return apply_norm


def _embedding(args: Args, p: Arrays, input: Array, training: bool) -> Array:
    _plain_table(args)
    return _rows(args, p, input)


def _plain_table(args: Args) -> None:
    for option in ("max_norm", "scale_grad_by_freq"):
        if args.get(option):
            raise Unsupported(f"jax.numpy.take has no {option}")


def _rows(args: Args, p: Arrays, index: Array) -> Array:
    rows, padding = jnp.take(p["weight"], index, axis=0), args.get("padding_idx")
    if padding is None:
        return rows
    return jnp.where((index == padding % len(p["weight"]))[..., None], lax.stop_gradient(rows), rows)


def _embedding_bag(
    args: Args,
    p: Arrays,
    input: Array,
    offsets: Array | None = None,
    per_sample_weights: Array | None = None,
    *,
    training: bool,
) -> Array:
    """By jax.ops.segment_sum and segment_max, the bags being segments."""
    _plain_table(args)
    mode, n = args.get("mode", "mean"), input.size
    if offsets is None:
        bags, bag = input.shape[0], jnp.repeat(jnp.arange(input.shape[0]), input.shape[1])
    else:
        begins = offsets[:-1] if args.get("include_last_offset", False) else offsets
        bags, bag = begins.shape[0], jnp.searchsorted(begins, jnp.arange(n), side="right") - 1
    index = input.reshape(n)
    rows, padding = _rows(args, p, index), args.get("padding_idx")
    kept = index != (-1 if padding is None else padding % len(p["weight"]))
    # What is left out is in no bag.
    bag = jnp.where(kept, bag, bags)
    size = jax.ops.segment_sum(jnp.ones(n, rows.dtype), bag, bags)[:, None]
    if mode == "max":
        return jnp.where(size > 0, jax.ops.segment_max(rows, bag, bags), 0)
    if per_sample_weights is not None:
        rows = rows * per_sample_weights.reshape(n, 1)
    total = jax.ops.segment_sum(rows, bag, bags)
    return total / jnp.maximum(size, 1) if mode == "mean" else total


def _rotary(args: Args, p: Arrays, input: Array, cos: Array, sin: Array, training: bool) -> Array:
    r = cos.shape[-1]
    x, rest = input[..., : 2 * r], input[..., 2 * r :]
    if args.get("interleaved", False):
        x1, x2 = x[..., ::2], x[..., 1::2]
        y = jnp.stack([x1 * cos - x2 * sin, x1 * sin + x2 * cos], axis=-1).reshape(x.shape)
    else:
        x1, x2 = jnp.split(x, 2, axis=-1)
        y = jnp.concatenate([x1 * cos - x2 * sin, x1 * sin + x2 * cos], axis=-1)
    return jnp.concatenate([y, rest], axis=-1)


PAD_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def _conv2d(args: Args, p: Arrays, x: Array, training: bool) -> Array:
    kernel, dilation = p["weight"].shape[2:], _pair(args.get("dilation", 1))
    padding = args.get("padding", 0)
    if padding == "same":
        total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        pads = [(t // 2, t - t // 2) for t in total]
    else:
        pads = [(n, n) for n in _pair(0 if padding == "valid" else padding)]
    batch = x if x.ndim == 4 else x[None]
    mode = PAD_MODES[args.get("padding_mode", "zeros")]
    if mode != "constant":
        batch, pads = jnp.pad(batch, [(0, 0), (0, 0), *pads], mode=mode), [(0, 0), (0, 0)]
    y = lax.conv_general_dilated(
        batch,
        p["weight"],
        _pair(args.get("stride", 1)),
        pads,
        rhs_dilation=dilation,
        dimension_numbers=("NCHW", "OIHW", "NCHW"),
        feature_group_count=args.get("groups", 1),
    )
    y = y + p["bias"][:, None, None] if "bias" in p else y
    return y if x.ndim == 4 else y[0]


def _lstm_cell(args: Args, p: Arrays, x: Array, *state: Array, training: bool) -> tuple[Array, Array]:
    zeros = jnp.zeros((*x.shape[:-1], args["hidden_size"]), x.dtype)
    h, c = state or (zeros, zeros)
    z = x @ p["weight_ih"].T + h @ p["weight_hh"].T
    z = z + p["bias_ih"] + p["bias_hh"] if "bias_ih" in p else z
    i, f, g, o = jnp.split(z, 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


LAYERS: Mapping[str, Callable[..., Any]] = {
    "Linear": _linear,
    "Identity": lambda args, p, x, training: x,
    "Flatten": _flatten,
    "BatchNorm1d": _batch_norm,
    "BatchNorm2d": _batch_norm,
    "BatchNorm3d": _batch_norm,
    "InstanceNorm1d": _instance_norm(1),
    "InstanceNorm2d": _instance_norm(2),
    "InstanceNorm3d": _instance_norm(3),
    "LayerNorm": _layer_norm,
    "GroupNorm": _group_norm,
    "RMSNorm": _rms_norm,
    "Dropout": _dropout,
    "Embedding": _embedding,
    "EmbeddingBag": _embedding_bag,
    "ScaledDotProductAttention": scaled_dot_product,
    "MultiheadAttention": multihead,
    "RotaryEmbedding": _rotary,
    "Conv2d": _conv2d,
    "LSTMCell": _lstm_cell,
}

FUNCTIONS: Mapping[str, Callable[..., Any]] = {**LAYERS, **ACTIVATIONS, **LOSSES}
"""By torch's name of the class."""

CHANGING = frozenset(name for name in LAYERS if name.startswith(("BatchNorm", "InstanceNorm")))
"""Classes whose functions give their buffers too."""

ABSENT: Mapping[str, str] = {
    "Tanhshrink": "jax.nn has no tanhshrink",
    "Hardshrink": "jax.nn has no hardshrink",
    "Softshrink": "jax.nn has no softshrink",
    "Threshold": "jax.nn has no threshold",
    "RReLU": "jax.nn has no rrelu",
    "GaussianNLLLoss": "neither JAX nor optax has a Gaussian likelihood of clamped variances",
    "PoissonNLLLoss": "jax.scipy.stats.poisson has log(t!), which this loss leaves out",
    "HingeEmbeddingLoss": "optax.hinge_loss is that of a classifier, with a margin of 1",
    "MarginRankingLoss": "optax has no ranking by pairs",
    "MultiMarginLoss": "optax.multiclass_hinge_loss takes the largest violation, not their sum",
    "MultiLabelMarginLoss": "optax has no margin over several labels",
    "SmoothL1Loss": "optax has the loss of Huber alone, which is not divided by delta",
    "TripletMarginLoss": "optax.triplet_margin_loss adds eps to the sum of powers, and takes powers of signed numbers",
    "CosineEmbeddingLoss": "optax has the distance of cosines, and no loss with a margin for it",
    "TransformerEncoderLayer": "neither JAX nor optax has transformer layers",
    "TransformerDecoderLayer": "neither JAX nor optax has transformer layers",
    "TransformerEncoder": "neither JAX nor optax has transformer layers",
    "TransformerDecoder": "neither JAX nor optax has transformer layers",
    "Transformer": "neither JAX nor optax has transformer layers",
}
"""Why there is no function for a class."""
