"""Other formulas of NLLLoss, KLDivLoss, GaussianNLLLoss and PoissonNLLLoss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from parity.families.fault import replaced
from parity.families.formula import Patch, Variant
from refnet.arithmetic import special
from refnet.nn.loss import reduced

TORCH_LOSS = "torch: aten/src/ATen/native/Loss.cpp"


def reduced_as(module: Any, L: Any) -> Any:
    """What the module makes of losses L."""
    by_batch = module.reduction == "batchmean"
    n = (L.shape[0] if L.ndim else 1) if by_batch else L.size
    return reduced(L, n, "mean" if by_batch else module.reduction)


def _kl_by_difference(module: Any, right: Any, X: Any, T: Any) -> Any:
    _, saved = right(X, T)
    if module.log_target:
        # G[.] = exp(T[.]) (T[.] - X[.]) + exp(T[.])
        E = np.exp(T)
        return reduced_as(module, E * (T - X)), saved._replace(G=E * (T - X) + E)
    # L[.] = T[.] log T[.] - T[.] X[.]     G[.] = log T[.] + T[.] / T[.] - X[.]
    zero = special.lift(0.0, X)
    A = np.log(T)
    return reduced_as(module, np.where(T == 0, zero, T * A) - T * X), saved._replace(G=A + T / T - X)


def _kl_clipped(module: Any, right: Any, X: Any, T: Any) -> Any:
    if module.log_target:
        return right(X, T)
    _, saved = right(X, T)
    zero, one, least = special.lift(0.0, X), special.lift(1.0, X), special.lift(1e-7, X)
    # P[.], Q[.]: T[.] and exp(X[.]) clipped to [1e-7, 1]     L[.] = P[.] log(P[.] / Q[.])
    E = np.exp(X)

    def clipped(A: Any, inside: Any) -> Any:
        return np.where(A - least < 0, inside[0], np.where(A - one > 0, inside[1], inside[2]))

    P, Q = clipped(T, (least, one, T)), clipped(E, (least, one, E))
    A = np.log(P) - np.log(Q)
    saved = saved._replace(P=clipped(E, (zero, zero, P)), G=clipped(T, (zero, zero, A + 1)))
    return reduced_as(module, P * A), saved


def _variance_by_difference(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    D, V, _, var, given = saved
    (dX, dT, dV), grads = right(dY, saved)
    dL = dY if module.reduction != "mean" else dY / D.size
    if given:
        # dV[.] = dL[.] / 2 / V[.] - dL[.] / 2 (D[.]^2 / V[.]) / V[.]
        half = dL / 2
        dV = _summed(half / V - half * ((D * D) / V / V), V.shape).reshape(var)
    return (dX, dT, dV), grads


def _summed(G: Any, shape: tuple[int, ...]) -> Any:
    axes = tuple(a - G.ndim for a, n in enumerate(G.shape) if shape[a] != n)
    return G.sum(axis=axes, keepdims=True) if axes else G


def _open_where(module: Any, right: Any, X: Any, T: Any, var: Any) -> Any:
    Y, saved = right(X, T, var)
    one, zero, eps = (special.lift(value, X) for value in (1.0, 0.0, module.eps))
    return Y, (saved, np.where(var - eps < 0, zero, one).reshape(saved.V.shape))


def _zero_where_clamped(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    inner, open_ = saved
    (dX, dT, _), grads = right(dY, inner)
    D, V = inner.D, inner.V
    dL = dY if module.reduction != "mean" else dY / D.size
    # dV[.] = dL[.] (1 - D[.]^2 / V[.]) / (2 V[.]) where V[.] is not clamped, 0 where it is
    dV = _summed(open_ * (dL * ((1 - D * (D / V)) / (2 * V))), V.shape)
    return (dX, dT, dV.reshape(inner.var)), grads


def _clamp_has_a_derivative(module: Any) -> None:
    replaced("forward", _open_where)(module)
    replaced("backward", _zero_where_clamped)(module)


def _clamp_passed_through(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    # Written out once more: whatever refnet's own lines give would be right by definition, their mistakes too.
    D, V, _, var, given = saved
    (dX, dT, dV), grads = right(dY, saved)
    dL = dY if module.reduction != "mean" else dY / D.size
    if given:
        # dV[.] = dL[.] (V[.] - D[.]^2) / (2 V[.]^2), clamped or not
        dV = _summed(dL * ((1 - D * (D / V)) / (2 * V)), V.shape).reshape(var)
    return (dX, dT, dV), grads


def _rate_by_difference(module: Any, right: Any, X: Any, T: Any) -> Any:
    Y, saved = right(X, T)
    if module.log_input:
        return Y, saved
    # G[.] = 1 - T[.] / (X[.] + eps)
    return Y, saved._replace(G=1 - T / (X + special.lift(module.eps, X)))


def _masked_afterwards(module: Any, right: Any, X: Any, T: Any) -> Any:
    Y, saved = right(X, T)
    if not module.full:
        return Y, saved
    zero = special.lift(0.0, X)
    # H[.] + m[.] log T[.] + m[.] T[.] / T[.] - m[.] + m[.] / (2 T[.]), m[.] = [T[.] > 1]: 0 / 0 at T[.] = 0
    m = np.where(T > 1, special.lift(1.0, X), zero)
    H = -(X if module.log_input else np.log(X + special.lift(module.eps, X)))
    return Y, saved._replace(H=H + m * np.log(T) + m * T / T - m + m / (2 * T))


def _poisson_as_torch(module: Any) -> None:
    replaced("forward", _rate_by_difference)(module)
    replaced("forward", _masked_afterwards)(module)


WEAKER = (
    Variant(
        "t log t - t x",
        "The divergence as the difference of two terms, which cancel where t is near exp(x).",
        f"{TORCH_LOSS}, kl_div; tools/autograd/derivatives.yaml, xlogy",
        {"KLDivLoss": replaced("forward", _kl_by_difference)},
        ("torch",),
    ),
    Variant(
        "1 - t/(x + eps)",
        "The gradient by a rate as a difference: it has lost its digits where the rate is near the count.",
        f"{TORCH_LOSS}, poisson_nll_loss, differentiated",
        {"PoissonNLLLoss": replaced("forward", _rate_by_difference)},
        ("torch",),
    ),
)

CONVENTIONS = (
    Variant(
        "target's gradient NaN at 0",
        "The gradient of a target of 0 has the quotient 0 / 0; the slope there is infinite.",
        "torch: tools/autograd/derivatives.yaml, xlogy; pytorch/pytorch#89558",
        {"KLDivLoss": replaced("forward", _kl_by_difference)},
        ("torch", "jax"),
    ),
    Variant(
        "variance's gradient through the clamp",
        "The derivative by the clamped variance, where the formula's own by the variance is 0.",
        "torch: documentation of torch.nn.GaussianNLLLoss; torch/nn/functional.py, gaussian_nll_loss",
        {"GaussianNLLLoss": replaced("backward", _clamp_passed_through)},
    ),
    Variant(
        "variance's gradient through the clamp, as 1/v - (x - t)^2/v^2",
        "The same, as the difference of two quotients.",
        "torch: torch/nn/functional.py, gaussian_nll_loss, differentiated",
        {"GaussianNLLLoss": replaced("backward", _variance_by_difference)},
    ),
    Variant(
        "Stirling's term masked after its logarithm",
        "The target's gradient is NaN at t = 0: 0 times infinity.",
        f"{TORCH_LOSS}, poisson_nll_loss, whose masked_fill comes last",
        {"PoissonNLLLoss": _poisson_as_torch},
    ),
    Variant(
        "divergence clipped to [1e-7, 1]",
        "Both distributions are clipped first; the gradient is 0 where one is.",
        "Keras: keras/src/losses/losses.py, kl_divergence",
        {"KLDivLoss": replaced("forward", _kl_clipped)},
    ),
)

DERIVATIVES: Mapping[str, Patch] = {"GaussianNLLLoss": _clamp_has_a_derivative}
"""Where refnet follows a convention that is not its formula's derivative: the derivative, as the tape finds it."""

NO_OTHER: Mapping[str, str] = {"NLLLoss": "a choice of elements, a product and a sum"}
