"""Tables: what they say of outcomes made by hand, and the same bytes for the same cells."""

import dataclasses
import gzip
import math
import os
import random
from itertools import accumulate, islice, product

import numpy as np
import pandas as pd
import pytest

from benchmarks.convergence import study_tables
from benchmarks.convergence.arms import Arm
from benchmarks.convergence.cells import Cell, Outcome, order_options
from benchmarks.convergence.engine_drift import Drift
from benchmarks.convergence.problems import load
from benchmarks.convergence.study_tables import Choice, Results, Target
from benchmarks.convergence.theory import GradientVariance, Moment, Stability, Surface
from benchmarks.convergence.update_times import Timing
from refnet.generator import Generator
from refnet.train import sampler

INF, NAN = math.inf, math.nan
UPDATES = (0, 1, 2, 5, 9)


def cell(problem="xor", arm=None, rate=0.5, seed=0, engine="refnet", iterations=9):
    return Cell(problem, arm or Arm(None), rate, seed, engine, iterations)


def outcome(losses, accuracies=None, diverged_at=None, test=None, path=None):
    """An outcome at UPDATES; without `accuracies` as of a regression, without `test` as if nothing were held out."""
    nothing = (NAN,) * len(losses)
    return Outcome(
        updates=UPDATES,
        train_loss=tuple(losses),
        train_accuracy=tuple(accuracies or nothing),
        test_loss=tuple(test or nothing),
        test_accuracy=nothing,
        diverged_at=diverged_at,
        path=path or {},
    )


FINE = outcome((4.0, 3.0, 2.0, 1.0, 0.5), (0.25, 0.5, 0.5, 0.75, 1.0))
SLOW = outcome((4.0, 4.0, 3.0, 2.5, 2.0), (0.25, 0.25, 0.5, 0.5, 0.75))
GONE = outcome((4.0, 9.0, NAN, NAN, NAN), (0.25, 0.25, NAN, NAN, NAN), diverged_at=2)


def three(arm=None, problem="xor", outcomes=(FINE, SLOW, GONE), **more):
    return [(cell(problem, arm, seed=seed, **more), o) for seed, o in enumerate(outcomes)]


def everything():
    """Results in which no table is empty."""
    line = outcome((4.0, 3.0, 2.0, 1.0, 1 / 3), test=(1.0,) * 5, path={"w": (0.1,) * 5, "b": (0.2, 0.3, 0.4, INF, NAN)})
    arms = (Arm(None), Arm(3), Arm(1), Arm(1, "once"), Arm(1, schedule="decay"))
    finals = [pair for arm in arms for engine in ("torch", "refnet") for pair in three(arm, engine=engine)]
    return Results(
        sweep=[pair for rate in (0.5, 0.25) for pair in three(rate=rate)],
        finals=[*finals, *three(problem="line", outcomes=(line,))],
        choices=[Choice("xor", "batch", 0.5, 1e-17 / 3, 0.5, 0.25, 1.0, True)],
        choices_again=[Choice("xor", "batch", 0.25, 1e-17 / 3, NAN, 0.25, 1.0, False)],
        finals_again=[*three(), *three(Arm(1))],
        targets=[Target("xor", 1.0), Target("line", 0.1)],
        variance=[GradientVariance("xor", 0, 2, 4, 100, 0.1, 0.01, 0.11)],
        moments=[Moment("line", 0.1, "constant", 3, "w", 1.0, 0.5, 100, 1.01, 0.05, 0.51, 0.03)],
        stability=[Stability("line", 1.0, 2.0, f"1.{5:030}", 0.5, 1.0, "0.75", 0.3)],
        surface=[Surface("line", 2.0, -1.0, 0.3, 2.5, 1.9, 2.0)],
        twin=[Drift("xor", "batch", 0.5, 9, 2.0, NAN, NAN, 5)],
        timing=[
            Timing("xor", engine, n, drawn, 10 + 2.0 * n, 9.0, 11.0, 0.99, why)
            for engine in ("refnet", "torch")
            for n, drawn, why in ((1, True, ""), (2, True, "lost"), (3, True, ""), (4, False, ""))
        ],
        environment={"python": "3"},
    )


def rows(frame, **where):
    for column, value in where.items():
        frame = frame[frame[column] == value]
    return frame


@pytest.mark.parametrize("arm", [Arm(None), Arm(3), Arm(1), Arm(4), Arm(3, "replacement"), Arm(3, "once")])
def test_samples_are_those_of_the_batches(arm):
    frame = study_tables.frames(Results(finals=[(cell(arm=arm), FINE)]))["curves"]
    batches = islice(sampler.batches(4, **order_options(arm), generator=Generator(0)), 9)
    seen = [0, *accumulate(len(np.arange(4)[batch]) for batch in batches)]
    assert frame["samples"].tolist() == [seen[update] for update in UPDATES]
    assert frame["epoch"].tolist() == [seen[update] / 4 for update in UPDATES]
    assert frame["update"].tolist() == list(UPDATES)


def test_seconds_are_those_of_updates_of_the_same_size():
    finals = [pair for size in (3, 1, None) for pair in three(Arm(size))] + three(Arm(3), "line")
    made = study_tables.frames(dataclasses.replace(everything(), finals=finals))["curves"]
    # Measured: 16 us on 3 drawn samples, the last batches of epochs included, 12 on 1, and 18 on the whole set.
    for size, microseconds in ((3, 16), (1, 12), (4, 18)):
        curve = rows(made, seed=0, problem="xor")
        curve = curve[curve["batch_size"].fillna(4) == size]
        assert curve["seconds"].to_numpy() == pytest.approx(curve["update"].to_numpy(float) * microseconds * 1e-6)
    assert rows(made, problem="line")["seconds"].isna().all()


def test_a_problem_without_a_target_has_no_times_to_it():
    made = study_tables.frames(Results(finals=three(), targets=[Target("xor", NAN)]))
    assert made["times_to_target"].empty
    assert made["summary"]["reached"].isna().all()


def test_a_study_that_is_repeated_has_its_tables_twice():
    results = Results(finals=three(), finals_again=three(outcomes=(SLOW, SLOW, SLOW)), targets=[Target("xor", 2.0)])
    made = study_tables.frames(results)
    assert made["summary"]["train_loss_median"].tolist() == [2.0]
    assert made["summary_again"]["train_loss_high"].tolist() == [2.0]
    assert made["times_to_target"]["reached"].tolist() == [True, True, False]
    assert made["times_to_target_again"]["reached"].tolist() == [True] * 3
    assert {f"{name}_again" for name in study_tables.REPEATED} <= set(study_tables.COLUMNS)


def test_a_diverged_run_has_the_worst_of_values():
    curve = rows(study_tables.frames(Results(finals=three()))["curves"], seed=2)
    assert curve["train_loss"].tolist() == [4.0, 9.0, INF, INF, INF]
    assert curve["train_accuracy"].tolist() == [0.25, 0.25, 0.0, 0.0, 0.0]
    assert curve["test_loss"].isna().all()
    assert curve["test_accuracy"].isna().all()


def test_bands_drop_no_run():
    band = study_tables.frames(Results(finals=three()))["bands"]
    assert band["train_loss_median"].tolist() == [4.0, 4.0, 3.0, 2.5, 2.0]
    assert band["train_loss_low"].tolist() == [4.0, 3.0, 2.0, 1.0, 0.5]
    assert band["train_loss_high"].tolist() == [4.0, 9.0, INF, INF, INF]
    assert band["train_accuracy_low"].tolist() == [0.25, 0.25, 0.0, 0.0, 0.0]
    assert band["test_loss_median"].isna().all()


def test_final_losses_of_the_sweep():
    frame = study_tables.frames(Results(sweep=three()))["sweep"]
    assert frame["final_train_loss"].tolist() == [0.5, 2.0, INF]
    assert frame["diverged_at"].isna().tolist() == [True, True, False]
    assert frame["diverged_at"][2] == 2


def test_times_to_target_are_censored():
    made = study_tables.frames(Results(finals=three(Arm(3)), targets=[Target("xor", 2.0)]))
    times = made["times_to_target"]
    assert times["reached"].tolist() == [True, True, False]
    assert times["update"][:2].tolist() == [2, 9]
    assert times["samples"][:2].tolist() == [4, 19]
    assert times.loc[2, ["update", "epoch", "samples", "seconds"]].isna().all()
    (summary,) = made["summary"].to_dict("records")
    assert summary["reached"] == 2 / 3
    assert summary["target_train_loss"] == 2.0
    assert [summary[f"update_to_target_{part}"] for part in ("median", "low", "high")] == [9, 2, INF]
    assert [summary[f"samples_to_target_{part}"] for part in ("median", "low", "high")] == [19, 4, INF]
    assert math.isnan(summary["seconds_to_target_median"])


def test_a_target_that_most_runs_miss_is_not_reached():
    (summary,) = study_tables.frames(Results(finals=three(), targets=[Target("xor", 1.0)]))["summary"].to_dict(
        "records"
    )
    assert (summary["reached"], summary["update_to_target_median"]) == (1 / 3, INF)


def test_summary_of_the_last_checkpoint():
    (summary,) = study_tables.frames(Results(finals=three()))["summary"].to_dict("records")
    assert (summary["seeds"], summary["diverged"], summary["rate"]) == (3, 1, 0.5)
    assert (summary["train_loss_median"], summary["train_loss_high"]) == (2.0, INF)
    assert math.isnan(summary["target_train_loss"])
    assert math.isnan(summary["update_to_target_median"])


def test_pairs_are_the_same_seed_under_two_arms():
    better, worse = (outcome((4.0, 3.0, 2.0, 1.0, last)) for last in (0.5, 0.75))
    batch = three(Arm(None), outcomes=(better, worse, GONE))
    single = three(Arm(1), outcomes=(worse, worse, worse))
    # In another order, and with a seed that the other arm lacks.
    finals = [*reversed(batch), *single, (cell(arm=Arm(1), seed=7), better)]
    pair = study_tables.frames(Results(finals=finals))["pairs"]
    assert pair[["arm", "against", "other", "measure"]].to_numpy().tolist() == [
        ["stochastic", "batch", "batch", "train_loss"]
    ]
    assert pair[["n", "below", "above", "median", "low", "high"]].to_numpy().tolist() == [[3, 1, 1, 0, -INF, INF]]


def test_a_decaying_rate_is_paired_with_the_constant_one():
    finals = [*three(Arm(1)), *three(Arm(1, schedule="decay")), *three(Arm(2, schedule="decay"))]
    pairs = rows(study_tables.frames(Results(finals=finals))["pairs"], against="constant rate")
    assert set(pairs["measure"]) == {"train_loss", "train_accuracy"}
    assert set(zip(pairs["arm"], pairs["other"], strict=True)) == {("stochastic, decaying rate", "stochastic")}


def test_pairs_stay_within_problem_and_engine():
    finals = [*three(Arm(None), engine="torch"), *three(Arm(1)), *three(Arm(None), "line", outcomes=(FINE,))]
    assert study_tables.frames(Results(finals=finals))["pairs"].empty


@pytest.mark.parametrize(
    ("sizes", "reference"), [((8, 32, 128), 32), ((4, 16, 50), 50), ((16, 64), 16), ((2, 3), 3), ((), None)]
)
def test_reference_is_the_plain_mini_batch_nearest_to_32(sizes, reference):
    arms = [Arm(None), Arm(1), Arm(32, "once"), Arm(32, "epoch", "decay"), *map(Arm, sizes)]
    expected = None if reference is None else Arm(reference)
    finals = [(cell("digits", arm), FINE) for arm in arms]
    against = rows(study_tables.frames(Results(finals=finals))["pairs"], against="mini-batch")
    assert set(against["other"]) == ({expected.name} if expected else set())
    assert set(against["arm"]) == ({arm.name for arm in arms if arm != expected} if expected else set())


def test_problems_are_described():
    frame = study_tables.frames(Results(sweep=three(problem="iris"), finals=three(problem="line")))["problems"]
    assert frame["problem"].tolist() == ["line", "iris"]
    iris = frame.iloc[1]
    assert iris["samples"] + iris["held_out"] == 150
    assert (iris["network"], iris["loss"]) == ("4-8-3", "CrossEntropyLoss")
    assert iris["parameters"] == 4 * 8 + 8 + 8 * 3 + 3
    assert iris["source"] == load("iris").source


def test_path_holds_what_was_recorded():
    path = study_tables.frames(everything())["path"]
    assert path["w"].tolist() == [0.1] * 5
    assert path["b"][:4].tolist() == [0.2, 0.3, 0.4, INF]
    assert math.isnan(path["b"][4])


def test_order_of_rows_is_that_of_problems_engines_and_arms():
    curves = study_tables.frames(everything())["curves"].drop_duplicates(["problem", "engine", "arm"])
    names = ["batch", "mini-batch 3", "stochastic", "stochastic, decaying rate", "stochastic, shuffled once"]
    expected = [("line", "refnet", "batch"), *product(["xor"], ["refnet", "torch"], names)]
    assert list(curves[["problem", "engine", "arm"]].itertuples(index=False, name=None)) == expected


def written(folder, results):
    study_tables.write(folder, results)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_equal_cells_give_equal_bytes_in_any_order(tmp_path):
    results = everything()
    shuffled = random.Random(0)
    sweep, finals = list(results.sweep), list(results.finals)
    shuffled.shuffle(sweep)
    shuffled.shuffle(finals)
    first = written(tmp_path / "first", results)
    assert first == written(tmp_path / "second", dataclasses.replace(results, sweep=sweep, finals=finals))
    assert set(first) == {*(f"{name}.csv" for name in study_tables.COLUMNS), "environment.json"}


def test_what_is_written_is_read(tmp_path):
    results = everything()
    study_tables.write(tmp_path, results)
    read = study_tables.read(tmp_path)
    made = study_tables.frames(results)
    assert read.keys() == made.keys()
    for name, frame in made.items():
        assert len(frame), name
        pd.testing.assert_frame_equal(read[name], frame, check_exact=True, check_dtype=False)


def test_a_table_may_be_compressed(tmp_path):
    study_tables.write(tmp_path, everything())
    file = tmp_path / "curves.csv"
    expected = study_tables.read(tmp_path)["curves"]
    (tmp_path / "curves.csv.gz").write_bytes(gzip.compress(file.read_bytes()))
    file.unlink()
    pd.testing.assert_frame_equal(study_tables.read(tmp_path)["curves"], expected, check_exact=True)


def test_nothing_found_yet_is_tables_without_rows(tmp_path):
    study_tables.write(tmp_path, Results())
    assert {name: (len(frame), tuple(frame)) for name, frame in study_tables.read(tmp_path).items()} == {
        name: (0, columns) for name, columns in study_tables.COLUMNS.items()
    }


def test_a_missing_table_and_other_columns_are_refused(tmp_path):
    study_tables.write(tmp_path, everything())
    (tmp_path / "targets.csv").write_text("problem,target\nxor,1.0\n")
    with pytest.raises(ValueError, match=r"targets\.csv: expected the columns problem, target_train_loss, got problem"):
        study_tables.read(tmp_path)
    (tmp_path / "targets.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"targets\.csv"):
        study_tables.read(tmp_path)


def test_a_write_that_fails_leaves_the_old_tables_whole(tmp_path, monkeypatch):
    before = written(tmp_path, everything())

    def full(source, target):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space"):
        study_tables.write(tmp_path, Results())
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
