"""refnet.nn.init against torch.nn.init: the same bits in the same array, and the same draws used."""

import numpy as np
import pytest
import torch

from refnet.generator import Generator, default_generator, manual_seed
from refnet.nn import init

pytestmark = pytest.mark.arithmetic

SEEDS = (0, 2**31, 2**32 + 5, 2**40, -1)
SHAPES = ((1, 1), (3, 5), (17, 1), (40, 300), (6, 3, 5), (4, 2, 3, 3), (2, 3, 1, 2, 3))
DTYPES = (np.float32, np.float64)
TORCH = {np.float32: torch.float32, np.float64: torch.float64}
GAINS = ("linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
GAINS = (*GAINS, "sigmoid", "tanh", "relu", "selu", "leaky_relu")

fused = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"),
    reason="refnet.generator's claim is for torch on AVX2 and AVX512, where uniform_ is fused",
)


def assert_as_torch(name, shape, dtype, seed, *args, **kwargs):
    ours, theirs = Generator(seed), torch.Generator().manual_seed(seed)
    array, tensor = np.full(shape, np.nan, dtype), torch.full(shape, torch.nan, dtype=TORCH[dtype])
    assert getattr(init, name)(array, *args, **kwargs, generator=ours) is array
    getattr(torch.nn.init, name)(tensor, *args, **kwargs, generator=theirs)
    assert array.tobytes() == tensor.numpy().tobytes()
    np.testing.assert_array_equal(ours.get_state(), theirs.get_state().numpy())


@fused
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("shape", [*SHAPES, (), (16,)])
def test_uniform(shape, dtype, seed):
    assert_as_torch("uniform_", shape, dtype, seed)
    assert_as_torch("uniform_", shape, dtype, seed, -0.3, 0.1)
    assert_as_torch("uniform_", shape, dtype, seed, a=0.1, b=0.7)


@fused
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_kaiming_uniform(shape, dtype, seed):
    assert_as_torch("kaiming_uniform_", shape, dtype, seed)
    assert_as_torch("kaiming_uniform_", shape, dtype, seed, 5**0.5)
    assert_as_torch("kaiming_uniform_", shape, dtype, seed, a=0.2, mode="fan_out")
    for nonlinearity in GAINS:
        assert_as_torch("kaiming_uniform_", shape, dtype, seed, mode="fan_in", nonlinearity=nonlinearity)


@fused
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_xavier_uniform(shape, dtype, seed):
    assert_as_torch("xavier_uniform_", shape, dtype, seed)
    assert_as_torch("xavier_uniform_", shape, dtype, seed, 5 / 3)
    assert_as_torch("xavier_uniform_", shape, dtype, seed, gain=1.7)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0, 3)])
def test_constants(shape, dtype):
    for name, args, value in (("zeros_", (), 0.0), ("ones_", (), 1.0), ("constant_", (0.1,), 0.1)):
        array = np.full(shape, np.nan, dtype)
        assert getattr(init, name)(array, *args) is array
        tensor = getattr(torch.nn.init, name)(torch.empty(shape, dtype=TORCH[dtype]), *args)
        assert array.tobytes() == tensor.numpy().tobytes()
        assert (array == dtype(value)).all()


@pytest.mark.parametrize("name", ["uniform_", "kaiming_uniform_", "xavier_uniform_"])
def test_without_a_generator_the_default_one_draws(name):
    state = default_generator.get_state()
    try:
        manual_seed(9)
        drawn = getattr(init, name)(np.empty((3, 5)))
        np.testing.assert_array_equal(drawn, getattr(init, name)(np.empty((3, 5)), generator=Generator(9)))
    finally:
        default_generator.set_state(state)


def test_a_view_is_filled_in_place():
    array = np.zeros((4, 6))
    init.kaiming_uniform_(array[:, ::2], generator=Generator(0))
    assert (array[:, ::2] != 0).all()
    assert (array[:, 1::2] == 0).all()


@pytest.mark.parametrize("nonlinearity", GAINS)
def test_gain(nonlinearity):
    assert init.calculate_gain(nonlinearity) == torch.nn.init.calculate_gain(nonlinearity)


@pytest.mark.parametrize("slope", [0, 0.2, 5**0.5, -3])
def test_gain_of_a_slope(slope):
    assert init.calculate_gain("leaky_relu", slope) == torch.nn.init.calculate_gain("leaky_relu", slope)


@pytest.mark.parametrize(
    ("arguments", "torchs", "message"),
    [
        (("gelu",), "Unsupported", "expected one of leaky_relu, .*, got 'gelu'"),
        (("leaky_relu", True), "not a valid number", "expected a number as negative slope, got bool True"),
        (("leaky_relu", "x"), "not a valid number", "expected a number as negative slope, got str 'x'"),
    ],
)
def test_gain_refuses_what_torch_refuses(arguments, torchs, message):
    with pytest.raises(ValueError, match=torchs):
        torch.nn.init.calculate_gain(*arguments)
    with pytest.raises(ValueError, match=message):
        init.calculate_gain(*arguments)


@pytest.mark.parametrize(
    ("shape", "fans"),
    [((5, 3), (3, 5)), ((6, 4, 3), (12, 18)), ((6, 4, 3, 2), (24, 36)), ((6, 4, 3, 2, 5), (120, 180))],
)
def test_fans_counted_by_hand_and_by_torch(shape, fans):
    assert init._calculate_fan_in_and_fan_out(np.empty(shape)) == fans
    assert torch.nn.init._calculate_fan_in_and_fan_out(torch.empty(shape)) == fans


@pytest.mark.parametrize("name", ["kaiming_uniform_", "xavier_uniform_"])
@pytest.mark.parametrize("shape", [(), (3,)])
def test_fans_need_two_axes(name, shape):
    with pytest.raises(ValueError, match=r"at least 2 axes, got shape \("):
        getattr(init, name)(np.empty(shape))


def test_mode_is_checked():
    with pytest.raises(ValueError, match="expected mode fan_in or fan_out, got 'fan'"):
        init.kaiming_uniform_(np.empty((2, 2)), mode="fan")


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_a_weight_without_elements_draws_nothing(shape):
    g = Generator(0)
    with pytest.warns(UserWarning, match="zero-element"):
        init.kaiming_uniform_(np.empty(shape), generator=g)
    init.xavier_uniform_(np.empty(shape), generator=g)
    np.testing.assert_array_equal(g.get_state(), Generator(0).get_state())
