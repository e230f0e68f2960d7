"""The program: its options, its exit codes, and one clear message for what it can't do."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from parity import cli
from parity.families.listing import FAULTS, REWRITINGS, catalogue, select
from parity.report import console
from parity.run import certifying, judging, scoring
from parity.run.results import CaseResult
from parity.vectors import store
from parity.verdict.score import Score, Scores
from parity.verdict.tensor import TensorVerdict

NAMES = [case.name for case in catalogue()]
REPOSITORY = Path(__file__).parents[2]

ADAPTER = """
    from parity.engines.refnet import RefnetEngine
    from pathlib import Path
    import os
    import time

    class Right(RefnetEngine):
        pass

    class Wrong(RefnetEngine):
        def vjp(self, record):
            return {name: 2 * tensor for name, tensor in super().vjp(record).items()}

    class Waits(RefnetEngine):
        def vjp(self, record):
            Path("writing").write_text(str(os.getpid()))
            Path("writing").rename("started")
            time.sleep(600)
"""


@pytest.fixture
def parity(monkeypatch, capsys):
    """Runs the program here; gives its exit code and what it printed."""
    monkeypatch.delenv("COLUMNS", raising=False)

    def run(*args):
        monkeypatch.setattr(sys, "argv", ["parity", *map(str, args)])
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def judged(monkeypatch):
    """In the place of a run: exact results; gives what it was asked, and what makes it fail."""
    asked = {}

    def run(cases, names, dtypes, jobs, timeout, done, profile=None, seeding=None):
        asked.update(cases=[case.name for case in cases], names=names, dtypes=dtypes, jobs=jobs, timeout=timeout)
        asked.update(profile=str(profile or ""))
        tensor = TensorVerdict("output", "exact")
        if asked.get("failing"):
            tensor = replace(tensor, verdict="FAIL", reason="expected 1, got 2")
        unsupported = asked.get("unsupported", ())
        return [
            CaseResult(case.name, family, dtype, name, unsupported="no")
            if name in unsupported
            else CaseResult(case.name, family, dtype, name, (tensor,))
            for case in cases
            for family in case.families
            for dtype in dtypes
            for name in names
        ]

    monkeypatch.setattr(judging, "run", run)
    return asked


@pytest.fixture
def scored(monkeypatch):
    """In the place of scoring: every mistake is caught, and what is asked for is flagged, or missed."""
    asked = {"caught": 3, "flagged": 0}

    def run(cases, dtype, jobs, start, done, each=True, reported=False, seeding=None):
        asked.update(cases=[case.name for case in cases], dtype=dtype)
        fault = Score(FAULTS[0], dtype, 3, asked["caught"], 2e6, "Linear/batch 3", "full", "output")
        harmless = Score(REWRITINGS[0], dtype, 3, asked["flagged"], 0.5, "Linear/batch 3", "full", "output")
        return Scores(dtype, (fault,), (harmless,), 2)

    monkeypatch.setattr(scoring, "run", run)
    return asked


def started(*args, cwd=None, **more):
    """The program in a process of its own."""
    command = [sys.executable, "-m", "parity", *args]
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=cwd, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more
    )


def ended(*args, cwd=None):
    process = started(*args, cwd=cwd)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


@pytest.fixture
def adapter(tmp_path):
    (tmp_path / "adapter.py").write_text(textwrap.dedent(ADAPTER))
    return tmp_path


# ---- help


@pytest.mark.parametrize(
    "args", [["--help"], ["-h"], ["--version"], ["run", "--help"], ["certify", "-h"], ["example", "-h"]]
)
def test_help_waits_for_nothing_heavy(args):
    code = (
        "import sys; from parity.cli import main; sys.argv[1:] = " + repr(args) + "\n"
        "main()\n"
        "print(sorted({'numpy', 'torch', 'rich', 'flint', 'mpmath', 'safetensors'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert len(done.stdout.splitlines()) > 1


def test_help_names_commands_options_and_exit_codes(parity):
    code, out, err = parity("--help")
    assert (code, err) == (0, "")
    for word in ("run", "certify", "example", "Exit code: 0", "1 when anything fails", "2 for bad"):
        assert word in out
    code, out, _ = parity("run", "--help")
    for option in ("-k PATTERN", "--engine NAME", "--dtype DTYPE", "--list", "--json FILE", "--junit FILE", "--jobs"):
        assert option in out


def test_version(parity):
    import refnet

    code, out, _ = parity("--version")
    assert code == 0
    assert refnet.__version__ in out


def test_the_module_is_the_same_program(parity):
    assert ended("--help")[:2] == parity("--help")[:2]


# ---- what is run


def test_list(parity):
    code, out, err = parity("run", "--list")
    assert (code, err) == (0, "")
    assert out.splitlines() == NAMES
    assert parity("run", "--list", "-k", "Linear/batch ?")[1].splitlines() == [
        name for name in NAMES if name.startswith("Linear/batch ") and len(name) == len("Linear/batch ?")
    ]


def test_without_a_command_everything_is_judged(parity, judged, scored):
    code, out, _ = parity()
    assert code == 0
    assert judged["cases"] == NAMES
    assert judged["names"] == ("refnet", "torch")
    assert judged["dtypes"] == ("float64", "float32")
    assert judged["timeout"] == 120.0
    assert f"refnet conforms on all {2 * sum(len(case.families) for case in catalogue())} records" in out
    assert (scored["cases"], scored["dtype"]) == (NAMES, "float64")
    assert "the yardstick itself: 1 of 1 known mistakes caught, 0 of 1 harmless rewritings flagged" in out


def test_the_yardstick_is_scored_where_it_is_asked_for(parity, judged, scored):
    assert parity("--help")[0] == 0
    assert parity("run", "-k", "Linear/batch 3")[0] == 0
    assert parity("run", "--no-faults")[0] == 0
    assert "cases" not in scored
    assert "the yardstick itself" in parity("run", "-k", "Linear/batch 3", "--faults")[1]
    assert scored["cases"] == ["Linear/batch 3"]


def test_a_missed_mistake_fails_the_whole_but_not_a_part(parity, judged, scored):
    scored["caught"] = 0
    assert parity("run")[0] == parity("faults")[0] == 1
    assert parity("run", "-k", "Linear/", "--faults")[0] == parity("faults", "-k", "Linear/")[0] == 0
    scored["flagged"] = 1
    assert parity("run", "-k", "Linear/", "--faults")[0] == parity("faults", "-k", "Linear/")[0] == 1


def test_faults(parity, scored):
    code, out, _ = parity("faults", "-k", "Linear/", "--dtype", "float32")
    assert code == 0
    assert scored["dtype"] == "float32"
    assert FAULTS[0].name in out
    assert f"harmless: {REWRITINGS[0].name}" in out
    assert max(map(len, out.partition("the yardstick itself")[0].splitlines())) <= 120
    code, out, err = parity("faults", "--dtype", "float16")
    assert (code, out) == (2, "")
    assert "'float16' is not one of 'float64', 'float32'" in err


def test_options(parity, judged):
    options = "-k Linear/ --engine torch --engine refnet --engine torch --dtype float32 --dtype float32"
    assert parity("run", *options.split(), "--jobs", 3, "--timeout", 7.5)[0] == 0
    assert judged["names"] == ("torch", "refnet")
    assert judged["dtypes"] == ("float32",)
    assert (judged["jobs"], judged["timeout"]) == (3, 7.5)
    assert all("Linear/" in name for name in judged["cases"])


def test_the_report(parity, judged):
    code, out, _ = parity("run", "-k", "Linear/batch 3")
    lines = out.splitlines()
    assert code == 0
    assert max(map(len, lines)) <= 120
    assert "\x1b" not in out
    assert lines[0].split()[:2] == ["case", "tensor"]
    assert lines[1].strip() == "Linear"
    assert "FAIL" not in out
    assert "torch conforms on all 4 records of 1 case, 4 tensors: 4 exact" in lines


def test_a_failure_is_told_and_ends_in_1(parity, judged):
    judged["failing"] = True
    code, out, err = parity("run", "-k", "Linear/batch 3", "--engine", "refnet", "--dtype", "float64")
    assert (code, err) == (1, "")
    assert "FAIL refnet: Linear/batch 3 (grid, float64), output\n     expected 1, got 2" in out
    assert "refnet FAILS in 2 of 2 records of 1 case" in out


def test_many_failures_are_cut_unless_all_are_asked_for(parity, judged):
    judged["failing"] = True
    few = parity("run", "-k", "Linear/")[1]
    assert few.count("FAIL refnet:") + few.count("FAIL torch:") == console.FAILURES
    assert " more: all of them with --verbose or --json FILE" in few
    every = parity("run", "-k", "Linear/", "-v")[1]
    assert every.count("expected 1, got 2") == 4 * sum(len(case.families) for case in select("Linear/"))
    assert "more: all" not in every


def test_nothing_judged_is_not_0(parity, judged):
    judged["unsupported"] = ("torch",)
    code, out, _ = parity("run", "-k", "Linear/batch 3")
    assert code == 1
    assert "torch answers none of 4 records" in out
    assert parity("run", "-k", "Linear/batch 3", "--engine", "refnet")[0] == 0


def test_coverage_can_be_required(parity, judged):
    assert parity("run", "-k", "Linear/batch 3", "--require-coverage", 100)[0] == 0
    judged["unsupported"] = ("torch",)
    code, out, _ = parity("run", "-k", "Linear/batch 3", "--require-coverage", 12.5)
    assert code == 1
    assert "torch is judged on 0% of the records, 12.5% is required" in out
    assert "refnet is judged on" not in out
    assert parity("run", "--require-coverage", 101)[0] == 2


def test_one_record_alone(parity, judged):
    assert parity("run", "--case", "Linear/batch 3", "--family", "grid", "--dtype", "float32")[0] == 0
    assert (judged["cases"], judged["dtypes"]) == (["Linear/batch 3"], ("float32",))
    assert parity("run", "--list", "--case", "Linear/batch 3")[1] == "Linear/batch 3\n"
    code, out, err = parity("run", "--case", "Linear/batch")
    assert (code, out) == (2, "")
    assert err == "parity: --case: expected a case's whole name (parity run --list), got 'Linear/batch'\n"
    training = next(case.name for case in catalogue() if case.families == ("full",))
    assert parity("run", "--case", training, "--family", "grid")[2] == (
        "parity: --family: expected a family of the case, got grid\n"
    )


# ---- files


def test_files(parity, judged, tmp_path):
    judged["failing"] = True
    files = tmp_path / "results.json", tmp_path / "results.xml"
    code, _, _ = parity("run", "-k", "Linear/batch 3", "--json", files[0], "--junit", files[1])
    assert code == 1
    document = json.loads(files[0].read_text())
    assert (document["format"], document["conforms"], len(document["cases"])) == ("refnet-results", False, 8)
    assert set(document["environment"]) == {"python", "machine", "system", "refnet", "numpy", "torch"}
    assert ET.parse(files[1]).getroot().get("failures") == "8"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("option", ["--json", "--junit"])
def test_a_place_that_cannot_be_written_to_is_refused_before_the_run(parity, judged, tmp_path, option):
    places = [tmp_path, tmp_path / "missing" / "file"]
    if os.geteuid() != 0:
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o500)
        places.append(closed / "file")
    for place in places:
        code, out, err = parity("run", "-k", "Linear/batch 3", option, place)
        assert (code, out) == (2, "")
        assert err == f"parity: {place}: expected a file in a folder that exists and is writable\n"
    assert judged == {}


def test_a_full_disk_costs_the_file_but_not_the_report(parity, judged, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    code, out, err = parity("run", "-k", "Linear/batch 3", "--json", tmp_path / "results.json")
    assert code == 2
    assert "refnet conforms on all" in out
    assert err.endswith("results.json: expected a place to write to, got: No space left on device\n")
    assert list(tmp_path.iterdir()) == []


def test_json_to_standard_output(judged):
    """A pipe is written to as it is."""
    read, write = os.pipe()
    store.replace(Path(f"/dev/fd/{write}"), b"{}\n")
    os.close(write)
    assert os.read(read, 100) == b"{}\n"
    os.close(read)


# ---- bad usage


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("run -k no_such_case", "expected a pattern that is part of a case's name (parity run --list), got 'no_such"),
        ("run -k Lineer", "got 'Lineer'; near it: Linear"),
        (
            "run --engine pytorch",
            "expected an engine named refnet, torch, torch:OPTIONS, jax, jax:OPTIONS, package.module:",
        ),
        ("run --engine no_such_package:Engine", "engine no_such_package:Engine: expected the package no_such_package"),
        ("run --json x --junit x", "--json and --junit: expected two files, got x for both"),
        ("run --dtype float8", "--dtype: expected float64, float32, bfloat16 or float16, got float8"),
        ("run --profile float32,deep", "--profile: expected a profile such as"),
        ("run --dtype float32 --profile tf32,depth=3", "--profile: expected a profile such as"),
        ("run --dtype float64 --profile tf32", "--profile: expected a profile of float64, as --dtype has it"),
        ("certify -k no_such_case", "expected a pattern that is part of a case's name"),
    ],
)
def test_bad_usage(parity, judged, args, message):
    code, out, err = parity(*args.split())
    assert (code, out) == (2, "")
    assert err.startswith("parity: ")
    assert message in err
    assert err.count("\n") == 1
    assert judged == {}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("run --no-such-option", "--no-such-option"),
        ("run --engin refnet", "--engine"),
        ("no-such-command", "No such command 'no-such-command'"),
        ("run --jobs 0", "Invalid value for '--jobs': 0 is not in the range x>=1"),
        ("run --jobs two", "Invalid value for '--jobs': 'two' is not a valid integer"),
        ("run --timeout 0", "Invalid value for '--timeout': 0.0 is not in the range x>0"),
        ("run --json", "'--json' requires an argument"),
        ("run Linear", "unexpected extra argument"),
    ],
)
def test_bad_options(parity, judged, args, message):
    code, out, err = parity(*args.split())
    assert (code, out) == (2, "")
    assert message in err
    assert "Error: " in err
    assert "Traceback" not in err
    assert judged == {}


def test_without_torch(parity, judged, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    code, out, err = parity("run", "-k", "Linear/batch 3", "--engine", "torch")
    assert (code, out) == (2, "")
    assert err == ("parity: engine torch: expected the package torch, got none; install it with: pip install torch\n")
    assert judged == {}
    code, _, err = parity("run", "-k", "Linear/batch 3")
    assert (code, err) == (0, "parity: the package torch is not installed: refnet alone is judged\n")
    assert judged["names"] == ("refnet",)
    assert parity("run", "-k", "Linear/batch 3", "--engine", "refnet")[0] == 0


# ---- the program itself, in processes of its own


def test_an_engine_of_ones_own_from_the_current_folder(adapter):
    args = "run -k Linear/batch* --dtype float64 --engine refnet --engine adapter:Right --engine adapter:Wrong --jobs 1"
    code, out, err = ended(*args.split(), "--json", "out.json", cwd=adapter)
    assert (code, err) == (1, "")
    assert "adapter:Right conforms on all" in out
    assert "adapter:Wrong FAILS in" in out
    assert "consistent with: a constant factor: 2 times the truth" in out
    assert "Traceback" not in out
    document = json.loads((adapter / "out.json").read_text())
    assert [e["conforms"] for e in document["engines"].values()] == [True, True, False]


def test_an_engine_that_cannot_be_loaded(adapter):
    (adapter / "broken.py").write_text("import no_such_thing")
    code, out, err = ended(
        "run", "-k", "Linear/batch 3", "--engine", "broken:Engine", "--json", "out.json", cwd=adapter
    )
    assert (code, out) == (2, "")
    assert err == (
        "parity: engine broken:Engine: expected an importable module broken, "
        "got ModuleNotFoundError: No module named 'no_such_thing'\n"
    )
    assert not (adapter / "out.json").exists()


def test_an_interrupted_run(adapter):
    options = "-k Linear/batch* --engine adapter:Waits --jobs 1 --json out.json"
    process = started("run", *options.split(), cwd=adapter, start_new_session=True)
    while not (adapter / "started").exists():
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, out, err.strip()) == (130, "", "parity: interrupted")
    assert not (adapter / "out.json").exists()
    # No worker goes on alone.
    worker = int((adapter / "started").read_text())
    for _ in range(6_000):
        if gone(worker):
            break
        time.sleep(0.05)
    assert gone(worker)


def gone(pid):
    """Whether a process has ended, though nobody may have waited for it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    state = Path(f"/proc/{pid}/stat")
    return state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize("args", ["run --list", "--help"])
def test_a_pipe_that_closes_early(args):
    read, write = os.pipe()
    os.close(read)
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "parity", *args.split()]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, env=env, check=False)
    os.close(write)
    assert done.stderr == ""
    assert done.returncode == (141 if "--list" in args else 1)


# ---- certify and example


def certified(monkeypatch, report):
    asked = {}

    def run(cases, check, jobs, start, done):
        asked.update(cases=len(cases), check=check, jobs=jobs)
        start(2)
        done()
        return report

    monkeypatch.setattr(certifying, "run", run)
    return asked


def test_certify(parity, monkeypatch):
    asked = certified(monkeypatch, certifying.Report(computed=1, present=1))
    code, out, _ = parity("certify", "-k", "Linear/batch 3", "--jobs", 2)
    assert (code, out) == (0, "1 computed, 1 already there, 0 proved\n")
    assert asked == {"cases": 1, "check": False, "jobs": 2}


def test_certify_check_ends_in_1_where_something_differs(parity, monkeypatch):
    certified(monkeypatch, certifying.Report(equal=1, differing=["Linear/batch 3 (full, float64)"]))
    code, out, _ = parity("certify", "--check", "-k", "Linear/batch 3")
    assert code == 1
    assert out == "0 computed, 0 already there, 1 proved, 1 differ: Linear/batch 3 (full, float64)\n"


def test_certify_without_a_pattern_takes_the_worked_example_too(parity, monkeypatch):
    from parity import example

    monkeypatch.setattr(example, "check", lambda jobs, done: ["series.E.lo"])
    certified(monkeypatch, certifying.Report())
    code, out, _ = parity("certify", "--check")
    assert (code, out) == (1, "0 computed, 0 already there, 0 proved, 1 differ: the worked example: series.E.lo\n")
    certified(monkeypatch, certifying.Report())
    assert parity("certify")[:2] == (0, "0 computed, 1 already there, 0 proved\n")


def test_certify_without_flint(parity, monkeypatch):
    monkeypatch.setitem(sys.modules, "flint", None)
    code, out, err = parity("certify", "-k", "Linear/batch 3")
    assert (code, out) == (2, "")
    assert err == (
        "parity: certify: expected the package python-flint, got none; install it with: pip install python-flint\n"
    )
