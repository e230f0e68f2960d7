"""torch.nn's losses as JAX has them: optax's functions, and what they leave open in jax.numpy and jax.nn.

optax's functions give the loss of each sample or element; torch's classes weigh and reduce it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from parity.engines.jax_activations import linear
from parity.engines.optax_updates import package

Array = Any
Args = Mapping[str, Any]
Arrays = Mapping[str, Array]


def _optax() -> Any:
    return package("optax.losses")


def _reduced(args: Args, losses: Array) -> Array:
    reductions = {"none": lambda x: x, "mean": jnp.mean, "sum": jnp.sum}
    return reductions[args.get("reduction", "mean")](losses)


def _loss(function: Callable[..., Array]) -> Callable[..., Array]:
    return lambda args, p, x, t, training: _reduced(args, function(p, x, t))


def _with(function: Callable[..., Array], **defaults: Any) -> Callable[..., Array]:
    """A loss of input and target, and of some of the class's arguments, given with torch's defaults."""

    def apply_loss(args: Args, p: Arrays, x: Array, t: Array, training: bool) -> Array:
        return _reduced(args, function(x, t, **{name: args.get(name, value) for name, value in defaults.items()}))

    return apply_loss


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
    if "pos_weight" not in p:
        return _weighted(p, _optax().sigmoid_binary_cross_entropy(x, t))
    some, other = jax.nn.log_sigmoid(x), jax.nn.log_sigmoid(-x)
    return _weighted(p, -(p["pos_weight"] * t * some + (1 - t) * other))


def _multilabel_soft_margin(args: Args, p: Arrays, x: Array, t: Array, training: bool) -> Array:
    return _reduced(args, jnp.mean(_weighted(p, _optax().sigmoid_binary_cross_entropy(x, t)), axis=-1))


def _chosen(x: Array, t: Array, axis: int) -> Array:
    return jnp.squeeze(jnp.take_along_axis(x, jnp.expand_dims(t, axis), axis), axis)


def _of_log_probabilities(args: Args, p: Arrays, logp: Array, t: Array, plain: Array | None = None) -> Array:
    """The loss of class indices, smoothed by `label_smoothing`, reduced.

    Args:
        plain: the loss of every sample without weights and smoothing, where another function gives it.
    """
    axis, smoothing = min(1, logp.ndim - 1), args.get("label_smoothing", 0.0)
    kept, weights = _kept_and_weights(args, p, logp, t)
    index = jnp.where(kept, t, 0)
    own = _chosen(weights, index, axis) * kept
    losses = -own * _chosen(logp, index, axis) if plain is None else plain * kept
    if smoothing:
        spread = -jnp.sum(weights * logp, axis=axis) * kept
        losses = (1 - smoothing) * losses + smoothing / logp.shape[axis] * spread
    if args.get("reduction", "mean") != "mean":
        return _reduced(args, losses)
    total = jnp.sum(own)
    # The mean of nothing is NaN, and does not depend on the input.
    return jnp.where(total == 0, jnp.nan, jnp.sum(losses) / jnp.where(total == 0, 1, total))


def _kept_and_weights(args: Args, p: Arrays, x: Array, t: Array) -> tuple[Array, Array]:
    axis, ignored = min(1, x.ndim - 1), args.get("ignore_index")
    weight = p["weight"] if "weight" in p else jnp.ones(x.shape[axis], x.dtype)
    weights = jnp.broadcast_to(weight.reshape(-1, *(1,) * (x.ndim - 1 - axis)), x.shape)
    return t != (-100 if ignored is None else ignored), weights


def _cross_entropy(args: Args, p: Arrays, x: Array, t: Array, training: bool) -> Array:
    axis, smoothing = min(1, x.ndim - 1), args.get("label_smoothing", 0.0)
    plain = "weight" not in p and not smoothing
    if jnp.issubdtype(t.dtype, jnp.floating):
        if plain:
            losses = _optax().softmax_cross_entropy(x, t, axis)
        else:
            weights = _kept_and_weights(args, p, x, t)[1]
            q = t * (1 - smoothing) + smoothing / x.shape[axis]
            losses = -jnp.sum(weights * q * jax.nn.log_softmax(x, axis=axis), axis=axis)
        if args.get("reduction", "mean") == "mean":
            return jnp.sum(losses) / (x.size / x.shape[axis])
        return _reduced(args, losses)
    index = jnp.where(t != args.get("ignore_index", -100), t, 0)
    of_optax = _optax().softmax_cross_entropy_with_integer_labels(x, index, axis) if plain else None
    return _of_log_probabilities(args, p, jax.nn.log_softmax(x, axis=axis), t, of_optax)


def _nll(args: Args, p: Arrays, x: Array, t: Array, training: bool) -> Array:
    return _of_log_probabilities({**args, "label_smoothing": 0.0}, p, x, t)


def _linear_cross_entropy(args: Args, p: Arrays, x: Array, t: Array, training: bool) -> Array:
    logits = linear(p, x, "linear.")
    shape = (*x.shape[:-1], args["num_classes"], *args.get("out_features", ()))
    given = {name: value for name, value in args.items() if name != "ignore_index" or value is not None}
    return _cross_entropy(given, {k: a for k, a in p.items() if k == "weight"}, logits.reshape(shape), t, training)


def _huber(x: Array, t: Array, delta: float) -> Array:
    return _optax().huber_loss(x, t, delta=delta)


def _kl_div(args: Args, p: Arrays, x: Array, t: Array, training: bool) -> Array:
    optax = _optax()
    function = optax.kl_divergence_with_log_targets if args.get("log_target", False) else optax.kl_divergence
    losses = function(x, t, axis=())
    if args.get("reduction", "mean") == "batchmean":
        return jnp.sum(losses) / (x.shape[0] if x.ndim else 1)
    return _reduced(args, losses)


def _cosine_similarity(args: Args, p: Arrays, x1: Array, x2: Array, training: bool) -> Array:
    # optax's epsilon bounds the squares.
    x1, x2 = jnp.broadcast_arrays(x1, x2)
    return _optax().cosine_similarity(x1, x2, epsilon=args.get("eps", 1e-8) ** 2, axis=args.get("dim", 1))


def _pairwise_distance(args: Args, p: Arrays, x1: Array, x2: Array, training: bool) -> Array:
    d = x1 - x2 + args.get("eps", 1e-6)
    return jnp.linalg.norm(jnp.atleast_1d(d), ord=args.get("p", 2.0), axis=-1, keepdims=args.get("keepdim", False))


LOSSES: Mapping[str, Callable[..., Array]] = {
    "MSELoss": _loss(lambda p, x, t: _optax().squared_error(x, t)),
    "L1Loss": _loss(lambda p, x, t: jnp.abs(x - t)),
    "HalfSquaredError": lambda args, p, x, t, training: jnp.sum(_optax().l2_loss(t, x)),
    "HuberLoss": _with(_huber, delta=1.0),
    "BCELoss": _loss(_bce),
    "BCEWithLogitsLoss": _loss(_bce_with_logits),
    "SoftMarginLoss": _loss(lambda p, x, t: jax.nn.softplus(-t * x)),
    "MultiLabelSoftMarginLoss": _multilabel_soft_margin,
    "CrossEntropyLoss": _cross_entropy,
    "LinearCrossEntropyLoss": _linear_cross_entropy,
    "NLLLoss": _nll,
    "KLDivLoss": _kl_div,
    "CosineSimilarity": _cosine_similarity,
    "PairwiseDistance": _pairwise_distance,
}
