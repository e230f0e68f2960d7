"""SparseAdam, on rows and on single elements, some of them twice in one gradient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from parity.families.case import FAMILIES, FULL, Draw, OptimizeCase, given, indices

STEPS = 4
SHAPES: Mapping[str, tuple[int, ...]] = {"weight": (4, 2), "gain": (3,)}
# Of weight the rows 1, 3 and 1 again, then others; row 2 comes late, row 0 never. Of gain single elements.
ROWS: Mapping[str, Draw] = {
    "weight": indices((STEPS, 3), 1, 3, 1, 3, 3, 3, 1, 2, 3, 2, 1, 2),
    "gain": indices((STEPS, 2), 0, 2, 2, 2, 1, 0, 2, 0),
}
# The same, with weight's elements one by one: first axis, second axis.
ELEMENTS: Mapping[str, Draw] = {
    **ROWS,
    "weight": indices((STEPS, 2, 3), 1, 3, 1, 0, 1, 0, 3, 3, 1, 1, 1, 0, 2, 1, 3, 0, 0, 1, 1, 2, 2, 1, 0, 0),
}


def _case(
    what: str,
    values: Mapping[str, Draw] | None = None,
    rows: Mapping[str, Draw] = ROWS,
    at_zero: bool = False,
    steps: int = STEPS,
    families: tuple[str, ...] = FULL,
    **more: Any,
) -> OptimizeCase:
    fields = {name: more.pop(name) for name in ("groups", "absent") if name in more}
    drawn = {}
    for name, shape in SHAPES.items():
        _, *axes, n = rows[name].shape
        drawn[name] = Draw((steps, n, *shape[axes[0] if axes else 1 :]))
    return OptimizeCase.of(
        "SparseAdam",
        what,
        more,
        params={name: given(shape, 0) if at_zero else Draw(shape) for name, shape in SHAPES.items()},
        grads={**drawn, **(values or {})},
        families=families,
        indices=rows,
        **fields,
    )


def _sized(scale: float) -> dict[str, Draw]:
    return {"weight": Draw((STEPS, 3, 2), scale=scale), "gain": Draw((STEPS, 2), scale=scale)}


EVERY: Mapping[str, Draw] = {"weight": indices((STEPS, 4), 3, 1, 0, 2), "gain": indices((STEPS, 3), 1, 0, 2)}
TWELVE: Mapping[str, Draw] = {name: replace(places, shape=(12, *places.shape[1:])) for name, places in ROWS.items()}

CASES = (
    _case("defaults", families=FAMILIES),
    _case("from zero, betas 0.5 and 0.25", at_zero=True, families=FAMILIES, lr=0.5, betas=(0.5, 0.25)),
    _case("from zero, eps 0.5", at_zero=True, lr=0.1, eps=0.5),
    _case("from zero, maximize", at_zero=True, lr=0.1, maximize=True),
    _case("from zero, betas 0", at_zero=True, lr=0.1, betas=(0.0, 0.0)),
    _case("elements one by one", rows=ELEMENTS, at_zero=True, lr=0.1),
    _case("gradients of 1e-12", _sized(2.0**-40), at_zero=True, lr=0.1),
    _case("gradients of 1e12", _sized(2.0**40), at_zero=True, lr=0.1),
    _case("gradients of the size of eps", _sized(2.0**-27), at_zero=True, lr=0.1),
    _case("every row in every step", rows=EVERY, at_zero=True, lr=0.1),
    _case("twelve steps", rows=TWELVE, steps=12, at_zero=True, lr=0.1),
    _case("values of zero are there", {"weight": given((STEPS, 3, 2), 1, 2, 0, 0, -1, -2, 0, 0)}, at_zero=True),
    _case("a first gradient of zero", {"weight": given((STEPS, 3, 2), *(0,) * 6, *(1, -2) * 9)}, at_zero=True, lr=0.1),
    _case(
        "no rows at all",
        {"gain": Draw((STEPS, 0))},
        rows={**ROWS, "gain": indices((STEPS, 0))},
        lr=0.1,
    ),
    _case("a gradient that is absent", at_zero=True, lr=0.1, absent={"gain": (0, 2), "weight": (1,)}),
    _case(
        "groups, each with its options",
        groups=((("weight",), {"lr": 0.5, "betas": (0.5, 0.9)}), (("gain",), {"eps": 0.25, "maximize": True})),
        lr=0.1,
    ),
)
