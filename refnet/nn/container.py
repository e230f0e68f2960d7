"""Modules made of modules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from refnet.nn.module import Array, Module, Params


class Sequential(Module):
    """Applies modules one after the other; a module may be a Sequential itself, and one module may stand at several
    places.

    Names are torch's: `0.weight`, `2.bias`. A module at several places has one set of parameters, known to `params` by
    its first place, and its gradients add up there; `state_dict` shows it at every place.

    Raises:
        TypeError: a layer is not a Module.
    """

    def __init__(self, *layers: Module) -> None:
        super().__init__()
        for place, layer in enumerate(layers):
            if not isinstance(layer, Module):
                raise TypeError(f"Sequential: expected a Module at place {place}, got {type(layer).__name__}")
        self.layers = layers
        self._collect()

    def _collect(self) -> None:
        """Gather the layers' arrays under their full names, and for each name the first one that means the same
        array.
        """
        self.params, self.buffers = {}, {}
        self._first: dict[str, str] = {}
        self._places: list[dict[str, str]] = []
        names: dict[int, str] = {}
        for place, layer in enumerate(self.layers):
            for own, inner in ((self.params, layer.params), (self.buffers, layer.buffers)):
                for key, array in inner.items():
                    name = f"{place}.{key}"
                    self._first[name] = names.setdefault(id(array), name)
                    if self._first[name] == name:
                        own[name] = array
            self._places.append({key: self._first[f"{place}.{key}"] for key in layer.params})

    def modules(self) -> Iterator[Module]:
        seen: set[int] = set()
        yield self
        for layer in self.layers:
            for module in layer.modules():
                if id(module) not in seen:
                    seen.add(id(module))
                    yield module

    def state_dict(self) -> Params:
        return {
            f"{place}.{name}": array
            for place, layer in enumerate(self.layers)
            for name, array in layer.state_dict().items()
        }

    def bind(self, arrays: Mapping[str, Array]) -> None:
        for place, layer in enumerate(self.layers):
            inside = {name: f"{place}.{name}" for name in (*layer.params, *layer.buffers)}
            layer.bind({name: arrays[self._first[full]] for name, full in inside.items()})
        self._collect()

    def forward(self, *inputs: Array) -> tuple[Array, Any]:
        (X,) = inputs
        saved = []
        for layer in self.layers:
            X, s = layer.forward(X)
            saved.append(s)
        return X, saved

    def backward(self, grad_output: Array, saved: Any) -> tuple[Array, Params]:
        dX = grad_output
        grads: Params = {}
        for layer, s, names in zip(reversed(self.layers), reversed(saved), reversed(self._places), strict=True):
            dX, dP = layer.backward(dX, s)
            for key, dp in dP.items():
                name = names[key]
                grads[name] = grads[name] + dp if name in grads else dp
        return dX, {name: grads[name] for name in self.params}
