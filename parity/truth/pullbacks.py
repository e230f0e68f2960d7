"""The derivative of each operation, once for scalars and arrays of every arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Value = Any  # flint.arb in a Node; Budget, or any other array, in a Taped


def sigmoid(x: Value) -> Value:
    return x.__special__("sigmoid") if hasattr(x, "__special__") else 1 / (1 + (-x).exp())


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
    "sigmoid": (lambda g, y, x: g * (y * (1 - y)),),
    "log_sigmoid": (lambda g, y, x: g * sigmoid(-x),),
}
"""Of y = f(operands), with g the gradient of y: for each operand g times the derivative of y by it.

In the forms that frameworks use: for balls the form does not matter, for budgets it is what rounding is granted for.
"""
