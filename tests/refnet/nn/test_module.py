"""The contract of refnet.nn.Module, on modules that need no layer of their own."""

import numpy as np
import pytest

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
