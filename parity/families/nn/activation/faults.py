"""Mistakes in Sigmoid, Tanh, ReLU, Softmax and LogSoftmax. Axes as there; s is the sigmoid."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from parity.families.fault import Fault, Patch, Unsupported, as_stored, replaced
from refnet.arithmetic import special


def _sigmoid_at_output(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    Y, _ = saved
    # dX[.] = dY[.] s(Y[.]) s(-Y[.])
    return dY * (special.sigmoid(Y) * special.sigmoid(-Y)), {}


def _of_input(by: Callable[[Any, Any], Any]) -> Patch:
    """The patch of a backward that computes dX from dY and the module's input."""

    def patch(module: Any) -> None:
        replaced("forward", lambda module, right, X: (right(X)[0], X))(module)
        module.backward = lambda dY, X: (by(dY, X), {})

    return patch


def sloped(by: Callable[[Any, Any, Any], Any]) -> Patch:
    """The patch of an elementwise class whose gradient is `by(module, dY, X)`."""

    def patch(module: Any) -> None:
        module.gradient = lambda dY, X: by(module, dY, X)

    return patch


def valued(by: Callable[[Any, Any], Any]) -> Patch:
    """The patch of an elementwise class whose output is `by(module, X)`, its gradient staying right."""

    def patch(module: Any) -> None:
        module.function = lambda X: by(module, X)

    return patch


Row = tuple[str, str, str, Callable[..., Any], str, str]
"""Name, class, the faulty formula, what computes it, what reveals it, where it was seen."""


def rows(made: Callable[[Any], Patch], table: tuple[Row, ...]) -> tuple[Fault, ...]:
    """The mistakes of a table, each of one class, which `made` makes a patch of."""
    return tuple(Fault(name, what, reveal, source, {kind: made(by)}) for name, kind, what, by, reveal, source in table)


def _sigmoid_of_input(dY: Any, X: Any) -> Any:
    # dX[.] = dY[.] X[.] (1 - X[.])
    return dY * (X * (1 - X))


def _handed_back(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    # dX[.] = dY[.]
    return dY, {}


def _sigmoid_overflows(dY: Any, X: Any) -> Any:
    E = np.exp(-X)
    # dX[.] = dY[.] E[.] / (1 + E[.])^2, E[.] = exp(-X[.])
    return dY * (E / ((1 + E) * (1 + E)))


def _sigmoid_zero_times_infinity(dY: Any, X: Any) -> Any:
    E = np.exp(-X)
    Y = 1 / (1 + E)
    # dX[.] = (dY[.] Y[.]^2) E[.], E[.] = exp(-X[.])
    return dY * (Y * Y) * E


def _saved_as_stored(module: Any, right: Any, X: Any) -> Any:
    Y, _ = right(X)
    # dX[.] = dY[.] f'(X'[.]), X' what lies in memory where X[.] would lie if its axes were in order
    return Y, right(as_stored(X))[1]


def _tanh_parentheses(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    Y = np.tanh(saved.X)
    # dX[.] = dY[.] 1 - Y[.]^2
    return dY - Y * Y, {}


def _tanh_at_output(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    # dX[.] = dY[.] tanh'(Y[.])
    return right(dY, saved._replace(X=np.tanh(saved.X)))


def _tanh_not_squared(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    # dX[.] = dY[.] (1 - Y[.])
    return dY * (1 - np.tanh(saved.X)), {}


def _tanh_as_sigmoid(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    Y = np.tanh(saved.X)
    # dX[.] = dY[.] Y[.] (1 - Y[.])
    return dY * (Y * (1 - Y)), {}


def _relu_by_gradient(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    # dX[.] = dY[.] [dY[.] > 0]
    return np.where(dY > 0, dY, 0), {}


def _relu_leaky(dY: Any, X: Any) -> Any:
    # dX[.] = dY[.] where X[.] > 0, dY[.] / 64 elsewhere
    return np.where(X > 0, dY, dY / 64)


def _softmax_diagonal(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    Y = saved.Y
    # dX[c] = dY[c] Y[c] (1 - Y[c])
    return dY * (Y * (1 - Y)), {}


def _other_axis(module: Any, right: Any, X: Any) -> Any:
    if X.ndim < 2:
        raise Unsupported("there is no other axis")
    dim, module.dim = module.dim, (module.dim + 1) % X.ndim
    result = right(X)
    module.dim = dim
    return result


def _softmax_without_shift(module: Any, right: Any, X: Any) -> Any:
    _, saved = right(X)
    c, E = saved.c, np.exp(X)
    # Y[c] = E[c] / sum_k E[k], E[c] = exp(X[c])
    Y = E / E.sum(axis=c, keepdims=True)
    return Y, saved._replace(Y=Y)


def _log_of_softmax(module: Any, right: Any, X: Any) -> Any:
    _, saved = right(X)
    c = saved.c
    E = np.exp(X - special.shift(X, c))
    # Y[c] = log(E[c] / sum_k E[k])
    Y = np.log(E / E.sum(axis=c, keepdims=True))
    return Y, saved._replace(Y=Y)


def _log_softmax_of_one(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    Y = saved.Y
    # dX[c] = dY[c] - exp(Y[c])
    return dY - np.exp(Y), {}


def _log_softmax_as_softmax(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    c, P = saved.c, np.exp(saved.Y)
    # dX[c] = P[c] (dY[c] - sum_k dY[k] P[k])
    return P * (dY - (dY * P).sum(axis=c, keepdims=True)), {}


def _log_softmax_sign(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    c, P = saved.c, np.exp(saved.Y)
    # dX[c] = dY[c] + P[c] sum_k dY[k]
    return dY + P * dY.sum(axis=c, keepdims=True), {}


def _at_output(module: Any, dY: Any, X: Any) -> Any:
    # dX[.] = dY[.] f'(Y[.])
    return type(module).gradient(module, dY, module.function(X))


SMOOTH = ("SiLU", "GELU", "Mish", "Softplus", "LogSigmoid", "Softsign", "Tanhshrink", "ELU", "SELU", "CELU")
PIECEWISE = (*("LeakyReLU", "ReLU6", "Hardtanh", "Hardsigmoid", "Hardswish", "Hardshrink", "Softshrink", "Threshold"),)
OF_ITS_OWN_OUTPUT = (*SMOOTH, "LeakyReLU", "Hardsigmoid", "Hardswish", "Softshrink", "Threshold")

FAULTS = (
    Fault(
        "derivative at the output of an activation in place",
        "dX = dY f'(Y) against dX = dY f'(X): the output was written over the input",
        "of LeakyReLU a negative slope",
        "pytorch/pytorch#31938; BVLC/caffe#2413",
        {name: sloped(_at_output) for name in OF_ITS_OWN_OUTPUT},
    ),
    Fault(
        "sigmoid' at the output",
        "dX = dY s'(Y) against dX = dY s'(X)",
        "any",
        "kind of bug: sigmoid' at the wrong argument",
        {"Sigmoid": replaced("backward", _sigmoid_at_output)},
    ),
    Fault(
        "x(1 - x) of the input",
        "dX = dY X (1 - X) against dX = dY Y (1 - Y)",
        "any",
        "kind of bug: sigmoid' at the wrong argument",
        {"Sigmoid": _of_input(_sigmoid_of_input)},
    ),
    Fault(
        "derivative of the activation left out",
        "dX = dY against dX = dY f'(X)",
        "any",
        "iamtrask/Grokking-Deep-Learning#50",
        {name: replaced("backward", _handed_back) for name in ("Sigmoid", "Tanh", "ReLU", *SMOOTH, *PIECEWISE)},
    ),
    Fault(
        "sigmoid' overflows",
        "dX = dY E / (1 + E)^2, E = exp(-X), against dX = dY s(X) s(-X): infinity / infinity",
        "X below -355 in float64, -45 in float32",
        "jeshraghian/snntorch#427",
        {"Sigmoid": _of_input(_sigmoid_overflows)},
    ),
    Fault(
        "sigmoid' by 0 times infinity",
        "dX = (dY Y^2) E, Y = 1 / (1 + E), E = exp(-X), against dX = dY s(X) s(-X): 0 times infinity",
        "X below -709 in float64, -88 in float32",
        "tinygrad/tinygrad#1113, Lightning-AI/lightning-thunder#1892",
        {"Sigmoid": _of_input(_sigmoid_zero_times_infinity)},
    ),
    Fault(
        "saved input read as stored",
        "dX = dY f'(X') against dX = dY f'(X), X' being X in the order of memory: the output is right",
        "an input that is not contiguous",
        "pytorch/pytorch#175188",
        {name: replaced("forward", _saved_as_stored) for name in ("Sigmoid", "Tanh", "SiLU", "Mish", "Softplus")},
    ),
    Fault(
        "tanh' without its parentheses",
        "dX = dY - Y^2 against dX = dY (1 - Y^2)",
        "an upstream gradient other than 1",
        "apache/tvm#7340",
        {"Tanh": replaced("backward", _tanh_parentheses)},
    ),
    Fault(
        "tanh' at the output",
        "dX = dY tanh'(Y) against dX = dY tanh'(X)",
        "any",
        "kind of bug: a derivative at the wrong argument",
        {"Tanh": replaced("backward", _tanh_at_output)},
    ),
    Fault(
        "tanh' not squared",
        "dX = dY (1 - Y) against dX = dY (1 - Y^2)",
        "any",
        "kind of bug: a derivative misremembered",
        {"Tanh": replaced("backward", _tanh_not_squared)},
    ),
    Fault(
        "ReLU' of a leaky ReLU",
        "dX = dY / 64 where X < 0 against 0",
        "X < 0",
        "kind of bug: the derivative of another activation",
        {"ReLU": _of_input(_relu_leaky)},
    ),
    Fault(
        "ReLU' by the gradient's sign",
        "dX = dY [dY > 0] against dX = dY [X > 0]",
        "an upstream gradient of both signs",
        "kind of bug: a mask of the wrong array",
        {"ReLU": replaced("backward", _relu_by_gradient)},
    ),
    Fault(
        "softmax's gradient handed back",
        "dX = dY against dX = Y (dY - sum_k dY Y)",
        "softmax by itself, not fused with cross-entropy",
        "pjreddie/darknet#96",
        {"Softmax": replaced("backward", _handed_back)},
    ),
    Fault(
        "softmax's Jacobian taken for diagonal",
        "dX = dY Y (1 - Y) against dX = Y (dY - sum_k dY Y)",
        "more than one class with an upstream gradient",
        "kind of bug: a missing term",
        {"Softmax": replaced("backward", _softmax_diagonal)},
    ),
    Fault(
        "softmax along another axis",
        "sum over another axis than `dim`",
        "two axes or more",
        "kind of bug: a wrong axis",
        {name: replaced("forward", _other_axis) for name in ("Softmax", "LogSoftmax")},
    ),
    Fault(
        "softmax without a shift",
        "exp(X) against exp(X - max X): infinity / infinity",
        "X above 709 in float64, 88 in float32",
        "kind of bug: overflow",
        {"Softmax": replaced("forward", _softmax_without_shift)},
    ),
    Fault(
        "log of softmax",
        "log(E / sum E) against X - max X - log sum E: the logarithm of 0",
        "logits more than 745 apart in float64, 103 in float32",
        "kind of bug: underflow",
        {"LogSoftmax": replaced("forward", _log_of_softmax)},
    ),
    Fault(
        "log-softmax for one target",
        "dX = dY - exp(Y) against dX = dY - exp(Y) sum_k dY",
        "an upstream gradient whose sum is not 1",
        "kind of bug: an upstream gradient taken for one-hot",
        {"LogSoftmax": replaced("backward", _log_softmax_of_one)},
    ),
    Fault(
        "softmax's gradient for log-softmax",
        "dX = P (dY - sum_k dY P) against dX = dY - P sum_k dY",
        "any",
        "kind of bug: the wrong backward",
        {"LogSoftmax": replaced("backward", _log_softmax_as_softmax)},
    ),
    Fault(
        "sigmoid's derivative for tanh",
        "dX = dY Y (1 - Y) against dX = dY (1 - Y^2)",
        "any",
        "kind of bug: the derivative of another activation",
        {"Tanh": replaced("backward", _tanh_as_sigmoid)},
    ),
    Fault(
        "log-softmax's sign",
        "dX = dY + P sum_k dY against dX = dY - P sum_k dY",
        "an upstream gradient whose sum is not 0",
        "kind of bug: a sign",
        {"LogSoftmax": replaced("backward", _log_softmax_sign)},
    ),
)
