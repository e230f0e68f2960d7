"""Other formulas of the smooth activations: what cancels where they saturate."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.families.formula import Patch, Variant
from refnet.arithmetic import special
from refnet.nn.activation import CUBIC


def silu_from_sigmoid(module: Any) -> None:
    def gradient(dY: Any, X: Any) -> Any:
        S = special.sigmoid(X)
        # dX[.] = dY[.] S[.] (1 + X[.] (1 - S[.]))
        return dY * (S * (1 + X * (1 - S)))

    module.gradient = gradient


def gelu_by_erf(module: Any) -> None:
    if module.approximate != "none":
        return

    def function(X: Any) -> Any:
        # Y[.] = X[.] / 2 (1 + erf(X[.] / sqrt(2)))
        return X * 0.5 * (1 + special.erf(X / np.sqrt(special.lift(2.0, X))))

    def gradient(dY: Any, X: Any) -> Any:
        H = X / np.sqrt(special.lift(2.0, X))
        # dX[.] = dY[.] ((1 + erf(H[.])) / 2 + H[.] erf'(H[.]) / 2)
        return dY * (0.5 * (1 + special.erf(H)) + 0.5 * (H * special.erf_derivative(H)))

    module.function, module.gradient = function, gradient


def inner(X: Any, slope: float = 3) -> tuple[Any, Any]:
    """The inner function of the approximation of GELU, and its derivative."""
    k = special.erf_derivative(special.lift(0.0, X)) / np.sqrt(special.lift(2.0, X))
    A = special.lift(CUBIC, X) * (X * X)
    return k * (X * (1 + A)), k * (1 + slope * A)


def gelu_by_tanh(module: Any) -> None:
    if module.approximate != "tanh":
        return

    def function(X: Any) -> Any:
        # Y[.] = X[.] / 2 (1 + tanh(U[.]))
        return 0.5 * X * (1 + np.tanh(inner(X)[0]))

    def gradient(dY: Any, X: Any) -> Any:
        U, V = inner(X)
        T = np.tanh(U)
        # dX[.] = dY[.] ((1 + T[.]) / 2 + X[.] / 2 (1 - T[.]^2) U'[.]), T[.] = tanh(U[.])
        return dY * (0.5 * (1 + T) + 0.5 * X * (1 - T * T) * V)

    module.function, module.gradient = function, gradient


def within(patch: Patch) -> Patch:
    """The patch of a block whose activation is patched."""
    return lambda module: patch(module.act)


def _softsign_by_quotient(module: Any) -> None:
    def gradient(dY: Any, X: Any) -> Any:
        D = 1 + np.absolute(X)
        # dX[.] = dY[.] / D[.] - dY[.] |X[.]| / D[.]^2
        return dY / D - dY * (X / D / D) * np.where(X > 0, 1, np.where(X < 0, -1, special.lift(0.0, X)))

    module.gradient = gradient


def _tanhshrink_by_difference(module: Any) -> None:
    def gradient(dY: Any, X: Any) -> Any:
        T = np.tanh(X)
        # dX[.] = dY[.] - dY[.] (1 - T[.]^2)
        return dY - dY * (1 - T * T)

    module.gradient = gradient


def _log_sigmoid_by_logaddexp(module: Any) -> None:
    def gradient(dY: Any, X: Any) -> Any:
        # dX[.] = dY[.] exp(-X[.] + Y[.])
        return dY * np.exp(special.log_sigmoid(X) - X)

    module.gradient = gradient


def _softplus_by_logaddexp(module: Any) -> None:
    def gradient(dY: Any, X: Any) -> Any:
        Z = special.lift(module.beta, X) * X
        near = special.lift(module.threshold, X) >= Z
        # dX[.] = dY[.] exp(Z[.] - log(1 + exp(Z[.]))), Z[.] = beta X[.], up to the threshold
        B = np.where(near, Z, special.lift(0.0, X))
        return np.where(near, dY * np.exp(B + special.log_sigmoid(-B)), dY)

    module.gradient = gradient


def _mish_by_logaddexp(module: Any) -> None:
    def gradient(dY: Any, X: Any) -> Any:
        P = -special.log_sigmoid(-X)
        T = np.tanh(P)
        # dX[.] = dY[.] T[.] + dY[.] X[.] (1 - T[.]^2) exp(X[.] - P[.]), T[.] = tanh(P[.]), P[.] = log(1 + exp(X[.]))
        return dY * T + dY * X * (1 - T * T) * np.exp(X - P)

    module.gradient = gradient


WEAKER = (
    Variant(
        "1 - s(x) in silu'",
        "The derivative of SiLU from the rounded sigmoid: 1 - s(x) has lost its digits where s(x) is near 1.",
        "torch: aten/src/ATen/native/cpu/Activation.cpp, silu_backward_kernel; JAX differentiates x * s(x) likewise",
        {"SiLU": silu_from_sigmoid, "SwiGLU": within(silu_from_sigmoid)},
        ("torch", "jax"),
    ),
    Variant(
        "1 + erf(x / sqrt(2))",
        "The normal distribution from erf: where x is far below 0, 1 and erf cancel.",
        "torch: aten/src/ATen/native/cpu/Activation.cpp, GeluKernelImpl and GeluBackwardKernelImpl",
        {"GELU": gelu_by_erf, "GEGLU": within(gelu_by_erf)},
        ("torch",),
    ),
    Variant(
        "1 + tanh(u)",
        "The approximation of GELU as it is printed: where x is far below 0, 1 and tanh cancel.",
        "torch: as above; JAX: jax/_src/nn/functions.py, gelu",
        {"GELU": gelu_by_tanh, "GEGLU": within(gelu_by_tanh)},
        ("torch", "jax"),
    ),
    Variant(
        "quotient rule",
        "The derivative of x / (1 + |x|) as a difference of two numbers, which are near each other where |x| is large.",
        "torch: torch/nn/functional.py, softsign; JAX: jax/_src/nn/functions.py, soft_sign",
        {"Softsign": _softsign_by_quotient},
        ("torch", "jax"),
    ),
    Variant(
        "1 - (1 - tanh^2)",
        "The derivative of x - tanh(x) term by term: the two terms cancel where x is near 0.",
        "torch: torch/nn/functional.py, tanhshrink",
        {"Tanhshrink": _tanhshrink_by_difference},
        ("torch",),
    ),
    Variant(
        "exp(y - x) in log-sigmoid'",
        "The derivative of log s(x) as exp(y - x): the rounding of a large exponent counts as often as it is large.",
        "JAX: jax/_src/lax/other.py, logaddexp and its derivative; jax/_src/nn/functions.py, log_sigmoid",
        {"LogSigmoid": _log_sigmoid_by_logaddexp},
        ("jax",),
    ),
    Variant(
        "exp(x - y) in softplus'",
        "The derivative of y = log(1 + exp(x)) as exp(x - y): the rounding of a large exponent counts as often as "
        "it is large.",
        "JAX: jax/_src/lax/other.py, logaddexp and its derivative; jax/_src/nn/functions.py, softplus and mish",
        {"Softplus": _softplus_by_logaddexp, "Mish": _mish_by_logaddexp},
        ("jax",),
    ),
)
