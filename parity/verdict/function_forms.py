"""Functions that expressions are made of, and the other forms in which engines compute them and their derivatives.

Each form is right in exact arithmetic (but for a convention, which is said to be one) and loses digits somewhere. It is
written in listed functions, so that its budget is derived like any other. Where they were read:

- torch: tools/autograd/derivatives.yaml (sigmoid, tanh, logsumexp, softmax); aten/src/ATen/native/Loss.cpp
  (binary_cross_entropy_with_logits); aten/src/ATen/native/cpu/Activation.cpp (softplus, mish).
- JAX: jax/_src/lax/lax.py (logistic, tanh, expm1, abs); jax/_src/lax/other.py (logaddexp); XLA:
  xla/service/logistic_expander.cc.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from refnet.arithmetic import special

Array = Any


@dataclass(frozen=True)
class Form:
    """A way to compute a function and its derivative.

    Attributes:
        name: the form, short. source: where it can be read.
        value: y of x. pull: the gradient of x, of that of y, x and y. Functions along an axis keep it, as the last.
        users: who computes so. kind: `unstable`, or `convention` where it is another choice.
    """

    name: str
    source: str
    value: Callable[[Array], Array]
    pull: Callable[[Array, Array, Array], Array]
    users: tuple[str, ...] = ()
    kind: str = "unstable"


@dataclass(frozen=True)
class Function:
    """A function that is recognized by its values.

    Attributes:
        values: of an array of binary64, without loss of digits. along: whether it goes along an axis, `keeps` whether
            that axis is still there. kinks: whether its other forms differ at 0 alone: then it is recognized only by
            values on both sides of 0.
    """

    name: str
    values: Callable[[Array], Array]
    forms: tuple[Form, ...]
    along: bool = False
    keeps: bool = True
    kinks: bool = False


def _softplus(X: Array) -> Array:
    return special.maximum(X, 0 * X) + np.log1p(np.exp(-abs(X)))


def _logsumexp(X: Array) -> Array:
    M = special.shift(X, -1)
    return M + np.log(np.sum(np.exp(X - M), axis=-1, keepdims=True))


def _softmax(X: Array) -> Array:
    E = np.exp(X - special.shift(X, -1))
    return E / np.sum(E, axis=-1, keepdims=True)


def _log_softmax(X: Array) -> Array:
    S = X - special.shift(X, -1)
    return S - np.log(np.sum(np.exp(S), axis=-1, keepdims=True))


def _from_sigmoid(g: Array, X: Array, Y: Array) -> Array:
    return g * ((1 - Y) * Y)


def _through_exponential(g: Array, X: Array, Y: Array) -> Array:
    E = np.exp(X)
    return g * (E / (1 + E))


def _through_own_sigmoid(g: Array, X: Array, Y: Array) -> Array:
    A = special.sigmoid(-X)
    return g / A * ((1 - A) * A)


def _through_complement(g: Array, X: Array, Y: Array) -> Array:
    # Whatever 1 - A lost, it is the same number both times and goes out again: the accurate complement stands for it.
    A, D = special.sigmoid(X), special.sigmoid(-X)
    return g / D * (D * A)


def _quotient_of_exponentials(X: Array) -> Array:
    E = np.exp(2 * X)
    return (E - 1) / (E + 1)


def _by_the_quotient_rule(g: Array, X: Array, Y: Array) -> Array:
    E = np.exp(2 * X)
    return (g / (E + 1) - g * (Y / (E + 1))) * (2 * E)


def _mish_of_torch(g: Array, X: Array, Y: Array) -> Array:
    T = np.tanh(np.log1p(np.exp(X)))
    return g * (T + X * special.sigmoid(X) * (1 - T * T))


def _mish_of_jax(g: Array, X: Array, Y: Array) -> Array:
    P = _softplus(X)
    T = np.tanh(P)
    return g * T + g * X * (1 - T * T) * np.exp(X - P)


def _above_threshold(X: Array, far: Array, near: Callable[[Array], Array]) -> Array:
    """torch's threshold of 20; what is not chosen must not overflow."""
    return np.where(X > 20, far, near(np.where(X > 20, 0 * X, X)))


SOFTPLUS = (
    Form(
        "1 - s(-x) for s(x)",
        "the textbook's gradient a - 1; torch: binary_cross_entropy_with_logits_backward",
        lambda X: -special.log_sigmoid(-X),
        lambda g, X, Y: g * (1 - special.sigmoid(-X)),
        ("torch",),
    ),
    Form(
        "x - log s(x) for softplus(x)",
        "torch: aten/src/ATen/native/Loss.cpp, binary_cross_entropy_with_logits",
        lambda X: X - special.log_sigmoid(X),
        lambda g, X, Y: g * special.sigmoid(X),
        ("torch",),
    ),
    Form(
        "-log(s(-x)) by way of the sigmoid",
        "torch: log and sigmoid in tools/autograd/derivatives.yaml, one after the other",
        lambda X: -np.log(special.sigmoid(-X)),
        _through_own_sigmoid,
        ("torch", "jax"),
    ),
    Form(
        "-log(1 - s(x)) by way of the sigmoid",
        "torch: aten/src/ATen/native/Loss.cpp, binary_cross_entropy of a sigmoid",
        lambda X: -np.log1p(-special.sigmoid(X)),
        _through_complement,
        ("torch", "jax"),
    ),
    Form(
        "exp(x - softplus(x))",
        "JAX: jax/_src/lax/other.py, logaddexp and its derivative",
        _softplus,
        lambda g, X, Y: g * np.exp(X - Y),
        ("jax",),
    ),
    Form(
        "log(1 + e^x)",
        "the definition as written",
        lambda X: np.log(1 + np.exp(X)),
        _through_exponential,
    ),
    Form(
        "x for softplus(x) above 20",
        "torch: documentation of torch.nn.Softplus, threshold",
        lambda X: _above_threshold(X, X, lambda Z: np.log1p(np.exp(Z))),
        lambda g, X, Y: _above_threshold(X, g + 0 * X, lambda Z: _through_exponential(g, Z, Y)),
        ("torch",),
        "convention",
    ),
)

FUNCTIONS = (
    Function(
        "sigmoid",
        special.sigmoid,
        (
            Form(
                "y(1 - y)",
                "torch: tools/autograd/derivatives.yaml, sigmoid_backward; JAX: jax/_src/lax/lax.py, logistic",
                special.sigmoid,
                _from_sigmoid,
                ("torch", "jax"),
            ),
            Form(
                "(1 + tanh(x/2)) / 2",
                "XLA: xla/service/logistic_expander.cc, ExpandLogisticWithTanh",
                lambda X: 0.5 + 0.5 * np.tanh(0.5 * X),
                _from_sigmoid,
                ("jax",),
            ),
        ),
    ),
    Function(
        "tanh",
        np.tanh,
        (
            Form(
                "1 - y^2",
                "torch: tools/autograd/derivatives.yaml, tanh_backward; JAX: jax/_src/lax/lax.py, tanh",
                np.tanh,
                lambda g, X, Y: g * (1 - Y * Y),
                ("torch", "jax"),
            ),
            Form(
                "(e^2x - 1) / (e^2x + 1)",
                "the definition as written: DLMF, section 4.28",
                _quotient_of_exponentials,
                _by_the_quotient_rule,
            ),
        ),
    ),
    Function("softplus", _softplus, SOFTPLUS),
    Function(
        "expm1",
        np.expm1,
        (
            Form(
                "1 + expm1(x) for e^x",
                "JAX: jax/_src/lax/lax.py, expm1 (in jax.nn.elu); torch: elu_backward of its result",
                np.expm1,
                lambda g, X, Y: g * (1 + Y),
                ("jax", "torch"),
            ),
            Form("e^x - 1", "the definition as written", lambda X: np.exp(X) - 1, lambda g, X, Y: g * np.exp(X)),
        ),
    ),
    Function(
        "mish",
        lambda X: X * np.tanh(_softplus(X)),
        (
            Form(
                "mish' through tanh and sigmoid",
                "torch: aten/src/ATen/native/cpu/Activation.cpp, mish_backward_kernel",
                lambda X: X * np.tanh(np.log1p(np.exp(X))),
                _mish_of_torch,
                ("torch",),
            ),
            Form(
                "mish' through exp(x - softplus(x))",
                "JAX: jax/_src/nn/functions.py, mish; jax/_src/lax/other.py, logaddexp",
                lambda X: X * np.tanh(_softplus(X)),
                _mish_of_jax,
                ("jax",),
            ),
        ),
    ),
    Function(
        "logsumexp",
        _logsumexp,
        (
            Form(
                "exp(x - logsumexp(x))",
                "torch: torch/csrc/autograd/FunctionsManual.cpp, logsumexp_backward",
                _logsumexp,
                lambda g, X, Y: g * np.exp(X - Y),
                ("torch",),
            ),
        ),
        along=True,
        keeps=False,
    ),
    Function(
        "log_softmax",
        _log_softmax,
        (
            Form(
                "g - exp(y) sum(g)",
                "torch: tools/autograd/derivatives.yaml, _log_softmax; JAX: jax/_src/nn/functions.py, log_softmax",
                _log_softmax,
                lambda g, X, Y: g - np.exp(Y) * np.sum(g, axis=-1, keepdims=True),
                ("torch", "jax"),
            ),
            Form(
                "x - logsumexp(x)",
                "the definition as written",
                lambda X: X - _logsumexp(X),
                lambda g, X, Y: g - np.exp(Y) * np.sum(g, axis=-1, keepdims=True),
            ),
        ),
        along=True,
    ),
    Function(
        "softmax",
        _softmax,
        (
            Form(
                "y (g - sum(g y))",
                "torch: tools/autograd/derivatives.yaml, _softmax; JAX: jax/_src/nn/functions.py, softmax",
                _softmax,
                lambda g, X, Y: Y * (g - np.sum(g * Y, axis=-1, keepdims=True)),
                ("torch", "jax"),
            ),
        ),
        along=True,
    ),
    Function(
        "abs",
        np.absolute,
        (
            Form(
                "|x|'(0) = 1",
                "JAX: jax/_src/lax/lax.py, _abs_jvp_rule",
                np.absolute,
                lambda g, X, Y: np.where(X >= 0, g, -g),
                ("jax",),
                "convention",
            ),
        ),
        kinks=True,
    ),
    Function(
        "relu",
        lambda X: np.where(X > 0, X, 0 * X),
        tuple(
            Form(
                f"relu'(0) = {said}",
                source,
                lambda X: np.where(X > 0, X, 0 * X),
                lambda g, X, Y, at=at: np.where(X > 0, g, np.where(X < 0, 0 * g, at * g)),  # type: ignore[misc]
                users,
                "convention",
            )
            for said, at, source, users in (
                ("0", 0.0, "torch: tools/autograd/derivatives.yaml, relu; JAX: jax.nn.relu", ("torch", "jax")),
                ("1/2", 0.5, "torch and JAX: maximum at a tie", ()),
                ("1", 1.0, "torch: tools/autograd/derivatives.yaml, clamp", ()),
            )
        ),
        kinks=True,
    ),
)
