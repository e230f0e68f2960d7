"""The derivative of each operation, once for scalars and arrays of every arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from refnet.arithmetic import special

Value = Any  # flint.arb in a Node; Budget, or any other array, in a Taped


def sigmoid(x: Value) -> Value:
    return x.__special__("sigmoid") if hasattr(x, "__special__") else 1 / (1 + (-x).exp())


def erf_derivative(x: Value) -> Value:
    return special.erf_derivative(x) if hasattr(x, "shape") else (-(x * x)).exp() * (2 / type(x).pi().sqrt())


def power(x: Value, p: float) -> Value:
    """x^p, p a constant. Arb takes a real exponent for a positive x alone, and an integer for any."""
    return np.power(x, p) if hasattr(x, "shape") else x ** (type(x)(p) if isinstance(p, float) else p)


def _function(name: str, x: Value) -> Value:
    return getattr(np, name)(x) if hasattr(x, "shape") else getattr(x, name)()


def _power(g: Value, y: Value, x: Value, p: Value) -> Value:
    exponent = float(p)
    if exponent == 0:
        return g * 0
    less = exponent - 1
    return g * (power(x, int(less) if less == int(less) else less) * exponent)


def _choose(condition: Any, a: Value, b: Value) -> Value:
    """A comparison of scalars decides; one of arrays, elementwise."""
    return (a if condition else b) if isinstance(condition, bool) else np.where(condition, a, b)


def _absolute(g: Value, y: Value, x: Value) -> Value:
    return _choose(x > 0, g, _choose(x < 0, -g, g * 0))


def _larger(g: Value, a: Value, b: Value) -> Value:
    return _choose(a > b, g, _choose(a < b, g * 0, g / 2))


PULLBACKS: dict[str, tuple[Callable[..., Value], ...]] = {
    "add": (lambda g, y, a, b: g, lambda g, y, a, b: g),
    "subtract": (lambda g, y, a, b: g, lambda g, y, a, b: -g),
    "negative": (lambda g, y, x: -g,),
    "multiply": (lambda g, y, a, b: g * b, lambda g, y, a, b: g * a),
    "divide": (lambda g, y, a, b: g / b, lambda g, y, a, b: -g * (y / b)),
    "exp": (lambda g, y, x: g * y,),
    "log": (lambda g, y, x: g / x,),
    "log1p": (lambda g, y, x: g / (1 + x),),
    "sqrt": (lambda g, y, x: g / (2 * y),),
    "tanh": (lambda g, y, x: g * (1 - y * y),),
    "sin": (lambda g, y, x: g * _function("cos", x),),
    "cos": (lambda g, y, x: -(g * _function("sin", x)),),
    "expm1": (lambda g, y, x: g * (1 + y),),
    # The exponent is a constant.
    "power": (_power, lambda g, y, x, p: g * 0),
    # At 0 the derivative is 0, as torch's.
    "absolute": (_absolute,),
    # At a tie each operand has half, as in torch.
    "maximum": (lambda g, y, a, b: _larger(g, a, b), lambda g, y, a, b: _larger(g, b, a)),
    "erf": (lambda g, y, x: g * erf_derivative(x),),
    "erfc": (lambda g, y, x: -(g * erf_derivative(x)),),
    "erf_derivative": (lambda g, y, x: g * (y * (-2 * x)),),
    "sigmoid": (lambda g, y, x: g * (y * (1 - y)),),
    "log_sigmoid": (lambda g, y, x: g * sigmoid(-x),),
}
"""Of y = f(operands), with g the gradient of y: for each operand g times the derivative of y by it.

In the forms that frameworks use: for balls the form does not matter, for budgets it is what rounding is granted for.
"""
