"""Mistakes in CrossEntropyLoss. Letters and axes as there: n sample, c class, C of them.

Most are in the distribution A that the logarithms are weighed with, or in what the mean is divided by:

    U[n,c] = -log P[n,c]     L[n] = sum_c A[n,c] U[n,c]     dX[n,c] = dL[n] (P[n,c] sum_k A[n,k] - A[n,c])
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from parity.families.fault import Fault, Patch, Unsupported, replaced
from refnet.arithmetic import special


@dataclass(frozen=True)
class _Targets:
    """What a target of class indices says, as arrays: Q (n, c) its one-hot form, `kept` (n, 1) which samples count,
    W (c) the weights or 1, e the smoothing, C the number of classes, c their axis."""

    Q: Any
    kept: Any
    W: Any
    e: Any
    C: int
    c: int

    def along(self, A: Any) -> Any:
        """sum_c A[n,c]"""
        return A.sum(axis=self.c, keepdims=True)

    def smoothed(self) -> Any:
        """(1 - e) Q[n,c] + e / C"""
        return (1 - self.e) * self.Q + self.e / self.C

    def weighed(self) -> Any:
        """A[n,c] = W[c] ((1 - e) Q[n,c] + e / C), 0 where ignored"""
        return self.among(self.kept, self.W * self.smoothed())

    def weights(self) -> Any:
        """sum_n W[t[n]] over the samples that count"""
        return self.among(self.kept, self.along(self.Q * self.W)).sum()

    def among(self, chosen: Any, A: Any) -> Any:
        return np.where(chosen, A, special.lift(0.0, A))


def _targets(module: Any, X: Any, T: Any) -> _Targets:
    c, t, W = module.fit(X, T)
    if t.dtype.kind not in "iu":
        raise Unsupported("the target is probabilities")
    zero, one = special.lift(0.0, X), special.lift(1.0, X)
    Q = np.where(np.arange(X.shape[c]).reshape(-1, *(1,) * (X.ndim - 2)) == t, one, zero)
    # Of X's arithmetic, though no function of X.
    Q = np.broadcast_to(Q, X.shape) * one
    e = special.lift(module.label_smoothing, X)
    return _Targets(Q, t != module.ignore_index, one if W is None else W, e, X.shape[c], c)


def _with(weigh: Callable[[_Targets], Any], divisor: Callable[[_Targets], Any] = _Targets.weights) -> Patch:
    """Cross-entropy with another distribution A, or another divisor of the mean."""

    def forward(module: Any, right: Any, X: Any, T: Any) -> Any:
        targets = _targets(module, X, T)
        S = X - special.shift(X, targets.c)
        E = np.exp(S)
        D, A, n = targets.along(E), weigh(targets), divisor(targets)
        n = np.where(n == 0, math.nan, n)
        # L[n] = sum_c A[n,c] U[n,c], U[n,c] = log sum_k E[n,k] - S[n,c]
        L = targets.along(A * (np.log(D) - S))
        saved = (targets, E / D, A, n)
        if module.reduction == "none":
            return L.sum(axis=targets.c), saved
        return L.sum() if module.reduction == "sum" else L.sum() / n, saved

    def backward(module: Any, right: Any, dY: Any, saved: Any) -> Any:
        targets, P, A, n = saved
        dL = np.expand_dims(dY, targets.c) if module.reduction == "none" else dY
        dL = dL / n if module.reduction == "mean" else dL
        # dX[n,c] = dL[n] (P[n,c] sum_k A[n,k] - A[n,c]), 0 / 0 nowhere: A = 0 makes 0 of it
        dX = targets.among(targets.along(A) != 0, dL * (P * targets.along(A) - A))
        return (dX, None), {}

    def patch(module: Any) -> None:
        replaced("forward", forward)(module)
        replaced("backward", backward)(module)

    return patch


def _ignored_weighed(t: _Targets) -> Any:
    # A[n,c] = W[c] ((1 - e) Q[n,c] + e / C), ignored or not
    return t.W * t.smoothed()


def _only_ignored(t: _Targets) -> Any:
    return t.among(~t.kept, t.W * t.smoothed())


def _weight_of_target(t: _Targets) -> Any:
    # A[n,c] = W[t[n]] ((1 - e) Q[n,c] + e / C)
    return t.among(t.kept, t.along(t.Q * t.W) * t.smoothed())


def _smoothed_among_others(t: _Targets) -> Any:
    # A[n,c] = W[c] ((1 - e) Q[n,c] + e / (C - 1) (1 - Q[n,c]))
    others = t.e / (t.C - 1) * (1 - t.Q) if t.C > 1 else 0 * t.Q
    return t.among(t.kept, t.W * ((1 - t.e) * t.Q + others))


def _all_samples(t: _Targets) -> Any:
    # n = N
    return special.lift(float(t.kept.size), t.Q)


def _samples_kept(t: _Targets) -> Any:
    # n = the number of samples that count
    return special.lift(float(np.count_nonzero(t.kept)), t.Q)


def _ignored_weights(t: _Targets) -> Any:
    return special.lift(float(np.count_nonzero(~t.kept)), t.Q)


def _weights_or_one(t: _Targets) -> Any:
    # n = sum_n W[t[n]], 1 where that is 0
    n = t.weights()
    return np.where(n == 0, special.lift(1.0, n), n)


def _weights_for_each_place(t: _Targets) -> Any:
    if t.kept.ndim < 3:
        raise Unsupported("samples have one target each")
    # n = sum_n W[t[n]] times the targets of a sample: of 1 / n the factor N / (N targets)
    return t.weights() * special.lift(float(math.prod(t.Q.shape) // t.Q.shape[0] // t.C), t.Q)


def _softmax(X: Any, c: int) -> Any:
    E = np.exp(X - special.shift(X, c))
    return E / E.sum(axis=c, keepdims=True)


def _of_softmax(module: Any, right: Any, X: Any, T: Any) -> Any:
    c, *_ = module.fit(X, T)
    P = _softmax(X, c)
    # L[n] = -log softmax(softmax(X))[n,t]
    Y, saved = right(P, T)
    return Y, (P, c, saved)


def _of_softmax_backward(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    P, c, inner = saved
    (dP, dT), grads = right(dY, inner)
    # dX[n,c] = P[n,c] (dP[n,c] - sum_k dP[n,k] P[n,k])
    return (P * (dP - (dP * P).sum(axis=c, keepdims=True)), dT), grads


def _softmax_twice(module: Any) -> None:
    replaced("forward", _of_softmax)(module)
    replaced("backward", _of_softmax_backward)(module)


def _remembering(module: Any, right: Any, X: Any, T: Any) -> Any:
    Y, saved = right(X, T)
    return Y, (X, T, saved)


def _smoothing_forward_only(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    X, T, inner = saved
    (_, dT), grads = right(dY, inner)
    e, module.label_smoothing = module.label_smoothing, 0.0
    # dX[n,c] as for A[n,c] = W[c] Q[n,c]
    forward = type(module).forward.__get__(module)
    (dX, _), _ = right(dY, forward(X, T)[1])
    module.label_smoothing = e
    return (dX, dT), grads


def _one_hot_left_out(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    X, T, inner = saved
    _, grads = right(dY, inner)
    targets = _targets(module, X, T)
    dL = np.expand_dims(dY, targets.c) if module.reduction == "none" else dY
    dL = dL / targets.weights() if module.reduction == "mean" else dL
    A = targets.weighed()
    # dX[n,c] = dL[n] P[n,c] sum_k A[n,k]
    return (targets.among(targets.kept, dL * (_softmax(X, targets.c) * targets.along(A))), None), grads


def _weight_of_class(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    X, T, inner = saved
    _, grads = right(dY, inner)
    targets = _targets(module, X, T)
    dL = np.expand_dims(dY, targets.c) if module.reduction == "none" else dY
    dL = dL / targets.weights() if module.reduction == "mean" else dL
    # dX[n,c] = dL[n] W[c] (P[n,c] - (1 - e) Q[n,c] - e / C)
    dX = dL * (targets.W * (_softmax(X, targets.c) - targets.smoothed()))
    return (targets.among(targets.kept, dX), None), grads


def _backward(by: Any) -> Patch:
    def patch(module: Any) -> None:
        replaced("forward", _remembering)(module)
        replaced("backward", by)(module)

    return patch


def _without_shift(module: Any, right: Any, X: Any, T: Any) -> Any:
    targets = _targets(module, X, T)
    E = np.exp(X)
    P, A = E / targets.along(E), targets.weighed()
    # L[n] = -sum_c A[n,c] log(exp(X[n,c]) / sum_k exp(X[n,k]))
    L = -targets.along(A * np.log(P))
    _, saved = right(X, T)
    if module.reduction == "none":
        return L.sum(axis=targets.c), saved
    return L.sum() if module.reduction == "sum" else L.sum() / targets.weights(), saved


def _fault(name: str, what: str, reveal: str, source: str, patch: Patch) -> Fault:
    return Fault(name, what, reveal, source, {"CrossEntropyLoss": patch})


def _not_normalized(module: Any) -> None:
    right = module.distribution_backward

    def distribution_backward(dL: Any, E: Any, A: Any, W: Any, D: Any, U: Any, c: int) -> Any:
        _, dQ = right(dL, E, A, W, D, U, c)
        # dX[n,c] = dL[n] (P[n,c] - A[n,c])
        return dL * (E / D - A), dQ

    module.distribution_backward = distribution_backward


FAULTS = (
    _fault(
        "ignored rows counted in the mean",
        "sum L / N against sum L / sum_n W[t[n]] of the rows that are not ignored",
        "an ignored row, and the mean",
        "keras-team/keras#15323, tensorflow/tensorflow#34158",
        _with(_Targets.weighed, _all_samples),
    ),
    _fault(
        "ignored rows not ignored",
        "A as of any row against 0",
        "an ignored row whose index is a class, or label smoothing",
        "kind of bug: ignored rows counted",
        _with(_ignored_weighed),
    ),
    _fault(
        "mask inverted",
        "the ignored rows against the others",
        "an ignored row",
        "awslabs/sockeye#200",
        _with(_only_ignored, _ignored_weights),
    ),
    _fault(
        "weighted mean by the number of samples",
        "sum L / N against sum L / sum_n W[t[n]]; a convention elsewhere, that of Keras",
        "class weights, and the mean",
        "keras-team/keras#13329, keras-team/keras#19740",
        _with(_Targets.weighed, _samples_kept),
    ),
    _fault(
        "0 where every target is ignored",
        "sum L / 1 against sum L / 0, NaN; a convention elsewhere",
        "no target that counts, and the mean",
        "pytorch/pytorch#116349",
        _with(_Targets.weighed, _weights_or_one),
    ),
    _fault(
        "mask scaled by the number of samples",
        "sum L N / (N K sum_n W[t[n]]), K targets a sample, against sum L / sum_n W[t[n]]",
        "samples of several targets, and the mean",
        "keras-team/keras-core#802",
        _with(_Targets.weighed, _weights_for_each_place),
    ),
    _fault(
        "weight of the target smoothed",
        "A = W[t] ((1 - e) Q + e / C) against A = W[c] ((1 - e) Q + e / C); a convention elsewhere",
        "class weights and label smoothing at once",
        "pytorch/pytorch#104776",
        _with(_weight_of_target),
    ),
    _fault(
        "smoothing among the other classes",
        "e / (C - 1) off the target against e / C everywhere; a convention elsewhere",
        "label smoothing and few classes",
        "ml-explore/mlx#166",
        _with(_smoothed_among_others),
    ),
    _fault(
        "cross-entropy of softmax",
        "-log softmax(softmax(X)) against -log softmax(X)",
        "any",
        "kind of bug: fed with probabilities in place of logits",
        _softmax_twice,
    ),
    _fault(
        "one-hot left out",
        "dX = dL P against dX = dL (P - Q)",
        "any",
        "kind of bug: a missing term",
        _backward(_one_hot_left_out),
    ),
    _fault(
        "weight of the class for that of the target",
        "dX = dL W[c] (P - Q) against dX = dL W[t] (P - Q)",
        "class weights",
        "kind of bug: the wrong index",
        _backward(_weight_of_class),
    ),
    _fault(
        "smoothing forward only",
        "dX = dL (P - Q) against dX = dL (P - (1 - e) Q - e / C)",
        "label smoothing",
        "kind of bug: an option ignored backward",
        _backward(_smoothing_forward_only),
    ),
    _fault(
        "log of softmax without a shift",
        "log(exp(X) / sum exp(X)) against X - max X - log sum exp(X - max X): infinity / infinity, log 0",
        "logits above 709 in float64, 88 in float32, or as far apart",
        "kind of bug: overflow",
        replaced("forward", _without_shift),
    ),
    _fault(
        "soft targets taken to sum to 1",
        "dX = dL (P - A) against dX = dL (P sum_k A - A)",
        "probabilities that do not sum to 1, or class weights with them",
        "kind of bug: p - y where it does not hold",
        _not_normalized,
    ),
)
