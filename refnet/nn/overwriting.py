"""Finding arrays that are overwritten between `forward` and `backward`."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from refnet.nn.module import Module

_Seen = dict[tuple[int, int], tuple[Any, list[tuple[str, Any, bytes]]]]
"""By the ids of a module and of what its forward pass saved: these themselves, so that the ids stay their own, and of
each array that the backward pass reads its name and its digest."""


@contextmanager
def detect_overwriting() -> Iterator[None]:
    """Within this context a backward pass refuses arrays that are no more what its forward pass saw.

    For looking for a mistake: every module then takes a digest of all that it saved, and of its parameters, and
    compares it, which costs a pass over them in each direction. What was saved is kept until the context ends. Modules
    of all threads are concerned. What `refnet.fit` has recorded is replayed without it.

        with refnet.nn.utils.detect_overwriting():
            output, saved = net.forward(x)
            x *= 2
            net.backward(grad, saved)       # RuntimeError: Linear.backward: expected X as forward saw it, ...

    Raises:
        RuntimeError: in `backward`, an input, a parameter or another array that it reads has been written into since
            `forward`.
    """
    seen: _Seen = {}
    put_back: list[tuple[type[Module], str, Any]] = []
    for cls in dict.fromkeys(_subclasses(Module)):  # type: ignore[type-abstract]
        for name, watched in (("forward", _forward), ("backward", _backward)):
            if name in vars(cls):
                put_back.append((cls, name, vars(cls)[name]))
                setattr(cls, name, watched(vars(cls)[name], seen))
    try:
        yield
    finally:
        for cls, name, method in put_back:
            setattr(cls, name, method)


def _subclasses(cls: type[Module]) -> Iterator[type[Module]]:
    for one in cls.__subclasses__():
        yield one
        yield from _subclasses(one)


def _forward(method: Callable[..., Any], seen: _Seen) -> Callable[..., Any]:
    @functools.wraps(method)
    def forward(self: Module, *inputs: Any, **options: Any) -> Any:
        output, saved = method(self, *inputs, **options)
        read = [(name, array, _digest(array)) for name, array in _read(self, saved)]
        seen[id(self), id(saved)] = (self, saved), read
        return output, saved

    return forward


def _backward(method: Callable[..., Any], seen: _Seen) -> Callable[..., Any]:
    @functools.wraps(method)
    def backward(self: Module, grad_output: Any, saved: Any) -> Any:
        for name, array, digest in seen.get((id(self), id(saved)), (None, []))[1]:
            if _digest(array) != digest:
                raise RuntimeError(
                    f"{type(self).__name__}.backward: expected {name} as forward saw it, got an array that has been "
                    "written into since; write into a copy, or after backward"
                )
        return method(self, grad_output, saved)

    return backward


def _read(module: Module, saved: Any) -> Iterator[tuple[str, Any]]:
    """The arrays of numbers that a backward pass reads, with their names: parameters, and what was saved."""
    for name, P in module.params.items():
        if "." not in name:
            yield from _arrays(name, P)
    yield from _arrays("what it saved", saved)


def _arrays(name: str, thing: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(thing, np.ndarray) and thing.dtype.kind in "biuf":
        yield name, thing
    elif isinstance(thing, tuple):
        names = getattr(thing, "_fields", [name] * len(thing))
        for own, one in zip(names, thing, strict=True):
            yield from _arrays(own, one)


def _digest(array: Any) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=16).digest()
