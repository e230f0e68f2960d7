"""What is overwritten between forward and backward: where torch raises, and what refnet does."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch

import refnet
from parity.families.case import VJPCase
from parity.families.listing import catalogue
from parity.records import definition
from refnet import nn
from refnet.nn.utils import detect_overwriting


def network() -> nn.Sequential:
    g = refnet.Generator(0)
    return nn.Sequential(nn.Linear(3, 4, generator=g), nn.Tanh(), nn.Linear(4, 2, generator=g))


X, DY = np.linspace(-1, 1, 6).reshape(2, 3), np.ones((2, 2))
STEPPED = r"^Sequential.backward: expected the parameters that forward saw, got 0.weight after a step of its optimizer"


def by_torch(change: str) -> None:
    """The same in torch; raises where it does."""
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)).double()
    opt = torch.optim.SGD(net.parameters(), lr=0.1)
    x = torch.tensor(X, requires_grad=True) * 1
    if change == "step":
        net(x).sum().backward()
    y = net(x.clone()) if change == "step" else net(x)
    with torch.no_grad():
        if change == "step":
            opt.step()
        elif change == "input":
            x.mul_(2)
        elif change == "parameter":
            net[2].weight.mul_(2)
        elif change == "load_state_dict":
            net.load_state_dict({name: a * 2 for name, a in net.state_dict().items()})
    y.sum().backward()


def changed(change: str, net: nn.Sequential, x: np.ndarray) -> None:
    if change == "step":
        opt = refnet.optim.SGD(net.params, lr=0.1)
        opt.step(net.backward(DY, net.forward(x)[1])[1])
    elif change == "input":
        x *= 2
    elif change == "parameter":
        net.params["2.weight"] *= 2
    elif change == "load_state_dict":
        net.load_state_dict({name: a * 2 for name, a in net.state_dict().items()})


@pytest.mark.parametrize("change", ["step", "load_state_dict", "input", "parameter"])
def test_what_torch_refuses_is_refused(change: str) -> None:
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        by_torch(change)
    net, x = network(), X.copy()
    with detect_overwriting():
        saved = net.forward(x)[1]
        changed(change, net, x)
        with pytest.raises(RuntimeError, match=r"backward: expected .* forward saw"):
            net.backward(DY, saved)
    # Without being asked, what an optimizer or load_state_dict has done.
    net, x = network(), X.copy()
    saved = net.forward(x)[1]
    changed(change, net, x)
    if change in ("step", "load_state_dict"):
        with pytest.raises(RuntimeError, match=STEPPED):
            net.backward(DY, saved)
    else:
        net.backward(DY, saved)


def test_nothing_overwritten_is_no_error_and_no_other_number() -> None:
    by_torch("nothing")
    net = network()
    right = net.backward(DY, net.forward(X)[1])
    with detect_overwriting():
        found = net.backward(DY, net.forward(X)[1])
    np.testing.assert_array_equal(found[0], right[0])
    # Afterwards the classes are as they were.
    assert nn.Linear.forward.__name__ == "forward"
    assert not hasattr(nn.Linear.forward, "__wrapped__")


def test_the_array_is_named() -> None:
    layer, x = nn.Linear(3, 4), X.copy()
    with detect_overwriting():
        saved = layer.forward(x)[1]
        x += 1
        with pytest.raises(RuntimeError, match=r"^Linear.backward: expected X as forward saw it"):
            layer.backward(np.ones((2, 4)), saved)
        saved = layer.forward(x)[1]
        layer.params["weight"] *= 2
        with pytest.raises(RuntimeError, match=r"^Linear.backward: expected weight as forward saw it"):
            layer.backward(np.ones((2, 4)), saved)


def first_of_each_class() -> list[VJPCase]:
    cases = {case.spec.type: case for case in reversed(catalogue()) if isinstance(case, VJPCase) and not case.large}
    return list(cases.values())


@pytest.mark.parametrize("case", first_of_each_class(), ids=lambda case: case.name)
def test_no_class_overwrites_what_it_saved(case: VJPCase) -> None:
    record = case.record(case.families[-1], "float64")
    with np.errstate(all="ignore"):
        right = definition.vjp(record, lambda a: a)
        with detect_overwriting():
            found = definition.vjp(record, lambda a: a)
    for name, values in right.items():
        np.testing.assert_array_equal(found[name], values)


# ---- a step in between


def test_a_step_of_another_network_s_optimizer_is_none() -> None:
    net, other = network(), network()
    opt = refnet.optim.Adam(other.params)
    saved = net.forward(X)[1]
    opt.step(other.backward(DY, other.forward(X)[1])[1])
    net.backward(DY, saved)


def test_a_parameter_without_a_gradient_is_not_moved() -> None:
    """Two heads of one trunk: a step of the one leaves the other's pass as it was."""
    trunk, heads = network(), [nn.Sequential(nn.Linear(2, 2)) for _ in range(2)]
    opt = refnet.optim.SGD({f"{k}.{n}": P for k, head in enumerate(heads) for n, P in head.params.items()}, lr=0.1)
    Y, saved = trunk.forward(X)
    passes = [head.forward(Y)[1] for head in heads]
    for k, (head, own) in enumerate(zip(heads, passes, strict=True)):
        dY, grads = head.backward(DY, own)
        opt.step({f"{k}.{name}": G for name, G in grads.items()})
        trunk.backward(dY, saved)


@pytest.mark.parametrize("make", [refnet.optim.SGD, refnet.optim.Adam, refnet.optim.Muon, refnet.optim.LBFGS])
def test_every_optimizer_s_step_is_noticed(make) -> None:  # type: ignore[no-untyped-def]
    net = nn.Sequential(nn.Linear(3, 4, bias=False), nn.Tanh(), nn.Linear(4, 2, bias=False))
    opt = make(net.params, lr=0.1)
    saved = net.forward(X)[1]
    grads = net.backward(DY, net.forward(X)[1])[1]
    opt.step((lambda: (np.float64(1.0), grads)) if opt.takes_closure else grads)
    with pytest.raises(RuntimeError, match=STEPPED):
        net.backward(DY, saved)


def test_a_fit_in_between_is_noticed_and_a_graph_notices_too() -> None:
    for net in (network(), nn.Graph({"0": nn.Linear(3, 2)}, steps=[("output", "0", "input")])):
        saved = net.forward(X)[1]
        opt = refnet.optim.SGD(net.params, lr=0.1)
        refnet.fit(net, nn.MSELoss(), opt, X, np.zeros((2, 2)), iterations=1, batch_size=None)
        with pytest.raises(RuntimeError, match=r"backward: expected the parameters that forward saw, got 0.weight"):
            net.backward(DY, saved)


def test_copies_of_a_stepped_optimizer_move_nothing_of_the_original() -> None:
    net = network()
    opt = refnet.optim.SGD(net.params, lr=0.1)
    opt.step(net.backward(DY, net.forward(X)[1])[1])
    twins = copy.deepcopy((net, opt)), pickle.loads(pickle.dumps((net, opt)))
    saved = net.forward(X)[1]
    for twin, own in twins:
        own.step(twin.backward(DY, twin.forward(X)[1])[1])
    net.backward(DY, saved)


# ---- arrays of a module in a network are never replaced


def test_another_array_in_a_network_is_refused_at_once() -> None:
    """torch would train the new one; here the network and its optimizer hold the old one."""
    net, new = network(), np.zeros((4, 3))
    for params in (net.params, net[0].params):
        name = next(iter(params))
        for put in (
            lambda p, n: p.__setitem__(n, new),
            lambda p, n: p.update({n: new}),
            lambda p, n: p.__ior__({n: new}),
            lambda p, n: p.setdefault("other", new),
        ):
            with pytest.raises(ValueError, match=r"to stay the array that the network was made of, got another one"):
                put(params, name)
        with pytest.raises(ValueError, match="got one taken away"):
            del params[name]
        assert params[name].any()
    net[0].params["weight"] -= 1.0
    net.params["0.weight"][...] = new
    assert not net[0].params["weight"].any()
    with pytest.raises(ValueError, match="expected running_mean to stay"):
        nn.Sequential(nn.BatchNorm1d(2))[0].buffers["running_mean"] = np.ones(2)


def test_before_the_network_is_made_and_in_copies_arrays_can_be_replaced() -> None:
    layer = nn.Linear(3, 4)
    layer.params["weight"] = new = np.zeros((4, 3))
    net = nn.Sequential(layer)
    assert net.params["0.weight"] is new
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert twin[0].params["weight"] is twin.params["0.weight"] is not new
        with pytest.raises(ValueError, match="expected weight to stay"):
            twin[0].params["weight"] = new
    net.bind({"0.weight": np.ones((4, 3)), "0.bias": np.ones(4)})
    assert net[0].params["weight"].all()
    assert type(dict(net.params)) is dict
