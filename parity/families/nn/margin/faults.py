"""Mistakes in the losses with a margin; those of every loss are with nn.loss."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.families.fault import of, replaced
from refnet.arithmetic import special
from refnet.nn.distance import NormSaved


def _ones(A: Any) -> Any:
    return special.lift(1.0, A) + 0 * A


# SoftMarginLoss, MultiLabelSoftMarginLoss


def _other_side(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    # dX[.] = -dL[.] Y[.] s(Y[.] X[.])
    return right(dY, saved._replace(M=-saved.M))


def _target_left_out(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    # dX[.] = -dL[.] s(-Y[.] X[.])
    return right(dY, saved._replace(Y=_ones(saved.Y)))


def _labels_weight_left_out(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    # dX[n,c] without W[c]
    return right(dY, saved._replace(W=None))


def _sum_over_labels(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    grads, params = right(dY, saved)
    # dX[n,c] = dL[n] (...) against dL[n] (...) / C
    return tuple(dX * dX.shape[-1] for dX in grads), params


def _positives_alone(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    X, T, W, n = saved
    (_, dT), params = right(dY, saved)
    dL = np.expand_dims(dY, -1) if module.reduction == "none" else dY / n if module.reduction == "mean" else dY
    # dX[n,c] = -dL[n] W[c] T[n,c] s(-X[n,c]) / C
    return (-(dL * (T if W is None else W * T) * special.sigmoid(-X)) / X.shape[-1], dT), params


# HingeEmbeddingLoss, MarginRankingLoss


def _always_open(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    # [M[.] >= 0] left out
    if hasattr(saved, "on"):
        return right(dY, saved._replace(on=saved.D == saved.D))
    return right(dY, saved._replace(M=_ones(saved.M)))


def _margin_left_out(module: Any, right: Any, *inputs: Any) -> Any:
    margin, module.margin = module.margin, 0.0
    # M[.] without the margin
    result = right(*inputs)
    module.margin = margin
    return result


def _both_pairs_alike(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    # dX[.] = dL[.] for every target
    return right(dY, saved._replace(alike=saved.alike == saved.alike, apart=saved.apart != saved.apart))


def _second_not_negated(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    (dX1, dX2, *others), params = right(dY, saved)
    return (dX1, -dX2, *others), params


def _target_of_ranking_left_out(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    # dX1[.] = -dM[.]
    return right(dY, saved._replace(Y=_ones(saved.Y)))


# CosineEmbeddingLoss


def _projection_left_out(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    # dX1[n,i] = dC[n] U2[n,i] / N1[n]
    return right(dY, saved._replace(Y=0 * saved.Y))


def _length_left_out(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    # dX1[n,i] = dC[n] (U2[n,i] - Y[n] U1[n,i])
    return right(dY, saved._replace(N1=_ones(saved.N1), N2=_ones(saved.N2)))


def _margin_added(module: Any, right: Any, *inputs: Any) -> Any:
    module.margin = -module.margin
    # M[n] = Y[n] + margin
    result = right(*inputs)
    module.margin = -module.margin
    return result


# TripletMarginLoss


def _pairs_exchanged(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    (dA, dP, dN), params = right(dY, saved)
    # dP = -dM d'(a, n), dN = dM d'(a, p)
    return (dA, dN, dP), params


def _anchor_left_out(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    (_, dP, dN), params = right(dY, saved)
    # dA = -dP: the term of the negative left out
    return (-dP, dP, dN), params


def _swap_forgotten(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    D = saved.positive.D
    if saved.other is None:
        return right(dY, saved)
    # d(a, n) has the whole gradient, d(p, n) none
    return right(dY, saved._replace(shares=(special.lift(1.0, D), special.lift(0.0, D)), other=None))


def _zero_distance(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    if module.p == 1:
        return right(dY, saved)

    def bare(norm: NormSaved) -> NormSaved:
        nothing = special.total(norm.A, -1, keepdims=True) == 0
        # D[n,i] / N[n], 0 / 0 where N[n] = 0
        return norm._replace(M=np.where(nothing, special.lift(0.0, norm.M), norm.M))

    return right(dY, saved._replace(positive=bare(saved.positive), negative=bare(saved.negative)))


def _distance_forgotten(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    def squared(norm: NormSaved) -> NormSaved:
        return norm._replace(M=_ones(norm.M))

    # d'(a, p) = D[n,i]
    return right(dY, saved._replace(positive=squared(saved.positive), negative=squared(saved.negative)))


# MultiMarginLoss, MultiLabelMarginLoss


def _own_class_once(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    (dX, dT), params = right(dY, saved)
    # dX[n,T[n]] = 0: no gradient for the target's class
    return (np.where(saved.Q, special.lift(0.0, dX), dX), dT), params


def _weight_of_each_class(module: Any, right: Any, X: Any, T: Any) -> Any:
    Y, saved = right(X, T)
    W = module.buffers.get("weight")
    if W is None:
        return Y, saved
    zero = special.lift(0.0, X)
    Z = special.total(np.where(saved.Q, W, zero), -1, keepdims=True)
    # G[n,c] = W[c] ... against W[T[n]] ...
    return Y, saved._replace(G=saved.G / Z * W)


def _two_left_out(module: Any, right: Any, X: Any, T: Any) -> Any:
    Y, saved = right(X, T)
    # G[n,c] = H[n,c] / C against 2 H[n,c] / C
    return Y, saved._replace(G=saved.G / 2 if module.p == 2 else saved.G)


def _classes_added(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    (dX, dT), params = right(dY, saved)
    # dX[n,c] = dL[n] ... against dL[n] ... / C
    return (dX * dX.shape[-1], dT), params


def _other_sign_of_others(module: Any, right: Any, X: Any, T: Any) -> Any:
    _, saved = right(X, T)
    Q, zero, one = saved.Q, special.lift(0.0, X), special.lift(1.0, X)
    own = special.total(np.where(Q, X, zero), -1, keepdims=True)
    # M[n,c] = margin - X[n,T[n]] - X[n,c]
    M = special.lift(module.margin, X) - own - X
    on = np.where(Q, zero, np.where(M > 0, one, zero))
    W = module.buffers.get("weight")
    Z = one if W is None else special.total(np.where(Q, W, zero), -1, keepdims=True)
    L = special.total(Z * on * (M * M if module.p == 2 else M), -1) / X.shape[-1]
    Y = L if module.reduction == "none" else L.sum() if module.reduction == "sum" else L.sum() / max(L.size, 1)
    return Y, saved._replace(G=Z * on * (2 * M if module.p == 2 else one) / X.shape[-1])


def _list_never_ends(module: Any, right: Any, X: Any, T: Any) -> Any:
    # What stands behind a -1 counts as well.
    shape = T.shape
    rows = T.reshape(-1, shape[-1])
    kept = np.asarray([sorted(row, key=lambda t: t < 0) for row in rows.tolist()], T.dtype).reshape(shape)
    return right(X, kept)


def _targets_not_left_out(module: Any, right: Any, X: Any, T: Any) -> Any:
    Y, saved = right(X, T)
    C, zero = X.shape[-1], special.lift(0.0, X)
    Xc = np.expand_dims(X, -2)
    M = 1 - (special.total(np.where(saved.J, Xc, zero), -1, keepdims=True) - Xc)
    listed = np.expand_dims(saved.J.sum(axis=-1) > 0, -1)
    # The sum runs over c that are targets, too
    return Y, saved._replace(G=np.where(listed, np.where(M > 0, special.lift(1.0, X), zero), zero) / C)


def _no_gradient_of_targets(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    # dX[n,c] = dL[n] sum_k G[n,k,c]
    return right(dY, saved._replace(J=saved.J & False))


FAULTS = (
    *of(
        "SoftMarginLoss",
        (
            "soft margin from the other side",
            "dX = -dL y s(y x) against -dL y s(-y x)",
            "an input other than 0",
            "kind of bug: sign",
            replaced("backward", _other_side),
        ),
        (
            "sign of the target left out",
            "dX = -dL s(-y x) against -dL y s(-y x)",
            "a target of -1",
            "kind of bug: a missing factor",
            replaced("backward", _target_left_out),
        ),
    ),
    *of(
        "MultiLabelSoftMarginLoss",
        (
            "labels' weight left out backward",
            "dX without W against with it",
            "a weight",
            "kind of bug: a missing factor",
            replaced("backward", _labels_weight_left_out),
        ),
        (
            "labels added in place of averaged",
            "dX = dL (...) against dL (...) / C",
            "more than one class",
            "kind of bug: a missing 1/N",
            replaced("backward", _sum_over_labels),
        ),
        (
            "labels that apply alone",
            "dX = -dL t s(-x) / C against dL ((1 - t) s(x) - t s(-x)) / C",
            "a target other than 1",
            "kind of bug: a missing term",
            replaced("backward", _positives_alone),
        ),
    ),
    *of(
        "HingeEmbeddingLoss",
        (
            "embedding hinge always open",
            "dX = -dL against -dL [margin - x >= 0] for a target of -1",
            "an input above the margin",
            "kind of bug: a missing mask",
            replaced("backward", _always_open),
        ),
        (
            "embedding margin left out",
            "max(0, -x) against max(0, margin - x)",
            "a target of -1",
            "kind of bug: an option ignored",
            replaced("forward", _margin_left_out),
        ),
        (
            "every pair alike",
            "dX = dL against -dL [margin - x >= 0] for a target of -1",
            "a target of -1",
            "kind of bug: sign",
            replaced("backward", _both_pairs_alike),
        ),
    ),
    *of(
        "MarginRankingLoss",
        (
            "ranking hinge always open",
            "dX1 = -dL y against -dL y [margin - y (x1 - x2) >= 0]",
            "a pair in the right order",
            "kind of bug: a missing mask",
            replaced("backward", _always_open),
        ),
        (
            "ranking margin left out",
            "max(0, -y (x1 - x2)) against max(0, margin - y (x1 - x2))",
            "a margin",
            "kind of bug: an option ignored",
            replaced("forward", _margin_left_out),
        ),
        (
            "second of the pair not negated",
            "dX2 = dX1 against -dX1",
            "any",
            "kind of bug: sign",
            replaced("backward", _second_not_negated),
        ),
        (
            "order of the pair left out",
            "dX1 = -dM against -dM y",
            "a target of -1",
            "kind of bug: a missing factor",
            replaced("backward", _target_of_ranking_left_out),
        ),
    ),
    *of(
        "CosineEmbeddingLoss",
        (
            "embedding's projection left out",
            "dX1 = dY U2 / N1 against dY (U2 - Y U1) / N1",
            "vectors that are not at right angles",
            "kind of bug: a missing term",
            replaced("backward", _projection_left_out),
        ),
        (
            "embedding's length left out",
            "dX1 = dY (U2 - Y U1) against the same / N1",
            "vectors of other length than 1",
            "kind of bug: a missing factor",
            replaced("backward", _length_left_out),
        ),
        (
            "margin added to the cosine",
            "max(0, y + margin) against max(0, y - margin)",
            "a margin, and a target of -1",
            "kind of bug: sign",
            replaced("forward", _margin_added),
        ),
    ),
    *of(
        "TripletMarginLoss",
        (
            "positive and negative exchanged backward",
            "dP = -dM d'(a, n) against -dM d'(a, p)",
            "any",
            "kind of bug: the wrong index",
            replaced("backward", _pairs_exchanged),
        ),
        (
            "negative's share of the anchor left out",
            "dA = dM d'(a, p) against dM (d'(a, p) - d'(a, n))",
            "any",
            "kind of bug: a missing term",
            replaced("backward", _anchor_left_out),
        ),
        (
            "swap forward only",
            "d(a, n) has the gradient where d(p, n) was the smaller",
            "swap",
            "kind of bug: an option ignored backward",
            replaced("backward", _swap_forgotten),
        ),
        (
            "triplet's distance of 0 divided by",
            "D / N against 0 where N = 0: 0 / 0",
            "an anchor that is its positive, eps 0",
            "tensorflow/tensorflow#30199",
            replaced("backward", _zero_distance),
        ),
        (
            "triplet's distance not divided by",
            "d' = D against D / N",
            "a distance other than 1",
            "kind of bug: a missing factor",
            replaced("backward", _distance_forgotten),
        ),
    ),
    *of(
        "MultiMarginLoss",
        (
            "sign of the other classes",
            "margin - x[t] - x[c] against margin - x[t] + x[c]",
            "any",
            "torch/nn#1177",
            replaced("forward", _other_sign_of_others),
        ),
        (
            "no gradient of the target's class",
            "dX[t] = 0 against -dL sum_c G[c]",
            "an open hinge",
            "kind of bug: a missing term",
            replaced("backward", _own_class_once),
        ),
        (
            "margin weighed by each class",
            "G = W[c] (...) against W[t] (...)",
            "class weights",
            "kind of bug: the wrong index",
            replaced("forward", _weight_of_each_class),
        ),
        (
            "2 of the squared hinge missing",
            "dX = dL h against 2 dL h",
            "p of 2",
            "kind of bug: a missing factor",
            replaced("forward", _two_left_out),
        ),
        (
            "margins added in place of averaged",
            "dX = dL (...) against dL (...) / C",
            "more than one class",
            "kind of bug: a missing 1/N",
            replaced("backward", _classes_added),
        ),
    ),
    *of(
        "MultiLabelMarginLoss",
        (
            "list of targets that never ends",
            "what stands behind a -1 counts",
            "a list that is ended by -1 and goes on",
            "kind of bug: a mask ignored",
            replaced("forward", _list_never_ends),
        ),
        (
            "targets among the other classes",
            "the hinge's sum runs over all classes against those that are no target",
            "any",
            "kind of bug: a missing mask",
            replaced("forward", _targets_not_left_out),
        ),
        (
            "no gradient of the targets",
            "dX = dL sum_k G against the same minus what the targets have",
            "an open hinge",
            "kind of bug: a missing term",
            replaced("backward", _no_gradient_of_targets),
        ),
    ),
)
