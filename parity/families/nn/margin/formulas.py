"""Other formulas of the losses with a margin."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from parity.families.fault import replaced
from parity.families.formula import Variant
from refnet.arithmetic import special
from refnet.nn.loss import reduced

TORCH_LOSS = "torch: aten/src/ATen/native/Loss.cpp"


def _labels_through_log_sigmoid(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    X, T, W, n = saved
    dL = np.expand_dims(dY, -1) if module.reduction == "none" else dY
    dE = (dL / n if module.reduction == "mean" else dL) / X.shape[-1]
    dE = dE if W is None else dE * W
    # dX[n,c] = dE[n] ((1 - T[n,c]) s(X[n,c]) - T[n,c] s(-X[n,c]))
    dX = dE * (1 - T) * special.sigmoid(X) - dE * T * special.sigmoid(-X)
    # dT[n,c] = dE[n] (log s(-X[n,c]) - log s(X[n,c]))
    return (dX, dE * special.log_sigmoid(-X) - dE * special.log_sigmoid(X)), {}


def _through_softplus(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    M, Y = saved
    dL = dY / (M.size or math.nan) if module.reduction == "mean" else dY
    # dX[.] = -dL[.] Y[.] exp(-M[.] + log s(M[.])), M[.] = Y[.] X[.]
    return (-(dL * np.exp(special.log_sigmoid(M) - M) * Y), None), {}


def _labels_through_softplus(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    X, T, W, n = saved
    dL = np.expand_dims(dY, -1) if module.reduction == "none" else dY
    dE = (dL / n if module.reduction == "mean" else dL) / X.shape[-1]
    dE = dE if W is None else dE * W
    A, B = special.log_sigmoid(X), special.log_sigmoid(-X)
    # s(X[n,c]) = exp(X[n,c] + log s(-X[n,c])), s(-X[n,c]) = exp(log s(X[n,c]) - X[n,c])
    # dX[n,c] = dE[n] ((1 - T[n,c]) s(X[n,c]) - T[n,c] s(-X[n,c]))
    dX = dE * (1 - T) * np.exp(X + B) - dE * T * np.exp(A - X)
    # dT[n,c] = dE[n] (log s(-X[n,c]) - log s(X[n,c]))
    return (dX, dE * B - dE * A), {}


def _cosine_by_difference(module: Any, right: Any, X1: Any, X2: Any, T: Any) -> Any:
    _, saved = right(X1, X2, T)
    zero, t = special.lift(0.0, X1), np.expand_dims(T, -1)
    # L[n] = 1 - Y[n] for T[n] = 1
    M = saved.Y - special.lift(module.margin, X1)
    L = np.where(t == 1, 1 - saved.Y, zero) + np.where(t == -1, np.where(M < 0, zero, M), zero)
    return reduced(L.sum(axis=-1), saved.Y.size, module.reduction), saved


def _cosine_by_difference_backward(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    U1, U2, N1, N2, Y, slope, _ = saved
    dL = np.expand_dims(dY, -1) if module.reduction == "none" else dY
    dC = (dL / Y.size if module.reduction == "mean" else dL) * slope
    # dX1[n,i] = dC[n] X2[n,i] / (N1[n] N2[n]) - dC[n] Y[n] X1[n,i] / N1[n]^2, dX2 likewise
    X1, X2 = U1 * N1, U2 * N2
    both = dC / (N1 * N2)
    return (both * X2 - dC * Y / (N1 * N1) * X1, both * X1 - dC * Y / (N2 * N2) * X2, None), {}


def _cosine_as_torch(module: Any) -> None:
    replaced("forward", _cosine_by_difference)(module)
    replaced("backward", _cosine_by_difference_backward)(module)


def _hinge(module: Any, right: Any, X: Any, T: Any) -> Any:
    Y, saved = right(X, T)
    # [M[.] > 0]: closed where it is 0
    tiny = np.where(saved.M == 0, special.lift(-1.0, X), saved.M)
    return Y, saved._replace(M=tiny)


def _ranking(module: Any, right: Any, X1: Any, X2: Any, T: Any) -> Any:
    Y, saved = right(X1, X2, T)
    return Y, saved._replace(on=special.lift(module.margin, X1) - saved.Y * saved.D > 0)


def _hinge_passes(module: Any, right: Any, X: Any, T: Any) -> Any:
    Y, saved = right(X, T)
    if module.p == 2:
        return Y, saved
    zero = special.lift(0.0, X)
    C = X.shape[-1]
    M = special.lift(module.margin, X) - (special.total(np.where(saved.Q, X, zero), -1, keepdims=True) - X)
    W = module.buffers.get("weight")
    Z = special.lift(1.0, X) if W is None else special.total(np.where(saved.Q, W, zero), -1, keepdims=True)
    # G[n,c] = W[T[n]] [M[n,c] >= 0] / C
    return Y, saved._replace(G=np.where(saved.Q, zero, np.where(M >= 0, Z, zero)) / C)


CLOSED = "max(0, m)'(0) = 0"

WEAKER = (
    Variant(
        "target's gradient log s(-x) - log s(x)",
        "A difference that cancels near 0, where it is -x.",
        "torch: torch/nn/functional.py, multilabel_soft_margin_loss, differentiated",
        {"MultiLabelSoftMarginLoss": replaced("backward", _labels_through_log_sigmoid)},
        ("torch",),
    ),
    Variant(
        "1 - x1 x2 / sqrt(|x1|^2 |x2|^2)",
        "One minus the cosine as a difference: no digits are left where the two point the same way.",
        f"{TORCH_LOSS}, cosine_embedding_loss",
        {"CosineEmbeddingLoss": _cosine_as_torch},
        ("torch",),
    ),
    Variant(
        "s(x) as exp(x - softplus(x))",
        "The gradient through softplus: the rounding of a large exponent counts as often as it is large.",
        "JAX: jax/_src/lax/other.py, logaddexp and its derivative; optax: sigmoid_binary_cross_entropy",
        {
            "SoftMarginLoss": replaced("backward", _through_softplus),
            "MultiLabelSoftMarginLoss": replaced("backward", _labels_through_softplus),
        },
        ("jax",),
    ),
)

CONVENTIONS = (
    Variant(
        CLOSED,
        "The gradient of a hinge that is exactly 0, from the closed side.",
        "Keras and JAX: hinges by relu, whose derivative at 0 is 0; jax/_src/nn/functions.py, relu",
        {
            "HingeEmbeddingLoss": replaced("forward", _hinge),
            "MarginRankingLoss": replaced("forward", _ranking),
        },
    ),
    Variant(
        "max(0, m)'(0) = 1",
        "The gradient of a hinge that is exactly 0, from the open side.",
        "torch: tools/autograd/derivatives.yaml, clamp_min, which torch.nn.functional.margin_ranking_loss uses",
        {"MultiMarginLoss": replaced("forward", _hinge_passes)},
    ),
)

NO_OTHER: Mapping[str, str] = {
    "MultiLabelMarginLoss": "differences, a choice of elements and sums",
    "TripletMarginLoss": "two norms and their difference",
}
