"""Mistakes in Graph, all of them in what several uses of a value or of a module get."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from parity.families.fault import Fault, Unsupported, replaced


def _other_steps(change: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """Backward by other steps than forward went."""

    def backward(module: Any, right: Any, dY: Any, saved: Any) -> Any:
        steps = module.steps
        module.steps = tuple(change(module, step) for step in steps)
        if module.steps == steps:
            raise Unsupported("no such step")
        result = right(dY, saved)
        module.steps = steps
        return result

    return backward


def _skip_dropped(module: Any, step: Any) -> Any:
    results, place, names = step
    # dX = the branch's gradient alone
    kept = tuple(n for n in names if n not in module.inputs)
    return (results, place, kept) if place == "+" and kept else step


def _branch_dropped(module: Any, step: Any) -> Any:
    results, place, names = step
    # dY of the skip alone
    return (results, place, names[:1]) if place == "+" and len(set(names)) > 1 else step


def _product_as_sum(module: Any, step: Any) -> Any:
    results, place, names = step
    # dA = dB = dY
    return (results, "+", names) if place == "*" else step


def _assigned(module: Any, place: str, grads: Any, inner: Any) -> None:
    for key, G in inner.items():
        grads[module._names[place][key]] = G


def _gradient_assigned(module: Any, right: Any, grads: Any, place: str, inner: Any) -> None:
    # dP = the gradient at the first place, written over that at the others
    _assigned(module, place, grads, inner)


def _last_saved(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    values, inner = saved
    modules = [module._modules.get(place) for _, place, _ in module.steps]
    # saved = what the module saved in the last of its steps
    last = {id(m): s for m, s in zip(modules, inner, strict=True)}
    return right(dY, (values, [last[id(m)] for m in modules]))


def _graph(name: str, what: str, reveal: str, source: str, method: str, by: Any) -> Fault:
    return Fault(f"graph: {name}", what, reveal, source, {"Graph": replaced(method, by)})


FAULTS = (
    _graph(
        "residual without gradient",
        "dX = dY F'(X) against dY + dY F'(X)",
        "a residual",
        "NervanaSystems/neon#169",
        "backward",
        _other_steps(_skip_dropped),
    ),
    _graph(
        "branch without gradient",
        "the first term of a sum has the gradient alone",
        "a sum of several values",
        "kind of bug: a missing term",
        "backward",
        _other_steps(_branch_dropped),
    ),
    _graph(
        "product differentiated as a sum",
        "dA = dY against dY B",
        "a product",
        "kind of bug: a missing factor",
        "backward",
        _other_steps(_product_as_sum),
    ),
    _graph(
        "tied gradient assigned",
        "dP = g against dP += g",
        "one module in two steps",
        "pytorch/pytorch#193061",
        "add_grads",
        _gradient_assigned,
    ),
    _graph(
        "saved values of the last use",
        "self.X = X against a saved X for each use",
        "one module in two steps",
        "kind of bug: state in the layer",
        "backward",
        _last_saved,
    ),
)
