"""Filling and proving the kept files, case by case, in worker processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from parity.families.case import DTYPES, Case
from parity.families.listing import catalogue
from parity.records.record import UsageError
from parity.run.computing import certify
from parity.vectors import catalogue_answers, store

Answer = store.Arrays

ABOUT = "certified answers of the catalogue; names are record digests, see parity.vectors.catalogue_answers"


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

    def __str__(self) -> str:
        return f"{self.case.name} ({self.family}, {self.dtype})"


def run(
    cases: Sequence[Case],
    check: bool,
    jobs: int,
    start: Callable[[int], object] = lambda total: None,
    done: Callable[[], object] = lambda: None,
    folder: Path = store.FOLDER,
) -> Report:
    """Certify what is missing of the cases and keep it; or, with `check`, certify all again and compare it with what is
    kept.

    A file is written whenever one of its cases is done: what an interrupted run has found is not lost. A file that is
    refused, being corrupt, is made anew; `check` refuses it.

    Args:
        start: is told how many records there are to certify. done: is called as each of them is.

    Raises:
        UsageError: python-flint is missing; a file can't be written; checking, a file is refused.
    """
    from pebble import ProcessPool

    try:
        import flint  # noqa: F401
    except ImportError:
        raise UsageError(
            "certify: expected the package python-flint, got none; install it with: pip install 'refnet[certify]'"
        ) from None
    kept = {name: _kept(name, check, folder) for name in sorted({catalogue_answers.file_name(case) for case in cases})}
    asked = {
        catalogue_answers.key(catalogue_answers.asked(case, family, dtype)): _Wanted(case, family, dtype)
        for case in cases
        for family in case.families
        for dtype in DTYPES
    }
    wanted = {
        key: what for key, what in asked.items() if check or key not in kept[catalogue_answers.file_name(what.case)]
    }
    report = Report(present=len(asked) - len(wanted))
    start(len(wanted))
    with ProcessPool(jobs, context=get_context("spawn")) as pool:
        futures = {
            pool.schedule(certify, (*what, kept[catalogue_answers.file_name(what.case)].get(key))): key
            for key, what in wanted.items()
        }
        try:
            for future in as_completed(futures):
                key = futures[future]
                file = catalogue_answers.file_name(wanted[key].case)
                try:
                    found = future.result()
                except Exception as error:
                    error.add_note(f"while certifying {wanted[key]}")
                    raise
                if not check:
                    kept[file][key] = found
                    report.computed += 1
                    write(file, kept[file], folder)
                elif same(kept[file].get(key), found):
                    report.equal += 1
                else:
                    report.differing.append(str(wanted[key]))
                done()
        except BaseException:
            pool.stop()
            raise
    if not check:
        _prune(kept, cases, folder)
    return report


def same(kept: Answer | None, found: Answer) -> bool:
    """Whether two answers are one, bit for bit."""
    return kept is not None and _bits(kept) == _bits(found)


def _bits(answer: Answer) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    return {name: (str(a.dtype), a.shape, a.tobytes()) for name, a in answer.items()}


def _kept(name: str, check: bool, folder: Path) -> dict[str, Answer]:
    if name not in store.names(folder):
        return {}
    try:
        return catalogue_answers.by_record(name, folder)
    except UsageError:
        if check:
            raise
        return {}


def write(name: str, answers: dict[str, Answer], folder: Path) -> None:
    """Keep answers, by their records' keys, in a file."""
    arrays = {f"{key}/{rest}": array for key, answer in answers.items() for rest, array in answer.items()}
    store.write(name, arrays, {"about": ABOUT}, folder)


def _prune(kept: dict[str, dict[str, Answer]], cases: Sequence[Case], folder: Path) -> None:
    """Drop answers to records that no case asks any more."""
    current = {
        catalogue_answers.key(catalogue_answers.asked(c, f, d))
        for c in (*catalogue(), *cases)
        for f in c.families
        for d in DTYPES
    }
    for name, answers in kept.items():
        if answers.keys() - current:
            write(name, {key: answer for key, answer in answers.items() if key in current}, folder)
