"""LSTMCell against torch.nn.LSTMCell."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch

from refnet.generator import Generator
from refnet.nn.rnn import LSTMCell

pytestmark = pytest.mark.arithmetic

DTYPES = [np.float32, np.float64]
SIZES = [(3, 5), (4, 1), (1, 2), (6, 6)]


def twins(rng: np.random.Generator, x: int, h: int, bias: bool, dtype: Any) -> tuple[LSTMCell, torch.nn.LSTMCell]:
    """The cell in both engines, with the same random parameters, refnet's write-protected."""
    ours = LSTMCell(x, h, bias, dtype=dtype)
    theirs = torch.nn.LSTMCell(x, h, bias, dtype=getattr(torch, np.dtype(dtype).name))
    for name, parameter in theirs.named_parameters():
        ours.params[name] = rng.normal(size=parameter.shape).astype(dtype)
        parameter.data = torch.tensor(ours.params[name])
        ours.params[name].flags.writeable = False
    assert list(ours.params) == [name for name, _ in theirs.named_parameters()]
    return ours, theirs


def by_torch(cell: torch.nn.LSTMCell, inputs: Any, upstream: Any) -> dict[str, Any]:
    """Outputs and gradients in torch."""
    tensors = [torch.tensor(np.ascontiguousarray(array), requires_grad=True) for array in inputs]
    cell.zero_grad()
    outputs = cell(tensors[0], (tensors[1], tensors[2]))
    torch.autograd.backward(outputs, [torch.tensor(np.ascontiguousarray(array)) for array in upstream])
    arrays = dict(zip(("h1", "c1", "input", "h0", "c0"), (*outputs, *(t.grad for t in tensors)), strict=True))
    arrays |= {name: parameter.grad for name, parameter in cell.named_parameters()}
    return {name: array.detach().numpy().copy() for name, array in arrays.items()}


def by_refnet(cell: LSTMCell, inputs: Any, upstream: Any) -> dict[str, Any]:
    """Outputs and gradients in refnet."""
    outputs, saved = cell.forward(*inputs)
    grads, grad_params = cell.backward(tuple(upstream), saved)
    arrays = dict(zip(("h1", "c1", "input", "h0", "c0"), (*outputs, *grads), strict=True))
    return arrays | grad_params


def assert_close(cell: LSTMCell, results: dict[str, Any], expected: dict[str, Any], inputs: Any, upstream: Any) -> None:
    """Two evaluations of one formula agree to first order in the unit roundoff u, from the largest magnitudes.

    A gate's sum of K = x + h + 2 terms is off by K u z, z the largest sum of their magnitudes; sigmoid and tanh do not
    enlarge this, and add at most 8 u: e = (K z + 8) u for every gate. With c = 1 + max|C0|, C1 is off by 3 e c,
    tanh(C1) by 4 e c, H1 by 6 e c. The derivatives, s(z) s(-z) and 4 s(2z) s(-2z), are off by 2 e and 8 e, the one
    at C1 by 16 e c. With g the largest upstream gradient, all that reaches C1 is at most 2 g, off by 18 g e c; dZ is at
    most 2 g c, off by 40 g e c^2. Products with dZ add one roundoff for each of their terms, at most 2 g c u <= g e c
    for each. Two engines: twice that.
    """
    assert results.keys() == expected.keys()
    dtype = inputs[0].dtype
    X, H0, C0 = (np.atleast_2d(array).astype(np.float64) for array in inputs)
    P = {name: np.abs(array.astype(np.float64)) for name, array in cell.params.items()}
    n, h, u = len(X), cell.hidden_size, np.finfo(dtype).eps / 2
    Z = np.abs(X) @ P["weight_ih"].T + np.abs(H0) @ P["weight_hh"].T + P.get("bias_ih", 0) + P.get("bias_hh", 0)
    e = ((cell.input_size + h + 2) * Z.max(initial=0) + 8) * u
    c = 1 + np.abs(C0).max(initial=0)
    g = max(np.abs(array).max(initial=0) for array in upstream)
    bounds = {
        "h1": 6 * e * c,
        "c1": 3 * e * c,
        "c0": 20 * g * e * c,
        "input": (40 + 4 * h) * g * e * c**2 * P["weight_ih"].sum(axis=0).max(),
        "h0": (40 + 4 * h) * g * e * c**2 * P["weight_hh"].sum(axis=0).max(),
        "weight_ih": n * (40 + n) * g * e * c**2 * np.abs(X).max(initial=0),
        "weight_hh": n * (40 + n) * g * e * c**2 * np.abs(H0).max(initial=0),
        "bias_ih": n * (40 + n) * g * e * c**2,
        "bias_hh": n * (40 + n) * g * e * c**2,
    }
    for name in expected:
        assert results[name].shape == expected[name].shape, name
        assert results[name].dtype == expected[name].dtype == dtype, name
        difference = np.abs(results[name].astype(np.float64) - expected[name])
        assert (difference <= 2 * bounds[name]).all(), f"{name}: {difference.max()} > {2 * bounds[name]}"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [0, 1, 3, 7, None])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("x", "h"), SIZES)
def test_outputs_and_gradients(x: int, h: int, bias: bool, n: int | None, dtype: Any) -> None:
    """n = None: a single sample without a batch axis."""
    rng = np.random.default_rng(1)
    ours, theirs = twins(rng, x, h, bias, dtype)
    lead = () if n is None else (n,)
    inputs = [rng.normal(size=(*lead, size)).astype(dtype) for size in (x, h, h)]
    upstream = [rng.normal(size=(*lead, h)).astype(dtype) for _ in range(2)]
    for array in inputs + upstream:
        array.flags.writeable = False
    assert_close(ours, by_refnet(ours, inputs, upstream), by_torch(theirs, inputs, upstream), inputs, upstream)


@pytest.mark.parametrize("output", [0, 1])
@pytest.mark.parametrize("unit", range(6))
def test_one_hot_upstream_gradients(unit: int, output: int) -> None:
    rng = np.random.default_rng(2)
    ours, theirs = twins(rng, 4, 3, True, np.float64)
    inputs = [rng.normal(size=(2, size)) for size in (4, 3, 3)]
    upstream = [np.zeros((2, 3)), np.zeros((2, 3))]
    upstream[output].flat[unit] = 1.25
    results = by_refnet(ours, inputs, upstream)
    assert_close(ours, results, by_torch(theirs, inputs, upstream), inputs, upstream)
    assert (results["input"][unit // 3] != 0).all()
    assert (results["input"][1 - unit // 3] == 0).all()


def test_strided_reversed_and_broadcast_arrays() -> None:
    rng = np.random.default_rng(3)
    ours, theirs = twins(rng, 4, 3, True, np.float64)
    inputs = [rng.normal(size=(size, 14))[::-1, ::2].T for size in (4, 3, 3)]
    upstream = [np.broadcast_to(rng.normal(size=3), (7, 3)), np.broadcast_to(rng.normal(size=(7, 1)), (7, 3))]
    assert not any(array.flags.c_contiguous for array in inputs)
    assert_close(ours, by_refnet(ours, inputs, upstream), by_torch(theirs, inputs, upstream), inputs, upstream)


def test_gates_by_hand() -> None:
    """One unit whose gates are told apart: s(0) = 1/2, s(log 3) = 3/4, tanh(log 3) = 4/5, s(-log 3) = 1/4."""
    cell = LSTMCell(1, 1)
    cell.params["weight_ih"][...] = [[0], [1], [1], [-1]]
    cell.params["weight_hh"][...] = 0
    cell.params["bias_ih"][...] = 0
    cell.params["bias_hh"][...] = 0
    (H1, C1), _ = cell.forward(np.array([[math.log(3)]]), np.array([[5.0]]), np.array([[2.0]]))
    # C1 = 3/4 * 2 + 1/2 * 4/5, H1 = tanh(C1) / 4; a few roundings.
    assert abs(C1.item() - 1.9) <= 8 * np.finfo(float).eps
    assert abs(H1.item() - math.tanh(1.9) / 4) <= 8 * np.finfo(float).eps


@pytest.mark.parametrize("gate", range(4))
def test_saturated_gates_keep_their_derivatives(gate: int) -> None:
    """At 40 sigmoid and tanh are 1 in float64, and 1 - y is 0; but the derivatives are near exp(-40) and 4 exp(-80)."""
    cell = LSTMCell(1, 1)
    for name in cell.params:
        cell.params[name][...] = 0
    cell.params["bias_ih"][2] = 0.5
    cell.params["bias_ih"][gate] = 40
    _, saved = cell.forward(np.array([[1.0]]), np.array([[0.0]]), np.array([[3.0]]))
    _, grads = cell.backward((np.array([[0.25]]), np.array([[0.5]])), saved)
    values = [0.5, 0.5, math.tanh(0.5), 0.5]
    values[gate] = 1.0
    i, f, g, o = values
    c1 = f * 3 + i * g
    dC = 0.5 + 0.25 * o / math.cosh(c1) ** 2
    slope = 1 / math.cosh(40) ** 2 if gate == 2 else math.exp(-40) / (1 + math.exp(-40)) ** 2
    expected = slope * [dC * g, dC * 3, dC * i, 0.25 * math.tanh(c1)][gate]
    # About a dozen operations, each within 4 units in the last place.
    assert abs(grads["bias_ih"][gate] - expected) <= 12 * 4 * 2**-52 * expected


def test_two_forward_passes_under_way_at_once() -> None:
    rng = np.random.default_rng(4)
    cell, _ = twins(rng, 3, 2, True, np.float64)
    first, second = ([rng.normal(size=(n, size)) for size in (3, 2, 2)] for n in (2, 5))
    upstream = [rng.normal(size=(2, 2)) for _ in range(2)]
    alone = by_refnet(cell, first, upstream)
    outputs, saved = cell.forward(*first)
    cell.forward(*second)
    grads, grad_params = cell.backward((upstream[0], upstream[1]), saved)
    results = [*outputs, *grads, *grad_params.values()]
    assert all(np.array_equal(mine, array) for mine, array in zip(results, alone.values(), strict=True))


def test_gradients_of_the_two_biases_are_two_arrays() -> None:
    rng = np.random.default_rng(5)
    cell = LSTMCell(2, 3)
    _, saved = cell.forward(*(rng.normal(size=(2, size)) for size in (2, 3, 3)))
    _, grads = cell.backward((rng.normal(size=(2, 3)), rng.normal(size=(2, 3))), saved)
    assert np.array_equal(grads["bias_ih"], grads["bias_hh"])
    assert not np.shares_memory(grads["bias_ih"], grads["bias_hh"])


@pytest.mark.parametrize("dtype", DTYPES)
def test_initial_values_are_torchs(dtype: Any) -> None:
    torch.manual_seed(12)
    generator = Generator(12)
    for (x, h), bias in itertools.product(SIZES, (True, False)):
        theirs = torch.nn.LSTMCell(x, h, bias, dtype=getattr(torch, np.dtype(dtype).name))
        ours = LSTMCell(x, h, bias, dtype=dtype, generator=generator)
        assert list(ours.params) == [name for name, _ in theirs.named_parameters()]
        for name, parameter in theirs.named_parameters():
            assert ours.params[name].dtype == dtype
            assert np.array_equal(ours.params[name], parameter.detach().numpy()), name


def test_defaults() -> None:
    cell = LSTMCell(2, 3)
    assert list(cell.params) == ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]
    assert cell.params["weight_ih"].dtype == np.float64
    assert cell.buffers == {}


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        (((2, 4), (2, 3), (2, 3)), r"input of shape \(N, 5\) or \(5,\), input_size = 5, got \(2, 4\)"),
        (((1, 2, 5), (2, 3), (2, 3)), r"input of shape .* got \(1, 2, 5\)"),
        (((), (3,), (3,)), r"input of shape .* got \(\)"),
        (((2, 5), (2, 4), (2, 3)), r"h0 of shape \(2, 3\), hidden_size = 3, .* got \(2, 4\)"),
        (((2, 5), (2, 3), (2, 4)), r"c0 of shape \(2, 3\).* got \(2, 4\)"),
        (((2, 5), (1, 3), (1, 3)), r"h0 of shape \(2, 3\).* got \(1, 3\)"),
        (((2, 5), (2, 3), (1, 3)), r"c0 of shape \(2, 3\).* got \(1, 3\)"),
        (((5,), (1, 3), (1, 3)), r"h0 of shape \(3,\).* got \(1, 3\)"),
        (((1, 5), (3,), (3,)), r"h0 of shape \(1, 3\).* got \(3,\)"),
    ],
)
def test_refused_shapes(shapes: tuple[tuple[int, ...], ...], words: str) -> None:
    X, H0, C0 = (torch.zeros(shape) for shape in shapes)
    with pytest.raises((RuntimeError, ValueError)):
        torch.nn.LSTMCell(5, 3)(X, (H0, C0))
    with pytest.raises(ValueError, match=f"^LSTMCell: expected {words}"):
        LSTMCell(5, 3).forward(*(np.zeros(shape) for shape in shapes))


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_refused_dtypes(dtype: Any, place: int) -> None:
    inputs = [np.zeros((2, 5)), np.zeros((2, 3)), np.zeros((2, 3))]
    inputs[place] = inputs[place].astype(dtype)
    with pytest.raises(TypeError, match=f"^LSTMCell: expected .*{np.dtype(dtype).name}"):
        LSTMCell(5, 3).forward(*inputs)
