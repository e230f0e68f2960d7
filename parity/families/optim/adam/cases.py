"""Adam, over twelve steps on a given stream of gradients."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

from parity.families.case import FAMILIES, FULL, Draw, OptimizeCase, Spec, given

STEPS = 12
SHAPES = {"weight": (2, 3), "gain": ()}
STREAM = {name: (STEPS, *shape) for name, shape in SHAPES.items()}
AT_ZERO = {name: given(shape, 0) for name, shape in SHAPES.items()}
"""Parameters of which an update's digits are all seen, as nothing is larger than it."""

DECOUPLED: dict[str, Any] = {"weight_decay": 0.5, "decoupled_weight_decay": True}


def _weights(*values: float) -> dict[str, Draw]:
    return {"weight": given(STREAM["weight"], *values)}


def _adam(
    what: str,
    grads: Mapping[str, Draw] | None = None,
    params: Mapping[str, Draw] | None = None,
    groups: Any = None,
    absent: Mapping[str, tuple[int, ...]] | None = None,
    families: tuple[str, ...] = FULL,
    **args: Any,
) -> OptimizeCase:
    return OptimizeCase(
        f"Adam/{what}",
        Spec("Adam", args),
        {name: Draw(shape) for name, shape in SHAPES.items()} | dict(params or {}),
        {name: Draw(shape) for name, shape in STREAM.items()} | dict(grads or {}),
        groups,
        families,
        absent or {},
    )


def _options() -> tuple[OptimizeCase, ...]:
    decays: tuple[dict[str, Any], ...] = ({}, {"weight_decay": 0.3}, DECOUPLED)
    found = []
    for decay, amsgrad, maximize in product(decays, (False, True), (False, True)):
        on = decay | {name: True for name, is_on in (("amsgrad", amsgrad), ("maximize", maximize)) if is_on}
        found.append(_adam(", ".join(["rate 0.1", *on]), lr=0.1, **on))
    return tuple(found)


def _of_size(size: float) -> dict[str, Draw]:
    return {name: Draw(shape, scale=size) for name, shape in STREAM.items()}


# Zero at the first step, then not, then zero again; the signs change from step to step.
STARTING_AT_ZERO = (0, 0, 0, 0, 0, 0, 1.5, -0.25, 2, 0.75, -1, 0.5, -3, 0.5, -1, -1.25, 2, -0.75)

CASES = (
    _adam("defaults", families=FAMILIES),
    *_options(),
    _adam("from zero", params=AT_ZERO),
    _adam("from zero, amsgrad", params=AT_ZERO, amsgrad=True),
    _adam("from zero, betas 0.5 and 0.25", params=AT_ZERO, families=FAMILIES, lr=0.5, betas=(0.5, 0.25)),
    _adam("from zero, betas 0.99 and 0.9", params=AT_ZERO, betas=(0.99, 0.9)),
    _adam("from zero, betas 0", params=AT_ZERO, betas=(0.0, 0.0)),
    _adam("from zero, beta2 0.99999", params=AT_ZERO, betas=(0.9, 0.99999)),
    _adam("from zero, eps 0.5", params=AT_ZERO, eps=0.5, amsgrad=True),
    _adam("eps 0", eps=0.0, lr=0.5),
    _adam("rate 0", lr=0.0, weight_decay=0.1),
    _adam("gradients of 1e-12", _of_size(2.0**-40), AT_ZERO),
    _adam("gradients of 1e12", _of_size(2.0**40), AT_ZERO),
    _adam("gradients of the size of eps", _of_size(2.0**-27), AT_ZERO),
    _adam(
        "gradients that become smaller",
        _weights(*(2.0 ** -(k // 6) for k in range(72))),
        AT_ZERO,
        amsgrad=True,
    ),
    _adam("a gradient of zero", _weights(0), **DECOUPLED),
    _adam("a gradient that begins at zero", _weights(*STARTING_AT_ZERO), AT_ZERO, amsgrad=True),
    _adam("signs that change", _weights(1, -2, 3, -4, 5) | {"gain": given((STEPS,), 1, -1)}, AT_ZERO),
    _adam("a gradient that is absent", params=AT_ZERO, absent={"gain": (0, 3, 4), "weight": (6,)}),
    _adam("a gradient that is absent, weight decay", absent={"gain": (0, 3, 4)}, lr=0.1, weight_decay=0.5),
    _adam(
        "a gradient that is absent, decay decoupled",
        absent={"gain": (3, 4)},
        lr=0.1,
        weight_decay=0.5,
        decoupled_weight_decay=True,
    ),
    _adam("weight decay 1", lr=0.1, weight_decay=1.0),
    _adam("weight decay 2, decoupled", lr=0.1, **{**DECOUPLED, "weight_decay": 2.0}),
    _adam("groups, each with its rate", groups=((("weight",), {"lr": 0.125}), (("gain",), {"lr": 0.5}))),
    _adam(
        "groups, each with its options",
        groups=(
            (("weight",), {"betas": (0.5, 0.9), "eps": 0.01, "amsgrad": True}),
            (("gain",), {"weight_decay": 0.2, "maximize": True}),
        ),
        lr=0.1,
    ),
)
