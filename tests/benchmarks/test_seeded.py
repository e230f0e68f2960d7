"""refnet and torch from one seed, for a hundredth of the updates of `python -m benchmarks seeded`."""

import json
from itertools import islice
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from benchmarks import seeded
from refnet.generator import default_generator
from refnet.nn.utils import clip_grad_norm_

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "seeded-10000.json"

fused = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"),
    reason="refnet.generator's claim is for torch on AVX2 and AVX512, where uniform_ is fused",
)


@pytest.fixture(autouse=True)
def restored_defaults():
    state, threads = default_generator.get_state(), torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        yield
    torch.set_num_threads(threads)
    default_generator.set_state(state)


@fused
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("network", seeded.NETWORKS)
def test_from_one_seed_and_nothing_copied(network, dtype):
    first, *rows = seeded.run(network, dtype, 100)
    assert (first.update, first.drift_ulps, first.same_draws) == (0, 0, True)
    assert [row.update for row in rows] == [1, 2, 5, 10, 20, 50, 100]
    # Weights, batches and masks come of draws: the same bits. What is computed from them differs by roundings.
    assert all(row.same_draws for row in rows)
    assert rows[-1].loss < rows[0].loss
    # Each update is the true one up to rounding, and the enclosures see: few elements could be anything.
    last = rows[-1]
    assert (last.failures, last.torch_failures, last.undecided) == (0, 0, 0)
    assert 0 < last.share <= 1
    assert last.blind < 0.05


def test_what_is_committed_has_no_wrong_update():
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))
    last = {(row["network"], row["dtype"]): row for row in rows}
    assert set(last) == {(network, dtype) for network in seeded.NETWORKS for dtype in ("float64", "float32")}
    for row in last.values():
        assert row["update"] == 10_000
        assert row["same_draws"]
        assert (row["failures"], row["torch_failures"], row["undecided"]) == (0, 0, 0)
        # Nothing is explained by a formula that torch does not use.
        assert set(row["torch_formulas"]) <= {"1 - beta ** t", "nll(log_softmax(x))"}


@fused
def test_another_mask_is_a_wrong_update_of_torchs(monkeypatch):
    draw = default_generator.rand
    monkeypatch.setattr(default_generator, "rand", lambda *size, **more: draw(*size, **more) * 0.5)
    *_, last = seeded.run("mlp", "float64", 2)
    assert last.same_draws  # as many words: only the updates show it
    assert last.torch_failures
    assert not last.failures  # held against the mask that it drew


@fused
@pytest.mark.parametrize("wrong", ["not clipped", "clipped to another norm"])
def test_a_wrong_clip_is_a_wrong_update(wrong, monkeypatch):
    def clip(grads, max_norm):
        return clip_grad_norm_(grads, 0.999 * max_norm) if "another" in wrong else None

    monkeypatch.setattr(seeded, "clip_grad_norm_", clip)
    *_, last = seeded.run("mlp", "float64", 60)
    assert last.failures
    assert not last.torch_failures


@fused
def test_a_draw_too_many_would_be_noticed(monkeypatch):
    update = seeded._update

    def drawing(*args):
        default_generator.random_raw(1)
        return update(*args)

    monkeypatch.setattr(seeded, "_update", drawing)
    first, *rows = seeded.run("mlp", "float64", 2)
    assert first.same_draws
    assert not any(row.same_draws for row in rows)


@fused
def test_an_interrupted_run_goes_on_with_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setattr(seeded, "EPOCHS", 1)
    uninterrupted = list(seeded.run("mlp", "float32", 130))
    update, left = seeded._update, iter(range(80))

    def interrupted(*args):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return update(*args)

    monkeypatch.setattr(seeded, "_update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(seeded.run("mlp", "float32", 130, folder=tmp_path))
    monkeypatch.setattr(seeded, "_update", update)
    again = seeded.Training("mlp", "float32", 130, folder=tmp_path)
    assert again.done == 57
    assert list(again.run()) == uninterrupted
    # And one that was over says what it said.
    assert list(islice(seeded.run("mlp", "float32", 130, folder=tmp_path), 20)) == uninterrupted


@fused
def test_the_command_writes_its_rows(tmp_path):
    out = tmp_path / "seeded.json"
    result = CliRunner().invoke(seeded.seeded, ["--updates", "2", "--out", str(out)])
    assert result.exit_code == 0, result.output
    rows = json.loads(out.read_text(encoding="utf-8"))
    assert [row["update"] for row in rows] == [0, 1, 2] * 4
    assert all(row["same_draws"] for row in rows)
    assert CliRunner().invoke(seeded.seeded, ["--updates", "0"]).exit_code == 2
