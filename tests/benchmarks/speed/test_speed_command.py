"""The command as one calls it."""

import csv
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.speed import timed_rounds, whole_training
from benchmarks.speed.contenders import on_refnet
from benchmarks.speed.speed_command import speed
from benchmarks.speed.timed_rounds import Outcome

NAMES = ("speed", "speed-many", "trainings")
FILES = ["environment.json", "floors.csv", "speed.csv", "trainings.csv"]
FILES = sorted([*FILES, *(f"{name}.{kind}" for name in NAMES for kind in ("png", "svg"))])


@pytest.fixture(autouse=True)
def short_turns(monkeypatch):
    on_refnet.study.cache_clear()
    monkeypatch.setattr(on_refnet, "STUDY", 150)
    monkeypatch.setattr(timed_rounds, "ROUND", 4e-4)
    yield
    on_refnet.study.cache_clear()


def call(*arguments):
    return CliRunner().invoke(speed, arguments, catch_exceptions=False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--networks", "3-3-3"], "--networks: expected names or patterns of 2-2-2, 8-16-4"),
        (["--networks", "2-2-2,"], "got ''"),
        (["--contenders", "keras*"], "--contenders: expected names or patterns of products, refnet-plain"),
        (["--rounds", "2"], "2 is not in the range x>=3"),
        (["--rounds", "many"], "not a valid integer"),
        (["--dtype", "float16"], "'float16' is not one of"),
        (["--threads", "0"], "0 is not in the range x>=1"),
        (["--out", __file__], "is a file"),
        (["--out", f"{__file__}/folder"], "expected a folder to write to"),
        (["--unknown"], "No such option"),
    ],
)
def test_bad_usage(arguments, said):
    result = call(*arguments)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())
    assert not result.stdout


def test_what_is_needed_is_asked_for_first(monkeypatch, tmp_path):
    from importlib import util

    true = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name: None if name == "matplotlib" else true(name))
    result = call("--out", str(tmp_path / "out"))
    assert result.exit_code == 2
    assert "did not find matplotlib" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_run_prints_and_writes(tmp_path, monkeypatch):
    out = tmp_path / "new" / "out"
    set_inside = ("OMP_NUM_THREADS", "PJRT_NPROC", "XLA_FLAGS", "CACHEDB", "TORCHINDUCTOR_CACHE_DIR")
    before = [os.environ.get(name) for name in set_inside]
    # Nobody waits for a whole training, and a process that has but a part of a core is what tests have.
    monkeypatch.setattr(whole_training, "BUSY", 0.0)
    result = call("--networks", "2-2-2,16x*", "--contenders", "refnet*", "--rounds", "3", "--quick", "--out", str(out))
    assert result.exit_code == 0
    assert [os.environ.get(name) for name in set_inside] == before
    for text in ("2-2-2, batch 1, float64", "16x2-2-2", "products", "refnet-plain", "refnet-ensemble", "same bits"):
        assert text in result.stdout
    assert "torch" not in result.stdout.partition("network ")[0]
    assert sorted(file.name for file in out.iterdir()) == FILES
    common = ("products", "refnet-plain", "refnet-replayed", "refnet-captured")
    rows = list(csv.DictReader((out / "speed.csv").read_text().splitlines()))
    assert [(row["network"], row["contender"]) for row in rows] == [
        *(("2-2-2", contender) for contender in common),
        *(("16x2-2-2", contender) for contender in (*common, "refnet-ensemble")),
    ]
    assert all(row["status"] == "measured" and row["rounds"] == "3" for row in rows)
    (trained,) = csv.DictReader((out / "trainings.csv").read_text().splitlines())
    assert (trained["network"], trained["contender"], trained["updates"]) == ("2-2-2", "refnet-captured", "1000")
    assert 0 < float(trained["loaded"]) < float(trained["fresh"])
    assert "A training in a fresh process" in result.stdout
    where = json.loads((out / "environment.json").read_text())
    assert where["threads asked for"] == 1
    assert {"numpy", "refnet", "torch"} <= set(where["versions"])
    assert all(pool["num_threads"] == 1 for pool in where["threads"])


@pytest.mark.parametrize(("cores", "said"), [(0.5, True), (0.99, False)])
def test_a_busy_machine_is_named(cores, said, monkeypatch):
    monkeypatch.setattr(
        timed_rounds.Entry,
        "outcome",
        lambda entry: Outcome(
            entry.contender, entry.network, "measured", same_bits=True, cores=cores, seconds=np.ones(3)
        ),
    )
    result = call("--networks", "2-2-2", "--contenders", "refnet-plain,refnet-captured", "--quick", "--no-trainings")
    assert result.exit_code == 0
    assert ("not judged: the machine was busy" in result.stdout) is said
    assert ("The machine was busy with something else" in result.stdout) is said


def test_json_is_all_there_is():
    asked = ["--networks", "2-2-2", "--contenders", "refnet-c*", "--quick", "--dtype", "float32", "--no-trainings"]
    result = call(*asked, "--json")
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert set(document) == {"environment", "trainings", "speed", "growth", "floors"}
    assert document["trainings"] == []
    limit, own = document["speed"]
    assert (limit["contender"], own["contender"]) == ("products", "refnet-captured")
    assert own["dtype"] == document["environment"]["dtype"] == "float32"
    assert limit["limit"] == limit["limit_least"] == limit["limit_most"] == 1
    assert 0 < own["limit_least"] <= own["limit"] <= own["limit_most"]
    assert own["rounds"] == 5


def test_list():
    result = call("--list", "--networks", "cnn*", "--contenders", "jax*")
    assert result.exit_code == 0
    assert "cnn-14x14" in result.stdout
    assert "jax-vmap" in result.stdout
    assert "torch" not in result.stdout


def test_nothing_heavy_is_loaded_to_say_what_there_is():
    code = (
        "import sys; from click.testing import CliRunner; from benchmarks.speed.speed_command import speed\n"
        "assert CliRunner().invoke(speed, ['--help']).exit_code == 0\n"
        "print(sorted({'numpy', 'refnet', 'torch', 'jax', 'rich', 'matplotlib'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
