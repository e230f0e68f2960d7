"""What is done around an optimizer's step: clipping, micro-batches, frozen and tied parameters, beside torch."""

import math

import numpy as np
import pytest
import torch

import refnet
from refnet import nn, optim
from refnet.train.step import Update, micro_batches

DRAWS = np.random.default_rng(16)
X, CLASSES, VALUES = DRAWS.standard_normal((10, 3)), DRAWS.integers(0, 2, 10), DRAWS.standard_normal((10, 2))

LOSSES = {
    "cross-entropy, mean": (nn.CrossEntropyLoss, torch.nn.CrossEntropyLoss, {}, CLASSES),
    "cross-entropy, sum": (nn.CrossEntropyLoss, torch.nn.CrossEntropyLoss, {"reduction": "sum"}, CLASSES),
    "squares, mean": (nn.MSELoss, torch.nn.MSELoss, {}, VALUES),
    "squares, sum": (nn.MSELoss, torch.nn.MSELoss, {"reduction": "sum"}, VALUES),
}

OPTIONS = [
    {"clip_norm": 0.2},
    {"clip_norm": 0.2, "norm_type": 1.0},
    {"clip_norm": 0.05, "norm_type": math.inf},
    {"clip_norm": 0.2, "norm_type": 3.0},
    {"clip_value": 0.03},
    {"accumulate": 2},
    {"accumulate": 4},
    {"accumulate": 4, "clip_norm": 0.2},
    {"frozen": ("0.weight", "2.bias")},
    {"frozen": ("2.weight",), "clip_norm": 0.2, "accumulate": 3},
]


def build(dtype="float64", seed=0):
    generator = refnet.Generator(seed)
    more = {"dtype": dtype, "generator": generator}
    net = nn.Sequential(nn.Linear(3, 4, **more), nn.Tanh(), nn.Linear(4, 2, **more))
    return net, optim.AdamW(net.params, lr=0.01)


def twin(net):
    """torch's network from the same weights."""
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    model = model.to(torch.from_numpy(next(iter(net.params.values()))).dtype)
    model.load_state_dict({name: torch.from_numpy(P.copy()) for name, P in net.params.items()})
    return model


def named(options):
    return ", ".join(f"{name}={value}" for name, value in options.items())


def by_torch(model, criterion, targets, updates, *, foreach, accumulate=1, frozen=(), **clip):
    """A loop as users of torch write it, on the whole set."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, foreach=foreach)
    for name, p in model.named_parameters():
        p.requires_grad_(name not in frozen)
    x, t = torch.from_numpy(X), torch.from_numpy(targets)
    x, t = (a.to(next(model.parameters()).dtype) if a.is_floating_point() else a for a in (x, t))
    losses = []
    for _ in range(updates):
        optimizer.zero_grad()
        total = 0.0
        for x_j, t_j in zip(x.chunk(accumulate), t.chunk(accumulate), strict=True):
            loss = criterion(model(x_j), t_j)
            if criterion.reduction == "mean":
                loss = loss * (len(x_j) / len(x))
            loss.backward()
            total += loss.item()
        if "clip_norm" in clip:
            norm = clip.get("norm_type", 2.0)
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip["clip_norm"], norm, foreach=foreach)
        if "clip_value" in clip:
            torch.nn.utils.clip_grad_value_(model.parameters(), clip["clip_value"], foreach=foreach)
        optimizer.step()
        losses.append(total)
    return losses


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("options", OPTIONS, ids=named)
@pytest.mark.parametrize("loss", LOSSES)
def test_a_few_updates_are_torchs(loss, options, dtype, foreach):
    ours, theirs, args, targets = LOSSES[loss]
    net, opt = build(dtype)
    model = twin(net)
    inputs = X.astype(dtype)
    targets = targets.astype(dtype) if targets.dtype.kind == "f" else targets
    history = refnet.fit(net, ours(**args), opt, inputs, targets, batch_size=None, iterations=5, **options)
    losses = by_torch(model, theirs(**args), targets, 5, foreach=foreach, **options)
    # AdamW divides a gradient by its own size: an update is as exact as the gradient that it comes from.
    near = {"rtol": 2e3 * np.finfo(dtype).eps, "atol": 2e3 * np.finfo(dtype).eps}
    np.testing.assert_allclose(history.loss, losses, **near)
    for name, p in model.named_parameters():
        np.testing.assert_allclose(net.params[name], p.detach().numpy(), err_msg=name, **near)


@pytest.mark.parametrize("options", OPTIONS, ids=named)
def test_captured_updates_and_those_of_an_ensemble_have_the_bits_of_plain_ones(options, way):
    how = {"batch_size": 7, "iterations": 150, **options}
    ended = []
    for capture in (False, True):
        net, opt = build()
        loss = nn.CrossEntropyLoss()
        history = refnet.fit(net, loss, opt, X, CLASSES, generator=refnet.Generator(3), capture=capture, **how)
        assert (history.why_plain == "") == capture
        ended.append([history.loss, *net.params.values()])
    (other, first), (own, second) = build(seed=1), build()
    generators = [refnet.Generator(4), refnet.Generator(3)]
    histories = refnet.ensemble(
        [other, own], nn.CrossEntropyLoss(), [first, second], X, CLASSES, generators=generators, **how
    )
    ended.append([histories[1].loss, *own.params.values()])
    for others in ended[1:]:
        for a, b in zip(ended[0], others, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("n", "parts"), [(10, 1), (10, 2), (10, 3), (10, 4), (3, 5), (7, 7)])
def test_micro_batches_are_torchs_chunks(n, parts):
    ours = [list(range(n))[rows] for rows in micro_batches(n, parts)]
    assert ours == [part.tolist() for part in torch.arange(n).chunk(parts)]


def test_a_mean_of_means_is_not_the_mean():
    # Micro-batches of 3, 3, 3 and 1: what the last sample weighs tells the two apart.
    net, opt = build()
    grads, _ = Update(net, nn.MSELoss(), opt, X, VALUES, accumulate=4).gradients(X, VALUES)
    whole, _ = Update(net, nn.MSELoss(), opt, X, VALUES).gradients(X, VALUES)
    parts = [
        Update(net, nn.MSELoss(), opt, X, VALUES).gradients(X[rows], VALUES[rows])[0] for rows in micro_batches(10, 4)
    ]
    for name, right in whole.items():
        np.testing.assert_allclose(grads[name], right, rtol=1e-13, atol=1e-15)
        means = sum(part[name] for part in parts) / 4
        assert abs(means - right).max() > 1e-2 * abs(right).max()


def test_a_parameter_frozen_half_way_stays_with_its_state():
    net, opt = build()
    model = twin(net)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    how = {"batch_size": None, "iterations": 4}
    refnet.fit(net, nn.MSELoss(), opt, X, VALUES, **how)
    at = net.params["0.weight"].copy()
    kept = {key: array.copy() for key, array in opt.state["0.weight"].items()}
    refnet.fit(net, nn.MSELoss(), opt, X, VALUES, frozen=["0.weight"], **how)
    np.testing.assert_array_equal(net.params["0.weight"], at)
    for key, array in kept.items():
        np.testing.assert_array_equal(opt.state["0.weight"][key], array)
    for k in range(8):
        optimizer.zero_grad()
        model[0].weight.requires_grad_(k < 4)
        torch.nn.functional.mse_loss(model(torch.from_numpy(X)), torch.from_numpy(VALUES)).backward()
        optimizer.step()
    for name, p in model.named_parameters():
        np.testing.assert_allclose(net.params[name], p.detach().numpy(), rtol=1e-12, atol=1e-14)
        assert opt.state[name]["step"] == optimizer.state[p]["step"].item() == (4 if name == "0.weight" else 8)


def test_tied_weights_move_by_the_sum_of_both_gradients_and_are_clipped_once():
    shared = nn.Linear(3, 3, generator=refnet.Generator(0))
    net = nn.Sequential(shared, nn.Tanh(), shared)
    tied = torch.nn.Linear(3, 3, dtype=torch.float64)
    tied.load_state_dict({name: torch.from_numpy(P.copy()) for name, P in shared.params.items()})
    model = torch.nn.Sequential(tied, torch.nn.Tanh(), tied)
    opt, optimizer = optim.SGD(net.params, lr=0.5), torch.optim.SGD(model.parameters(), lr=0.5)
    how = {"batch_size": None, "iterations": 20, "clip_norm": 0.1, "accumulate": 3}
    refnet.fit(net, nn.MSELoss(), opt, X, X[::-1].copy(), **how)
    x, t = torch.from_numpy(X), torch.from_numpy(X[::-1].copy())
    for _ in range(20):
        optimizer.zero_grad()
        for x_j, t_j in zip(x.chunk(3), t.chunk(3), strict=True):
            (torch.nn.functional.mse_loss(model(x_j), t_j) * (len(x_j) / len(x))).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
    for name, p in tied.named_parameters():
        np.testing.assert_allclose(shared.params[name], p.detach().numpy(), rtol=1e-11, atol=1e-13)


IGNORED = CLASSES.copy()
IGNORED[4] = -100


@pytest.mark.parametrize(
    ("options", "loss", "targets", "error", "message"),
    [
        ({"accumulate": 0}, nn.MSELoss(), VALUES, ValueError, "fit: expected accumulate to be at least 1, got 0"),
        ({"accumulate": 1.5}, nn.MSELoss(), VALUES, TypeError, "fit: expected accumulate to be an integer"),
        ({"accumulate": 2}, nn.CrossEntropyLoss(np.ones(2)), CLASSES, ValueError, "got CrossEntropyLoss with weights"),
        ({"accumulate": 2}, nn.CrossEntropyLoss(), IGNORED, ValueError, "no target that is ignored, got -100"),
        ({"clip_value": -1.0}, nn.MSELoss(), VALUES, ValueError, "fit: expected clip_value to be at least 0"),
        ({"clip_norm": 1.0, "clip_value": 1.0}, nn.MSELoss(), VALUES, ValueError, "clip_norm or clip_value, got both"),
        ({"clip_norm": 1.0, "norm_type": 0.0}, nn.MSELoss(), VALUES, ValueError, "fit: expected norm_type above 0"),
        ({"frozen": "0.weight"}, nn.MSELoss(), VALUES, TypeError, "fit: expected frozen as names"),
        ({"frozen": ["1.weight"]}, nn.MSELoss(), VALUES, ValueError, "to name parameters of opt, got 1.weight"),
    ],
)
def test_wrong_options_leave_everything_as_it_is(options, loss, targets, error, message):
    net, opt = build()
    before = {name: P.copy() for name, P in net.params.items()}
    with pytest.raises(error, match=message):
        refnet.fit(net, loss, opt, X, targets, batch_size=None, iterations=3, **options)
    np.testing.assert_equal(net.params, before)
    assert not opt.state


def test_a_sum_takes_weights_and_ignored_targets():
    loss = nn.CrossEntropyLoss(np.array([1.0, 3.0]), reduction="sum")
    net, opt = build()
    history = refnet.fit(net, loss, opt, X, IGNORED, batch_size=None, iterations=1, accumulate=4)
    output, _ = build()[0].forward(X)
    np.testing.assert_allclose(history.loss[0], loss.forward(output, IGNORED)[0], rtol=1e-13)
