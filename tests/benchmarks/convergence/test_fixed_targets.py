"""The targets that every study is timed to: what the file holds follows from its own pilot runs."""

import json
from pathlib import Path

import pytest

from benchmarks.convergence import fixed_targets
from benchmarks.convergence.arms import Arm, core
from benchmarks.convergence.order_statistics import band
from benchmarks.convergence.problems import PROBLEMS, REAL, load
from benchmarks.convergence.recorded_study import read
from benchmarks.convergence.study import PILOT_SEEDS

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results"


@pytest.mark.parametrize("problem", fixed_targets.kept())
def test_a_target_is_the_worst_arms_median_over_the_pilot_seeds(problem):
    kept = fixed_targets.kept()[problem]
    medians = [band(list(arm["final_train_losses"].values())).median for arm in kept["pilots"].values()]
    assert kept["target"] == max(medians) == fixed_targets.of(problem)
    assert {arm.name for arm in core(load(problem))} <= set(kept["pilots"])
    for arm in kept["pilots"].values():
        assert set(arm["final_train_losses"]) == set(map(str, PILOT_SEEDS))
        assert arm["rate"] > 0


@pytest.mark.parametrize("folder", ["convergence", "convergence-real"])
def test_the_targets_are_what_the_committed_studies_give(folder):
    found = fixed_targets.from_pilots(read(RESULTS / folder / "tables"))
    assert found == {problem: fixed_targets.kept()[problem] for problem in found}
    assert {problem for problem in PROBLEMS if (problem in REAL) == (folder == "convergence-real")} == set(found)


def test_what_a_study_gives_is_what_its_sweep_holds(study_of):
    arms = core(load("iris"))
    found = fixed_targets.from_pilots(study_of(problems=("iris",), arms=arms))["iris"]
    sweep = study_of(problems=("iris",), arms=arms).rows("sweep", rate=0.1)
    for arm in arms:
        losses = sweep[sweep["arm"] == arm.name].set_index("seed")["final_train_loss"]
        assert found["pilots"][arm.name]["final_train_losses"] == {str(seed): loss for seed, loss in losses.items()}
    assert found["target"] == sweep.groupby("arm")["final_train_loss"].median().max()
    assert json.loads(fixed_targets.text({"iris": found})) == {"iris": found}


def test_a_study_without_a_regime_gives_no_target(study_of):
    with pytest.raises(ValueError, match="iris: expected a study of all three regimes, found none of mini-batch 32"):
        fixed_targets.from_pilots(study_of(problems=("iris",), arms=(Arm(None), Arm(1))))


def test_pilots_that_diverge_give_no_target():
    pilots = {"batch": {"final_train_losses": {"1000": float("inf"), "1001": float("inf"), "1002": 0.1}}}
    with pytest.raises(ValueError, match="expected pilot runs that converge"):
        fixed_targets.target(pilots)
