"""Verdicts: what may be said of one tensor of one engine's answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from parity.truth.value import Truth

__all__ = [
    "UNDEFINED",
    "VERDICTS",
    "Array",
    "Enclosure",
    "Other",
    "TensorVerdict",
    "Truth",
    "failed",
    "inside",
    "judge",
]

Array = np.ndarray[Any, Any]

VERDICTS = ("exact", "rounding", "unstable", "convention", "undecided", "unsupported", "FAIL")
"""From best to worst. Each is defined in `judge`; `unsupported` is said of a whole case."""

UNDEFINED = "0 / 0 is NaN"
"""The convention for a value that the formula does not define, such as the mean of nothing."""


@dataclass(frozen=True)
class Enclosure:
    """A named formula's values with bounds: every right evaluation of it lies within `bound` of the truth, elementwise.

    Raises:
        ValueError: the two have different shapes.
    """

    truth: Truth
    bound: Array

    def __post_init__(self) -> None:
        if self.bound.shape != self.truth.shape:
            raise ValueError(f"Enclosure: expected bounds of shape {self.truth.shape}, got {self.bound.shape}")

    @cached_property
    def known(self) -> Array:
        """Where the truth is a settled number."""
        return ~(self.truth.undecided | np.isnan(self.truth.hi))

    @cached_property
    def largest(self) -> float:
        """The truth's largest element; 0 where there is none."""
        return float(abs(self.truth.hi).max(initial=0.0, where=self.known))

    @cached_property
    def power(self) -> dict[str, float]:
        """How much the budget can see: no engine's answer enters."""
        if not self.known.any():
            return {}
        limit = float(self.bound.max(initial=0.0, where=self.known))
        return {
            "detection_limit": 0.0 if limit == 0 else limit / self.largest if self.largest else math.inf,
            "blind_share": float((self.bound > abs(self.truth.hi)).mean(where=self.known)),
        }


@dataclass(frozen=True)
class TensorVerdict:
    """What is said of one tensor.

    Attributes:
        name, verdict: the tensor's name, and one of VERDICTS.
        formula: the weaker formula or other convention whose budget holds the tensor; empty for the formula itself.
        digits: of accuracy, log10(largest element of the truth / largest error); infinity for no error.
        ulps: the largest elementwise error in units in the last place of the truth.
        share: the largest part of its budget that an element used; `math.inf` where an exact result was missed.
        where: index of the element that used that part.
        detection_limit: the largest budget over the truth's largest element.
        blind_share: the part of the elements whose budget exceeds their truth: what a wrong value could hide in.
        reason: for a failure, in words.
    """

    name: str
    verdict: str
    formula: str = ""
    digits: float = math.inf
    ulps: float = 0.0
    share: float = 0.0
    where: tuple[int, ...] = ()
    detection_limit: float = 0.0
    blind_share: float = 0.0
    reason: str = ""


def failed(name: str, reason: str, detection_limit: float = 0.0, blind_share: float = 0.0) -> TensorVerdict:
    """A failure without a figure: there is nothing to measure."""
    inf = math.inf
    return TensorVerdict(name, "FAIL", "", -inf, inf, inf, (), detection_limit, blind_share, reason)


@dataclass(frozen=True)
class Other:
    """Another documented formula.

    Attributes:
        kind: `unstable` (weaker, equal in exact arithmetic) or `convention` (a different choice). name: what it is.
        enclosures: gives its enclosures by tensor; they are asked for when they are first needed.
    """

    kind: str
    name: str
    enclosures: Callable[[], Mapping[str, Enclosure]] = field(repr=False)


def judge(
    name: str,
    got: Array | None,
    enclosure: Enclosure,
    dtype: str,
    others: Sequence[Other] = (),
    step: Callable[[int], str] | None = None,
) -> TensorVerdict:
    """Judge one tensor.

    - `exact`: every element is the correctly rounded truth.
    - `rounding`: every element is within its budget: not distinguishable from rounding, and no more is claimed.
    - `unstable`, `convention`: every element outside its budget is within that of a listed other formula, named, which
      is finite there; or the formula has no value (0 / 0), and the engine's is NaN.
    - `undecided`: an element's truth is not settled, and no other element fails.
    - `FAIL`: none of these, or missing, or of the wrong shape or dtype, or not finite where the truth is, which rounds
      to infinity only past the dtype's largest number. NaN passes for no number.

    Args:
        step: where the first axis is one of steps, what to call the k-th of them in a reason.
    """
    truth = enclosure.truth
    if got is None or (reason := _misfit(got, truth, dtype)):
        return failed(name, "missing" if got is None else reason, **enclosure.power)
    nearest = truth.nearest(dtype)
    error = _errors(got, truth, nearest)
    outside = _outside(got, error, nearest, enclosure.bound)
    measured = {**enclosure.power, **_accuracy(error, nearest, enclosure)}
    if not outside.any():
        if truth.undecided.any():
            return TensorVerdict(name, "undecided", **measured)
        if np.isnan(truth.hi).any():
            return TensorVerdict(name, "convention", UNDEFINED, **measured)
        return TensorVerdict(name, "exact" if (got == nearest).all() else "rounding", **measured)
    for other in others:
        alternative = other.enclosures().get(name)
        if alternative is not None and not (outside & _outside_of(alternative, got, dtype)).any():
            return TensorVerdict(name, other.kind, other.name, **measured)
    return TensorVerdict(name, "FAIL", reason=_failure(got, enclosure, outside, step), **measured)


def inside(got: Array, enclosure: Enclosure) -> bool:
    """Whether every element is within its budget, or its truth is not settled."""
    return bool(((enclosure.truth.error(got) <= enclosure.bound) | enclosure.truth.undecided).all())


def _misfit(got: Array, truth: Truth, dtype: str) -> str:
    if got.shape != truth.shape:
        return f"expected shape {truth.shape}, got {got.shape}"
    return "" if str(got.dtype) == dtype else f"expected dtype {dtype}, got {got.dtype}"


def _errors(got: Array, truth: Truth, nearest: Array) -> Array:
    """|got - truth|: 0 where nothing is known that could be missed, infinity where a number is due and none came."""
    with np.errstate(all="ignore"):
        error = truth.error(got)
        # Past the largest number the correctly rounded truth is infinity.
        right = (np.isinf(nearest) & (got == nearest)) | (np.isnan(truth.hi) & np.isnan(got)) | truth.undecided
    return np.where(right, 0.0, np.where(np.isnan(error), np.inf, error))


def _outside(got: Array, error: Array, nearest: Array, bound: Array) -> Array:
    """Where an element is neither within its budget nor the correctly rounded truth."""
    return np.asarray(~((error <= bound) & (error < np.inf)) & (got != nearest) & (error != 0))


def _outside_of(other: Enclosure, got: Array, dtype: str) -> Array:
    """As `_outside`; but where another formula has no bound it vouches for nothing, or any number would pass by it."""
    nearest = other.truth.nearest(dtype)
    unbounded = ~np.isfinite(other.bound) & np.isfinite(other.truth.hi)
    return np.asarray(_outside(got, _errors(got, other.truth, nearest), nearest, other.bound) | unbounded)


def _accuracy(error: Array, nearest: Array, enclosure: Enclosure) -> dict[str, Any]:
    if not error.any():
        return {}
    with np.errstate(all="ignore"):
        share = np.where(error == 0, 0.0, error / enclosure.bound)
        share = np.where(np.isnan(share), np.inf, share)
        # Below the smallest normal number a unit in the last place says nothing of accuracy: there it is that of the
        # smallest normal, and past the largest number that of the largest.
        limits = np.finfo(nearest.dtype)
        spacing = np.spacing(np.clip(abs(nearest), limits.tiny, limits.max)).astype(np.float64)
        ulps = np.where(error == 0, 0.0, error / spacing)
    return {
        "digits": _digits(float(error.max()), enclosure.largest),
        "ulps": float(ulps.max()),
        "share": float(share.max()),
        "where": tuple(int(k) for k in np.unravel_index(int(share.argmax()), share.shape)),
    }


def _digits(worst: float, largest: float) -> float:
    if worst == 0:
        return math.inf
    return math.log10(largest) - math.log10(worst) if largest and math.isfinite(worst) else -math.inf


def _failure(got: Array, enclosure: Enclosure, outside: Array, step: Callable[[int], str] | None) -> str:
    index = tuple(int(k) for k in np.argwhere(outside)[0])
    truth, bound = enclosure.truth, float(enclosure.bound[index])
    due = "NaN" if np.isnan(truth.hi[index]) else f"{truth.decimal(20, index)} within {bound:.3g}"
    return (
        f"{int(outside.sum())} of {outside.size} elements outside their budget, first {_place(index, step)}: "
        f"expected {due}, got {got[index].item()!r}"
    )


def _place(index: tuple[int, ...], step: Callable[[int], str] | None) -> str:
    if step is None:
        return str(list(index)) if index else "the value"
    return f"{step(index[0])}, {list(index[1:])}" if index[1:] else step(index[0])
