"""What a module or optimizer is, but for the arrays that it trains."""

from __future__ import annotations

from typing import Any

import numpy as np

from refnet.arithmetic.runs import Runs, plain
from refnet.generator import Generator
from refnet.nn.module import Module


class Itself:
    """Equal only to the same object, which it keeps alive, so that no other can come to stand at its address."""

    __slots__ = ("thing",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, thing: Any) -> None:
        self.thing = thing

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Itself) and self.thing is other.thing


def configuration_of(thing: Any) -> Any:
    """A value that equals that of another thing if the two do the same to the same arrays.

    Of a module it holds the class and the attributes, `params` and `buffers` apart, and so on into the modules inside,
    where one that stands at several places is known again. Arrays and numbers are compared bit for bit, generators not
    at all, and what is none of these, such as a function, only with itself.
    """
    return _value(thing, {})


SIMPLE = frozenset({type(None), bool, int, str, bytes})
"""Types of values that are compared as they are."""


def _value(thing: Any, places: dict[int, int]) -> Any:
    # Exact types first: nearly all are of these, and the other questions take long.
    kind = type(thing)
    if kind in SIMPLE:
        return kind, thing
    if kind is dict:
        return kind, [
            (name, (type(part), part) if type(part) in SIMPLE else _value(part, places)) for name, part in thing.items()
        ]
    if kind is tuple or kind is list:
        return kind, [(type(part), part) if type(part) in SIMPLE else _value(part, places) for part in thing]
    if kind is float:
        return kind, repr(thing)
    if isinstance(thing, Module):
        if id(thing) in places:
            return "again", places[id(thing)]
        places[id(thing)] = len(places)
        own = {name: value for name, value in vars(thing).items() if name not in ("params", "buffers")}
        return type(thing), _value(own, places)
    if isinstance(thing, Runs):
        return Runs, _value(plain(thing), places)
    if isinstance(thing, (np.ndarray, np.generic)) and thing.dtype != object:
        return type(thing), thing.dtype.str, thing.shape, thing.tobytes()
    if isinstance(thing, float):
        return type(thing), repr(thing)
    if thing is None or isinstance(thing, (bool, int, str, bytes)):
        return type(thing), thing
    if isinstance(thing, (tuple, list)):
        return type(thing), [_value(part, places) for part in thing]
    if isinstance(thing, dict):
        return type(thing), [(name, _value(part, places)) for name, part in thing.items()]
    if isinstance(thing, Generator):
        return Generator
    return type(thing), Itself(thing)
