"""Derivatives inside an expression: its gradient by reverse mode, its derivative along a tangent by forward mode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from parity.notation import Written
from parity.records.record import UsageError
from parity.truth.taped import Taped, along, backward
from refnet.arithmetic import special


def gradient(f: Callable[..., Any], argument: int = 0) -> Callable[..., Any]:
    """The gradient of a scalar expression by one of its arguments, as an expression: for use inside `enclose`.

        parity.enclose(lambda x, v: np.sum(parity.gradient(f)(x) * v), x, v)

    is the directional derivative of f, and its gradient by x the product of f's Hessian and v.
    """

    def derivative(*arrays: Any) -> Any:
        x = arrays[argument]
        if not isinstance(x, Written):
            raise UsageError(f"gradient: expected an array of an expression in enclose, got {type(x).__name__}")
        leaf = Taped(x.inner)
        result = f(*arrays[:argument], Written(leaf, x.meter), *arrays[argument + 1 :])
        y = result.inner if isinstance(result, Written) else result
        if getattr(y, "shape", None) != ():
            raise UsageError(f"gradient: expected a scalar, got shape {np.shape(y)}; write np.sum(y * grad_output)")
        if getattr(y, "level", 0) == leaf.level:
            backward(y, special.lift(1.0, x.inner))
        grad = leaf.grad if isinstance(leaf.grad, type(x.inner)) or hasattr(leaf.grad, "shape") else None
        return x * 0.0 if grad is None else Written(grad, x.meter)

    return derivative


def jvp(f: Callable[..., Any], argument: int = 0) -> Callable[..., Any]:
    """The derivative of an expression along a tangent of one of its arguments, by forward mode, inside `enclose`:
    `parity.jvp(f)(x, v)` is the product of f's Jacobian at x and v. The tangent is the last argument.
    """

    def derivative(*arrays: Any) -> Any:
        *given, v = arrays
        x = given[argument]
        for name, a in (("the argument", x), ("the tangent", v)):
            if not isinstance(a, Written):
                raise UsageError(
                    f"jvp: expected {name} as an array of an expression in enclose, got {type(a).__name__}"
                )
        if v.shape != x.shape:
            raise UsageError(f"jvp: expected a tangent of shape {x.shape}, got {v.shape}")

        def bare(moved: Any) -> Any:
            y = f(*given[:argument], Written(moved, x.meter), *given[argument + 1 :])
            return y.inner if isinstance(y, Written) else y

        y, tangent = along(bare, x.inner, v.inner)
        return Written(y * 0.0 if tangent is None else tangent, x.meter)

    return derivative
