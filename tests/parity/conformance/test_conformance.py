"""The plugin and the conformance tests, as they run in somebody else's project."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
# Hypothesis is loaded at the end of every run otherwise, which takes longer than the run.
PLUGINS = ("-p", "parity.plugin", "-p", "no:cacheprovider", "-p", "no:hypothesispytest")

ENGINE = """
import numpy as np
import parity


class Mine(parity.Engine):
    def vjp(self, record):
        if record.spec.type != "ReLU":
            raise parity.Unsupported("only ReLU")
        (x,), (g,) = record.inputs, record.grad_outputs
        wrong = 2 if record.inputs[0].ndim == 1 else 1
        return {"output": np.where(x > 0, x, 0 * x), "grad_input": wrong * np.where(x > 0, g, 0 * g)}
"""


@pytest.fixture
def project(tmp_path):
    """Runs pytest in a project of one's own; gives its exit code and its text."""
    (tmp_path / "mine.py").write_text(ENGINE)

    def run(*args):
        command = [sys.executable, "-m", "pytest", *PLUGINS, "-rA", *args]
        path = os.pathsep.join([str(REPOSITORY), str(tmp_path)])
        environment = {**os.environ, "PYTHONPATH": path, "COLUMNS": "200"}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    return run


CONFORMANCE = ("--pyargs", "parity.conformance", "--parity-engine", "mine:Mine", "-k", "ReLU and float64 and axis")


def test_the_catalogue_with_lists(project, tmp_path):
    code, text = project(*CONFORMANCE)
    assert code == 1
    assert "consistent with: a constant factor: 2 times the truth in grad_input" in text
    assert "this record alone: parity run --case 'ReLU/one axis' --family grid --dtype float64" in text
    (tmp_path / "xfails.txt").write_text("# known\nReLU/one axis, *, float64  # bug 7\n")
    code, text = project(*CONFORMANCE, "--parity-xfails", "xfails.txt")
    assert code == 0
    assert "bug 7" in text
    # One that passes is reported; under pytest-xdist too.
    (tmp_path / "xfails.txt").write_text("ReLU/*, *, float64\n")
    code, text = project(*CONFORMANCE[:-1], "ReLU and float64 and moderate", "--parity-xfails", "xfails.txt", "-n", "1")
    assert code == 1
    assert "XPASS(strict)" in text


def test_lists_and_engines_that_are_none(project, tmp_path):
    (tmp_path / "skips.txt").write_text("ReLU/moderate, gird, float64\n")
    code, text = project(*CONFORMANCE, "--parity-skips", "skips.txt")
    assert code != 0
    assert "expected lines that mean a record, got 'ReLU/moderate, gird, float64'" in text
    code, text = project("--pyargs", "parity.conformance")
    assert code != 0
    assert "expected --parity-engine NAME, got none" in text


def test_the_fixture(project, tmp_path):
    (tmp_path / "test_mine.py").write_text(
        textwrap.dedent(
            """
            import numpy as np
            import parity as module


            def test_right(parity):
                x = np.array([[0.0, -1.0, 2.0]])
                report = parity.check((lambda x: (np.maximum(x, 0), x), lambda g, x: g * (x > 0)), "relu", x)
                assert report.ok, report


            def test_wrong(parity):
                x = np.array([[0.5, -1.0, 2.0]])
                report = parity.check((lambda x: (np.maximum(x, 0), x), lambda g, x: 2 * g * (x > 0)), "relu", x)
                assert report.ok, report


            def test_names(parity):
                for name in module.__all__:
                    assert getattr(parity, name) is getattr(module, name) or name.startswith("check")


            def test_update(parity):
                params = {"w": np.array([1.0, 2.0])}
                step = lambda params, grads, state: ({"w": params["w"] - 0.1 * grads["w"]}, state)
                assert parity.check_update(step, "SGD", params, lr=0.1)


            def test_the_report_itself(parity):
                x = np.array([[0.5, -1.0, 2.0]])
                assert parity.check((lambda x: (np.maximum(x, 0), x), lambda g, x: 2 * g * (x > 0)), "relu", x)


            def test_usage(parity):
                parity.check(np.tanh, "tanhh", np.array([0.5]))
            """
        )
    )
    code, text = project("test_mine.py", "--parity-json", "reports.json", "--parity-seed", "3")
    assert code == 1
    assert "3 passed" in text
    # A call that can't be judged fails at the test's own line.
    assert "expected a function or class of torch.nn that refnet covers, got 'tanhh'" in text
    assert "parity/checking.py" not in text
    assert "not ok: " in text
    assert "consistent with: a constant factor: 2 times the truth in grad_input" in text
    document = json.loads((tmp_path / "reports.json").read_text())
    assert [(r["test"], r["ok"]) for r in document["reports"]] == [
        ("test_mine.py::test_right", True),
        ("test_mine.py::test_wrong", False),
        ("test_mine.py::test_update", True),
        ("test_mine.py::test_the_report_itself", False),
    ]
