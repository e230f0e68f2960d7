"""Modules made of modules."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from refnet._steps import Saved, clock, unmoved
from refnet.nn.module import Array, Module, Params


class Sequential(Module):
    """Applies modules one after the other; a module may be a Sequential itself, and one module may stand at several
    places.

    Names are torch's: `0.weight`, `2.bias`, or those of the OrderedDict that it is made of. A module at several places
    has one set of parameters, known to `params` by its first place, and its gradients add up there; `state_dict` shows
    it at every place.

    `len`, iteration and an index give the modules, a slice another Sequential of the same modules.

    Args:
        layers: modules, or one OrderedDict of modules by name.

    Raises:
        TypeError: a layer is not a Module.
        ValueError: a name is empty or has a dot in it.
        IndexError: there is no such place.
        RuntimeError: in `backward`, an optimizer's step has moved a parameter since `forward`.
    """

    def __init__(self, *layers: Module | Mapping[str, Module]) -> None:
        super().__init__()
        if len(layers) == 1 and isinstance(layers[0], Mapping):
            self.adopt(layers[0])
        else:
            self.adopt({str(place): layer for place, layer in enumerate(layers)})  # type: ignore[misc]

    @property
    def layers(self) -> tuple[Module, ...]:
        """The modules in their order, one at every place."""
        return tuple(self._modules.values())

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules.values())

    def __getitem__(self, place: int | slice) -> Module:
        if isinstance(place, slice):
            return Sequential(dict(list(self._modules.items())[place]))
        at = operator.index(place)
        if not -len(self) <= at < len(self):
            raise IndexError(f"Sequential: expected a place from {-len(self)} to {len(self) - 1}, got {at}")
        return self.layers[at]

    def forward(self, input: Array) -> tuple[Array, Any]:
        X = input
        saved = Saved()
        saved.steps = clock.now
        for layer in self._modules.values():
            X, s = layer.forward(X)
            saved.append(s)
        return X, saved

    def backward(self, grad_output: Array, saved: Any) -> tuple[Array, Params]:
        dX = grad_output
        # (one who has put the list together is told nothing)
        if type(saved) is Saved:
            unmoved("Sequential.backward", self.params, saved.steps)
        if not isinstance(saved, list | tuple) or len(saved) != len(self):
            raise TypeError(
                f"Sequential.backward: expected as saved what forward returned beside the output, got {_what(saved)}"
            )
        grads: Params = {}
        for (place, layer), s in zip(reversed(self._modules.items()), reversed(saved), strict=True):
            dX, dP = layer.backward(dX, s)
            if dP:
                self.add_grads(grads, place, dP)
        return dX, {name: grads[name] for name in self.params}


def _what(given: Any) -> str:
    return f"{type(given).__name__} of length {len(given)}" if isinstance(given, list | tuple) else type(given).__name__


class ModuleList(Module):
    """Modules in a row, under their places, as torch.nn.ModuleList holds them: what runs them holds it."""

    def __init__(self, modules: Sequence[Module]) -> None:
        super().__init__()
        self.adopt({str(place): module for place, module in enumerate(modules)})

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules.values())

    def __getitem__(self, place: int) -> Module:
        return tuple(self._modules.values())[place]

    def forward(self, *inputs: Array) -> tuple[Array, Any]:
        raise TypeError("ModuleList: expected its modules to be called, got a call of the list")

    def backward(self, grad_output: Array, saved: Any) -> tuple[Array, Params]:
        raise TypeError("ModuleList: expected its modules to be called, got a call of the list")

    def __repr__(self) -> str:
        lines = []
        for said, same in groupby(enumerate(self), lambda one: repr(one[1])):
            first, *others = (place for place, _ in same)
            text = f"({first}-{others[-1]}): {len(others) + 1} x {said}" if others else f"({first}): {said}"
            lines.append(text.replace("\n", "\n  "))
        inside = "".join(f"\n  {line}" for line in lines)
        return f"ModuleList({inside}\n)"
