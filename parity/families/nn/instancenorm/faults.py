"""Mistakes in InstanceNorm1d, 2d and 3d. Letters as there: b sample, c channel, l place, L places in all."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.families.fault import Fault, Unsupported, replaced
from parity.families.nn.instancenorm.formulas import KINDS, affine
from refnet.arithmetic import special


def _over(axes: tuple[int, ...]) -> Any:
    """Forward with the statistics of an instance over these axes of X (b, c, l) in place of the last."""

    def forward(module: Any, right: Any, input: Any) -> Any:
        Y, saved = right(input)
        X = input.reshape(*saved.H.shape)
        if not saved.instance or not X.size:
            return Y, saved
        N = int(np.prod([X.shape[axis] for axis in axes]))
        D = X - X.sum(axis=axes, keepdims=True) / N
        R = 1 / np.sqrt((D * D).sum(axis=axes, keepdims=True) / N + special.lift(module.eps, X))
        return affine(module, D * R, saved.shape), saved._replace(H=D * R)

    return forward


def _scaled_by(scale: Any) -> Any:
    """Forward with R = scale(V, eps, L) in place of 1 / sqrt(V + eps), of the instance's statistics."""

    def forward(module: Any, right: Any, input: Any) -> Any:
        Y, saved = right(input)
        X = input.reshape(*saved.H.shape)
        if not saved.instance or not X.size:
            return Y, saved
        L = X.shape[-1]
        D = X - X.sum(axis=-1, keepdims=True) / L
        R = scale((D * D).sum(axis=-1, keepdims=True) / L, special.lift(module.eps, X), L)
        return affine(module, D * R, saved.shape), saved._replace(H=D * R, R=R)

    return forward


def _own_statistics_in_evaluation(module: Any, right: Any, input: Any) -> Any:
    if module.training or not module.buffers:
        return right(input)
    buffers, module.buffers = module.buffers, {}
    try:
        # The statistics of the instance, in evaluation too
        return right(input)
    except ValueError as error:
        raise Unsupported(str(error)) from None
    finally:
        module.buffers = buffers


def _biased_running_variance(module: Any, right: Any, M: Any, S: Any, L: int) -> None:
    # var[c] = (1 - momentum) var[c] + momentum sum_b (S[b,c] / L) / B
    right(M, S * (L - 1) / L, L)


def _variance_of_all_instances(module: Any, right: Any, M: Any, S: Any, L: int) -> None:
    # var[c] moves to the variance of all samples together, the spread of their means added
    B = M.shape[-2]
    D = M - M.sum(axis=-2, keepdims=True) / B
    N = B * L
    spread = (S.sum(axis=-2, keepdims=True) + L * (D * D).sum(axis=-2, keepdims=True)) / (N - 1)
    right(M, S * 0 + spread * (L - 1), L)


def _statistics_of_the_first(module: Any, right: Any, M: Any, S: Any, L: int) -> None:
    # mean[c], var[c] move to the first sample's
    right(M[:1], S[:1], L)


def _counted(module: Any, right: Any, M: Any, S: Any, L: int) -> None:
    right(M, S, L)
    tracked = module.buffers["num_batches_tracked"]
    tracked[...] = tracked + 1


def _statistics_constant(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    # dX[b,c,l] = G[c] R[b,c] dY[b,c,l]
    return right(dY, saved._replace(instance=False))


def _divided_by_all(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    dX, grads = right(dY, saved)
    if not saved.instance or not saved.H.size:
        return dX, grads
    # dX[b,c,l] = G[c] R[b,c] (dY[b,c,l] - (sB[b,c] + H[b,c,l] sG[b,c]) / (B L))
    H, R, N = saved.H, saved.R, saved.H.shape[-3] * saved.H.shape[-1]
    G = dY.reshape(*H.shape)
    dD = G - (G.sum(axis=-1, keepdims=True) + H * (G * H).sum(axis=-1, keepdims=True)) / N
    dD = dD * module.params["weight"].reshape(H.shape[-2], 1) if "weight" in module.params else dD
    return (dD * R).reshape(*saved.shape), grads


def _without_the_mean(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    dX, grads = right(dY, saved)
    if not saved.instance or not saved.H.size:
        return dX, grads
    # dX[b,c,l] = G[c] R[b,c] (dY[b,c,l] - H[b,c,l] sG[b,c] / L)
    H, R, L = saved.H, saved.R, saved.H.shape[-1]
    G = dY.reshape(*H.shape)
    dD = G - H * (G * H).sum(axis=-1, keepdims=True) / L
    dD = dD * module.params["weight"].reshape(H.shape[-2], 1) if "weight" in module.params else dD
    return (dD * R).reshape(*saved.shape), grads


def _parameters_of_one_sample(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    dX, grads = right(dY, saved)
    if not grads:
        raise Unsupported("there is no weight")
    # dG[c] = sum_l dY[b,c,l] H[b,c,l]     dB[c] = sum_l dY[b,c,l]     of the last sample b
    G = dY.reshape(*saved.H.shape)
    last = {"weight": (G * saved.H)[-1:], "bias": G[-1:]}
    return dX, {name: last[name].sum(axis=(-3, -1)) for name in grads}


def _instancenorm(name: str, what: str, reveal: str, source: str, method: str, by: Any) -> Fault:
    return Fault(f"InstanceNorm: {name}", what, reveal, source, dict.fromkeys(KINDS, replaced(method, by)))


FAULTS = (
    _instancenorm(
        "statistics of the whole batch",
        "mean and variance over samples and places, as in batch normalization, against the places of one sample",
        "more than one sample",
        "kind of bug: batch normalization in its place",
        "forward",
        _over((-3, -1)),
    ),
    _instancenorm(
        "statistics of all channels",
        "mean and variance over channels and places, as in layer normalization, against the places of one channel",
        "more than one channel",
        "kind of bug: layer normalization in its place",
        "forward",
        _over((-2, -1)),
    ),
    _instancenorm(
        "eps outside the root",
        "D / (sqrt(V) + eps) against D / sqrt(V + eps)",
        "a small variance, or a large eps",
        "kind of bug: eps outside the root, in LayerNorm callummcdougall/ARENA_3.0#228",
        "forward",
        _scaled_by(lambda V, eps, L: 1 / (np.sqrt(V) + eps)),
    ),
    _instancenorm(
        "unbiased variance",
        "V L / (L - 1) against V under the root",
        "few places",
        "kind of bug: the unbiased variance",
        "forward",
        _scaled_by(lambda V, eps, L: 1 / np.sqrt(V * L / (L - 1) + eps)),
    ),
    _instancenorm(
        "running statistics not used in evaluation",
        "the instance's statistics against the running ones",
        "evaluation mode with running statistics",
        "kind of bug: a mode left out",
        "forward",
        _own_statistics_in_evaluation,
    ),
    _instancenorm(
        "running variance biased",
        "running var moves to the mean of S / L against S / (L - 1)",
        "few places; the buffers",
        "tinygrad/tinygrad#807, ml-explore/mlx#3817, tenstorrent/tt-metal#55438, brainpy/BrainPy#843",
        "track",
        _biased_running_variance,
    ),
    _instancenorm(
        "running variance of the whole batch",
        "running var moves to the variance of all samples together against the mean of the samples' variances",
        "more than one sample; the buffers",
        "kind of bug: batch normalization in its place",
        "track",
        _variance_of_all_instances,
    ),
    _instancenorm(
        "running statistics of the first sample",
        "running statistics move to one sample's against the mean over the samples",
        "more than one sample; the buffers",
        "kind of bug: a view written back in part",
        "track",
        _statistics_of_the_first,
    ),
    _instancenorm(
        "batches counted",
        "num_batches_tracked + 1 against left at 0, as torch leaves it",
        "running statistics; the buffers",
        "kind of bug: batch normalization in its place",
        "track",
        _counted,
    ),
    _instancenorm(
        "statistics taken for constants",
        "dX = G R dY against dX by the formula of the instance",
        "any",
        "kind of bug: a missing term",
        "backward",
        _statistics_constant,
    ),
    _instancenorm(
        "divided by the whole batch",
        "(sB + H sG) / (B L) against / L",
        "more than one sample",
        "kind of bug: another count",
        "backward",
        _divided_by_all,
    ),
    _instancenorm(
        "mean taken for a constant",
        "G R (dY - H sG / L) against G R (dY - (sB + H sG) / L)",
        "any",
        "kind of bug: a missing term",
        "backward",
        _without_the_mean,
    ),
    _instancenorm(
        "gradients of the parameters of one sample",
        "dG, dB of the last sample against sums over all",
        "more than one sample",
        "kind of bug: overwritten, not added up",
        "backward",
        _parameters_of_one_sample,
    ),
)
