"""What both outputs show, and that it is made of what is at hand."""

import io
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import parity
from parity import example
from parity.example import content
from parity.records.record import UsageError
from parity.truth.value import Truth

ROOT = Path(parity.__file__).parents[1]


def python(code):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_it_costs_nothing():
    code = (
        "import sys, parity.example; print(sorted({'numpy', 'rich', 'torch', 'flint', 'refnet'} & sys.modules.keys()))"
    )
    assert python(code).strip() == "[]"


def test_a_report_needs_neither_flint_nor_torch():
    code = """
import sys
sys.modules["flint"] = sys.modules["torch"] = None
from rich.console import Console
from parity import example
example.report(Console(width=80))
"""
    text = python(code)
    assert "unsupported: torch is not installed" in text
    assert "0.29837110876000268861" in text


def test_an_unknown_dtype_is_refused():
    from rich.console import Console

    with pytest.raises(UsageError, match="expected a dtype float64 or float32, got float16"):
        example.report(Console(file=io.StringIO()), "float16")
    with pytest.raises(UsageError, match="float16"):
        example.as_json("float16")


def test_the_rule_of_signs_holds_for_each_weight_and_can_fail(kept):
    moved = content.rule_of_signs(kept)
    assert [m.weight for m in moved] == [f"w{n}" for n in range(1, 9)]
    assert [float(m.gradient.hi) > 0 for m in moved] == [True] * 6 + [False] * 2
    for one in moved:
        assert one.holds
        assert not replace(one, gradient=Truth.of(-float(one.gradient.hi))).holds
        assert not replace(one, smaller=one.error).holds
