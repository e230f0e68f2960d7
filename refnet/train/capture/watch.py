"""Whether foreign code has changed what a recorded update depends on."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from refnet.arithmetic.runs import Runs, plain
from refnet.generator import Generator
from refnet.train.configuration import SIMPLE

_OPAQUE = (type, FunctionType, BuiltinFunctionType, MethodType, ModuleType, Generator)
"""What is known by its identity alone. (Drawing changes the state of a generator, and nothing else of it.)"""


class Watch:
    """Everything that can be reached from some objects by attributes, lists and dicts, as it is now.

    A number or a text is compared by its value, an array that does not last (see `lasting`) by its bits, every other
    object by its identity and by what it holds.

    Args:
        roots: where to begin.
        lasting: arrays whose values may change, and are looked after elsewhere.
        rates: dicts in which the value of "lr" may change, and is looked after elsewhere.
    """

    def __init__(self, roots: Iterable[Any], lasting: Iterable[Any], rates: Iterable[dict[str, Any]]) -> None:
        self._dicts: list[tuple[dict[Any, Any], list[Any], list[Any]]] = []
        self._lists: list[tuple[list[Any], list[Any]]] = []
        self._arrays: list[tuple[Any, bytes]] = []
        self._seen: dict[int, Any] = {id(array): array for array in lasting}
        self._rates = {id(group) for group in rates}
        self._errors = np.geterr()
        for root in roots:
            self._look(root)

    def _look(self, thing: Any) -> None:
        if type(thing) in SIMPLE or type(thing) is float or id(thing) in self._seen:
            return
        self._seen[id(thing)] = thing
        if isinstance(thing, Runs):
            self._look(plain(thing))
        elif isinstance(thing, np.ndarray):
            self._arrays.append((thing, thing.tobytes()))
        elif isinstance(thing, dict):
            self._dicts.append((thing, list(thing), self._values(thing)))
            for value in self._values(thing):
                self._look(value)
        elif isinstance(thing, list | tuple):
            if isinstance(thing, list):
                self._lists.append((thing, list(thing)))
            for value in thing:
                self._look(value)
        elif not isinstance(thing, _OPAQUE) and hasattr(thing, "__dict__"):
            self._look(vars(thing))

    def _values(self, content: dict[Any, Any]) -> list[Any]:
        if id(content) in self._rates:
            return [value for key, value in content.items() if key != "lr"]
        return list(content.values())

    def changed(self) -> bool:
        """Whether anything is not as it was."""
        return (
            np.geterr() != self._errors
            or any(
                list(now) != keys or not _same(self._values(now), values, operator.is_)
                for now, keys, values in self._dicts
            )
            or any(not _same(now, values, operator.is_) for now, values in self._lists)
            or any(array.tobytes() != content for array, content in self._arrays)
        )


def _same(now: list[Any], then: list[Any], alike: Callable[[Any, Any], bool]) -> bool:
    return len(now) == len(then) and (all(map(alike, now, then)) or all(map(_equal, now, then)))


def _equal(now: Any, then: Any) -> bool:
    if now is then:
        return True
    if type(now) is not type(then) or not isinstance(now, bool | int | float | str | bytes):
        return False
    return repr(now) == repr(then)
