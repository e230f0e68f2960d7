"""The pytest plugin: a fixture `parity`, and the options of the conformance tests (`parity.conformance`)."""

from __future__ import annotations

import json
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

KEY = "parity_report"
"""Under this name a report travels with its test, from a worker of pytest-xdist too."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("parity", "gradients and updates against certified truth")
    group.addoption("--parity-seed", type=int, default=0, help="Seed of random upstream gradients. [default: 0]")
    group.addoption("--parity-json", metavar="FILE", help="Write the reports of all checks as JSON.")
    group.addoption("--parity-engine", metavar="NAME", help="The engine that parity.conformance tests.")
    group.addoption("--parity-skips", metavar="FILE", help="Records that parity.conformance skips, one in a line.")
    group.addoption("--parity-xfails", metavar="FILE", help="Records that are known to fail; one that passes fails.")


def pytest_configure(config: pytest.Config) -> None:
    file = config.getoption("--parity-json")
    if file and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Reports(Path(file)), "parity reports")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Under a failing test its bad reports in full: pytest cuts a long message of an assertion."""
    found = yield
    module = sys.modules.get("parity.report.report")
    if call.excinfo is not None and module is not None:
        seen = [entry.frame.f_locals.values() for entry in call.excinfo.traceback]
        reports = {id(v): v for values in seen for v in values if isinstance(v, module.Report) and not v.ok}
        found.sections += [("parity", str(report)) for report in reports.values()]
    return found


class Reports:
    """Collects the reports of all tests, and writes them at the end."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.found: list[dict[str, Any]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call":
            own = [json.loads(str(text)) for name, text in report.user_properties if name == KEY]
            self.found += [{"test": report.nodeid, **one} for one in own]

    def pytest_sessionfinish(self) -> None:
        from refnet.files import write_bytes

        document = {"format": "parity-test-reports", "version": 1, "reports": self.found}
        write_bytes(self.file, (json.dumps(document, indent=1) + "\n").encode())


class Bound:
    """The module parity, with the seed of this run and its reports kept."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._request = request

    def __getattr__(self, name: str) -> Any:
        import parity

        return getattr(parity, name)

    def check(self, *args: Any, **options: Any) -> Any:
        """`parity.check`, from the seed of this run."""
        __tracebackhide__ = True
        return self._kept("check", args, self._seeded(options))

    def check_update(self, *args: Any, **options: Any) -> Any:
        """`parity.check_update`, from the seed of this run."""
        __tracebackhide__ = True
        return self._kept("check_update", args, self._seeded(options))

    def check_data_parallel(self, *args: Any, **options: Any) -> Any:
        """`parity.check_data_parallel`."""
        __tracebackhide__ = True
        return self._kept("check_data_parallel", args, options)

    def _seeded(self, options: dict[str, Any]) -> dict[str, Any]:
        return {"seed": self._request.config.getoption("--parity-seed"), **options}

    def _kept(self, name: str, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """The report, kept with the test. What a call lacks is said at the test's own line, not in parity's source."""
        __tracebackhide__ = True
        import parity

        try:
            report = getattr(parity, name)(*args, **options)
        except parity.UsageError as error:
            raise error.with_traceback(None) from None
        self._request.node.user_properties.append((KEY, report.to_json()))
        return report


@pytest.fixture(name="parity")
def parity_fixture(request: pytest.FixtureRequest) -> Bound:
    """Every public name of the module parity; what its checks say is kept for --parity-json."""
    return Bound(request)
