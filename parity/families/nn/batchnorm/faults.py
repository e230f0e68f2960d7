"""Mistakes in BatchNorm1d, 2d and 3d. Letters and axes as there: c channel, n sample, N samples in all."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.families.fault import Fault, Patch, as_stored, replaced
from parity.families.nn.batchnorm.formulas import KINDS
from refnet.arithmetic import special


def _variance(X: Any, mean: Any, var: Any, saved: Any) -> tuple[Any, Any]:
    """D (n, c) and V (c) as the layer has them; `mean` and `var` are the running statistics before the call."""
    _, _, n, N, channel, batch = saved
    if not batch:
        return X - mean.reshape(*channel), var.reshape(*channel)
    # M[c] = sum_n X[n,c] / N     D[n,c] = X[n,c] - M[c]     V[c] = sum_n D[n,c]^2 / N
    D = X - X.sum(axis=n, keepdims=True) / max(N, 1)
    return D, (D * D).sum(axis=n, keepdims=True) / max(N, 1)


def scaled_by(scale: Any) -> Patch:
    """R = scale(V, eps, N, batch)[0] in place of 1 / sqrt(V + eps), forward and, by its slope dR / dV, backward."""

    def forward(module: Any, right: Any, X: Any) -> Any:
        mean, var = (module.buffers[f"running_{m}"].copy() if module.buffers else None for m in ("mean", "var"))
        _, saved = right(X)
        D, V = _variance(X, mean, var, saved)
        R, slope = scale(V, special.lift(module.eps, X), saved.N, saved.batch)
        Y = H = D * R
        Y = Y * module.params["weight"].reshape(*saved.channel) if "weight" in module.params else Y
        Y = Y + module.params["bias"].reshape(*saved.channel) if "bias" in module.params else Y
        return Y, (saved._replace(H=H, R=R), D, slope)

    def backward(module: Any, right: Any, dY: Any, saved: Any) -> Any:
        inner, D, slope = saved
        dX, grads = right(dY, inner)
        if not inner.batch or not inner.N:
            return dX, grads
        n, N = inner.n, inner.N
        dH = dY * module.params["weight"].reshape(*inner.channel) if "weight" in module.params else dY
        # dD[n,c] = R[c] dH[n,c] + 2 D[n,c] dR[c]/dV[c] sum_m dH[m,c] D[m,c] / N
        # dX[n,c] = dD[n,c] - sum_m dD[m,c] / N
        dD = inner.R * dH + 2 * D * (slope * (dH * D).sum(axis=n, keepdims=True)) / N
        return dD - dD.sum(axis=n, keepdims=True) / N, grads

    def patch(module: Any) -> None:
        replaced("forward", forward)(module)
        replaced("backward", backward)(module)

    return patch


def _without_root(V: Any, eps: Any, N: int, batch: bool) -> Any:
    # R[c] = 1 / (V[c] + eps)
    R = 1 / (V + eps)
    return R, -R * R


def _squared(V: Any, eps: Any, N: int, batch: bool) -> Any:
    # R[c] = 1 / (V[c] + eps)^2
    R = 1 / (V + eps)
    return R * R, -2 * R * R * R


def _eps_outside(V: Any, eps: Any, N: int, batch: bool) -> Any:
    # R[c] = 1 / (sqrt(V[c]) + eps)
    R = 1 / (np.sqrt(V) + eps)
    return R, -R * R / (2 * np.sqrt(V))


def _unbiased_inside(V: Any, eps: Any, N: int, batch: bool) -> Any:
    # R[c] = 1 / sqrt(V[c] N / (N - 1) + eps)
    if not batch or N < 2:
        R = 1 / np.sqrt(V + eps)
        return R, -R * R * R / 2
    R = 1 / np.sqrt(V * N / (N - 1) + eps)
    return R, -R * R * R / 2 * N / (N - 1)


def _eps_forgotten(V: Any, eps: Any, N: int, batch: bool) -> Any:
    # R[c] = 1 / sqrt(V[c])
    R = 1 / np.sqrt(V)
    return R, -R * R * R / 2


def _biased_running_variance(module: Any, right: Any, M: Any, S: Any, N: int) -> None:
    # var[c] = (1 - momentum) var[c] + momentum S[c] / N
    right(M, S * (N - 1) / (N or 1), N)


def _momentum_the_other_way(module: Any, right: Any, M: Any, S: Any, N: int) -> None:
    if module.momentum is None or N == 0:
        right(M, S, N)
        return
    mean, var, tracked = (module.buffers[name] for name in ("running_mean", "running_var", "num_batches_tracked"))
    momentum = special.lift(module.momentum, M)
    # mean[c] = momentum mean[c] + (1 - momentum) M[c]     var[c] = momentum var[c] + (1 - momentum) S[c] / (N - 1)
    mean[...] = momentum * mean + (1 - momentum) * M
    var[...] = momentum * var + (1 - momentum) * (S / (N - 1))
    tracked[...] = tracked + 1


def _never_tracked(module: Any, right: Any, M: Any, S: Any, N: int) -> None:
    pass


def _batch_formula_in_evaluation(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    H, R, n, N, channel, _ = saved
    return right(dY, (H, R, n, N, channel, True))


def _statistics_constant(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    H, R, n, N, channel, _ = saved
    # dX[n,c] = G[c] R[c] dY[n,c]
    return right(dY, (H, R, n, N, channel, False))


def _through(module: Any, dD: Any, R: Any, channel: Any) -> Any:
    return dD * (module.params["weight"].reshape(*channel) * R) if "weight" in module.params else dD * R


def _variance_constant(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    _, R, n, N, channel, batch = saved
    dX, grads = right(dY, saved)
    # dX[n,c] = G[c] R[c] (dY[n,c] - sum_m dY[m,c] / N)
    return (_through(module, dY - dY.sum(axis=n, keepdims=True) / max(N, 1), R, channel) if batch else dX), grads


def _mean_constant(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    H, R, n, N, channel, batch = saved
    dX, grads = right(dY, saved)
    # dX[n,c] = G[c] R[c] (dY[n,c] - H[n,c] sum_m dY[m,c] H[m,c] / N)
    dD = dY - H * (dY * H).sum(axis=n, keepdims=True) / max(N, 1)
    return (_through(module, dD, R, channel) if batch else dX), grads


def _inverted_again(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    H, R, n, N, channel, batch = saved
    # R[c] = 1 / sqrt(R[c] + eps)
    return right(dY, (H, 1 / np.sqrt(R + special.lift(module.eps, R)), n, N, channel, batch))


def _saved_as_stored(module: Any, right: Any, X: Any) -> Any:
    Y, saved = right(X)
    # H[n,c] = (X'[n,c] - M[c]) R[c], X' what lies in memory where X[n,c] would lie if its axes were in order
    return Y, saved._replace(H=saved.H + (as_stored(X) - X) * saved.R)


def _weight_forgotten(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    H, R, n, N, _, batch = saved
    _, grads = right(dY, saved)
    dB, dG = dY.sum(axis=n, keepdims=True), (dY * H).sum(axis=n, keepdims=True)
    # dX[n,c] = R[c] (dY[n,c] - (sum_m dY[m,c] + H[n,c] sum_m dY[m,c] H[m,c]) / N)
    return (dY - (dB + H * dG) / max(N, 1) if batch else dY) * R, grads


def _of_the_last_place_axis(module: Any, right: Any, X: Any) -> Any:
    Y, saved = right(X)
    if not saved.batch or X.ndim < 4 or not X.size:
        return Y, saved
    # M[n,c] and V[c] over the last axis alone, with the others of the sample left apart
    N = X.shape[-1]
    D = X - X.sum(axis=-1, keepdims=True) / N
    R = 1 / np.sqrt((D * D).sum(axis=-1, keepdims=True) / N + special.lift(module.eps, X))
    H = D * R
    Y = H * module.params["weight"].reshape(*saved.channel) if "weight" in module.params else H
    Y = Y + module.params["bias"].reshape(*saved.channel) if "bias" in module.params else Y
    return Y, saved._replace(H=H)


def _divided_by_the_batch(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    H, R, n, _, channel, batch = saved
    # dX[n,c] = G[c] R[c] (dY[n,c] - (dB[c] + H[n,c] dG[c]) / B), B samples along the first axis
    return right(dY, (H, R, n, H.shape[0], channel, batch))


def _over_the_batch_axis(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    dX, grads = right(dY, saved)
    # dB[c] = dY[0,c]: of the first sample alone
    first = dY[:1].sum(axis=saved[2]) if dY.shape[0] else dY.sum(axis=saved[2])
    return dX, {name: first if name == "bias" else grad for name, grad in grads.items()}


def _bias_not_summed(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    dX, grads = right(dY, saved)
    # dB[n,c] = dY[n,c]: the sum over the samples is left to the caller
    return dX, {name: dY if name == "bias" else grad for name, grad in grads.items()}


def _batchnorm(name: str, what: str, reveal: str, source: str, method: str, by: Any) -> Fault:
    return Fault(name, what, reveal, source, dict.fromkeys(KINDS, replaced(method, by)))


FAULTS = (
    _batchnorm(
        "running variance biased",
        "running var moves to S / N against S / (N - 1)",
        "a small batch; the buffers, or the output in evaluation mode",
        "tinygrad/tinygrad#807, ml-explore/mlx#3817, tenstorrent/tt-metal#55438, brainpy/BrainPy#843",
        "track",
        _biased_running_variance,
    ),
    _batchnorm(
        "running momentum the other way",
        "m running + (1 - m) batch against (1 - m) running + m batch; a convention elsewhere, that of Keras",
        "momentum other than 1/2",
        "kind of bug: a convention taken over unchanged",
        "track",
        _momentum_the_other_way,
    ),
    _batchnorm(
        "running statistics never moved",
        "running statistics as before against moved by momentum",
        "training mode",
        "kind of bug: a missing update",
        "track",
        _never_tracked,
    ),
    Fault(
        "normalization without the root",
        "D / (V + eps) against D / sqrt(V + eps)",
        "a variance other than 1",
        "kind of bug: a missing root",
        dict.fromkeys(KINDS, scaled_by(_without_root)),
    ),
    Fault(
        "square for the root",
        "D / (V + eps)^2 against D / sqrt(V + eps)",
        "a variance other than 1",
        "jax-ml/jax#442, jax-ml/jax#443",
        dict.fromkeys(KINDS, scaled_by(_squared)),
    ),
    Fault(
        "eps outside the root",
        "D / (sqrt(V) + eps) against D / sqrt(V + eps)",
        "a small variance, or a large eps",
        "kind of bug: eps outside the root, in LayerNorm callummcdougall/ARENA_3.0#228",
        dict.fromkeys(KINDS, scaled_by(_eps_outside)),
    ),
    Fault(
        "eps left out",
        "D / sqrt(V) against D / sqrt(V + eps)",
        "a small variance, or a large eps",
        "kind of bug: a missing term",
        dict.fromkeys(KINDS, scaled_by(_eps_forgotten)),
    ),
    Fault(
        "normalization by the unbiased variance",
        "V N / (N - 1) against V under the root",
        "a small batch",
        "kind of bug: the unbiased variance",
        dict.fromkeys(KINDS, scaled_by(_unbiased_inside)),
    ),
    _batchnorm(
        "batch formula in evaluation mode",
        "dX by the batch formula against dX = G R dY",
        "evaluation mode",
        "FluxML/Flux.jl#2179",
        "backward",
        _batch_formula_in_evaluation,
    ),
    _batchnorm(
        "statistics taken for constants",
        "dX = G R dY against dX by the batch formula",
        "training mode",
        "kind of bug: a missing term",
        "backward",
        _statistics_constant,
    ),
    _batchnorm(
        "variance taken for a constant",
        "dX = G R (dY - dB / N) against dX = G R (dY - (dB + H dG) / N)",
        "training mode",
        "kind of bug: a missing term",
        "backward",
        _variance_constant,
    ),
    _batchnorm(
        "mean taken for a constant",
        "dX = G R (dY - H dG / N) against dX = G R (dY - (dB + H dG) / N)",
        "training mode",
        "kind of bug: a missing term",
        "backward",
        _mean_constant,
    ),
    _batchnorm(
        "BatchNorm: saved input read as stored",
        "H = (X' - M) R against H = (X - M) R in the gradients, X' being X in the order of memory: the output is right",
        "an input that is not contiguous",
        "pytorch/pytorch#175189, pytorch/pytorch#133520",
        "forward",
        _saved_as_stored,
    ),
    _batchnorm(
        "deviation inverted again",
        "R = 1 / sqrt(R + eps) against R",
        "a deviation other than 1",
        "flagos-ai/FlagGems#5222",
        "backward",
        _inverted_again,
    ),
    _batchnorm(
        "weight left out backward",
        "dX without G against with it",
        "a weight other than 1, as it is at the start",
        "kind of bug: a missing factor",
        "backward",
        _weight_forgotten,
    ),
    Fault(
        "BatchNorm: statistics of the last axis",
        "mean and variance over the last axis against all axes but the channels'",
        "images or volumes of more than one row",
        "kind of bug: axes left out",
        dict.fromkeys(KINDS[1:], replaced("forward", _of_the_last_place_axis)),
    ),
    Fault(
        "BatchNorm: divided by the batch",
        "(dB + H dG) / B against / N, N = B times the places",
        "more than one place",
        "kind of bug: another count",
        dict.fromkeys(KINDS[1:], replaced("backward", _divided_by_the_batch)),
    ),
    _batchnorm(
        "BatchNorm: bias gradient of the first sample",
        "dB = sum over the places of one sample against over all samples",
        "more than one sample",
        "kind of bug: an axis left out",
        "backward",
        _over_the_batch_axis,
    ),
    _batchnorm(
        "BatchNorm: bias gradient not summed",
        "dB = dY against dB = sum_n dY",
        "a batch of more than one, and a comparison of shapes",
        "kind of bug: an unreduced gradient",
        "backward",
        _bias_not_summed,
    ),
)
