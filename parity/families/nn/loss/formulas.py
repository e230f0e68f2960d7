"""Other formulas of the losses: a weaker one of BCEWithLogitsLoss, and BCELoss where its logarithms are clamped."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from parity.families.fault import replaced
from parity.families.formula import Patch, Variant
from refnet.arithmetic import special

FLOOR = float(np.float32(1e-12))
"""What torch keeps x(1 - x) above, in float64 too."""


def _logits_by_difference(module: Any) -> None:
    right_forward, right_backward = module.forward, module.backward

    def forward(X: Any, T: Any) -> Any:
        _, saved = right_forward(X, T)
        *_, A, _, W, P = saved
        # L[.] = W[.] ((1 - T[.]) X[.] - (1 + (P[.] - 1) T[.]) log s(X[.]))
        L = (1 - T) * X - (A if P is None else (1 + (P - 1) * T) * A)
        L = L if W is None else W * L
        if module.reduction == "none":
            return L, saved
        return np.sum(L) if module.reduction == "sum" else np.sum(L) / (X.size or math.nan), saved

    def backward(dY: Any, saved: Any) -> Any:
        X, T, *_, W, P = saved
        (_, dT), grads = right_backward(dY, saved)
        S = special.sigmoid(X)
        # dX[.] = dY[.] W[.] ((1 + P[.] T[.] - T[.]) s(X[.]) - P[.] T[.]), for a mean / n
        dX = dY * (S - T if P is None else (P * T + 1 - T) * S - P * T)
        dX = dX if W is None else dX * W
        return (dX / X.size if module.reduction == "mean" else dX, dT), grads

    module.forward, module.backward = forward, backward


def _logits_through_softplus(module: Any) -> None:
    def backward(dY: Any, saved: Any) -> Any:
        X, T, A, B, W, P = saved
        dL = dY if W is None else dY * W
        # s(X[.]) = exp(X[.] + log s(-X[.])), s(-X[.]) = exp(log s(X[.]) - X[.])
        # dX[.] = dY[.] W[.] ((1 - T[.]) s(X[.]) - P[.] T[.] s(-X[.])), for a mean / n
        dX = dL * ((1 - T) * np.exp(X + B) - (T if P is None else P * T) * np.exp(A - X))
        # dT[.] = dY[.] W[.] (log s(-X[.]) - P[.] log s(X[.])), for a mean / n
        dT = dL * (B - (A if P is None else P * A))
        if module.reduction == "mean":
            dX, dT = dX / X.size, dT / X.size
        return (dX, dT), {}

    module.backward = backward


def _slope_from_the_right(module: Any) -> None:
    right = module.forward

    def forward(X: Any, T: Any) -> Any:
        D = X - T
        L, (_, n) = right(X, T)
        one, minus = special.lift(1.0, X), special.lift(-1.0, X)
        # sign(D[.]) is 1 at 0
        return L, (np.where(D < 0, minus, one), n)

    module.forward = forward


def _derivative_of_clamps(module: Any) -> None:
    def backward(dY: Any, saved: Any) -> Any:
        X, T, A, B, W = saved
        dL = dY if W is None else dY * W
        # dX[.] = -dY[.] W[.] (T[.] [A[.] > -100] / X[.] - (1 - T[.]) [B[.] > -100] / (1 - X[.])), for a mean / n
        one, some, other = special.lift(1.0, X), A > -100, B > -100
        dX = -(
            dL
            * (
                np.where(some, T / np.where(some, X, one), 0)
                - np.where(other, (1 - T) / np.where(other, 1 - X, one), 0)
            )
        )
        dT = dL * (B - A)
        if module.reduction == "mean":
            dX, dT = dX / X.size, dT / X.size
        return (dX, dT), {}

    module.backward = backward


def _two_quotients(module: Any) -> None:
    def backward(dY: Any, saved: Any) -> Any:
        X, T, A, B, W = saved
        dL = dY if W is None else dY * W
        # dX[.] = dL[.] (1 - T[.]) [B[.] > -100] / (1 - X[.]) - dL[.] T[.] [A[.] > -100] / X[.]
        # with dL[.] = dY[.] W[.], for a mean / n
        dL = dL / X.size if module.reduction == "mean" else dL
        one, some, other = special.lift(1.0, X), A > -100, B > -100
        dX = np.where(other, dL * (1 - T) / np.where(other, 1 - X, one), 0) - np.where(
            some, dL * T / np.where(some, X, one), 0
        )
        return (dX, dL * B - dL * A), {}

    module.backward = backward


def _floored_variance(module: Any) -> None:
    # Written out once more: whatever refnet's own lines give would be right by definition, their mistakes too.
    def backward(dY: Any, saved: Any) -> Any:
        X, T, A, B, W = saved
        variance, floor = X * (1 - X), special.lift(FLOOR, X)
        dL = dY if W is None else dY * W
        # dX[.] = dY[.] W[.] (X[.] - T[.]) / max(X[.] (1 - X[.]), FLOOR)     dT[.] = dY[.] W[.] (B[.] - A[.]), / n
        dX = dL * ((X - T) / np.where(variance > floor, variance, floor))
        dT = dL * (B - A)
        if module.reduction == "mean":
            dX, dT = dX / X.size, dT / X.size
        return (dX, dT), {}

    module.backward = backward


def _torch_binary_cross_entropy(module: Any) -> None:
    def backward(dY: Any, saved: Any) -> Any:
        X, T, _, _, W = saved
        variance, floor = X * (1 - X), special.lift(FLOOR, X)
        dL = dY if W is None else dY * W
        # dX[.] = dY[.] W[.] (X[.] - T[.]) / max(X[.] (1 - X[.]), 1e-12), multiplied first; for a mean / n
        dX = dL * (X - T) / np.where(variance > floor, variance, floor)
        # dT[.] = dY[.] W[.] (log(1 - X[.]) - log X[.]), for a mean / n
        dT = dL * (np.log1p(-X) - np.log(X))
        if module.reduction == "mean":
            dX, dT = dX / X.size, dT / X.size
        return (dX, dT), {}

    module.backward = backward


def _huber_by_its_line(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    D, near, delta, n = saved
    dL = dY / n if module.reduction == "mean" else dY
    A = np.absolute(D)
    # dX[.] = sign(D[.]) (dL[.] delta + (dL[.] |D[.]| - dL[.] delta)), without the second term where |D[.]| >= delta
    G = dL * delta + np.where(near, dL * np.where(near, A, delta) - dL * delta, special.lift(0.0, D))
    dX = np.where(D > 0, G, np.where(D < 0, -G, D))
    return (dX, -dX), {}


WEAKER = (
    Variant(
        "(1 - t) x - log s(x)",
        "The loss of logits, and its gradient s(x) - t, as differences: no digits are left far on the target's side.",
        "torch: aten/src/ATen/native/Loss.cpp and torch/csrc/autograd/FunctionsManual.cpp, "
        "binary_cross_entropy_with_logits and its backward",
        {"BCEWithLogitsLoss": _logits_by_difference},
        ("torch",),
    ),
    Variant(
        "exp(x - softplus(x))",
        "The gradients of logits through softplus: s(x) as exp(x - softplus(x)), and the target's as the difference of "
        "log s(-x) and log s(x), which cancels near 0.",
        "JAX: jax/_src/lax/other.py, logaddexp and its derivative; jax/_src/nn/functions.py, log_sigmoid",
        {"BCEWithLogitsLoss": _logits_through_softplus},
        ("jax",),
    ),
    Variant(
        "(1 - t) / (1 - x) - t / x",
        "The gradient as the difference of the two logarithms' gradients, each multiplied by the upstream gradient: it "
        "cancels where x is near t.",
        "JAX: jax/_src/lax/lax.py, the derivatives of log and log1p, through -(t log x + (1 - t) log1p(-x)) in reverse",
        {"BCELoss": _two_quotients},
        ("jax",),
    ),
    Variant(
        "delta + (|d| - delta) in huber'",
        "The gradient of the square beside that of the line, delta: it has few digits where the difference is small.",
        "optax: optax/losses/_regression.py, huber_loss, delta * (|d| - min(|d|, delta)), differentiated",
        {"HuberLoss": replaced("backward", _huber_by_its_line)},
        ("jax",),
    ),
)

DERIVATIVES: Mapping[str, Patch] = {"BCELoss": _derivative_of_clamps}
"""Where refnet follows a convention that is not its formula's derivative: the derivative, as the tape finds it."""

CONVENTIONS = (
    Variant(
        "|x|'(0) = 1",
        "The slope of |x| at the kink from the right.",
        "JAX: jax/_src/lax/lax.py, _abs_jvp_rule",
        {"L1Loss": _slope_from_the_right},
        ("jax",),
    ),
    Variant(
        "(x - t) / max(x(1 - x), 1e-12)",
        "The gradient of binary cross-entropy where its logarithms are clamped and its derivative is therefore 0.",
        "torch: documentation of torch.nn.BCELoss; aten/src/ATen/native/Loss.cpp, binary_cross_entropy_backward",
        {"BCELoss": _floored_variance},
    ),
    Variant(
        "(x - t) / max(x(1 - x), 1e-12), target without clamps",
        "The same, with the target's gradient log(1 - x) - log x: infinite at 0 and 1.",
        "torch: tools/autograd/derivatives.yaml, binary_cross_entropy",
        {"BCELoss": _torch_binary_cross_entropy},
    ),
)

NO_OTHER: Mapping[str, str] = {
    "MSELoss": "a difference and its square",
    "HalfSquaredError": "a difference and its square",
    "SmoothL1Loss": "a difference, its square, and a line that loses nothing",
}
