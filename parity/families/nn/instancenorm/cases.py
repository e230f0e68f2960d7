"""InstanceNorm1d, 2d and 3d."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from parity.families.case import FAMILIES, FULL, Draw, Spec, VJPCase, given, indices


def _instance_norm(
    kind: str,
    what: str,
    X: Draw,
    layout: str = "",
    *,
    training: bool = True,
    families: tuple[str, ...] = FAMILIES,
    **args: Any,
) -> VJPCase:
    """A case with every array that its options leave; the channels are the axis before `places` others."""
    places = int(kind[-2])
    shape = (X.shape[len(X.shape) - places - 1],)
    arrays = {}
    if args.get("affine", False):
        arrays["weight"] = Draw(shape)
        if args.get("bias", True):
            arrays["bias"] = Draw(shape)
    if args.get("track_running_stats", False):
        arrays["running_mean"] = Draw(shape)
        arrays["running_var"] = Draw(shape, "positive")
        arrays["num_batches_tracked"] = indices((), 0)
    spec = Spec(kind, {"num_features": shape[0], **args})
    dY = Draw(X.shape, layout=layout or "contiguous")
    return VJPCase(f"{kind}/{what}", spec, (X,), (dY,), arrays, training, families)


# A constant instance, one with an outlier, one with two values, one far from zero.
INSTANCES = (
    *(0.5, 0.5, 0.5, 0.5),
    *(1.0, 1.0, 64.0, 1.0),
    *(1.0, -1.0, 1.0, -1.0),
    *(100.0, 101.0, 103.0, 102.0),
)
EVERYTHING: dict[str, Any] = {"affine": True, "track_running_stats": True}


def _of(kind: str, places: tuple[int, ...], apart: tuple[int, ...]) -> Iterator[VJPCase]:
    """The cases of one class; `apart` are sizes of places that hold four values."""

    def case(what: str, batch: int = 3, channels: int = 2, layout: str = "", **more: Any) -> VJPCase:
        return _instance_norm(kind, what, more.pop("X", Draw((batch, channels, *places))), layout, **more)

    ones = (1,) * len(places)
    yield from (case(f"batch {n}", n, affine=n > 0) for n in (0, 1, 3, 7))
    yield case("running statistics", **EVERYTHING)
    yield case("running statistics, evaluation", training=False, **EVERYTHING)
    yield case("running statistics, one value, evaluation", X=Draw((3, 2, *ones)), training=False, **EVERYTHING)
    yield case("no batch axis", X=Draw((3, *places)), families=FULL, **EVERYTHING)
    yield case("no batch axis, evaluation, no bias", X=Draw((3, *places)), training=False, bias=False, **EVERYTHING)
    yield case("no places", X=Draw((3, 2, *(0, *ones)[: len(places)])), **EVERYTHING)
    yield case("not affine")
    yield case("not affine, evaluation", training=False)
    yield case("one channel, two values", X=Draw((3, 1, *(2, *ones)[: len(places)])), affine=True)
    yield case("gradient of stride zero", layout="expanded", affine=True)
    yield case("gradient sliced", layout="sliced", affine=True)
    yield case("momentum 0.75, eps large", momentum=0.75, eps=2.5, **EVERYTHING)
    yield case("momentum None", momentum=None, **EVERYTHING)
    yield case("variance 1e-8, eps 1e-12", X=Draw((3, 2, *places), scale=2.0**-13), eps=1e-12, families=FULL)
    yield case("mean 1000", X=Draw((3, 2, *places), offset=1000.0), families=FULL, affine=True)
    yield case("constant instance, outlier, two values, offset", X=given((2, 2, *apart), *INSTANCES), affine=True)


CASES = (
    *_of("InstanceNorm1d", (5,), (4,)),
    *_of("InstanceNorm2d", (2, 3), (2, 2)),
    *_of("InstanceNorm3d", (2, 2, 2), (2, 1, 2)),
)
