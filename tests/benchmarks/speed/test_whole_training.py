"""Whole trainings: processes of their own, what is made of their times, and what is not published."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.speed import initial_state, whole_training
from benchmarks.speed.networks import NETWORKS, perceptron
from benchmarks.speed.thread_limits import limited
from benchmarks.speed.whole_training import Lap, WholeTraining

NETWORK = NETWORKS[0]
UPDATES = 150


@pytest.fixture(scope="module")
def measured():
    names = ("refnet-captured", "torch-eager")
    with limited(1):
        return whole_training.measure([NETWORK], names, rounds=1, updates=UPDATES)


def test_every_contender_trains_in_a_process_of_its_own_and_to_the_same_loss(measured):
    losses = [one.loss for one in measured]
    assert losses == pytest.approx([losses[0]] * 2, rel=1e-9)
    for one in measured:
        assert one.updates == UPDATES
        assert len(one.fresh) == len(one.loaded) == 1
        assert 0 < one.loaded[0] < one.fresh[0]
        assert one.again[0] > 0


def test_the_loss_is_that_of_the_updates(measured):
    from benchmarks.speed.contenders.on_refnet import lone

    assert measured[0].loss == lone(NETWORK, capture=False).run(UPDATES)


def test_a_process_that_fails_says_why(tmp_path):
    state = tmp_path / "state.npz"
    initial_state.write(NETWORK, state)
    assert "unpack" in whole_training._lap("no-such-contender", NETWORK, 1, state)


def test_a_state_that_is_given_is_taken_and_no_other(tmp_path, monkeypatch):
    network = perceptron(3, 5, 2, batch=2)
    initial_state.write(network, tmp_path / "state.npz")
    expected = initial_state.start(network), initial_state.data(network)
    monkeypatch.setattr(initial_state, "_given", {})
    initial_state.start.cache_clear()
    initial_state.data.cache_clear()
    initial_state.give(network, tmp_path / "state.npz")
    monkeypatch.setattr(initial_state, "refnet_network", None)
    for name, W in initial_state.start(network).items():
        np.testing.assert_array_equal(W, expected[0][name])
    for mine, other in zip(initial_state.data(network), expected[1], strict=True):
        np.testing.assert_array_equal(mine, other)
    initial_state.start.cache_clear()
    initial_state.data.cache_clear()


LAPS = [Lap(3.0, 2.0, 1.0, 0.98, 0.25), Lap(5.0, 4.0, 1.5, 0.97, 0.25), Lap(4.0, 3.0, 1.0, 0.99, 0.25)]


def test_times_of_a_machine_that_was_busy_are_not_published():
    quiet = whole_training._summed("jax-loop", NETWORK, 10, LAPS)
    assert quiet.measured
    assert quiet.fresh.tolist() == [3.0, 5.0, 4.0]
    assert quiet.loaded.tolist() == [2.0, 4.0, 3.0]
    busy = whole_training._summed("jax-loop", NETWORK, 10, [replace(lap, cores=0.6) for lap in LAPS])
    assert not busy.measured
    assert busy.reason == "other programs kept the machine busy: 0.60 of a core"


def test_one_failure_is_enough():
    failed = whole_training._summed("jax-loop", NETWORK, 10, [*LAPS, "ImportError: no jax"])
    assert (failed.measured, failed.reason) == (False, "ImportError: no jax")


def of_loss(name, loss):
    return WholeTraining(name, NETWORK, 10, fresh=np.ones(3), loaded=np.ones(3), cores=1.0, loss=loss)


@pytest.mark.parametrize(("factor", "published"), [(1 + 1e-8, True), (1 + 1e-5, False), (float("nan"), False)])
def test_another_loss_is_not_comparable(factor, published):
    found = whole_training._compared([of_loss("torch-eager", 0.5 * factor), of_loss("refnet-captured", 0.5)])
    assert [one.measured for one in found] == [published, True]
    assert published or "not comparable" in found[0].reason
