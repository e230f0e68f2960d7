"""torch.nn's layers and losses as JAX's users write them: in jax.numpy and jax.nn, and in jax.lax for a convolution.

Each function takes the arguments of its class by name, its arrays under torch's names, its inputs, and whether it is in
training; it gives the output, and the buffers that it changes. Where JAX has a function of its own, that is what is
called, so that its formulas are what is judged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from parity.records.record import Spec, Unsupported, within

Array = Any
Args = Mapping[str, Any]
Arrays = Mapping[str, Array]
Made = tuple[Array, dict[str, Array]]


def apply(spec: Spec, arrays: Arrays, inputs: Sequence[Array], training: bool) -> Made:
    """The output of a module, or its outputs, and its buffers where they change.

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
    if spec.type == "Objective":
        network, loss = spec.layers
        x, target = inputs
        y, changed = _inside("network.", network, arrays, (x,), training)
        value, _ = _inside("loss.", loss, arrays, (y, target), training)
        return value, changed
    if spec.type not in FUNCTIONS:
        raise Unsupported(f"no {spec.type}")
    made = FUNCTIONS[spec.type](spec.args, arrays, *inputs, training=training)
    return made if spec.type in CHANGING else (made, {})


def _inside(prefix: str, spec: Spec, arrays: Arrays, inputs: Sequence[Array], training: bool) -> Made:
    output, changed = apply(spec, within(arrays, prefix), inputs, training)
    return output, {prefix + name: a for name, a in changed.items()}


# ---- layers


def _linear(args: Args, p: Arrays, x: Array, training: bool) -> Array:
    y = x @ p["weight"].T
    return y + p["bias"] if "bias" in p else y


def _flatten(args: Args, p: Arrays, x: Array, training: bool) -> Array:
    if x.ndim == 0:
        return x.reshape(1)
    start, end = args.get("start_dim", 1) % x.ndim, args.get("end_dim", -1) % x.ndim
    return x.reshape(*x.shape[:start], math.prod(x.shape[start : end + 1]), *x.shape[end + 1 :])


def _along(function: Callable[..., Array]) -> Callable[..., Array]:
    def apply_along(args: Args, p: Arrays, x: Array, training: bool) -> Array:
        axes = jnp.atleast_1d(x)
        return function(axes, axis=args["dim"]).reshape(x.shape)

    return apply_along


def _elementwise(function: Callable[[Array], Array]) -> Callable[..., Array]:
    return lambda args, p, x, training: function(x)


def _dropout(args: Args, p: Arrays, x: Array, *mask: Array, training: bool) -> Array:
    rate = args.get("p", 0.5)
    if not training:
        return x
    if not mask:
        raise Unsupported("draws of its own")
    return x * mask[0].astype(x.dtype) / (1 - rate) if rate < 1 else jnp.zeros_like(x)


def _layer_norm(args: Args, p: Arrays, x: Array, training: bool) -> Array:
    shape = args["normalized_shape"]
    axes = tuple(range(-len(shape) if not isinstance(shape, int) else -1, 0))
    mean, var = jnp.mean(x, axes, keepdims=True), jnp.var(x, axes, keepdims=True)
    return _affine((x - mean) * lax.rsqrt(var + args.get("eps", 1e-5)), p)


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
    return _affine(y, {name: p[name].reshape(shape) for name in ("weight", "bias") if name in p}), changed


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


# ---- losses


def _reduced(args: Args, losses: Array) -> Array:
    reductions = {"none": lambda x: x, "mean": jnp.mean, "sum": jnp.sum}
    return reductions[args.get("reduction", "mean")](losses)


def _loss(function: Callable[..., Array]) -> Callable[..., Array]:
    return lambda args, p, x, t, training: _reduced(args, function(p, x, t))


def _weighted(p: Arrays, losses: Array) -> Array:
    return losses * p["weight"] if "weight" in p else losses


def _clamped_log(x: Array, log: Callable[[Array], Array], safe: float) -> Array:
    """max(log, -100), with no infinite derivative where it is clamped."""
    inside = log(x) > -100
    return jnp.where(inside, log(jnp.where(inside, x, safe)), -100)


def _bce(p: Arrays, x: Array, t: Array) -> Array:
    some, other = _clamped_log(x, jnp.log, 1.0), _clamped_log(x, lambda x: jnp.log1p(-x), 0.0)
    return _weighted(p, -(t * some + (1 - t) * other))


def _bce_with_logits(p: Arrays, x: Array, t: Array) -> Array:
    some, other = jax.nn.log_sigmoid(x), jax.nn.log_sigmoid(-x)
    return _weighted(p, -(p.get("pos_weight", 1) * t * some + (1 - t) * other))


def _cross_entropy(args: Args, p: Arrays, x: Array, t: Array, training: bool) -> Array:
    axis = min(1, x.ndim - 1)
    count, smoothing = x.shape[axis], args.get("label_smoothing", 0.0)
    logp = jax.nn.log_softmax(x, axis=axis)
    along = (-1, *(1,) * (x.ndim - 1 - axis))
    weight = p["weight"].reshape(along) if "weight" in p else jnp.ones((), x.dtype)
    reduction = args.get("reduction", "mean")
    if jnp.issubdtype(t.dtype, jnp.floating):
        q = t * (1 - smoothing) + smoothing / count
        losses = -jnp.sum(weight * q * logp, axis=axis)
        return _reduced({"reduction": reduction}, losses)
    kept = t != args.get("ignore_index", -100)
    chosen = jnp.expand_dims(jnp.where(kept, t, 0), axis)
    weights = jnp.broadcast_to(weight, x.shape)
    own = jnp.squeeze(jnp.take_along_axis(weights, chosen, axis), axis) * kept
    losses = -own * jnp.squeeze(jnp.take_along_axis(logp, chosen, axis), axis)
    if smoothing:
        spread = -jnp.sum(weights * logp, axis=axis) * kept
        losses = (1 - smoothing) * losses + smoothing / count * spread
    if reduction == "mean":
        total = jnp.sum(own)
        # The mean of nothing is NaN, and does not depend on the input.
        return jnp.where(total == 0, jnp.nan, jnp.sum(losses) / jnp.where(total == 0, 1, total))
    return _reduced({"reduction": reduction}, losses)


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "Linear": _linear,
    "Identity": _elementwise(lambda x: x),
    "Flatten": _flatten,
    "Sigmoid": _elementwise(jax.nn.sigmoid),
    "Tanh": _elementwise(jnp.tanh),
    "ReLU": _elementwise(jax.nn.relu),
    "Softmax": _along(jax.nn.softmax),
    "LogSoftmax": _along(jax.nn.log_softmax),
    "BatchNorm1d": _batch_norm,
    "LayerNorm": _layer_norm,
    "Dropout": _dropout,
    "Conv2d": _conv2d,
    "LSTMCell": _lstm_cell,
    "MSELoss": _loss(lambda p, x, t: jnp.square(x - t)),
    "L1Loss": _loss(lambda p, x, t: jnp.abs(x - t)),
    "HalfSquaredError": lambda args, p, x, t, training: 0.5 * jnp.sum(jnp.square(t - x)),
    "BCELoss": _loss(_bce),
    "BCEWithLogitsLoss": _loss(_bce_with_logits),
    "CrossEntropyLoss": _cross_entropy,
}
"""By torch's name of the class."""

CHANGING = ("BatchNorm1d",)
"""Classes whose functions give their buffers too."""
