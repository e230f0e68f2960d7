"""Turns, rounds and ratios, on contenders that cost what they are told to."""

import numpy as np
import pytest

from benchmarks.speed import timed_rounds
from benchmarks.speed.contenders import Contender, Training
from benchmarks.speed.networks import perceptron
from benchmarks.speed.timed_rounds import Entry, Outcome

NETWORK = perceptron(3, 4, 2, batch=2)


class Clock:
    """Time that passes when somebody works."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now

    process_time = perf_counter


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(timed_rounds, "time", clock)
    return clock


def entry(clock, name="one", call=0.0, step=1e-3, least=1, log=None, fails_after=None):
    calls = []

    def run(steps):
        calls.append(steps)
        if fails_after is not None and len(calls) > fails_after:
            raise RuntimeError("out of memory")
        if log is not None:
            log.append(name)
        clock.now += call + steps * step
        return 0.0

    return Entry(Contender(name, "none", "", ""), NETWORK, Training(run, dict, least), set_up=0.0)


@pytest.mark.parametrize(
    ("call", "step", "least", "steps"),
    [
        (0.0, 1e-3, 1, 40),
        (0.0, 0.025, 1, 2),
        (0.0, 0.2, 1, 1),
        (0.0, 1e-7, 1, 400_000),
        (1e-4, 1e-3, 1, 40),
        (0.01, 1e-3, 1, 190),
        (0.01, 1e-3, 101, 190),
        (0.01, 1e-4, 1, 1_900),
        (0.01, 1e-5, 1, 10_000),
        (0.2, 1e-3, 101, 1_000),
        (0.0, 0.025, 101, 101),
    ],
)
def test_steps_of_a_turn(clock, call, step, least, steps):
    made = entry(clock, call=call, step=step, least=least)
    timed_rounds._settle(made, 0.04)
    assert made.steps == pytest.approx(steps, rel=0.001, abs=1)
    if made.steps > least:
        assert made.call == pytest.approx(call, abs=1e-6)


def test_every_round_visits_everyone_once_in_a_rotating_order(clock):
    log = []
    entries = [entry(clock, name, log=log) for name in "abcd"]
    timed_rounds.race(entries, 5)
    rounds = ["".join(log[k : k + 4]) for k in range(0, len(log), 4)]
    assert rounds == ["cdab", "dabc", "abcd", "bcda", "cdab", "dabc", "abcd"]
    assert [len(made.wall) for made in entries] == [5] * 4


def test_figures_are_of_a_step(clock):
    made = entry(clock, call=0.01, step=1e-3)
    made.steps = 100
    timed_rounds.race([made], 3)
    outcome = made.outcome()
    np.testing.assert_allclose(outcome.seconds, [0.11 / 100] * 3)
    assert outcome.median == pytest.approx(0.0011)
    assert outcome.cores == pytest.approx(1)
    assert outcome.warm_up == pytest.approx(0.22)


def test_what_fails_in_its_turn_leaves_the_others(clock):
    sound, failing = entry(clock, "sound"), entry(clock, "failing", fails_after=4)
    timed_rounds.race([failing, sound], 5)
    assert sound.outcome().status == "measured"
    assert len(sound.outcome().seconds) == 5
    outcome = failing.outcome()
    assert (outcome.status, outcome.reason) == ("unsupported", "RuntimeError: out of memory")
    assert not outcome.seconds.size
    assert np.isnan(outcome.median)


def test_ratios_are_taken_within_a_round():
    one = Contender("one", "none", "", "")
    over = Outcome(one, NETWORK, "measured", seconds=np.array([2.0, 40.0, 6.0]))
    under = Outcome(one, NETWORK, "measured", seconds=np.array([1.0, 10.0, 3.0]))
    np.testing.assert_array_equal(timed_rounds.ratios(over, under), [2, 4, 2])
    assert timed_rounds.ratios(over, Outcome(one, NETWORK, "unsupported", "no")).size == 0


def test_only_those_who_take_the_network():
    told = []
    one = Contender("one", "none", "nowhere:none", "", many=False)
    many = Contender("many", "none", "nowhere:none", "", one=False, many=True)
    (outcome,) = timed_rounds.contest([one, many], NETWORK, 3, told=told.append)
    assert outcome.contender is one
    assert outcome.status == "unsupported"
    assert told == ["3-4-2: one starts", "3-4-2: rounds"]
