"""Mistakes in Sequential, all of them in what one layer at several places gets."""

from __future__ import annotations

from typing import Any

from parity.families.fault import Fault, replaced


def _per_place(module: Any, grad_output: Any, saved: Any) -> tuple[Any, dict[str, list[Any]]]:
    """The right way back, with each parameter's gradients listed, that of its last place first."""
    dX: Any = grad_output
    listed: dict[str, list[Any]] = {name: [] for name in module.params}
    for place in range(len(module.layers) - 1, -1, -1):
        dX, dP = module.layers[place].backward(dX, saved[place])
        for key, dp in dP.items():
            listed[module._first[f"{place}.{key}"]].append(dp)
    return dX, listed


def _assigned(module: Any, right: Any, grad_output: Any, saved: Any) -> Any:
    dX, listed = _per_place(module, grad_output, saved)
    # dP = the gradient at the first place, written over that at the others
    return dX, {name: grads[-1] for name, grads in listed.items()}


def _last_place_only(module: Any, right: Any, grad_output: Any, saved: Any) -> Any:
    dX, listed = _per_place(module, grad_output, saved)
    # dP = the gradient at the last place
    return dX, {name: grads[0] for name, grads in listed.items()}


def _saved_in_the_layer(module: Any, right: Any, grad_output: Any, saved: Any) -> Any:
    # saved[place] = what the layer saved at the last of its places
    last = {id(layer): s for layer, s in zip(module.layers, saved, strict=True)}
    return right(grad_output, [last[id(layer)] for layer in module.layers])


FAULTS = (
    Fault(
        "shared gradient assigned",
        "dP = g against dP += g: of several uses of a parameter, the one reached last remains",
        "one layer at two places",
        "karpathy/nn-zero-to-hero#52, NervanaSystems/neon#169",
        {"Sequential": replaced("backward", _assigned)},
    ),
    Fault(
        "shared gradient of one place",
        "dP = g of the last use against the sum over all uses",
        "one layer at two places",
        "pytorch/pytorch#184528, pytorch/pytorch#193061",
        {"Sequential": replaced("backward", _last_place_only)},
    ),
    Fault(
        "input kept in the layer",
        "self.X = X against a saved X for each use: a second use overwrites the first one's",
        "one layer at two places",
        "kind of bug: state in the layer",
        {"Sequential": replaced("backward", _saved_in_the_layer)},
    ),
)
