"""Recorded runs, judged update by update: right ones pass, and one wrong number in one update is found there."""

import math
from dataclasses import replace

import numpy as np
import pytest

from parity.budget.array import Profile
from parity.engines.refnet import RefnetEngine
from parity.families.case import Draw, TrainCase, given
from parity.records.record import Spec
from parity.run.certifying import _single_updates as single_updates
from parity.vectors import catalogue_answers
from parity.verdict import lockstep
from parity.verdict.evaluation import TrainingRequest
from parity.verdict.lockstep import judge_single_updates, judge_steps

DTYPES = ("float64", "float32")
FLOAT64 = Profile.of("float64")


@pytest.fixture(scope="module", params=DTYPES)
def dtype(request):
    return request.param


@pytest.fixture(scope="module")
def record(short_training, dtype):
    return short_training.record("full", dtype)


@pytest.fixture(scope="module")
def run(record):
    return RefnetEngine().train(record)


def altered(run, name, index, by):
    """The run with one number moved."""
    array = run[name].copy()
    array[index] += by
    return {**run, name: array}


def failing(record, answer, profile=None):
    verdicts = judge_steps(TrainingRequest(record, profile or Profile.of(record.dtype)), answer)
    return {v.name: v for v in verdicts if v.verdict == "FAIL"}


# ---- right runs


def test_a_right_run(record, run, dtype):
    verdicts = judge_steps(TrainingRequest(record, Profile.of(dtype)), run)
    weights = ("0.weight", "0.bias", "2.weight", "2.bias")
    states = [f"state.{name}.momentum_buffer" for name in weights]
    assert [v.name for v in verdicts] == ["loss", *(f"update.{name}" for name in weights), *states]
    assert {v.verdict for v in verdicts} <= {"exact", "rounding"}
    assert max(v.share for v in verdicts) < 1


def test_torchs_run(record, dtype):
    pytest.importorskip("torch")
    from parity.engines.torch import TorchEngine

    verdicts = judge_steps(TrainingRequest(record, Profile.of(dtype)), TorchEngine().train(record))
    assert {v.verdict for v in verdicts} <= {"exact", "rounding", "unstable"}


def test_chunks_make_no_difference(record, run, dtype, monkeypatch):
    whole = judge_steps(TrainingRequest(record, Profile.of(dtype)), run)
    monkeypatch.setattr(lockstep, "CHUNK", 3)
    assert judge_steps(TrainingRequest(record, Profile.of(dtype)), run) == whole


def test_one_update(record, dtype):
    first = replace(record, batches=record.batches[:1])
    assert failing(first, RefnetEngine().train(first)) == {}


def test_weights_that_are_not_trained(short_training):
    record = replace(short_training.record("full", "float64"), trainable=("0.weight", "2.weight"))
    run = RefnetEngine().train(record)
    verdicts = {v.name: v for v in judge_steps(TrainingRequest(record, FLOAT64), run)}
    assert verdicts["update.0.bias"].verdict == "exact"
    assert "state.0.bias.momentum_buffer" not in verdicts
    # A bias that moves though it is frozen.
    moved = altered(run, "param.0.bias", slice(5, None), 1e-9)
    assert failing(record, moved)["update.0.bias"].share == math.inf


# ---- wrong runs


@pytest.mark.parametrize("update", [1, 2, 3, 9, 12])
@pytest.mark.parametrize("name", ["0.weight", "2.bias"])
def test_a_wrong_update_is_found_where_it_is(record, run, name, update):
    # From update `update` on all weights are shifted: only that update is wrong by it.
    right = {v.name: v for v in judge_steps(TrainingRequest(record, Profile.of(record.dtype)), run)}[f"update.{name}"]
    update_size = abs(np.diff(run[f"param.{name}"].astype(float), axis=0)).max()
    by = 8 * right.detection_limit * update_size
    array = run[f"param.{name}"].copy()
    index = (0,) * (array.ndim - 1)
    array[(update, *index)] += by
    wrong = failing(record, {**run, f"param.{name}": array})[f"update.{name}"]
    assert f"first update {update}" in wrong.reason
    assert wrong.share > 4
    assert wrong.where[0] in (update - 1, update)


def test_a_wrong_loss_and_a_wrong_state(record, run):
    wrong = failing(record, altered(run, "loss", 4, 1e-3))
    assert list(wrong) == ["loss"]
    assert wrong["loss"].where == (4,)
    assert "first update 5: expected" in wrong["loss"].reason
    name = "state.2.weight.momentum_buffer"
    wrong = failing(record, altered(run, name, (7, 1, 0), 1e-3))
    assert "first update 8, [1, 0]" in wrong[name].reason
    # The next update starts from that state.
    assert "first update 9" in wrong["update.2.weight"].reason


def test_momentum_that_is_forgotten(record):
    plain = replace(record, optimizer=Spec("SGD", {"lr": 0.25}))
    answer = RefnetEngine().train(plain)
    buffers = RefnetEngine().train(record)
    answer |= {name: a for name, a in buffers.items() if name.startswith("state.")}
    wrong = failing(record, answer)
    assert "first update 2" in wrong["update.0.weight"].reason


def test_a_mean_over_the_nominal_batch(short_training):
    """A short batch divided by the size of a whole one: wrong in every third update, and there only."""
    record = short_training.record("full", "float64")
    short = [k for k, batch in enumerate(record.batches) if len(batch) == 1]
    assert short == [2, 5, 8, 11]
    record = replace(record, optimizer=Spec("SGD", {"lr": 0.25}))
    run = RefnetEngine().train(record)
    series = run["param.2.bias"]
    updates = np.diff(series, axis=0)
    updates[short] /= 2
    wrong = failing(record, {**run, "param.2.bias": np.concatenate([series[:1], series[0] + updates.cumsum(axis=0)])})
    assert "first update 3" in wrong["update.2.bias"].reason


# ---- what is no run at all


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda run: {}, "got nothing"),
        (lambda run: {n: a for n, a in run.items() if n != "param.0.bias"}, "expected loss, param.0.weight"),
        (lambda run: {n: a for n, a in run.items() if not n.startswith("state.")}, "momentum_buffer, got loss"),
        (lambda run: {**run, "accuracy": run["loss"]}, ", accuracy"),
        (lambda run: {**run, "loss": run["loss"][:-1]}, "expected loss of shape (12,)"),
        (lambda run: {**run, "param.2.bias": run["param.2.bias"][1:]}, "expected param.2.bias of shape (13, 2)"),
        (lambda run: {**run, "param.2.bias": run["param.2.bias"].astype(">f4")}, "and >f4"),
        (lambda run: altered(run, "param.0.weight", (0, 0, 0), 1e-6), "param.0.weight[0] to be the initial value"),
        (lambda run: altered(run, "param.0.weight", (4, 0, 0), np.nan), "NaN or infinity from update 4 on"),
        (lambda run: altered(run, "loss", 4, np.inf), "NaN or infinity from update 5 on"),
        (lambda run: altered(run, "state.0.bias.momentum_buffer", (4, 0), np.nan), "NaN or infinity from update 5 on"),
    ],
)
def test_what_cannot_be_judged(record, run, change, reason):
    (verdict,) = judge_steps(TrainingRequest(record, Profile.of(record.dtype)), change(run))
    assert (verdict.name, verdict.verdict, verdict.share) == ("run", "FAIL", math.inf)
    assert reason in verdict.reason


def test_a_step_at_a_kink_leaves_the_others_decided():
    """In the first update 0.1 * 3 - 0.3 * 1 is not 0, and rounding decides on which side of it an engine comes out."""
    case = TrainCase(
        "Short/kink",
        Spec("Sequential", layers=(Spec("Linear", {"in_features": 2, "out_features": 1, "bias": False}), Spec("ReLU"))),
        Spec("MSELoss"),
        Spec("SGD", {"lr": 0.01}),
        given((3, 2), 1, 1, 3, 1, 2, 5),
        Draw((3, 1)),
        {"0.weight": given((1, 2), 0.1, -0.3)},
        batch_size=1,
        shuffle=False,
        iterations=3,
    )
    record = case.record("full", "float64")
    record = replace(record, batches=(np.array([1]), np.array([0]), np.array([2])))
    run = RefnetEngine().train(record)
    verdicts = {v.name: v for v in judge_steps(TrainingRequest(record, FLOAT64), run)}
    assert {v.verdict for v in verdicts.values()} <= {"exact", "rounding"}
    assert "first update 2" in failing(record, altered(run, "loss", 1, 1e-9))["loss"].reason
    # The loss is continuous there. The update is on one side or the other, and what lies between is not told from it.
    assert "first update 1" in failing(record, altered(run, "loss", 0, 1e-9))["loss"].reason
    assert failing(record, altered(run, "param.0.weight", (slice(1, None), 0, 0), 1e-3)) == {}
    assert failing(record, altered(run, "param.0.weight", (slice(1, None), 0, 0), 1e2)) != {}


# ---- single updates


def test_single_updates_go_on_where_the_run_was(record, run):
    for number, single in zip((1, 5, 12), single_updates(record, run, (1, 5, 12)), strict=True):
        assert single.iterations == 1
        np.testing.assert_array_equal(single.batches[0], record.batches[number - 1])
        answer = RefnetEngine().train(single)
        for name, series in run.items():
            got = answer[name][1] if name.startswith("param.") else answer[name][0]
            np.testing.assert_array_equal(got, series[number if name.startswith("param.") else number - 1])
        assert failing(single, answer) == {}


@pytest.fixture(scope="module")
def singles(short_training, short_vectors, dtype):
    return catalogue_answers.training(short_training, "full", dtype, short_vectors).steps


def test_certified_single_updates(singles, dtype):
    answers = {number: RefnetEngine().train(single) for number, (single, _) in singles.items()}
    asked = {
        number: (TrainingRequest(single, Profile.of(dtype)), truths) for number, (single, truths) in singles.items()
    }
    verdicts = judge_single_updates(asked, answers)
    assert {v.verdict for v in verdicts} <= {"exact", "rounding"}
    assert [v.name for v in verdicts][:2] == ["certified loss", "certified update.0.weight"]

    sixth = answers[6]
    wrong = answers | {6: altered(sixth, "param.0.bias", (1, 2), 1e-3)}
    (found,) = (v for v in judge_single_updates(asked, wrong) if v.verdict == "FAIL")
    assert found.name == "certified update.0.bias"
    assert "first update 6, [2]" in found.reason

    (misfit,) = judge_single_updates(asked, answers | {6: {"loss": sixth["loss"]}})
    assert (misfit.name, misfit.verdict) == ("certified update 6", "FAIL")
    assert "got loss" in misfit.reason


def test_the_budget_in_binary64_encloses_the_certified_update(singles, dtype):
    """Lockstep needs no certified value: its own enclosure of each certified step holds the truth."""
    for single, truths in singles.values():
        answer = RefnetEngine().train(single)
        enclosures = lockstep._enclose(TrainingRequest(single, FLOAT64), answer, lockstep._updates(answer), {})
        assert enclosures.keys() <= truths.keys()
        for name, e in enclosures.items():
            assert (truths[name].error(e.truth.hi) <= e.bound).all(), name
