"""What the yardstick makes of each mistake over the catalogue: caught or not, and by how many budgets."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from parity.families.case import Case
from parity.families.fault import Fault
from parity.records.record import VJP, Optimize, Record, Train, Unsupported
from parity.verdict.answer import Judge, same_bits
from parity.verdict.evaluation import Request, TrainingRequest
from parity.verdict.lockstep import judge_steps
from parity.verdict.recomputed import Recomputed, trained
from parity.verdict.table import is_caught
from parity.verdict.tensor import Answer, Enclosure, Truths, judge
from refnet.arithmetic.array_like import Undecided

Certified = Callable[[Case, str, str], Truths]

Judges = Mapping[tuple[str, str, str], Callable[[], Judge]]
"""What gives the judge of a record, by case, family and dtype."""

NO_JUDGES: Judges = {}

RAISED = (ValueError, IndexError, TypeError, ZeroDivisionError)
"""An engine that raises one of these has failed its case, with nothing to be measured."""

UPDATES = 4
"""How many updates of a training show whether a mistake is seen."""


@dataclass(frozen=True)
class Score:
    """One mistake in one dtype, over all cases and families in which it can be made.

    Attributes:
        tried, caught: in how many records the mistake changed any bit, and in how many of these a changed tensor fails.
        share: by how many budgets, of the formula that suits it best, in the most revealing case, tensor and element;
            of a rewriting the largest part of a budget that it used.
        case, family, tensor: which that is.
        exact: in how many records something is wrong that no share can say: an exact result missed, another shape, NaN.
    """

    fault: Fault
    dtype: str
    tried: int = 0
    caught: int = 0
    share: float = 0.0
    case: str = ""
    family: str = ""
    tensor: str = ""
    exact: int = 0


@dataclass(frozen=True)
class Scores:
    """How the yardstick did on mistakes, of which each should be caught, and on rewritings, of which none should be.

    Attributes:
        dtype: computed in. faults, rewritings: those that can be made in the cases. unmade: how many mistakes can't.
    """

    dtype: str
    faults: tuple[Score, ...]
    rewritings: tuple[Score, ...]
    unmade: int

    @property
    def caught(self) -> int:
        return sum(s.caught > 0 for s in self.faults)

    @property
    def flagged(self) -> int:
        return sum(s.caught > 0 for s in self.rewritings)

    @property
    def sound(self) -> bool:
        """Every mistake was caught, and no rewriting flagged."""
        return self.caught == len(self.faults) and self.flagged == 0


def score_faults(
    faults: Sequence[Fault],
    cases: Iterable[Case],
    truths: Certified,
    dtypes: Sequence[str] = ("float64",),
    trainings: bool = False,
    once: Collection[str] = (),
    judges: Judges = NO_JUDGES,
) -> list[Score]:
    """Make every mistake in every case that it touches, and judge the answers.

    Args:
        faults: mistakes or rewritings. cases: the catalogue.
        truths: the certified answer to a case in a family and dtype.
        trainings: whether they are made in trainings too, which are judged update by update.
        once: the names of mistakes that are not made again once they were caught. Their shares say nothing.
        judges: of records that are judged already; the others' are made here.
    """
    once = frozenset(once)
    scores = {(fault.name, dtype): Score(fault, dtype) for dtype in dtypes for fault in faults}
    bearing: dict[Any, list[Fault]] = {}
    for case in cases:
        for family in case.families:
            for dtype in dtypes:
                record = _shortened(case.record(family, dtype))
                alike = type(record), frozenset(record.types()), dtype
                if alike not in bearing:
                    bearing[alike] = [fault for fault in faults if fault.bears_on(record)]
                left = (f for f in bearing[alike] if not (f.name in once and scores[f.name, dtype].caught))
                touching = [fault for fault in left if fault.touches(record)]
                made = judges.get((case.name, family, dtype)) or partial(_judge, record, truths, case, family)
                if not touching or not (own := _measure(record, made, trainings)):
                    continue
                for fault in touching:
                    if found := own.measured(fault, brief=fault.name in once):
                        key = fault.name, dtype
                        more = Score(
                            fault, dtype, 1, found.caught, found.share, case.name, family, found.tensor, found.exact
                        )
                        scores[key] = _joined(scores[key], more)
    return list(scores.values())


def killed(faults: Sequence[Fault], cases: Iterable[Case], truths: Certified, dtype: str) -> dict[str, str]:
    """The first record, by case, family and tensor, that gives each mistake away; those that none does are left out.

    Another documented choice than refnet's gives a mistake away too: the verdict is `convention`, by name, where that
    on refnet is not. A mistake that was caught is not made again. Trainings are left out.
    """
    found: dict[str, str] = {}
    for case in cases:
        for family in case.families:
            record = case.record(family, dtype)
            left = [f for f in faults if f.name not in found and f.touches(record)]
            if isinstance(record, Train) or not left:
                continue
            own = _AnswerMeasure(record, partial(_judge, record, truths, case, family))
            if own.judge is None:
                continue
            for fault in left:
                try:
                    caught = own.measured(fault, choices=True)
                    tensor = caught.tensor if caught and caught.caught else ""
                    raised = "an error" if caught and caught.caught and not tensor else ""
                except Exception as error:
                    # Whatever a changed line raises, the engine has failed.
                    tensor, raised = "", type(error).__name__
                if tensor or raised:
                    found[fault.name] = f"{case.name}, {family}: {tensor or raised}"
    return found


def merged(tables: Iterable[Sequence[Score]]) -> list[Score]:
    """One table of several, each over other cases: what several processes found together."""
    scores: dict[tuple[str, str], Score] = {}
    for score in (score for table in tables for score in table):
        key = score.fault.name, score.dtype
        scores[key] = _joined(scores[key], score) if key in scores else score
    return list(scores.values())


def _judge(record: Record, truths: Certified, case: Case, family: str) -> Judge:
    assert not isinstance(record, Train)
    return Judge(Request.plain(record), truths(case, family, record.dtype))


def _measure(
    record: Record, made: Callable[[], Judge], trainings: bool = False
) -> _AnswerMeasure | _TrainingMeasure | None:
    """What measures answers to this record; none where trainings are left out."""
    if isinstance(record, Train):
        return _TrainingMeasure(record) if trainings else None
    return _AnswerMeasure(record, made)


def _shortened(record: Record) -> Record:
    return record.first(UPDATES) if isinstance(record, Train) else record


@dataclass(frozen=True)
class _Measured:
    """What was found of one answer: whether a tensor fails, and the largest finite share with its tensor."""

    caught: bool
    share: float
    tensor: str
    exact: bool


def _joined(a: Score, b: Score) -> Score:
    """Two scores of one mistake; a share among failures counts for more than any without."""
    better = max(a, b, key=lambda score: (score.caught > 0, score.share))
    return replace(better, tried=a.tried + b.tried, caught=a.caught + b.caught, exact=a.exact + b.exact)


class _AnswerMeasure:
    """A record with all that does not depend on who answers it: measuring one more answer costs little. Where every
    answer has the bits of the right one, no budget is derived.

    Args:
        made: gives the judge of the record.
    """

    def __init__(self, record: VJP | Optimize, made: Callable[[], Judge]) -> None:
        self.record, self.made = record, made
        self.again = Recomputed(Request.plain(record))
        self.right = self.again.right

    @cached_property
    def judge(self) -> Judge | None:
        """None where the record is undecided."""
        try:
            return self.made()
        except Undecided:
            return None

    def measured(self, fault: Fault, choices: bool = False, brief: bool = False) -> _Measured | None:
        """What is found of a mistake; nothing where it changes no bit, or where the record is undecided.

        Args:
            choices: whether a convention that refnet does not follow counts as caught. brief: whether the first tensor
                that fails is enough.
        """
        try:
            answer = self._answer(fault)
        except Unsupported:
            return None
        except RAISED:
            return _Measured(True, 0.0, "", True) if self.judge else None
        if answer.keys() == self.right.keys() and all(same_bits(answer[name], t) for name, t in self.right.items()):
            return None
        if self.judge is None:
            return None
        unasked = answer.keys() - self.right.keys()
        changed = [name for name in self.judge.enclosures if not same_bits(answer.get(name), self.right[name])]
        findings: list[_Measured] = []
        for name in changed:
            findings.append(self._tensor(self.judge, name, answer.get(name), choices))
            if brief and findings[-1].caught:
                break
        if not findings and not unasked:
            return None
        worst = max(findings, key=lambda f: (f.caught, f.share), default=_Measured(True, 0.0, "", True))
        return replace(
            worst, caught=worst.caught or bool(unasked), exact=bool(unasked) or any(f.exact for f in findings)
        )

    def _answer(self, fault: Fault) -> Answer:
        computes_wrongly = fault.patches or fault.rules or fault.computes or fault.ask
        if isinstance(self.record, Optimize) or not fault.reply or computes_wrongly:
            return self.again.answer(fault)
        # What is only said wrongly is computed rightly, and once.
        return fault.reply(self.right)

    def _tensor(self, judge_of: Judge, name: str, got: Any, choices: bool) -> _Measured:
        enclosure, due = judge_of.enclosures[name], self.record.dtype_of(name)
        truth = enclosure.truth

        def verdict(given: Any) -> str:
            return judge(name, given, enclosure, due, judge_of.others).verdict

        fitting = got is not None and got.shape == truth.shape and str(got.dtype) == due
        if fitting and not got.size:
            return _Measured(False, 0.0, name, False)
        shares = _shares(got, enclosure) if fitting else None
        if shares is not None and (shares <= 1).all():
            return _Measured(False, float(shares.max()), name, False)
        caught = is_caught(found := verdict(got))
        caught = caught or (choices and found == "convention" != verdict(self.right[name]))
        if shares is None:
            return _Measured(caught, 0.0, name, True)
        # Under another formula an element may keep to either budget. What counts is the formula that suits best.
        others = [known[name] for other in judge_of.others if name in (known := other.enclosures())]
        least = [_largest(shares), *(_largest(np.minimum(shares, _shares(got, other))) for other in others)]
        worst, share = min(least)
        return _Measured(caught, share, name, math.isinf(worst))


def _largest(shares: Any) -> tuple[float, float]:
    """The largest share, and the largest finite one."""
    return float(shares.max()), float(shares.max(initial=0.0, where=np.isfinite(shares)))


def _shares(got: Any, enclosure: Enclosure) -> Any:
    """The part of its budget that each element uses; infinite where an exact result is missed or it is no number."""
    with np.errstate(all="ignore"):
        error = np.where(enclosure.truth.undecided, 0.0, enclosure.truth.error(got))
        shares = np.where(error == 0, 0.0, error / enclosure.bound)
    return np.where(np.isnan(shares) | ~np.isfinite(got) & ~enclosure.truth.undecided, np.inf, shares)


class _TrainingMeasure:
    """Likewise for a training, judged update by update."""

    def __init__(self, record: Train) -> None:
        self.record = record
        self.right = trained(record)

    def measured(self, fault: Fault, choices: bool = False, brief: bool = False) -> _Measured | None:
        try:
            answer = trained(self.record, fault)
        except RAISED:
            return _Measured(True, 0.0, "", True)
        if all(same_bits(answer[name], right) for name, right in self.right.items()):
            return None
        verdicts = judge_steps(TrainingRequest.plain(self.record), answer)
        failing = [v for v in verdicts if is_caught(v.verdict)]
        worst = max(failing or verdicts, key=lambda v: v.share if math.isfinite(v.share) else 0.0)
        exact = any(not math.isfinite(v.share) for v in failing)
        return _Measured(bool(failing), worst.share if math.isfinite(worst.share) else 0.0, worst.name, exact)
