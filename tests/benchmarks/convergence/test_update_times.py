"""The cost model on times made by a formula, and the trainings that are timed. No figure here hangs on a clock."""

import math

import numpy as np
import pytest
import torch

import refnet
from benchmarks.convergence import update_times
from benchmarks.convergence.arms import Arm
from benchmarks.convergence.problems import load
from benchmarks.convergence.update_times import Timing

SIZES = [1, 2, 4, 8, 16, 32, 64, 100]


def timings(microseconds, problem="line", engine="refnet"):
    return [Timing(problem, engine, n, microseconds(n), 0.0, 0.0) for n in SIZES]


def test_cost_of_exact_times_is_their_formula():
    (cost,) = update_times.costs(timings(lambda n: 12 + 0.375 * n))
    assert (cost.overhead_us, cost.per_sample_us) == pytest.approx((12, 0.375), rel=1e-12)
    assert cost.overtakes_at == pytest.approx(32, rel=1e-12)
    assert cost.worst_residual < 1e-12


def test_cost_is_that_of_drawn_batches():
    (cost,) = update_times.costs(reversed(timings(lambda n: 12 + 0.375 * n if n < SIZES[-1] else 1)))
    assert (cost.overhead_us, cost.per_sample_us) == pytest.approx((12, 0.375), rel=1e-12)
    assert cost.worst_residual < 1e-12


def test_prices_are_the_times_measured_and_in_between():
    prices = update_times.Prices(timings(lambda n: 12 + 0.375 * n if n < SIZES[-1] else 1))
    assert prices("line", "refnet", 8) == pytest.approx(15e-6)
    assert prices("line", "refnet", 20) == pytest.approx(19.5e-6)
    assert prices("line", "refnet", SIZES[-1]) == pytest.approx(1e-6)
    assert prices("line", "refnet", SIZES[-1] - 1) == prices("line", "refnet", SIZES[-2])
    assert math.isnan(prices("line", "torch", 8))
    assert math.isnan(update_times.Prices(timings(float)[-1:])("line", "refnet", 8))


def test_cost_weighs_relative_errors():
    noise = dict(zip(SIZES, np.random.default_rng(0).uniform(-0.05, 0.05, len(SIZES)), strict=True))
    times = timings(lambda n: (1 + 10 * n) * (1 + noise[n]))
    (cost,) = update_times.costs(times)
    drawn = times[:-1]

    def error(overhead, per_sample):
        return sum((overhead / t.microseconds + per_sample * t.batch_size / t.microseconds - 1) ** 2 for t in drawn)

    least = error(cost.overhead_us, cost.per_sample_us)
    for a, b in ((1.01, 1), (0.99, 1), (1, 1.01), (1, 0.99)):
        assert error(a * cost.overhead_us, b * cost.per_sample_us) > least
    residuals = [(cost.overhead_us + t.batch_size * cost.per_sample_us) / t.microseconds - 1 for t in drawn]
    worst = max(map(abs, residuals))
    assert cost.worst_residual == pytest.approx(worst)


def test_no_part_of_a_cost_is_negative():
    (falling,) = update_times.costs(timings(lambda n: 100 - 0.5 * n))
    assert (falling.per_sample_us, falling.overtakes_at) == (0, math.inf)
    (steep,) = update_times.costs(timings(lambda n: n**1.5))
    assert steep.overhead_us == 0 == steep.overtakes_at


def test_costs_of_each_problem_and_engine():
    pairs = [("xor", "torch"), ("line", "refnet"), ("xor", "refnet")]
    costs = update_times.costs([t for k, pair in enumerate(pairs) for t in timings(lambda n, k=k: k + 1.0 + n, *pair)])
    assert [(cost.problem, cost.engine) for cost in costs] == pairs
    assert [cost.overhead_us for cost in costs] == pytest.approx([1, 2, 3])
    assert update_times.costs([]) == []


def test_a_time_lost_in_noise_is_not_used():
    (cost,) = update_times.costs(timings(lambda n: 12 + 0.375 * n if n > 1 else math.nan))
    assert (cost.overhead_us, cost.per_sample_us) == pytest.approx((12, 0.375), rel=1e-12)
    (cost,) = update_times.costs(timings(lambda n: 12.0 if n == 4 else math.nan))
    assert math.isnan(cost.overhead_us)
    assert math.isnan(cost.worst_residual)
    prices = update_times.Prices(timings(lambda n: 12 + 0.375 * n if n > 1 else math.nan))
    assert math.isnan(prices("line", "refnet", 1))
    assert prices("line", "refnet", 2) == pytest.approx(12.75e-6)


def test_measure_says_what_was_lost_in_noise(monkeypatch):
    clock = [0.0]

    def train(updates):
        clock[0] += 5 if updates == update_times.WARM else 4

    monkeypatch.setattr(update_times, "_training", lambda *_: train)
    monkeypatch.setattr(update_times.time, "perf_counter", lambda: clock[0])
    assert all(math.isnan(row.microseconds) and math.isnan(row.low) for row in update_times.measure("xor", rounds=3))


def test_measure_takes_setting_up_out(monkeypatch):
    clock, calls = [0.0], []

    def training(engine, problem, arm):
        n = arm.batch_size or len(problem.train_inputs)

        def train(updates):
            calls.append((engine, arm.batch_size, updates))
            # Every third training is disturbed.
            clock[0] += 3 + updates * (5 + n) * 1e-6 + (7 if len(calls) % 27 == 0 else 0)

        return train

    monkeypatch.setattr(update_times, "_training", training)
    monkeypatch.setattr(update_times.time, "perf_counter", lambda: clock[0])
    rows = update_times.measure("iris", rounds=5)
    sizes = [1, 2, 4, 8, 16, 32, 64, 120]
    assert [(row.engine, row.batch_size) for row in rows] == [(e, n) for e in ("refnet", "torch") for n in sizes]
    for row in rows:
        assert row.problem == "iris"
        assert row.microseconds == pytest.approx(5 + row.batch_size, rel=1e-3)
        assert row.low <= row.microseconds <= row.high
    # One after the other in every round, and each training at least as long as what it is compared with.
    order = [call[:2] for call in calls[-32:]]
    assert order == [(e, n) for e in ("refnet", "torch") for n in [*sizes[:-1], None] for _ in range(2)]
    assert all(updates >= update_times.WARM for *_, updates in calls)
    assert all(updates >= 2 * update_times.WARM for *_, updates in calls[-32::2])


@pytest.mark.parametrize("size", [None, 8, 1])
def test_the_trainings_train(size, monkeypatch):
    problem, losses = load("line"), []
    fit, forward = refnet.fit, torch.nn.MSELoss.forward

    def counted(*args, **options):
        history = fit(*args, **options)
        losses.extend(history.loss)
        return history

    monkeypatch.setattr(refnet, "fit", counted)
    update_times._training("refnet", problem, Arm(size))(150)
    own = np.array(losses)
    losses.clear()

    def seen(self, output, target):
        loss = forward(self, output, target)
        losses.append(loss.item())
        return loss

    # torch from its own initial weights: equal updates in number, on batches of the same samples.
    monkeypatch.setattr(torch.nn.MSELoss, "forward", seen)
    update_times._training("torch", problem, Arm(size))(150)
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
