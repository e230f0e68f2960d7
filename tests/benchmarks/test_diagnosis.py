"""Known mistakes are named in numbers and shapes that no kept case has."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import diagnosis
from benchmarks.diagnosis import drawn, measure, run, summary
from parity.families.listing import FAULTS, catalogue
from parity.records.record import VJP

KEPT = json.loads(Path("benchmarks/results/yardstick/diagnosis.json").read_text(encoding="utf-8"))
SAMPLE = drawn(0.02, 3)


def test_nearly_all_mistakes_of_a_sample_are_named() -> None:
    rows = list(run(SAMPLE, 5, 1))
    found = summary(rows)
    assert len(rows) == len(SAMPLE) >= 10
    assert found["caught"] >= 0.9 * len(rows)
    assert found["named"] >= found["caught"] - 1, found["not named"]
    assert found["at another shape"] >= 1


def test_kept_results_name_at_least_95_percent_of_all_mistakes() -> None:
    rows = KEPT["rows"]
    caught = [row for row in rows if row["case"]]
    named = [row for row in caught if row["named"] and row["named"] in row["said"]]
    assert KEPT["named"] == len(named)
    assert KEPT["caught"] == len(caught)
    assert len(named) >= 0.95 * len(caught)
    assert len(caught) >= 0.95 * len(rows)
    assert len({row["fault"] for row in rows}) >= 0.95 * len(FAULTS)


def test_inputs_are_those_of_no_kept_case() -> None:
    case = next(c for c in catalogue() if c.name == "Linear/batch 3")
    kept, other = case.record("full", "float64"), diagnosis._record(case, 0, "full", "float64", True)
    assert isinstance(kept, VJP)
    assert isinstance(other, VJP)
    assert other.inputs[0].shape == (kept.inputs[0].shape[0] + diagnosis.MORE, *kept.inputs[0].shape[1:])
    assert not np.isin(other.inputs[0], kept.inputs[0]).any()
    assert not np.isin(other.arrays["weight"], kept.arrays["weight"]).any()


def test_a_mistake_that_is_not_named_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "diagnose", lambda *args: [])
    row = measure(0, "weight gradient transposed")
    assert row.case
    assert row.said == ()
    assert row.named == ""
    found = summary([row])
    assert found["named"] == 0
    assert found["not named"] == ["weight gradient transposed"]


def test_the_name_of_another_mistake_counts_only_with_the_same_bits() -> None:
    name = "weight gradient transposed"
    case = next(c for c in catalogue() if c.name == "Linear/batch 3")
    record, fault = diagnosis._record(case, 0, "full", "float64", False), diagnosis.FAULT[name]
    wrong = diagnosis._answer(record, fault)
    assert diagnosis._is(name, fault, record, wrong)
    assert not diagnosis._is("bias without gradient", fault, record, wrong)
    assert not diagnosis._is("no such mistake", fault, record, wrong)


def test_a_pattern_of_no_mistake_is_refused() -> None:
    found = CliRunner().invoke(diagnosis.diagnosis, ["-k", "no such mistake"])
    assert found.exit_code == 2
    assert "no such mistake" in found.output
