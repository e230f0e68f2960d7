"""Parameter groups, and parameters by name, as an optimizer is given them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Array = Any  # see refnet.arithmetic.special


class Group(dict[str, Any]):
    """A group of parameters that refuses an option which its optimizer refuses."""

    def __init__(self, optimizer: Any, content: Mapping[str, Any]) -> None:
        super().__init__(content)
        self.optimizer = optimizer

    def __reduce__(self) -> Any:
        return Group, (self.optimizer, dict(self))

    def __setitem__(self, name: str, value: Any) -> None:
        self.update({name: value})

    def update(self, *args: Any, **options: Any) -> None:
        changed = dict(*args, **options)
        self.optimizer.check({**unscheduled(self), **changed})
        super().update(changed)


def unscheduled(group: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a group without what a scheduler has made of its rate, which may be below 0."""
    return {**group, "lr": group.get("initial_lr", group["lr"])}


def groups_of(operation: str, params: Any) -> list[Any]:
    """The groups that an optimizer is made of."""
    if isinstance(params, Mapping):
        return [{"params": params}] if params else []
    if not isinstance(params, Iterable) or hasattr(params, "dtype"):
        raise TypeError(
            f"{operation}: expected parameters by name, such as net.params, or groups, got {type(params).__name__}"
        )
    listed = list(params)
    return [{"params": listed}] if listed and not isinstance(listed[0], Mapping) else listed


def named(operation: str, params: Any) -> dict[str, Array]:
    """Parameters by name, from a dict of arrays or from pairs such as those of `named_parameters`."""
    if isinstance(params, Mapping):
        return dict(params)
    pairs = [] if hasattr(params, "dtype") or not isinstance(params, Iterable) else list(params)
    if not pairs or not all(isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str) for pair in pairs):
        got = type(pairs[0] if pairs else params).__name__
        raise TypeError(
            f"{operation}: expected params as a dict of arrays, such as net.params, because gradients come by name, "
            f"got {got} without a name"
        )
    return dict(pairs)
