"""Sentences: each number from the tables, each comparison turned round when the numbers are."""

import dataclasses
import math

import pytest

from benchmarks.convergence.arms import Arm
from benchmarks.convergence.recorded_study import RecordedStudy
from benchmarks.convergence.report import sentences


def changed(study, table, change):
    """The study with one table passed through a function."""
    return dataclasses.replace(study, frames={**study.frames, table: change(study.frames[table].copy())})


def put(study, table, column, value, **where):
    """The study with one value put into the rows that have these."""

    def change(frame):
        rows = frame.index == frame.index
        for name, wanted in where.items():
            rows &= frame[name] == wanted
        assert rows.any()
        frame.loc[rows, column] = value
        return frame

    return changed(study, table, change)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1, "1"),
        (12345.0, "12,345"),
        (12345.6, "12,300"),
        (0.28657, "0.287"),
        (12.64, "12.6"),
        (-0.5, "−0.500"),
        (2.5e-5, "2.50\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}10⁻⁵"),
        (3e12, "3.00\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}10¹²"),
        (math.inf, "∞"),
        (-math.inf, "−∞"),
        (math.nan, "–"),
    ],
)
def test_numbers(value, text):
    assert sentences.number(value) == text


def test_other_figures():
    assert sentences.rate(0.0078125) == "0.0078125"
    assert sentences.percent(0.9667) == "96.7%"
    assert sentences.points(-0.0333) == "−3.3 points"
    assert [sentences.seconds(s) for s in (2.5, 0.0025, 2.5e-6, 2.5e-8, 0, math.inf)] == [
        "2.5 s",
        "2.5 ms",
        "2.5 µs",
        "25 ns",
        "0",
        "∞",
    ]
    assert sentences.listed(["a", "b", "c"]) == "a, b and c"
    assert sentences.listed(["a"]) == "a"


def short(study):
    return " ".join(sentences.in_short(study))


def test_who_comes_first_over_all_problems(study_of):
    study = put(study_of(), "summary", "samples_to_target_median", 1.0, arm="stochastic")
    assert [sentences.quickest(study, problem, "samples") for problem in study.problems] == [(Arm(1), 1.0)] * 2
    assert "Fewest samples to the target: stochastic on 2 of 2 problems." in short(study)
    other = put(study, "summary", "samples_to_target_median", 0.5, arm="batch", problem="iris")
    assert "Fewest samples to the target: stochastic on 1 and batch on 1 of 2 problems." in short(other)


def test_how_much_more_the_full_batch_needs(study_of):
    study = put(study_of(), "summary", "samples_to_target_median", 100.0, arm="stochastic")
    study = put(study, "summary", "samples_to_target_median", 250.0, arm="batch", problem="line")
    study = put(study, "summary", "samples_to_target_median", 1000.0, arm="batch", problem="iris")
    study = put(study, "summary", "samples_to_target_median", 5000.0, arm="mini-batch 4")
    assert "goes through between 2.50 (Straight line, w and b) and 10 (Iris) times as many samples" in short(study)
    assert any("goes through 10 times as many samples" in line for line in sentences.of_problem(study, "iris"))


def test_a_regime_that_does_not_get_there_is_not_first(study_of):
    study = study_of()
    for axis in ("update", "samples", "seconds"):
        study = put(study, "summary", f"{axis}_to_target_median", math.inf, arm="stochastic")
    assert all(sentences.quickest(study, problem, "samples")[0] != Arm(1) for problem in study.problems)
    study = changed(study, "summary", lambda f: f.assign(samples_to_target_median=math.inf))
    assert sentences.quickest(study, "line", "samples") is None
    study = put(study, "summary", "reached", 0.25, arm="stochastic", problem="line")
    said = list(sentences.of_problem(study, "line"))
    assert any("within 1,000 updates: stochastic 25.0%" in line and "censored" in line for line in said)


def test_intervals_that_exclude_zero(study_of):
    study = changed(study_of(), "pairs", lambda f: f.assign(low=-1.0, median=0.5, high=2.0))
    assert "0 of the 6 intervals of the other regimes’ accuracy or loss exclude zero;" in short(study)
    assert any("excludes zero for no regime." in line for line in sentences.of_problem(study, "iris"))
    study = put(study, "pairs", "low", 0.25, problem="iris", arm="stochastic", against="batch", measure="test_accuracy")
    assert "1 of the 6 intervals of the other regimes’ accuracy or loss excludes zero (1 on Iris);" in short(study)
    said = list(sentences.of_problem(study, "iris"))
    assert any("for stochastic (+50.0 points, +25.0 points to +200.0 points)." in line for line in said)


def test_too_few_pairs_make_no_claim(study_of):
    study = study_of(problems=("xor",), arms=(Arm(None), Arm(1)), seeds=3)
    assert "intervals" not in short(study)
    assert not any("interval" in line for line in sentences.of_problem(study, "xor"))


@pytest.mark.parametrize(("decayed", "count"), [(0.001, 2), (9.0, 0)])
def test_decaying_rates(decayed, count, study_of):
    study = put(study_of(), "summary", "train_loss_median", decayed, schedule="decay")
    study = put(study, "summary", "train_loss_median", 0.5, schedule="constant", order="epoch")
    assert f"than with a constant one on {count} of 2 problems" in short(study)
    said = list(sentences.of_problem(study, "iris"))
    assert any(f"with {count} of 2 sizes of batch; stochastic:" in line for line in said)


def test_rates_at_the_edge_of_the_grid(study_of):
    study = study_of()
    assert any(line.endswith("all of them inside the grid.") for line in sentences.of_problem(study, "line"))
    study = put(study, "rates", "inside", False, arm="mini-batch 4", problem="line")
    assert any(line.endswith("at the grid’s edge: mini-batch 4.") for line in sentences.of_problem(study, "line"))


def test_the_stability_limit_against_the_sweep(study_of):
    def said(study):
        return next(line for line in sentences.of_problem(study, "line") if line.startswith("2/L"))

    study = study_of()
    assert "2 of 2 below it stayed finite and 0 of 1 above it diverged" in said(study)
    study = put(study, "sweep", "diverged_at", 10, arm="batch", rate=1.0, problem="line")
    assert "2 of 2 below it stayed finite and 1 of 1 above it diverged" in said(study)


def test_diverged_runs_are_counted(study_of):
    few = {"problems": ("xor",), "arms": (Arm(None), Arm(1)), "seeds": 3}
    assert not any("Diverged" in line for line in sentences.of_problem(study_of(**few), "xor"))
    said = list(sentences.of_problem(study_of(**few, lost=(Arm(1),)), "xor"))
    assert "Diverged final runs: 3 of stochastic." in said


def test_no_target(study_of):
    study = study_of(problems=("xor",), arms=(Arm(None),), seeds=2, lost=(Arm(None),), goal=math.nan)
    said = list(sentences.of_problem(study, "xor"))
    assert said[0] == "Every regime diverged at every rate of the sweep: there is no target."


def test_theory_twin_and_cost(study_of):
    study = study_of()
    assert next(iter(sentences.of_theory(study))) == (
        "Straight line, w and b: measured over predicted variance of a batch’s gradient lies between 1.010 and 1.010 "
        "for 8 batch sizes and weights; the furthest is 0.5 standard errors off."
    )
    drift, budget = sentences.of_twin(study)
    assert drift.startswith("After 1,000 updates refnet and torch are between 8 and 8 ULPs")
    assert budget == "The budget lasts for 200 to 200 updates."
    costs = list(sentences.of_cost(study))
    assert costs[0] == (
        "Straight line, w and b, refnet: 20 µs an update and 500 ns a sample; the samples cost more than the overhead "
        "from a batch of 40 on."
    )


def test_nothing_beside_nothing_said(study_of):
    study = study_of(problems=("xor",), arms=(Arm(None),), seeds=2, beside=False)
    assert isinstance(study, RecordedStudy)
    assert [*sentences.of_theory(study), *sentences.of_twin(study), *sentences.of_cost(study)] == []
