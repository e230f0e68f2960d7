"""Conditions that are asked of every class: each makes cases of the class's own ones.

What a condition needs of a class (parameters, more than one axis, samples along the first axis) is seen in the case.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from parity.families.case import FULL, GRID, Case, Draw, VJPCase
from parity.records.facts import MODULES

LAYOUTS = ("reversed", "transposed", "sliced")
LONG = (65, 257)
"""Of the batch. Axes of 1,000 and more are not here, as what is kept would grow by megabytes: cases of real size have
them, for the layers listed in `parity/families/large.py`, and a test of refnet's sums, for every class."""

MOST = {65: 65 * 16, 257: 1_000}
"""The most elements of an input or output of a long case: what is kept of it stays small."""


TABLES = ("RotaryEmbedding",)
"""Classes with inputs that samples share."""


def of(cases: Sequence[Case]) -> Iterator[VJPCase]:
    """The cases that the conditions make of a typical case of every class."""
    names = {case.name for case in cases}
    for kind in MODULES:
        if case := typical(cases, kind):
            yield from (made for made in _made(case) if made.name not in names)


def typical(cases: Iterable[Case], kind: str) -> VJPCase | None:
    """A small case of a class in training mode, with as many arrays as it can have and samples along the first axis."""

    def rank(case: VJPCase) -> tuple[int, int, int]:
        shapes = [draw.shape for draw in (*case.inputs, *case.grads)]
        return -len(case.arrays), sum(map(math.prod, shapes)), sum(map(len, shapes))

    plain = [
        case
        for case in cases
        if isinstance(case, VJPCase)
        and case.spec.type == kind
        and case.training
        and case.parts is None
        and case.families == ("grid", "full")
        if all(draw.layout == "contiguous" and not draw.values for draw in (*case.inputs, *case.grads))
        if len(case.inputs[0].shape) > 1 and min(case.inputs[0].shape) > 1 and case.inputs[0].shape[0] > 2
        if all(
            # Tables may be the same for all samples.
            draw.shape[:1] in ((), case.inputs[0].shape[:1]) or kind in TABLES
            for draw in (*case.inputs, *case.grads)
        )
    ]
    return min(plain, key=rank, default=None)


def _made(case: VJPCase) -> Iterator[VJPCase]:
    def named(what: str, family: tuple[str, ...], **changed: object) -> VJPCase:
        return replace(case, name=f"{case.spec.type}/{what}", families=family, **changed)  # type: ignore[arg-type]

    for layout in LAYOUTS:
        arrays = _laid_out(case.arrays, layout)
        if arrays != case.arrays:
            yield named(f"every parameter {layout}", GRID, arrays=arrays)
    for field, draws in (("inputs", case.inputs), ("grads", case.grads)):
        turned = tuple(_in(draw, "reversed") for draw in draws)
        if turned != draws:
            what = "input" if field == "inputs" else "upstream gradient"
            yield named(f"every {what} reversed", GRID, **{field: turned})
    yield named(
        "upstream gradient one-hot, of -2", GRID, grads=tuple(Draw(g.shape, "onehot", scale=-2.0) for g in case.grads)
    )
    yield named("upstream gradient zero", GRID, grads=tuple(Draw(g.shape, "values", values=(0.0,)) for g in case.grads))
    yield from _long(case, named)


def _long(case: VJPCase, named: Callable[..., VJPCase]) -> Iterator[VJPCase]:
    """The same with more samples: many where they are added up one by one, fewer where products make it costly."""
    n, about = case.inputs[0].shape[0], case.spec.facts
    for length in LONG if about.sums and not about.products else LONG[:1]:
        # An array that is an argument may have a value for every sample.
        arrays = {name: _resized(a, n, length) if name in about.arrays else a for name, a in case.arrays.items()}
        inputs = tuple(_resized(draw, n, length) for draw in case.inputs)
        grads = tuple(_resized(draw, n, length) for draw in case.grads)
        if max(math.prod(draw.shape) for draw in (*inputs, *grads)) <= MOST[length]:
            yield named(f"batch {length}", FULL, inputs=inputs, grads=grads, arrays=arrays)


def _resized(draw: Draw, n: int, length: int) -> Draw:
    return replace(draw, shape=(length, *draw.shape[1:])) if draw.shape and draw.shape[0] == n else draw


def _laid_out(arrays: Mapping[str, Draw], layout: str) -> dict[str, Draw]:
    return {name: _in(draw, layout) for name, draw in arrays.items()}


def _in(draw: Draw, layout: str) -> Draw:
    fits = draw.kind != "index" and len(draw.shape) >= (2 if layout == "transposed" else 1)
    return replace(draw, layout=layout) if fits else draw
