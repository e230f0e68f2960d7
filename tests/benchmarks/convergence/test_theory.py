"""Theory against torch, against enumeration, and against what refnet's own trainings do."""

import math
from fractions import Fraction
from itertools import combinations, product

import mpmath
import numpy as np
import pytest
import torch

import refnet
from benchmarks.convergence import theory
from benchmarks.convergence.arms import Arm
from benchmarks.convergence.cells import start
from benchmarks.convergence.problems import load

Z = 4.5
"""Standard errors that none of some hundred correct estimates is off by (a chance of 7e-6 each)."""


def off(rows):
    """By how many standard errors each estimate of `moments` differs from theory, where both can differ at all."""
    rows = [row for row in rows if row.update]
    return [(row.mean - row.exact_mean) / row.mean_error for row in rows] + [
        (row.sd - row.exact_sd) / row.sd_error for row in rows
    ]


@pytest.mark.parametrize("name", ["line", "xor", "iris", "digits"])
def test_batch_gradients_are_torchs(name):
    problem = load(name)
    net = start(problem, 3)[0]
    batches = np.random.default_rng(0).integers(0, len(problem.train_inputs), (5, 3))
    twin, loss = problem.torch_network(), problem.torch_loss()
    twin.load_state_dict({key: torch.tensor(P) for key, P in net.params.items()})
    for batch, own in zip(batches, theory.batch_gradients(problem, net, batches), strict=True):
        twin.zero_grad()
        loss(twin(torch.tensor(problem.train_inputs[batch])), torch.tensor(problem.train_targets[batch])).backward()
        theirs = np.concatenate([p.grad.numpy().ravel() for p in twin.parameters()])
        assert own == pytest.approx(theirs, rel=1e-10, abs=1e-14)


def test_batch_gradients_in_chunks_are_the_same(monkeypatch):
    problem = load("iris")
    net, generator = start(problem, 0)
    batches = np.stack([generator.randperm(120)[:7] for _ in range(10)])
    whole = theory.batch_gradients(problem, net, batches)
    monkeypatch.setattr(theory, "ELEMENTS", 7 * 8 * 3)
    assert np.array_equal(theory.batch_gradients(problem, net, batches), whole)


@pytest.mark.parametrize("n", [1, 2, 4])
def test_variance_over_all_batches_is_the_formula(n):
    problem = load("xor")
    net = start(problem, 0)[0]
    full = theory.batch_gradients(problem, net, np.arange(4)[None])
    every = np.array(list(combinations(range(4), n)))
    distances = np.square(theory.batch_gradients(problem, net, every) - full).sum(axis=1)
    predicted = {row.batch_size: row.predicted for row in reversed(theory.gradient_variance("xor", draws=2, trained=1))}
    assert distances.mean() == pytest.approx(predicted[n], rel=1e-12, abs=1e-30)


def test_measured_variance_agrees_and_tells_the_finite_population():
    rows = theory.gradient_variance("line", draws=500, trained=200)
    assert [row.batch_size for row in rows] == 2 * [1, 2, 4, 8, 16, 32, 64, 100]
    assert [row.updates for row in rows] == 8 * [0] + 8 * [200]
    # Trained to the noise floor the full gradient is nearly zero, single samples' are not.
    assert all(row.predicted > 0.01 for row in rows if row.batch_size < 100)
    for row in rows:
        if row.batch_size == row.samples:
            assert row.predicted == 0
            assert row.measured < 1e-28
        else:
            assert abs(row.measured - row.predicted) < Z * row.standard_error
        if row.batch_size in (32, 64):
            with_replacement = row.predicted * (row.samples - 1) / (row.samples - row.batch_size)
            assert abs(row.measured - with_replacement) > Z * row.standard_error


@pytest.mark.parametrize("rates", [[0.25, 0.25, 0.25, 0.25], [0.5, 0.25, 0.125, 0.0625]])
def test_exact_moments_are_those_of_all_sequences(rates):
    inputs, targets = np.array([[0.5], [-1.0], [2.0]]), np.array([[1.0], [0.25], [-0.5]])
    first = np.array([0.75, -0.5])
    courses = []
    for sequence in product(range(3), repeat=4):
        net = refnet.nn.Sequential(refnet.nn.Linear(1, 1))
        net.load_state_dict({"0.weight": first[:1, None], "0.bias": first[1:]})
        opt = refnet.optim.SGD(net.params)
        course = [first]
        for i, rate in zip(sequence, rates, strict=True):
            opt.param_groups[0]["lr"] = rate
            sample = (inputs[i : i + 1], targets[i : i + 1])
            refnet.fit(net, refnet.nn.MSELoss(), opt, *sample, batch_size=None, iterations=1)
            course.append(np.concatenate([net.params["0.weight"][0], net.params["0.bias"]]))
        courses.append(course)
    values = np.array(courses)
    means, covariances = theory.exact_moments(inputs, targets, first, rates, range(5))
    assert means == pytest.approx(values.mean(axis=0), rel=1e-12)
    for k in range(5):
        assert covariances[k] == pytest.approx(np.cov(values[:, k].T, bias=True), rel=1e-11, abs=1e-15)


@pytest.mark.parametrize("schedule", ["constant", "decay"])
def test_moments_of_runs_agree_with_theory(schedule):
    rows = theory.moments(rate=2.0**-4, schedule=schedule, iterations=150, runs=300)
    assert {row.parameter for row in rows} == {"w", "b"}
    assert {row.update for row in rows} >= {0, 1, 100, 150}
    assert all(row.exact_sd == row.sd == row.sd_error == 0 for row in rows if row.update == 0)
    assert all(row.mean == pytest.approx(row.exact_mean, rel=1e-15) for row in rows if row.update == 0)
    assert max(map(abs, off(rows))) < Z
    # Estimates that never come near a standard error would be no estimates.
    assert np.std(off(rows)) > 0.3


def test_moments_tell_a_noise_that_is_a_little_other(monkeypatch):
    exact = theory.exact_moments

    def louder(inputs, targets, first, rates, updates):
        means, covariances = exact(inputs, targets, first, rates, updates)
        return means, 1.4 * covariances

    monkeypatch.setattr(theory, "exact_moments", louder)
    assert max(map(abs, off(theory.moments(rate=2.0**-4, iterations=150, runs=300)))) > Z


def test_standard_error_of_a_deviation():
    draws = np.random.default_rng(0).standard_normal((2_000, 50)) ** 3
    summaries = np.array([theory._mean_and_deviation(values) for values in draws])
    assert summaries[:, 0] == pytest.approx(draws.mean(axis=1), rel=1e-12)
    assert summaries[:, 1] == pytest.approx(draws.std(axis=1, ddof=1), rel=1e-12)
    normal = np.random.default_rng(1).standard_normal((2_000, 200))
    summaries = np.array([theory._mean_and_deviation(values) for values in normal])
    assert np.mean(summaries[:, 2]) == pytest.approx(np.std(summaries[:, 1]), rel=0.1)


def rational_hessian():
    """H of `line`, from its data as exact rationals."""
    x = [Fraction(float(value)) for value in load("line").train_inputs[:, 0]]
    return 2 * sum(v * v for v in x) / len(x), 2 * sum(x) / len(x), Fraction(2)


def test_stability_limit_is_certified():
    (row,) = theory.stability("line")
    with mpmath.workdps(60):
        a, b, c = (mpmath.mpf(entry.numerator) / entry.denominator for entry in rational_hessian())
        eigenvalue = max(mpmath.eigsy(mpmath.matrix([[a, b], [b, c]]), eigvals_only=True))
        assert row.eigenvalue_low < eigenvalue < row.eigenvalue_high
        assert row.limit_low < 2 / eigenvalue < row.limit_high
        assert row.eigenvalue == mpmath.nstr(eigenvalue, 30)
        assert row.limit == mpmath.nstr(2 / eigenvalue, 30)
    assert row.eigenvalue_high == math.nextafter(row.eigenvalue_low, math.inf)
    assert row.limit_high == math.nextafter(row.limit_low, math.inf)


@pytest.mark.parametrize(("factor", "converges"), [(0.99, True), (1.01, False)])
def test_batch_descent_converges_below_the_limit_alone(factor, converges):
    problem = load("line")
    (limit,), (surface,) = theory.stability("line"), theory.surface("line")
    net, _ = start(problem, 0)
    opt = refnet.optim.SGD(net.params, lr=factor * limit.limit_low)
    what = (net, problem.loss(), opt, problem.train_inputs, problem.train_targets)
    loss = refnet.fit(*what, batch_size=None, iterations=3_000).loss
    assert (loss[-1] < surface.cost + 1e-12) == converges
    assert (loss[-1] > 1e6) != converges


@pytest.mark.parametrize(("factor", "bounded"), [(0.98, True), (1.02, False)])
def test_covariance_stays_bounded_below_the_mean_square_limit_alone(factor, bounded):
    problem = load("line")
    data = (problem.train_inputs, problem.train_targets)
    rates = [factor * theory.mean_square_limit(*data)] * 2_000
    _, covariances = theory.exact_moments(*data, np.zeros(2), rates, [1_000, 2_000])
    growth = np.trace(covariances[1]) / np.trace(covariances[0])
    assert (growth < 1.001) == bounded


def test_surface_is_the_cost():
    problem = load("line")
    (surface,) = theory.surface("line")
    X = np.concatenate([problem.train_inputs, np.ones_like(problem.train_inputs)], axis=1)
    best = np.linalg.lstsq(X, problem.train_targets[:, 0])[0]
    assert [surface.w, surface.b] == pytest.approx(best, rel=1e-13)
    assert (surface.hessian_ww, surface.hessian_wb, surface.hessian_bb) == tuple(map(float, rational_hessian()))
    H = np.array([[surface.hessian_ww, surface.hessian_wb], [surface.hessian_wb, surface.hessian_bb]])
    for w, b in ((0.0, 0.0), (2.0, -1.0), (-3.0, 5.0)):
        net = problem.network(refnet.Generator(0))
        net.load_state_dict({"0.weight": np.array([[w]]), "0.bias": np.array([b])})
        value, _ = problem.loss().forward(net.forward(problem.train_inputs)[0], problem.train_targets)
        e = np.array([w - surface.w, b - surface.b])
        assert surface.cost + e @ H @ e / 2 == pytest.approx(float(value), rel=1e-13)


def test_bad_arguments_are_refused():
    for function in (theory.stability, theory.surface, lambda name: theory.moments(name, rate=0.1)):
        with pytest.raises(ValueError, match="straight line, got xor"):
            function("xor")
    with pytest.raises(ValueError, match="at least 2 runs, got 1"):
        theory.moments(rate=0.1, runs=1)
    with pytest.raises(ValueError, match="at least 2 draws, got 1"):
        theory.gradient_variance("xor", draws=1)
    with pytest.raises(ValueError, match="expected a problem among"):
        theory.gradient_variance("nothing")


def test_moments_start_every_run_alike_and_draw_with_replacement(monkeypatch):
    seen = {}
    exact = theory.exact_moments

    def exact_moments(inputs, targets, first, rates, updates):
        seen["rates"] = rates
        return exact(inputs, targets, first, rates, updates)

    def ensemble(nets, loss, opts, inputs, targets, **options):
        seen.update(options, nets=nets)
        raise InterruptedError

    monkeypatch.setattr(theory, "exact_moments", exact_moments)
    monkeypatch.setattr(refnet, "ensemble", ensemble)
    with pytest.raises(InterruptedError):
        theory.moments(rate=0.1, runs=3, iterations=10, schedule="decay")
    assert (seen["batch_size"], seen["shuffle"], seen["replacement"]) == (1, True, True)
    factor = Arm(1, schedule="decay").lr_lambda(10)
    assert [seen["lr_lambda"](k) for k in range(10)] == [factor(k) for k in range(10)]
    assert seen["rates"] == [0.1 * factor(k) for k in range(10)]
    states = {generator.get_state().tobytes() for generator in seen["generators"]}
    assert len(states) == 3
    for net in seen["nets"]:
        expected = start(load("line"), 0)[0].state_dict()
        assert all(np.array_equal(P, expected[name]) for name, P in net.state_dict().items())
