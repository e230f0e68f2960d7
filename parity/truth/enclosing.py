"""The truth of an expression, and of its gradient by reverse mode, in tensors of balls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from parity.truth.taped import Taped, gradients
from parity.truth.value import Truth

Array = np.ndarray[Any, Any]
Evaluate = Callable[[Sequence[Any]], Any]
"""An expression, of arrays of any arithmetic."""


def available() -> bool:
    """Whether python-flint is there."""
    try:
        import parity.truth.ball  # noqa: F401
    except ImportError:
        return False
    return True


def in_balls(evaluate: Evaluate, given: Sequence[Array], seed: Array | None) -> dict[str, Truth]:
    """The `value` of an expression at these arrays and, from the upstream gradient, `gradients[K]` by each of floats.

    Raises:
        Undecided: a comparison stays undecided at the highest precision; or whatever the expression raises.
    """
    from parity.truth.certify import settle
    from parity.truth.tensor_balls import TensorBalls

    def answer() -> dict[str, Any]:
        leaves = [Taped(TensorBalls.lift(a)) if a.dtype.kind == "f" else a for a in given]
        result = evaluate(leaves)
        found: dict[str, Any] = {"value": getattr(result, "value", result)}
        if seed is not None:
            found |= gradients(result, TensorBalls.lift(seed), leaves, lambda shape: TensorBalls.lift(np.zeros(shape)))
        return {name: tensor.balls for name, tensor in found.items()}

    return settle(answer)


def apart(one: Evaluate, other: Evaluate, given: Sequence[Array]) -> bool:
    """Whether two expressions certainly differ in some element."""
    from parity.truth import ball
    from parity.truth.tensor_balls import TensorBalls

    with ball.precision(ball.PRECISIONS[0]):
        bare = [TensorBalls.lift(a) for a in given]
        first, second = one(bare).balls, other(bare).balls
    return not all(x.overlaps(y) for x, y in zip(first.flat, second.flat, strict=True))
