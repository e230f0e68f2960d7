import pytest

from parity.example import content, findings, runs
from parity.example import kept as certified
from parity.example.network import BUG


@pytest.fixture(scope="session")
def kept():
    return certified.load()


@pytest.fixture(scope="session")
def refnet_run():
    return runs.train("refnet", "float64")


@pytest.fixture(scope="session")
def bug_run():
    return runs.train("refnet", "float64", BUG)


@pytest.fixture(scope="session")
def gathered(kept, refnet_run, bug_run):
    """What `content.gather` gives where torch is not installed."""
    return content.Content(
        kept,
        "float64",
        {"refnet": refnet_run},
        {"torch": "torch is not installed"},
        bug_run,
        findings.findings(kept),
        findings.words(kept),
        content.rule_of_signs(kept),
    )
