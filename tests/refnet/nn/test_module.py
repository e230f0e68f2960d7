"""The contract of refnet.nn.Module, on modules that need no layer of their own."""

import copy
import pickle
import re
from typing import Any

import numpy as np
import pytest
import torch

import refnet
from parity.families.case import VJPCase
from parity.families.listing import catalogue
from parity.records import definition
from refnet import nn


class Scale(nn.Module):
    """y = w x, and a buffer of every kind that a state holds."""

    def __init__(self, dtype=np.float64):
        super().__init__()
        self.params["w"] = np.array([2.0, 3.0], dtype)
        self.buffers["mean"] = np.array([0.5, 0.25], dtype)
        self.buffers["count"] = np.zeros((), np.int64)

    def forward(self, X):
        return self.params["w"] * X, X

    def backward(self, dY, saved):
        return dY * self.params["w"], {"w": (dY * saved).sum(axis=-2)}


def state(**changes):
    return {"w": np.array([5.0, 7.0]), "mean": np.array([1.0, 2.0]), "count": np.array(9)} | changes


def test_a_module_needs_forward_and_backward():
    with pytest.raises(TypeError, match="abstract"):
        nn.Module()


def test_a_module_holds_nothing_at_first():
    module = nn.ReLU()
    assert (module.params, module.buffers, module.training) == ({}, {}, True)
    assert list(module.modules()) == [module]


def test_train_and_eval_return_the_module():
    module = Scale()
    assert module.eval() is module
    assert not module.training
    assert module.train() is module
    assert module.training
    assert not module.train(False).training


def test_state_dict_has_parameters_then_buffers():
    module = Scale()
    there = module.state_dict()
    assert list(there) == ["w", "mean", "count"]
    assert there["w"] is module.params["w"]
    assert there["mean"] is module.buffers["mean"]


def test_load_state_dict_writes_in_place():
    module, given = Scale(), state()
    arrays = module.state_dict()
    module.load_state_dict(given)
    for name, array in module.state_dict().items():
        assert array is arrays[name]
        assert not np.shares_memory(array, given[name])
        np.testing.assert_array_equal(array, given[name])


BAD_STATES = [
    ({}, KeyError, r"missing \['count', 'mean', 'w'\], unexpected \[\]"),
    ({"w": state()["w"]}, KeyError, r"missing \['count', 'mean'\]"),
    (state(bias=np.zeros(2)), KeyError, r"missing \[\], unexpected \['bias'\]"),
    (state(count=np.zeros(1, np.int64)), ValueError, r"expected count of shape \(\), got \(1,\)"),
    (state(mean=np.zeros(3)), ValueError, r"expected mean of shape \(2,\), got \(3,\)"),
    (state(mean=np.zeros((1, 2))), ValueError, r"expected mean of shape \(2,\), got \(1, 2\)"),
    (state(mean=np.zeros(2, np.float32)), TypeError, "expected mean of dtype float64, got float32"),
    (state(count=np.zeros(())), TypeError, "expected count of dtype int64, got float64"),
    (state(mean=np.array([1.0, np.nan])), ValueError, "expected finite values in mean"),
    (state(mean=np.array([-np.inf, 1.0])), ValueError, "expected finite values in mean"),
]


@pytest.mark.parametrize(("given", "error", "message"), BAD_STATES)
def test_load_state_dict_refuses_and_writes_nothing(given, error, message):
    module = Scale()
    before = {name: array.copy() for name, array in module.state_dict().items()}
    with pytest.raises(error, match=message):
        module.load_state_dict(given)
    np.testing.assert_equal(module.state_dict(), before)


def test_bind_stands_on_the_given_arrays():
    module, given = Scale(np.float32), state(other=np.zeros(1))
    module.bind(given)
    assert (list(module.params), list(module.buffers)) == (["w"], ["mean", "count"])
    assert all(array is given[name] for name, array in module.state_dict().items())
    Y, saved = module.forward(np.ones((3, 2)))
    np.testing.assert_array_equal(Y, np.tile(given["w"], (3, 1)))
    dX, grads = module.backward(np.full((3, 2), 2.0), saved)
    np.testing.assert_array_equal(dX, 2 * Y)
    np.testing.assert_array_equal(grads["w"], [6, 6])


def test_bind_needs_every_name():
    module = Scale()
    with pytest.raises(KeyError, match="mean"):
        module.bind({"w": np.zeros(2)})


def test_two_forward_passes_under_way():
    """What backward needs travels in `saved`: the second forward does not disturb the first."""
    module = nn.Linear(2, 3)
    X = np.random.default_rng(0).standard_normal((2, 4, 2))
    dY = np.random.default_rng(1).standard_normal((2, 4, 3))
    alone = [module.backward(dY[k], module.forward(X[k])[1]) for k in (0, 1)]
    saved = [module.forward(X[k])[1] for k in (0, 1)]
    for k in (1, 0):
        np.testing.assert_equal(module.backward(dY[k], saved[k]), alone[k])


GIVEN_INSTEAD = {
    "list": (lambda x: x.tolist(), "an array, got (list|float|int|bool)"),
    "tensor": (lambda x: torch.tensor(np.ascontiguousarray(x)), "a NumPy array, got torch.Tensor"),
    "text": (lambda x: "0.5", "an array, got str"),
}
"""What else comes where an array is expected, and what is said of it."""


@pytest.mark.parametrize("instead", GIVEN_INSTEAD)
def test_what_is_no_array_is_refused_by_every_class_with_the_argument_s_name(instead: str) -> None:
    """Inputs, targets, masks and states alike. What torch says: "argument 'input' must be Tensor, not list"."""
    make, got = GIVEN_INSTEAD[instead]
    cases = {(case.spec.type, case.names): case for case in catalogue() if isinstance(case, VJPCase) and not case.large}
    seen = 0
    for case in cases.values():
        record = case.record(case.families[-1], "float64")
        module = definition.build(record.spec, {n: a.copy() for n, a in record.arrays.items()})
        for k, name in enumerate(record.input_names):
            # (indices have a message of their own; what only hands its input on asks for no more than a dtype)
            indices = record.spec.type in ("Embedding", "EmbeddingBag") and record.inputs[k].dtype.kind == "i"
            if instead == "tensor" and record.spec.type in ("Flatten", "Identity"):
                continue
            given = [make(x) if j == k else x for j, x in enumerate(record.inputs)]
            by_name = dict(zip(record.input_names, given, strict=True)) if record.names else {}
            with pytest.raises(TypeError, match=rf"^\w+: expected \w+ to be ({got}|an array of int64)") as raised:
                module.forward(**by_name, **record.spec.forward_args) if by_name else module.forward(*given)
            assert indices or "int64" not in str(raised.value), (record.spec.type, name)
            seen += 1
    assert seen > 200


def test_what_saved_is_must_be_what_forward_returned() -> None:
    X = np.ones((2, 3))
    net = nn.Sequential(nn.Linear(3, 3), nn.Tanh())
    graph = nn.Graph({"f": nn.Linear(3, 3)}, [("y", "f", "x")], "x", "y")
    for module in (net, graph):
        Y, saved = module.forward(X)
        for other in (None, Y, [1.0], 0):
            with pytest.raises(TypeError, match=r"^\w+.backward: expected as saved what forward returned beside"):
                module.backward(Y, other)
        module.backward(Y, saved)


def test_members_of_torchs_are_told() -> None:
    net = nn.Sequential(nn.Linear(3, 2))
    opt = refnet.optim.Adam(net.params)
    for thing, name, said in (
        (net[0], "weight", "params['weight'] is that array"),
        (nn.BatchNorm1d(2), "running_mean", "buffers['running_mean'] is that array"),
        (net, "zero_grad", "backward returns the gradients"),
        (net, "to", "of the dtype that a module is made with"),
        (net, "requires_grad_", "fit(..., frozen=names)"),
        (opt, "zero_grad", "backward returns the gradients"),
        (opt, "lr", "param_groups[0]['lr'] is that option"),
    ):
        with pytest.raises(AttributeError, match=f"^'{type(thing).__name__}' object has no attribute '{name}': ") as e:
            getattr(thing, name)
        assert said in str(e.value)
    for thing in (net, opt):
        with pytest.raises(AttributeError, match=f"^'{type(thing).__name__}' object has no attribute 'nothing'$"):
            _ = thing.nothing
        assert not hasattr(copy.deepcopy(thing), "nothing")
        assert repr(pickle.loads(pickle.dumps(thing))) == repr(thing)


def test_a_part_of_a_state_is_loaded_as_by_torch() -> None:
    ours = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    theirs = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)).double()
    part = {"0.bias": np.array([1.0, 2.0]), "2.weight": np.ones(1), "1.weight": np.array([3.0, 4.0])}
    part["1.num_batches_tracked"] = np.array(5)  # (without it torch takes the state for one of an early version)
    before = {name: A.copy() for name, A in ours.state_dict().items()}
    found = ours.load_state_dict(part, strict=False)
    expected = theirs.load_state_dict({name: torch.tensor(A) for name, A in part.items()}, strict=False)
    assert list(found) == list(expected)
    for name, A in ours.state_dict().items():
        np.testing.assert_array_equal(A, part.get(name, before[name]))
    with pytest.raises(KeyError, match=r"missing \['0.weight', '1.bias', .*unexpected \['2.weight'\]"):
        ours.load_state_dict(part)
    with pytest.raises(ValueError, match=r"0\.bias of shape"):
        ours.load_state_dict({"1.bias": np.zeros(2), "0.bias": np.ones(3)}, strict=False)
    assert repr(ours.load_state_dict(ours.state_dict())) == repr(theirs.load_state_dict(theirs.state_dict()))
    with pytest.raises(TypeError, match=r"expected 0.weight as a NumPy array, got Parameter: .*requires grad"):
        ours.load_state_dict({**ours.state_dict(), **dict(theirs.named_parameters())})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: nn.CrossEntropyLoss()(np.ones((2, 3)), [0, 1]),
            "CrossEntropyLoss: expected target to be an array, got list",
        ),
        (lambda: nn.Flatten()([[1.0]]), "Flatten: expected input to be an array, got list"),
        (lambda: nn.Identity().forward([1.0]), "Identity: expected input to be an array, got list"),
        (lambda: nn.Flatten("a"), "Flatten: expected start_dim to be an integer, got 'a'"),
        (lambda: nn.Dropout("a"), "Dropout: expected p to be a number, got 'a'"),
        (
            lambda: nn.CrossEntropyLoss(label_smoothing="a"),
            "CrossEntropyLoss: expected label_smoothing to be a number, got 'a'",
        ),
        (lambda: fit(opt=None), "fit: expected opt to be an optimizer of refnet.optim, got NoneType"),
        (lambda: fit(loss=None), "fit: expected loss to be a loss of refnet.nn, got NoneType"),
        (lambda: fit(net=None), "fit: expected net to be a module of refnet.nn, got NoneType"),
        (lambda: fit(loss=nn.MSELoss), "fit: expected loss to be a loss of refnet.nn, got the class MSELoss itself"),
        (lambda: fit(net=torch.nn.Tanh()), "fit: expected net to be a module of refnet.nn, got torch.nn.modules.act"),
        (lambda: fit(loss=torch.nn.MSELoss()), "fit: expected loss to be a loss of refnet.nn, got torch.nn.modules.l"),
        (
            lambda: fit(opt=torch.optim.SGD([torch.zeros(2)])),
            "fit: expected opt to be an optimizer of refnet.optim, got torch.optim.sgd.SGD",
        ),
        (
            lambda: refnet.ensemble([nn.Tanh()], nn.MSELoss(), 3, np.ones((2, 3)), np.ones((2, 3))),
            "ensemble: expected opts to be a list, got int",
        ),
        (
            lambda: refnet.optim.SGD({"w": np.zeros(2)}).step([1.0]),
            "SGD.step: expected gradients by name, as backward returns them, got list",
        ),
    ],
)
def test_wrong_kinds_are_named(call, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(TypeError, match=f"^{re.escape(message)}"):
        call()


def fit(**given: Any) -> Any:
    net = nn.Linear(3, 2)
    parts = {"net": net, "loss": nn.MSELoss(), "opt": refnet.optim.SGD(net.params, lr=0.1), **given}
    return refnet.fit(*parts.values(), np.ones((2, 3)), np.zeros((2, 2)), iterations=1)


def test_a_rate_that_is_an_array_trains_an_ensemble() -> None:
    """A 0-d array is a learning rate for one network: so it is for many."""
    X, T = np.ones((2, 3)), np.zeros((2, 2))
    nets = [[nn.Linear(3, 2, generator=refnet.Generator(k)) for k in range(2)] for _ in range(2)]
    for rate, own in zip((np.array, float), nets, strict=True):
        opts = [refnet.optim.SGD(net.params, lr=rate(lr)) for net, lr in zip(own, (0.1, 0.2), strict=True)]
        refnet.ensemble(own, nn.MSELoss(), opts, X, T, iterations=2, batch_size=None)
    for one, other in zip(*nets, strict=True):
        np.testing.assert_array_equal(one.params["weight"], other.params["weight"])
