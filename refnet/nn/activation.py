"""Smooth activations, element by element. Those with kinks, along an axis, and with a gate have files of their own."""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

import numpy as np

from refnet import _check
from refnet.arithmetic import special
from refnet.nn.activation_elementwise import Elementwise
from refnet.nn.module import Array, Module, Params


class SigmoidSaved(NamedTuple):
    """Y = s(X), Z = s(-X)."""

    Y: Array
    Z: Array


class Sigmoid(Module):
    """y = s(x) = 1 / (1 + exp(-x)), elementwise.

    The derivative s(x)(1 - s(x)) is written s(x) s(-x): equal in exact arithmetic, and it keeps its relative accuracy
    where s(x) rounds to 1 and the textbook's 1 - y is 0.

    In front of BCELoss that accuracy is of no use: BCELoss divides by y(1 - y) of the rounded y, and the quotient of
    the two is no longer 1 where y is near 1 (x = 20: 3.6e-8 off in float64; torch's y(1 - y) cancels there exactly, and
    loses its digits everywhere else). Use BCEWithLogitsLoss on x, which keeps all digits for every x.
    """

    def forward(self, input: Array) -> tuple[Array, SigmoidSaved]:
        X = input
        _check.floating("Sigmoid", input=X)
        Y, Z = special.sigmoids(X)
        return Y, SigmoidSaved(Y, Z)

    def backward(self, grad_output: Array, saved: SigmoidSaved) -> tuple[Array, Params]:
        dY, (Y, Z) = grad_output, saved
        dY = _check.upstream("Sigmoid", dY, Y.shape, Y.dtype)
        # dX[.] = dY[.] s(X[.]) s(-X[.])
        return dY * (Y * Z), {}


class TanhSaved(NamedTuple):
    """The input."""

    X: Array


class Tanh(Module):
    """y = tanh(x), elementwise.

    The derivative 1 - tanh(x)^2 is written 4 s(2x) s(-2x), s the sigmoid: equal in exact arithmetic, and accurate
    where tanh(x) rounds to 1.
    """

    def forward(self, input: Array) -> tuple[Array, TanhSaved]:
        X = input
        _check.floating("Tanh", input=X)
        return np.tanh(X), TanhSaved(X)

    def backward(self, grad_output: Array, saved: TanhSaved) -> tuple[Array, Params]:
        dY, (X,) = grad_output, saved
        dY = _check.upstream("Tanh", dY, X.shape, X.dtype)
        # dX[.] = dY[.] 4 s(2 X[.]) s(-2 X[.])
        Y, Z = special.sigmoids(2 * X)
        return dY * (4 * (Y * Z)), {}


class SiLU(Elementwise):
    """y = x s(x), elementwise, s the sigmoid; also known as swish.

    The derivative is s(x) (1 + x s(-x)): with 1 - s(x) for s(-x) it would lose digits where s(x) is near 1.
    """

    def function(self, X: Array) -> Array:
        # Y[.] = X[.] s(X[.])
        return X * special.sigmoid(X)

    def gradient(self, dY: Array, X: Array) -> Array:
        # dX[.] = dY[.] s(X[.]) (1 + X[.] s(-X[.]))
        Y, Z = special.sigmoids(X)
        return dY * (Y * (1 + X * Z))


CUBIC = Fraction("0.044715")
"""The factor of x^3 in the approximation of GELU, a decimal."""


class GELU(Elementwise):
    """y = x P(x), elementwise, P the normal distribution; or with `approximate="tanh"` an approximation of it.

    P(x) = erfc(-x / sqrt(2)) / 2: (1 + erf(x / sqrt(2))) / 2 has no digits left where x is far below 0.
    The approximation is y = x / 2 (1 + tanh(u)) with u = sqrt(2 / pi) (x + 0.044715 x^3), written y = x s(2u), s the
    sigmoid: equal in exact arithmetic, and accurate where tanh(u) is near -1 or 1.

    Source: D. Hendrycks, K. Gimpel, "Gaussian Error Linear Units", arXiv:1606.08415.

    Args:
        approximate: "none" or "tanh".

    Raises:
        ValueError: `approximate` is neither.
    """

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        _check.one_of("GELU", "approximate", approximate, ("none", "tanh"))
        self.approximate = approximate

    def arguments(self) -> str:
        return f"approximate={self.approximate!r}"

    def function(self, X: Array) -> Array:
        if self.approximate == "none":
            # G[.] = -sqrt(1/2) X[.]     Y[.] = X[.] erfc(G[.]) / 2
            G = -np.sqrt(special.lift(0.5, X)) * X
            return X * (0.5 * special.erfc(G))
        # Y[.] = X[.] s(2 U[.])
        U, _ = _inner(X)
        return X * special.sigmoid(2 * U)

    def gradient(self, dY: Array, X: Array) -> Array:
        if self.approximate == "none":
            # dX[.] = dY[.] (erfc(G[.]) - G[.] erf'(G[.])) / 2
            G = -np.sqrt(special.lift(0.5, X)) * X
            return dY * (0.5 * (special.erfc(G) - G * special.erf_derivative(G)))
        # dX[.] = dY[.] s(2 U[.]) (1 + X[.] s(-2 U[.]) 2 U'[.])
        U, V = _inner(X)
        Y, Z = special.sigmoids(2 * U)
        return dY * (Y * (1 + X * Z * (2 * V)))


def _inner(X: Array) -> tuple[Array, Array]:
    """The inner function of the approximation of GELU, and its derivative."""
    # k = sqrt(2 / pi) = erf'(0) / sqrt(2)     U[.] = k (X[.] + a X[.]^3)     U'[.] = k (1 + 3 a X[.]^2)
    k = special.erf_derivative(special.lift(0.0, X)) / np.sqrt(special.lift(2.0, X))
    A = special.lift(CUBIC, X) * (X * X)
    return k * (X * (1 + A)), k * (1 + 3 * A)


class Mish(Elementwise):
    """y = x tanh(log(1 + exp(x))), elementwise.

    With p = s(x) and q = s(-x), s the sigmoid, tanh(log(1 + exp(x))) is t = p (1 + q) / (1 + q^2), and 1 - t^2 is
    (2 q / (1 + q^2))^2: nothing overflows or cancels.

    Source: D. Misra, "Mish: A Self Regularized Non-Monotonic Activation Function", arXiv:1908.08681.
    """

    def function(self, X: Array) -> Array:
        P, Q = special.sigmoids(X)
        # T[.] = P[.] (1 + Q[.]) / (1 + Q[.]^2)     Y[.] = X[.] T[.]
        return X * (P * (1 + Q) / (1 + Q * Q))

    def gradient(self, dY: Array, X: Array) -> Array:
        P, Q = special.sigmoids(X)
        D = 1 + Q * Q
        T, S = P * (1 + Q) / D, 2 * Q / D
        # dX[.] = dY[.] (T[.] + X[.] P[.] S[.]^2)
        return dY * (T + X * P * (S * S))


class Softplus(Elementwise):
    """y = log(1 + exp(b x)) / b, elementwise, and y = x where b x is above the threshold t.

    log(1 + exp(z)) is -log s(-z), s the sigmoid. y jumps at the threshold, by exp(-t) / b, as torch's does.

    Args:
        beta: b, any number but 0. threshold: t.

    Raises:
        TypeError: an argument is no number.
        ValueError: `beta` is 0, or not finite.
    """

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        _check.number("Softplus", "beta", beta)
        _check.is_number("Softplus", "threshold", threshold)
        if beta == 0:
            raise ValueError(f"Softplus: expected beta to be another number than 0, got {beta}")
        self.beta, self.threshold = beta, threshold

    def arguments(self) -> str:
        return f"beta={self.beta}, threshold={self.threshold}"

    def function(self, X: Array) -> Array:
        b, t = special.lift(self.beta, X), special.lift(self.threshold, X)
        Z = b * X
        # Y[.] = X[.] where b X[.] > t, -log s(-b X[.]) / b elsewhere
        return np.where(t < Z, X, -special.log_sigmoid(-Z) / b)

    def gradient(self, dY: Array, X: Array) -> Array:
        Z = special.lift(self.beta, X) * X
        # dX[.] = dY[.] where b X[.] > t, dY[.] s(b X[.]) elsewhere
        return np.where(special.lift(self.threshold, X) < Z, dY, dY * special.sigmoid(Z))


class LogSigmoid(Elementwise):
    """y = log s(x) = min(x, 0) - log(1 + exp(-|x|)), elementwise, s the sigmoid. The derivative is s(-x)."""

    def __init__(self) -> None:
        super().__init__()

    def function(self, X: Array) -> Array:
        # Y[.] = log s(X[.])
        return special.log_sigmoid(X)

    def gradient(self, dY: Array, X: Array) -> Array:
        # dX[.] = dY[.] s(-X[.])
        return dY * special.sigmoid(-X)


class Softsign(Elementwise):
    """y = x / (1 + |x|), elementwise.

    The derivative is 1 / (1 + |x|)^2. The quotient rule, which automatic differentiation applies, has it as a
    difference of two numbers that are near each other where |x| is large.
    """

    def __init__(self) -> None:
        super().__init__()

    def function(self, X: Array) -> Array:
        # Y[.] = X[.] / (1 + |X[.]|)
        return X / (1 + np.absolute(X))

    def gradient(self, dY: Array, X: Array) -> Array:
        # dX[.] = dY[.] / (1 + |X[.]|)^2
        R = 1 / (1 + np.absolute(X))
        return dY * (R * R)


class Tanhshrink(Elementwise):
    """y = x - tanh(x), elementwise.

    The difference has few digits where x is near 0, where y is about x^3 / 3. The derivative tanh(x)^2 has all.
    """

    def __init__(self) -> None:
        super().__init__()

    def function(self, X: Array) -> Array:
        # Y[.] = X[.] - tanh(X[.])
        return X - np.tanh(X)

    def gradient(self, dY: Array, X: Array) -> Array:
        # dX[.] = dY[.] tanh(X[.])^2
        T = np.tanh(X)
        return dY * (T * T)


def _at_most_0(X: Array) -> tuple[Array, Array]:
    """Where X[.] <= 0; and X[.] there and 0 elsewhere, of which exp does not overflow."""
    off = X <= 0
    return off, np.where(off, X, special.lift(0.0, X))


class ELU(Elementwise):
    """y = x for x > 0 and a (exp(x) - 1) otherwise, elementwise; the derivative at 0 is a, as torch's.

    A NaN stays one, and lets its gradient pass: so it does in SELU and CELU.

    Source: D.-A. Clevert, T. Unterthiner, S. Hochreiter, "Fast and Accurate Deep Network Learning by Exponential Linear
    Units", arXiv:1511.07289.

    Args:
        alpha: a. inplace: accepted as torch's; inputs are never written.
    """

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__(inplace)
        _check.number("ELU", "alpha", alpha)
        self.alpha = alpha

    def arguments(self) -> str:
        return f"alpha={self.alpha}"

    def function(self, X: Array) -> Array:
        off, Z = _at_most_0(X)
        # Y[.] = a (exp(X[.]) - 1) where X[.] <= 0, X[.] elsewhere
        return np.where(off, special.lift(self.alpha, X) * np.expm1(Z), X)

    def gradient(self, dY: Array, X: Array) -> Array:
        off, Z = _at_most_0(X)
        # dX[.] = dY[.] a exp(X[.]) where X[.] <= 0, dY[.] elsewhere
        return np.where(off, dY * (special.lift(self.alpha, X) * np.exp(Z)), dY)


SCALE = Fraction("1.0507009873554804934193349852946")
ALPHA = Fraction("1.6732632423543772848170429916717")
"""The constants of SELU, as torch's documentation prints them."""


class SELU(Elementwise):
    """y = l x for x > 0 and l a (exp(x) - 1) otherwise, elementwise, with l = 1.0507... and a = 1.6732...; the
    derivative at 0 is l a, as torch's.

    Source: G. Klambauer et al., "Self-Normalizing Neural Networks", arXiv:1706.02515.
    """

    def function(self, X: Array) -> Array:
        off, Z = _at_most_0(X)
        # Y[.] = l a (exp(X[.]) - 1) where X[.] <= 0, l X[.] elsewhere
        return np.where(off, special.lift(SCALE * ALPHA, X) * np.expm1(Z), special.lift(SCALE, X) * X)

    def gradient(self, dY: Array, X: Array) -> Array:
        off, Z = _at_most_0(X)
        # dX[.] = dY[.] l a exp(X[.]) where X[.] <= 0, dY[.] l elsewhere
        return dY * np.where(off, special.lift(SCALE * ALPHA, X) * np.exp(Z), special.lift(SCALE, X))


class CELU(Elementwise):
    """y = x for x > 0 and a (exp(x / a) - 1) otherwise, elementwise: an ELU without a corner at 0.

    Source: J. T. Barron, "Continuously Differentiable Exponential Linear Units", arXiv:1704.07483.

    Args:
        alpha: a, any number but 0. inplace: accepted as torch's; inputs are never written.

    Raises:
        ValueError: `alpha` is 0, or not finite.
    """

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__(inplace)
        _check.number("CELU", "alpha", alpha)
        if alpha == 0:
            raise ValueError(f"CELU: expected alpha to be another number than 0, got {alpha}")
        self.alpha = alpha

    def arguments(self) -> str:
        return f"alpha={self.alpha}"

    def function(self, X: Array) -> Array:
        (off, Z), a = _at_most_0(X), special.lift(self.alpha, X)
        # Y[.] = a (exp(X[.] / a) - 1) where X[.] <= 0, X[.] elsewhere
        return np.where(off, a * np.expm1(Z / a), X)

    def gradient(self, dY: Array, X: Array) -> Array:
        (off, Z), a = _at_most_0(X), special.lift(self.alpha, X)
        # dX[.] = dY[.] exp(X[.] / a) where X[.] <= 0, dY[.] elsewhere
        return np.where(off, dY * np.exp(Z / a), dY)
