"""The truth of an expression, and of its gradient by reverse mode, in tensors of balls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from parity.truth import waiting
from parity.truth.taped import Taped, gradients
from parity.truth.value import Truth

Array = np.ndarray[Any, Any]
Evaluate = Callable[[Sequence[Any]], Any]
"""An expression, of arrays of any arithmetic."""

NOWHERE: Mapping[str, Array] = {}


def available() -> bool:
    """Whether python-flint is there."""
    try:
        import parity.truth.ball  # noqa: F401
    except ImportError:
        return False
    return True


def in_balls(
    evaluate: Evaluate, given: Sequence[Array], seed: Array | None, places: Mapping[str, Array] = NOWHERE
) -> dict[str, Truth]:
    """The `value` of an expression at these arrays and, from the upstream gradient, `gradients[K]` by each of floats.

    Args:
        places: of some of these, by name, the elements that are asked for, in the flat order; of the others all are.

    Raises:
        Undecided: a comparison stays undecided at the highest precision; or whatever the expression raises.
    """
    from parity.truth.certify import settle
    from parity.truth.deferred import Deferred, elements

    def answer() -> dict[str, Any]:
        leaves = [Taped(Deferred.lift(a)) if a.dtype.kind == "f" else a for a in given]
        result = evaluate(leaves)
        found: dict[str, Any] = {"value": getattr(result, "value", result)}
        if seed is not None:
            found |= gradients(result, Deferred.lift(seed), leaves, lambda shape: Deferred.lift(np.zeros(shape)))
        return dict(zip(found, elements([(a, places.get(name)) for name, a in found.items()]), strict=True))

    with waiting.told("enclosing an expression in balls"):
        return settle(answer)


def apart(one: Evaluate, other: Evaluate, given: Sequence[Array], places: Array | None = None) -> bool:
    """Whether two expressions certainly differ in some element, or in one of those at some places."""
    from parity.truth import ball
    from parity.truth.deferred import Deferred, elements

    with waiting.told("enclosing an expression in balls"), ball.precision(ball.PRECISIONS[0]):
        bare = [Deferred.lift(a) for a in given]
        first, second = elements([(one(bare), places), (other(bare), places)])
    return not all(x.overlaps(y) for x, y in zip(first.flat, second.flat, strict=True))
