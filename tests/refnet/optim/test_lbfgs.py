"""LBFGS beside torch's, within what budgets enclose of the same steps; its state; closures that raise."""

import copy
import inspect

import numpy as np
import pytest
import torch

import refnet
from parity.budget.array import Budget, Profile
from refnet import nn, optim

START = {"x": [-1.25, 0.5], "y": 1.0}
SETTINGS = [
    {"max_iter": 3, "lr": 0.25},
    {"max_iter": 4, "lr": 0.5, "history_size": 1, "tolerance_grad": 0.0, "tolerance_change": 0.0},
    {"line_search_fn": "strong_wolfe", "max_iter": 1},
    {"line_search_fn": "strong_wolfe", "max_iter": 2, "max_eval": 5, "lr": 0.5},
    {"line_search_fn": "strong_wolfe", "max_iter": 1, "lr": 16.0},
]


def params_of(dtype):
    return {name: np.array(value, dtype) for name, value in START.items()}


def bowl(P):
    """A valley like Rosenbrock's: sum (1 - x)^2 + 4 (y - x^2)^2 over the elements of x, written for any arithmetic."""

    def closure():
        X, Y = P["x"], P["y"]
        A, B = 1 - X, Y - X * X
        value = (A * A + 4 * (B * B)).sum()
        return value, {"x": -2 * A - 16 * (X * B), "y": 8 * B.sum()}

    return closure


def torch_bowl(tensors, optimizer):
    def closure():
        optimizer.zero_grad()
        x, y = tensors
        value = ((1 - x) ** 2 + 4 * (y - x * x) ** 2).sum()
        value.backward()
        return value

    return closure


def made(dtype, setting):
    params = params_of(dtype)
    tensors = [torch.tensor(P, requires_grad=True) for P in params.values()]
    return params, optim.LBFGS(params, **setting), tensors, torch.optim.LBFGS(tensors, **setting)


def flat_state(kept):
    """What a state has, lists one by one; without the place that torch works in."""
    found = {}
    for key, value in kept.items():
        if key == "al" or value is None:
            continue
        parts = value if isinstance(value, list) else [value]
        plain = [v.detach().numpy() if isinstance(v, torch.Tensor) else v for v in parts]
        found |= {f"{key}.{k}": v if isinstance(v, Budget) else np.asarray(v) for k, v in enumerate(plain)}
    return found


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_a_step_is_torchs(setting, dtype):
    params, ours, tensors, theirs = made(dtype, setting)
    profile = Profile.of(np.dtype(dtype).name)
    budgets = {name: Budget.exact(P, profile) for name, P in params.items()}
    enclosing = optim.LBFGS(budgets, **setting)
    value = ours.step(bowl(params))
    other = theirs.step(torch_bowl(tensors, theirs))
    bound = enclosing.step(bowl(budgets))
    for engine in (value, other.item()):
        assert abs(float(engine) - bound.x) <= bound.e
    for (name, P), p in zip(params.items(), tensors, strict=True):
        B = budgets[name]
        assert (B.e < 0.5).all()
        for engine in (P, p.detach().numpy()):
            assert (abs(engine.astype(np.float64) - B.x) <= B.e).all()
    mine, kept, around = (flat_state(o.state[n]) for o, n in ((ours, "x"), (theirs, tensors[0]), (enclosing, "x")))
    assert mine.keys() == kept.keys() == around.keys()
    for key, array in mine.items():
        B = around[key]
        x, e = (B.x, B.e) if isinstance(B, Budget) else (B, 0)
        for engine in (array, kept[key]):
            assert (abs(engine.astype(np.float64) - x) <= e).all(), key


@pytest.mark.parametrize("setting", [{"lr": 0.25}, {"line_search_fn": "strong_wolfe"}], ids=str)
def test_many_steps_end_where_torch_ends(setting):
    params, ours, tensors, theirs = made(np.float64, setting)
    for _ in range(30):
        ours.step(bowl(params))
        theirs.step(torch_bowl(tensors, theirs))
    # The gradient at the end, not the way there, which rounding turns.
    gradients = [bowl({n: p.detach().numpy() for n, p in zip(START, tensors, strict=True)})()[1], bowl(params)()[1]]
    for grads in gradients:
        assert max(abs(np.asarray(g)).max() for g in grads.values()) < 1e-3


def test_arguments_and_defaults_are_torchs():
    a, b = (inspect.signature(each).parameters for each in (optim.LBFGS, torch.optim.LBFGS))
    assert list(a) == list(b)
    assert all(p.default == b[name].default and p.kind == b[name].kind for name, p in a.items())
    assert optim.LBFGS(params_of(float), max_iter=7).param_groups[0]["max_eval"] == 8


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_a_state_goes_to_torch_and_comes_back(setting):
    params, ours, _, _ = made(np.float64, setting)
    ours.step(bowl(params))
    saved = ours.state_dict()
    tensors = [torch.tensor(P, requires_grad=True) for P in params.values()]
    theirs = torch.optim.LBFGS(tensors, lr=9.0)

    def as_torch(value):
        if isinstance(value, list):
            return [torch.tensor(v) for v in value]
        return value if isinstance(value, int) else torch.tensor(value)

    state = {n: {k: as_torch(v) for k, v in kept.items()} for n, kept in saved["state"].items()}
    theirs.load_state_dict({**saved, "state": state})
    theirs.step(torch_bowl(tensors, theirs))
    ours.step(bowl(params))
    back = optim.LBFGS({n: p.detach().numpy().copy() for n, p in zip(START, tensors, strict=True)})
    back.load_state_dict(theirs.state_dict())
    assert {k: v for k, v in back.param_groups[0].items() if k != "params"} == {
        k: v for k, v in ours.param_groups[0].items() if k != "params"
    }
    mine, other = flat_state(ours.state["x"]), flat_state(back.state["x"])
    assert mine.keys() == other.keys()
    for key, array in mine.items():
        np.testing.assert_allclose(array, other[key], rtol=1e-8, atol=1e-10)


def test_going_on_from_a_state_has_the_bits_of_going_on():
    params, ours, _, _ = made(np.float64, SETTINGS[2])
    ours.step(bowl(params))
    twin = {name: P.copy() for name, P in params.items()}
    other = optim.LBFGS(twin)
    other.load_state_dict(ours.state_dict())
    for _ in range(3):
        ours.step(bowl(params))
        other.step(bowl(twin))
    np.testing.assert_equal(twin, params)
    np.testing.assert_equal(other.state, ours.state)


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
@pytest.mark.parametrize("good", [0, 1, 2])
def test_a_closure_that_raises_changes_nothing(setting, good):
    params, opt, _, _ = made(np.float64, setting)
    opt.step(bowl(params))
    before = copy.deepcopy((params, opt.state))
    calls = []

    def closure():
        calls.append(1)
        if len(calls) > good:
            raise RuntimeError("out of memory")
        return bowl(params)()

    def steps():
        nonlocal before
        for _ in range(4):
            opt.step(closure)
            before = copy.deepcopy((params, opt.state))

    with pytest.raises(RuntimeError, match="out of memory"):
        steps()
    np.testing.assert_equal((params, opt.state), before)


BAD = [
    (lambda: 1.0, TypeError, "the closure to give the objective and the gradients by name, got float"),
    (lambda: (1.0, {"x": np.ones(3), "y": np.ones(())}), ValueError, r"shape \(2,\) for x"),
    (lambda: (1.0, {"x": np.ones(2, np.float32)}), TypeError, "dtype float64 for x, got float32"),
    (lambda: (1.0, {"z": np.ones(2)}), KeyError, "got z among them"),
    (lambda: (np.ones(2), {"x": np.ones(2)}), ValueError, r"one number as the objective, got shape \(2,\)"),
    ({"x": np.ones(2)}, TypeError, "expected a function that gives"),
]


@pytest.mark.parametrize(("closure", "error", "message"), BAD, ids=[row[2][:24] for row in BAD])
def test_what_does_not_fit_changes_nothing(closure, error, message):
    params, opt, _, _ = made(np.float64, SETTINGS[0])
    opt.step(bowl(params))
    before = copy.deepcopy((params, opt.state))
    with pytest.raises(error, match=message):
        opt.step(closure)
    np.testing.assert_equal((params, opt.state), before)


@pytest.mark.parametrize(
    "bad",
    [
        {"lr": -1.0},
        {"max_iter": -1},
        {"max_eval": -1},
        {"history_size": 0},
        {"line_search_fn": "armijo"},
        {"tolerance_grad": np.nan},
    ],
)
def test_bad_options_are_refused(bad):
    with pytest.raises(ValueError, match="LBFGS: expected"):
        optim.LBFGS(params_of(float), **bad)
    opt = optim.LBFGS(params_of(float))
    with pytest.raises(ValueError, match="LBFGS: expected"):
        opt.param_groups[0].update(bad)


def test_there_is_one_group():
    P = params_of(float)
    with pytest.raises(ValueError, match="one group of parameters, got another one"):
        optim.LBFGS([{"params": {"x": P["x"]}}, {"params": {"y": P["y"]}}])
    with pytest.raises(ValueError, match="parameter groups"):
        torch.optim.LBFGS([{"params": [torch.zeros(2)]}, {"params": [torch.zeros(2)]}])


def test_a_state_that_does_not_fit_changes_nothing():
    params, opt, _, _ = made(np.float64, SETTINGS[0])
    opt.step(bowl(params))
    before = opt.state_dict()
    for change, error, message in (
        ({"unknown": 1}, KeyError, "unknown"),
        ({"d": np.ones(2)}, ValueError, r"d of shape \(3,\), got \(2,\)"),
        ({"d": np.ones(3, np.float32)}, TypeError, "d of dtype float64, got float32"),
        ({"ro": []}, ValueError, "as many old_dirs as old_stps and ro"),
        ({"n_iter": -1}, ValueError, "n_iter to be at least 0"),
        ({"prev_loss": np.nan}, ValueError, "finite values in prev_loss"),
    ):
        state = copy.deepcopy(before)
        state["state"]["x"].update(change)
        with pytest.raises(error, match=rf"LBFGS\.load_state_dict: .*{message}"):
            opt.load_state_dict(state)
        np.testing.assert_equal(opt.state_dict(), before)


def test_a_parameter_without_a_gradient_stands_still_as_torchs():
    params, opt, _, _ = made(np.float64, {"max_iter": 1})
    opt.step(lambda: (1.0, {"x": np.array([1.0, -2.0])}))
    np.testing.assert_array_equal(params["x"], np.array(START["x"]) + np.array([-1, 2]) / 3)
    assert params["y"] == START["y"]
    np.testing.assert_array_equal(opt.state["x"]["prev_flat_grad"], [1, -2, 0])


@pytest.mark.parametrize("setting", SETTINGS[:3], ids=str)
def test_nan_goes_where_it_goes_in_torch(setting):
    params, ours, tensors, theirs = made(np.float64, setting)
    with np.errstate(all="ignore"):
        ours.step(lambda: (np.nan, {"x": np.array([np.nan, 1.0]), "y": np.ones(())}))

    def closure():
        for p in tensors:
            p.grad = torch.ones_like(p)
        tensors[0].grad[0] = np.nan
        return torch.tensor(np.nan)

    theirs.step(closure)
    for P, p in zip(params.values(), tensors, strict=True):
        np.testing.assert_array_equal(np.isnan(P), np.isnan(p.detach().numpy()))
    assert ours.state["x"]["func_evals"] == theirs.state[tensors[0]]["func_evals"]


def trained(capture):
    g = refnet.Generator(0)
    net = nn.Sequential(nn.Linear(3, 4, generator=g), nn.Tanh(), nn.Linear(4, 2, generator=g))
    opt = optim.LBFGS(net.params, line_search_fn="strong_wolfe", max_iter=5)
    rng = np.random.default_rng(0)
    X, T = rng.standard_normal((8, 3)), rng.standard_normal((8, 2))
    return net, opt, refnet.fit(net, nn.MSELoss(), opt, X, T, batch_size=None, iterations=12, capture=capture)


def test_fit_descends_and_says_why_it_is_plain():
    net, opt, history = trained(True)
    assert history.loss[-1] < 0.1 * history.loss[0]
    assert opt.state["0.weight"]["n_iter"] > 12
    other = trained(False)[0]
    np.testing.assert_equal(net.params, other.params)
    with pytest.raises(ValueError, match="ensemble: expected optimizers that take one gradient a step, got LBFGS"):
        refnet.ensemble([net], nn.MSELoss(), [opt], np.ones((2, 3)), np.ones((2, 2)), batch_size=None, iterations=1)
