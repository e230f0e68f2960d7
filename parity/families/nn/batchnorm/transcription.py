"""torch.nn.BatchNorm1d, as its page says it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from mpmath import mp, mpf

from parity.families.mpmath_arrays import Array, Module, array_of, ratio


def batch_norm_1d(
    m: Module,
    x: Array,
    num_features: int,
    eps: float = 1e-5,
    momentum: float | None = 0.1,
    affine: bool = True,
    track_running_stats: bool = True,
    bias: bool = True,
) -> Array:
    """torch.nn.BatchNorm1d, of (N, C) or (N, C, L): y = (x - E[x]) / sqrt(Var[x] + ε) γ + β, for each channel.

    E and Var are the batch's, Var biased; in evaluation they are the running ones if those are tracked. Training moves
    each running statistic to (1 - momentum) times itself plus momentum times the batch's, of which the variance is
    unbiased here. Without a momentum it is the plain average over all batches: the momentum of the t-th is 1 / t.
    """

    def of(c: int) -> list[Any]:
        return [x[i] for i in np.ndindex(*x.shape) if i[1] == c]

    def squares(c: int) -> Any:
        return mp.fsum((v - mean[c]) ** 2 for v in of(c))

    C, count = num_features, x.size // num_features
    if m.training or not track_running_stats:
        mean = array_of((C,), lambda c: ratio(mp.fsum(of(c)), count))
        var = array_of((C,), lambda c: ratio(squares(c), count))
    else:
        mean, var = m.arrays["running_mean"], m.arrays["running_var"]
    if m.training and track_running_stats:
        t = m.arrays["num_batches_tracked"] + 1
        f = mpf(1) / int(t) if momentum is None else mpf(momentum)
        old_mean, old_var = m.arrays["running_mean"], m.arrays["running_var"]
        m.arrays["running_mean"] = array_of((C,), lambda c: (1 - f) * old_mean[c] + f * mean[c])
        m.arrays["running_var"] = array_of(
            (C,), lambda c: (1 - f) * old_var[c] + f * ratio(squares(c), max(count - 1, 0))
        )
        m.arrays["num_batches_tracked"] = np.asarray(t)

    gamma = m.arrays["weight"] if affine else array_of((C,), lambda c: mpf(1))
    beta = m.arrays["bias"] if affine and bias else array_of((C,), lambda c: mpf(0))

    def y(*i: int) -> Any:
        c = i[1]
        return (x[i] - mean[c]) / mp.sqrt(var[c] + mpf(eps)) * gamma[c] + beta[c]

    return array_of(x.shape, y)


LAYERS: Mapping[str, Callable[..., Any]] = {
    "BatchNorm1d": batch_norm_1d,
}
