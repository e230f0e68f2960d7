"""Factors and sums of fewer bits than are stored, of floats and of budgets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from parity.budget.array import Budget
from parity.budget.bounds import grid
from parity.budget.formats import FORMATS, Profile


def significand(a: Any, bits: int) -> Any:
    """Every element rounded to this number of significant bits, to nearest, ties to even; the exponent keeps its range.

    Of a budget: where all right evaluations round to one number, that number, exactly.
    """
    if not isinstance(a, Budget):
        mantissa, exponent = np.frexp(a)
        return np.ldexp(np.rint(np.ldexp(mantissa, bits)), exponent - bits)
    low, x, high = (significand(a.x + d, bits) for d in (-2 * a.e, 0, 2 * a.e))
    e = np.maximum(x - low, high - x)
    return Budget(x, e, np.where(e == 0, grid(x), 0.0), a.profile)


def accumulated_in(dtype: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A sum or product of matrices of which every term and partial sum is rounded to a narrower format."""

    format = FORMATS[dtype]

    def narrow(*args: Any, **kwargs: Any) -> Any:
        first = next(a for a in args if isinstance(a, Budget | np.ndarray))
        if not isinstance(first, Budget):
            return function(*(np.asarray(a).astype(dtype) for a in args), **kwargs).astype(first.dtype)
        profile = first.profile
        total = function(*(_converted(a, Profile(profile.storage, format, format)) for a in args), **kwargs)
        return Budget(total.x, total.e, total.q, profile)

    return narrow


def _converted(a: Budget, profile: Profile) -> Budget:
    """A budget whose elements are rounded to the format that the profile accumulates in."""
    f = profile.accumulator
    e = a.e + 2 * f.u * (abs(a.x) + 2 * a.e) + f.tiny
    return Budget(a.x, np.where((a.e == 0) & (significand(a.x, f.precision) == a.x), 0.0, e), a.q, profile)
