"""Verdicts: what may be said of one tensor of one engine's answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from parity.truth import Truth

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


@dataclass(frozen=True)
class TensorVerdict:
    """The judgement of one tensor.

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
    - `unstable`, `convention`: every element outside its budget is within that of a listed other formula, named; or
      the formula has no value (0 / 0), and the engine's is NaN.
    - `undecided`: an element's truth is not settled, and no other element fails.
    - `FAIL`: none of these, or missing, or of the wrong shape or dtype, or not finite where the truth is, which rounds
      to infinity only past the dtype's largest number. NaN passes for no number.

    Args:
        step: where the first axis is one of steps, what to call the k-th of them in a reason.
    """
    truth, power = enclosure.truth, _power(enclosure)
    if got is None or (reason := _misfit(got, truth, dtype)):
        return TensorVerdict(name, "FAIL", share=math.inf, reason="missing" if got is None else reason, **power)
    measured = {**power, **_accuracy(got, enclosure, dtype)}
    outside = _outside(got, enclosure, dtype)
    if not outside.any():
        if truth.undecided.any():
            return TensorVerdict(name, "undecided", **measured)
        if np.isnan(truth.hi).any():
            return TensorVerdict(name, "convention", UNDEFINED, **measured)
        exact = (got == truth.nearest(dtype)).all()
        return TensorVerdict(name, "exact" if exact else "rounding", **measured)
    for other in others:
        alternative = other.enclosures().get(name)
        if alternative is not None and not (outside & _outside(got, alternative, dtype)).any():
            return TensorVerdict(name, other.kind, other.name, **measured)
    return TensorVerdict(name, "FAIL", reason=_failure(got, enclosure, outside, step), **measured)


def _misfit(got: Array, truth: Truth, dtype: str) -> str:
    if got.shape != truth.shape:
        return f"expected shape {truth.shape}, got {got.shape}"
    return "" if str(got.dtype) == dtype else f"expected dtype {dtype}, got {got.dtype}"


def _outside(got: Array, enclosure: Enclosure, dtype: str) -> Array:
    """Where an element is not within its budget. Written so that NaN is outside, but where the truth is none."""
    truth = enclosure.truth
    with np.errstate(invalid="ignore", over="ignore"):
        within = (truth.error(got) <= enclosure.bound) & np.isfinite(got)
        # Past the largest number the correctly rounded truth is infinity.
        within |= (got == truth.nearest(dtype)) | (np.isnan(got) & np.isnan(truth.hi))
    return ~within & ~truth.undecided


def _known(truth: Truth) -> Array:
    return ~(truth.undecided | np.isnan(truth.hi))


def _power(enclosure: Enclosure) -> dict[str, Any]:
    """How much the budget can see: no engine's answer enters."""
    known = _known(enclosure.truth)
    if not known.any():
        return {}
    bound, magnitude = enclosure.bound[known], abs(enclosure.truth.hi[known])
    limit, largest = float(bound.max()), float(magnitude.max())
    return {
        "detection_limit": 0.0 if limit == 0 else limit / largest if largest else math.inf,
        "blind_share": float((bound > magnitude).mean()),
    }


def _accuracy(got: Array, enclosure: Enclosure, dtype: str) -> dict[str, Any]:
    truth = enclosure.truth
    known = _known(truth)
    if not known.any():
        return {}
    with np.errstate(all="ignore"):
        nearest = truth.nearest(dtype)
        right = ~known | (np.isinf(nearest) & (got == nearest))
        error = np.where(right, 0.0, truth.error(got))
        error = np.where(np.isnan(error), np.inf, error)
        share = np.where(error == 0, 0.0, error / enclosure.bound)
        share = np.where(np.isnan(share), np.inf, share)
        # Below the smallest normal number a unit in the last place says nothing of accuracy: there it is that of the
        # smallest normal, and past the largest number that of the largest.
        limits = np.finfo(dtype if got.dtype.kind == "f" else "float64")
        spacing = np.spacing(np.clip(abs(nearest), limits.tiny, limits.max)).astype(np.float64)
        ulps = np.where(error == 0, 0.0, error / spacing)
    return {
        "digits": _digits(float(error.max()), float(abs(truth.hi[known]).max())),
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
