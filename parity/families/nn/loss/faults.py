"""Mistakes in the losses of two arrays of one shape, and those that every loss can have."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from parity.families.fault import Fault, Unsupported, replaced
from refnet.arithmetic import special
from refnet.nn import HuberLoss
from refnet.nn.loss import reduced

ROBUST = ("HuberLoss", "SmoothL1Loss")
ELEMENTWISE = (
    *("MSELoss", "L1Loss", *ROBUST, "BCELoss", "BCEWithLogitsLoss", "KLDivLoss", "GaussianNLLLoss", "PoissonNLLLoss"),
    *("SoftMarginLoss", "HingeEmbeddingLoss", "MarginRankingLoss"),
)
ROWS = (
    "LinearCrossEntropyLoss",
    *("CrossEntropyLoss", "NLLLoss", "MultiLabelSoftMarginLoss", "CosineEmbeddingLoss", "TripletMarginLoss"),
    *("MultiMarginLoss", "MultiLabelMarginLoss"),
)
REDUCED = (*ELEMENTWISE, *ROWS)
DISTANCES = ("CosineSimilarity", "PairwiseDistance")


def _mean_for_sum(module: Any) -> None:
    if module.reduction == "sum":
        module.reduction = "mean"


def _sum_for_mean(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    # dX[.] = dY l'[.] against dY l'[.] / n
    reduction = module.reduction
    module.reduction = "sum" if reduction == "mean" else reduction
    result = right(dY, saved)
    module.reduction = reduction
    return result


def _upstream_ignored(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    # dY[.] = 1
    return right(dY * 0 + 1, saved)


def _samples(X: Any) -> int:
    """By how much a mean over elements is smaller than the sum over elements divided by the number of samples."""
    return math.prod(X.shape[1:])


def _mean_over_samples(module: Any, right: Any, X: Any, *others: Any) -> Any:
    Y, saved = right(X, *others)
    # Y = sum_. l[.] / N against sum_. l[.] / n, n = N times the elements of a sample
    return (Y * _samples(X) if module.reduction == "mean" else Y), saved


def _mean_over_samples_backward(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    inputs, grads = right(dY, saved)
    if module.reduction != "mean":
        return inputs, grads
    return tuple(dX if dX is None else dX * _samples(inputs[0]) for dX in inputs), grads


def _over_samples(module: Any) -> None:
    replaced("forward", _mean_over_samples)(module)
    replaced("backward", _mean_over_samples_backward)(module)


def _without_two(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    (dX, dT), grads = right(dY, saved)
    # dX[.] = dY (X[.] - T[.]) / n
    return (dX / 2, dT / 2), grads


def _doubled(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    (dX, dT), grads = right(dY, saved)
    # dX[.] = dY 2 (X[.] - T[.])
    return (dX * 2, dT * 2), grads


def _by_the_power_rule(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    D, n = saved
    # dX[.] = dY 2 (X[.] - T[.])^2 / (X[.] - T[.]) / n
    dX = dY * 2 * ((D * D) / D)
    dX = dX / n if module.reduction == "mean" else dX
    return (dX, -dX), {}


def _sign_at_tie(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    sign, n = saved
    # dX[.] = dY [X[.] > T[.]] - dY [X[.] <= T[.]]
    return right(dY, (np.where(sign == 0, special.lift(-1.0, sign), sign), n))


def _minus_of_target(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    (dX, _), grads = right(dY, saved)
    # dT[.] = dX[.]
    return (dX, dX), grads


def _bce_unclamped(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    X, T, *_, W = saved
    (_, dT), grads = right(dY, saved)
    dL = dY if W is None else dY * W
    # dX[.] = dY W[.] (X[.] - T[.]) / (X[.] (1 - X[.]))
    dX = dL * ((X - T) / (X * (1 - X)))
    return (dX / X.size if module.reduction == "mean" else dX, dT), grads


def _bce_clipped(module: Any, right: Any, X: Any, T: Any) -> Any:
    low, high = special.lift(1e-7, X), 1 - special.lift(1e-7, X)
    # X[.] = min(max(X[.], 1e-7), 1 - 1e-7)
    X = np.where(X < low, low, X)
    return right(np.where(X > high, high, X), T)


def _bce_one_sided(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    X, T, *_, W = saved
    (_, dT), grads = right(dY, saved)
    dL = dY if W is None else dY * W
    # dX[.] = -dY W[.] T[.] / X[.]
    dX = dL * -(T / X)
    return (dX / X.size if module.reduction == "mean" else dX, dT), grads


def _bce_weight_left_out(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    *before, _ = saved
    # dX[.] without W[.]
    return right(dY, (*before, None))


def _logits_by_absolute_value(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    X, T, *_, W, P = saved
    (dX, dT), grads = right(dY, saved)
    if P is not None:
        raise Unsupported("the formula has no pos_weight")
    dL = dY if W is None else dY * W
    # dX[.] = dY W[.] (1 - T[.] - 0) where X[.] = 0: the slope of max(x, 0), minus t, and that of |x|
    tie = dL * (1 - T)
    return (np.where(X == 0, tie / X.size if module.reduction == "mean" else tie, dX), dT), grads


def _logits_shifted_wrongly(module: Any, right: Any, X: Any, T: Any) -> Any:
    _, saved = right(X, T)
    *_, W, P = saved
    if P is not None:
        raise Unsupported("the formula has no pos_weight")
    zero = special.lift(0.0, X)
    # L[.] = (1 - T[.]) X[.] + M[.] + log(exp(-M[.]) + exp(-X[.] - M[.])), M[.] = max(X[.], 0)
    M = np.where(X > 0, X, zero)
    L = (1 - T) * X + M + np.log(np.exp(-M) + np.exp(-X - M))
    L = L if W is None else W * L
    if module.reduction == "none":
        return L, saved
    return np.sum(L) if module.reduction == "sum" else np.sum(L) / (X.size or math.nan), saved


def _pos_weight_left_out(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    *before, _ = saved
    # dX[.] without P[.]
    return right(dY, (*before, None))


def _signed_threshold(module: Any, right: Any, X: Any, T: Any) -> Any:
    Y, saved = right(X, T)
    D, end = saved.D, special.lift(getattr(module, "beta", None) or getattr(module, "delta", 1.0), X)
    # D[.] < delta against |D[.]| < delta
    near = D - end < 0
    if isinstance(module, HuberLoss):
        return Y, saved._replace(near=near)
    return Y, saved._replace(near=near, Q=D / end)


def _line_to_the_right_alone(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    D, near, *_ = saved
    (dX, dT), grads = right(dY, saved)
    zero = special.lift(0.0, D)
    # dX[.] = 0 where D[.] <= -delta
    keep = [np.where(near, G, np.where(D < 0, zero, G)) for G in (dX, dT)]
    return tuple(keep), grads


def _line_of_slope_one(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    # dX[.] = dL[.] sign(D[.]) against dL[.] delta sign(D[.])
    return right(dY, saved._replace(delta=special.lift(1.0, saved.D)))


def _half_delta_left_out(module: Any, right: Any, X: Any, T: Any) -> Any:
    _, saved = right(X, T)
    D = saved.D
    S = np.where(saved.near, D, special.lift(0.0, X))
    # L[.] = delta |D[.]| against delta (|D[.]| - delta / 2)
    return reduced(np.where(saved.near, S * S / 2, saved.delta * np.absolute(D)), X.size, module.reduction), saved


def _square_without_beta(module: Any, right: Any, X: Any, T: Any) -> Any:
    _, saved = right(X, T)
    S = np.where(saved.near, saved.D, special.lift(0.0, X))
    beta, A = special.lift(module.beta, X), np.absolute(saved.D)
    # L[.] = D[.]^2 / 2 against D[.]^2 / (2 beta), and so Q[.] = D[.]
    L = np.where(saved.near, S * S / 2, A - beta / 2)
    return reduced(L, X.size, module.reduction), saved._replace(Q=S)


def _beta_forward_only(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    # dX[.] = dL[.] D[.] where |D[.]| < beta
    return right(dY, saved._replace(Q=np.where(saved.near, saved.D, special.lift(0.0, saved.D))))


def _divided_by_beta_zero(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    D, _, _, n = saved
    beta = special.lift(module.beta, D)
    dL = dY / n if module.reduction == "mean" else dY
    one, minus = special.lift(1.0, D), special.lift(-1.0, D)
    # dX[.] = dL[.] D[.] / beta where |D[.]| <= beta, dL[.] sign(D[.]) elsewhere
    dX = dL * np.where(D > beta, one, np.where(-D > beta, minus, D / beta))
    return (dX, -dX), {}


def _against_every_target(module: Any, right: Any, X: Any, T: Any) -> Any:
    if X.ndim != 1 or module.reduction == "none" or module.buffers:
        raise Unsupported("it takes vectors, and a loss of one number")
    N = X.shape[0]
    # l[n,m] of X[n] and T[m], n and m of N each
    return right(*(np.broadcast_to(A, (N, N)) for A in (X.reshape(N, 1), T)))


def _of_every_target(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    (dX, dT), grads = right(dY, saved)
    # dX[n] = sum_m dY l'(X[n], T[m])     dT[m] = sum_n
    return (dX.sum(axis=-1), dT if dT is None else dT.sum(axis=-2)), grads


def _every_against_every(module: Any) -> None:
    replaced("forward", _against_every_target)(module)
    replaced("backward", _of_every_target)(module)


def _logits_shifted_wrongly_backward(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    X, T, *_, W, P = saved
    (_, dT), grads = right(dY, saved)
    if P is not None:
        raise Unsupported("the formula has no pos_weight")
    dL = dY if W is None else dY * W
    dL = dL / X.size if module.reduction == "mean" else dL
    zero, one = special.lift(0.0, X), special.lift(1.0, X)
    M: Any = np.where(X > 0, X, zero)
    S: Any = np.where(X > 0, one, zero)
    A, B = np.exp(-M), np.exp(-X - M)
    # dX[.] = dL[.] (1 - T[.] + S[.] - (S[.] A[.] + (1 + S[.]) B[.]) / (A[.] + B[.])), the derivative of that formula
    return (dL * (1 - T + S - (S * A + (1 + S) * B) / (A + B)), dT), grads


def _shifted_wrongly(module: Any) -> None:
    replaced("forward", _logits_shifted_wrongly)(module)
    replaced("backward", _logits_shifted_wrongly_backward)(module)


FAULTS = (
    Fault(
        "threshold on the signed difference",
        "D < delta against |D| < delta: the square for every difference below -delta",
        "a difference below -delta",
        "BobMcDear/attorch#13",
        {name: replaced("forward", _signed_threshold) for name in ROBUST},
    ),
    Fault(
        "line to the right alone",
        "a slope of 0 against -delta where D <= -delta",
        "a difference below -delta",
        "marlbenchmark/on-policy#47",
        {name: replaced("backward", _line_to_the_right_alone) for name in ROBUST},
    ),
    Fault(
        "line of slope 1",
        "dX = dL sign(D) against dL delta sign(D): SmoothL1Loss's slope in HuberLoss",
        "delta other than 1, and a difference beyond it",
        "kind of bug: a missing factor",
        {"HuberLoss": replaced("backward", _line_of_slope_one)},
    ),
    Fault(
        "half of delta left out",
        "L = delta |D| against delta (|D| - delta / 2): a jump at delta",
        "a difference beyond delta",
        "PaddlePaddle/Paddle#44019",
        {"HuberLoss": replaced("forward", _half_delta_left_out)},
    ),
    Fault(
        "square not divided by beta",
        "D^2 / 2 against D^2 / (2 beta): a jump at beta",
        "beta other than 1, and a difference within it",
        "review of pytorch/pytorch#17447",
        {"SmoothL1Loss": replaced("forward", _square_without_beta)},
    ),
    Fault(
        "beta forward only",
        "dX = dL D against dL D / beta",
        "beta other than 1, and a difference within it",
        "pytorch/pytorch#37599; kind of bug: an option ignored backward",
        {"SmoothL1Loss": replaced("backward", _beta_forward_only)},
    ),
    Fault(
        "beta of 0 divided by",
        "dX = dL D / beta where |D| <= beta, 0 / 0 at D = beta = 0, against the line's 0",
        "beta 0 and X = T",
        "pytorch/pytorch#96813",
        {"SmoothL1Loss": replaced("backward", _divided_by_beta_zero)},
    ),
    Fault(
        "every sample against every target",
        "sum_n,m l(X[n], T[m]) / N^2 against sum_n l(X[n], T[n]) / N: shapes (N, 1) and (N,)",
        "vectors of more than one number",
        "pytorch/pytorch#16045, tensorflow/tensorflow#37770, pytorch/pytorch#1939",
        dict.fromkeys(("MSELoss", "BCELoss"), _every_against_every),
    ),
    Fault(
        "mean for sum",
        "Y = sum l / n against Y = sum l, and so their gradients",
        "more than one element",
        "kind of bug: mean for sum",
        dict.fromkeys(REDUCED, _mean_for_sum),
    ),
    Fault(
        "1/N missing",
        "dX = dY l' against dX = dY l' / n, while the reported loss is divided",
        "more than one element",
        "mattm/simple-neural-network before 2015-03-15; kind of bug: a missing 1/N",
        {name: replaced("backward", _sum_for_mean) for name in REDUCED},
    ),
    Fault(
        "mean over samples only",
        "sum l / N against the mean over all elements",
        "samples of more than one element",
        "kind of bug: mean over the wrong axes",
        dict.fromkeys(ELEMENTWISE, _over_samples),
    ),
    Fault(
        "upstream gradient ignored",
        "dX = l' against dX = dY l'",
        "an upstream gradient other than 1",
        "kind of bug: a missing factor",
        {name: replaced("backward", _upstream_ignored) for name in (*REDUCED, *DISTANCES, "HalfSquaredError")},
    ),
    Fault(
        "2 missing",
        "dX = dY (X - T) / n against dX = dY 2 (X - T) / n",
        "any",
        "kind of bug: a missing factor",
        {"MSELoss": replaced("backward", _without_two)},
    ),
    Fault(
        "half left out backward",
        "dX = dY 2 (X - T) against dX = dY (X - T): the square's 2 without the half",
        "any",
        "kind of bug: a factor too many",
        {"HalfSquaredError": replaced("backward", _doubled)},
    ),
    Fault(
        "square by the power rule",
        "D^2 / D against D, 0 / 0 where X = T",
        "X = T",
        "ml-explore/mlx#504",
        {"MSELoss": replaced("backward", _by_the_power_rule)},
    ),
    Fault(
        "sign at the tie",
        "-1 against 0 where X = T (1, JAX's choice, is a listed convention)",
        "X = T",
        "kind of bug: a subgradient at a kink",
        {"L1Loss": replaced("backward", _sign_at_tie)},
    ),
    Fault(
        "target's gradient not negated",
        "dT = dX against dT = -dX",
        "a target with a gradient",
        "kind of bug: sign",
        {name: replaced("backward", _minus_of_target) for name in ("MSELoss", "L1Loss", *ROBUST, "HalfSquaredError")},
    ),
    Fault(
        "BCE unclamped",
        "(X - T) / (X (1 - X)) against (X - T) / max(X (1 - X), 1e-12): division by 0",
        "X = 0 or X = 1",
        "kind of bug: division by 0",
        {"BCELoss": replaced("backward", _bce_unclamped)},
    ),
    Fault(
        "BCE of clipped probabilities",
        "log of x between 1e-7 and 1 - 1e-7 against max(log x, -100)",
        "probabilities nearer to 0 or 1 than 1e-7",
        "a convention elsewhere, that of Keras: keras/src/backend/torch/nn.py, binary_crossentropy",
        {"BCELoss": replaced("forward", _bce_clipped)},
    ),
    Fault(
        "BCE of positives only",
        "dX = -dY T / X against dX = dY (X - T) / (X (1 - X))",
        "a target other than 1",
        "kind of bug: a missing term",
        {"BCELoss": replaced("backward", _bce_one_sided)},
    ),
    Fault(
        "BCE's weight left out backward",
        "dX without W against with it",
        "a weight",
        "kind of bug: a missing factor",
        {"BCELoss": replaced("backward", _bce_weight_left_out)},
    ),
    Fault(
        "logits by |x|",
        "dX = dY (1 - T) against dX = dY (1/2 - T) where X = 0: |x|' is 0 there, max(x, 0)' is not 1/2",
        "X = 0",
        "pytorch/pytorch#1792",
        {"BCEWithLogitsLoss": replaced("backward", _logits_by_absolute_value)},
    ),
    Fault(
        "logits shifted by max(x, 0)",
        "M = max(X, 0) against M = max(-X, 0) in M + log(exp(-M) + exp(-X - M)): overflow",
        "X below -709 in float64, -88 in float32",
        "pytorch/pytorch#2221",
        {"BCEWithLogitsLoss": _shifted_wrongly},
    ),
    Fault(
        "pos_weight left out backward",
        "dX = dY (s(X) - T) against dX = dY ((1 - T) s(X) - P T s(-X))",
        "pos_weight other than 1",
        "kind of bug: a missing factor",
        {"BCEWithLogitsLoss": replaced("backward", _pos_weight_left_out)},
    ),
)
