"""The committed study, and what the README says of it."""

import re
from pathlib import Path

import pytest

from benchmarks.convergence.arms import REGIMES
from benchmarks.convergence.problems import PROBLEMS, REAL
from benchmarks.convergence.recorded_study import read
from benchmarks.convergence.report import sentences

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SECTION = README[README.index("## Batch, mini-batch and stochastic") : README.index("## Speed")]


@pytest.fixture(scope="module")
def study():
    return read(ROOT / "benchmarks" / "results" / "convergence" / "tables")


def test_the_three_sentences_of_the_readme_are_the_tables(study):
    shown = re.findall(r"^- (.*)$", SECTION, flags=re.MULTILINE)
    assert len(shown) == 3
    found = list(sentences.in_short(study))
    assert [sentence for sentence in shown if sentence not in found] == []


def test_sentences_follow_the_tables(study):
    """With another table they would be others."""
    changed = study.frames["summary"].copy()
    changed.loc[changed["arm"] == "stochastic", ["update_to_target_median", "samples_to_target_median"]] = 1.0
    other = type(study)({**study.frames, "summary": changed}, study.environment)
    shown = re.findall(r"^- (.*)$", SECTION, flags=re.MULTILINE)
    found = list(sentences.in_short(other))
    assert all(sentence not in found for sentence in shown)


def test_it_is_the_study_that_the_readme_describes(study):
    assert set(study.problems) == set(PROBLEMS) - set(REAL)
    assert "20 runs of 10,000 updates" in " ".join(SECTION.split())
    assert study.iterations == 10_000
    summary, sweep = study.frames["summary"], study.frames["sweep"]
    assert set(summary["seeds"]) == {20}
    assert {study.arms(problem)[k].regime for problem in study.problems for k in range(5)} <= set(REGIMES)
    assert set(sweep["seed"]).isdisjoint(range(20))
    trials = sweep.groupby(["problem", "arm"]).size().groupby("problem").nunique()
    assert set(trials) == {1}
    assert study.frames["rates"]["inside"].all()
