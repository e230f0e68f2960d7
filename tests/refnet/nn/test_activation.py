"""The activations: what they refuse, what they say at their kinks, and where they saturate."""

import math

import mpmath
import numpy as np
import pytest
import torch

from refnet import Generator, nn

REFUSED = {
    "GELU": (lambda: nn.GELU("erf"), ValueError, "GELU: expected approximate to be one of none, tanh, got 'erf'"),
    "Softplus": (lambda: nn.Softplus(0), ValueError, "Softplus: expected beta to be another number than 0, got 0"),
    "Softplus of NaN": (lambda: nn.Softplus(math.nan), ValueError, "Softplus: expected beta to be a number, got nan"),
    "Softplus's threshold": (lambda: nn.Softplus(1, "x"), TypeError, "Softplus: expected threshold to be a number"),
    "ELU": (lambda: nn.ELU("1"), TypeError, "ELU: expected alpha to be a number, got '1'"),
    "CELU": (lambda: nn.CELU(0.0), ValueError, "CELU: expected alpha to be another number than 0, got 0.0"),
    "LeakyReLU": (lambda: nn.LeakyReLU(None), TypeError, "LeakyReLU: expected negative_slope to be a number, got None"),
    "Hardtanh": (lambda: nn.Hardtanh(1, 1), ValueError, "Hardtanh: expected max_val above min_val = 1, got 1"),
    "Hardtanh of a word": (lambda: nn.Hardtanh("a"), TypeError, "Hardtanh: expected min_val to be a number, got 'a'"),
    "Softshrink": (lambda: nn.Softshrink(-0.5), ValueError, "Softshrink: expected lambd to be at least 0, got -0.5"),
    "Hardshrink": (lambda: nn.Hardshrink("a"), TypeError, "Hardshrink: expected lambd to be a number, got 'a'"),
    "Threshold": (lambda: nn.Threshold(0, None), TypeError, "Threshold: expected value to be a number, got None"),
    "RReLU": (lambda: nn.RReLU(0.5, 0.25), ValueError, "RReLU: expected lower of at most upper = 0.25, got 0.5"),
    "RReLU of a word": (lambda: nn.RReLU("a"), TypeError, "RReLU: expected lower to be a number, got 'a'"),
    "slopes": (lambda: nn.RReLU()(np.zeros(2), np.zeros(3)), ValueError, "RReLU: expected"),
    "slopes of integers": (lambda: nn.RReLU()(np.zeros(2), np.zeros(2, int)), TypeError, "RReLU: expected slopes"),
    "PReLU": (lambda: nn.PReLU(0), ValueError, "PReLU: expected num_parameters to be at least 1, got 0"),
    "PReLU of half": (lambda: nn.PReLU(2.5), TypeError, "PReLU: expected num_parameters to be an integer, got 2.5"),
    "channels": (lambda: nn.PReLU(3)(np.zeros((2, 4))), ValueError, "PReLU: expected an input of 3 channels"),
    "no channels": (lambda: nn.PReLU(3)(np.zeros(3)), ValueError, "PReLU: expected an input of 3 channels"),
    "GLU": (lambda: nn.GLU()(np.zeros((2, 3))), ValueError, "GLU: expected an even number of elements along axis -1"),
    "GLU without axes": (lambda: nn.GLU()(np.zeros(())), ValueError, "GLU: expected an input with an axis -1"),
    "Softmin": (lambda: nn.Softmin(2)(np.zeros((2, 3))), ValueError, "Softmin: expected an input with an axis 2"),
    "Softmax2d": (lambda: nn.Softmax2d()(np.zeros((2, 3))), ValueError, "Softmax2d: expected an input of 3 or 4 axes"),
    "SwiGLU": (lambda: nn.SwiGLU(2, -1), ValueError, "Linear: expected out_features to be at least 0, got -1"),
    "GEGLU": (lambda: nn.GEGLU(2, 3, approximate="x"), ValueError, "GELU: expected approximate to be one of"),
    "SiLU": (lambda: nn.SiLU()([1.0]), TypeError, "SiLU: expected input to be an array, got list"),
    "Mish": (lambda: nn.Mish()(np.zeros(2, int)), TypeError, "Mish: expected input of dtype float32 or float64"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name):
    make, error, message = REFUSED[name]
    with pytest.raises(error) as raised:
        make()
    assert message in str(raised.value)


KINKS = {
    "LeakyReLU": ((), [0, -0.0], [0.01, 0.01]),
    "ReLU6": ((), [0, -0.0, 6], [0, 0, 0]),
    "Hardtanh": ((), [-1, 1], [0, 0]),
    "Hardsigmoid": ((), [-3, 3], [0, 0]),
    "Hardswish": ((), [-3, 3], [0, 1]),
    "Hardshrink": ((), [-0.5, 0.5, 0], [0, 0, 0]),
    "Softshrink": ((), [-0.5, 0.5, 0], [0, 0, 0]),
    "Threshold": ((0.5, -2), [0.5], [0]),
    "ELU": ((1.5,), [0, -0.0], [1.5, 1.5]),
    "CELU": ((2.0,), [0], [1]),
    "Softplus": ((2, 8), [4.0, 4.5], [1 / (1 + math.exp(-8)), 1]),
    "Softsign": ((), [0, -0.0], [1, 1]),
}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", KINKS)
def test_slopes_at_kinks_are_torchs(name, dtype):
    arguments, kinks, slopes = KINKS[name]
    X = np.array(kinks, dtype)
    layer = getattr(nn, name)(*arguments)
    dX, _ = layer.backward(np.ones_like(X), layer.forward(X)[1])
    np.testing.assert_allclose(dX, slopes, rtol=1e-6)
    assert dX.dtype == dtype
    # As many as fill whole vectors, and some more.
    x = torch.tensor(np.tile(X, 37), requires_grad=True)
    getattr(torch.nn, name)(*arguments)(x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), np.tile(dX, 37), rtol=1e-6)


TRUE = {
    "SiLU": lambda x: x / (1 + mpmath.exp(-x)),
    "GELU": lambda x: x * mpmath.erfc(-x / mpmath.sqrt(2)) / 2,
    "Mish": lambda x: x * mpmath.tanh(mpmath.log1p(mpmath.exp(x))),
    "LogSigmoid": lambda x: -mpmath.log1p(mpmath.exp(-x)),
    "Softsign": lambda x: x / (1 + abs(x)),
}


@pytest.mark.parametrize("x", [-30.0, -12.0, -7.0, 12.0, 40.0, 300.0])
@pytest.mark.parametrize("name", TRUE)
def test_no_digits_are_lost_where_they_saturate(name, x):
    layer, X = getattr(nn, name)(), np.array([x])
    Y, saved = layer.forward(X)
    dX, _ = layer.backward(np.ones(1), saved)
    with mpmath.workdps(400):
        true, slope = TRUE[name](mpmath.mpf(x)), mpmath.diff(TRUE[name], mpmath.mpf(x))
        # The rounding of x^2 is in erfc.
        room = 1e-14 * (x * x if name == "GELU" else 1)
        assert abs(float(Y[0]) - true) <= room * abs(true)
        assert abs(float(dX[0]) - slope) <= room * abs(slope)


@pytest.mark.parametrize(("name", "activation"), [("SwiGLU", "silu"), ("GEGLU", "gelu")])
@pytest.mark.parametrize("bias", [False, True])
def test_a_gated_block_is_three_maps_and_an_activation(name, activation, bias):
    block = getattr(nn, name)(3, 5, 2, bias, generator=Generator(1))
    assert [*block.params] == [
        f"{place}.{kind}"
        for place in ("gate_proj", "up_proj", "down_proj")
        for kind in (("weight", "bias") if bias else ("weight",))
    ]
    X = np.random.default_rng(2).normal(size=(4, 3))
    P = {key: torch.tensor(value, requires_grad=True) for key, value in block.params.items()}

    def linear(x, place):
        return torch.nn.functional.linear(x, P[f"{place}.weight"], P.get(f"{place}.bias"))

    x = torch.tensor(X, requires_grad=True)
    y = linear(getattr(torch.nn.functional, activation)(linear(x, "gate_proj")) * linear(x, "up_proj"), "down_proj")
    y.sum().backward()
    Y, saved = block.forward(X)
    dX, grads = block.backward(np.ones_like(Y), saved)
    np.testing.assert_allclose(Y, y.detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(dX, x.grad.numpy(), rtol=1e-11)
    for key, G in grads.items():
        np.testing.assert_allclose(G, P[key].grad.numpy(), rtol=1e-11, err_msg=key)


def test_a_gated_block_draws_as_its_three_maps():
    g = Generator(5)
    maps = [nn.Linear(i, o, False, generator=g) for i, o in ((3, 4), (3, 4), (4, 3))]
    block = nn.SwiGLU(3, 4, generator=Generator(5))
    for made, own in zip(maps, block.params.values(), strict=True):
        assert np.array_equal(made.params["weight"], own)
    assert repr(block).startswith(
        "SwiGLU(\n  (gate_proj): Linear(in_features=3, out_features=4, bias=False)\n  (up_proj)"
    )
    assert repr(nn.GEGLU(3, 4, approximate="tanh")).startswith("GEGLU(\n  approximate='tanh'\n  (gate_proj)")


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("bounds", [(), (-0.25, 0.75), (0.5, 0.5)], ids=str)
def test_drawn_slopes_are_torchs(bounds, dtype):
    """Only what is not above 0 has a slope drawn; in evaluation mode it is their mean."""
    X = np.random.default_rng(0).normal(size=(37, 11)).astype(dtype)
    X[:2] = [0.0] * 11, [np.nan] * 11
    dY = np.random.default_rng(1).normal(size=X.shape).astype(dtype)
    torch.manual_seed(4)
    theirs, ours = torch.nn.RReLU(*bounds), nn.RReLU(*bounds, generator=Generator(4))
    assert repr(ours) == repr(theirs)
    for training in (True, False):
        x = torch.tensor(X, requires_grad=True)
        y = theirs.train(training)(x)
        y.backward(torch.tensor(dY))
        Y, saved = ours.train(training).forward(X)
        same = np.testing.assert_array_equal if training else np.testing.assert_allclose
        same(Y, y.detach().numpy())
        same(ours.backward(dY, saved)[0], x.grad.numpy())
        assert Y.dtype == dtype
    assert ours.generator.get_state().tobytes() == torch.get_rng_state().numpy().tobytes()
