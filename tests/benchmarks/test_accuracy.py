"""`python -m benchmarks accuracy`: errors against sums that another summation made."""

import json
import math

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from benchmarks import accuracy


def test_the_errors_are_those_against_exact_sums():
    """Of the loss of one seed, summed again by math.fsum, which rounds once."""
    rng = np.random.default_rng(0)
    X, T = (rng.standard_normal(1000, np.float32) for _ in range(2))
    exact = math.fsum((float(x) - float(t)) ** 2 for x, t in zip(X, T, strict=True))
    theirs = torch.nn.functional.mse_loss(torch.tensor(X), torch.tensor(T), reduction="sum").item()
    reduction = {"MSELoss, sum": accuracy.REDUCTIONS["MSELoss, sum"]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accuracy, "REDUCTIONS", reduction)
        (row,) = accuracy.rows((1000,), 1)
    assert row.n == 1000
    assert row.torch == pytest.approx(abs(theirs - exact) / exact, rel=1e-3, abs=1e-9)
    # Two sums of 1000 terms in float32: an error that is not 0, and no larger than one chain of additions could make.
    assert 0 < row.refnet < 1000 * np.finfo(np.float32).eps


def test_a_long_chain_of_additions_is_seen(monkeypatch):
    def one_by_one(A):
        return np.add.accumulate(A, axis=-2)[-1]

    whole = accuracy.REDUCTIONS["total, first axis"]
    monkeypatch.setattr(accuracy, "REDUCTIONS", {"right": whole, "long": whole._replace(ours=one_by_one)})
    right, long = accuracy.rows((10_000,), 3)
    assert long.refnet > 5 * right.refnet
    assert long.torch == right.torch


def test_the_command_prints_every_reduction():
    printed = CliRunner().invoke(accuracy.accuracy, ["--largest", "17", "--seeds", "2", "--json"])
    assert printed.exit_code == 0, printed.output
    found = json.loads(printed.output)
    assert [(row["reduction"], row["n"]) for row in found] == [
        (name, n) for name in accuracy.REDUCTIONS for n in (1, 16, 17)
    ]
    table = CliRunner().invoke(accuracy.accuracy, ["--largest", "1", "--seeds", "1"])
    assert table.exit_code == 0
    assert len(table.output.splitlines()) == len(accuracy.REDUCTIONS) + 2


def test_bad_input_is_refused():
    assert CliRunner().invoke(accuracy.accuracy, ["--largest", "0"]).exit_code == 2
