"""Results for machines: JSON and JUnit XML."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

from parity.records.record import UsageError
from parity.report.report import plain
from parity.run.results import CaseResult, Results
from refnet.files import write_bytes

FORMAT = "refnet-results"
VERSION = 1


def check_place(file: Path | None) -> None:
    """Refuse a place that can't be written to before an hour is spent on what should go there."""
    if file is not None and (file.is_dir() or not os.access(file.resolve().parent, os.W_OK)):
        raise UsageError(f"{file}: expected a file in a folder that exists and is writable")


def check_places(json_file: Path | None, junit_file: Path | None) -> None:
    """Likewise for the two files of a run, which can't be one."""
    for file in (json_file, junit_file):
        check_place(file)
    if json_file and json_file == junit_file:
        raise UsageError(f"--json and --junit: expected two files, got {json_file} for both")


def save_results(results: Results, json_file: Path | None, junit_file: Path | None) -> None:
    """Write the results to the files that are asked for. Raises as `save`."""
    if json_file:
        save(json_file, to_json(results))
    if junit_file:
        save(junit_file, to_junit(results))


def save(file: Path, text: str) -> None:
    """Write a report, of which nobody ever sees half.

    Raises:
        UsageError: it can't be written.
    """
    try:
        write_bytes(file, text.encode())
    except OSError as error:
        raise UsageError(f"{file}: expected a place to write to, got: {error.strerror}") from None


def to_json(results: Results) -> str:
    """All results. Infinite numbers are the strings "inf" and "-inf", which JSON itself lacks."""
    document = {
        "format": FORMAT,
        "version": VERSION,
        "conforms": results.conforms,
        "seconds": round(results.seconds, 3),
        "environment": results.environment,
        "engines": {
            name: {**asdict(results.summary(name)), "conforms": results.summary(name).conforms}
            for name in results.engines
        },
        "cases": [{**asdict(case), "verdict": case.verdict, "command": case.command} for case in results.cases],
    }
    return json.dumps(plain(document), indent=1, allow_nan=False) + "\n"


def to_junit(results: Results) -> str:
    """A test suite for each engine, a test case for each case, family and dtype."""
    from junitparser import Failure, JUnitXml, Skipped, TestCase, TestSuite

    document = JUnitXml("parity")
    for engine in results.engines:
        suite = TestSuite(engine)
        for case in results.of(engine):
            test = TestCase(
                f"{case.case} ({case.family}, {case.dtype})",
                classname=f"parity.{engine}.{case.group}",
                time=case.seconds,
            )
            if case.profile:
                test.system_out = f"profile: {case.profile}"
            if case.unsupported:
                test.result = [Skipped(f"unsupported: {case.unsupported}")]
            elif case.verdict == "blind":
                blind = "; ".join(f"{v.name}: {v.reason}" for v in case.verdicts if v.verdict == "blind")
                test.result = [Skipped(f"blind: {blind}")]
            elif case.finding:
                test.result = [Skipped(f"known finding: {case.finding}; {_failure(case)}")]
            elif not case.conforms:
                failure = Failure(_failure(case))
                failure.text = "\n".join([*case.traceback.splitlines(), f"this record alone: {case.command}"])
                test.result = [failure]
            suite.add_testcase(test)
        document.add_testsuite(suite)
    document.update_statistics()
    text = document.tostring()
    return text.decode() if isinstance(text, bytes) else str(text)


def _failure(case: CaseResult) -> str:
    reasons = [f"{v.name}: {v.reason}" for v in case.verdicts if not v.ok]
    return "; ".join([*reasons, *(f"consistent with: {d}" for d in case.diagnosis)])
