"""`python -m benchmarks accuracy`: errors against sums that another summation made."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from benchmarks import accuracy, accuracy_networks


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


def test_what_is_kept_is_not_done_again(tmp_path, monkeypatch):
    out = tmp_path / "rows.json"
    command = ["--largest", "17", "--seeds", "2", "--out", str(out)]
    assert CliRunner().invoke(accuracy.accuracy, command).exit_code == 0
    whole = json.loads(out.read_text())
    # Cut short, it goes on where it was, and comes to the same.
    out.write_text(json.dumps({**whole, "rows": whole["rows"][:5]}))
    assert CliRunner().invoke(accuracy.accuracy, command).exit_code == 0
    assert json.loads(out.read_text()) == whole
    monkeypatch.setattr(accuracy, "REDUCTIONS", dict.fromkeys(accuracy.REDUCTIONS))
    assert CliRunner().invoke(accuracy.accuracy, command).exit_code == 0
    other = CliRunner().invoke(accuracy.accuracy, [*command[:-3], "3", *command[-2:]])
    assert other.exit_code == 2
    assert "of 3 seeds, got 2" in other.output
    out.write_text("[")
    assert CliRunner().invoke(accuracy.accuracy, command).exit_code == 2


def test_the_kept_errors_are_at_most_half_as_large_again_as_torchs():
    kept = json.loads((Path(accuracy.__file__).parent / "results" / "accuracy.json").read_text())
    assert kept["seeds"] == 100
    assert {row["reduction"] for row in kept["rows"]} == set(accuracy.REDUCTIONS)
    assert {row["n"] for row in kept["rows"]} == set(accuracy.LENGTHS)
    assert max(row["ratio"] for row in kept["rows"]) <= 1.5


# ---- networks that end in a loss


def test_the_truth_of_a_network_is_that_of_hand_arithmetic():
    """Sigmoid, then BCELoss: s(x) - t, divided by the number of elements. Of logarithms of softmax: p - [c = t]."""
    X, T = np.array([[0.5, -3.0, 25.0, -25.0]]), np.array([[0.25, 0.5, 0.75, 0.5]])
    (chain,) = (c for c in accuracy_networks.CHAINS if c.name == "Sigmoid, BCELoss")
    by_hand = [(1 / (1 + math.exp(-x)) - t) / 4 for x, t in zip(X[0], T[0], strict=True)]
    np.testing.assert_allclose(accuracy_networks.truth(chain, {}, X, T)["input"], [by_hand], rtol=1e-14)
    (chain,) = (c for c in accuracy_networks.CHAINS if c.name == "LogSoftmax, NLLLoss")
    X = np.array([[0.0, 1.0], [3.0, -2.0]])
    P = np.exp(X) / np.exp(X).sum(axis=1, keepdims=True)
    by_hand = (P - np.eye(2)) / 2
    np.testing.assert_allclose(accuracy_networks.truth(chain, {}, X, np.array([0, 1]))["input"], by_hand, rtol=1e-14)


def test_the_truth_of_a_parameter_is_that_of_hand_arithmetic():
    """Linear, then BCEWithLogitsLoss: dZ = (s(z) - t) / 8, dW = dZ^T X, db = sum_n dZ, dX = dZ W."""
    (chain,) = (c for c in accuracy_networks.CHAINS if c.name == "Linear, BCEWithLogitsLoss")
    rng = np.random.default_rng(0)
    X, T, W, b = rng.normal(size=(2, 4)), rng.random((2, 4)), rng.normal(size=(4, 4)), rng.normal(size=4)
    dZ = (1 / (1 + np.exp(-(X @ W.T + b))) - T) / 8
    found = accuracy_networks.truth(chain, {"0.weight": W, "0.bias": b}, X, T)
    for name, by_hand in {"input": dZ @ W, "0.weight": dZ.T @ X, "0.bias": dZ.sum(0)}.items():
        np.testing.assert_allclose(found[name], by_hand, rtol=1e-12)


def test_where_refnet_is_worse_than_torch_a_remedy_is_named():
    rows = list(accuracy_networks.rows((3.0, 25.0)))
    assert len(rows) == 4 * len(accuracy_networks.CHAINS)
    worse = {row.chain for row in rows if row.worse}
    assert "Sigmoid, BCELoss" in worse
    # Sigmoid, then BCELoss, whatever stands in front.
    assert worse <= {row.chain for row in rows if row.remedy}
    assert {row.chain for row in rows if row.remedy} == {
        chain.name for chain in accuracy_networks.CHAINS if chain.name.endswith("Sigmoid, BCELoss")
    }
    # What refnet's accurate layers are for: torch loses a softmax's digits where a class is likely.
    (row,) = (r for r in rows if (r.chain, r.size, r.dtype) == ("Softmax, MSELoss", 25.0, "float64"))
    assert row.refnet < 1e-14 < 1e-9 < row.torch


def test_drawn_networks_are_no_worse_than_torch_but_for_the_pair_with_a_remedy():
    chains = accuracy_networks.drawn(12, seed=1)
    assert len({chain.name for chain in chains}) == 12
    assert {len(chain.layers) for chain in chains} == {2, 3}
    rows = list(accuracy_networks.rows((0.5, 25.0), chains))
    assert len(rows) == 4 * 12
    assert [row for row in rows if row.worse and not row.remedy] == []
    # Parameters are among what is compared.
    assert {row.tensor for row in rows} - {"input"}


def test_the_remedy_is_one():
    """BCEWithLogitsLoss of the same input, where Sigmoid and BCELoss are 2e-6 off."""
    chain = accuracy_networks.Chain((), ("BCEWithLogitsLoss", {}))
    for row in accuracy_networks.rows((12.0, 25.0), (chain,)):
        assert row.refnet < 8 * np.finfo(row.dtype).eps


def test_the_command_prints_networks(monkeypatch):
    monkeypatch.setattr(accuracy_networks, "SIZES", (12.0,))
    printed = CliRunner().invoke(accuracy.accuracy, ["--networks", "--drawn", "2", "--json"])
    assert printed.exit_code == 0, printed.output
    chains = [*accuracy_networks.CHAINS, *accuracy_networks.drawn(2)]
    assert [row["chain"] for row in json.loads(printed.output)][::2] == [chain.name for chain in chains]
    table = CliRunner().invoke(accuracy.accuracy, ["--networks"])
    assert "worse than torch: use BCEWithLogitsLoss" in table.output
    assert CliRunner().invoke(accuracy.accuracy, ["--drawn", "2"]).exit_code == 2
