"""Verdicts: what may be said of one tensor of one engine's answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from parity.budget.formats import FORMATS, Format
from parity.truth.value import Sample, Truth
from parity.verdict.table import is_ok

Array = np.ndarray[Any, Any]
Answer = dict[str, Array]
"""What an engine gives: tensors by their names."""

Truths = Mapping[str, Truth]
"""What they should be."""

LACKING = ("bfloat16", "tf32")
"""Formats that NumPy lacks, so that their numbers may come as float32."""

UNDEFINED = "0 / 0 is NaN"
"""The convention for a value that the formula does not define, such as the mean of nothing."""


Samples = Mapping[str, Sample]
"""Which elements of a tensor its truth is of, where these are not all."""

NO_SAMPLES: Samples = {}


@dataclass(frozen=True)
class Enclosure:
    """A named formula's values with bounds: every right evaluation of it lies within `bound` of the truth, elementwise.

    Attributes:
        sample: which elements of a tensor these are, where they are not all.

    Raises:
        ValueError: the two have different shapes.
    """

    truth: Truth
    bound: Array
    sample: Sample | None = None

    @classmethod
    def around(cls, values: Array, bound: Array, undecided: Array | None = None) -> Enclosure:
        """Around values of binary64, which are the truth; but for those that are undecided, which have none."""
        truth = Truth.of(values)
        return cls(truth if undecided is None else Truth(truth.hi, truth.lo, undecided), bound)

    @classmethod
    def of_sample(cls, truth: Truth, bound: Array, sample: Sample | None) -> Enclosure:
        """Around the truth of some elements, with the bounds of all."""
        return cls(truth, bound if sample is None else sample.of(bound), sample)

    @classmethod
    def concatenate(cls, parts: Sequence[Enclosure]) -> Enclosure:
        """Several enclosures, joined along the first axis."""
        return cls(Truth.concatenate([p.truth for p in parts]), np.concatenate([p.bound for p in parts]))

    def __post_init__(self) -> None:
        if self.bound.shape != self.truth.shape:
            raise ValueError(f"Enclosure: expected bounds of shape {self.truth.shape}, got {self.bound.shape}")

    def at(self, sample: Sample) -> Enclosure:
        """Of a whole tensor, what a sample has; of that sample itself, the same."""
        if self.sample is not None:
            return self
        truth = Truth(*(sample.of(a) for a in (self.truth.hi, self.truth.lo, self.truth.undecided)))
        return Enclosure(truth, sample.of(self.bound), sample)

    def sampled(self, count: int, seed: object, name: str) -> Enclosure:
        """Of a whole tensor of that name, that many elements."""
        sample = Sample.drawn(self.truth.shape, count, seed, name)
        return self if sample is None else self.at(sample)

    @cached_property
    def known(self) -> Array:
        """Where the truth is a settled number."""
        return ~(self.truth.undecided | np.isnan(self.truth.hi))

    @cached_property
    def largest(self) -> float:
        """The truth's largest element; 0 where there is none."""
        return float(abs(self.truth.hi).max(initial=0.0, where=self.known))

    @cached_property
    def unbounded(self) -> Array:
        """Where the truth is a finite number and no bound holds: any number would pass."""
        return self.known & np.isfinite(self.truth.hi) & ~np.isfinite(self.bound)

    @cached_property
    def hides_zeros(self) -> bool:
        """Whether zeros would pass though the truth is not zero throughout."""
        error = self.truth.error(np.zeros(self.truth.shape))
        return bool(self.largest > 0 and self.known.all() and ((error <= self.bound) & (error < np.inf)).all())

    @property
    def blind(self) -> bool:
        """Whether nothing is proved by an answer that keeps to the bounds."""
        return self.hides_zeros or bool(self.unbounded.any())

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
        name, verdict: the tensor's name, and a word of `parity.verdict.table`.
        formula: the weaker formula or other convention whose budget holds the tensor; empty for the formula itself.
        digits: of accuracy, log10(largest element of the truth / largest error); infinity for no error.
        ulps: the largest elementwise error in units in the last place of the truth.
        share: the largest part of its budget that an element used; `math.inf` where an exact result was missed.
        where: index of the element that used that part.
        detection_limit: the largest budget over the truth's largest element, of the formula that accepted the tensor.
        blind_share: the part of the elements whose budget exceeds their truth: what a wrong value could hide in.
        reason: for a failure or a blind tensor, in words.
        coverage: which elements the verdict is on, where not all: how many of how many, and the seed of their draw.
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
    coverage: str = ""

    @property
    def ok(self) -> bool:
        """Whether the tensor is good, or does not count."""
        return is_ok(self.verdict)


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
    """Judge one tensor: the first row of `parity.verdict.table` that applies.

    - `exact`: every element is the correctly rounded truth.
    - `blind`: every element is within its budget, but so would zeros be, or some element has no bound.
    - `rounding`: every element is within its budget: not distinguishable from rounding, and no more is claimed.
    - `unstable`: every element outside its budget is within that of one weaker formula, named, which has a bound there.
      What is accepted so must be seen by the two budgets together; else it is `blind`.
    - `convention`: every element is as one documented other choice has it, named, where that choice differs; or the
      formula has no value (0 / 0), and the engine's is NaN.
    - `undecided`: an element's truth is not settled, and no other element fails.
    - `FAIL`: none of these, or missing, or of the wrong shape or dtype, or not finite where the truth is, which rounds
      to infinity only past the format's largest number. NaN passes for no number.

    Of a sample, all this is said of the sampled elements, and the verdict says which these are (`coverage`).

    Args:
        dtype: the name of the format that is due, or of a dtype of integers. What NumPy lacks may come in float32.
        step: where the first axis is one of steps, what to call the k-th of them in a reason.
    """
    if enclosure.sample is not None:
        return _judge_sample(name, got, enclosure, enclosure.sample, dtype, others)
    truth = enclosure.truth
    if got is None or (reason := _misfit(got, truth.shape, dtype)):
        return failed(name, "missing" if got is None else reason, **enclosure.power)
    nearest = truth.nearest(FORMATS[dtype]) if dtype in FORMATS else truth.hi
    error = _errors(got, truth, nearest)
    outside = _outside(got, error, nearest, enclosure.bound)
    accuracy = _accuracy(error, nearest, enclosure, dtype)
    measured = {**enclosure.power, **accuracy}
    if not outside.any():
        if truth.undecided.any():
            return TensorVerdict(name, "undecided", **measured)
        if np.isnan(truth.hi).any():
            return TensorVerdict(name, "convention", UNDEFINED, **measured)
        if (got == nearest).all():
            return TensorVerdict(name, "exact", **measured)
        if enclosure.blind:
            return TensorVerdict(name, "blind", reason=_blindness(enclosure, step), **measured)
        return TensorVerdict(name, "rounding", **measured)
    # `imprecise` is said of what is left when all failing tensors are known (`parity.verdict.diagnosis`).
    unseen = None
    for other in others:
        alternative = other.enclosures().get(name)
        accepting = alternative and _accepting(other.kind, enclosure, alternative, got, outside, dtype)
        if not accepting:
            continue
        told = {"formula": other.name, **accepting.power, **accuracy}
        if accepting.blind:
            unseen = unseen or TensorVerdict(name, "blind", reason=_blindness(accepting, step), **told)
        elif truth.undecided.any():
            return TensorVerdict(name, "undecided", **told)
        else:
            return TensorVerdict(name, other.kind, **told)
    return unseen or TensorVerdict(name, "FAIL", reason=_failure(got, enclosure, outside, step), **measured)


def _judge_sample(
    name: str, got: Array | None, enclosure: Enclosure, sample: Sample, dtype: str, others: Sequence[Other]
) -> TensorVerdict:
    """The verdict on the sampled elements of a tensor, under their places in it."""
    coverage = f"{sample}, seed {sample.seed}"
    if got is None or (reason := _misfit(got, sample.shape, dtype)):
        return replace(failed(name, "missing" if got is None else reason, **enclosure.power), coverage=coverage)
    found = judge(
        name,
        sample.of(got),
        Enclosure(enclosure.truth, enclosure.bound),
        dtype,
        [_sampled(other, sample) for other in others],
        lambda k: str(list(sample.index(k))),
    )
    return replace(found, where=sample.index(*found.where) if found.where else (), coverage=coverage)


def _sampled(other: Other, sample: Sample) -> Other:
    """Another formula's enclosures, of the sampled elements of the tensors of that shape."""

    def enclosures() -> Mapping[str, Enclosure]:
        parts = {name: e.at(sample) for name, e in other.enclosures().items() if _has(e, sample)}
        return {name: Enclosure(e.truth, e.bound) for name, e in parts.items()}

    return Other(other.kind, other.name, enclosures)


def _has(e: Enclosure, sample: Sample) -> bool:
    if e.sample is None:
        return bool(e.truth.shape == sample.shape)
    return e.sample.shape == sample.shape and np.array_equal(e.sample.places, sample.places)


def _accepting(kind: str, own: Enclosure, other: Enclosure, got: Array, outside: Array, dtype: str) -> Enclosure | None:
    """What another formula and the formula itself enclose together, where that holds the tensor; else None."""
    beyond = _outside_of(other, got, dtype)
    if kind == "convention":
        with np.errstate(all="ignore"):
            # One choice for the whole tensor: only where the two say the same may an element be by either.
            apart = (abs(own.truth.hi - other.truth.hi) > own.bound + other.bound) | np.isinf(other.truth.hi)
        return None if (beyond & (outside | apart)).any() else other
    if (beyond & outside).any():
        return None
    return Enclosure(own.truth, np.where(np.isfinite(other.bound), np.maximum(own.bound, other.bound), own.bound))


def _blindness(enclosure: Enclosure, step: Callable[[int], str] | None) -> str:
    """Why nothing is proved, in words."""
    open_ = enclosure.unbounded
    if open_.any():
        index = tuple(int(k) for k in np.argwhere(open_)[0])
        return f"no bound holds in {int(open_.sum())} of {open_.size} elements, first {_place(index, step)}"
    return "zeros would pass: no element is larger than its budget"


def format_named(name: str) -> Format:
    """The format of that name."""
    return FORMATS[name]


def inside(got: Array, enclosure: Enclosure) -> bool:
    """Whether every element is within its budget, or its truth is not settled."""
    given = got if enclosure.sample is None else enclosure.sample.of(got)
    return bool(((enclosure.truth.error(given) <= enclosure.bound) | enclosure.truth.undecided).all())


def _misfit(got: Array, shape: tuple[int, ...], dtype: str) -> str:
    if got.shape != shape:
        return f"expected shape {shape}, got {got.shape}"
    due = {dtype, "float32"} if dtype in LACKING else {dtype}
    # The order of the bytes is no part of a value.
    return "" if str(got.dtype.newbyteorder("=")) in due else f"expected dtype {dtype}, got {got.dtype}"


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
    nearest = other.truth.nearest(FORMATS[dtype]) if dtype in FORMATS else other.truth.hi
    unbounded = ~np.isfinite(other.bound) & np.isfinite(other.truth.hi)
    return np.asarray(_outside(got, _errors(got, other.truth, nearest), nearest, other.bound) | unbounded)


def _accuracy(error: Array, nearest: Array, enclosure: Enclosure, dtype: str) -> dict[str, Any]:
    if not error.any():
        return {}
    with np.errstate(all="ignore"):
        share = np.where(error == 0, 0.0, error / enclosure.bound)
        share = np.where(np.isnan(share), np.inf, share)
        # Of integers it is that of binary64, which holds them.
        ulps = np.where(error == 0, 0.0, error / FORMATS.get(dtype, FORMATS["float64"]).spacing(nearest))
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
