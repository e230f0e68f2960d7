"""`python -m benchmarks convergence` and `report`, from outside: usage, folders, kills, interrupts, executors."""

import json
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import fake_training
import pytest
from click.testing import CliRunner
from handmade_studies import results

from benchmarks.__main__ import LAZY, benchmarks
from benchmarks.convergence import cells, executors, study_folder, study_tables
from benchmarks.convergence.arms import core
from benchmarks.convergence.problems import PROBLEMS, load

ROOT = Path(__file__).parents[3]
TINY = ("--problem", "line", "--regime", "batch", "--regime", "stochastic", "--iterations", "50", "--seeds", "2")
TINY = (*TINY, "--no-times", "--no-report")


def called(*args):
    return CliRunner().invoke(benchmarks, list(map(str, args)))


def convergence(folder, *args):
    return called("convergence", "--out", folder, *args)


def begun(folder, *args):
    """The same as a program of its own, in which warnings are errors."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "benchmarks", "convergence", "--out", str(folder), *map(str, args)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def tables(folder):
    return {file.name: file.read_bytes() for file in (folder / "tables").iterdir()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The folder of a whole study by the pool of processes, and what the program printed."""
    folder = tmp_path_factory.mktemp("undisturbed") / "study"
    program = begun(folder, *TINY, "--jobs", 2)
    out, said = program.communicate()
    assert program.returncode == 0, said
    return folder, out, said


def test_a_study_from_the_command_line(undisturbed):
    folder, out, said = undisturbed
    assert out == f"{folder}/tables\n"
    stages = [line.partition(":")[0] for line in said.splitlines()]
    assert stages[0] == "sweep"
    assert stages[-3:] == ["final runs", "theory and twin", "times"]
    assert all("computed in" in line and "found in the folder" in line for line in said.splitlines())
    assert (folder / "tables" / "curves.csv").read_text().count("\n") > 90


def test_figures_and_page_of_a_study_and_again_from_the_tables_alone(undisturbed, tmp_path):
    folder = shutil.copytree(undisturbed[0], tmp_path / "study")
    result = convergence(folder, *TINY, "--resume", "--report", "--executor", "serial")
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{folder}/report.html\n"
    assert {file.suffix for file in (folder / "figures").iterdir()} == {".png", ".svg"}
    again = tmp_path / "again"
    shutil.copytree(folder / "tables", again / "tables")
    result = called("report", again)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{again}/report.html\n"
    assert {file.name for file in again.iterdir()} == {"tables", "figures", "report.html"}
    for file in (Path("report.html"), *(Path("figures") / file.name for file in (folder / "figures").iterdir())):
        assert (again / file).read_bytes() == (folder / file).read_bytes()


def kept(folder):
    """How many cells and parts are there."""
    return sum(1 for part in ("cells", "parts") for _ in (folder / part).rglob("*.json"))


def test_killed_five_times_and_resumed_the_tables_are_the_same(undisturbed, tmp_path):
    """Each kill comes at a random moment after a random number of files, so that they are spread over the study."""
    whole, folder, draws = undisturbed[0], tmp_path / "study", random.Random(0)
    total, found = kept(whole), []
    for left in range(5, 0, -1):
        program = begun(folder, *TINY, "--jobs", 2, "--resume")
        goal = kept(folder) + draws.randint(0, (total - 1 - kept(folder)) // left)
        while kept(folder) < goal and program.poll() is None:
            time.sleep(0.002)
        with suppress(subprocess.TimeoutExpired):
            program.wait(draws.uniform(0, 0.2))
        program.kill()
        _, said = program.communicate()
        assert program.returncode == -signal.SIGKILL, said
        found.append(kept(folder))
    assert found == sorted(found)
    assert len({count for count in found if 0 < count < total}) >= 3
    program = begun(folder, *TINY, "--jobs", 2, "--resume")
    _, said = program.communicate()
    assert program.returncode == 0, said
    assert tables(folder) == tables(whole)


@pytest.mark.parametrize("spec", ["serial", "dask"])
def test_the_tables_do_not_depend_on_the_executor(spec, undisturbed, request, tmp_path):
    spec = request.getfixturevalue("dask") if spec == "dask" else spec
    result = convergence(tmp_path / "study", *TINY, "--executor", spec)
    assert result.exit_code == 0, result.output
    # This process has loaded other libraries than the program has: the environment is another.
    found, expected = tables(tmp_path / "study"), tables(undisturbed[0])
    assert found.keys() == expected.keys()
    assert {name: found[name] for name in found if name != "environment.json"} == {
        name: expected[name] for name in expected if name != "environment.json"
    }


def test_a_complete_study_computes_nothing_and_draws_again(undisturbed, tmp_path, monkeypatch):
    shutil.copytree(undisturbed[0], tmp_path / "study")
    shutil.rmtree(tmp_path / "study" / "tables")
    monkeypatch.setattr(cells, "train", None)
    result = convergence(tmp_path / "study", *TINY, "--resume", "--executor", "serial")
    assert result.exit_code == 0, result.output
    assert set(re.findall(r": (\d+) computed in", result.stderr)) == {"0"}
    assert tables(tmp_path / "study") == tables(undisturbed[0])


@pytest.mark.parametrize("broken", ["no folder", "no tables", "a table missing", "a table damaged"])
def test_a_report_of_what_is_no_study(broken, undisturbed, tmp_path):
    folder = tmp_path / "study"
    if broken != "no folder":
        folder.mkdir()
    if broken.startswith("a table"):
        shutil.copytree(undisturbed[0] / "tables", folder / "tables")
        (folder / "tables" / "curves.csv").unlink()
    if broken == "a table damaged":
        (folder / "tables" / "curves.csv").write_text("a,b\n1,2\n")
    result = called("report", folder)
    assert result.exit_code == 2
    assert str(folder) in result.stderr or "curves.csv" in result.stderr
    assert not (folder / "report.html").exists()


USAGE = {
    "problem": (["--problem", "spirals"], "'spirals' is not one of 'line', 'xor', 'iris'"),
    "regime": (["--regime", "adaptive"], "'adaptive' is not one of 'batch', 'mini-batch', 'stochastic'"),
    "no seeds": (["--seeds", "0"], "0 is not in the range 1<=x<=1000"),
    "pilot seeds": (["--seeds", "1001"], "1001 is not in the range 1<=x<=1000"),
    "no iterations": (["--iterations", "0"], "0 is not in the range x>=1"),
    "half an iteration": (["--iterations", "0.5"], "'0.5' is not a valid integer range"),
    "no jobs": (["--jobs", "0"], "0 is not in the range x>=1"),
    "two studies": (["--full", "--real"], "--full and --real are two studies: expected one of them"),
    "jobs of others": (["--jobs", "2", "--executor", "serial"], "--jobs belongs to --executor process"),
    "engine": (["--engine", "jax"], "'jax' is not one of 'refnet', 'torch', 'both'"),
    "executor": (["--executor", "dask"], "expected serial, process, dask://HOST:PORT or mpi, got 'dask'"),
    "port": (["--executor", "dask://h:port"], "expected serial, process, dask://HOST:PORT or mpi"),
    "scheduler": (["--executor", "dask://127.0.0.1:9"], "no Dask scheduler answers at 127.0.0.1:9"),
}


@pytest.mark.parametrize("case", USAGE)
def test_bad_usage_ends_with_2_a_message_and_nothing_written(case, tmp_path, monkeypatch):
    monkeypatch.setattr(executors, "CONNECTING", 1)
    args, message = USAGE[case]
    result = convergence(tmp_path / "study", *args)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_no_place_for_the_study(undisturbed, tmp_path):
    folder = shutil.copytree(undisturbed[0], tmp_path / "study")
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    about = json.loads((folder / "study.json").read_text())
    for args, message in (
        (TINY, "holds this study already: go on with --resume"),
        ((*TINY, "--resume", "--seeds", 3), "holds another study (seeds: 2 there, 3 here)"),
        ((*TINY, "--resume", "--engine", "both"), 'holds another study (engine: "refnet" there, "both" here)'),
    ):
        result = convergence(folder, *args)
        assert (result.exit_code, message in result.stderr) == (2, True), result.stderr
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before
    (folder / "study.json").write_text(json.dumps(about | {"format": study_folder.FORMAT + 1}))
    result = convergence(folder, *TINY, "--resume")
    assert (result.exit_code, "newer version" in result.stderr) == (2, True)
    (tmp_path / "file").touch()
    result = convergence(tmp_path / "file", *TINY)
    assert (result.exit_code, "expected a folder" in result.stderr) == (2, True)


def test_damaged_cells_are_computed_again_and_told(undisturbed, tmp_path):
    folder = shutil.copytree(undisturbed[0], tmp_path / "study")
    damaged = sorted((folder / "cells").rglob("*.json"))[::20]
    for file in damaged:
        file.write_bytes(file.read_bytes()[:100])
    result = convergence(folder, *TINY, "--resume", "--executor", "serial")
    assert result.exit_code == 0, result.output
    for file in damaged:
        assert f"{file} is damaged" in result.stderr
    assert sum(map(int, re.findall(r": (\d+) computed in", result.stderr))) == len(damaged) > 3
    assert tables(folder) == tables(undisturbed[0])


@pytest.mark.parametrize("spec", ["serial", "process"])
def test_an_interrupted_study_says_so_and_goes_on(spec, undisturbed, tmp_path):
    folder = tmp_path / "study"
    program = begun(folder, *TINY, "--executor", spec)
    while not kept(folder) and program.poll() is None:
        time.sleep(0.01)
    program.send_signal(signal.SIGINT)
    out, said = program.communicate()
    assert program.returncode == 130
    assert said.splitlines()[-1] == "Error: interrupted; what was computed is kept: go on with --resume"
    assert "Traceback" not in said
    assert out == ""
    assert 0 < kept(folder) < kept(undisturbed[0])
    result = convergence(folder, *TINY, "--resume", "--executor", "serial")
    assert result.exit_code == 0, result.output
    assert tables(folder) == tables(undisturbed[0])


def test_workers_that_die_again_and_again(tmp_path, monkeypatch):
    monkeypatch.setattr(cells, "train", fake_training.die)
    result = convergence(tmp_path / "study", *TINY, "--jobs", 1)
    assert result.exit_code == 1
    assert "workers died 3 times in a row" in result.stderr
    assert "go on with --resume" in result.stderr


def test_targets_of_a_study_that_has_none(undisturbed, tmp_path):
    result = called("targets", undisturbed[0], "--out", tmp_path / "targets.json")
    assert result.exit_code == 2
    assert "line: expected a study of all three regimes, found none of mini-batch 16" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_targets_of_a_study(tmp_path):
    study_tables.write(
        tmp_path / "study" / "tables", results(problems=("iris",), arms=core(load("iris")), beside=False)
    )
    result = called("targets", tmp_path / "study", "--out", tmp_path / "targets.json")
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "targets.json").read_text())
    assert found == json.loads(called("targets", tmp_path / "study").output)
    assert list(found) == ["iris"]
    assert set(found["iris"]["pilots"]) == {"batch", "mini-batch 32", "stochastic"}


def test_help_loads_nothing_heavy_and_tells_what_the_commands_tell():
    program = """
import sys
from benchmarks.__main__ import benchmarks
benchmarks(["--help"], standalone_mode=False)
print({"numpy", "refnet", "torch", "pandas", "matplotlib", "sklearn", "rich", "distributed"} & set(sys.modules))
"""
    shown = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert shown.endswith("set()\n")
    for name, (place, about) in LAZY.items():
        assert name in shown
        module, _, attribute = place.partition(":")
        assert getattr(import_module(module), attribute).help.partition("\n")[0] == about


def test_every_problem_and_regime_is_in_the_help():
    shown = called("convergence", "--help").output
    for name in (*PROBLEMS, "batch", "mini-batch", "stochastic"):
        assert name in shown
