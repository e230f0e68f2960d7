"""Sentences: each number from the tables, each comparison turned round when the numbers are."""

import dataclasses
import math

import pytest

from benchmarks.convergence.arms import Arm
from benchmarks.convergence.recorded_study import RecordedStudy
from benchmarks.convergence.report import sentences
from benchmarks.convergence.report.sentences import Leader


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
    assert sentences.listed(["a", "a, once", "b"]) == "a; a, once; and b"


def short(study):
    return " ".join(sentences.in_short(study))


def arrive(study, axis, **by_arm):
    """The study whose runs come to the target at these places, by arm."""
    study = changed(study, "times_to_target", lambda frame: frame.fillna({"update": 1, "samples": 1, "seconds": 1.0}))
    for arm, place in by_arm.items():
        arm = arm.replace("mini_batch_", "mini-batch ")
        study = put(study, "times_to_target", "reached", True, arm=arm)
        study = put(study, "times_to_target", axis, place, arm=arm)
        study = put(study, "summary", f"{axis}_to_target_median", float(place), arm=arm)
    return study


def test_who_comes_first_over_all_problems(study_of):
    study = arrive(study_of(), "samples", stochastic=1, batch=100, mini_batch_4=50, mini_batch_50=70)
    leads = [sentences.leader(study, problem, "samples") for problem in study.problems]
    assert leads == [Leader(Arm(1), 1.0, [])] * 2
    assert "Fewest samples to the target: stochastic on 2 of 2 problems." in short(study)
    other = put(study, "times_to_target", "samples", 0, arm="batch", problem="iris")
    other = put(other, "summary", "samples_to_target_median", 0.5, arm="batch", problem="iris")
    assert "Fewest samples to the target: stochastic on 1 and batch on 1 of 2 problems." in short(other)


def test_a_regime_that_runs_do_not_tell_apart_is_not_first(study_of):
    study = arrive(study_of(), "samples", stochastic=1, batch=100, mini_batch_4=50, mini_batch_50=70)
    # Of 7 seeds one comes earlier under the batch: the interval of 98.4% goes from the first to the last difference.
    near = put(study, "times_to_target", "samples", 0, arm="batch", problem="iris", seed=3)
    assert sentences.leader(near, "iris", "samples").level == [Arm(None)]
    assert "stochastic on 1 of 2 problems; on 1 the runs do not tell the first regime from another." in short(near)
    said = next(line for line in sentences.of_problem(near, "iris") if line.startswith("To the target"))
    assert "fewest samples with stochastic, 1 (" in said
    assert "not told apart from batch" in said
    # Nor is it said then how much more the batch needs.
    assert not any("goes through" in line for line in sentences.of_problem(near, "iris"))


@pytest.mark.parametrize("arms", [(Arm(None),), (Arm(4), Arm(50)), (Arm(1), Arm(1, schedule="decay"))])
def test_a_study_of_one_regime_has_no_winner(arms, study_of):
    study = study_of(problems=("line",), arms=arms)
    regime = arms[0].regime
    assert f"Only one regime was run ({regime}): nothing is compared." in short(study)
    told = " ".join([short(study), *sentences.of_problem(study, "line")])
    assert "ewest" not in told
    assert "east time" not in told
    assert sentences.leader(study, "line", "update") is None


def test_no_time_is_claimed_where_one_is_not_known(study_of):
    assert "Least time" in short(study_of())
    study = study_of()
    for problem in study.problems:
        study = put(study, "bands", "seconds", math.nan, problem=problem, arm="mini-batch 4")
    assert "Least time" not in short(study)
    assert not any("least time" in line for line in sentences.of_problem(study, "iris"))


def test_sentences_that_change_with_other_last_bits(study_of):
    study = arrive(study_of(repeat=True), "samples", stochastic=1, batch=100, mini_batch_4=50, mini_batch_50=70)
    again = study.frames["times_to_target"], study.frames["summary"]
    study = dataclasses.replace(
        study, frames={**study.frames, "times_to_target_again": again[0], "summary_again": again[1]}
    )
    assert [other for _, other in sentences.survival(study)] == [""] * len(sentences.survival(study))
    other = put(study, "times_to_target_again", "samples", 0, arm="batch")
    other = put(other, "summary_again", "samples_to_target_median", 0.5, arm="batch")
    changed = {sentence: again for sentence, again in sentences.survival(other) if again}
    assert changed["Fewest samples to the target: stochastic on 2 of 2 problems."] == (
        "Fewest samples to the target: batch on 2 of 2 problems."
    )
    assert all(not again for sentence, again in sentences.survival(other) if "Fewest updates" in sentence)
    assert all(not again for _, again in sentences.survival(study_of()))


def test_how_many_rates_are_chosen_again(study_of):
    study = study_of(repeat=True)
    assert any("9 of 9 rates are chosen again." in line for line in sentences.of_problem(study, "iris"))
    study = put(study, "rates_again", "rate", 1.0, problem="iris", arm="batch")
    said = " ".join(sentences.of_problem(study, "iris"))
    assert "8 of 9 rates are chosen again; another one for batch (0.1, then 1)." in said
    assert "other last bits" not in " ".join(sentences.of_problem(study_of(), "iris"))


def test_how_much_more_the_full_batch_needs(study_of):
    study = arrive(study_of(), "samples", stochastic=100, batch=1000, mini_batch_4=5000, mini_batch_50=5000)
    study = put(study, "summary", "samples_to_target_median", 250.0, arm="batch", problem="line")
    assert "on 2 of 2 problems: between 2.50 (Straight line, w and b) and 10 (Iris) times as many." in short(study)
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
    assert any("within 1,000 updates: 25.0% of stochastic do; the others count as later than all." in s for s in said)
    study = put(study_of(), "summary", "samples_to_target_median", 0.5, arm="batch")
    study = put(study, "summary", "samples_to_target_high", math.inf, arm="batch")
    assert any("to not reached)" in line for line in sentences.of_problem(study, "line"))


def test_intervals_that_exclude_zero(study_of):
    study = changed(study_of(), "pairs", lambda f: f.assign(low=-1.0, median=0.5, high=2.0))
    assert "in 0 of 6 comparisons the interval of the difference in accuracy or loss excludes zero." in short(study)
    # Of 7 pairs: 1 - 2/2^7 of each interval, and so 6 times 2/2^7 by chance.
    assert "By chance alone it would in about 0.094, at a coverage of 98.4%." in short(study)
    assert any("excludes zero for no regime." in line for line in sentences.of_problem(study, "iris"))
    study = put(study, "pairs", "low", 0.25, problem="iris", arm="stochastic", against="batch", measure="test_accuracy")
    assert "in 1 of 6 comparisons the interval of the difference in accuracy or loss excludes zero (1 on" in short(
        study
    )
    said = list(sentences.of_problem(study, "iris"))
    assert any("for stochastic (+50.0 points, +25.0 points to +200.0 points)." in line for line in said)


def test_too_few_pairs_make_no_claim(study_of):
    study = study_of(problems=("xor",), arms=(Arm(None), Arm(1)), seeds=3)
    assert "intervals" not in short(study)
    assert not any("interval" in line for line in sentences.of_problem(study, "xor"))


def decayed(study, low, high, **where):
    """The study with these intervals of the differences between a decaying rate and a constant one."""
    for column, value in (("low", low), ("high", high)):
        study = put(study, "pairs", column, value, against="constant rate", measure="train_loss", **where)
    return study


def test_decaying_rates(study_of):
    study = decayed(study_of(), -2.0, -1.0)
    compared = "of single samples with a decaying rate, compared with a constant one:"
    assert f"{compared} lower on 2 of 2 problems." in short(study)
    study = decayed(study, 1.0, 2.0, problem="iris", arm="stochastic, decaying rate")
    assert f"{compared} lower on 1 and higher on 1 of 2 problems." in short(study)
    said = next(line for line in sentences.of_problem(study, "iris") if "with a decaying rate" in line)
    assert "lower for 1 and higher for 1 of 2 batch sizes. Medians of stochastic: " in said
    study = decayed(study, -1.0, 2.0, problem="line")
    assert f"{compared} higher on 1 of 2 problems; on 1 the runs do not tell them apart." in short(study)
    study = decayed(study, -1.0, 2.0)
    assert f"{compared} on none of 2 problems do the runs tell them apart." in short(study)
    # A loss of 0.25, a mean of 100 samples, is known to 100 * 2^-53 * 0.25 = 2.8e-15.
    study = decayed(study, -2e-15, -1e-15, problem="line")
    assert f"{compared} on none of 2 problems do the runs tell them apart." in short(study)
    study = decayed(study, -4e-15, -3e-15, problem="line")
    assert f"{compared} lower on 1 of 2 problems; on 1 the runs do not tell them apart." in short(study)
    one = study_of(problems=("line",), arms=(Arm(None), Arm(1), Arm(1, schedule="decay")))
    for (low, high), word in {(-2.0, -1.0): "lower", (-1.0, 2.0): "the runs do not tell them apart"}.items():
        assert f"{compared} {word}." in short(decayed(one, low, high))
    # Six runs at least make an interval.
    assert compared not in short(decayed(study, -math.inf, math.inf))


def test_the_decaying_rate_of_more_runs_is_not_contradicted_by_fewer(study_of):
    """Medians may stand in another order where fewer runs are made; what runs do not tell is not said of them."""
    study = decayed(study_of(), -1.0, 2.0)
    told = short(study)
    for value in (0.001, 9.0):
        assert short(put(study, "summary", "train_loss_median", value, schedule="decay")) == told


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
    assert said[0] == "No target is fixed for this problem."


def test_theory_and_twin(study_of):
    study = study_of()
    assert next(iter(sentences.of_theory(study))) == (
        "Straight line, w and b: measured over predicted variance of a batch’s gradient lies between 1.010 and 1.010 "
        "for 8 batch sizes and weights; the furthest is 0.5 standard errors off."
    )
    drift, budget = sentences.of_twin(study)
    assert drift.startswith("After 1,000 updates refnet and torch are between 8 and 8 ULPs")
    assert drift.endswith(
        f"A weight is between {sentences.number(2**52)} and {sentences.number(2**53)} of its own ULPs."
    )
    assert budget == "Parity’s budget for rounding lasts for 200 to 200 updates."


def test_what_updates_cost_and_what_could_not_be_measured(study_of):
    study = study_of()
    of_line = [line for line in sentences.of_cost(study) if line.startswith("Straight line, w and b, refnet")]
    assert of_line == [
        "Straight line, w and b, refnet: an update on a given batch costs 20 µs, and 500 ns more a sample; the samples "
        "cost more than the overhead from a batch of 40 on. "
        # Of 100 samples 64 are no whole share: an epoch's last batch is a smaller one.
        "An update on 50 samples takes 145 µs where the batch is drawn, 45 µs where it is given."
    ]
    of_refnet = {"problem": "line", "engine": "refnet"}
    study = put(study, "timing", "unmeasured", "the rounds do not agree: 70%", **of_refnet, drawn=True)
    study = put(study, "cost", "unmeasured", "they are off by 57%", **of_refnet)
    of_line = [line for line in sentences.of_cost(study) if line.startswith("Straight line, w and b, refnet")]
    assert of_line == [
        "Straight line, w and b, refnet: they are off by 57%. 8 of 17 times, on drawn and on given batches, could not "
        "be measured: the rounds do not agree (8)."
    ]
    study = put(study, "timing", "unmeasured", "lost in the noise of the clock", **of_refnet, drawn=False)
    of_line = [line for line in sentences.of_cost(study) if line.startswith("Straight line, w and b, refnet")]
    assert of_line == [
        "Straight line, w and b, refnet: none of 17 times could be measured: lost in the noise of the clock (9) and "
        "the rounds do not agree (8).",
    ]


def test_nothing_beside_nothing_said(study_of):
    study = study_of(problems=("xor",), arms=(Arm(None),), seeds=2, beside=False)
    assert isinstance(study, RecordedStudy)
    assert [*sentences.of_theory(study), *sentences.of_twin(study), *sentences.of_cost(study)] == []
