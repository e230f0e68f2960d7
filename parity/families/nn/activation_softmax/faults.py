"""Mistakes in Softmin and Softmax2d. Letters as there."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.families.fault import Fault, replaced
from refnet.arithmetic import special


def _turned(m: Any, right: Any, dY: Any, saved: Any) -> Any:
    dX, grads = right(dY, saved)
    # dX = -dX
    return -dX, grads


def _of_x(m: Any, right: Any, X: Any) -> Any:
    # Y = softmax(X) against softmax(-X)
    return right(-X)


def _handed_back(m: Any, right: Any, dY: Any, saved: Any) -> Any:
    # dX[.] = dY[.]
    return dY, {}


def _diagonal(m: Any, right: Any, dY: Any, saved: Any) -> Any:
    Y = saved.Y
    # dX[c] = dY[c] Y[c] (1 - Y[c])
    return dY * (Y * (1 - Y)), {}


def _without_y(m: Any, right: Any, dY: Any, saved: Any) -> Any:
    Y, c = saved.Y, saved.c
    if not Y.ndim:
        return right(dY, saved)
    # dX[c] = dY[c] - sum_k Y[k] dY[k]
    return dY - (dY * Y).sum(axis=c, keepdims=True), {}


def _without_shift(m: Any, right: Any, X: Any) -> Any:
    _, saved = right(X)
    if not X.ndim:
        return right(X)
    E = np.exp(X if type(m).__name__ == "Softmax2d" else -X)
    # Y[c] = E[c] / sum_k E[k], E[c] = exp(X[c])
    Y = E / E.sum(axis=saved.c, keepdims=True)
    return Y, saved._replace(Y=Y)


def _last_axis(m: Any, right: Any, X: Any) -> Any:
    _, saved = right(X)
    E = np.exp(X - special.shift(X, -1))
    Y = E / E.sum(axis=-1, keepdims=True)
    return Y, saved._replace(Y=Y, c=-1, P=special.largest(X, -1))


FAULTS = (
    Fault(
        "softmin's gradient without its sign",
        "dX = Y (dY - sum_k Y dY) against minus that",
        "any",
        "kind of bug: a sign",
        {"Softmin": replaced("backward", _turned)},
    ),
    Fault(
        "softmin is softmax",
        "Y = softmax(X) against softmax(-X)",
        "any",
        "kind of bug: a sign in an argument",
        {"Softmin": replaced("forward", _of_x)},
    ),
    Fault(
        "softmin's or softmax2d's gradient handed back",
        "dX = dY",
        "any",
        "pjreddie/darknet#96",
        {name: replaced("backward", _handed_back) for name in ("Softmin", "Softmax2d")},
    ),
    Fault(
        "softmin's or softmax2d's Jacobian taken for diagonal",
        "dX = dY Y (1 - Y)",
        "more than one class with an upstream gradient",
        "kind of bug: a missing term",
        {name: replaced("backward", _diagonal) for name in ("Softmin", "Softmax2d")},
    ),
    Fault(
        "softmin's or softmax2d's gradient without Y",
        "dX = dY - sum_k Y dY against Y (dY - sum_k Y dY)",
        "any",
        "wkcn/mobula#3",
        {name: replaced("backward", _without_y) for name in ("Softmin", "Softmax2d")},
    ),
    Fault(
        "softmin or softmax2d without a shift",
        "exp(X) against exp(X - max X): infinity / infinity",
        "X above 709 in float64, 88 in float32",
        "kind of bug: overflow",
        {name: replaced("forward", _without_shift) for name in ("Softmin", "Softmax2d")},
    ),
    Fault(
        "softmax2d along the last axis",
        "sum over the places of a row against sum over channels",
        "more than one place or channel",
        "kind of bug: a wrong axis",
        {"Softmax2d": replaced("forward", _last_axis)},
    ),
)
