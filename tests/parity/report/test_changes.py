import json
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from parity.cli import cli
from parity.records.record import UsageError
from parity.report import changes, export
from parity.run.results import CaseResult, Results, digests
from parity.verdict.tensor import TensorVerdict


def verdict(name, word, digits, formula="", reason=""):
    return TensorVerdict(name, word, formula, digits, 1.0, 0.5, (0,), 1e-7, 0.0, reason)


def save(file, engine, *records, torch="1.0"):
    """A file of results: each record is (dtype, verdicts, bits), or (dtype, reason why it is unsupported)."""
    cases = tuple(
        CaseResult("Tanh/batch 3", "full", dtype, engine, unsupported=rest[0])
        if isinstance(rest[0], str)
        else CaseResult("Tanh/batch 3", "full", dtype, engine, rest[0], bits=rest[1])
        for dtype, *rest in records
    )
    export.save_results(Results((engine,), cases, 1.0, {"numpy": "2.4", "torch": torch}), file, None)
    return file


@pytest.fixture
def before(tmp_path):
    tensors = (verdict("output", "exact", float("inf")), verdict("grad_input", "rounding", 7.0))
    return save(tmp_path / "a.json", "torch", ("float32", tensors, {"output": "00", "grad_input": "01"}))


def told(*arguments):
    done = CliRunner().invoke(cli, ["compare", *map(str, arguments)])
    return done.exit_code, done.output.splitlines()


NAME = "Tanh/batch 3, full, float32"


def test_nothing_moved(before):
    assert told(before, before) == (
        0,
        [
            "2 tensors in both, 0 in the first alone, 0 in the second alone",
            "same bits: 2 of 2 tensors",
            "no longer right: 0, right now: 0, moved otherwise: 0",
        ],
    )


def test_to_and_fro_within_rounding_is_no_move_and_a_lost_digit_is(before, tmp_path):
    tensors = (verdict("output", "rounding", 7.2), verdict("grad_input", "rounding", 5.5))
    bits = {"output": "00", "grad_input": "02"}
    after = save(tmp_path / "b.json", "torch", ("float32", tensors, bits), torch="2.0")
    status, lines = told(before, after)
    assert (status, lines) == (
        0,
        [
            "torch: 1.0 -> 2.0",
            f"moved: {NAME}, grad_input: rounding, 7.0 digits -> rounding, 5.5 digits",
            "1 tensor: rounding, by another formula or fewer digits",
            "2 tensors in both, 0 in the first alone, 0 in the second alone",
            "same bits: 1 of 2 tensors",
            "no longer right: 0, right now: 0, moved otherwise: 1",
        ],
    )
    assert not any(line.startswith("moved") for line in told(before, after, "--digits", 2)[1])


def test_a_tensor_that_left_the_truth_ends_in_exit_code_1(before, tmp_path):
    wrong = verdict("grad_input", "FAIL", 1.0, reason="3 of 3 elements outside their budget")
    tensors = (verdict("output", "exact", float("inf")), wrong)
    after = save(tmp_path / "b.json", "torch", ("float32", tensors, {}))
    status, lines = told(before, after)
    assert status == 1
    assert lines[:2] == [
        f"no longer right: {NAME}, grad_input: rounding, 7.0 digits -> FAIL, 1.0 digits",
        "  3 of 3 elements outside their budget",
    ]
    # One file has no bits: nothing is said of them.
    assert not any(line.startswith("same bits") for line in lines)
    status, lines = told(after, before)
    assert status == 0
    assert lines[0].startswith(f"right now: {NAME}, grad_input")


def test_what_is_no_longer_proved_is_not_called_wrong(before, tmp_path):
    lost = verdict("grad_input", "blind", -float("inf"), reason="zeros would pass")
    tensors = (verdict("output", "exact", float("inf")), lost)
    after = save(tmp_path / "b.json", "torch", ("float32", tensors, {"output": "00", "grad_input": "02"}))
    status, lines = told(before, after)
    assert status == 1
    assert lines[0] == f"no longer proved: {NAME}, grad_input: rounding, 7.0 digits -> blind, no digit"
    assert lines[1] == "  zeros would pass"
    assert lines[-1] == "no longer right: 0, no longer proved: 1, right now: 0, moved otherwise: 0"


def test_another_formula_is_named(before, tmp_path):
    tensors = (verdict("grad_input", "unstable", 6.5, "1 - y^2"),)
    after = save(tmp_path / "b.json", "torch", ("float32", tensors, {}))
    status, lines = told(before, after)
    assert (status, lines[0]) == (
        0,
        f"moved: {NAME}, grad_input: rounding, 7.0 digits -> unstable by 1 - y^2, 6.5 digits",
    )
    assert "1 tensors in both, 1 in the first alone, 0 in the second alone" in lines


def test_two_formats_beside_each_other(before, tmp_path):
    tensors = (verdict("output", "FAIL", 1.0), verdict("grad_input", "exact", 2.0))
    after = save(tmp_path / "b.json", "torch:dtype=bfloat16", ("bfloat16", tensors, {"output": "00"}))
    status, lines = told(before, after)
    assert (status, lines[1]) == (1, "0 tensors in both, 2 in the first alone, 2 in the second alone")
    apart = "nothing to compare: the first is in float32, the second in bfloat16"
    assert lines[2:] == [f"{apart}; --dtypes float32 bfloat16 holds one beside the other"]
    status, lines = told(before, after, "--dtypes", "float32", "bfloat16")
    assert status == 1
    assert lines[:2] == [
        "engine: torch -> torch:dtype=bfloat16",
        "no longer right: Tanh/batch 3, full, output: exact, every digit -> FAIL, 1.0 digits",
    ]
    assert lines[-1] == "no longer right: 1, right now: 0, moved otherwise: 0"


def test_what_is_no_longer_answered(before, tmp_path):
    tensors = (verdict("output", "exact", 16.0),)
    after = save(tmp_path / "b.json", "torch", ("float64", tensors, {}), ("float32", "no float32 here"))
    assert "1 records answered before, unsupported now" in told(before, after)[1]
    assert "1 records unsupported before" in told(after, before)[1]


def test_many_tensors_are_counted(tmp_path):
    good = tuple(verdict(f"part {k} output", "rounding", 7.0) for k in range(50))
    bad = tuple(verdict(f"part {k} output", "FAIL", 0.0) for k in range(50))
    files = [save(tmp_path / f"{k}.json", "torch", ("float32", t, {})) for k, t in enumerate((good, bad))]
    lines = told(*files)[1]
    assert sum(line.startswith("no longer right: Tanh") for line in lines) == changes.MOST
    assert f"no longer right: {50 - changes.MOST} tensors more (-v shows all)" in lines
    assert "50 tensors: rounding -> FAIL" in lines
    assert sum(line.startswith("no longer right: Tanh") for line in told(*files, "-v")[1]) == 50


@pytest.mark.arithmetic
def test_files_of_the_program(tmp_path):
    """Two engines of one file, of which one has another gradient."""
    mine = "from parity.engines.refnet import RefnetEngine\n\n\nclass Mine(RefnetEngine):\n"
    mine += "    def vjp(self, record):\n        answer = super().vjp(record)\n"
    mine += "        answer['grad_input'] = 2 * answer['grad_input']\n        return answer\n"
    (tmp_path / "mine.py").write_text(mine, encoding="utf-8")
    run = ["run", "--case", "Tanh/batch 3", "--dtype", "float64", "--family", "full", "--json", "both.json"]
    for arguments, status in (
        ([*run, "--engine", "refnet", "--engine", "mine.py:Mine"], 1),
        (["compare", "both.json", "both.json", "--engines", "refnet", "mine.py:Mine"], 1),
    ):
        command = [sys.executable, "-m", "parity", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stderr
    lines = done.stdout.splitlines()
    assert lines[1].startswith("no longer right: Tanh/batch 3, full, float64, grad_input: ")
    assert lines[-2:] == ["same bits: 1 of 2 tensors", "no longer right: 1, right now: 0, moved otherwise: 0"]


def test_bits_are_those_of_dtype_shape_and_bytes():
    x = np.arange(6.0)
    one = digests({"x": x})["x"]
    assert one == digests({"x": x.copy()})["x"]
    others = (x.reshape(2, 3), x.astype(np.float32), -x, np.arange(12.0)[::2] * 0.5 + 1e-300)
    assert one not in [digests({"x": other})["x"] for other in others]
    assert digests({"x": x})["x"] == digests({"x": np.repeat(x, 2)[::2]})["x"]


def broken(document, **changed):
    return json.dumps({**document, **changed})


def test_files_that_are_none_of_results(before, tmp_path):
    document = json.loads(before.read_text(encoding="utf-8"))
    (case,) = document["cases"]
    tensor = case["verdicts"][0]
    bad = tmp_path / "bad.json"
    for text, expected in (
        ("", "expected JSON"),
        ("[]", "expected an object, got list"),
        (broken(document, format="other"), "expected the format refnet-results, got other"),
        (broken(document, version=99), "expected version 1"),
        (broken(document, engines={"a": {}, "b": {}}), "expected --engines, since the file has results of a, b"),
        (broken(document, cases=[]), "expected tensors of torch, got none"),
        (broken(document, cases=[3]), "case 0: expected an object, got int"),
        (broken(document, cases=[{**case, "verdicts": [{**tensor, "verdict": "good"}]}]), "expected a verdict among"),
        (broken(document, cases=[{**case, "verdicts": [{**tensor, "digits": None}]}]), "expected digits (a number)"),
        (before.read_text(encoding="utf-8")[:-40], "expected JSON"),
    ):
        bad.write_text(text, encoding="utf-8")
        with pytest.raises(UsageError, match=r"bad\.json: ") as raised:
            changes.read(bad)
        assert expected in str(raised.value)
    with pytest.raises(UsageError, match=r"a.json: expected results of jax, got those of torch"):
        changes.read(before, "jax")
    with pytest.raises(UsageError, match=r"expected a readable file"):
        changes.read(tmp_path / "none.json")
    done = subprocess.run(
        [sys.executable, "-m", "parity", "compare", str(bad), str(before)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
