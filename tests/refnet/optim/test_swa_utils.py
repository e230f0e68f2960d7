"""Averages of weights and their schedule, against torch's and against exact fractions."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from refnet import optim
from refnet.optim import swa_utils

SETTINGS = [
    {"swa_lr": 0.05},
    {"swa_lr": [0.05, 0.5], "anneal_strategy": "linear", "anneal_epochs": 7},
    {"swa_lr": 0.05, "anneal_epochs": 0},
]


def both(setting):
    ours = optim.SGD([{"params": {str(lr): np.zeros(1)}, "lr": lr} for lr in (0.3, 0.1)])
    theirs = torch.optim.SGD([{"params": [torch.zeros(1, requires_grad=True)], "lr": lr} for lr in (0.3, 0.1)])
    theirs.step()
    made = swa_utils.SWALR(ours, **setting), torch.optim.swa_utils.SWALR(theirs, **setting)
    theirs.step()
    return made


@pytest.mark.parametrize("setting", SETTINGS)
def test_fifty_steps_and_states_have_torchs_bits(setting):
    ours, theirs = both(setting)
    for _ in range(50):
        assert ours.get_last_lr() == theirs.get_last_lr()
        assert ours.state_dict() == theirs.state_dict()
        ours.step()
        theirs.step()
    assert ours.get_last_lr() == [group["swa_lr"] for group in ours.optimizer.param_groups]


@pytest.mark.parametrize("setting", [{"swa_lr": -1.0}, {"swa_lr": 0.1, "anneal_strategy": "step"}, {"swa_lr": [0.1]}])
def test_wrong_arguments_are_refused(setting):
    with pytest.raises(ValueError, match="SWALR: expected"):
        both(setting)


@pytest.mark.parametrize("name", ["ema", "swa"])
def test_averages_are_the_exact_ones_within_four_roundings(name):
    A, W = np.array([0.3, -2.5, 1e-3]), np.array([0.7, 4.0, 0.0])
    d = 0.9
    ours = {"ema": swa_utils.get_ema_avg_fn(d), "swa": swa_utils.get_swa_avg_fn()}[name](A, W, 4)
    for made, a, w in zip(ours, map(Fraction, A), map(Fraction, W), strict=True):
        true = Fraction(d) * a + (1 - Fraction(d)) * w if name == "ema" else (4 * a + w) / 5
        assert abs(Fraction(float(made)) - true) <= 4 * Fraction(1, 2**53) * (abs(a) + abs(w))


@pytest.mark.parametrize("decay", [-0.1, 1.1])
def test_a_decay_outside_is_refused(decay):
    with pytest.raises(ValueError, match="get_ema_avg_fn: expected decay to be at least 0 and at most 1"):
        swa_utils.get_ema_avg_fn(decay)
