"""Graph: what it refuses, several inputs and outputs, and tied arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from refnet import nn
from refnet.generator import Generator

pytestmark = pytest.mark.arithmetic


def test_several_inputs_and_outputs() -> None:
    net = nn.Graph({}, (("p", "*", "a", "b"), ("s", "+", "a", "p")), ("a", "b"), ("s", "p"))
    a, b = np.array([2.0, 3.0]), np.array([5.0, 7.0])
    (s, p), saved = net.forward(a, b)
    assert (s.tolist(), p.tolist()) == ([12, 24], [10, 21])
    (da, db), grads = net.backward((np.array([1.0, 10.0]), np.array([100.0, 0.0])), saved)
    assert (da.tolist(), db.tolist(), grads) == ([1 + 101 * 5, 10 + 10 * 7], [101 * 2, 10 * 3], {})


def test_a_module_with_several_inputs_and_results() -> None:
    attention = nn.MultiheadAttention(4, 2, generator=Generator(0))
    net = nn.Graph(
        {"attention": attention}, ((("y", "weights"), "attention", *3 * ("x",)), ("z", "+", "x", "y")), ("x",), ("z",)
    )
    x, dY = np.random.default_rng(0).normal(size=(2, 3, 4))
    Y, saved = net.forward(x)
    dX, grads = net.backward(dY, saved)
    theirs = torch.nn.MultiheadAttention(4, 2, dtype=torch.float64)
    theirs.load_state_dict({name: torch.tensor(P) for name, P in attention.params.items()})
    t = torch.tensor(x, requires_grad=True)
    y = t + theirs(t, t, t)[0]
    y.backward(torch.tensor(dY))
    np.testing.assert_allclose(Y, y.detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(dX, t.grad.numpy(), rtol=1e-12)
    for name, P in theirs.named_parameters():
        np.testing.assert_allclose(grads[f"attention.{name}"], P.grad.numpy(), rtol=1e-11, atol=1e-14)


def test_modules_that_share_an_array_share_its_gradient() -> None:
    a, b = nn.Linear(3, 3, generator=Generator(0)), nn.Linear(3, 3, generator=Generator(1))
    b.params["weight"] = a.params["weight"]
    steps = (("h", "a", "input"), ("output", "b", "h"))
    net = nn.Graph({"a": a, "b": b}, steps)
    assert list(net.params) == ["a.weight", "a.bias", "b.bias"]
    x, dY = np.random.default_rng(0).normal(size=(2, 5, 3))
    _, grads = net.backward(dY, net.forward(x)[1])
    H, inner = a.forward(x)
    dH, last = b.backward(dY, b.forward(H)[1])
    np.testing.assert_array_equal(grads["a.weight"], last["weight"] + a.backward(dH, inner)[1]["weight"])


def test_repr_shows_the_steps() -> None:
    net = nn.Graph({"f": nn.Tanh()}, (("y", "f", "input"), ("output", "+", "input", "y")))
    assert repr(net) == "Graph(\n  y = f(input); output = input + y\n  (f): Tanh()\n)"


REFUSED: list[tuple[tuple[Any, ...], str]] = [
    ((("output", "g", "input"),), r"one of f, \+, \*, got 'g'"),
    ((("output", "f", "x"),), "a value that is made before 'f', got 'x'"),
    ((("input", "f", "input"),), "each value to be made once, got 'input' again"),
    ((("y", "f", "input"), ("output", "f", "input")), "every value to be made and used, got 'y'"),
    ((("y", "f", "input"),), "every value to be made and used, got 'output'"),
    ((("output", "+", "input"),), r"one result of two values in '\+'"),
]


@pytest.mark.parametrize(("steps", "message"), REFUSED)
def test_refused(steps: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^Graph: expected {message}"):
        nn.Graph({"f": nn.Tanh()}, steps)


def test_refused_inputs() -> None:
    net = nn.Graph({}, (("output", "+", "a", "b"),), ("a", "b"))
    with pytest.raises(ValueError, match="Graph: expected the inputs a, b, got 1"):
        net(np.zeros(2))
    with pytest.raises(ValueError, match=r"Graph: expected a and b of one shape, got \(2,\) and \(1,\)"):
        net(np.zeros(2), np.zeros(1))
