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


def both(init_scale=4.0):
    """A scaler and two optimizers of one parameter each, of refnet's and of torch's."""
    P, p = [START.copy() for _ in range(2)], [torch.from_numpy(START.copy()).requires_grad_() for _ in range(2)]
    ours, theirs = GradScaler("cpu", init_scale=init_scale), torch.amp.GradScaler("cpu", init_scale=init_scale)
    theirs.scale(torch.zeros(1))
    opts = [optim.SGD({"p": A}, lr=0.5) for A in P]
    return ours, theirs, opts, [torch.optim.SGD([a], lr=0.5) for a in p], P, p


def test_a_gradient_that_is_not_finite_stops_its_own_optimizer_alone():
    ours, theirs, opts, optimizers, P, p = both()
    gradients = [np.array([1.0, np.inf, 2.0]), np.array([4.0, 8.0, -2.0])]
    for opt, optimizer, a, g in zip(opts, optimizers, p, gradients, strict=True):
        a.grad = torch.from_numpy(g.copy())
        ours.step(opt, {"p": g.copy()})
        theirs.step(optimizer)
    ours.update()
    theirs.update()
    # The second: (1, -2, 0.5) - 0.5 (4, 8, -2) / 4, which is exact.
    assert [A.tolist() for A in P] == [a.tolist() for a in p] == [START.tolist(), [0.5, -3.0, 0.75]]
    assert ours.state_dict() == theirs.state_dict()
    assert ours.get_scale() == 2.0


@pytest.mark.parametrize(
    ("second", "message"),
    [("step", "step: expected one call .* got a second"), ("unscale_", "unscale_: expected a call before step")],
)
def test_what_comes_after_a_step_is_refused_as_torchs(second, message):
    ours, theirs, (opt, _), (optimizer, _), P, p = both()
    for update in range(2):
        p[0].grad, grads = torch.ones(3, dtype=torch.float64), {"p": np.ones(3)}
        ours.step(opt, grads)
        theirs.step(optimizer)
        before = P[0].copy()
        if update:
            with pytest.raises(RuntimeError, match=message):
                getattr(ours, second)(opt, grads)
            with pytest.raises(RuntimeError, match=r"has already been called|being called after step"):
                getattr(theirs, second)(optimizer)
        np.testing.assert_array_equal(P[0], before)
        assert grads["p"].tolist() == [0.25] * 3
        ours.update()
        theirs.update()


def test_wrong_use_is_refused_as_torchs():
    opt, grads = optim.SGD({"p": START.copy()}, lr=0.1), {"p": START.copy()}
    scaler = GradScaler("cpu")
    with pytest.raises(RuntimeError, match="expected a call of step or unscale_ before"):
        scaler.update()
    scaler.unscale_(opt, grads)
    with pytest.raises(RuntimeError, match="got a second"):
        scaler.unscale_(opt, grads)
    with pytest.raises(TypeError, match="unscale_: expected gradients by name, as a dict, got ndarray"):
        GradScaler("cpu").step(opt, START)
    with pytest.raises(TypeError, match="step: expected an optimizer, got NoneType"):
        GradScaler("cpu").step(None, grads)


WRONG = [
    ({"growth_factor": 1.0}, ValueError, "growth_factor above 1, got 1.0"),
    ({"growth_factor": "2"}, TypeError, "growth_factor to be a number, got '2'"),
    ({"backoff_factor": 1.0}, ValueError, "backoff_factor below 1, got 1.0"),
    ({"backoff_factor": None}, TypeError, "backoff_factor to be a number, got None"),
    ({"growth_interval": 0}, ValueError, "growth_interval to be at least 1, got 0"),
    ({"growth_interval": 1.5}, TypeError, "growth_interval to be an integer, got 1.5"),
    ({"init_scale": 0.0}, ValueError, "init_scale to be above 0"),
    ({"init_scale": 3.5e38}, ValueError, r"init_scale to be above 0 and at most 3\.40282e\+38, got 3.5e\+38"),
    ({"init_scale": np.nan}, ValueError, "init_scale to be a number, got nan"),
    ({"init_scale": "1"}, TypeError, "init_scale to be a number, got '1'"),
    ({"enabled": "no"}, TypeError, "enabled to be True or False, got 'no'"),
]


@pytest.mark.parametrize(("setting", "error", "message"), WRONG, ids=str)
def test_wrong_factors_are_refused(setting, error, message):
    with pytest.raises(error, match=f"^GradScaler: expected {message}"):
        GradScaler("cpu", **setting)


@pytest.mark.parametrize("setting", [{"growth_interval": 1}, {"init_scale": 2.0**-149}, {"backoff_factor": 0}])
def test_the_last_values_that_are_taken(setting):
    ours, theirs = (make("cpu", **setting) for make in (GradScaler, torch.amp.GradScaler))
    theirs.scale(torch.zeros(1))
    assert ours.state_dict() == theirs.state_dict()


STATES = {
    "no dict": (lambda state: [1], TypeError, "a dict, got list"),
    "unknown": (lambda state: {**state, "factor": 1}, KeyError, "alone, got factor too"),
    "scale": (lambda state: {**state, "scale": -1.0}, ValueError, "scale to be above 0"),
    "factor": (lambda state: {**state, "growth_factor": 0.5}, ValueError, "growth_factor above 1"),
    "interval": (lambda state: {**state, "growth_interval": 0}, ValueError, "growth_interval to be at least 1"),
    "tracker": (lambda state: {**state, "_growth_tracker": -1}, ValueError, "_growth_tracker to be at least 0"),
}


@pytest.mark.parametrize("which", STATES)
def test_a_state_that_does_not_fit_changes_nothing(which):
    change, error, message = STATES[which]
    scaler = GradScaler("cpu", growth_factor=3.0)
    before = scaler.state_dict()
    with pytest.raises(error, match=f"GradScaler.load_state_dict: expected .*{message}"):
        scaler.load_state_dict(change({**before, "scale": 2.0, "backoff_factor": 0.25}))
    assert scaler.state_dict() == before


def test_a_new_scale_is_set_or_refused():
    ours, theirs = GradScaler("cpu"), torch.amp.GradScaler("cpu")
    theirs.scale(torch.zeros(1))
    ours.update(8.0)
    theirs.update(8.0)
    assert ours.state_dict() == theirs.state_dict()
    for bad, error in ((-1.0, ValueError), (np.inf, ValueError), ("8", TypeError)):
        with pytest.raises(error, match="update: expected new_scale to be "):
            ours.update(bad)
    assert ours.get_scale() == 8.0


def read_only(grads):
    grads["w"].flags.writeable = False


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (read_only, ValueError, "unscale_: expected gradients that can be written to"),
        (lambda grads: grads.update(v=np.ones(2)), KeyError, "SGD: expected gradients of .*got v among them"),
        (lambda grads: grads.update(b=np.ones(3)), ValueError, "SGD: expected a gradient of shape"),
        (lambda grads: grads.update(b=[1.0]), TypeError, "SGD: expected an array as the gradient of b, got list"),
    ],
)
def test_a_step_that_is_refused_can_be_asked_for_again(spoil, error, message):
    """With gradients that fit it is the step that it would have been: none is unscaled twice, or not at all."""
    params = {"w": np.zeros(2), "b": np.zeros(1)}
    opt, scaler = optim.SGD(params, lr=1.0), GradScaler("cpu", init_scale=4.0)
    fitting = {"w": np.array([4.0, 8.0]), "b": np.array([12.0])}
    grads = {name: G.copy() for name, G in fitting.items()}
    spoil(grads)
    before = {name: np.array(G) for name, G in grads.items()}
    with pytest.raises(error, match=message):
        scaler.step(opt, grads)
    np.testing.assert_equal({name: np.array(G) for name, G in grads.items()}, before)
    np.testing.assert_equal(params, {"w": np.zeros(2), "b": np.zeros(1)})
    scaler.step(opt, fitting)
    np.testing.assert_equal(params, {"w": [-1.0, -2.0], "b": [-3.0]})


@pytest.mark.parametrize("given", [[1.0], 1.0, torch.ones(1)])
def test_what_is_scaled_is_an_array(given):
    with pytest.raises(
        TypeError, match=r"^scale: expected outputs to be an? (NumPy )?array, got (list|float|torch.Ten)"
    ):
        GradScaler("cpu").scale(given)
    with pytest.raises(TypeError, match=r"^unscale_: expected the gradient of w to be an? (NumPy )?array"):
        GradScaler("cpu").unscale_(None, {"w": given})
    with pytest.raises(TypeError, match=r"^unscale_: expected the gradient of w as an array of floats, got int64"):
        GradScaler("cpu").unscale_(None, {"w": np.ones(1, np.int64)})
