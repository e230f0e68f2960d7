"""A short sample of `python -m benchmarks updates`."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import updates
from refnet.optim import Adam


@pytest.mark.parametrize("name", ["SGD", "Adam", "RMSprop"])
def test_the_defaults_conform_by_every_engine(name):
    rows = [row for row in updates.rows((name,), 20, 1) if row.setting == "defaults"]
    asked = [row for row in rows if not row.verdict.startswith("refused")]
    assert {row.engine for row in asked} >= {"refnet", "torch for-loop", "torch foreach"}
    assert {row.dtype for row in asked} == {"float64", "float32", "bfloat16"}
    assert [row for row in asked if row.verdict != "conforms"] == []


def test_the_gradients_are_of_every_kind():
    grads = updates.gradients(20, "float64")
    sizes = [abs(row["gain"]).max() if row["gain"] is not None else None for row in grads]
    assert sizes[3] == 0
    assert sizes[4] < 1e-11
    assert sizes[5] > 1e10
    assert (grads[6]["weight"] > 0).all()
    assert (grads[7]["weight"] < 0).all()
    assert sizes[9] is None
    assert grads[19]["weight"] is None


def test_a_mistake_is_seen(monkeypatch):
    grads = updates.gradients(20, "float32")
    with monkeypatch.context() as patched:
        patched.setattr(Adam, "correction", lambda self, beta, t, P: np.ones((), P.dtype))
        course = updates.by_refnet("Adam", {}, "float32", grads)
    assert updates.judged("Adam", {}, "float32", grads, course)[0]


def test_a_parameter_that_moves_without_a_gradient_is_seen():
    grads = updates.gradients(20, "float64")
    course = updates.by_refnet("SGD", {}, "float64", grads)
    for params in course.params[10:]:
        params["gain"] = params["gain"] * 1.5
    assert "gain without a gradient" in updates.judged("SGD", {}, "float64", grads, course)[0]


def test_the_command_writes_its_rows(tmp_path):
    out = tmp_path / "updates.json"
    asked = ["--optimizer", "SGD", "--steps", "11", "--short", "2", "--out", str(out)]
    result = CliRunner().invoke(updates.updates, asked)
    assert result.exit_code == 0, result.output
    rows = json.loads(out.read_text(encoding="utf-8"))
    assert {row["steps"] for row in rows} == {11, 2}
    assert CliRunner().invoke(updates.updates, ["--optimizer", "Nobody"]).exit_code == 2


def test_what_a_file_has_is_not_judged_again(tmp_path, monkeypatch):
    out = tmp_path / "updates.json"
    asked = ["--optimizer", "SGD", "--steps", "11", "--short", "2", "--out", str(out)]
    assert CliRunner().invoke(updates.updates, asked).exit_code == 0
    whole, (first, *rest) = out.read_bytes(), json.loads(out.read_text(encoding="utf-8"))
    out.write_text(json.dumps(rest), encoding="utf-8")
    judged, seen = updates.judged, []
    monkeypatch.setattr(updates, "judged", lambda name, args, *about: seen.append(args) or judged(name, args, *about))
    assert CliRunner().invoke(updates.updates, [*asked, "--resume"]).exit_code == 0
    assert (out.read_bytes(), len(seen)) == (whole, 1)
    assert first["setting"] == "defaults"
    # Another number of steps is another row.
    assert CliRunner().invoke(updates.updates, [*asked, "--resume", "--steps", "3"]).exit_code == 0
    assert len(seen) > 1


@pytest.mark.parametrize("text", ["[", '[{"optimizer": "SGD"}]'])
def test_a_file_of_something_else_is_refused(text, tmp_path):
    out = tmp_path / "updates.json"
    out.write_text(text, encoding="utf-8")
    result = CliRunner().invoke(updates.updates, ["--out", str(out), "--resume"])
    assert (result.exit_code, out.read_text(encoding="utf-8")) == (2, text)
    assert "expected the rows of `updates` as JSON" in result.output
    assert CliRunner().invoke(updates.updates, ["--resume"]).exit_code == 2


@pytest.mark.parametrize("name", ["RAdam", "NAdam"])
def test_counters_of_many_steps_at_once(name):
    rows = [row for row in updates.rows((name,), 10, 1) if row.setting == "defaults" and row.dtype == "float32"]
    assert [row.verdict for row in rows if row.engine in ("refnet", "torch for-loop")] == ["conforms"] * 2


def test_muon_is_judged_though_torch_has_one_implementation_of_it():
    assert updates._way("Muon", "for-loop") == {}
    assert updates._way("Adam", "for-loop") == {"foreach": False}
    assert updates._way("Muon", "fused") == {"fused": True}
