"""Streams of gradients that every optimizer is asked about, and cases made of them and of an optimizer's options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from parity.families.case import FULL, Draw, OptimizeCase, given

STEPS = 5
SHAPES: Mapping[str, tuple[int, ...]] = {"weight": (2, 2), "gain": ()}
MATRICES: Mapping[str, tuple[int, ...]] = {"weight": (2, 3), "gain": (2, 1)}
"""Shapes for optimizers of matrices."""

Groups = tuple[tuple[tuple[str, ...], Mapping[str, Any]], ...]

SIGNS = (1, -2, 3, 4, 5, -1, -0.5, 2)
SHRINKING = tuple(2.0 ** -(k // 3) for k in range(24))
# Zero at the first step for all elements of a small array, then not, then zero again.
ENDING = (*(0,) * 6, *(1.5, -0.25, 2, 0.75, -1, 0.5), *(-3, 0.5, -1, -1.25, 2, -0.75), *(0,) * 6)


class Stream(NamedTuple):
    """Gradients over some steps.

    Attributes:
        values: given ones, repeated; random where there are none. scale: a power of two for random ones.
        absent: for some parameters the steps without a gradient.
    """

    values: tuple[float, ...] = ()
    scale: float = 1.0
    absent: Mapping[str, tuple[int, ...]] = {}


RANDOM = Stream()

STREAMS: Mapping[str, Stream] = {
    "signs that change": Stream(SIGNS),
    "gradients that become smaller": Stream(SHRINKING),
    "zero, not zero, zero again": Stream(ENDING),
    "gradients of zero": Stream((0.0,)),
    "gradients of 1e-12": Stream(scale=2.0**-40),
    "gradients of 1e12": Stream(scale=2.0**40),
    "gradients that are absent": Stream(absent={"gain": (0, 2), "weight": (3,)}),
}


def case(
    kind: str,
    what: str,
    stream: Stream = RANDOM,
    shapes: Mapping[str, tuple[int, ...]] = SHAPES,
    groups: Groups | None = None,
    *,
    steps: int = STEPS,
    at_zero: bool = False,
    families: tuple[str, ...] = FULL,
    **args: Any,
) -> OptimizeCase:
    """A stream and options. Of parameters that begin `at_zero` all digits of an update are seen, as nothing is larger
    than it."""
    return OptimizeCase.of(
        kind,
        what,
        args,
        params={name: given(shape, 0) if at_zero else Draw(shape) for name, shape in shapes.items()},
        grads={
            name: given((steps, *shape), *stream.values) if stream.values else Draw((steps, *shape), scale=stream.scale)
            for name, shape in shapes.items()
        },
        groups=groups,
        families=families,
        absent=stream.absent,
    )


def of(
    kind: str,
    shapes: Mapping[str, tuple[int, ...]] = SHAPES,
    without: Sequence[str] = (),
    *,
    at_zero: bool = True,
    **args: Any,
) -> tuple[OptimizeCase, ...]:
    """A case for every stream, with these options, but for some."""
    return tuple(
        case(kind, name, stream, shapes, at_zero=at_zero, **args)
        for name, stream in STREAMS.items()
        if name not in without
    )


def settings(
    kind: str, *each: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]] = SHAPES, **more: Any
) -> tuple[OptimizeCase, ...]:
    """A case for each setting of the options, on random gradients, named by it."""

    def named(args: Mapping[str, Any]) -> str:
        return (
            ", ".join(name if value is True else f"{name} {plain(value)}" for name, value in args.items()) or "defaults"
        )

    def plain(value: Any) -> Any:
        return " ".join(map(str, value)) if isinstance(value, tuple) else value

    return tuple(case(kind, named(args), RANDOM, shapes, **more, **args) for args in each)


def groups(
    kind: str,
    weight: Mapping[str, Any],
    gain: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]] = SHAPES,
    **args: Any,
) -> OptimizeCase:
    """Two groups, each with options of its own."""
    own: Groups = ((("weight",), weight), (("gain",), gain))
    return case(kind, "groups, each with its options", RANDOM, shapes, own, **args)
