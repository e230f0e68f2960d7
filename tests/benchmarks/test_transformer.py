"""The small transformer beside torch, for a hundredth of the updates of `python -m benchmarks transformer`."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from benchmarks import transformer
from parity.engines.refnet import RefnetEngine

ROOT = Path(__file__).resolve().parents[2]
fused = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"),
    reason="refnet.generator's claim is for torch on AVX2 and AVX512, where uniform_ is fused",
)


@fused
@pytest.mark.parametrize("dtype", transformer.DTYPES)
def test_one_seed_gives_both_the_same_weights(dtype):
    ours, theirs = transformer.initial(dtype, 0)
    assert list(ours) == list(theirs)
    for name, P in theirs.items():
        assert ours[name].tobytes() == P.tobytes(), name


@pytest.mark.parametrize("dtype", transformer.DTYPES)
def test_a_hundredth_conforms_at_every_update(dtype):
    ((row, kept),) = transformer.run(dtype, 100)
    assert (row.update, row.judged, row.conform) == (100, 100, True)
    assert row.verdicts.keys() == {"refnet", "torch"}
    # A third of attention's bias, that of the keys, has no gradient: it is unseen in the update and in the momentum of
    # one parameter of 16, beside the loss.
    assert row.unseen <= 2 / 3 / (1 + 2 * 16) + 1e-12
    # Ten classes that are guessed cost log 10.
    assert row.loss < np.log(10)
    assert transformer.accuracy(dtype, kept.arrays[0]) > 0.5


def test_a_wrong_gradient_would_be_noticed(monkeypatch):
    train = RefnetEngine.train

    def wrong(self, record):
        answer = train(self, record)
        answer["param.1.linear1.weight"][-1] += 1e-9
        return answer

    monkeypatch.setattr(RefnetEngine, "train", wrong)
    ((row, _),) = transformer.run("float64", 3)
    assert not row.conform
    assert "FAIL" in row.verdicts["refnet"]
    assert "FAIL" not in row.verdicts["torch"]


def test_an_interrupted_run_goes_on_with_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setattr(transformer, "PART", 3)
    monkeypatch.setattr(transformer, "DTYPES", ("float64",))
    at_once, in_parts = tmp_path / "at_once.json", tmp_path / "in_parts.json"

    def called(*more):
        return CliRunner().invoke(transformer.transformer, ["--updates", "9", *more])

    assert called("--out", str(at_once)).exit_code == 0
    train, calls = RefnetEngine.train, []

    def interrupted(self, record):
        calls.append(record)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return train(self, record)

    kept = ["--kept", str(tmp_path / "kept"), "--out", str(in_parts)]
    with monkeypatch.context() as inner:
        inner.setattr(RefnetEngine, "train", interrupted)
        stopped = called(*kept)
    assert stopped.exit_code == 130
    assert "the same command goes on" in stopped.output
    assert not in_parts.exists()
    resumed = called(*kept)
    assert resumed.exit_code == 0, resumed.output
    assert in_parts.read_bytes() == at_once.read_bytes()
    other = called("--seed", "1", *kept)
    assert other.exit_code == 2
    assert "got that of another training" in other.output


def test_the_kept_results_are_of_the_whole_training():
    found = json.loads((ROOT / "benchmarks/results/transformer.json").read_text(encoding="utf-8"))
    assert (found["updates"], found["seed"]) == (10_000, 0)
    for dtype in transformer.DTYPES:
        rows = [row for row in found["rows"] if row["dtype"] == dtype]
        assert sum(row["judged"] for row in rows) == rows[-1]["update"] == 10_000
        assert all(row["conform"] for row in rows)
        assert min(found["accuracy"][dtype]) > 0.95
