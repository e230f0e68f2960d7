"""python -m benchmarks profile: every call of an update is told, by what it is."""

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.speed import update_profile
from benchmarks.speed.networks import NETWORKS

pytest.importorskip("llvmlite")


@pytest.fixture
def _short(monkeypatch):
    monkeypatch.setattr(update_profile, "TURN", 1e-5)
    monkeypatch.setattr(update_profile, "STUDY", 20)


@pytest.mark.usefixtures("_short")
def test_every_call_is_told():
    machine = update_profile.machine_of(next(network for network in NETWORKS if network.name == "2-2-2"))
    found = update_profile.lines(machine)
    assert len(found) == len(machine.table)
    called = [line.called for line in found]
    # Two layers with a sigmoid; the forward products of one sample go to the library.
    assert called.count("NumPy's exp") == 2
    assert called.count("NumPy's matmul") >= 2
    assert "another loop" not in called
    assert called[-1] == "loss"
    assert all(line.microseconds > 0 for line in found)


@pytest.mark.usefixtures("_short")
def test_a_line_again_and_again_does_what_it_does():
    """All lines, n times, are n updates."""
    network = next(network for network in NETWORKS if network.name == "16x2-2-2")
    one, other = (update_profile.machine_of(network) for _ in range(2))
    one.run(5)
    other.repeat(other.table, 5)
    np.testing.assert_array_equal(one.run(1), other.run(1))


@pytest.mark.usefixtures("_short")
def test_the_command():
    done = CliRunner().invoke(update_profile.profile, ["-k", "2-2-2", "--beside", "refnet-plain"])
    assert done.exit_code == 0, done.output
    assert "NumPy's exp" in done.output
    assert "refnet-captured, in a call of 20" in done.output
    assert "of refnet's" in done.output
    for wrong in (["-k", "nothing"], ["--beside", "nobody"]):
        done = CliRunner().invoke(update_profile.profile, wrong)
        assert done.exit_code == 2
        assert "expected one of" in done.output
