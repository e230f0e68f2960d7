"""Mutants that tests have to notice: who is called killed, a hundredth of all, and the committed results."""

import json
import os
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from benchmarks import tested_mutants
from benchmarks.tested_mutants import EXCUSED, ROOT, TESTS, State, mutants_command
from parity.engines import mutants

RESULTS = ROOT / "benchmarks" / "results" / "tested-mutants.json"
SLOW = ("refnet.train.index_samplers", "refnet.train.sampler", "refnet.nn.init", "refnet.generator")
"""Modules whose tests take some seconds."""


def run(*arguments):
    """A process of its own, as mutants are copies of it."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, env=env, capture_output=True, text=True)


SCRIPT = """
import json, sys
import click
from benchmarks import tested_mutants

home = "refnet.amp.grad_scaler"
asked, tested_mutants.WAITED = json.loads(sys.argv[1])
for file, *numbers in asked:
    tested_mutants.TESTS[home] = (file,)
    tested_mutants.part = lambda made, *rest: [made[n] for n in numbers]
    try:
        (found,) = tested_mutants.run([home])
    except click.ClickException as error:
        print(error.message.partition(",")[0])
        continue
    for text, by in found.killed.items():
        print("killed", text.split()[1], by.rpartition("/")[2])
    for text in found.survived:
        print("survived", text.split()[1])
"""


def failing_by(what):
    """A test that does this where the scale is not the right one."""
    return (
        "import itertools, os, signal, time\nfrom refnet.amp import GradScaler\n\n"
        f"def test_scale():\n    if GradScaler().get_scale() != 65536.0:\n        {what}\n"
    )


def told(folder, tests, waited):
    """What is said of mutants, put to one file of tests after the other."""
    asked = []
    for name, (text, *numbers) in tests.items():
        file = folder / f"test_{name}.py"
        file.write_text(text)
        asked.append([str(file), *numbers])
    return run("-c", SCRIPT, json.dumps([asked, waited])).stdout.splitlines()


def test_a_mutant_is_killed_by_the_test_that_fails_and_survives_where_none_does(tmp_path):
    made = mutants.in_file("refnet.amp.grad_scaler")
    first, second = (m.number for m in made if m.before == "2.0 ** 16")
    (other,) = (m.number for m in made if m.after == "growth_interval=2001")
    right = "from refnet.amp import GradScaler\n\ndef test_scale():\n    assert GradScaler().get_scale() == 65536.0\n"
    tests = {
        "right": (right, first, second, other),
        # In C, where no signal reaches Python.
        "endless": (failing_by("sum(itertools.repeat(0))"), first),
        "leaving": (failing_by("assert os.fork() == 0; time.sleep(600)"), first),
        "collected": (right.replace("def", "assert GradScaler().get_scale() == 65536.0\n\ndef"), first),
        "failing": (right.replace("65536.0", "1.0"), first),
    }
    assert told(tmp_path, tests, tested_mutants.WAITED) == [
        f"killed #{first} test_right.py::test_scale",
        f"killed #{second} test_right.py::test_scale",
        f"survived #{other}",
        f"killed #{first} no end in time",
        # What the test began, and what still waits, does not keep it from being told.
        f"killed #{first} test_leaving.py::test_scale",
        f"killed #{first} test_collected.py",
        "refnet.amp.grad_scaler: expected its tests to pass without a change",
    ]


def test_a_mutant_that_waits_for_ever_is_ended(tmp_path):
    """Even where a test has taken the alarm away."""
    first = next(m.number for m in mutants.in_file("refnet.amp.grad_scaler") if m.before == "2.0 ** 16")
    tests = {"waiting": (failing_by("signal.alarm(0); signal.pause()"), first)}
    assert told(tmp_path, tests, 0.5) == [f"killed #{first} no end in time"]


def hundredth(names):
    done = run("-m", "benchmarks", "mutants", "--share", "0.01", *names)
    survived = [line for line in done.stdout.splitlines() if line.startswith("survived: ")]
    assert (done.returncode, survived) == (0, []), done.stderr
    assert done.stdout.count("100%") == len(names)


def test_a_hundredth_of_schedules_clipping_and_averages():
    hundredth([name for name in TESTS if name not in SLOW])


@pytest.mark.slow
def test_a_hundredth_of_samplers_initial_values_and_the_generator():
    hundredth(SLOW)


def test_what_was_killed_is_kept_while_the_module_is_unchanged(tmp_path, monkeypatch):
    file = tmp_path / "state.json"
    State(file).keep("refnet.nn.utils", {3: "a test"})
    assert State(file).killed("refnet.nn.utils") == {3: "a test"}
    assert State(file).killed("refnet.amp.grad_scaler") == {}
    monkeypatch.setattr(tested_mutants, "_digest", lambda home: "another")
    assert State(file).killed("refnet.nn.utils") == {}
    file.write_text("[]")
    with pytest.raises(click.UsageError, match="--resume: expected a file that this command wrote"):
        State(file)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["refnet.nn.linear"], "expected a module among refnet.optim.lr_scheduler, "),
        (["--out", "no/such/folder/file.json"], "expected a file in a folder that exists and is writable"),
        (["--share", "0"], "0<x<=1"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    result = CliRunner().invoke(mutants_command, arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


def test_the_tests_of_every_module_are_there():
    for name, files in TESTS.items():
        assert mutants.in_file(name)
        assert files
        assert all((ROOT / "tests" / "refnet" / file).is_file() for file in files)


def test_the_committed_results_keep_what_is_asked():
    """98% of each module's are killed, the excused apart; no more than 5% of all are excused; each excuse is needed."""
    document = json.loads(RESULTS.read_text(encoding="utf-8"))
    kept = document["modules"]
    assert (document["share"], [one["module"] for one in kept]) == (1.0, list(TESTS))
    for one in kept:
        judged = one["mutants"] - len(one["excused"])
        assert one["killed"] + len(one["survived"]) == judged
        assert one["killed"] >= 0.98 * judged, one["module"]
    assert sum(len(one["excused"]) for one in kept) <= 0.05 * sum(one["mutants"] for one in kept)
    assert {reason for one in kept for reason in one["excused"].values()} == set(EXCUSED.values())


def test_every_excuse_is_written_and_is_of_a_mutant_that_is_there():
    assert set(EXCUSED) <= {m.key for name in TESTS for m in mutants.in_file(name)}
    assert all(len(reason) > 20 for reason in EXCUSED.values())
