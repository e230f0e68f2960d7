"""Mistakes in the smooth activations but for the exponential units, a row each. Letters as there; s is the sigmoid."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.families.fault import Fault, Patch
from parity.families.nn.activation.faults import Row, rows, sloped, valued
from parity.families.nn.activation_smooth.formulas import inner
from refnet.arithmetic import special

S = special.sigmoid


def _normal(X: Any) -> Any:
    """The normal distribution."""
    return special.erfc(-X / np.sqrt(special.lift(2.0, X))) / 2


def _other_gelu(m: Any) -> Any:
    return type(m)("tanh" if m.approximate == "none" else "none")


def _gelu_tanh(by: Any) -> Patch:
    """A mistake in the gradient of the approximation alone."""

    def gradient(m: Any, dY: Any, X: Any) -> Any:
        return type(m).gradient(m, dY, X) if m.approximate == "none" else by(dY, X)

    return sloped(gradient)


def _gelu_as_other(m: Any) -> None:
    other = _other_gelu(m)
    m.function, m.gradient = other.function, other.gradient


def _gelu_tanh_misses(dY: Any, X: Any, slope: float) -> Any:
    U, V = inner(X, slope)
    return dY * (S(2 * U) * (1 + X * S(-2 * U) * (2 * V)))


def _gelu_no_inner(dY: Any, X: Any) -> Any:
    U, _ = inner(X)
    return dY * (S(2 * U) * (1 + X * S(-2 * U) * 2))


def _mish_parts(X: Any) -> tuple[Any, Any]:
    """T = tanh(log(1 + exp(x))) and 1 - T^2."""
    P, Q = special.sigmoids(X)
    D = 1 + Q * Q
    return P * (1 + Q) / D, (2 * Q / D) * (2 * Q / D)


def _mish_overflows(m: Any, X: Any) -> Any:
    E = np.exp(X)
    # Y[.] = X[.] N[.] / (N[.] + 2), N[.] = E[.] (E[.] + 2)
    return X * (E * (E + 2) / (E * (E + 2) + 2))


def _beta(m: Any, X: Any) -> Any:
    return special.lift(m.beta, X)


def _linear(m: Any, X: Any) -> Any:
    """Where Softplus is linear."""
    return _beta(m, X) * X > special.lift(m.threshold, X)


def _softplus(m: Any, X: Any) -> Any:
    return -special.log_sigmoid(-_beta(m, X) * X)


SLOPES: tuple[Row, ...] = (
    # name, class, the faulty formula, its gradient, what reveals it, where it was seen
    ("silu' is s", "SiLU", "dX = dY s(X)", lambda m, dY, X: dY * S(X), "any", "kind of bug: a product rule cut short"),
    (
        "silu' is the sigmoid's",
        "SiLU",
        "dX = dY s(X) s(-X)",
        lambda m, dY, X: dY * (S(X) * S(-X)),
        "any",
        "kind of bug: the derivative of another activation",
    ),
    (
        "silu' without its x",
        "SiLU",
        "dX = dY s(X) (1 + s(-X))",
        lambda m, dY, X: dY * (S(X) * (1 + S(-X))),
        "any",
        "pytorch/pytorch#110815",
    ),
    (
        "silu' from y / x",
        "SiLU",
        "dX = dY (Y / X) (1 + X - Y): 0 / 0",
        lambda m, dY, X: dY * (X * S(X) / X * (1 + X * S(-X))),
        "X = 0",
        "huggingface/candle#2083",
    ),
    (
        "gelu' is the distribution",
        "GELU",
        "dX = dY P(X)",
        lambda m, dY, X: dY * _normal(X),
        "any",
        "kind of bug: a product rule cut short",
    ),
    (
        "gelu' of the other approximation",
        "GELU",
        "the gradient of tanh's form for erf's, and the other way round",
        lambda m, dY, X: _other_gelu(m).gradient(dY, X),
        "X about 2",
        "tenstorrent/tt-metal#1262",
    ),
    (
        "mish' is tanh of softplus",
        "Mish",
        "dX = dY T",
        lambda m, dY, X: dY * _mish_parts(X)[0],
        "any",
        "kind of bug: a product rule cut short",
    ),
    (
        "mish' without softplus'",
        "Mish",
        "dX = dY (T + X (1 - T^2))",
        lambda m, dY, X: dY * (_mish_parts(X)[0] + X * _mish_parts(X)[1]),
        "any",
        "kind of bug: an inner derivative left out",
    ),
    (
        "mish' with 1 - T",
        "Mish",
        "dX = dY (T + X s(X) (1 - T))",
        lambda m, dY, X: dY * (_mish_parts(X)[0] + X * S(X) * (1 - _mish_parts(X)[0])),
        "any",
        "kind of bug: a derivative misremembered",
    ),
    (
        "softplus' times beta",
        "Softplus",
        "dX = dY b s(b X)",
        lambda m, dY, X: np.where(_linear(m, X), dY, dY * (_beta(m, X) * S(_beta(m, X) * X))),
        "beta other than 1",
        "tenstorrent/tt-metal#6493",
    ),
    (
        "softplus' without beta",
        "Softplus",
        "dX = dY s(X)",
        lambda m, dY, X: np.where(_linear(m, X), dY, dY * S(X)),
        "beta other than 1",
        "tenstorrent/tt-metal#6493",
    ),
    (
        "softplus' without threshold",
        "Softplus",
        "dX = dY s(b X) everywhere",
        lambda m, dY, X: dY * S(_beta(m, X) * X),
        "b X above the threshold",
        "tinygrad/tinygrad#11564",
    ),
    (
        "softplus' is 0 in saturation",
        "Softplus",
        "dX = dY E / (1 + E), E = exp(b X): infinity / infinity",
        lambda m, dY, X: dY * (np.exp(_beta(m, X) * X) / (1 + np.exp(_beta(m, X) * X))),
        "X above 709 in float64",
        "tracel-ai/burn#5373; tenstorrent/tt-metal#56397",
    ),
    (
        "log-sigmoid' is s(x)",
        "LogSigmoid",
        "dX = dY s(X) against dX = dY s(-X)",
        lambda m, dY, X: dY * S(X),
        "any",
        "kind of bug: a sign in an argument",
    ),
    (
        "log-sigmoid' with the other sign",
        "LogSigmoid",
        "dX = -dY s(-X)",
        lambda m, dY, X: -(dY * S(-X)),
        "any",
        "kind of bug: a sign",
    ),
    (
        "log-sigmoid' is the sigmoid's",
        "LogSigmoid",
        "dX = dY s(X) s(-X)",
        lambda m, dY, X: dY * (S(X) * S(-X)),
        "any",
        "kind of bug: the derivative of another activation",
    ),
    (
        "softsign' not squared",
        "Softsign",
        "dX = dY / (1 + |X|)",
        lambda m, dY, X: dY / (1 + np.absolute(X)),
        "any",
        "kind of bug: a derivative misremembered",
    ),
    (
        "softsign' without the sign of x",
        "Softsign",
        "dX = dY (1 / D - X / D^2), D = 1 + |X|",
        lambda m, dY, X: dY * (1 / (1 + np.absolute(X)) - X / (1 + np.absolute(X)) / (1 + np.absolute(X))),
        "X < 0",
        "kind of bug: an inner derivative left out",
    ),
    (
        "softsign' is that of x / (1 + x^2)",
        "Softsign",
        "dX = dY / (1 + X^2)",
        lambda m, dY, X: dY / (1 + X * X),
        "any",
        "kind of bug: the derivative of another activation",
    ),
    (
        "tanhshrink' is that of tanh",
        "Tanhshrink",
        "dX = dY (1 - T^2) against dX = dY T^2",
        lambda m, dY, X: dY * (1 - np.tanh(X) * np.tanh(X)),
        "any",
        "kind of bug: a term left out",
    ),
    (
        "tanhshrink' not squared",
        "Tanhshrink",
        "dX = dY T",
        lambda m, dY, X: dY * np.tanh(X),
        "any",
        "kind of bug: a derivative misremembered",
    ),
    (
        "tanhshrink' with the other sign",
        "Tanhshrink",
        "dX = -dY T^2",
        lambda m, dY, X: -(dY * (np.tanh(X) * np.tanh(X))),
        "any",
        "kind of bug: a sign",
    ),
)

VALUES: tuple[Row, ...] = (
    (
        "silu by 1.702",
        "SiLU",
        "Y = X s(1.702 X)",
        lambda m, X: X * S(special.lift(1.702, X) * X),
        "any",
        "kind of bug: the quick approximation of another activation",
    ),
    (
        "gelu by 1.702",
        "GELU",
        "Y = X s(1.702 X)",
        lambda m, X: X * S(special.lift(1.702, X) * X),
        "any",
        "kind of bug: the quick approximation",
    ),
    (
        "gelu without its half",
        "GELU",
        "Y = X erfc(-X / sqrt(2))",
        lambda m, X: X * (2 * _normal(X)),
        "any",
        "kind of bug: a factor left out",
    ),
    (
        "mish overflows",
        "Mish",
        "Y = X N / (N + 2), N = E (E + 2), E = exp(X): infinity / infinity",
        _mish_overflows,
        "X above 355 in float64",
        "hunglc007/tensorflow-yolov4-tflite#1",
    ),
    (
        "softplus not over beta",
        "Softplus",
        "Y = log(1 + exp(b X)) against log(1 + exp(b X)) / b",
        lambda m, X: np.where(_linear(m, X), X, _softplus(m, X)),
        "beta other than 1",
        "kind of bug: a factor left out",
    ),
    (
        "softplus' threshold on x",
        "Softplus",
        "Y = X where X > t against where b X > t",
        lambda m, X: np.where(X > special.lift(m.threshold, X), X, _softplus(m, X) / _beta(m, X)),
        "beta other than 1",
        "brainpy/BrainPy#581",
    ),
    (
        "softplus linear at its threshold",
        "Softplus",
        "Y = X where b X >= t against where b X > t",
        lambda m, X: np.where(_beta(m, X) * X >= special.lift(m.threshold, X), X, _softplus(m, X) / _beta(m, X)),
        "b X = t",
        "kind of bug: a bound taken in",
    ),
    (
        "log of a sigmoid",
        "LogSigmoid",
        "Y = log(s(X)): the logarithm of 0",
        lambda m, X: np.log(S(X)),
        "X below -709 in float64",
        "kind of bug: underflow",
    ),
    (
        "log-sigmoid is -softplus(x)",
        "LogSigmoid",
        "Y = -log(1 + exp(X)) against -log(1 + exp(-X))",
        lambda m, X: special.log_sigmoid(-X),
        "any",
        "kind of bug: a sign in an argument",
    ),
    (
        "softsign without |.|",
        "Softsign",
        "Y = X / (1 + X)",
        lambda m, X: X / (1 + X),
        "X < 0",
        "kind of bug: an absolute value left out",
    ),
    (
        "tanhshrink the other way",
        "Tanhshrink",
        "Y = tanh(X) - X",
        lambda m, X: np.tanh(X) - X,
        "any",
        "kind of bug: a sign",
    ),
)

FAULTS = (
    *rows(sloped, SLOPES),
    *rows(valued, VALUES),
    Fault(
        "gelu is the other one",
        "erf's form for tanh's, and the other way round, forward and backward",
        "X about 2",
        "kyutai-labs/pocket-tts#278",
        {"GELU": _gelu_as_other},
    ),
    Fault(
        "gelu' by tanh without the inner derivative",
        "dX = dY s(2 U) (1 + 2 X s(-2 U)) against 2 X s(-2 U) U'",
        'approximate="tanh"',
        "huggingface/candle#1160, where it is right",
        {"GELU": _gelu_tanh(_gelu_no_inner)},
    ),
    Fault(
        "gelu' by tanh with a x^2 for 3 a x^2",
        "U' = k (1 + a X^2) against k (1 + 3 a X^2)",
        'approximate="tanh"',
        "kind of bug: the derivative of a cube",
        {"GELU": _gelu_tanh(lambda dY, X: _gelu_tanh_misses(dY, X, 1))},
    ),
)
