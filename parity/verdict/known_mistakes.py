"""The known mistakes that account for an answer.

A mistake is named only when it accounts for the whole answer: every failing tensor lies within the budget of the
faulty formula, which is derived like any other, and no other tensor contradicts it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from parity.verdict.evaluation import Evaluation, Moment, TrainingRequest
from parity.verdict.match import Diagnosis
from parity.verdict.recomputed import FOLLOWED, RAISED, Recomputed, RecomputedTraining
from parity.verdict.tensor import Answer, Array, Enclosure, inside


def mistakes_in_answer(
    again: Recomputed, answer: Answer, enclosures: Mapping[str, Enclosure], failing: tuple[str, ...]
) -> list[Diagnosis]:
    """The mistakes of the dictionary that account for the answer, those with the tightest budgets first."""
    found: list[tuple[float, Diagnosis]] = []
    # Something that passes outside its budget shows an engine with weaker formulas.
    passing = [name for name in enclosures if name not in failing]
    weaker = not all(name in answer and inside(answer[name], enclosures[name]) for name in passing)
    for fault in again.mistakes():
        try:
            own = again.answer(fault)
            if all(_identical(own.get(name), again.right.get(name)) for name in failing):
                continue
            for said in again.evaluations(fault, own):
                if _accounts_for(said, own, again.right, answer, enclosures, failing):
                    looseness = max((_looseness(said[name]) for name in failing if name in said), default=0.0)
                    found.append((looseness, Diagnosis(fault.name, fault.what, fault.source, failing)))
                    break
                if not weaker and not any(name in said and _holds(said[name], answer.get(name)) for name in failing):
                    break
        except RAISED:
            continue
    singly = [diagnosis for _, diagnosis in sorted(found, key=lambda pair: pair[0])]
    return singly or _two_at_once(again, answer, enclosures, failing)


def _two_at_once(
    again: Recomputed, answer: Answer, enclosures: Mapping[str, Enclosure], failing: tuple[str, ...]
) -> list[Diagnosis]:
    """The first pair of mistakes, one made after the other, that accounts for an answer which no single one does.

    Only such are paired as change nothing that passes: what one spoils the other does not mend.
    """
    found = []
    for fault in again.pairs(failing):
        try:
            own = again.answer(fault)
            if not all(_near(own.get(name), answer.get(name)) for name in failing):
                continue
            if any(
                _accounts_for(said, own, again.right, answer, enclosures, failing)
                for said in again.evaluations(fault, own)
            ):
                found.append(Diagnosis(fault.name, fault.what, fault.source, failing))
                break
        except (*RAISED, AttributeError):
            # Two mistakes that replace one another's parts can't be made together.
            continue
    return found


def _near(a: Array | None, b: Array | None) -> bool:
    """Whether two answers are near enough to be looked at in budgets."""
    if a is None or b is None or a.shape != b.shape:
        return False
    with np.errstate(all="ignore"):
        largest = float(abs(np.asarray(a, np.float64)).max(initial=0.0))
        return bool(np.allclose(a, b, rtol=1e-2, atol=1e-2 * largest, equal_nan=True))


def mistakes_in_training(again: RecomputedTraining, answer: Answer) -> list[Diagnosis]:
    """The mistakes, of the loop or of what it trains, by which the updates come out as they are in the answer, those
    up to the one after the first that is wrong."""
    wrong = next((moment.done for moment in again.right() if not _matches(moment, answer, bounded=True)), None)
    if wrong is None:
        return []
    found = []
    for fault, moments in again.mistakes(wrong):
        try:
            # What has grown beyond all bounds tells nothing; at the wrong update itself it is no evidence either.
            if all(_matches(moment, answer, bounded=moment.done > wrong) for moment in moments):
                found.append(Diagnosis(fault.name, fault.what, fault.source, tuple(answer)))
        except RAISED:
            continue
    return found


def mistakes_in_later_updates(request: TrainingRequest, answer: Answer) -> list[Diagnosis]:
    """The mistakes by which two updates behind the first come out as they are in the answer, from what it has before
    them: those up to the first two that show any. A training from its start may have lost all bounds by then."""
    record = request.record
    for k in range(1, min(record.iterations, FOLLOWED)):
        end = k + 2 if record.frozen_before(k) == record.frozen_before(k + 1) else k + 1
        numbers = np.arange(k, min(end, record.iterations))
        arrays, state = ({n: np.array(a[0]) for n, a in one.items()} for one in record.before(answer, numbers[:1]))
        rest = replace(record.of_updates(numbers), arrays=arrays, state=state, order={})
        own = {name: a[k : numbers[-1] + 1 + name.startswith("param.")] for name, a in answer.items()}
        if found := mistakes_in_training(RecomputedTraining(replace(request, record=rest)), own):
            return found
    return []


def _matches(moment: Moment, answer: Answer, bounded: bool = False) -> bool:
    """Whether the answer is as the formula says; with `bounded`, where there is a bound."""
    return all(_holds(_as_got(said, got) if bounded else said, got) for said, got in _compared(moment, answer))


def _as_got(said: Evaluation, got: Array | None) -> Evaluation:
    """What is said, and what was got in the place of values without a bound."""
    lost = ~np.isfinite(said.e) & np.isfinite(said.x)
    if got is None or got.shape != said.x.shape or not lost.any():
        return said
    return Evaluation(np.where(lost, got, said.x), np.where(lost, 0.0, said.e))


def _compared(moment: Moment, answer: Answer) -> Iterator[tuple[Evaluation, Array | None]]:
    """What a formula says at one moment of a training, with what the answer has there."""
    k = moment.done
    said = {f"param.{name}": (k, p) for name, p in moment.params.items()}
    if k:
        said |= {f"state.{name}": (k - 1, s) for name, s in moment.state.items()}
        said |= {f"buffer.{name}": (k - 1, b) for name, b in moment.buffers.items()}
    if moment.loss is not None:
        said["loss"] = (k - 1, moment.loss)
    for name, (row, tensor) in said.items():
        yield Evaluation.of(tensor), answer[name][row] if name in answer else None


def _identical(a: Array | None, b: Array | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.shape == b.shape and np.array_equal(a, b, equal_nan=True)


def _accounts_for(
    said: Mapping[str, Evaluation],
    own: Answer,
    right: Answer,
    answer: Answer,
    enclosures: Mapping[str, Enclosure],
    failing: tuple[str, ...],
) -> bool:
    """Whether what fails is as the faulty formula says, in its very bits or certainly not as is true, and nothing
    contradicts."""
    for name in {**enclosures, **answer}:
        if name not in said:
            if name in answer or name in own:
                return False
        elif name in failing:
            if not _holds(said[name], answer.get(name)):
                return False
        elif not _agrees(said[name], enclosures[name]) and not _holds(said[name], answer.get(name)):
            return False
    # What is missing in both, as the state of an option that is ignored, is as the faulty formula says.
    certainly = any(
        name not in enclosures or _contradicts(said[name], enclosures[name]) if name in said else name not in answer
        for name in failing
    )
    # A formula that may come out right, as a difference of large numbers, is told by its bits.
    return certainly or all(
        name in said and _identical(own.get(name), answer.get(name)) and not _identical(own.get(name), right.get(name))
        for name in failing
    )


def _holds(said: Evaluation, got: Array | None) -> bool:
    """Whether every element of `got` may be an evaluation of the formula."""
    if got is None or got.shape != said.x.shape:
        return False
    with np.errstate(all="ignore"):
        within = abs(got - said.x) <= _twice(said.e)
        # Where something overflowed or 0 was divided by 0 there is no bound; it comes to the same value, or to NaN.
        alike = (got == said.x) | (np.isnan(got) & np.isnan(said.x))
    return bool(np.where(np.isfinite(said.x) & np.isfinite(said.e), within, alike).all())


def _agrees(said: Evaluation, enclosure: Enclosure) -> bool:
    """Whether the formula says of every element what is true."""
    return enclosure.truth.shape == said.x.shape and not _differs(said, enclosure).any()


def _contradicts(said: Evaluation, enclosure: Enclosure) -> bool:
    """Whether the formula is certainly wrong in some element."""
    return enclosure.truth.shape != said.x.shape or bool(_differs(said, enclosure).any())


def _differs(said: Evaluation, enclosure: Enclosure) -> Array:
    truth = enclosure.truth
    with np.errstate(all="ignore"):
        apart = ~(truth.error(said.x) <= _twice(said.e)) | ~np.isfinite(said.x)
    return np.asarray(apart & ~truth.undecided)


def _looseness(said: Evaluation) -> float:
    """The largest bound, of finite ones, over the largest element."""
    bound, largest = (float(abs(a).max(initial=0.0, where=np.isfinite(a))) for a in (said.e, said.x))
    return bound / largest if largest else 0.0


def _twice(e: Array) -> Array:
    """2e, and what computing a distance rounds."""
    return np.asarray(2 * e * (1 + 2.0**-50))
