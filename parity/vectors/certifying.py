"""Filling and proving the kept files, case by case, in worker processes."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any

import numpy as np

from parity.cases import catalogue, select
from parity.cases.case import DTYPES, Case
from parity.errors import UsageError
from parity.vectors import certified, store


@dataclass
class Report:
    """What became of the records: how many were computed, found equal, found already there; and the names of those that differ or lack."""

    computed: int = 0
    equal: int = 0
    present: int = 0
    differing: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        counts = f"{self.computed} computed, {self.present} already there, {self.equal} proved"
        return counts + (f", {len(self.differing)} differ: {', '.join(self.differing)}" if self.differing else "")


def run(cases: Sequence[Case], check: bool, jobs: int, progress: Any) -> Report:
    """Certify what is missing of the cases and keep it; or, with `check`, certify all again and compare with what is kept.

    A file is written whenever one of its cases is done: what an interrupted run has found is not lost.

    Raises:
        UsageError: python-flint is missing.
    """
    try:
        import flint  # noqa: F401
    except ImportError:
        raise UsageError(
            "certify: expected the package python-flint, got none; install it with: pip install refnet[certify]"
        ) from None
    report = Report()
    kept = {name: _read(name) for name in sorted({certified.file_name(case) for case in cases})}
    wanted: dict[str, tuple[Case, str, str]] = {}
    for case in cases:
        for family in case.families:
            for dtype in DTYPES:
                key = certified.key(case.record(family, dtype))
                if key in wanted:
                    continue
                if not check and key in kept[certified.file_name(case)]:
                    report.present += 1
                else:
                    wanted[key] = (case, family, dtype)
    task = progress.add_task("proving" if check else "certifying", total=len(wanted))
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        futures = {
            pool.submit(_certify, case.name, family, dtype): key for key, (case, family, dtype) in wanted.items()
        }
        try:
            for future in as_completed(futures):
                key = futures[future]
                case, family, dtype = wanted[key]
                file = certified.file_name(case)
                if check:
                    _compare(report, f"{case.name} ({family}, {dtype})", kept[file].get(key), future.result())
                else:
                    kept[file][key] = future.result()
                    report.computed += 1
                    _write(file, kept[file])
                progress.advance(task)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if not check:
        _prune(kept)
    return report


def _certify(case_name: str, family: str, dtype: str) -> dict[str, Any]:
    (case,) = (c for c in select(case_name) if c.name == case_name)
    return certified.certify(case, family, dtype)


def _compare(report: Report, what: str, kept: dict[str, Any] | None, found: dict[str, Any]) -> None:
    same = (
        kept is not None
        and kept.keys() == found.keys()
        and all(np.array_equal(kept[name], found[name]) for name in found)
    )
    if same:
        report.equal += 1
    else:
        report.differing.append(what)


def _read(name: str) -> dict[str, dict[str, Any]]:
    if not (store.FOLDER / store.MANIFEST).exists() or name not in store.names():
        return {}
    found: dict[str, dict[str, Any]] = {}
    for path, array in store.read(name)[0].items():
        key, _, rest = path.partition("/")
        found.setdefault(key, {})[rest] = array
    return found


def _write(name: str, records: dict[str, dict[str, Any]]) -> None:
    arrays = {f"{key}/{rest}": array for key, tensors in records.items() for rest, array in tensors.items()}
    store.write(
        name,
        arrays,
        {"about": "certified answers of the catalogue; names are record digests, see parity.vectors.certified"},
    )


def _prune(kept: dict[str, dict[str, dict[str, Any]]]) -> None:
    """Drop answers to records that no case asks any more."""
    current = {certified.key(c.record(f, d)) for c in catalogue() for f in c.families for d in DTYPES}
    for name, records in kept.items():
        if records.keys() - current:
            _write(name, {key: tensors for key, tensors in records.items() if key in current})
