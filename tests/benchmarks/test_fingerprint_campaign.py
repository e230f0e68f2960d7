"""The precision of products: named where it is less than declared, and nowhere else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.precision import engines, fingerprint_command
from parity.verdict.fingerprint import of_product

RESULTS = Path(fingerprint_command.__file__).parent.parent / "results" / "precision" / "fingerprint.json"


def test_one_per_cent_of_the_campaign(tmp_path: Path) -> None:
    """And one of each kind; what is kept in a file is not done again."""
    pytest.importorskip("torch")
    out = tmp_path / "fingerprint.json"
    made = fingerprint_command.campaign(out, cases=5, right_cases=5)
    assert made["imprecise"]["cases"] == made["right"]["cases"] == 5
    made = fingerprint_command.campaign(out, cases=12, right_cases=10)
    assert set(made["imprecise"]["found"]) == set(engines.IMPRECISE)
    assert fingerprint_command.share_named(made) >= 0.9
    assert fingerprint_command.falsely_named(made) == 0
    assert fingerprint_command.campaign(None, cases=12, right_cases=10)["imprecise"] == made["imprecise"]


def test_the_roundings_are_those_of_the_formats() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    assert np.array_equal(engines.to_bfloat16(x), x.astype(ml_dtypes.bfloat16).astype(np.float32))
    assert np.array_equal(engines.to_float16(x), engines.to_tf32(x))
    assert (abs(engines.without(13)(x)) <= abs(x)).all()


def test_a_few_outputs_say_nothing() -> None:
    draws = np.random.default_rng(0)
    a, b = draws.standard_normal((3, 64)).astype(np.float32), draws.standard_normal((64, 5)).astype(np.float32)
    got = engines.to_bfloat16(a) @ engines.to_bfloat16(b)
    assert of_product(a, b, got) == ""
    a = np.concatenate([a, a[:1]])
    assert of_product(a, b, engines.to_bfloat16(a) @ engines.to_bfloat16(b)) == "factors of 8 bits"


def test_a_wrong_formula_is_not_called_imprecise() -> None:
    draws = np.random.default_rng(0)
    a, b = draws.standard_normal((8, 64)).astype(np.float32), draws.standard_normal((64, 8)).astype(np.float32)
    for wrong in (a @ b * np.float32(1.001), a @ b.T[:, ::-1].T, a[:, 1:] @ b[1:], a @ b + np.float32(1e-3)):
        assert of_product(a, b, wrong.astype(np.float32)) == ""


def test_the_committed_results() -> None:
    made = json.loads(RESULTS.read_text())
    assert made["imprecise"]["cases"] == fingerprint_command.CASES
    assert made["right"]["cases"] == fingerprint_command.RIGHT_CASES
    assert fingerprint_command.share_named(made) >= 0.95
    assert fingerprint_command.falsely_named(made) == 0
