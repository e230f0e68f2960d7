"""RMSNorm."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from parity.families.case import FAMILIES, FULL, GRID, Draw, Spec, VJPCase, given


def _rms_norm(
    what: str,
    X: Draw,
    axes: int = 1,
    layout: str = "contiguous",
    *,
    families: tuple[str, ...] = FAMILIES,
    eps: float | None = 1e-5,
    **args: Any,
) -> VJPCase:
    """A case with the weight that its options leave.

    With `eps=None` the answer depends on the dtype: such a case has no grid, where all dtypes have one answer.
    """
    shape = X.shape[len(X.shape) - axes :]
    arrays = {"weight": Draw(shape)} if args.get("elementwise_affine", True) else {}
    options = {"normalized_shape": shape if axes > 1 else shape[0], **({} if eps is None else {"eps": eps}), **args}
    return VJPCase(
        f"RMSNorm/{what}",
        Spec("RMSNorm", options),
        (X,),
        (Draw(X.shape, layout=layout),),
        arrays,
        True,
        FULL if eps is None else families,
    )


X = Draw((3, 5))
# A row of zeros, a constant one, one with an outlier, one with two values.
ROWS = (
    *(0.0, 0.0, 0.0, 0.0),
    *(0.5, 0.5, 0.5, 0.5),
    *(1.0, 1.0, 64.0, 1.0),
    *(1.0, -1.0, 1.0, -1.0),
)

CASES = (
    *(_rms_norm(f"batch {n}", Draw((n, 5))) for n in (0, 1, 3, 7)),
    _rms_norm("no batch axis", Draw((5,))),
    _rms_norm("two leading axes", Draw((2, 3, 4))),
    _rms_norm("two normalized axes", Draw((2, 3, 4)), 2),
    replace(
        _rms_norm("two normalized axes, weight transposed", Draw((2, 3, 4)), 2, families=GRID),
        arrays={"weight": Draw((3, 4), layout="transposed")},
    ),
    _rms_norm("as many samples as features", Draw((4, 4))),
    _rms_norm("one feature", Draw((3, 1)), families=FULL, eps=0.5),
    _rms_norm("no features", Draw((3, 0))),
    _rms_norm("65 features", Draw((2, 65)), families=FULL),
    _rms_norm("not affine", X, elementwise_affine=False),
    _rms_norm("gradient of stride zero", X, layout="expanded"),
    _rms_norm("gradient transposed", X, layout="transposed"),
    _rms_norm("input sliced", Draw((3, 5), layout="sliced")),
    _rms_norm("eps None", X, eps=None),
    _rms_norm("eps None, square near 2 to the -23", Draw((3, 5), scale=2.0**-11), eps=None),
    _rms_norm("eps None, square near 2 to the -52", Draw((3, 5), scale=2.0**-26), eps=None),
    _rms_norm("eps 2.5", X, families=FULL, eps=2.5),
    _rms_norm("eps 0", X, families=FULL, eps=0.0),
    _rms_norm("square 1e-8, eps 1e-12", Draw((3, 5), scale=2.0**-13), families=FULL, eps=1e-12),
    _rms_norm("row of zeros, constant, outlier, two values", given((4, 4), *ROWS)),
    _rms_norm("mean 1000", Draw((3, 5), offset=1000.0), families=FULL),
)
