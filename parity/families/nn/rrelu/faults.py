"""Mistakes in RReLU. A is a slope for each element, l and u their bounds."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.families.fault import Unsupported, of, replaced
from refnet.arithmetic import special


def _mean(module: Any, X: Any) -> Any:
    return (special.lift(module.lower, X) + special.lift(module.upper, X)) / 2


def _drawn(module: Any) -> None:
    if not module.training:
        raise Unsupported("evaluation mode")


def _mean_in_training(module: Any, right: Any, X: Any, *slopes: Any) -> Any:
    _drawn(module)
    _, saved = right(X, *slopes)
    # Y[.] = (l + u) / 2 X[.] where X[.] <= 0
    return np.where(saved.off, _mean(module, X) * X, X), saved


def _everywhere(module: Any, right: Any, X: Any, *slopes: Any) -> Any:
    _, saved = right(X, *slopes)
    # Y[.] = A[.] X[.]
    return saved.A * X, saved


def _lower_bound(module: Any, right: Any, X: Any, *slopes: Any) -> Any:
    if module.training:
        raise Unsupported("training mode")
    _, saved = right(X, *slopes)
    saved = saved._replace(A=special.lift(module.lower, X))
    # Y[.] = l X[.] where X[.] <= 0
    return np.where(saved.off, saved.A * X, X), saved


def _with(change: Any) -> Any:
    """The gradient of the input, of dY and what was saved; that of the slopes stays."""

    def backward(module: Any, right: Any, dY: Any, saved: Any) -> Any:
        dX, grads = right(dY, saved)
        own = change(module, dY, saved)
        return ((own, *dX[1:]) if saved.given else own), grads

    return backward


def _mean_backward(module: Any, dY: Any, saved: Any) -> Any:
    _drawn(module)
    # dX[.] = (l + u) / 2 dY[.] where X[.] <= 0
    return np.where(saved.off, _mean(module, saved.X) * dY, dY)


def _at_the_output(module: Any, dY: Any, saved: Any) -> Any:
    Y = np.where(saved.off, saved.A * saved.X, saved.X)
    # dX[.] = A[.] dY[.] where Y[.] <= 0
    return np.where(Y <= 0, saved.A * dY, dY)


def _slopes_everywhere(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    if not saved.given:
        raise Unsupported("no slopes given")
    (dX, _), grads = right(dY, saved)
    # dA[.] = X[.] dY[.]
    return (dX, saved.X * dY), grads


FAULTS = of(
    "RReLU",
    (
        "rrelu: mean slope in training",
        "Y = (l + u) / 2 X against A X",
        "training mode",
        "kind of bug: the mode ignored",
        replaced("forward", _mean_in_training),
    ),
    ("rrelu: slopes everywhere", "Y = A X for X > 0", "X > 0", "kind of bug: a mask", replaced("forward", _everywhere)),
    (
        "rrelu: lower bound in evaluation",
        "A = l against (l + u) / 2",
        "evaluation mode",
        "kind of bug: another constant",
        replaced("forward", _lower_bound),
    ),
    (
        "rrelu': mean slope in training",
        "dX = (l + u) / 2 dY against A dY",
        "training mode",
        "kind of bug: the derivative of the other mode",
        replaced("backward", _with(_mean_backward)),
    ),
    (
        "rrelu' is 1",
        "dX = dY against A dY",
        "X <= 0",
        "kind of bug: a factor left out",
        replaced("backward", _with(lambda module, dY, saved: dY)),
    ),
    (
        "rrelu in place",
        "dX at the output: X <= 0 is not to be seen in Y where A < 0",
        "a negative slope",
        "kind of bug: the output written over the input",
        replaced("backward", _with(_at_the_output)),
    ),
    (
        "rrelu: gradient of the slopes from every input",
        "dA = X dY against X dY [X <= 0]",
        "X > 0",
        "kind of bug: a mask",
        replaced("backward", _slopes_everywhere),
    ),
)
