"""Attention in JAX: jax.nn.dot_product_attention, whose axes are (sample, position, head, unit), and a layer of several
heads as JAX's libraries of layers write it, with jax.nn.softmax."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from parity.engines.jax_activations import linear
from parity.records.record import Unsupported

Array = Any
Args = Mapping[str, Any]
Arrays = Mapping[str, Array]


def scaled_dot_product(
    args: Args,
    p: Arrays,
    query: Array,
    key: Array,
    value: Array,
    attn_mask: Array | None = None,
    dropout_mask: Array | None = None,
    *,
    training: bool,
) -> Array:
    """Of arrays (..., head, position, unit)."""
    function = "jax.nn.dot_product_attention"
    if dropout_mask is not None or (args.get("dropout_p", 0.0) and training):
        raise Unsupported(f"{function} has no dropout")
    if args.get("alignment", "upper_left") != "upper_left":
        raise Unsupported(f"{function} aligns its causal mask with the first query and the first key")
    if key.shape != value.shape:
        raise Unsupported(f"{function} takes keys and values of one shape")
    if query.size == 0 or key.size == 0:
        raise Unsupported(f"{function} divides by the number of heads of an empty array")
    masks = {}
    if attn_mask is not None:
        if query.ndim > 4:
            raise Unsupported(f"{function} takes a mask with one axis of samples")
        mask = attn_mask.reshape(*(1,) * (4 - attn_mask.ndim), *attn_mask.shape)
        # One axis of heads is the last of those before the positions.
        mask = mask.swapaxes(0, 1) if query.ndim == 2 else mask
        masks["mask" if mask.dtype == bool else "bias"] = mask
    q, k, v = (_four_axes(x).swapaxes(1, 2) for x in (query, key, value))
    y = jax.nn.dot_product_attention(q, k, v, scale=args.get("scale"), is_causal=args.get("is_causal", False), **masks)
    return y.swapaxes(1, 2).reshape(query.shape)


def _four_axes(x: Array) -> Array:
    """(sample, head, position, unit)"""
    heads = x.shape[-3] if x.ndim > 2 else 1
    return x.reshape(math.prod(x.shape[:-3]), heads, *x.shape[-2:])


def multihead(
    args: Args,
    p: Arrays,
    query: Array,
    key: Array,
    value: Array,
    key_padding_mask: Array | None = None,
    attn_mask: Array | None = None,
    dropout_mask: Array | None = None,
    *,
    training: bool,
) -> Any:
    """Output and weights, or the output alone without `need_weights`."""
    rate = args.get("dropout", 0.0) if training else 0.0
    if rate and dropout_mask is None:
        raise Unsupported("draws of its own")
    single, heads = query.ndim == 2, args["num_heads"]
    first = args.get("batch_first", False) or single
    q, k, v = (
        _projected(p, x if first else x.swapaxes(0, 1), name, place, heads)
        for place, (name, x) in enumerate((("q", query), ("k", key), ("v", value)))
    )
    if single:
        q, k, v = (x[None] for x in (q, k, v))
    n, length, _, unit = q.shape
    keys = k.shape[1]
    if "bias_k" in p:
        k, v = (_appended(x, p[name].reshape(1, 1, heads, unit)) for x, name in ((k, "bias_k"), (v, "bias_v")))
    if args.get("add_zero_attn", False):
        k, v = (_appended(x, jnp.zeros((1, 1, heads, unit), x.dtype)) for x in (k, v))
    scores = jnp.einsum("nlhd,nshd->nhls", q / jnp.sqrt(unit).astype(q.dtype), k)
    more = k.shape[1] - keys
    if key_padding_mask is not None:
        scores = _masked(scores, key_padding_mask.reshape(n, 1, 1, keys), more)
    if attn_mask is not None:
        of_heads = attn_mask if attn_mask.ndim == 2 else attn_mask.reshape(n, heads, length, keys)
        scores = _masked(scores, of_heads, more)
    weights = jax.nn.softmax(scores, axis=-1)
    if rate and dropout_mask is not None:
        weights = weights * dropout_mask.reshape(weights.shape).astype(weights.dtype) / (1 - rate)
    y = linear(p, jnp.einsum("nhls,nshd->nlhd", weights, v).reshape(n, length, heads * unit), "out_proj.")
    y = y[0] if single else y if first else y.swapaxes(0, 1)
    if not args.get("need_weights", True):
        return y
    given = jnp.mean(weights, axis=1) if args.get("average_attn_weights", True) else weights
    return y, given[0] if single else given


def _projected(p: Arrays, x: Array, name: str, place: int, heads: int) -> Array:
    """(..., position, head, unit)"""
    units = p["out_proj.weight"].shape[0]
    rows = slice(place * units, (place + 1) * units)
    weight = p["in_proj_weight"][rows] if "in_proj_weight" in p else p[f"{name}_proj_weight"]
    y = x @ weight.T
    y = y + p["in_proj_bias"][rows] if "in_proj_bias" in p else y
    return y.reshape(*y.shape[:-1], heads, units // heads)


def _masked(scores: Array, mask: Array, appended: int) -> Array:
    """Scores that a boolean mask hides where it is True, or to which a mask is added; not those of appended keys."""
    spread = jnp.pad(mask, [(0, 0)] * (mask.ndim - 1) + [(0, appended)])
    return jnp.where(spread, jnp.finfo(scores.dtype).min, scores) if mask.dtype == bool else scores + spread


def _appended(x: Array, row: Array) -> Array:
    return jnp.concatenate([x, jnp.broadcast_to(row, (x.shape[0], *row.shape[1:]))], axis=1)
