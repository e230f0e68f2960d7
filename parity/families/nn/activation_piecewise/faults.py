"""Mistakes in the activations made of straight lines, a row each. Letters as there."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.families.fault import Fault, Unsupported, replaced
from parity.families.nn.activation.faults import Row, rows, sloped, valued
from refnet.arithmetic import special


def _t(m: Any, X: Any) -> Any:
    return special.lift(m.lambd, X)


def _n(m: Any, X: Any) -> Any:
    return special.lift(m.negative_slope, X)


def _zero(X: Any) -> Any:
    return special.lift(0.0, X)


def _third(m: Any, dY: Any, X: Any) -> Any:
    return np.where(X <= -3, 0, np.where(X < 3, dY * (special.lift(0.3333, X) * X + 0.5), dY))


SLOPES: tuple[Row, ...] = (
    # name, class, the faulty formula, its gradient, what reveals it, where it was seen
    (
        "leaky relu' is relu's",
        "LeakyReLU",
        "dX = 0 for X < 0",
        lambda m, dY, X: np.where(X > 0, dY, 0),
        "X < 0",
        "kind of bug: the derivative of another activation",
    ),
    (
        "leaky relu' times x",
        "LeakyReLU",
        "dX = a X for X < 0 against a dY",
        lambda m, dY, X: np.where(X > 0, dY, _n(m, X) * X),
        "X < 0",
        "kind of bug: the forward's line in the backward",
    ),
    (
        "leaky relu' by the gradient's sign",
        "LeakyReLU",
        "dX = a dY where dY < 0 against where X < 0",
        lambda m, dY, X: np.where(dY > 0, dY, _n(m, X) * dY),
        "an upstream gradient of both signs",
        "kind of bug: a mask of the wrong array",
    ),
    (
        "leaky relu' over its slope",
        "LeakyReLU",
        "dX = dY / a for X < 0 where a is not 0",
        lambda m, dY, X: np.where(X > 0, dY, dY / _n(m, X)),
        "X < 0",
        "kind of bug: an inverse",
    ),
    (
        "relu6' without its upper bound",
        "ReLU6",
        "dX = dY for X > 6",
        lambda m, dY, X: np.where(X <= 0, 0, dY),
        "X > 6",
        "tenstorrent/tt-metal#6589",
    ),
    (
        "relu6' is 6",
        "ReLU6",
        "dX = 6 dY where X >= 6",
        lambda m, dY, X: np.where(X <= 0, 0, np.where(X >= 6, 6 * dY, dY)),
        "X >= 6",
        "tenstorrent/tt-metal#57455",
    ),
    (
        "relu6' between 0 and 1",
        "ReLU6",
        "dX = 0 for X > 1",
        lambda m, dY, X: np.where(X <= 0, 0, np.where(X >= 1, 0, dY)),
        "X between 1 and 6",
        "kind of bug: the derivative of another activation",
    ),
    (
        "relu6' by its output, bounds taken in",
        "ReLU6",
        "dX = dY where 0 <= Y <= 6: everywhere",
        lambda m, dY, X: dY + 0 * dY,
        "X < 0 or X > 6",
        "kind of bug: a mask of the wrong array",
    ),
    (
        "hardtanh' with the bounds of the default",
        "Hardtanh",
        "dX = dY where -1 < X < 1 whatever the bounds",
        lambda m, dY, X: np.where(X <= -1, 0, np.where(X >= 1, 0, dY)),
        "other bounds",
        "kind of bug: an argument ignored",
    ),
    (
        "hardtanh' is tanh's",
        "Hardtanh",
        "dX = dY (1 - tanh(X)^2)",
        lambda m, dY, X: dY * (1 - np.tanh(X) * np.tanh(X)),
        "any",
        "kind of bug: the derivative of another activation",
    ),
    (
        "hardtanh' without its lower bound",
        "Hardtanh",
        "dX = dY for X < a",
        lambda m, dY, X: np.where(X >= special.lift(m.max_val, X), 0, dY),
        "X below the lower bound",
        "kind of bug: a term left out",
    ),
    (
        "hardsigmoid' without its bounds",
        "Hardsigmoid",
        "dX = dY / 6 everywhere",
        lambda m, dY, X: dY / 6,
        "|X| > 3",
        "pytorch/pytorch#51408",
    ),
    (
        "hardsigmoid' without its factor",
        "Hardsigmoid",
        "dX = dY where -3 < X < 3",
        lambda m, dY, X: np.where(X <= -3, 0, np.where(X >= 3, 0, dY)),
        "any",
        "kind of bug: a factor left out",
    ),
    (
        "hardsigmoid' is 1 / 5",
        "Hardsigmoid",
        "dX = dY / 5 where -5/2 < X < 5/2: Keras's older hard sigmoid",
        lambda m, dY, X: np.where(X <= -2.5, 0, np.where(X >= 2.5, 0, dY / 5)),
        "any",
        "keras-team/keras: hard_sigmoid before 3",
    ),
    (
        "hardsigmoid' is sigmoid's",
        "Hardsigmoid",
        "dX = dY s(X) s(-X)",
        lambda m, dY, X: dY * (special.sigmoid(X) * special.sigmoid(-X)),
        "any",
        "kind of bug: the derivative of another activation",
    ),
    (
        "hardswish' is hardsigmoid",
        "Hardswish",
        "dX = dY (X + 3) / 6",
        lambda m, dY, X: np.where(X <= -3, 0, np.where(X < 3, dY * ((X + 3) / 6), dY)),
        "any",
        "kind of bug: a product rule cut short",
    ),
    (
        "hardswish' with 0.3333",
        "Hardswish",
        "dX = dY (0.3333 X + 1/2) against dY (X / 3 + 1/2)",
        _third,
        "|X| < 3",
        "tenstorrent/tt-metal#55291",
    ),
    (
        "hardswish' without its bounds",
        "Hardswish",
        "dX = dY (2 X + 3) / 6 everywhere",
        lambda m, dY, X: dY * ((2 * X + 3) / 6),
        "|X| > 3",
        "kind of bug: a mask left out",
    ),
    (
        "hardshrink' without its mask",
        "Hardshrink",
        "dX = dY everywhere, but at 0",
        lambda m, dY, X: np.where(X == 0, 0, dY),
        "|X| < l",
        "kind of bug: a mask left out",
    ),
    (
        "hardshrink' of one side",
        "Hardshrink",
        "dX = dY where X > l alone",
        lambda m, dY, X: np.where(X > _t(m, X), dY, 0),
        "X < -l",
        "kind of bug: an absolute value left out",
    ),
    (
        "hardshrink' by the gradient",
        "Hardshrink",
        "dX = dY where |dY| > l",
        lambda m, dY, X: np.where(np.absolute(dY) > _t(m, X), dY, 0),
        "any",
        "kind of bug: a mask of the wrong array",
    ),
    (
        "softshrink' without its mask",
        "Softshrink",
        "dX = dY everywhere, but at 0",
        lambda m, dY, X: np.where(X == 0, 0, dY),
        "|X| < l",
        "kind of bug: a mask left out",
    ),
    (
        "softshrink' of one side",
        "Softshrink",
        "dX = dY where X > l alone",
        lambda m, dY, X: np.where(X > _t(m, X), dY, 0),
        "X < -l",
        "kind of bug: an absolute value left out",
    ),
    (
        "softshrink' with the sign of x",
        "Softshrink",
        "dX = -dY where X < -l",
        lambda m, dY, X: np.where(X > _t(m, X), dY, np.where(X < -_t(m, X), -dY, 0)),
        "X < -l",
        "kind of bug: a sign",
    ),
    (
        "threshold' at 0",
        "Threshold",
        "dX = dY where X > 0 against where X > t",
        lambda m, dY, X: np.where(X > 0, dY, 0),
        "X between 0 and t",
        "kind of bug: an argument ignored",
    ),
    (
        "threshold' passes its value",
        "Threshold",
        "dX = v dY where X <= t",
        lambda m, dY, X: np.where(X > special.lift(m.threshold, X), dY, special.lift(m.value, X) * dY),
        "v other than 0",
        "kind of bug: the forward's line in the backward",
    ),
    (
        "threshold' by the gradient",
        "Threshold",
        "dX = dY where dY > t",
        lambda m, dY, X: np.where(dY > special.lift(m.threshold, X), dY, 0),
        "any",
        "kind of bug: a mask of the wrong array",
    ),
)

VALUES: tuple[Row, ...] = (
    (
        "leaky relu with the slope above 0",
        "LeakyReLU",
        "Y = a X for X > 0",
        lambda m, X: np.where(X > 0, _n(m, X) * X, X),
        "any",
        "kind of bug: swapped branches",
    ),
    (
        "relu6 by a difference",
        "ReLU6",
        "Y = relu(X) - relu(X - 6): X - (X - 6) rounds",
        lambda m, X: np.where(X > 0, X, _zero(X)) - np.where(X > 6, X - 6, _zero(X)),
        "X above 2^53",
        "tinygrad/tinygrad#18028",
    ),
    (
        "hardtanh with one bound",
        "Hardtanh",
        "Y = -b where X < a",
        lambda m, X: np.where(
            X <= special.lift(m.min_val, X),
            -special.lift(m.max_val, X),
            np.where(X >= special.lift(m.max_val, X), special.lift(m.max_val, X), X),
        ),
        "bounds that are not each other's negatives",
        "kind of bug: an argument ignored",
    ),
    (
        "hardsigmoid by a difference",
        "Hardsigmoid",
        "Y = relu(U) - relu(U - 1), U = (X + 3) / 6: U - (U - 1) rounds",
        lambda m, X: np.where(X <= -3, 0, (X + 3) / 6) - np.where(X >= 3, (X - 3) / 6, _zero(X)),
        "X above 3",
        "tinygrad/tinygrad#18063",
    ),
    (
        "hardswish is hardsigmoid",
        "Hardswish",
        "Y = (X + 3) / 6 against X (X + 3) / 6",
        lambda m, X: np.where(X <= -3, 0, np.where(X >= 3, 1, (X + 3) / 6)),
        "any",
        "kind of bug: a factor left out",
    ),
    (
        "hardswish doubled",
        "Hardswish",
        "Y = X (X + 3) / 3",
        lambda m, X: X * (np.where(X <= -3, 0, np.where(X >= 3, 6, X + 3)) / 3),
        "any",
        "kind of bug: a factor",
    ),
    (
        "hardshrink is softshrink",
        "Hardshrink",
        "Y = X - l for X > l",
        lambda m, X: np.where(X > _t(m, X), X - _t(m, X), np.where(X < -_t(m, X), X + _t(m, X), _zero(X))),
        "any",
        "kind of bug: another activation",
    ),
    (
        "softshrink is hardshrink",
        "Softshrink",
        "Y = X for |X| > l",
        lambda m, X: np.where(X >= -_t(m, X), np.where(X <= _t(m, X), 0, X), X),
        "any",
        "kind of bug: another activation",
    ),
    (
        "softshrink the other way",
        "Softshrink",
        "Y = X - l for X < -l",
        lambda m, X: np.where(X >= -_t(m, X), np.where(X <= _t(m, X), 0, X - _t(m, X)), X - _t(m, X)),
        "X < -l",
        "kind of bug: a sign",
    ),
    (
        "threshold without its value",
        "Threshold",
        "Y = 0 where X <= t",
        lambda m, X: np.where(X <= special.lift(m.threshold, X), 0, X),
        "v other than 0",
        "kind of bug: an argument ignored",
    ),
    (
        "threshold taken in",
        "Threshold",
        "Y = X where X >= t",
        lambda m, X: np.where(X < special.lift(m.threshold, X), special.lift(m.value, X), X),
        "X = t",
        "kind of bug: a bound taken in",
    ),
)


def _prelu_not_reduced(m: Any, right: Any, dY: Any, saved: Any) -> Any:
    dX, grads = right(dY, saved)
    if dY.ndim < 2 or dY.shape[0] < 2:
        raise Unsupported("there are no samples to average over")
    # dW = sum of dY X over n and ., divided by the number of samples
    return dX, {"weight": grads["weight"] / dY.shape[0]}


def _prelu_all(m: Any, right: Any, dY: Any, saved: Any) -> Any:
    X = saved.X
    dX, _ = right(dY, saved)
    axes = tuple(range(-X.ndim, 0))
    axes = (*axes[:1], *axes[2:]) if m.num_parameters > 1 else axes
    D = dY * X
    # dW[c] = sum of dY[n,c,.] X[n,c,.] wherever X is
    return dX, {"weight": (D.sum(axis=axes, keepdims=True) if axes else D).reshape(m.num_parameters)}


def _prelu_straight(m: Any, right: Any, dY: Any, saved: Any) -> Any:
    _, grads = right(dY, saved)
    # dX = dY for X < 0 too
    return dY, grads


def _prelu_sign(m: Any, right: Any, dY: Any, saved: Any) -> Any:
    dX, grads = right(dY, saved)
    return dX, {"weight": -grads["weight"]}


def _prelu_in_place(m: Any, right: Any, dY: Any, saved: Any) -> Any:
    X = saved.X
    Y, _ = type(m).forward(m, X)
    # The output was written over the input.
    return right(dY, saved._replace(X=Y, on=Y > 0))


def _prelu_first_weight(m: Any, right: Any, X: Any) -> Any:
    if m.num_parameters == 1:
        raise Unsupported("there is one weight")
    _, saved = right(X)
    # Y = W[0] X for X < 0, whatever the channel
    return np.where(X > 0, X, m.params["weight"][..., :1] * X), saved


FAULTS = (
    *rows(sloped, SLOPES),
    *rows(valued, VALUES),
    *(
        Fault(name, what, reveal, source, {"PReLU": replaced(method, by)})
        for name, method, what, by, reveal, source in (
            (
                "prelu: dW averaged over the batch",
                "backward",
                "dW / N against dW",
                _prelu_not_reduced,
                "more than one sample",
                "kind of bug: 1/N",
            ),
            (
                "prelu: dW from every input",
                "backward",
                "dW = sum dY X against sum dY X [X <= 0]",
                _prelu_all,
                "X > 0",
                "pytorch/pytorch#128120",
            ),
            (
                "prelu' is 1",
                "backward",
                "dX = dY against dX = W dY for X < 0",
                _prelu_straight,
                "X < 0",
                "kind of bug: a factor left out",
            ),
            ("prelu: dW with the other sign", "backward", "-dW against dW", _prelu_sign, "any", "kind of bug: a sign"),
            (
                "prelu in place",
                "backward",
                "dX and dW at the output: X > 0 is not to be seen in Y",
                _prelu_in_place,
                "X < 0",
                "apache/mxnet#3277; BVLC/caffe#2413",
            ),
            (
                "prelu with the first weight",
                "forward",
                "Y = W[0] X against W[c] X for X < 0",
                _prelu_first_weight,
                "a weight for each channel",
                "kind of bug: an index left out",
            ),
        )
    ),
)
