"""python -m benchmarks slower: what it tries, and that a slower training is named."""

from click.testing import CliRunner

from benchmarks import never_slower
from benchmarks.never_slower import NETWORKS, WAYS, slower


def test_every_situation_is_a_training():
    for network in NETWORKS:
        assert never_slower.seconds(network, "as it is", 2, capture=True) > 0


def test_a_slower_training_is_named(monkeypatch):
    times = {False: 1.0, True: 1.14}
    monkeypatch.setattr(never_slower, "seconds", lambda network, way, updates, capture: times[capture])
    done = CliRunner().invoke(slower, ["-k", "LSTM", "--most", "10"])
    assert done.exit_code == 0
    assert "0 slower" in done.output
    times[True] = 1.16
    done = CliRunner().invoke(slower, ["-k", "LSTM", "--most", "10"])
    assert done.exit_code == 1
    assert done.output.count("SLOWER") == 2 * len(WAYS)
    done = CliRunner().invoke(slower, ["-k", "GRU"])
    assert done.exit_code == 2
    assert "expected a part of" in done.output
