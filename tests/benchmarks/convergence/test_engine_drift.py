"""refnet and torch side by side: the trainings are the study's, and the drift is what it says."""

import dataclasses
import math

import numpy as np
import pytest

from benchmarks.convergence import engine_drift
from benchmarks.convergence.arms import Arm
from benchmarks.convergence.cells import Cell, checkpoints, train
from benchmarks.convergence.problems import load
from parity.engines.refnet import RefnetEngine
from parity.engines.torch import TorchEngine
from parity.verdict import free_run

pytestmark = pytest.mark.arithmetic

RATE = 2.0**-5


@pytest.mark.parametrize("arm", [Arm(None), Arm(16), Arm(1), Arm(16, "once"), Arm(1, "replacement")])
@pytest.mark.parametrize(("name", "engine"), [("refnet", RefnetEngine), ("torch", TorchEngine)])
def test_the_record_is_the_study_s_cell(arm, name, engine):
    (outcome,) = train([Cell("line", arm, RATE, 5, name, 120)])
    course = engine_drift._course(engine(), engine_drift.record_of(load("line"), arm, RATE, 5, 120), checkpoints(120))
    assert course["param.0.weight"].ravel().tolist() == list(outcome.path["w"])
    assert course["param.0.bias"].ravel().tolist() == list(outcome.path["b"])


@pytest.mark.parametrize("name", ["xor", "iris", "diabetes"])
def test_the_record_has_the_problem_s_network_and_loss(name):
    problem = load(name)
    record = engine_drift.record_of(problem, Arm(None), RATE, 0, 3)
    answer = RefnetEngine().train(record)
    (outcome,) = train([Cell(name, Arm(None), RATE, 0, "refnet", 3)])
    assert answer["loss"].tolist() == pytest.approx(outcome.train_loss[:3], rel=1e-14)


@pytest.mark.parametrize("segment", [1, 7, 50, 60])
def test_a_course_in_segments_is_the_same(segment, monkeypatch):
    record = engine_drift.record_of(load("xor"), Arm(3), 0.5, 0, 50)
    updates = [0, 1, 6, 7, 8, 14, 49, 50]
    whole = RefnetEngine().train(record)
    monkeypatch.setattr(engine_drift, "ELEMENTS", segment * (2 * 4 + 4 + 4 + 1))
    course = engine_drift._course(RefnetEngine(), record, updates)
    assert course.keys() == {f"param.{name}" for name in record.arrays}
    for name, weights in course.items():
        assert np.array_equal(weights, whole[name][updates])


def test_drift_lies_within_the_budget_as_far_as_that_goes():
    rows = engine_drift.drift("xor", Arm(3), rate=0.5, iterations=200, certify=150)
    last = rows[0].certified_updates
    assert 10 < last < 150
    assert {row.update for row in rows} == {*checkpoints(200), last}
    assert (rows[0].update, rows[0].drift_ulps, rows[0].budget_ulps, rows[0].budget_share) == (0, 0, 0, 0)
    certified, beyond = ([row for row in rows if (row.update <= last) == there] for there in (True, False))
    assert all(row.budget_share < 1 for row in certified)
    assert all(row.drift_ulps <= row.budget_ulps for row in certified)
    budgets = [row.budget_ulps for row in certified]
    assert budgets == sorted(budgets)
    assert budgets[1] >= 1
    assert all(math.isnan(row.budget_ulps) and math.isnan(row.budget_share) for row in beyond)
    assert any(row.drift_ulps > 0 for row in beyond)
    assert {(row.problem, row.arm, row.rate) for row in rows} == {("xor", "mini-batch 3", 0.5)}


def test_the_budget_is_carried_no_further_than_asked():
    rows = engine_drift.drift("line", Arm(None), rate=RATE, iterations=30, certify=12)
    assert {row.certified_updates for row in rows} == {12}
    assert [row.update for row in rows if not math.isnan(row.budget_ulps)][-1] == 12
    assert {row.certified_updates for row in engine_drift.drift("line", Arm(1), rate=RATE, iterations=5)} == {5}


def test_a_twin_that_trains_a_little_otherwise_leaves_the_budget(monkeypatch):
    right = TorchEngine.train

    def faster(self, record):
        optimizer = dataclasses.replace(record.optimizer, args={"lr": record.optimizer.args["lr"] * (1 + 1e-9)})
        return right(self, dataclasses.replace(record, optimizer=optimizer))

    monkeypatch.setattr(TorchEngine, "train", faster)
    rows = engine_drift.drift("iris", Arm(32), rate=0.25, iterations=3, certify=3)
    assert all(row.budget_share > 1 for row in rows if row.update)


def test_drift_is_in_units_of_the_largest_weight(monkeypatch):
    def shifted(self, record):
        answer = RefnetEngine().train(record)
        answer["param.0.bias"][1:] += 3 * 2.0**-52
        return answer

    monkeypatch.setattr(TorchEngine, "train", shifted)
    rows = engine_drift.drift("line", Arm(None), rate=0.25, iterations=1)
    # |w| is between 1 and 2 after the update: its last place is 2^-52.
    assert rows[-1].drift_ulps == 3
    # Each of the two engines has the budget of its own.
    bounds = free_run.bounds(engine_drift.record_of(load("line"), Arm(None), 0.25, 0, 1), [1])
    assert rows[-1].budget_share == 3 * 2.0**-52 / (2 * bounds["param.0.bias"].item())
    largest = max(bounds[f"param.0.{name}"].max() for name in ("weight", "bias"))
    assert rows[-1].budget_ulps == 2 * largest / 2.0**-52


def test_a_training_that_diverges_has_no_finite_drift():
    rows = engine_drift.drift("line", Arm(None), rate=1024.0, iterations=200, certify=5)
    assert not math.isfinite(rows[-1].drift_ulps)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="constant rate, got stochastic, decaying rate"):
        engine_drift.drift("xor", Arm(1, schedule="decay"), rate=0.5)
    with pytest.raises(ValueError, match="at least 1 update, got 0"):
        engine_drift.drift("xor", Arm(1), rate=0.5, certify=0)
