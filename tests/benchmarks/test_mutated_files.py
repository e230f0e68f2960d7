"""One in a hundred of the mutated files, every time; the committed results of all of them."""

import json
import random
from pathlib import Path

from benchmarks.mutated_files import good_answers, mutated, outcome, read_answers, run

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "mutated-files.json"
CLEAR = ("one line", "verdicts: ", "read: ")


def test_a_verdict_or_one_line():
    found = run(100, seed=1)
    assert sum(sum(counts.values()) for counts in found.values()) == 100
    assert {end for counts in found.values() for end in counts if not end.startswith(CLEAR)} == set()
    # The mutations reach past the first check.
    assert any(end.startswith("verdicts: ") for end in found["answers"])


def test_the_committed_results():
    document = json.loads(RESULTS.read_text())
    assert document["files"] == sum(sum(counts.values()) for counts in document["outcomes"].values()) == 10_000
    assert {end for counts in document["outcomes"].values() for end in counts if not end.startswith(CLEAR)} == set()


def test_what_would_be_told(tmp_path):
    def broken():
        raise KeyError("shape")

    assert outcome(broken) == "raised KeyError: 'shape'"
    assert read_answers(good_answers(), tmp_path) == "verdicts: all right"
    assert mutated(b"abc", random.Random(0)) != mutated(b"abc", random.Random(1))
