"""SGD, over twenty steps on a given stream of gradients."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

from parity.families import streams
from parity.families.case import FAMILIES, FULL, GRID, Draw, OptimizeCase, Spec

STEPS = 20
MATRIX, SCALAR = (2, 3), ()


def _sgd(
    what: str,
    families: tuple[str, ...] = FAMILIES,
    scales: Mapping[str, float] | None = None,
    groups: Any = None,
    **args: Any,
) -> OptimizeCase:
    """A matrix and a scalar; `scales` multiplies the gradients of each."""
    shapes = {"weight": MATRIX, "gain": SCALAR}
    scales = scales or {}
    return OptimizeCase(
        f"SGD/{what}",
        Spec("SGD", args),
        {name: Draw(shape) for name, shape in shapes.items()},
        {name: Draw((STEPS, *shape), scale=scales.get(name, 1.0)) for name, shape in shapes.items()},
        groups,
        families,
    )


def _legal() -> tuple[dict[str, bool], ...]:
    """Which options are on, in every legal combination: nesterov goes with a momentum and without dampening."""
    every = product((False, True), repeat=5)
    names = ("momentum", "dampening", "nesterov", "weight_decay", "maximize")
    combinations = [dict(zip(names, on, strict=True)) for on in every]
    return tuple(on for on in combinations if not on["nesterov"] or (on["momentum"] and not on["dampening"]))


DYADIC = {"momentum": 0.5, "dampening": 0.25, "nesterov": True, "weight_decay": 0.125, "maximize": True}
DECIMAL = {"momentum": 0.9, "dampening": 0.3, "nesterov": True, "weight_decay": 0.01, "maximize": True}


def _combinations() -> tuple[OptimizeCase, ...]:
    def case(on: Mapping[str, Any], lr: float, values: Mapping[str, Any], families: tuple[str, ...]) -> OptimizeCase:
        args = {name: values[name] for name, is_on in on.items() if is_on}
        what = ", ".join(name if value is True else f"{name} {value}" for name, value in {"lr": lr, **args}.items())
        return _sgd(what, families, lr=lr, **args)

    return (
        *(case(on, 0.25, DYADIC, GRID) for on in _legal()),
        *(case(on, 0.1, DECIMAL, FULL) for on in _legal()),
    )


CASES = (
    *_combinations(),
    _sgd("default rate"),
    _sgd("rate 1", lr=1.0),
    _sgd("rate 0", lr=0.0, momentum=0.5),
    _sgd("momentum 1", lr=0.125, momentum=1.0),
    _sgd("weight decay 1", GRID, lr=0.125, weight_decay=1.0),
    _sgd("dampening 1", GRID, lr=0.125, momentum=0.5, dampening=1.0),
    _sgd(
        "gradients of very different sizes",
        FULL,
        {"weight": 2.0**20, "gain": 2.0**-20},
        lr=0.01,
        momentum=0.9,
        weight_decay=0.1,
    ),
    _sgd(
        "gradients of very different sizes, nesterov",
        FULL,
        {"weight": 2.0**-10, "gain": 2.0**10},
        lr=0.3,
        momentum=0.99,
        nesterov=True,
    ),
    _sgd(
        "groups, each with its rate",
        groups=((("weight",), {"lr": 0.125}), (("gain",), {"lr": 0.5})),
    ),
    _sgd(
        "groups, each with its options",
        FULL,
        groups=(
            (("weight",), {"momentum": 0.9, "nesterov": True}),
            (("gain",), {"lr": 0.3, "weight_decay": 0.2, "maximize": True}),
        ),
        lr=0.01,
        momentum=0.5,
    ),
    _sgd(
        "groups, one with the defaults",
        groups=((("gain",), {"momentum": 0.0}), (("weight",), {})),
        lr=0.25,
        momentum=0.5,
    ),
    *(
        streams.case("SGD", name, streams.STREAMS[name], lr=0.1, momentum=0.9, weight_decay=0.5)
        for name in ("zero, not zero, zero again", "gradients of zero", "gradients that are absent")
    ),
)
