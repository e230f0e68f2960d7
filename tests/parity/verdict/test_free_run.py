"""Free runs: judged as long as their budget lasts, and not a step longer."""

import math
from dataclasses import replace

import numpy as np
import pytest

from parity.engines.refnet import RefnetEngine
from parity.truth.value import Truth
from parity.vectors import catalogue_answers
from parity.verdict import free_run

DTYPES = ("float64", "float32")


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_right_run(short_training, short_vectors, dtype):
    kept = catalogue_answers.training(short_training, "full", dtype, short_vectors)
    run = RefnetEngine().train(short_training.record("full", dtype))
    updates = short_training.certified
    verdicts, notes = free_run.judge_run(run, updates, kept.free, kept.bounds, dtype)
    assert [v.name for v in verdicts] == [f"free {name}" for name in kept.bounds]
    assert {v.verdict for v in verdicts} <= {"exact", "rounding"}
    assert notes == []

    drifted = {**run, "param.2.bias": run["param.2.bias"].copy()}
    drifted["param.2.bias"][2:] += 1e-2
    (wrong,) = (
        v for v in free_run.judge_run(drifted, updates, kept.free, kept.bounds, dtype)[0] if v.verdict == "FAIL"
    )
    assert wrong.name == "free param.2.bias"
    assert "first update 2, [0]" in wrong.reason


def test_judged_only_while_the_budget_lasts():
    run = {"loss": np.array([4.0, 3.0, 2.0]), "param.w": np.array([[8.0], [7.0], [6.0], [5.0]])}
    truths = {"loss": Truth.of([4.0, 3.5]), "param.w": Truth.of([[7.0], [0.0]])}
    bounds = {"loss": np.array([0.0, 0.25]), "param.w": np.array([[0.5], [np.inf]])}
    verdicts, notes = free_run.judge_run(run, (1, 3), truths, bounds, "float64")
    assert [(v.name, v.verdict) for v in verdicts] == [("free loss", "exact"), ("free param.w", "exact")]
    assert notes == ["free run: uncertified from update 3 on"]
    lasting = bounds | {"param.w": np.array([[0.5], [2.0]])}
    verdicts, notes = free_run.judge_run(run, (1, 3), truths, lasting, "float64")
    # The loss of update 3 is that before it, the weight that after it.
    assert [v.reason.partition(": ")[2] for v in verdicts] == [
        "expected 3.5000000000000000000 within 0.25, got 2.0",
        "expected 0.0000000000000000000 within 2, got 5.0",
    ]
    assert notes == []
    spent = bounds | {"loss": np.array([math.inf, math.inf])}
    assert free_run.judge_run(run, (1, 3), truths, spent, "float64") == ([], ["free run: uncertified from update 1 on"])


@pytest.mark.parametrize("dtype", DTYPES)
def test_bounds_are_those_of_the_whole_run(short_training, dtype):
    record = short_training.record("full", dtype)
    found = free_run.bounds(record, (1, 2, 6))
    assert set(found) == {"loss", *(f"param.{name}" for name in record.arrays)}
    assert all(e.shape == (3, *a.shape) for e, a in ((found[f"param.{n}"], a) for n, a in record.arrays.items()))
    assert all((e > 0).all() and np.isfinite(e).all() for e in found.values())
    # It grows; and a bound does not depend on what else is asked for.
    assert all((np.diff(e, axis=0) > 0).all() for name, e in found.items() if name != "loss")
    np.testing.assert_array_equal(free_run.bounds(record, (6,))["param.0.weight"], found["param.0.weight"][2:])
    u = 2.0 ** -{"float64": 53, "float32": 24}[dtype]
    assert found["param.2.bias"][0].max() < 100 * u


def test_bounds_have_eight_bits_rounded_up(short_training, monkeypatch):
    record = short_training.record("full", "float64")
    kept = free_run.bounds(record, (2,))
    monkeypatch.setattr(free_run, "_rounded_up", lambda e: e)
    exact = free_run.bounds(record, (2,))
    for name, e in kept.items():
        mantissa = np.frexp(e)[0] * 256
        np.testing.assert_array_equal(mantissa, np.floor(mantissa))
        assert (exact[name] <= e).all()
        assert (e <= exact[name] * (1 + 2.0**-7)).all()


def test_a_spent_budget_is_infinite(short_training):
    """With a learning rate that amplifies errors the budget exceeds a weight within a few updates."""
    record = short_training.record("full", "float32")
    wild = replace(record, optimizer=replace(record.optimizer, args={"lr": 1024.0}))
    found = free_run.bounds(wild, (1, 12))
    assert all(np.isfinite(e[0]).all() for e in found.values())
    assert all(np.isinf(e[1]).all() for e in found.values())
