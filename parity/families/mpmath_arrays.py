"""What transcriptions are written in: scalars of mpmath, and arrays of them.

A transcription is a class's forward once more, scalar by scalar, from torch's documentation. It shares with refnet no
line and no trick of numerical analysis: a sigmoid is 1 / (1 + exp(-x)) here, and what that costs is paid in digits.

Each function of a family's `transcription.py` has its class's argument names and defaults. Its docstring begins with
its page's name below <https://docs.pytorch.org/docs/stable/generated/>, read in version 2.13. What a page leaves
undefined (0 / 0, say) is nan: nothing is claimed of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from mpmath import mp

Array = np.ndarray[Any, Any]  # of mpf; class indices and masks stay as they are
Index = tuple[int, ...]


@dataclass(frozen=True)
class Module:
    """What a formula needs besides inputs and arguments.

    Attributes:
        arrays: parameters and buffers; a new value of a buffer takes the place of the old. training: the mode.
    """

    arrays: dict[str, Array]
    training: bool


def array_of(shape: Index, element: Callable[..., Any]) -> Array:
    made = np.empty(shape, dtype=object)
    for i in np.ndindex(*shape):
        made[i] = element(*i)
    return made


def ratio(a: Any, b: Any) -> Any:
    return a / b if b != 0 else mp.nan


def sigmoid_of(x: Any) -> Any:
    return 1 / (1 + mp.exp(-x))


def tanh_of(x: Any) -> Any:
    return (mp.exp(x) - mp.exp(-x)) / (mp.exp(x) + mp.exp(-x))


def reduced(losses: Array, reduction: str) -> Array:
    """The losses themselves, their sum, or it divided by their number."""
    if reduction == "none":
        return losses
    total = mp.fsum(losses.flat)
    return array_of((), lambda: {"sum": total, "mean": ratio(total, losses.size)}[reduction])
