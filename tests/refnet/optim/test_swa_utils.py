"""Averages of weights and their schedule, against torch's and against exact fractions."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch.optim import swa_utils as torchs

from refnet import nn, optim
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
@pytest.mark.parametrize("name", ["get_ema_avg_fn", "get_ema_multi_avg_fn"])
def test_a_decay_outside_is_refused(name, decay):
    with pytest.raises(ValueError, match=f"{name}: expected decay to be at least 0 and at most 1"):
        getattr(swa_utils, name)(decay)
    with pytest.raises(ValueError, match="decay"):
        getattr(torchs, name)(decay)


@pytest.mark.parametrize("decay", [(), (0.0,), (1.0,)], ids=str)
def test_averages_with_the_default_decay_and_the_ends_are_torchs(decay):
    """Of 1 and 3: 3 - 2 d, with torch's d; by torch's lerp up to a rounding of 2 u each of at most 4."""
    A, W = np.array([1.0]), np.array([3.0])
    a, w = torch.from_numpy(A.copy()), torch.from_numpy(W.copy())
    np.testing.assert_array_equal(swa_utils.get_ema_avg_fn(*decay)(A, W, 2), torchs.get_ema_avg_fn(*decay)(a, w, 2))
    swa_utils.get_ema_multi_avg_fn(*decay)([A], [W], 2)
    torchs.get_ema_multi_avg_fn(*decay)([a], [w], 2)
    np.testing.assert_allclose(A, a.numpy(), rtol=0, atol=2 * 2 * 4 * 2.0**-53)


AVERAGES = {
    "mean": lambda utils: {},
    "SWA": lambda utils: {"avg_fn": utils.get_swa_avg_fn()},
    "EMA": lambda utils: {"avg_fn": utils.get_ema_avg_fn(0.9)},
    "mean with buffers": lambda utils: {"use_buffers": True},
    "EMA with buffers": lambda utils: {"avg_fn": utils.get_ema_avg_fn(0.6), "use_buffers": True},
}


def networks(dtype):
    ours = nn.Sequential(nn.Linear(3, 4, dtype=dtype), nn.BatchNorm1d(4, dtype=dtype), nn.ReLU(), nn.Dropout(0.5))
    own = getattr(torch, dtype)
    layers = (
        torch.nn.Linear(3, 4, dtype=own),
        torch.nn.BatchNorm1d(4, dtype=own),
        torch.nn.ReLU(),
        torch.nn.Dropout(0.5),
    )
    return ours, torch.nn.Sequential(*layers)


def moved(ours, theirs, draws):
    """Both networks with the same new weights and statistics."""
    state = {}
    for name, P in ours.state_dict().items():
        state[name] = (
            np.array(int(draws.integers(50))) if P.dtype.kind == "i" else draws.random(P.shape).astype(P.dtype)
        )
    ours.load_state_dict(state)
    theirs.load_state_dict({name: torch.from_numpy(P) for name, P in state.items()})


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", AVERAGES)
def test_averaged_networks_have_torchs_names_and_bits(name, dtype):
    draws = np.random.default_rng(3)
    ours, theirs = networks(dtype)
    mine = swa_utils.AveragedModel(ours, **AVERAGES[name](swa_utils))
    other = torchs.AveragedModel(theirs, **AVERAGES[name](torchs))
    assert list(mine.state_dict()) == list(other.state_dict())
    for count in range(1, 6):
        moved(ours, theirs, draws)
        mine.update_parameters(ours)
        other.update_parameters(theirs)
        for key, expected in other.state_dict().items():
            np.testing.assert_array_equal(mine.state_dict()[key], expected.numpy(), strict=True)
        assert mine.n_averaged == count


def test_a_state_of_torchs_loads_and_one_of_ours_there():
    draws = np.random.default_rng(4)
    (ours, theirs), made = networks("float64"), []
    for _ in range(2):
        made.append((swa_utils.AveragedModel(ours), torchs.AveragedModel(theirs)))
    for _ in range(3):
        moved(ours, theirs, draws)
        made[0][0].update_parameters(ours)
        made[1][1].update_parameters(theirs)
    made[1][0].load_state_dict({name: p.numpy() for name, p in made[1][1].state_dict().items()})
    made[0][1].load_state_dict({name: torch.from_numpy(P.copy()) for name, P in made[0][0].state_dict().items()})
    moved(ours, theirs, draws)
    for mine, other in made:
        mine.update_parameters(ours)
        other.update_parameters(theirs)
        for key, expected in other.state_dict().items():
            np.testing.assert_array_equal(mine.state_dict()[key], expected.numpy(), strict=True)


def test_an_averaged_network_computes_as_the_one_inside():
    layer = nn.Linear(2, 3)
    model = swa_utils.AveragedModel(layer)
    X, dY = np.arange(8.0).reshape(4, 2), np.arange(12.0).reshape(4, 3)
    output, saved = model.forward(X)
    (right, own), (dX, grads) = layer.forward(X), model.backward(dY, saved)
    expected_dX, expected = layer.backward(dY, own)
    np.testing.assert_array_equal(output, right)
    np.testing.assert_array_equal(dX, expected_dX)
    assert list(grads) == ["module.weight", "module.bias"] == list(model.params)
    for name, G in expected.items():
        np.testing.assert_array_equal(grads[f"module.{name}"], G)
    layer.params["weight"][...] = 0
    np.testing.assert_array_equal(model(X), right)


def test_the_copy_draws_its_dropout_from_the_same_generator():
    ours = nn.Sequential(nn.Dropout(0.5))
    assert swa_utils.AveragedModel(ours).module.layers[0].generator is ours.layers[0].generator


@pytest.mark.parametrize("name", ["ema", "swa"])
def test_averages_of_many_are_those_of_each(name):
    single = swa_utils.get_ema_avg_fn(0.9) if name == "ema" else swa_utils.get_swa_avg_fn()
    many = swa_utils.get_ema_multi_avg_fn(0.9) if name == "ema" else swa_utils.get_swa_multi_avg_fn()
    ours, _ = networks("float64")
    models = [swa_utils.AveragedModel(ours, avg_fn=single), swa_utils.AveragedModel(ours, multi_avg_fn=many)]
    draws = np.random.default_rng(5)
    for _ in range(4):
        for P in ours.params.values():
            P[...] = draws.random(P.shape)
        for model in models:
            model.update_parameters(ours)
    for key, P in models[0].state_dict().items():
        np.testing.assert_array_equal(models[1].state_dict()[key], P)


def test_wrong_averages_are_refused_and_nothing_is_written():
    ours, _ = networks("float64")
    with pytest.raises(ValueError, match="expected one of avg_fn and multi_avg_fn"):
        swa_utils.AveragedModel(ours, avg_fn=swa_utils.get_swa_avg_fn(), multi_avg_fn=swa_utils.get_swa_multi_avg_fn())
    with pytest.raises(TypeError, match="expected model to be a Module, got dict"):
        swa_utils.AveragedModel({})
    with pytest.raises(TypeError, match="expected use_buffers to be True or False"):
        swa_utils.AveragedModel(ours, use_buffers=1)
    model = swa_utils.AveragedModel(ours, avg_fn=lambda A, W, n: W[:1])
    model.update_parameters(ours)
    before = {name: P.copy() for name, P in model.state_dict().items()}
    for other, message in (
        (networks("float32")[0], "expected parameters"),
        (ours, r"expected avg_fn to keep the shape"),
    ):
        for P in other.params.values():
            P += 1
        with pytest.raises(ValueError, match=message):
            model.update_parameters(other)
    for name, P in model.state_dict().items():
        np.testing.assert_array_equal(P, before[name])


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (
            lambda net: swa_utils.AveragedModel(net, avg_fn=3),
            "expected avg_fn to be a function, got int",
        ),
        (lambda net: swa_utils.AveragedModel(net, multi_avg_fn=[]), "expected multi_avg_fn to be a function, got list"),
        (lambda net: swa_utils.AveragedModel(net).update_parameters([]), "update_parameters: expected model to be a M"),
        (lambda net: swa_utils.update_bn([], {}), "update_bn: expected model to be a Module, got dict"),
        (lambda net: swa_utils.update_bn(3, nn.BatchNorm1d(2)), "update_bn: expected loader to give batches, got int"),
    ],
)
def test_what_is_of_another_kind_is_refused(act, message):
    with pytest.raises(TypeError, match=message):
        act(networks("float64")[0])


def test_averages_that_are_no_real_numbers_are_not_written():
    ours, _ = networks("float64")
    model = swa_utils.AveragedModel(ours, avg_fn=lambda A, W, n: A * 1j)
    model.update_parameters(ours)
    before = {name: P.copy() for name, P in model.state_dict().items()}
    with pytest.raises(TypeError, match="AveragedModel: expected avg_fn to give real numbers, got complex128"):
        model.update_parameters(ours)
    np.testing.assert_equal(model.state_dict(), before)


def test_a_loader_that_is_no_loader_leaves_the_statistics():
    norm = nn.BatchNorm1d(2)
    norm(np.array([[1.0, 2.0], [3.0, 5.0]]))
    before = {name: B.copy() for name, B in norm.buffers.items()}
    with pytest.raises(TypeError, match="expected loader"):
        swa_utils.update_bn(None, norm)
    np.testing.assert_equal(norm.buffers, before)


def test_update_bn_takes_the_average_of_all_batches():
    # Multiples of 1/64, four samples, two batches: every step but one division is exact.
    draws = np.random.default_rng(6)
    batches = [draws.integers(-64, 64, (4, 2)) / 64 for _ in range(2)]
    ours, theirs = nn.BatchNorm1d(2, momentum=0.3), torch.nn.BatchNorm1d(2, momentum=0.3, dtype=torch.float64)
    ours.forward(batches[0] * 5)
    ours.eval()
    theirs.eval()
    swa_utils.update_bn([(batches[0], "targets"), batches[1]], ours)
    torchs.update_bn([torch.from_numpy(X) for X in batches], theirs)
    mean = sum(X.mean(0) for X in batches) / 2
    var = sum(X.var(0, ddof=1) for X in batches) / 2
    np.testing.assert_array_equal(ours.buffers["running_mean"], mean)
    np.testing.assert_array_max_ulp(ours.buffers["running_var"], var, 2)
    np.testing.assert_array_equal(ours.buffers["running_mean"], theirs.running_mean.numpy())
    np.testing.assert_array_max_ulp(ours.buffers["running_var"], theirs.running_var.numpy(), 2)
    assert ours.buffers["num_batches_tracked"] == theirs.num_batches_tracked.item() == 2
    assert (ours.momentum, ours.training) == (0.3, False)


def test_update_bn_without_batches_begins_anew_as_torchs():
    ours, theirs = nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2, dtype=torch.float64)
    X = np.array([[1.0, 2.0], [3.0, 5.0]])
    ours(X)
    theirs(torch.from_numpy(X))
    swa_utils.update_bn([], ours)
    torchs.update_bn([], theirs)
    assert {name: B.tolist() for name, B in ours.buffers.items()} == {n: B.tolist() for n, B in theirs.named_buffers()}
    assert ours.buffers["running_var"].tolist() == [1.0, 1.0]


def test_update_bn_leaves_momentum_and_mode_after_an_error_and_networks_without_a_norm_alone():
    norm = nn.BatchNorm1d(2).eval()
    with pytest.raises(ValueError, match="BatchNorm1d: expected"):
        swa_utils.update_bn([np.zeros((4, 3))], norm)
    assert (norm.momentum, norm.training) == (0.1, False)
    swa_utils.update_bn([object()], nn.Linear(2, 2))
    swa_utils.update_bn([np.zeros((4, 2))], nn.Sequential(nn.BatchNorm1d(2, track_running_stats=False)))
