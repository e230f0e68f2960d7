"""The cost model on times made by a formula, and the trainings that are timed. No figure here hangs on a clock."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import refnet
from benchmarks.convergence import update_times
from benchmarks.convergence.arms import arms
from benchmarks.convergence.problems import load
from benchmarks.convergence.update_times import Lap, Timing

SIZES = [1, 2, 4, 8, 16, 32, 64, 100]


def timings(microseconds, problem="line", engine="refnet"):
    return [Timing(problem, engine, n, False, microseconds(n), 0.0, 0.0, 1.0) for n in SIZES]


def test_cost_of_exact_times_is_their_formula():
    (cost,) = update_times.costs(reversed(timings(lambda n: 12 + 0.375 * n)))
    assert (cost.overhead_us, cost.per_sample_us) == pytest.approx((12, 0.375), rel=1e-12)
    assert cost.overtakes_at == pytest.approx(32, rel=1e-12)
    assert cost.worst_residual < 1e-12
    assert not cost.unmeasured


def test_cost_is_that_of_given_batches():
    drawn = [Timing("line", "refnet", n, True, 1e3, 1e3, 1e3, 1.0) for n in SIZES]
    (cost,) = update_times.costs([*drawn, *timings(lambda n: 12 + 0.375 * n)])
    assert (cost.overhead_us, cost.per_sample_us) == pytest.approx((12, 0.375), rel=1e-12)


def test_prices_are_the_times_measured_and_no_others():
    drawn = [Timing("line", "refnet", n, True, 10.0 * n, 0.0, 0.0, 1.0) for n in (8, 16)]
    prices = update_times.Prices([*drawn, *timings(lambda n: 12 + 0.375 * n)])
    assert prices("line", "refnet", 8) == pytest.approx(80e-6)
    assert prices("line", "refnet", None) == pytest.approx(49.5e-6)
    # Given batches are nobody's price, and nothing is guessed in between.
    for size in (4, 12):
        assert math.isnan(prices("line", "refnet", size))
    assert math.isnan(prices("line", "torch", 8))


def test_cost_weighs_relative_errors():
    noise = dict(zip(SIZES, np.random.default_rng(0).uniform(-0.05, 0.05, len(SIZES)), strict=True))
    times = timings(lambda n: (1 + 10 * n) * (1 + noise[n]))
    (cost,) = update_times.costs(times)

    def error(overhead, per_sample):
        return sum((overhead / t.microseconds + per_sample * t.batch_size / t.microseconds - 1) ** 2 for t in times)

    least = error(cost.overhead_us, cost.per_sample_us)
    for a, b in ((1.01, 1), (0.99, 1), (1, 1.01), (1, 0.99)):
        assert error(a * cost.overhead_us, b * cost.per_sample_us) > least
    residuals = [(cost.overhead_us + t.batch_size * cost.per_sample_us) / t.microseconds - 1 for t in times]
    assert cost.worst_residual == pytest.approx(max(map(abs, residuals)))


def test_a_formula_that_does_not_fit_is_none():
    (bent,) = update_times.costs(timings(lambda n: 1.0 if n < 8 else 50 + n))
    assert bent.unmeasured.startswith(
        "no sum of an overhead and a cost a sample describes the times: the nearest is off"
    )
    assert bent.worst_residual > update_times.RESIDUAL
    assert all(math.isnan(value) for value in (bent.overhead_us, bent.per_sample_us, bent.overtakes_at))


def test_no_part_of_a_cost_is_negative():
    (falling,) = update_times.costs(timings(lambda n: 100 - 0.1 * n))
    assert (falling.per_sample_us, falling.overtakes_at) == (0, math.inf)
    (steep,) = update_times.costs(timings(lambda n: n**1.05))
    assert steep.overhead_us == 0 == steep.overtakes_at


def test_costs_of_each_problem_and_engine():
    pairs = [("xor", "torch"), ("line", "refnet"), ("xor", "refnet")]
    costs = update_times.costs([t for k, pair in enumerate(pairs) for t in timings(lambda n, k=k: k + 1.0 + n, *pair)])
    assert [(cost.problem, cost.engine) for cost in costs] == pairs
    assert [cost.overhead_us for cost in costs] == pytest.approx([1, 2, 3])
    assert update_times.costs([]) == []


def lost(timing):
    return replace(timing, microseconds=math.nan, unmeasured="lost")


def test_times_that_are_not_known_are_not_used_and_most_must_be():
    times = timings(lambda n: 12 + 0.375 * n)
    (cost,) = update_times.costs([lost(times[0]), *times[1:]])
    assert (cost.overhead_us, cost.per_sample_us) == pytest.approx((12, 0.375), rel=1e-12)
    (cost,) = update_times.costs([*map(lost, times[:5]), *times[5:]])
    assert cost.unmeasured == "of 8 times on given batches 3 could be measured, too few for a formula"
    assert math.isnan(cost.overhead_us)


@pytest.mark.parametrize(
    ("seconds", "cores", "why"),
    [
        ([1e-6, 1e-6, 1e-6, 1.1e-6, 0.9e-6], 1.0, ""),
        ([1e-6] * 5, 0.89, "other programs kept the machine busy: 0.89 of a core"),
        ([1e-6, 1e-6, 1e-6, -1e-6, -1e-6], 1.0, "lost in the noise of the clock"),
        ([0.0] * 5, 1.0, "lost in the noise of the clock"),
        ([1e-6, 1e-6, 1e-6, 1.6e-6, 1.6e-6], 1.0, "the rounds do not agree: "),
        # One round that was disturbed does no harm.
        ([1e-6, 1e-6, 1e-6, 1e-6, 1e-6, 1e-6, 9e-6], 1.0, ""),
    ],
)
def test_a_time_is_published_only_if_it_was_measured_well(seconds, cores, why):
    timing = update_times.judged("line", "refnet", 4, True, [Lap(s, cores) for s in seconds])
    assert timing.unmeasured.startswith(why)
    assert bool(timing.unmeasured) == bool(why)
    numbers = (timing.microseconds, timing.low, timing.high)
    if why:
        assert all(map(math.isnan, numbers))
    else:
        assert timing.low <= timing.microseconds <= timing.high
        assert timing.microseconds == pytest.approx(1)
    assert timing.cores == cores


def test_times_are_those_of_the_updates_alone(monkeypatch):
    """A training that costs 3 s, and 5 us an update and 1 us a sample of it: only the latter is measured."""
    clock, calls = [0.0], []

    def training(engine, problem, size, drawn):
        def train(updates):
            calls.append((engine, size, drawn, updates))
            # Disturbed for 7 s now and then, which a median does not see.
            clock[0] += 3 + updates * (5 + size + 2 * drawn) * 1e-6 + (7 if len(calls) % 97 == 0 else 0)

        return train

    monkeypatch.setattr(update_times, "_training", training)
    monkeypatch.setattr(update_times.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(update_times.time, "process_time", lambda: clock[0])
    rows = update_times.measure("iris", rounds=7)
    what = [*((n, True) for n in (1, 2, 4, 8, 16, 32, 64)), *((n, False) for n in (1, 2, 4, 8, 16, 32, 64, 120))]
    assert [(row.engine, row.batch_size, row.drawn) for row in rows] == [
        (e, n, drawn) for e in ("refnet", "torch") for n, drawn in what
    ]
    for row in rows:
        assert row.problem == "iris"
        assert row.microseconds == pytest.approx(5 + row.batch_size + 2 * row.drawn, rel=1e-3)
        assert row.low <= row.microseconds <= row.high
        assert row.cores == pytest.approx(1)
        assert not row.unmeasured
    # One after the other in every round, and each training at least as long as what it is compared with.
    order = [call[:3] for call in calls[-4 * len(what) :]]
    assert order == [(e, n, drawn) for e in ("refnet", "torch") for n, drawn in what for _ in range(2)]
    assert all(updates >= update_times.WARM for *_, updates in calls)
    assert all(updates >= 2 * update_times.WARM for *_, updates in calls[-4 * len(what) :: 2])


def test_every_size_of_batch_that_an_arm_has_is_timed(monkeypatch):
    monkeypatch.setattr(update_times, "_length", lambda train, seconds: 1)
    monkeypatch.setattr(update_times, "_an_update", lambda train, updates: Lap(1.0, 1.0))
    for name in ("line", "xor", "iris"):
        timed = {(row.batch_size, row.drawn) for row in update_times.measure(name, rounds=3, engines=["refnet"])}
        n = len(load(name).train_inputs)
        assert {(arm.batch_size or n, arm.batch_size is not None) for arm in arms(load(name), "full")} <= timed


@pytest.mark.parametrize("size", [None, 8, 1])
def test_the_trainings_train(size, monkeypatch):
    problem, losses = load("line"), []
    fit, forward = refnet.fit, torch.nn.MSELoss.forward

    def counted(*args, **options):
        history = fit(*args, **options)
        losses.extend(history.loss)
        return history

    monkeypatch.setattr(refnet, "fit", counted)
    update_times._training("refnet", problem, size or 100, size is not None)(150)
    own = np.array(losses)
    losses.clear()

    def seen(self, output, target):
        loss = forward(self, output, target)
        losses.append(loss.item())
        return loss

    # torch from its own initial weights: equal updates in number, on batches of the same samples.
    monkeypatch.setattr(torch.nn.MSELoss, "forward", seen)
    update_times._training("torch", problem, size or 100, size is not None)(150)
    assert len(own) == len(losses) == 150
    assert np.isfinite(own).all()
    assert np.isfinite(losses).all()


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="engines among refnet, torch, got jax"):
        update_times.measure("xor", engines=["refnet", "jax"])
    with pytest.raises(ValueError, match="at least 3 rounds, got 2"):
        update_times.measure("xor", rounds=2)
    with pytest.raises(ValueError, match="expected a problem among"):
        update_times.measure("nothing")
