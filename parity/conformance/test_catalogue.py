"""Every record of the catalogue as a test of one engine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from parity.families.case import Case
from parity.families.listing import catalogue
from parity.records.record import UsageError
from parity.run import judging

DTYPES = ("float64", "float32")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    name = metafunc.config.getoption("--parity-engine")
    if not name:
        raise pytest.UsageError("expected --parity-engine NAME, got none")
    try:
        judging.choose([name])
    except UsageError as error:
        raise pytest.UsageError(str(error)) from None
    skips, xfails = (Listed.read(metafunc.config.getoption(option)) for option in ("--parity-skips", "--parity-xfails"))
    params = []
    for label, case, family, dtype in records():
        marks = [pytest.mark.skip(reason=reason) for reason in skips.reasons(label)]
        marks += [pytest.mark.xfail(reason=reason, strict=True) for reason in xfails.reasons(label)]
        params.append(pytest.param(name, case, family, dtype, id=label, marks=marks))
    for listed in (skips, xfails):
        listed.refuse_unused()
    metafunc.parametrize(("name", "case", "family", "dtype"), params)


def records() -> Iterator[tuple[str, Case, str, str]]:
    """Every record with its label, as a list of skips names it."""
    for case in catalogue():
        for family in case.families:
            for dtype in DTYPES:
                yield f"{case.name}, {family}, {dtype}", case, family, dtype


class Listed:
    """A file of records, one in a line: its label, or a pattern with * and ?, and after two spaces and # a reason."""

    def __init__(self, file: Path | None, lines: dict[str, str]) -> None:
        self.file, self.lines, self.used = file, lines, set[str]()

    @classmethod
    def read(cls, file: str | None) -> Listed:
        if not file:
            return cls(None, {})
        try:
            text = Path(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise pytest.UsageError(f"{file}: expected a readable list of records, got: {error}") from None
        lines = {}
        for line in text.splitlines():
            pattern, _, reason = line.partition("  #")
            if pattern.strip() and not pattern.startswith("#"):
                lines[pattern.strip()] = reason.strip() or f"listed in {Path(file).name}"
        return cls(Path(file), lines)

    def reasons(self, label: str) -> list[str]:
        """The reason of the first line that means the record."""
        for pattern, reason in self.lines.items():
            if label == pattern or fnmatchcase(label, pattern):
                self.used.add(pattern)
                return [reason]
        return []

    def refuse_unused(self) -> None:
        if unused := self.lines.keys() - self.used:
            raise pytest.UsageError(f"{self.file}: expected lines that mean a record, got {sorted(unused)[0]!r}")


def test_record(name: str, case: Case, family: str, dtype: str, record_property: Any) -> None:
    (found,) = judging.judge_case(replace(case, families=(family,)), family, dtype, [judging.engine(name)])
    record_property("parity_verdict", found.verdict)
    if found.unsupported:
        pytest.skip(f"unsupported: {found.unsupported}")
    if found.finding:
        pytest.xfail(f"known finding: {found.finding}")
    if not found.conforms:
        said = [f"{v.name}: {v.verdict} {v.reason}" for v in found.verdicts if v.verdict in ("FAIL", "imprecise")]
        said += [f"consistent with: {d}" for d in found.diagnosis]
        pytest.fail("\n".join([*said, found.traceback, f"this record alone: {found.command}"]), pytrace=False)
