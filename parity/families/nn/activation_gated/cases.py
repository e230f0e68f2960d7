"""GLU, SwiGLU, GEGLU."""

from __future__ import annotations

from typing import Any

from parity.families.case import FAMILIES, FULL, GRID, Draw, Spec, VJPCase, given
from parity.families.nn.activation.cases import EXTREME


def _glu(what: str, X: Draw, families: tuple[str, ...] = FULL, dim: int = -1, layout: str = "contiguous") -> VJPCase:
    shape = list(X.shape)
    shape[dim] //= 2
    args = {} if dim == -1 else {"dim": dim}
    return VJPCase(f"GLU/{what}", Spec("GLU", args), (X,), (Draw(tuple(shape), layout=layout),), families=families)


def _block(
    name: str,
    what: str,
    n: tuple[int, ...],
    families: tuple[str, ...] = FULL,
    layout: str = "contiguous",
    scale: float = 1.0,
    sizes: tuple[int, int, int | None] = (3, 4, None),
    **args: Any,
) -> VJPCase:
    i, h, o = sizes
    given_out = {} if o is None else {"out_features": o}
    out = i if o is None else o
    arrays = {"gate_proj": (h, i), "up_proj": (h, i), "down_proj": (out, h)}
    return VJPCase(
        f"{name}/{what}",
        Spec(name, {"in_features": i, "hidden_features": h, **given_out, **args}),
        (Draw((*n, i), scale=scale),),
        (Draw((*n, out), layout=layout),),
        {
            f"{place}.{kind}": Draw(shape if kind == "weight" else shape[:1])
            for place, shape in arrays.items()
            for kind in (("weight", "bias") if args.get("bias") else ("weight",))
        },
        families=families,
    )


def _blocks(name: str, **args: Any) -> tuple[VJPCase, ...]:
    return (
        _block(name, "batch 0", (0,), GRID),
        _block(name, "batch 1", (1,), GRID),
        _block(name, "batch 3", (3,), FAMILIES, bias=True),
        _block(name, "batch 7, gradient of stride zero", (7,), layout="expanded"),
        _block(name, "two leading axes, gradient transposed", (2, 3), layout="transposed", sizes=(3, 4, 2)),
        _block(name, "one axis", ()),
        _block(name, "a wide gate", (2,), sizes=(2, 17, None)),
        _block(name, "inputs of sixteen", (3,), scale=4.0, bias=True),
        *(_block(name, f"{key} {value}", (3,), FULL, bias=True, **{key: value}) for key, value in args.items()),
    )


CASES = (
    _glu("batch 0", Draw((0, 4)), GRID),
    _glu("batch 1", Draw((1, 4)), GRID),
    _glu("batch 3", Draw((3, 4)), FAMILIES),
    _glu("batch 7, gradient of stride zero", Draw((7, 6)), GRID, layout="expanded"),
    _glu("one axis", Draw((6,))),
    _glu("first axis, gradient transposed", Draw((4, 3)), dim=0, layout="transposed"),
    _glu("middle axis", Draw((2, 4, 3)), dim=1),
    _glu("channels of images", Draw((2, 4, 2, 2)), dim=-3),
    _glu("moderate", Draw((4, 8), scale=4.0)),
    _glu("extreme gate", given((2, 32), *(1.5,) * 32, *EXTREME), dim=0),
    _glu("extreme", given((2, 32), *EXTREME)),
    *_blocks("SwiGLU"),
    *_blocks("GEGLU", approximate="tanh"),
)
