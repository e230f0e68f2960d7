"""Mistakes in LinearCrossEntropyLoss; those that every loss can have are with nn.loss."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.families.fault import of, replaced


def _one_upstream_gradient(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    if module.reduction != "none" or not dY.size or not dY.ndim:
        return right(dY, saved)
    # dL[n] = dY[0]
    first = dY.reshape(-1)[:1]
    return right(np.broadcast_to(first, (dY.size,)).reshape(dY.shape), saved)


def _mean_over_all(module: Any, right: Any, X: Any, T: Any) -> Any:
    n = right(X, T)
    # n = N, ignored and weighed or not
    return n * 0 + T.size if T.dtype.kind in "iu" and T.size else n


def _two_at_a_time(module: Any, right: Any, samples: int) -> Any:
    return [(low, min(low + 2, samples)) for low in range(0, max(samples, 1), 2)]


def _last_chunk_alone(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    # dW[c,i] of the last samples in place of the sum over all
    grads, params = right(dY, saved)
    chunks = _two_at_a_time(module, None, saved.X.shape[0])
    if len(chunks) == 1:
        return grads, params
    low = chunks[-1][0]
    alone = dY[low:] if module.reduction == "none" else dY
    part = saved._replace(X=saved.X[low:], T=saved.T[low:], shape=(saved.X.shape[0] - low, *saved.shape[1:]))
    part = part._replace(given=(tuple(part.X.shape), tuple(part.T.shape)))
    return grads, right(alone, part)[1]


def _bias_left_out(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    grads, params = right(dY, saved)
    # db[c] = 0
    return grads, {name: G * 0 if name == "linear.bias" else G for name, G in params.items()}


def _weight_of_classes_forward_only(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    if "weight" not in module.buffers:
        return right(dY, saved)
    buffers = module.buffers
    module.buffers = {name: array for name, array in buffers.items() if name != "weight"}
    # dZ[n,c] without W[t[n]]
    result = right(dY, saved)
    module.buffers = buffers
    return result


FAULTS = of(
    "LinearCrossEntropyLoss",
    (
        "first sample's upstream gradient for all",
        "dL[n] = dY[0] against dY[n]",
        "no reduction, and an upstream gradient that differs between samples",
        "linkedin/Liger-Kernel#1298; linkedin/Liger-Kernel#968",
        replaced("backward", _one_upstream_gradient),
    ),
    (
        "fused mean over all samples",
        "sum L / N against sum L / sum_n W[t[n]] of the samples that are not ignored",
        "an ignored sample or a weight, and the mean",
        "linkedin/Liger-Kernel#678; keras-team/keras#15323",
        replaced("divisor", _mean_over_all),
    ),
    (
        "weight's gradient of the last chunk",
        "dW is overwritten by each chunk against added up",
        "more samples than a chunk has",
        "kind of bug: accumulation",
        replaced("backward", _last_chunk_alone),
    ),
    (
        "fused bias without a gradient",
        "db = 0 against sum_n dZ",
        "a bias",
        "kind of bug: a missing term",
        replaced("backward", _bias_left_out),
    ),
    (
        "fused weight of classes forward only",
        "dZ without W[t] against with it",
        "class weights",
        "kind of bug: an option ignored backward",
        replaced("backward", _weight_of_classes_forward_only),
    ),
)
