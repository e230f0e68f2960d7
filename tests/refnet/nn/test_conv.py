"""Conv2d against torch.nn.Conv2d.

On the grid (multiples of 1/64 up to 1) every product is a multiple of 2^-12 up to 1, and no sum here has 2^12 of them:
nothing is rounded in float32 or float64, in any order, and the results must be the same bits. On full significands each
element is a sum of t products, which any order computes within gamma_t times the sum of their magnitudes; torch itself
counts the terms (all arrays 1) and adds up the magnitudes (all arrays absolute).
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from refnet.generator import Generator
from refnet.nn.conv import Conv2d

DTYPES = [np.float32, np.float64]
MODES = ["zeros", "reflect", "replicate", "circular"]

# Options, and the input's height and width.
GEOMETRIES: dict[str, tuple[dict[str, Any], tuple[int, int]]] = {
    "plain": ({"kernel_size": 3}, (5, 6)),
    "1x1": ({"kernel_size": 1}, (4, 5)),
    "whole input": ({"kernel_size": (4, 5)}, (4, 5)),
    "row kernel": ({"kernel_size": (1, 3), "padding": (0, 1), "bias": False}, (3, 7)),
    "stride": ({"kernel_size": (3, 2), "stride": (2, 3), "padding": (1, 2)}, (8, 9)),
    "stride beyond kernel": ({"kernel_size": 1, "stride": (2, 3)}, (6, 9)),
    "dilation": ({"kernel_size": (2, 3), "dilation": (3, 2), "padding": (2, 3)}, (7, 6)),
    "stride and dilation": ({"kernel_size": (3, 2), "stride": (3, 2), "dilation": (2, 3), "padding": (3, 1)}, (9, 8)),
    "groups": ({"kernel_size": (2, 3), "groups": 2, "stride": (1, 2), "padding": 1}, (5, 6)),
    "depthwise": ({"kernel_size": 3, "groups": 4, "padding": (1, 0), "dilation": (1, 2)}, (5, 6)),
    "same": ({"kernel_size": (3, 5), "padding": "same"}, (6, 7)),
    "same, even": ({"kernel_size": (2, 4), "padding": "same", "groups": 2}, (5, 6)),
    "same, dilated": ({"kernel_size": (4, 2), "padding": "same", "dilation": (1, 3), "bias": False}, (6, 5)),
    "valid": ({"kernel_size": (2, 3), "padding": "valid", "stride": 2}, (6, 6)),
}

fused = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"),
    reason="refnet.generator's claim is for torch on AVX2 and AVX512, where uniform_ is fused",
)

pytestmark = [
    pytest.mark.arithmetic,
    pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning"),
]


def grid(rng: np.random.Generator, *shape: int, dtype: Any = np.float64) -> Any:
    return (rng.integers(-64, 65, shape) / 64).astype(dtype)


def full(rng: np.random.Generator, *shape: int, dtype: Any = np.float64) -> Any:
    return rng.normal(size=shape).astype(dtype)


def layers(draw: Any, rng: np.random.Generator, dtype: Any, options: dict[str, Any]) -> tuple[Conv2d, torch.nn.Conv2d]:
    """The layer in both engines, with the same random parameters, refnet's write-protected."""
    ours = Conv2d(4, 8, dtype=dtype, **options)
    theirs = torch.nn.Conv2d(4, 8, dtype=getattr(torch, np.dtype(dtype).name), **options)
    for name, parameter in theirs.named_parameters():
        ours.params[name] = draw(rng, *parameter.shape, dtype=dtype)
        parameter.data = torch.tensor(ours.params[name])
        ours.params[name].flags.writeable = False
    assert ours.params.keys() == dict(theirs.named_parameters()).keys()
    return ours, theirs


def by_torch(layer: torch.nn.Conv2d, X: Any, dY: Any) -> dict[str, Any]:
    """Output and gradients in torch."""
    input = torch.tensor(np.ascontiguousarray(X), requires_grad=True)
    layer.zero_grad()
    output = layer(input)
    output.backward(torch.tensor(np.ascontiguousarray(dY)))
    arrays = {"output": output, "input": input.grad}
    arrays |= {name: parameter.grad for name, parameter in layer.named_parameters()}
    return {name: array.detach().numpy().copy() for name, array in arrays.items()}


def by_refnet(layer: Conv2d, X: Any, dY: Any) -> dict[str, Any]:
    """Output and gradients in refnet."""
    Y, saved = layer.forward(X)
    dX, grads = layer.backward(dY, saved)
    return {"output": Y, "input": dX, **grads}


def output_shape(layer: torch.nn.Conv2d, *shape: int) -> tuple[int, ...]:
    return tuple(layer(torch.zeros(shape, dtype=layer.weight.dtype)).shape)


def assert_same(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert ours.keys() == theirs.keys()
    for name in theirs:
        assert ours[name].shape == theirs[name].shape, name
        assert ours[name].dtype == theirs[name].dtype, name
        assert np.array_equal(ours[name], theirs[name]), f"{name}: {ours[name] - theirs[name]}"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [0, 1, 3, 7])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_same_bits_as_torch_on_the_grid(geometry: str, mode: str, n: int, dtype: Any) -> None:
    options, size = GEOMETRIES[geometry]
    rng = np.random.default_rng(1)
    ours, theirs = layers(grid, rng, dtype, {**options, "padding_mode": mode})
    X = grid(rng, n, 4, *size, dtype=dtype)
    dY = grid(rng, *output_shape(theirs, *X.shape), dtype=dtype)
    X.flags.writeable = dY.flags.writeable = False
    assert_same(by_refnet(ours, X, dY), by_torch(theirs, X, dY))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_within_the_error_bound_of_a_sum_on_full_significands(geometry: str, mode: str, dtype: Any) -> None:
    options, size = GEOMETRIES[geometry]
    rng = np.random.default_rng(2)
    ours, theirs = layers(full, rng, dtype, {**options, "padding_mode": mode})
    X = full(rng, 3, 4, *size, dtype=dtype)
    dY = full(rng, *output_shape(theirs, *X.shape), dtype=dtype)
    a, b = by_refnet(ours, X, dY), by_torch(theirs, X, dY)
    theirs = theirs.double()
    for parameter in theirs.parameters():
        parameter.data = parameter.data.abs()
    magnitudes = by_torch(theirs, np.abs(X).astype(np.float64), np.abs(dY).astype(np.float64))
    for parameter in theirs.parameters():
        parameter.data = torch.ones_like(parameter)
    terms = by_torch(theirs, np.ones(X.shape), np.ones(dY.shape))
    u = np.finfo(dtype).eps / 2
    assert a.keys() == b.keys()
    for name in b:
        assert a[name].dtype == dtype, name
        gamma = terms[name] * u / (1 - terms[name] * u)
        # Two engines; 1 + 2^-20 for the rounding of the bound itself.
        bound = 2 * gamma * magnitudes[name] * (1 + 2**-20)
        assert (np.abs(a[name].astype(np.float64) - b[name]) <= bound).all(), name


@pytest.mark.parametrize("mode", MODES)
def test_one_sample_without_a_batch_axis(mode: str) -> None:
    rng = np.random.default_rng(3)
    options = {"kernel_size": (2, 3), "stride": (2, 1), "padding": (1, 2), "groups": 2, "padding_mode": mode}
    ours, theirs = layers(grid, rng, np.float64, options)
    X = grid(rng, 4, 5, 6)
    dY = grid(rng, *output_shape(theirs, 4, 5, 6))
    assert dY.ndim == 3
    assert_same(by_refnet(ours, X, dY), by_torch(theirs, X, dY))


@pytest.mark.parametrize("mode", MODES)
def test_strided_reversed_and_broadcast_arrays(mode: str) -> None:
    rng = np.random.default_rng(4)
    ours, theirs = layers(grid, rng, np.float64, {"kernel_size": 3, "stride": 2, "padding": 1, "padding_mode": mode})
    X = grid(rng, 14, 3, 4, 7)[::2, :, :, ::-1].swapaxes(1, 2)
    assert X.shape == (7, 4, 3, 7)
    n, o, h, w = output_shape(theirs, *X.shape)
    dY = np.broadcast_to(grid(rng, o, 1, w), (n, o, h, w))
    assert not X.flags.c_contiguous
    assert 0 in dY.strides
    assert_same(by_refnet(ours, X, dY), by_torch(theirs, X, dY))


def test_rows_that_no_tap_reaches_get_no_gradient() -> None:
    rng = np.random.default_rng(5)
    layer = Conv2d(1, 2, (2, 1), stride=(3, 2), bias=False)
    # Rows 0 1 . 3 4 . and columns 0 . 2 . 4 . are read; of the last row and column the kernel falls short.
    X = full(rng, 2, 1, 6, 6)
    Y, saved = layer.forward(X)
    dX, _ = layer.backward(full(rng, *Y.shape), saved)
    reached = np.zeros((6, 6), np.bool_)
    reached[np.ix_([0, 1, 3, 4], [0, 2, 4])] = True
    assert (dX[..., ~reached] == 0).all()
    assert (dX[..., reached] != 0).all()


def test_cross_correlation_by_hand() -> None:
    layer = Conv2d(1, 1, (1, 2), padding=(0, 1), padding_mode="reflect")
    layer.params["weight"][...] = [[[[2.0, 3.0]]]]
    layer.params["bias"][...] = 0.5
    # Padded row: 7 5 7 5. Outputs: 2*7 + 3*5 + .5, 2*5 + 3*7 + .5, 2*7 + 3*5 + .5.
    Y, saved = layer.forward(np.array([[[[5.0, 7.0]]]]))
    assert Y.tolist() == [[[[29.5, 31.5, 29.5]]]]
    dX, grads = layer.backward(np.array([[[[1.0, 10.0, 100.0]]]]), saved)
    # Padded gradient: 2*1, 3*1 + 2*10, 3*10 + 2*100, 3*100; its ends fold back onto 7 and 5.
    assert dX.tolist() == [[[[23.0 + 300.0, 230.0 + 2.0]]]]
    assert grads["weight"].tolist() == [[[[7.0 + 50.0 + 700.0, 5.0 + 70.0 + 500.0]]]]
    assert grads["bias"].tolist() == [111.0]


@pytest.mark.parametrize("mode", MODES)
def test_exact_rational_numbers(mode: str) -> None:
    """Arrays of Python numbers run through the same lines."""
    rng = np.random.default_rng(6)
    options = {
        "kernel_size": (2, 3),
        "stride": (2, 1),
        "dilation": (1, 2),
        "padding": 2,
        "groups": 2,
        "padding_mode": mode,
    }
    ours, theirs = layers(grid, rng, np.float64, options)
    X = grid(rng, 2, 4, 4, 5)
    dY = grid(rng, *output_shape(theirs, *X.shape))
    rational = np.frompyfunc(Fraction, 1, 1)
    ours.bind({name: rational(array) for name, array in ours.params.items()})
    results = by_refnet(ours, rational(X), rational(dY))
    expected = by_torch(theirs, X, dY)
    assert results.keys() == expected.keys()
    for name in expected:
        assert results[name].dtype == object, name
        assert np.array_equal(results[name], rational(expected[name])), name


def test_two_forward_passes_under_way_at_once() -> None:
    rng = np.random.default_rng(7)
    ours, theirs = layers(grid, rng, np.float64, {"kernel_size": 2, "padding": 1})
    X1, X2, dY = grid(rng, 2, 4, 3, 3), grid(rng, 3, 4, 5, 5), grid(rng, 2, 8, 4, 4)
    Y, saved = ours.forward(X1)
    ours.forward(X2)
    dX, grads = ours.backward(dY, saved)
    assert_same({"output": Y, "input": dX, **grads}, by_torch(theirs, X1, dY))


@fused
@pytest.mark.parametrize("dtype", DTYPES)
def test_initial_values_are_torchs(dtype: Any) -> None:
    torch.manual_seed(11)
    generator = Generator(11)
    for options in ({"kernel_size": (3, 2), "groups": 2}, {"kernel_size": 1, "bias": False}, {"kernel_size": 5}):
        theirs = torch.nn.Conv2d(4, 6, dtype=getattr(torch, np.dtype(dtype).name), **options)
        ours = Conv2d(4, 6, dtype=dtype, generator=generator, **options)
        assert_same(ours.params, {name: parameter.detach().numpy() for name, parameter in theirs.named_parameters()})


def test_defaults_are_torchs() -> None:
    ours, theirs = Conv2d(2, 4, 3), torch.nn.Conv2d(2, 4, 3)
    for name in (
        "kernel_size",
        "stride",
        "padding",
        "dilation",
        "groups",
        "padding_mode",
        "in_channels",
        "out_channels",
    ):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert list(ours.params) == [name for name, _ in theirs.named_parameters()]
    assert ours.params["weight"].dtype == np.float64
    assert ours.buffers == {}


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"in_channels": 3, "groups": 2}, ValueError, "in_channels .* multiple of groups .* got 3 with groups = 2"),
        ({"out_channels": 7, "groups": 2}, ValueError, "out_channels .* got 7 with groups = 2"),
        ({"groups": 0}, ValueError, ".* groups = 0"),
        ({"groups": -2}, ValueError, ".* groups = -2"),
        ({"in_channels": 0}, ValueError, "in_channels .* got 0"),
        ({"kernel_size": 0}, ValueError, "kernel_size >= 1, got 0"),
        ({"kernel_size": 2.0}, TypeError, "kernel_size .* int.*, got 2.0"),
        ({"kernel_size": (1, 2, 3)}, ValueError, r"kernel_size .* pair, got \(1, 2, 3\)"),
        ({"stride": (1, 0)}, ValueError, r"stride >= 1, got \(1, 0\)"),
        ({"dilation": 0}, ValueError, "dilation >= 1, got 0"),
        ({"padding": -1}, ValueError, "padding >= 0, got -1"),
        ({"padding": "full"}, ValueError, "padding .* same, valid, got 'full'"),
        ({"padding": "same", "stride": (1, 2)}, ValueError, r"stride 1 with padding='same', got \(1, 2\)"),
        ({"padding_mode": "mirror"}, ValueError, "padding_mode .* got 'mirror'"),
    ],
)
def test_refused_arguments(options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=f"^Conv2d: expected {words}"):
        Conv2d(**{"in_channels": 4, "out_channels": 6, "kernel_size": 3, **options})


@pytest.mark.parametrize(
    ("options", "shape", "words"),
    [
        ({}, (5, 5), r"\(N, 4, H, W\) or \(4, H, W\).*, got \(5, 5\)"),
        ({}, (1, 2, 4, 5, 5), r"got \(1, 2, 4, 5, 5\)"),
        ({}, (2, 3, 5, 5), r"in_channels = 4.*, got \(2, 3, 5, 5\)"),
        ({"padding": 2}, (2, 4, 0, 5), r"H and W positive, got \(2, 4, 0, 5\)"),
        ({}, (2, 4, 2, 5), r"at least .* = \(3, 3\), got \(2, 5\)"),
        ({"dilation": (1, 3), "padding": (0, 1)}, (2, 4, 5, 4), r"at least .* = \(3, 7\), got \(5, 6\)"),
        ({"padding": (0, 5), "padding_mode": "reflect"}, (4, 5, 5), "padding of at most 4 .*reflect.* size 5, got 5"),
        ({"padding": (6, 0), "padding_mode": "circular"}, (4, 5, 5), "padding of at most 5 .*circular.* size 5, got 6"),
    ],
)
def test_refused_shapes(options: dict[str, Any], shape: tuple[int, ...], words: str) -> None:
    layer = Conv2d(4, 6, 3, **options)
    with pytest.raises(RuntimeError):
        torch.nn.Conv2d(4, 6, 3, **options)(torch.zeros(shape))
    with pytest.raises(ValueError, match=f"^Conv2d: expected .*{words}"):
        layer.forward(np.zeros(shape))


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.float16])
def test_refused_dtypes(dtype: Any) -> None:
    with pytest.raises(TypeError, match=f"^Conv2d: expected .*{np.dtype(dtype).name}"):
        Conv2d(4, 6, 3).forward(np.zeros((1, 4, 5, 5), dtype))


def test_refused_dtype_of_the_bias() -> None:
    layer = Conv2d(4, 6, 3)
    layer.params["bias"] = layer.params["bias"].astype(np.float32)
    with pytest.raises(TypeError, match="input and bias of one dtype, got float64 and float32"):
        layer.forward(np.zeros((1, 4, 5, 5)))
