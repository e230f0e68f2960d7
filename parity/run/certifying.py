"""Filling and proving the kept files, case by case, in worker processes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from parity.engines.refnet import RefnetEngine
from parity.families.case import DTYPES, ELEMENTS, IN_ALL, Case, TrainCase
from parity.families.listing import catalogue, select
from parity.records.record import Answer, Train, UsageError
from parity.run import pool
from parity.vectors import catalogue_answers
from parity.verdict import free_run

Array = np.ndarray[Any, Any]


@dataclass
class Report:
    """What became of the records.

    Attributes:
        computed, present, equal: how many were computed, found already there, computed again and found equal.
        differing: those that are kept otherwise, or not at all.
    """

    computed: int = 0
    present: int = 0
    equal: int = 0
    differing: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        counts = f"{self.computed} computed, {self.present} already there, {self.equal} proved"
        return counts + (f", {len(self.differing)} differ: {'; '.join(self.differing)}" if self.differing else "")


class _Wanted(NamedTuple):
    case: Case
    family: str
    dtype: str
    key: str
    kept: Mapping[str, Array] | None

    def __str__(self) -> str:
        return f"{self.case.name} ({self.family}, {self.dtype})"


def run(
    cases: Sequence[Case],
    check: bool,
    jobs: int,
    start: Callable[[int], object] = lambda total: None,
    done: Callable[[], object] = lambda: None,
    folder: Path | None = None,
) -> Report:
    """Certify what is missing of the cases and keep it; or, with `check`, certify all again and compare it with what is
    kept.

    A file is written whenever one of its cases is done: what an interrupted run has found is not lost. A file that is
    refused, being corrupt, is made anew; `check` refuses it.

    Args:
        start: is told how many records there are to certify. done: is called as each of them is. folder: of the kept
            files, the package's own where none is given.

    Raises:
        UsageError: python-flint is missing; a file can't be written; checking, a file is refused.
    """
    try:
        import flint  # noqa: F401
    except ImportError:
        raise UsageError(
            "certify: expected the package python-flint, got none; install it with: pip install python-flint"
        ) from None
    kept = {name: _kept(name, check, folder) for name in sorted({catalogue_answers.file_name(case) for case in cases})}
    asked = {what.key: what for what in _asked(cases, kept)}
    wanted = [what for what in asked.values() if check or what.kept is None]
    report = Report(present=len(asked) - len(wanted))
    start(len(wanted))

    def ended(what: _Wanted, found: dict[str, Array] | pool.Lost) -> None:
        if isinstance(found, pool.Lost):
            raise RuntimeError(f"certify: expected an answer to {what}, got none: {found.reason}")
        file = catalogue_answers.file_name(what.case)
        if not check:
            kept[file][what.key] = found
            report.computed += 1
            catalogue_answers.write(file, kept[file], folder)
        elif same(what.kept, found):
            report.equal += 1
        else:
            report.differing.append(str(what))
        done()

    pool.run(_certify, wanted, jobs, ended, long=lambda what: isinstance(what.case, TrainCase))
    # In the order of the catalogue, whatever that of completion.
    report.differing.sort(key=[str(what) for what in wanted].index)
    if not check:
        _prune(kept, cases, folder)
    return report


def _asked(cases: Sequence[Case], kept: Mapping[str, Mapping[str, Mapping[str, Array]]]) -> list[_Wanted]:
    """What is asked in the cases, and what is kept of it."""
    asked = []
    for case in cases:
        for family in case.families:
            for dtype in DTYPES:
                key = catalogue_answers.key(catalogue_answers.asked(case, family, dtype))
                known = kept.get(catalogue_answers.file_name(case), {}).get(key)
                asked.append(_Wanted(case, family, dtype, key, known))
    return asked


def _certify(what: _Wanted) -> dict[str, Array]:
    """In a worker."""
    try:
        return certify(what.case, what.family, what.dtype, what.kept)
    except Exception as error:
        error.add_note(f"while certifying {what}")
        raise


def same(kept: Mapping[str, Array] | None, found: Mapping[str, Array]) -> bool:
    """Whether what is kept is what was found, bit for bit; a bound may also be larger than the one found, which proves
    it: a sharper rule, or the last bits of another processor's exp, make others.
    """
    if kept is None or kept.keys() != found.keys():
        return False
    bounds = {name for name in kept if name.startswith("bound.")}
    proved = all(kept[k].shape == found[k].shape and (found[k] <= kept[k]).all() for k in bounds)
    return proved and _bits(kept, bounds) == _bits(found, bounds)


BITS = 24
"""Of a kept bound's significand: rounded up to them, it does not hang on a processor's last ones."""


def _rounded_up(bound: Array) -> Array:
    mantissa, exponent = np.frexp(bound)
    rounded: Array = np.ldexp(np.ceil(np.ldexp(mantissa, BITS)), exponent - BITS)
    return rounded


def _bits(answer: Mapping[str, Array], but: Collection[str]) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    return {name: (str(a.dtype), a.shape, a.tobytes()) for name, a in answer.items() if name not in but}


def _kept(name: str, check: bool, folder: Path | None) -> dict[str, dict[str, Array]]:
    if not catalogue_answers.listed(name, folder):
        return {}
    try:
        return catalogue_answers.by_record(name, folder)
    except UsageError:
        if check:
            raise
        return {}


def _prune(kept: dict[str, dict[str, dict[str, Array]]], cases: Sequence[Case], folder: Path | None) -> None:
    """Drop answers to records that no case asks any more."""
    others = select("", large=True) if any(map(catalogue_answers.is_large, cases)) else catalogue()
    current = {what.key for what in _asked((*others, *cases), {})}
    for name, answers in kept.items():
        if answers.keys() - current:
            catalogue_answers.write(name, {key: answer for key, answer in answers.items() if key in current}, folder)


def certify(case: Case, family: str, dtype: str, kept: Mapping[str, Array] | None = None) -> dict[str, Array]:
    """Compute the answer to a case's record, as the arrays that are kept.

    Args:
        kept: what is kept already, to be computed again from the same weights: those of a float run are not the same
            on every machine.
    """
    from parity.truth.certify import certified, certified_elements, within

    if catalogue_answers.is_large(case):
        asked = case.record(family, "float32")
        assert not isinstance(asked, Train)
        return catalogue_answers.sampled(*certified_elements(asked, within(IN_ALL, ELEMENTS), case.name))
    record = catalogue_answers.asked(case, family, dtype)
    if not isinstance(case, TrainCase) or not isinstance(record, Train):
        return catalogue_answers.pairs(certified(record), "")
    arrays: dict[str, Array] = {}
    if case.certified:
        arrays |= catalogue_answers.pairs(certified(record, case.certified), "")
        arrays |= {f"bound.{name}": _rounded_up(e) for name, e in free_run.bounds(record, case.certified).items()}
    for number, single in (
        catalogue_answers.singles(record, kept) if kept else _recorded(record, case.singles)
    ).items():
        arrays |= {f"step.{number}.before.{name}": a for name, a in single.arrays.items()}
        arrays |= {f"step.{number}.before.state.{name}": a for name, a in single.state.items()}
        arrays |= catalogue_answers.pairs(certified(single, (1,)), f"step.{number}.after.")
    return arrays


def _recorded(record: Train, singles: int) -> dict[int, Train]:
    """Single updates of a run of refnet's, by their number, which are evenly spread in its logarithm."""
    numbers = sorted({int(k) for k in np.geomspace(1, record.iterations, singles)})
    return dict(zip(numbers, _single_updates(record, RefnetEngine().train(record), numbers), strict=True))


def _single_updates(record: Train, answer: Answer, numbers: Sequence[int]) -> list[Train]:
    """Records of one update each: a recorded run's updates of these numbers (from 1), from its weights, buffers and
    optimizer state before them."""
    found = []
    for k in numbers:
        arrays, state = record.before(answer, np.array([k - 1]))
        found.append(record.single(k, *({name: np.array(a[0]) for name, a in one.items()} for one in (arrays, state))))
    return found
