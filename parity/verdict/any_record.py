"""Verdicts on an answer to a record that no catalogue has, of any size.

The truth is refnet's own lines evaluated with their bound in float64, which holds for everything coarser; an answer in
float64 itself is held against the two bounds together, or, where the record is small and python-flint is there, against
certified values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec

import numpy as np

from parity.budget.formats import Profile
from parity.records import definition
from parity.records.record import VJP, Optimize, UsageError
from parity.verdict.answer import enclose, enclose_itself, others_for
from parity.verdict.blindness import wider_sums
from parity.verdict.diagnosis import diagnose, told_of_precision
from parity.verdict.evaluation import Array, Request
from parity.verdict.tensor import Answer, Enclosure, Other, TensorVerdict, Truths, failed, judge
from parity.verdict.two_precisions import compared, reconsidered
from refnet.arithmetic.array_like import Undecided

SMALL = 200
"""Elements up to which a record in float64 is certified."""


@dataclass(frozen=True)
class Found:
    """The verdicts on an answer, what a failure looks like, what else is to be said, and what was expected."""

    verdicts: tuple[TensorVerdict, ...]
    diagnosis: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    expected: Mapping[str, Enclosure] = field(default_factory=dict)


def right_outputs(record: VJP) -> list[Array]:
    """What a right module gives, as refnet computes it."""
    with np.errstate(all="ignore"):
        module = definition.build(record.spec, {name: a.copy() for name, a in record.arrays.items()})
        output, _ = definition.forward(module.train(record.training), record, record.inputs)
    return list(output) if isinstance(output, tuple) else [output]


def right_shapes(record: VJP) -> list[tuple[int, ...]]:
    """The shapes of these.

    Raises:
        UsageError: the module does not take the record's inputs.
    """
    try:
        return [y.shape for y in right_outputs(record)]
    except KeyError as error:
        raise UsageError(f"check: expected all arrays that {record.spec} has, got none named {error}") from None
    except (ValueError, TypeError, IndexError) as error:
        raise UsageError(f"check: expected inputs that {record.spec} takes, got: {error}") from None


def names_of_right_answer(record: VJP) -> set[str]:
    """The names of what a right module gives: none for an input by which it has no derivative, such as a weight."""
    seeds = tuple(np.zeros_like(y) for y in right_outputs(record))
    with np.errstate(all="ignore"):
        return set(definition.vjp(replace(record, grad_outputs=seeds), np.copy))


def judge_any(
    record: VJP | Optimize,
    answer: Answer,
    profile: Profile,
    wanted: Sequence[str] | None = None,
    sample: int | None = None,
    seed: int = 0,
) -> Found:
    """The verdict on every tensor of an answer, or on those that are wanted.

    Args:
        sample: how many elements of each are judged, drawn from the seed; all, where None. An answer in float64 is held
            against certified values of these, where python-flint is there.

    Raises:
        Undecided: a comparison in the budgets is open.
    """
    request = Request(record, profile)
    enclosures, others, notes = _enclosed(request) if sample is None else _sampled(request, sample, seed)
    asked = [name for name in enclosures if wanted is None or name in wanted]
    verdicts = []
    for name in asked:
        due = record.dtype_of(name)
        due = profile.storage.name if due == record.dtype else due
        found = judge(name, answer.get(name), enclosures[name], due, others)
        if found.verdict == "exact" and not notes and profile.storage.name == "float64" and _open(enclosures[name]):
            # Nearest to an enclosed value is not yet nearest to the truth.
            found = replace(found, verdict="rounding")
        verdicts.append(found)
    failing = [v.name for v in verdicts if v.verdict == "FAIL"]
    known = failing and not any(e.sample for e in enclosures.values())
    # A counter of a module is nothing that a bound belongs to.
    told = {name: a for name, a in answer.items() if name in enclosures}
    said = diagnose(request, told, enclosures, failing) if known else []
    notes = (*notes, *wider_sums(str(profile), verdicts))
    return Found(tuple(told_of_precision(verdicts, said)), tuple(str(d) for d in said), notes, enclosures)


def _open(enclosure: Enclosure) -> bool:
    return bool(enclosure.bound.any())


def _enclosed(request: Request) -> tuple[Mapping[str, Enclosure], Sequence[Other], tuple[str, ...]]:
    truths = _certified(request.record) if request.profile.storage.name == "float64" else None
    if truths is not None:
        return enclose(request, truths), others_for(request, truths), ("certified in ball arithmetic",)
    if isinstance(request.record, VJP):
        own = enclose_itself(request)
    else:
        wide, allowed = request.values(Profile.of("float64")), request.bounds()
        own = {name: Enclosure.around(v.x, v.e + allowed[name]) for name, v in wide.items()}
    return own, others_for(request, {name: e.truth for name, e in own.items()}), ()


def _sampled(
    request: Request, sample: int, seed: int
) -> tuple[Mapping[str, Enclosure], Sequence[Other], tuple[str, ...]]:
    """Likewise of some elements of each tensor."""
    if request.profile.storage.name == "float64" and find_spec("flint"):
        from parity.truth.certify import certified_elements

        try:
            truths, samples = certified_elements(request.record, sample, seed)
        except (Undecided, TypeError):
            # A comparison that balls leave open, or what is written in place, which the tape refuses.
            pass
        else:
            notes = ("certified in ball arithmetic",)
            return enclose(request, truths, samples=samples), others_for(request, truths, samples), notes
    own, others, said = _enclosed(request)
    return {name: e.sampled(sample, seed, name) for name, e in own.items()}, others, said


def _certified(record: VJP | Optimize) -> Truths | None:
    arrays = (*record.inputs, *record.arrays.values()) if isinstance(record, VJP) else tuple(record.grads.values())
    if sum(a.size for a in arrays) > SMALL or find_spec("flint") is None:
        return None
    if isinstance(record, VJP):
        given = [name for name in names_of_right_answer(record) if name.startswith("grad_input")]
        if len(given) < sum(x.dtype.kind == "f" for x in record.inputs):
            # Labels in floats, by which there is no derivative: the tape would find one.
            return None
    from parity.truth.certify import certified

    certify: Callable[[VJP | Optimize], Truths] = certified
    try:
        return certify(record)
    except (ValueError, Undecided):
        # Too many operations, or a comparison that balls leave open.
        return None


WRONG, RIGHT = 0.4, 0.8
"""Where log(error in the coarser format / error in the finer), over that of their unit roundoffs, lies: below the first
the error stays, above the second it shrinks as rounding does; in between nothing is concluded. Measured over 200 seeds,
it was -0.03 to 0.36 for wrong formulas and 0.85 to 1.18 for right ones that are weak."""


def judge_two_precisions(
    name: str, truth: Array | None, low: Array | None, high: Array | None, ratio: float
) -> TensorVerdict:
    """The verdict on a tensor of which only a reference in float64 is known, from the same inputs in two formats."""
    if truth is None or low is None or high is None:
        return failed(name, "expected a gradient, got None")
    if low.shape != truth.shape or high.shape != truth.shape:
        return failed(name, f"expected shape {truth.shape}, got {low.shape}")
    errors = [float(np.max(abs(a.astype(np.float64) - truth), initial=0.0)) for a in (low, high)]
    if not all(map(math.isfinite, errors)):
        return failed(name, "expected finite values, got NaN or infinity")
    largest = float(np.max(abs(truth), initial=0.0))
    digits = math.log10(largest / errors[0]) if largest and errors[0] else math.inf
    if errors[1] == 0:
        return TensorVerdict(name, "rounding", digits=digits)
    if errors[0] == 0:
        return TensorVerdict(name, "undecided", digits=digits, reason=_shrinks(errors, math.inf))
    shrinks = math.log(errors[0] / errors[1]) / ratio
    if shrinks <= WRONG:
        return failed(name, f"expected an error that shrinks with the format: {_shrinks(errors, shrinks)}")
    verdict = "rounding" if shrinks >= RIGHT else "undecided"
    return TensorVerdict(
        name, verdict, digits=digits, reason="" if verdict == "rounding" else _shrinks(errors, shrinks)
    )


def asked_again(
    verdict: TensorVerdict, coarse: Array, fine: Array, enclosure: Enclosure, formats: tuple[str, str]
) -> TensorVerdict:
    """A failing verdict in the light of two answers at the same inputs, in two formats; others stay as they are."""
    return reconsidered(verdict, compared(coarse, fine, enclosure.truth, formats))


def _shrinks(errors: Sequence[float], exponent: float) -> str:
    """In words; an exponent is 1 where the error shrinks as rounding does, and 0 where it stays."""
    how = f", exponent {exponent:.2f} (1: as rounding shrinks, 0: not at all)" if math.isfinite(exponent) else ""
    return f"largest errors {errors[0]:.2g} in the coarser format and {errors[1]:.2g} in the finer one{how}"
