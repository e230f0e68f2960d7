"""Linear, Identity, Flatten."""

from __future__ import annotations

from typing import Any

from parity.families.case import FAMILIES, FULL, Draw, Spec, VJPCase


def _linear(
    what: str,
    *lead: int,
    i: int = 5,
    o: int = 4,
    X: Draw | None = None,
    W: Draw | None = None,
    dY: Draw | None = None,
    bias: bool = True,
    families: tuple[str, ...] = FAMILIES,
) -> VJPCase:
    arrays = {"weight": W or Draw((o, i)), **({"bias": Draw((o,))} if bias else {})}
    args: dict[str, Any] = {"in_features": i, "out_features": o, **({} if bias else {"bias": False})}
    inputs, grads = (X or Draw((*lead, i)),), (dY or Draw((*lead, o)),)
    return VJPCase(f"Linear/{what}", Spec("Linear", args), inputs, grads, arrays, families=families)


CASES = (
    *(_linear(f"batch {n}", n) for n in (0, 1, 3, 7)),
    _linear("no batch axis"),
    _linear("two leading axes", 2, 3),
    _linear("two leading axes, one of them empty", 2, 0),
    _linear("three leading axes", 2, 1, 3),
    _linear("gradient one-hot", 3, dY=Draw((3, 4), "onehot")),
    _linear("gradient of stride zero", 3, dY=Draw((3, 4), layout="expanded")),
    _linear("gradient of stride zero, two leading axes", 2, 3, dY=Draw((2, 3, 4), layout="expanded")),
    _linear("gradient transposed", 3, dY=Draw((3, 4), layout="transposed")),
    _linear("gradient sliced", 3, dY=Draw((3, 4), layout="sliced")),
    _linear("input transposed", 3, X=Draw((3, 5), layout="transposed")),
    _linear("input sliced", 3, X=Draw((3, 5), layout="sliced")),
    _linear("input expanded, two leading axes", 2, 3, X=Draw((2, 3, 5), layout="expanded")),
    _linear("weights tiny, input large", 3, X=Draw((3, 5), scale=512.0), W=Draw((4, 5), scale=2.0**-10)),
    _linear("without bias", 3, bias=False),
    _linear("without bias, no batch axis", bias=False),
    _linear("one input, one output", 3, i=1, o=1),
    _linear("64 to 10", 4, i=64, o=10),
    # Longer than what one product sums over (refnet.arithmetic.special.BLOCK): in it, and in its gradient.
    _linear("1025 to 1", 1, i=1025, o=1, bias=False, families=FULL),
    _linear("1 to 1025", 1, i=1, o=1025, bias=False, families=FULL),
    *(VJPCase(f"Identity/batch {n}", Spec("Identity"), (Draw((n, 5)),), (Draw((n, 5)),)) for n in (0, 1, 3, 7)),
    VJPCase("Identity/gradient one-hot", Spec("Identity"), (Draw((3, 5)),), (Draw((3, 5), "onehot"),)),
    VJPCase("Identity/gradient transposed", Spec("Identity"), (Draw((3, 5)),), (Draw((3, 5), layout="transposed"),)),
    VJPCase("Identity/gradient of stride zero", Spec("Identity"), (Draw((3, 5)),), (Draw((3, 5), layout="expanded"),)),
    *(VJPCase(f"Flatten/batch {n}", Spec("Flatten"), (Draw((n, 2, 4)),), (Draw((n, 8)),)) for n in (0, 1, 3, 7)),
    VJPCase("Flatten/gradient one-hot", Spec("Flatten"), (Draw((3, 2, 4)),), (Draw((3, 8), "onehot"),)),
    VJPCase("Flatten/gradient of stride zero", Spec("Flatten"), (Draw((3, 2, 4)),), (Draw((3, 8), layout="expanded"),)),
    VJPCase("Flatten/input transposed", Spec("Flatten"), (Draw((3, 2, 4), layout="transposed"),), (Draw((3, 8)),)),
    VJPCase("Flatten/gradient transposed", Spec("Flatten"), (Draw((3, 2, 4)),), (Draw((3, 8), layout="transposed"),)),
    VJPCase("Flatten/no axes", Spec("Flatten", {"start_dim": 0}), (Draw(()),), (Draw((1,)),)),
    VJPCase("Flatten/every axis", Spec("Flatten", {"start_dim": 0}), (Draw((3, 2, 4)),), (Draw((24,)),)),
    VJPCase(
        "Flatten/middle axes",
        Spec("Flatten", {"start_dim": 1, "end_dim": 2}),
        (Draw((2, 3, 2, 2)),),
        (Draw((2, 6, 2)),),
    ),
    VJPCase(
        "Flatten/axes from the end",
        Spec("Flatten", {"start_dim": -3, "end_dim": -2}),
        (Draw((2, 3, 2, 2)),),
        (Draw((2, 6, 2)),),
    ),
)
