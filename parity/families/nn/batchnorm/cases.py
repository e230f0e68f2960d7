"""BatchNorm1d, 2d and 3d."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from parity.families.case import FAMILIES, FULL, Draw, Spec, VJPCase, given, indices

C = 4


def _batch_norm(
    what: str,
    X: Draw,
    dY: Draw | None = None,
    *,
    kind: str = "BatchNorm1d",
    training: bool = True,
    tracked: int = 0,
    replaced: dict[str, Draw] | None = None,
    families: tuple[str, ...] = FAMILIES,
    **args: Any,
) -> VJPCase:
    """A case with every array that its options leave; `replaced` are drawn otherwise."""
    c = X.shape[1]
    arrays = {}
    if args.get("affine", True):
        arrays["weight"] = Draw((c,))
        if args.get("bias", True):
            arrays["bias"] = Draw((c,))
    if args.get("track_running_stats", True):
        arrays["running_mean"] = Draw((c,))
        arrays["running_var"] = Draw((c,), "positive")
        arrays["num_batches_tracked"] = indices((), tracked)
    spec = Spec(kind, {"num_features": c, **args})
    arrays |= replaced or {}
    return VJPCase(f"{kind}/{what}", spec, (X,), (dY or Draw(X.shape),), arrays, training, families)


X = Draw((7, C))
# The first channel is constant, the second has one outlier, the third two values, the fourth is far from all others.
CHANNELS = (
    *(0.5, 1.0, 1.0, 100.0),
    *(0.5, 1.0, -1.0, 101.0),
    *(0.5, 64.0, 1.0, 103.0),
    *(0.5, 1.0, -1.0, 102.0),
)


def _of_places(kind: str, places: tuple[int, ...]) -> Iterator[VJPCase]:
    """What images and volumes add: several axes of places, of which `places` are the sizes."""

    def case(what: str, batch: int = 3, channels: int = 2, layout: str = "", **more: Any) -> VJPCase:
        shape = (batch, channels, *places)
        dY = Draw(shape, layout=layout) if layout else None
        return _batch_norm(what, more.pop("X", Draw(shape)), dY, kind=kind, **more)

    one, outlier = (0.5, 0.5, 0.5), (1.0, 64.0, 1.0)
    yield from (case(f"batch {n}", n) for n in (0, 1, 3, 7))
    yield case("evaluation", training=False)
    yield case("one channel, evaluation, one value", X=Draw((1, 1, *(1,) * len(places))), training=False)
    yield case("one value a sample", X=Draw((4, 2, *(1,) * len(places))))
    yield case("gradient of stride zero", layout="expanded")
    yield case("gradient transposed", layout="transposed")
    yield case("momentum None, sixth batch, no bias", momentum=None, tracked=5, bias=False)
    yield case("momentum 0.75, eps large, not affine", momentum=0.75, eps=2.5, affine=False)
    yield case("without running statistics", track_running_stats=False)
    yield case("variance 1e-8, eps 1e-12", X=Draw((3, 2, *places), scale=2.0**-13), eps=1e-12, families=FULL)
    yield case("mean 1000", X=Draw((3, 2, *places), offset=1000.0), families=FULL)
    yield case("constant channel, outlier", X=given((3, 2, *(1,) * len(places)), *_in_turn(one, outlier)))


def _in_turn(*channels: tuple[float, ...]) -> tuple[float, ...]:
    """The values of some channels, one of each in turn."""
    return tuple(value for sample in zip(*channels, strict=True) for value in sample)


CASES = (
    *(_batch_norm(f"batch {n}", Draw((n, C))) for n in (0, 2, 3, 7, 8)),
    *(_batch_norm(f"batch {n}, evaluation", Draw((n, C)), training=False) for n in (0, 1, 3, 7)),
    _batch_norm("three axes", Draw((2, C, 3))),
    _batch_norm("three axes, batch 1", Draw((1, C, 5))),
    _batch_norm("three axes, batch 0", Draw((0, C, 3))),
    _batch_norm("three axes, evaluation", Draw((2, C, 3)), training=False),
    _batch_norm("one channel", Draw((7, 1))),
    _batch_norm("gradient one-hot", X, Draw((7, C), "onehot")),
    _batch_norm("gradient of stride zero", X, Draw((7, C), layout="expanded")),
    _batch_norm("gradient of stride zero, evaluation", X, Draw((7, C), layout="expanded"), training=False),
    _batch_norm("gradient transposed", X, Draw((7, C), layout="transposed")),
    _batch_norm("gradient sliced, three axes", Draw((2, C, 3)), Draw((2, C, 3), layout="sliced")),
    _batch_norm("gradient transposed, three axes", Draw((2, C, 3)), Draw((2, C, 3), layout="transposed")),
    _batch_norm("input transposed", Draw((7, C), layout="transposed")),
    _batch_norm("input sliced", Draw((7, C), layout="sliced")),
    _batch_norm("momentum None, first batch", X, momentum=None),
    _batch_norm("momentum None, sixth batch", X, momentum=None, tracked=5),
    _batch_norm("momentum None, fourth batch, three axes", Draw((2, C, 3)), momentum=None, tracked=3),
    _batch_norm("momentum 1", X, momentum=1.0),
    _batch_norm("momentum 0", X, momentum=0.0, tracked=2),
    _batch_norm("momentum 0.25, sixteen samples", Draw((16, C)), momentum=0.25),
    _batch_norm("eps large", X, eps=2.5),
    _batch_norm("eps large, evaluation", X, training=False, eps=2.5),
    _batch_norm("eps small", X, eps=1e-30),
    _batch_norm("eps 0, evaluation", X, training=False, eps=0.0),
    _batch_norm("not affine", X, affine=False),
    _batch_norm("not affine, evaluation", X, training=False, affine=False),
    _batch_norm("without bias", X, bias=False),
    _batch_norm("without running statistics", X, track_running_stats=False),
    _batch_norm("without running statistics, evaluation", X, training=False, track_running_stats=False),
    _batch_norm("without anything", X, affine=False, track_running_stats=False),
    _batch_norm(
        "weight ones, bias zeros",
        X,
        replaced={"weight": given((C,), 1.0), "bias": given((C,), 0.0)},
    ),
    _batch_norm("weight of both signs and zero", X, replaced={"weight": given((C,), -1.5, 0.0, 3.0, 0.5)}),
    _batch_norm("mean 1000", Draw((7, C), offset=1000.0), families=FULL),
    _batch_norm("mean 1000, three axes", Draw((2, C, 3), offset=1000.0), families=FULL),
    _batch_norm("mean 1000, eps large", Draw((7, C), offset=1000.0), families=FULL, eps=2.5),
    _batch_norm(
        "mean 1000, evaluation",
        Draw((7, C), offset=1000.0),
        training=False,
        replaced={"running_mean": Draw((C,), offset=1000.0)},
        families=FULL,
    ),
    _batch_norm("constant channel, outlier, two values, offset", given((4, C), *CHANNELS)),
    _batch_norm("spread of a thousand", Draw((7, C), scale=512.0)),
    _batch_norm("variance 1e-8, eps 1e-12", Draw((7, C), scale=2.0**-13), families=FULL, eps=1e-12),
    *_of_places("BatchNorm2d", (2, 2)),
    *_of_places("BatchNorm3d", (2, 2, 2)),
)
