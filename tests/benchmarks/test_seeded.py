"""refnet and torch from one seed, for a hundredth of the updates of `python -m benchmarks seeded`."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from benchmarks import seeded
from refnet.generator import default_generator

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
    assert all(row.drift_ulps < a_step(dtype) and row.one_update_ulps < a_step(dtype) for row in rows)


def a_step(dtype):
    """What Adam's first update moves a weight by, in units in the last place of weights below 1: the least that a draw
    which differs would change."""
    return seeded.RATE / np.finfo(dtype).eps


@fused
def test_another_mask_would_be_noticed(monkeypatch):
    draw = default_generator.rand
    monkeypatch.setattr(default_generator, "rand", lambda *size, **more: draw(*size, **more) * 0.5)
    *_, last = seeded.run("mlp", "float64", 2)
    assert last.same_draws  # as many words: only the weights show it
    assert last.drift_ulps > a_step("float64")


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
def test_the_command_writes_its_rows(tmp_path):
    out = tmp_path / "seeded.json"
    result = CliRunner().invoke(seeded.seeded, ["--updates", "2", "--out", str(out)])
    assert result.exit_code == 0, result.output
    rows = json.loads(out.read_text(encoding="utf-8"))
    assert [row["update"] for row in rows] == [0, 1, 2] * 4
    assert all(row["same_draws"] for row in rows)
    assert CliRunner().invoke(seeded.seeded, ["--updates", "0"]).exit_code == 2
