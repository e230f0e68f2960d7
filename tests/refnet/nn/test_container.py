"""refnet.nn.Sequential against torch.nn.Sequential: names, sharing, gradients."""

import numpy as np
import pytest
import torch

from refnet import nn

pytestmark = pytest.mark.arithmetic


def plain(kind):
    return kind.Sequential(kind.Linear(2, 3), kind.ReLU(), kind.Linear(3, 2, bias=False))


def nested(kind):
    return kind.Sequential(kind.Sequential(kind.Linear(2, 3), kind.ReLU()), kind.Sequential(), plain_tail(kind))


def plain_tail(kind):
    return kind.Sequential(kind.BatchNorm1d(3), kind.Sequential(kind.Linear(3, 2)))


def shared(kind):
    layer = kind.Linear(2, 2)
    return kind.Sequential(layer, kind.ReLU(), layer, kind.Identity(), layer)


def shared_nested(kind):
    layer, norm = kind.Linear(2, 2), kind.BatchNorm1d(2)
    inner = kind.Sequential(norm, layer)
    return kind.Sequential(inner, kind.Sequential(layer, inner), norm)


def empty(kind):
    return kind.Sequential()


NETWORKS = [plain, nested, shared, shared_nested, empty]


def grid(seed, *shape):
    return np.random.default_rng(seed).integers(-3, 4, shape).astype(np.float64)


def pair(build):
    """The network and torch's, float64, with the same integers as weights."""
    ours, theirs = build(nn), build(torch.nn).double()
    for seed, P in enumerate(ours.params.values()):
        P[...] = grid(seed, *P.shape)
    theirs.load_state_dict({name: torch.tensor(array) for name, array in ours.state_dict().items()})
    return ours, theirs


@pytest.mark.parametrize("build", NETWORKS)
def test_names_are_torchs(build):
    ours, theirs = build(nn), build(torch.nn)
    # Within one module torch lists all parameters of a state before all buffers, as refnet does.
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert list(ours.params) == [name for name, _ in theirs.named_parameters()]
    assert list(ours.buffers) == [name for name, _ in theirs.named_buffers()]
    shapes = {name: tuple(array.shape) for name, array in theirs.state_dict().items()}
    assert {name: array.shape for name, array in ours.state_dict().items()} == shapes


@pytest.mark.parametrize("build", NETWORKS)
def test_modules_are_torchs_each_once(build):
    ours, theirs = list(build(nn).modules()), list(build(torch.nn).modules())
    assert [type(module).__name__ for module in ours] == [type(module).__name__ for module in theirs]
    assert len({id(module) for module in ours}) == len(ours)


def test_train_and_eval_reach_every_module():
    net = nested(nn)
    assert net.eval() is net
    assert not any(module.training for module in net.modules())
    net.train()
    assert all(module.training for module in net.modules())


@pytest.mark.parametrize("build", [plain, shared])
def test_layers_follow_one_another(build):
    ours, theirs = pair(build)
    X = grid(10, 5, 2)
    Y, _ = ours.forward(X)
    np.testing.assert_array_equal(Y, theirs(torch.tensor(X)).detach().numpy())


def test_gradients_of_a_shared_module_add_up():
    ours, theirs = pair(shared)
    X, dY = grid(10, 5, 2), grid(11, 5, 2)
    Y, saved = ours.forward(X)
    dX, grads = ours.backward(dY, saved)

    x = torch.tensor(X, requires_grad=True)
    y = theirs(x)
    y.backward(torch.tensor(dY))
    np.testing.assert_array_equal(Y, y.detach().numpy())
    np.testing.assert_array_equal(dX, x.grad.numpy())
    assert list(grads) == list(ours.params) == ["0.weight", "0.bias"]
    for name, P in theirs.named_parameters():
        np.testing.assert_array_equal(grads[name], P.grad.numpy())


def test_a_gradient_of_one_place_only_would_differ():
    """The check above sees whether places are added: each contributes here."""
    ours, _ = pair(shared)
    X, dY = grid(10, 5, 2), grid(11, 5, 2)
    _, saved = ours.forward(X)
    _, grads = ours.backward(dY, saved)
    for place in (0, 2, 4):
        d = dY
        for k in range(4, place, -1):
            d, _ = ours.layers[k].backward(d, saved[k])
        _, alone = ours.layers[place].backward(d, saved[place])
        assert all((alone[key] != grads[f"0.{key}"]).any() for key in alone)
        assert all(alone[key].any() for key in alone)


def test_gradients_of_nested_sharing_add_up():
    layer = nn.Linear(2, 2)
    net = nn.Sequential(nn.Sequential(layer, nn.ReLU()), nn.Sequential(nn.ReLU(), layer))
    flat = nn.Sequential(layer, nn.ReLU(), nn.ReLU(), layer)
    for seed, P in enumerate(net.params.values()):
        P[...] = grid(seed, *P.shape)
    X, dY = grid(10, 5, 2), grid(11, 5, 2)
    dX, grads = net.backward(dY, net.forward(X)[1])
    expected_dX, expected = flat.backward(dY, flat.forward(X)[1])
    np.testing.assert_array_equal(dX, expected_dX)
    assert list(grads) == ["0.0.weight", "0.0.bias"]
    np.testing.assert_equal(list(grads.values()), list(expected.values()))


def test_backward_writes_neither_upstream_nor_inputs():
    ours, _ = pair(shared)
    X, dY = grid(10, 5, 2), np.broadcast_to(grid(11, 1, 2), (5, 2))
    X.flags.writeable = False
    before = {name: P.copy() for name, P in ours.params.items()}
    ours.backward(dY, ours.forward(X)[1])
    np.testing.assert_equal(ours.params, before)


def test_the_empty_network_hands_on():
    net = nn.Sequential()
    X = grid(0, 3, 2)
    Y, saved = net.forward(X)
    dX, grads = net.backward(X, saved)
    assert Y is X
    assert dX is X
    assert grads == {}


def test_arrays_are_the_layers_own():
    net = nested(nn)
    assert net.params["0.0.weight"] is net.layers[0].layers[0].params["weight"]
    assert net.state_dict()["2.0.running_var"] is net.layers[2].layers[0].buffers["running_var"]


def test_state_dict_shows_a_shared_array_at_every_place():
    net = shared(nn)
    state = net.state_dict()
    assert state["0.weight"] is state["2.weight"] is state["4.weight"]


@pytest.mark.parametrize("build", NETWORKS)
def test_load_state_dict(build):
    net, other = build(nn), build(nn)
    for seed, array in enumerate(other.state_dict().values()):
        array[...] = abs(grid(seed, *array.shape))
    arrays = net.state_dict()
    net.load_state_dict({name: array.copy() for name, array in other.state_dict().items()})
    np.testing.assert_equal(net.state_dict(), other.state_dict())
    assert all(net.state_dict()[name] is array for name, array in arrays.items())


BAD_STATES = [
    (lambda s: s.pop("0.0.bias"), KeyError, "0.0.bias"),
    (lambda s: s.update({"0.1.weight": np.zeros(3)}), KeyError, "0.1.weight"),
    (
        lambda s: s.update({"2.0.running_var": np.zeros(2)}),
        ValueError,
        r"2\.0\.running_var of shape \(3,\), got \(2,\)",
    ),
    (lambda s: s.update({"2.1.0.bias": np.zeros(2, np.float32)}), TypeError, r"2\.1\.0\.bias of dtype float64"),
    (lambda s: s.update({"2.1.0.bias": np.array([0, np.nan])}), ValueError, r"finite values in 2\.1\.0\.bias"),
]


@pytest.mark.parametrize(("spoil", "error", "message"), BAD_STATES)
def test_load_state_dict_refuses_and_writes_nothing(spoil, error, message):
    net = nested(nn)
    before = {name: array.copy() for name, array in net.state_dict().items()}
    given = {name: array + 1 for name, array in before.items()}
    spoil(given)
    with pytest.raises(error, match=message):
        net.load_state_dict(given)
    np.testing.assert_equal(net.state_dict(), before)


@pytest.mark.parametrize("build", [nested, shared, shared_nested])
def test_bind(build):
    net = build(nn)
    given = {name: array.copy() for name, array in {**net.params, **net.buffers}.items()}
    names = list(net.params), list(net.buffers), list(net.state_dict())
    net.bind(given)
    assert (list(net.params), list(net.buffers), list(net.state_dict())) == names
    assert all(array is given[name] for name, array in {**net.params, **net.buffers}.items())
    # The layers stand on them too, at every place.
    assert {id(array) for array in net.state_dict().values()} == {id(array) for array in given.values()}


def test_bind_to_another_dtype():
    ours, _ = pair(shared)
    X, dY = grid(10, 5, 2), grid(11, 5, 2)
    expected = ours.backward(dY, ours.forward(X)[1])
    ours.bind({name: P.astype(np.float32) for name, P in ours.params.items()})
    dX, grads = ours.backward(dY.astype(np.float32), ours.forward(X.astype(np.float32))[1])
    assert {array.dtype for array in (dX, *grads.values())} == {np.dtype(np.float32)}
    np.testing.assert_equal((dX.astype(np.float64), grads), expected)


def test_layers_have_to_be_modules():
    with pytest.raises(TypeError, match="expected a Module at place 1, got function"):
        nn.Sequential(nn.ReLU(), plain)
    with pytest.raises(TypeError, match="expected a Module at place 0, got list"):
        nn.Sequential([nn.ReLU()])
