"""Mistakes in MultiheadAttention, beside those of attention. Letters and axes as there."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.families.fault import Fault, Unsupported, replaced
from refnet.arithmetic import special


def _scaled_by_all_units(module: Any, right: Any, terms: Any) -> Any:
    # scale = 1 / sqrt(e)
    return right(terms._replace(scale=1 / np.sqrt(special.lift(module.embed_dim, terms.Q))))


def _weights_dropped(module: Any, right: Any, dY: Any, saved: Any, dW: Any) -> Any:
    if dW is None:
        raise Unsupported("no gradient of the weights")
    # dD[n,h,l,s] = what comes from the output
    return right(dY, saved, None)


def _mean_backward(module: Any, right: Any, dY: Any, saved: Any, dW: Any) -> Any:
    if dW is None or dW.shape[1] != 1:
        raise Unsupported("no mean of the weights")
    # dD[n,h,l,s] = dweights[n,l,s]
    return right(dY, saved, dW * module.num_heads)


def _summed_weights(module: Any, right: Any, *args: Any, **options: Any) -> Any:
    (Y, W), saved = right(*args, **options)
    if W is None or not options.get("average_attn_weights", True):
        raise Unsupported("no mean of the weights")
    # weights[n,l,s] = sum_h D[n,h,l,s]
    return (Y, W * module.num_heads), saved


def _of_one_sample(module: Any, right: Any, grad_output: Any, saved: Any) -> Any:
    dX, grads = right(grad_output, saved)
    if "bias_k" not in grads:
        raise Unsupported("no bias_k")
    # dbias_k[h,d] = sum_n dK[n,h,S,d] / N
    return dX, grads | {name: grads[name] / saved.X[1].shape[0] for name in ("bias_k", "bias_v")}


def _exchanged_projections(module: Any, right: Any) -> Any:
    # Wk and Wv exchanged, and bk and bv
    query, key, value = right()
    if key[0].shape != value[0].shape:
        raise Unsupported("kdim is not vdim")
    return [query, value, key]


def _one_bias(module: Any, right: Any, grad_output: Any, saved: Any) -> Any:
    dX, grads = right(grad_output, saved)
    if "in_proj_bias" not in grads:
        raise Unsupported("no bias")
    # dbv[e] = 0
    E, db = module.embed_dim, grads["in_proj_bias"]
    return dX, grads | {"in_proj_bias": np.concatenate([db[: 2 * E], db[2 * E :] * 0], axis=-1)}


def _appended_masked(module: Any, right: Any, padding: Any, pairs: Any, shape: Any, appended: int) -> Any:
    keep, added = right(padding, pairs, shape, appended)
    if keep is None or not appended:
        raise Unsupported("no mask, or no key is appended")
    # keep[n,h,l,s] = 0 for s from S on
    hidden = np.zeros((*keep.shape[:-1], appended), np.bool_)
    return np.concatenate([keep[..., : keep.shape[-1] - appended], hidden], axis=-1), added


def _padding_ignored(module: Any, right: Any, padding: Any, pairs: Any, shape: Any, appended: int) -> Any:
    if padding is None or pairs is None:
        raise Unsupported("not both masks")
    return right(None, pairs, shape, appended)


def _exchangeable(module: Any, right: Any, query: Any, key: Any, value: Any, *masks: Any, **options: Any) -> Any:
    sizes = {*query.shape[:-1], *key.shape[:-1]}
    if query.ndim == 2 or len(sizes) > 1 or any(np.ndim(mask) for mask in (*masks, *options.values())):
        raise Unsupported("a shape tells the axes apart")
    return right(query, key, value, *masks, **options)


def _order_of_axes(module: Any, right: Any, X: Any, *single: Any) -> Any:
    module.batch_first = not module.batch_first
    result = right(X, *single)
    module.batch_first = not module.batch_first
    return result


def _axes(module: Any) -> None:
    replaced("forward", _exchangeable)(module)
    for method in ("inside", "outside"):
        replaced(method, _order_of_axes)(module)


def _multihead(name: str, what: str, reveal: str, source: str, method: str, by: Any) -> Fault:
    return Fault(f"multihead: {name}", what, reveal, source, {"MultiheadAttention": replaced(method, by)})


FAULTS = (
    _multihead(
        "scaled by all units",
        "1 / sqrt(e) against 1 / sqrt(d)",
        "several heads",
        "kind of bug: the size of a head taken for that of all",
        "attend",
        _scaled_by_all_units,
    ),
    _multihead(
        "gradient of the weights dropped",
        "dD from the output alone",
        "an upstream gradient of the weights",
        "kind of bug: a missing term",
        "attend_backward",
        _weights_dropped,
    ),
    _multihead(
        "mean of the weights not differentiated",
        "dD = dweights against dweights / H",
        "an upstream gradient of the averaged weights",
        "kind of bug: a missing factor",
        "attend_backward",
        _mean_backward,
    ),
    _multihead(
        "weights summed over the heads",
        "sum_h D against sum_h D / H",
        "averaged weights, several heads",
        "kind of bug: a missing factor",
        "forward",
        _summed_weights,
    ),
    _multihead(
        "mean over the samples",
        "dbias_k = sum_n dK / N against sum_n dK",
        "add_bias_kv, several samples",
        "kind of bug: a factor too much",
        "backward",
        _of_one_sample,
    ),
    _multihead(
        "key and value exchanged",
        "rows of in_proj in the order q, v, k against q, k, v",
        "any",
        "kind of bug: the order of a packed weight",
        "projections",
        _exchanged_projections,
    ),
    _multihead(
        "bias of the value without gradient",
        "dbv = 0 against sum dV",
        "any bias",
        "kind of bug: a missing gradient",
        "backward",
        _one_bias,
    ),
    _multihead(
        "appended keys masked",
        "bias_k and zeros hidden by the mask",
        "add_bias_kv or add_zero_attn, a mask",
        "torch 2.13: is_causal without need_weights (docs/findings.md)",
        "masks",
        _appended_masked,
    ),
    _multihead(
        "padding ignored",
        "attn_mask alone against both masks",
        "both masks",
        "kind of bug: one mask overwrites the other",
        "masks",
        _padding_ignored,
    ),
    Fault(
        "multihead: order of axes",
        "(n, l, e) read as (l, n, e), or the other way",
        "as many samples as queries and keys",
        "kind of bug: batch_first ignored",
        {"MultiheadAttention": _axes},
    ),
)
