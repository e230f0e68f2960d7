"""Adam's plain step beside torch's: both do the same, and the ratio is judged by its bound."""

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.speed import optimizer_steps
from benchmarks.speed.optimizer_steps import ASKED, REFNET, TORCH
from benchmarks.speed.speed_command import speed

torch = pytest.importorskip("torch")


def test_both_move_the_same_parameters(monkeypatch):
    made = {}
    for module, name in ((optimizer_steps.optim, REFNET), (torch.optim, TORCH)):
        true = module.Adam
        monkeypatch.setattr(
            module, "Adam", lambda params, true=true, name=name, **how: made.setdefault(name, true(params, **how))
        )
    steps = optimizer_steps._most(3, 5, "float64", 1.5).begin()
    for step in steps.values():
        for _ in range(4):
            step()
    ours = list(made[REFNET].param_groups[0]["params"].values())
    theirs = made[TORCH].param_groups[0]["params"]
    assert made[TORCH].param_groups[0]["foreach"]
    for P, Q in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(P, Q.detach().numpy(), rtol=1e-12)


@pytest.mark.parametrize(("torch_takes", "met"), [(4.0, [True, True, False, False]), (0.5, [False] * 4)])
def test_a_ratio_is_judged_by_its_bound(torch_takes, met, monkeypatch):
    monkeypatch.setattr(optimizer_steps, "_seconds", lambda step, times: step())
    monkeypatch.setattr(
        optimizer_steps.Tensors, "begin", lambda self: {REFNET: lambda: 1.0, TORCH: lambda: torch_takes}
    )
    assert [finding.met for finding in optimizer_steps.measure(3, 1.0)] == met


def test_the_command_tells_them(monkeypatch):
    monkeypatch.setattr(optimizer_steps, "_seconds", lambda step, times: step() or 1.0)
    done = CliRunner().invoke(speed, ["--no-trainings", "--no-steps", "--optimizers", "--rounds", "3"])
    assert done.exit_code == 0, done.output
    assert all(asked.floor.network in done.output for asked in ASKED)
