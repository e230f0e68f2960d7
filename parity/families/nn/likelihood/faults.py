"""Mistakes in NLLLoss, KLDivLoss, GaussianNLLLoss and PoissonNLLLoss; those of every loss are with nn.loss."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.families.fault import of, replaced
from parity.families.nn.likelihood.formulas import reduced_as
from refnet.arithmetic import special
from refnet.nn import likelihood
from refnet.nn.distance import summed_to

# NLLLoss


def _all_samples(module: Any, right: Any, X: Any, T: Any) -> Any:
    Y, saved = right(X, T)
    # n = N
    n = special.lift(float(max(T.size, 1)), X)
    return (Y * saved.n / n if module.reduction == "mean" else Y), saved._replace(n=n)


def _weight_left_out(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    # dX[n,c] = -dL[n] [c = T[n]]
    return right(dY, saved._replace(Z=special.lift(1.0, saved.Z)))


def _every_class(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    # dX[n,c] = -dL[n] Z[n]
    return right(dY, saved._replace(Q=np.broadcast_to(True, saved.Q.shape)))


def _not_negated(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    (dX, *others), grads = right(dY, saved)
    # dX[.] = dL[.] Z[.] against -dL[.] Z[.]
    return (-dX, *others), grads


# KLDivLoss


def _log_target_ignored(module: Any) -> None:
    # L[.] = T[.] (log T[.] - X[.]), T logarithms
    module.log_target = False


def _entropy_left_out(module: Any, right: Any, X: Any, T: Any) -> Any:
    _, saved = right(X, T)
    # L[.] = -P[.] X[.]     G[.] = -X[.]
    return reduced_as(module, -(saved.P * X)), saved._replace(G=-X)


def _one_left_out(module: Any, right: Any, X: Any, T: Any) -> Any:
    Y, saved = right(X, T)
    # G[.] = log T[.] - X[.], with log_target exp(T[.]) (T[.] - X[.])
    return Y, saved._replace(G=saved.G - (saved.P if module.log_target else 1))


def _batchmean_by_elements(module: Any) -> None:
    if module.reduction == "batchmean":
        module.reduction = "mean"


# GaussianNLLLoss


def _deviation_for_variance(module: Any, right: Any, X: Any, T: Any, var: Any) -> Any:
    # V[.] = var[.]^2
    Y, saved = right(X, T, var * var)
    return Y, (saved, var)


def _deviation_backward(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    inner, var = saved
    (dX, dT, dV), grads = right(dY, inner)
    return (dX, dT, dV * 2 * var), grads


def _deviation(module: Any) -> None:
    replaced("forward", _deviation_for_variance)(module)
    replaced("backward", _deviation_backward)(module)


def _logarithm_not_halved(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    D, V, *_ = saved
    (dX, dT, dV), grads = right(dY, saved)
    dL = dY / D.size if module.reduction == "mean" else dY
    # dV[.] = dL[.] (1 / V[.] - D[.]^2 / (2 V[.]^2))
    return (dX, dT, dV + summed_to(dL / (2 * V), V.shape).reshape(saved.var)), grads


def _square_of_quotient(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    D, V, *_ = saved
    (_, dT, dV), grads = right(dY, saved)
    dL = dY / D.size if module.reduction == "mean" else dY
    # dX[.] = 2 dL[.] D[.] / V[.]
    return (2 * dL * (D / V), dT, dV), grads


# PoissonNLLLoss


def _stirling_by_its_size(module: Any, right: Any, log_input: Any, target: Any) -> Any:
    X, T = log_input, target
    if not module.full:
        return right(X, T)
    module.full = False
    _, saved = right(X, T)
    module.full = True
    zero, one = special.lift(0.0, X), special.lift(1.0, X)
    S = np.where(T > 0, T, one)
    K = np.log(S)
    A = S * K - S + (K + likelihood.log_two_pi(X)) / 2
    # L[.] + A[.] where A[.] > 1, against where T[.] > 1
    L = (np.exp(X) if module.log_input else X) - T * -saved.H + np.where(A > 1, A, zero)
    return reduced_as(module, L), saved._replace(H=saved.H + np.where(A > 1, K + 1 / (2 * S), zero))


def _input_taken_for_logarithm(module: Any) -> None:
    # L[.] = exp(X[.]) - T[.] X[.]
    module.log_input = True


def _eps_left_out(module: Any, right: Any, log_input: Any, target: Any) -> Any:
    X, T = log_input, target
    Y, saved = right(X, T)
    # G[.] = (X[.] - T[.]) / X[.]
    return Y, saved if module.log_input else saved._replace(G=(X - T) / X)


def _target_left_out(module: Any, right: Any, log_input: Any, target: Any) -> Any:
    X, T = log_input, target
    Y, saved = right(X, T)
    # G[.] = exp(X[.]), or 1
    return Y, saved._replace(G=np.exp(X) if module.log_input else special.lift(1.0, X) + 0 * X)


def _stirling_forward_only(module: Any, right: Any, log_input: Any, target: Any) -> Any:
    X, T = log_input, target
    Y, saved = right(X, T)
    # H[.] = -X[.], or -log(X[.] + eps)
    return Y, saved._replace(H=-(X if module.log_input else np.log(X + special.lift(module.eps, X))))


FAULTS = (
    *of(
        "NLLLoss",
        (
            "ignored samples counted in the mean of NLL",
            "sum L / N against sum L / sum_n W[t[n]] of the samples that are not ignored",
            "an ignored sample or a weight, and the mean",
            "keras-team/keras#15323; keras-team/keras#13329",
            replaced("forward", _all_samples),
        ),
        (
            "NLL's weight left out backward",
            "dX = -dL [c = t] against -dL W[t] [c = t]",
            "class weights",
            "kind of bug: a missing factor",
            replaced("backward", _weight_left_out),
        ),
        (
            "NLL of every class",
            "dX = -dL W[t] for every class against that of the target alone",
            "more than one class",
            "kind of bug: the wrong index",
            replaced("backward", _every_class),
        ),
        (
            "NLL's gradient not negated",
            "dX = dL W[t] against -dL W[t]",
            "any",
            "kind of bug: sign",
            replaced("backward", _not_negated),
        ),
    ),
    *of(
        "KLDivLoss",
        (
            "log_target ignored",
            "t (log t - x) against exp(t) (t - x)",
            "targets that are logarithms",
            "kind of bug: an option ignored",
            _log_target_ignored,
        ),
        (
            "entropy of the target left out",
            "-t x against t (log t - x): cross-entropy in place of the divergence",
            "targets other than 0 and 1",
            "kind of bug: a missing term",
            replaced("forward", _entropy_left_out),
        ),
        (
            "1 left out of the target's gradient",
            "log t - x against log t - x + 1: the derivative of the logarithm forgotten",
            "a target with a gradient",
            "kind of bug: a missing term",
            replaced("forward", _one_left_out),
        ),
        (
            "batchmean by the number of elements",
            "sum L / (N C) against sum L / N",
            "batchmean, and more than one element a sample",
            "warning of torch.nn.functional.kl_div; kind of bug: mean over the wrong axes",
            _batchmean_by_elements,
        ),
        (
            "divergence's gradient not negated",
            "dX = dL t against -dL t",
            "any",
            "kind of bug: sign",
            replaced("backward", _not_negated),
        ),
    ),
    *of(
        "GaussianNLLLoss",
        (
            "deviation taken for the variance",
            "V = var^2 against var",
            "a variance other than 1",
            "unit8co/darts#1162",
            _deviation,
        ),
        (
            "logarithm of the variance not halved backward",
            "dV = dL (1 / V - D^2 / (2 V^2)) against dL (1 / V - D^2 / V^2) / 2",
            "any",
            "kind of bug: a missing factor",
            replaced("backward", _logarithm_not_halved),
        ),
        (
            "half of the square left out backward",
            "dX = 2 dL D / V against dL D / V",
            "any",
            "kind of bug: a factor too many",
            replaced("backward", _square_of_quotient),
        ),
    ),
    *of(
        "PoissonNLLLoss",
        (
            "Stirling's term by its own size",
            "is added where it is above 1, against where t > 1",
            "full, and a target between 1 and 2.5 or far below 1",
            "PaddlePaddle/Paddle#56733",
            replaced("forward", _stirling_by_its_size),
        ),
        (
            "rate taken for its logarithm",
            "exp(x) - t x against x - t log(x + eps)",
            "log_input=False",
            "kind of bug: an option ignored",
            _input_taken_for_logarithm,
        ),
        (
            "eps left out backward",
            "dX = dL (x - t) / x against dL (x - t + eps) / (x + eps)",
            "log_input=False, and eps that counts",
            "pytorch/pytorch#3336; kind of bug: an option ignored backward",
            replaced("forward", _eps_left_out),
        ),
        (
            "count left out backward",
            "dX = dL exp(x) against dL (exp(x) - t)",
            "a target other than 0",
            "kind of bug: a missing term",
            replaced("forward", _target_left_out),
        ),
        (
            "Stirling's term forward only",
            "dT = -dL x against dL (log t + 1 / (2 t) - x)",
            "full, and a target above 1 with a gradient",
            "kind of bug: an option ignored backward",
            replaced("forward", _stirling_forward_only),
        ),
    ),
)
