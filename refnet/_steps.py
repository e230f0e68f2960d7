"""Which parameters have moved since a forward pass.

torch counts the writes into every tensor and refuses a backward pass for which a parameter is no more what it was.
NumPy's arrays count nothing; but what moves parameters is an optimizer's step, and that is counted here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import count
from typing import Any

__all__ = ["Clock", "Saved", "clock", "moved", "unmoved"]


class Clock:
    """Steps of all optimizers.

    Attributes:
        now: the number of the last one. numbers: those of the next.
        moved: the number of the last step that moved an array, by the array's id. An id is asked for only of an array
            that has lived since a forward pass, so that no later array can have had it in between.
    """

    __slots__ = ("moved", "now", "numbers")

    def __init__(self) -> None:
        self.now = 0
        self.numbers = count(1)
        self.moved: dict[int, int] = {}

    def forget(self, most: int = 100_000) -> None:
        """Drop what is known of arrays, most of which are no more, where it is much."""
        if len(self.moved) > most:
            self.moved.clear()


clock = Clock()


class Saved(list[Any]):
    """What the modules inside a network saved, in their order, and how many steps there had been."""

    __slots__ = ("steps",)
    steps: int


def moved(arrays: Iterable[Any]) -> None:
    """Note that these arrays have been moved just now, in other ways than by `Optimizer.step`."""
    clock.now = next(clock.numbers)
    clock.moved.update(dict.fromkeys(map(id, arrays), clock.now))


def unmoved(operation: str, params: Mapping[str, Any], steps: int) -> None:
    """Raise where a parameter has been moved since there had been so many steps.

    Raises:
        RuntimeError: one has been, as torch says in that case.
    """
    if steps == clock.now:
        return
    for name, P in params.items():
        if clock.moved.get(id(P), 0) > steps:
            raise RuntimeError(
                f"{operation}: expected the parameters that forward saw, got {name} after a step of its optimizer; "
                "the gradient would mix old and new values: call backward before the step, or forward again"
            )
