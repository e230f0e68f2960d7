"""Another formula of ASGD. Letters as there: eta rate, lambda decay, gamma the rate given, t step."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.families.fault import replaced
from parity.families.formula import Variant
from refnet.arithmetic.runs import Runs


def _computed_in_float32(x: Any, alpha: float) -> Any:
    """A number that was computed in float32 throughout; in exact arithmetic it stays.

    lambda gamma t is rounded twice, and once more in the sum with 1: alpha times that in the power, 2 for the power
    itself, and 3 for gamma and the quotient, which may go by way of the reciprocal.
    """
    if isinstance(x, Runs):
        return Runs(_computed_in_float32(x.a, alpha))
    if hasattr(x, "profile"):
        # k units of 24 bits, or below the smallest normal number
        k = (3 * alpha + 5) * 2.0**-23
        return type(x).exact(x.x, x.profile, x.e + k / (1 - k) * (abs(x.x) + x.e) + 2.0**-126)
    if x.dtype == object:
        return x
    # Of floats one way of rounding it: two units in the last of 24 bits away.
    near = x.astype(np.float32)
    return np.asarray(near + 2 * np.spacing(near), x.dtype)


def _as_kept(opt: Any, right: Any, x: Any) -> Any:
    return _computed_in_float32(x, max(abs(group["alpha"]) for group in opt.param_groups))


WEAKER = (
    Variant(
        "gamma / (1 + lambda gamma t)^alpha in float32",
        "The rate of the next step is computed in float32 from the counter, for parameters in float64 too; without "
        "foreach it is computed in binary64 and rounded to float32 once.",
        "torch: torch/optim/asgd.py, _multi_tensor_asgd, new_etas",
        {"ASGD": replaced("as_kept", _as_kept)},
        ("torch",),
        ("float64",),
    ),
)
