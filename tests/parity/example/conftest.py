import pytest

from parity.example import certified_example as certified
from parity.example import content, engine_runs, provenance
from parity.example.perceptron import BUG


@pytest.fixture(scope="session")
def kept():
    return certified.load()


@pytest.fixture(scope="session")
def refnet_run():
    return engine_runs.train("refnet", "float64")


@pytest.fixture(scope="session")
def bug_run():
    return engine_runs.train("refnet", "float64", BUG)


@pytest.fixture(scope="session")
def gathered(kept, refnet_run, bug_run):
    """What `content.gather` gives where torch is not installed."""
    return content.Content(
        kept,
        "float64",
        {"refnet": refnet_run},
        {"torch": "torch is not installed"},
        bug_run,
        provenance.findings(kept),
        provenance.words(kept),
        content.rule_of_signs(kept),
    )
