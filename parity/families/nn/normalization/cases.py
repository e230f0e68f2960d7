"""LayerNorm and GroupNorm."""

from __future__ import annotations

from typing import Any

from parity.families.case import FAMILIES, FULL, Draw, Spec, VJPCase, given


def _layer_norm(
    what: str,
    X: Draw,
    axes: int = 1,
    dY: Draw | None = None,
    *,
    replaced: dict[str, Draw] | None = None,
    families: tuple[str, ...] = FAMILIES,
    **args: Any,
) -> VJPCase:
    """A case with the parameters that its options leave; `replaced` are drawn otherwise."""
    shape = X.shape[len(X.shape) - axes :]
    arrays = {}
    if args.get("elementwise_affine", True):
        arrays["weight"] = Draw(shape)
        if args.get("bias", True):
            arrays["bias"] = Draw(shape)
    spec = Spec("LayerNorm", {"normalized_shape": shape if axes > 1 else shape[0], **args})
    return VJPCase(f"LayerNorm/{what}", spec, (X,), (dY or Draw(X.shape),), arrays | (replaced or {}), True, families)


def _group_norm(
    what: str,
    num_groups: int,
    X: Draw,
    layout: str = "contiguous",
    *,
    families: tuple[str, ...] = FAMILIES,
    **args: Any,
) -> VJPCase:
    """A case with the parameters that its options leave."""
    shape = (X.shape[1],)
    arrays = {}
    if args.get("affine", True):
        arrays["weight"] = Draw(shape)
        if args.get("bias", True):
            arrays["bias"] = Draw(shape)
    spec = Spec("GroupNorm", {"num_groups": num_groups, "num_channels": shape[0], **args})
    return VJPCase(f"GroupNorm/{what}", spec, (X,), (Draw(X.shape, layout=layout),), arrays, True, families)


X = Draw((3, 5))
# A constant row, one with an outlier, one with two values, one far from zero.
ROWS = (
    *(0.5, 0.5, 0.5, 0.5),
    *(1.0, 1.0, 64.0, 1.0),
    *(1.0, -1.0, 1.0, -1.0),
    *(100.0, 101.0, 103.0, 102.0),
)

CASES = (
    *(_layer_norm(f"batch {n}", Draw((n, 5))) for n in (0, 1, 3, 7)),
    _layer_norm("no batch axis", Draw((5,))),
    _layer_norm("two leading axes", Draw((2, 3, 4))),
    _layer_norm("two normalized axes", Draw((2, 3, 4)), 2),
    _layer_norm("three normalized axes", Draw((2, 2, 3, 2)), 3),
    _layer_norm("all axes normalized", Draw((3, 4)), 2),
    _layer_norm("one feature", Draw((3, 1))),
    _layer_norm("no features", Draw((3, 0))),
    _layer_norm("two features", Draw((3, 2))),
    _layer_norm("65 features", Draw((2, 65)), families=FULL),
    _layer_norm("65 samples", Draw((65, 2)), families=FULL),
    _layer_norm("no bias", X, bias=False),
    _layer_norm("not affine", X, elementwise_affine=False),
    *(
        _layer_norm(f"input {layout}", Draw((3, 5), layout=layout))
        for layout in ("transposed", "sliced", "reversed", "expanded")
    ),
    *(
        _layer_norm(f"gradient {layout}", X, dY=Draw((3, 5), layout=layout))
        for layout in ("transposed", "sliced", "reversed", "expanded")
    ),
    _layer_norm(
        "parameters reversed",
        X,
        replaced={name: Draw((5,), layout="reversed") for name in ("weight", "bias")},
    ),
    _layer_norm("parameters transposed", Draw((2, 3, 4)), 2, replaced={"weight": Draw((3, 4), layout="transposed")}),
    _layer_norm("gradient one-hot", X, dY=Draw((3, 5), "onehot", scale=-2.5)),
    _layer_norm("gradient zero", X, dY=given((3, 5), 0)),
    _layer_norm("eps 2.5", X, families=FULL, eps=2.5),
    _layer_norm("variance 1e-8, eps 1e-12", Draw((3, 5), scale=2.0**-13), families=FULL, eps=1e-12),
    _layer_norm("variance 1e-8", Draw((3, 5), scale=2.0**-13), families=FULL),
    _layer_norm("constant row, outlier, two values, offset", given((4, 4), *ROWS)),
    _layer_norm("mean 1000", Draw((3, 5), offset=1000.0), families=FULL),
    _layer_norm("mean 65536, eps 1e-12", Draw((3, 5), offset=2.0**16), families=FULL, eps=1e-12),
    _layer_norm("spread of a thousand", Draw((3, 5), scale=512.0)),
    *(_group_norm(f"batch {n}", 2, Draw((n, 4, 3))) for n in (0, 1, 3, 7)),
    _group_norm("no places", 2, Draw((3, 4, 0))),
    _group_norm("channels alone", 2, Draw((3, 6))),
    _group_norm("one group", 1, Draw((3, 4, 2))),
    _group_norm("a group for each channel", 4, Draw((3, 4, 2))),
    _group_norm("one value in each group", 4, Draw((3, 4))),
    _group_norm("images", 2, Draw((2, 6, 2, 2))),
    _group_norm("volumes", 3, Draw((2, 3, 2, 1, 3))),
    _group_norm("no bias", 2, Draw((3, 4, 2)), bias=False),
    _group_norm("not affine", 2, Draw((3, 4, 2)), affine=False),
    _group_norm("eps 2.5", 2, Draw((3, 4, 2)), families=FULL, eps=2.5),
    _group_norm("gradient of stride zero", 2, Draw((3, 4, 2)), "expanded"),
    _group_norm("gradient transposed", 2, Draw((3, 4, 2)), "transposed"),
    _group_norm("input sliced", 2, Draw((3, 4, 2), layout="sliced")),
    _group_norm("variance 1e-8, eps 1e-12", 2, Draw((3, 4, 3), scale=2.0**-13), families=FULL, eps=1e-12),
    _group_norm("mean 1000", 2, Draw((3, 4, 3), offset=1000.0), families=FULL),
    _group_norm("constant group, outlier, two values, offset", 2, given((2, 4, 2), *ROWS)),
)
