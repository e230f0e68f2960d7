"""Other formulas that many optimizers share: of running means, of their correction, of numbers kept in float32."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from parity.families.fault import replaced
from parity.families.formula import Variant
from refnet.arithmetic import special
from refnet.arithmetic.runs import Runs


def rounded_power(beta: float, t: Any, P: Any) -> Any:
    """1 - beta^t in binary64, of which nothing is seen in float32."""
    if P.dtype == np.float32:
        return special.one_minus_power(beta, t, P)
    return 1 - _power(beta, t, P)


def _power(beta: float, t: Any, P: Any) -> Any:
    if isinstance(t, Runs):
        return Runs(_power(beta, t.a, getattr(P, "a", P)))
    return special.lift(np.frompyfunc(lambda n: Fraction(beta) ** int(n), 1, 1)(t), P)


def power_in_format(beta: float, t: Any, P: Any) -> Any:
    """1 - beta^t, with beta and its power in the parameter's format."""
    return 1 - _powered(_power(beta, t, P), t)


def _powered(power: Any, t: Any) -> Any:
    """beta^t as far off as a power of a rounded beta may be; in exact arithmetic it stays."""
    if isinstance(power, Runs):
        return Runs(_powered(power.a, t.a))
    if hasattr(power, "profile"):
        # beta is rounded once, and so are t factors of it; 2 units for the power itself.
        e = power.e + power.profile.storage.growth(int(np.max(t, initial=1)) + 4) * (abs(power.x) + power.e)
        return type(power).exact(power.x, power.profile, e)
    return power


def step_by_step(M: Any, beta: float, X: Any) -> Any:
    """m[.] + (1 - beta) (x[.] - m[.]), or from the other end where that is the nearer one"""
    if beta > 0.5:
        return M + special.lift(1 - Fraction(beta), X) * (X - M)
    return X - (X - M) * special.lift(beta, X)


def in_float32(x: Any) -> Any:
    """A number rounded to float32; in exact arithmetic it stays."""
    if isinstance(x, Runs):
        return Runs(in_float32(x.a))
    if hasattr(x, "profile"):
        if x.profile.storage.u >= 2.0**-24:
            return x
        # As far as half a unit in the last of 24 bits from the truth, or below the smallest normal number.
        moved = np.where((x.e == 0) & (x.x == np.float32(x.x)), 0.0, 2.0**-23 * (abs(x.x) + x.e) + 2.0**-126)
        return type(x).exact(x.x, x.profile, x.e + moved)
    return x if x.dtype == object else x.astype(np.float32).astype(x.dtype)


WEAKER = (
    Variant(
        "1 - beta ** t",
        "The bias correction from a rounded power: it cancels while beta^t is near 1, with beta2 = 0.999 at t = 1 down "
        "to 13 digits. Seen in float64 alone.",
        "torch: torch/optim/adam.py, _single_tensor_adam, bias_correction1 and bias_correction2; likewise in "
        "adamax.py, nadam.py and radam.py",
        {
            kind: replaced("correction", lambda opt, right, beta, t, P: rounded_power(beta, t, P))
            for kind in ("Adam", "AdamW", "Adamax", "NAdam", "RAdam", "SparseAdam")
        },
        ("torch",),
        ("float64",),
    ),
    Variant(
        "1 - beta ** t in the parameter's format",
        "The same, with the power of a rounded beta in the parameter's own format: in float32 down to 4 digits.",
        "optax: optax/tree_utils/_tree_math.py, tree_bias_correction",
        {
            kind: replaced("correction", lambda opt, right, beta, t, P: power_in_format(beta, t, P))
            for kind in ("Adam", "AdamW", "Adamax", "NAdam", "RAdam", "SparseAdam")
        },
        ("jax",),
    ),
    Variant(
        "m + (1 - beta1)(g - m)",
        "The mean as a step towards the gradient: g - m is rounded where beta1 m + (1 - beta1) g is exact.",
        "torch: torch/optim/adam.py, exp_avg.lerp_(grad, 1 - beta1), and likewise in the other optimizers; "
        "aten/src/ATen/native/Lerp.h",
        {
            kind: replaced("moving_average", lambda opt, right, M, beta, X: step_by_step(M, beta, X))
            for kind in ("Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "Muon")
        },
        ("torch",),
    ),
    Variant(
        "numbers in float32",
        "The single numbers of the state (NAdam's mu_product, ASGD's eta and mu) are kept in float32 for parameters in "
        "float64 too, and the updates have 7 digits. After load_state_dict they are in the parameter's dtype.",
        "torch: torch/optim/nadam.py and asgd.py, _init_group, dtype=_get_scalar_dtype()",
        {kind: replaced("as_kept", lambda opt, right, x: in_float32(x)) for kind in ("NAdam", "ASGD")},
        ("torch",),
        ("float64",),
    ),
)
