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
    changed, times = study.frames["summary"].copy(), study.frames["times_to_target"].copy()
    changed.loc[changed["arm"] == "stochastic", ["update_to_target_median", "samples_to_target_median"]] = 1.0
    times.loc[times["arm"] == "stochastic", ["reached", "update", "samples"]] = [True, 1, 1.0]
    other = type(study)({**study.frames, "summary": changed, "times_to_target": times}, study.environment)
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


def test_what_the_readme_says_of_other_last_bits_is_in_the_tables(study):
    again = dict(sentences.survival(study))
    first, second, third = (again[shown] for shown in re.findall(r"^- (.*)$", SECTION, flags=re.MULTILINE))
    said = re.search(r"The first sentence stands\. In the second, (.*)\. In the third, it is (.*)\.$", SECTION, re.M)
    assert first == ""
    regime, count = re.fullmatch(r"(\S+) is first on (\d) problems", said[1]).groups()
    assert second.startswith(f"Fewest samples to the target: {regime} on {count} of {len(study.problems)} problems;")
    low, high = re.fullmatch(r"between (\S+) and (\S+) times as many", said[2]).groups()
    assert re.search(rf": between {low} \(.*\) and {high} \(.*\) times as many\.$", third)


def test_what_the_readme_says_of_real_sizes_is_in_the_tables():
    real = read(ROOT / "benchmarks" / "results" / "convergence-real" / "tables")
    updates, samples, more, *_ = sentences.in_short(real)
    for sentence in (updates, samples):
        assert sentence.endswith("to the target: on 2 problems the runs do not tell the first regime from another.")
    times = re.search(r"full batch goes through (\S+) times the samples", " ".join(SECTION.split()))[1]
    assert f": {times} times as many (All MNIST images" in more
    assert set(real.frames["summary"]["seeds"]) == {6}


@pytest.mark.parametrize("folder", ["convergence", "convergence-optimizers", "convergence-real"])
def test_each_link_of_a_committed_page_leads_somewhere(folder):
    folder = ROOT / "benchmarks" / "results" / folder
    page = (folder / "report.html").read_text(encoding="utf-8")
    links = set(re.findall(r'<a href="([^"#]+)"', page))
    assert len(links) > 20
    assert [link for link in links if not (folder / link).is_file()] == []
