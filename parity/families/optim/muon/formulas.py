"""Other formulas of Muon. Letters as there: B buffer, X orthogonalized."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.families.fault import replaced
from parity.families.formula import Variant
from refnet.arithmetic import special
from refnet.arithmetic.runs import Runs


def _summed(opt: Any, right: Any, M: Any, beta: float, X: Any) -> Any:
    # b[.] = mu b[.] + g[.]
    return special.lift(beta, X) * M + X


def rounded(X: Any) -> Any:
    """Rounded to bfloat16, and to be computed with in it; in exact arithmetic all stays."""
    if isinstance(X, Runs):
        return Runs(rounded(X.a))
    if hasattr(X, "profile"):
        narrow = X.profile.of("bfloat16", "float32")
        moved = X.e + narrow.storage.u * (abs(X.x) + X.e) + narrow.storage.tiny
        return type(X).exact(X.x, narrow, np.where((X.x == 0) & (X.e == 0), 0.0, moved))
    if X.dtype == object:
        return X
    # To the nearest number of 8 bits, to even where two are as near: the upper half of float32.
    bits = X.astype(np.float32).view(np.uint32).astype(np.uint64)
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16 << 16
    return bits.astype(np.uint32).view(np.float32).astype(X.dtype)


def _in_bfloat16(opt: Any, right: Any, X: Any, group: Any) -> Any:
    made = rounded(right(rounded(X), group))
    return type(X).exact(made.x, X.profile, made.e) if hasattr(X, "profile") else made


WEAKER = (
    Variant(
        "Newton-Schulz in bfloat16",
        "The iterations in bfloat16 for parameters of every dtype: an update has two digits. How far it may be off "
        "grows by about 28 with each iteration of the default coefficients: after two of them nothing is proved.",
        "torch: torch/optim/_muon.py, _zeropower_via_newtonschulz, grad.bfloat16()",
        {"Muon": replaced("orthogonalized", _in_bfloat16)},
        ("torch",),
    ),
)

CONVENTIONS = (
    Variant(
        "momentum as a sum",
        "B = mu B + g and X = g + mu B in place of means: the same direction, another buffer.",
        "the documentation of torch.optim.Muon, whose code computes the means",
        {"Muon": replaced("moving_average", _summed)},
    ),
)
