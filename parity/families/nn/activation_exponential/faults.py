"""Mistakes in ELU, SELU and CELU, a row each. Letters as there."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.families.nn.activation.faults import Row, rows, sloped, valued
from refnet.arithmetic import special
from refnet.nn.activation import ALPHA, SCALE


def _off(X: Any) -> tuple[Any, Any]:
    """Where x is at most 0, and exp(x) there."""
    off = X <= 0
    return off, np.exp(np.where(off, X, special.lift(0.0, X)))


def _a(m: Any, X: Any) -> Any:
    return special.lift(m.alpha, X)


def _celu_exp(m: Any, X: Any) -> tuple[Any, Any]:
    off = X <= 0
    return off, np.exp(np.where(off, X / _a(m, X), special.lift(0.0, X)))


def _selu_both(m: Any, X: Any) -> Any:
    return type(m).function(m, X)


SLOPES: tuple[Row, ...] = (
    # name, class, the faulty formula, its gradient, what reveals it, where it was seen
    (
        "elu' is y + 1",
        "ELU",
        "dX = dY (Y + 1) against dX = dY (Y + a)",
        lambda m, dY, X: np.where(_off(X)[0], dY * (1 + _a(m, X) * (_off(X)[1] - 1)), dY),
        "alpha other than 1",
        "tiny-dnn/tiny-dnn#896",
    ),
    (
        "elu' without alpha",
        "ELU",
        "dX = dY exp(X) for X < 0",
        lambda m, dY, X: np.where(_off(X)[0], dY * _off(X)[1], dY),
        "alpha other than 1",
        "eriklindernoren/ML-From-Scratch#73",
    ),
    (
        "elu' is y",
        "ELU",
        "dX = dY Y for X < 0",
        lambda m, dY, X: np.where(_off(X)[0], dY * (_a(m, X) * (_off(X)[1] - 1)), dY),
        "X < 0",
        "ai-on-browser/ai-on-browser.github.io#773",
    ),
    (
        "elu' by the sign of y",
        "ELU",
        "dX = dY where Y > 0",
        lambda m, dY, X: np.where(m.function(X) <= 0, dY * (_a(m, X) * _off(X)[1]), dY),
        "alpha below 0",
        "pytorch/pytorch#47671",
    ),
    (
        "selu' without its scale",
        "SELU",
        "dX = dY for X > 0, dY a exp(X) for X < 0",
        lambda m, dY, X: np.where(_off(X)[0], dY * (special.lift(ALPHA, X) * _off(X)[1]), dY),
        "any",
        "kind of bug: a factor left out",
    ),
    (
        "selu' scaled twice",
        "SELU",
        "dX = dY l (Y + a) against dX = dY (Y + l a)",
        lambda m, dY, X: np.where(
            _off(X)[0],
            dY * (special.lift(SCALE, X) * (m.function(X) + special.lift(ALPHA, X))),
            dY * special.lift(SCALE, X),
        ),
        "X < 0",
        "RubixML/ML#427",
    ),
    (
        "selu' without alpha",
        "SELU",
        "dX = dY l exp(X) for X < 0",
        lambda m, dY, X: dY * np.where(_off(X)[0], special.lift(SCALE, X) * _off(X)[1], special.lift(SCALE, X)),
        "X < 0",
        "kind of bug: a factor left out",
    ),
    (
        "selu' without its exponential",
        "SELU",
        "dX = dY l a for X < 0 against dX = dY l a exp(X)",
        lambda m, dY, X: dY * special.lift(SCALE, X) * np.where(X < 0, special.lift(ALPHA, X), 1),
        "X < 0",
        "kind of bug: an exponential left out",
    ),
    (
        "celu' is elu's",
        "CELU",
        "dX = dY a exp(X) for X < 0",
        lambda m, dY, X: np.where(_off(X)[0], dY * (_a(m, X) * _off(X)[1]), dY),
        "alpha other than 1",
        "kind of bug: the derivative of another activation",
    ),
    (
        "celu' over alpha",
        "CELU",
        "dX = dY exp(X / a) / a for X < 0",
        lambda m, dY, X: np.where(_celu_exp(m, X)[0], dY * (_celu_exp(m, X)[1] / _a(m, X)), dY),
        "alpha other than 1",
        "kind of bug: a chain rule applied twice",
    ),
    (
        "celu' of x",
        "CELU",
        "dX = dY exp(X) for X < 0",
        lambda m, dY, X: np.where(_off(X)[0], dY * _off(X)[1], dY),
        "alpha other than 1",
        "kind of bug: an argument's factor left out",
    ),
)

VALUES: tuple[Row, ...] = (
    (
        "elu with alpha inside",
        "ELU",
        "Y = exp(a X) - 1 for X < 0",
        lambda m, X: np.where(X <= 0, np.expm1(np.where(X <= 0, _a(m, X) * X, special.lift(0.0, X))), X),
        "alpha other than 1",
        "kind of bug: a factor in the wrong place",
    ),
    (
        "elu where the branch overflows",
        "ELU",
        "Y = X [X > 0] + a (exp(X) - 1) [X <= 0]: 0 times infinity",
        lambda m, X: (
            X * np.where(X > 0, 1, special.lift(0.0, X))
            + _a(m, X) * np.expm1(X) * np.where(X <= 0, 1, special.lift(0.0, X))
        ),
        "X above 709 in float64",
        "apache/mxnet#14673",
    ),
    (
        "selu twice",
        "SELU",
        "Y = selu(selu(X))",
        lambda m, X: _selu_both(m, _selu_both(m, X)),
        "any",
        "deephealthproject/eddl#269",
    ),
    (
        "celu not over alpha",
        "CELU",
        "Y = a (exp(X) - 1) for X < 0",
        lambda m, X: np.where(X <= 0, _a(m, X) * np.expm1(np.where(X <= 0, X, special.lift(0.0, X))), X),
        "alpha other than 1",
        "kind of bug: an argument's factor left out",
    ),
)

FAULTS = (*rows(sloped, SLOPES), *rows(valued, VALUES))
