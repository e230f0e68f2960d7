"""Loss scaling, beside torch.amp.GradScaler: scales, skipped steps, parameters and state."""

import numpy as np
import pytest
import torch

from refnet import optim
from refnet.amp import GradScaler

START = np.array([1.0, -2.0, 0.5])
SETTINGS = [
    {},
    {"init_scale": 2.0**126, "growth_interval": 1},
    {"init_scale": 3.0, "growth_factor": 1.5, "backoff_factor": 0.3, "growth_interval": 2},
    {"enabled": False},
]
DRAWS = np.random.default_rng(2)
# Finite, then infinite, NaN, and finite again.
GRADIENTS = [DRAWS.standard_normal(3) for _ in range(12)]
GRADIENTS[3][1], GRADIENTS[4][0], GRADIENTS[8][2] = np.inf, np.nan, -np.inf


@pytest.mark.parametrize("unscale", [False, True])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_scales_and_skipped_steps_are_torchs(setting, dtype, unscale):
    P = START.astype(dtype)
    p = torch.from_numpy(P.copy()).requires_grad_()
    ours, theirs = GradScaler("cpu", **setting), torch.amp.GradScaler("cpu", **setting)
    opt, optimizer = optim.SGD({"p": P}, lr=0.1, momentum=0.9), torch.optim.SGD([p], lr=0.1, momentum=0.9)
    for g in GRADIENTS:
        if not setting.get("enabled", True) and not np.isfinite(g).all():
            continue
        G = ours.scale(g.astype(dtype))
        p.grad = theirs.scale(torch.from_numpy(g.astype(dtype)))
        np.testing.assert_array_equal(G, p.grad.numpy())
        if unscale:
            ours.unscale_(opt, {"p": G})
            theirs.unscale_(optimizer)
            np.testing.assert_array_equal(G, p.grad.numpy())
        before = P.copy()
        ours.step(opt, {"p": G})
        theirs.step(optimizer)
        if not np.isfinite(g).all():
            np.testing.assert_array_equal(P, before)
        ours.update()
        theirs.update()
        assert ours.get_scale() == theirs.get_scale()
        assert ours.state_dict() == theirs.state_dict()
        # Twelve steps of two roundings each, of numbers below 4.
        np.testing.assert_allclose(P, p.detach().numpy(), rtol=0, atol=12 * 2 * 4 * np.finfo(dtype).eps / 2)


def test_a_scale_that_would_overflow_stays():
    ours, theirs = (make("cpu", init_scale=2.0**127, growth_interval=1) for make in (GradScaler, torch.amp.GradScaler))
    p = torch.ones(1, requires_grad=True)
    optimizer, P = torch.optim.SGD([p], lr=0.1), np.ones(1, np.float32)
    theirs.scale(torch.zeros(1))
    p.grad = torch.zeros(1)
    theirs.step(optimizer)
    theirs.update()
    ours.step(optim.SGD({"p": P}, lr=0.1), {"p": np.zeros(1, np.float32)})
    ours.update()
    assert ours.get_scale() == theirs.get_scale() == 2.0**127


def test_states_load_both_ways():
    ours, theirs = GradScaler("cpu", init_scale=8.0), torch.amp.GradScaler("cpu", init_scale=4.0)
    ours.load_state_dict(theirs.state_dict())
    assert ours.get_scale() == 4.0
    theirs.load_state_dict(GradScaler("cpu", init_scale=32.0).state_dict())
    assert theirs.get_scale() == 32.0
    with pytest.raises(KeyError, match="expected a state with"):
        ours.load_state_dict({"scale": 1.0})
    assert ours.get_scale() == 4.0


def test_wrong_use_is_refused_as_torchs():
    opt, grads = optim.SGD({"p": START.copy()}, lr=0.1), {"p": START.copy()}
    scaler = GradScaler("cpu")
    with pytest.raises(RuntimeError, match="expected a call of step or unscale_ before"):
        scaler.update()
    scaler.unscale_(opt, grads)
    with pytest.raises(RuntimeError, match="got a second"):
        scaler.unscale_(opt, grads)


@pytest.mark.parametrize("setting", [{"growth_factor": 1.0}, {"backoff_factor": 1.0}, {"growth_interval": 0}])
def test_wrong_factors_are_refused(setting):
    with pytest.raises(ValueError, match="GradScaler: expected"):
        GradScaler("cpu", **setting)
