"""refnet.nn.init against torch.nn.init: the same bits in the same array, and the same draws used."""

import warnings
from inspect import signature

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


def drawn_by_both(name, shape, dtype, seed, *args, **kwargs):
    ours, theirs = Generator(seed), torch.Generator().manual_seed(seed)
    array, tensor = np.full(shape, np.nan, dtype), torch.full(shape, torch.nan, dtype=TORCH[dtype])
    assert getattr(init, name)(array, *args, **kwargs, generator=ours) is array
    getattr(torch.nn.init, name)(tensor, *args, **kwargs, generator=theirs)
    np.testing.assert_array_equal(ours.get_state(), theirs.get_state().numpy())
    return array, tensor.numpy()


def assert_as_torch(*args, **kwargs):
    array, expected = drawn_by_both(*args, **kwargs)
    assert array.tobytes() == expected.tobytes()


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


@fused
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_normals(shape, dtype, seed):
    assert_as_torch("normal_", shape, dtype, seed)
    assert_as_torch("normal_", shape, dtype, seed, mean=0.0, std=0.02)
    assert_as_torch("xavier_normal_", shape, dtype, seed)
    assert_as_torch("xavier_normal_", shape, dtype, seed, gain=1.7)
    assert_as_torch("kaiming_normal_", shape, dtype, seed, 5**0.5)
    for nonlinearity in GAINS:
        assert_as_torch("kaiming_normal_", shape, dtype, seed, mode="fan_out", nonlinearity=nonlinearity)


@fused
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", SEEDS[:2])
@pytest.mark.parametrize("shape", [(), (3,), *SHAPES])
def test_trunc_normal(shape, dtype, seed):
    assert_as_torch("trunc_normal_", shape, dtype, seed)
    assert_as_torch("trunc_normal_", shape, dtype, seed, std=0.02)
    assert_as_torch("trunc_normal_", shape, dtype, seed, std=1.5, a=-0.8, b=1.0)
    # what holds less than 0.3 of the distribution: kept or drawn anew from uniform draws, and so the same bits
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "mean is more than 2 std|trunc_normal_: mean is more")
        for a, b in ((0.1, 0.2), (1.0, 9.0), (-4.0, -2.5), (3.0, 3.5), (0.5, 0.5)):
            assert_as_torch("trunc_normal_", shape, dtype, seed, a=a, b=b)


@fused
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("mean", "std", "a", "b"),
    [
        # Just below and above 0.3 of the distribution, where another way of drawing begins.
        (0.5, 0.25, 0.5, 0.71040),
        (0.5, 0.25, 0.5, 0.71041),
        # 0.3 within its last bits: those of the difference, as torch takes it, decide.
        (0.0, 1.0, 0.07, 0.9459116328679984),
        (0.0, 1.0, -0.06, 0.7590136936410833),
        (0.0, 1.0, -0.57, 0.21300597544315295),
        # The mean above, below and in the interval, whose highest density is at an end or at the mean.
        (0.3, 1.7, -1.5, -0.9),
        (0.3, 1.7, 0.9, 2.0),
        (0.3, 1.7, 0.1, 0.7),
    ],
)
def test_trunc_normal_of_a_small_share(mean, std, a, b, dtype):
    for seed in SEEDS[:2]:
        assert_as_torch("trunc_normal_", (40,), dtype, seed, mean, std, a, b)


@fused
@pytest.mark.parametrize("dtype", DTYPES)
def test_trunc_normal_keeps_a_draw_on_an_end(dtype):
    low, high = np.sort(init.normal_(np.empty(40, dtype), generator=Generator(3)))[[5, -6]].tolist()
    array, expected = drawn_by_both("trunc_normal_", (40,), dtype, 3, a=low, b=high)
    assert array.tobytes() == expected.tobytes()
    assert (array.min(), array.max()) == (low, high)


def test_trunc_normal_keeps_a_draw_as_likely_as_the_one_it_is_held_against():
    """A draw x of [1, 3] is kept where log u <= -(x / std)^2 / 2 + (1 / std)^2 / 2. Here the two are equal."""
    g = Generator(0)
    (x,), log_u = init.uniform_(np.empty(1), 1.0, 3.0, g), np.log(init.uniform_(np.empty(1), generator=g))
    std = np.sqrt(0.5 * (x**2 - 1) / -log_u[0])
    while -0.5 * (x / std) ** 2 - -0.5 * (1.0 / std) ** 2 != log_u[0]:
        std = np.nextafter(std, np.inf)
    assert init.trunc_normal_(np.empty(1), 0.0, float(std), 1.0, 3.0, Generator(0)) == x


@fused
@pytest.mark.parametrize(("a", "b", "far"), [(1.0, 1.5, 0), (1.125, 1.5, 1), (-1.0, 0.0, 0), (-1.0, -0.125, 1)])
def test_trunc_normal_warns_of_a_mean_more_than_two_deviations_outside(a, b, far):
    """Two deviations are 1/2: from the mean to 1 and to 0. The warning tells the line that asked."""
    with warnings.catch_warnings(record=True) as ours:
        warnings.simplefilter("always")
        init.trunc_normal_(np.empty(3), 0.5, 0.25, a, b, generator=Generator(0))
    with warnings.catch_warnings(record=True) as theirs:
        warnings.simplefilter("always")
        torch.nn.init.trunc_normal_(torch.empty(3), 0.5, 0.25, a, b)
    assert len(ours) == len(theirs) == far
    for one in ours:
        assert "mean is more than 2 std from" in str(one.message)
        assert one.filename == __file__


@pytest.mark.parametrize("bad", [{"std": 0.0}, {"std": -1.0}, {"std": np.nan}, {"a": 3.0}])
def test_trunc_normal_refuses(bad):
    with pytest.raises(ValueError, match=r"expected std > 0 and a <= b"):
        init.trunc_normal_(np.empty(3), **bad)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("shape", [*SHAPES, (300, 4), (5, 5)])
@pytest.mark.parametrize("gain", [1, 5 / 3])
def test_orthogonal(shape, dtype, seed, gain):
    """Q depends on the library that factorizes. Columns of norm 1 are orthogonal up to roundings, and Q itself moves
    with the normals A by at most their error times the condition of A (J. Sun, "Perturbation bounds for the Cholesky
    and QR factorizations", BIT 31, 1991), to first order.
    """
    array, expected = drawn_by_both("orthogonal_", shape, dtype, seed, gain=gain)
    rows, columns = shape[0], array[0].size
    Q = array.reshape(rows, columns).astype(np.float64) / gain
    long, short = max(rows, columns), min(rows, columns)
    # 10 m n u: a generous constant for the backward error of Householder's QR (Higham 2002, theorem 19.4).
    error = 10 * long * short * np.finfo(dtype).eps / 2
    gram = Q @ Q.T if rows < columns else Q.T @ Q
    assert np.linalg.norm(gram - np.eye(short)) <= error
    A = init.normal_(np.empty((rows, columns), dtype), generator=Generator(seed)).astype(np.float64)
    assert np.linalg.norm(array - expected) <= gain * error * 2 * np.linalg.cond(A)


@fused
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (17, 40)])
@pytest.mark.parametrize("sparsity", [0, 0.1, 0.5, 1.0])
def test_sparse(shape, dtype, sparsity):
    state = default_generator.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            # The zeros come from the default generator, in torch too, whatever `generator` is given.
            manual_seed(4)
            torch.manual_seed(4)
            array, expected = drawn_by_both("sparse_", shape, dtype, 3, sparsity, std=0.7)
            np.testing.assert_array_equal(default_generator.get_state(), torch.get_rng_state().numpy())
    finally:
        default_generator.set_state(state)
    np.testing.assert_array_equal(array, expected)
    assert ((array == 0).sum(0) >= sparsity * shape[0]).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_eye_and_dirac(dtype):
    for shape in ((0, 2), (1, 1), (3, 5), (5, 3)):
        array, tensor = np.full(shape, np.nan, dtype), torch.empty(shape, dtype=TORCH[dtype])
        assert init.eye_(array) is array
        assert array.tobytes() == torch.nn.init.eye_(tensor).numpy().tobytes()
    for shape in ((4, 2, 3), (4, 8, 2, 5), (6, 3, 1, 4, 3), (0, 2, 3)):
        for groups in (1, 2):
            array, tensor = np.full(shape, np.nan, dtype), torch.empty(shape, dtype=TORCH[dtype])
            assert init.dirac_(array, groups) is array
            assert array.tobytes() == torch.nn.init.dirac_(tensor, groups).numpy().tobytes()


@pytest.mark.parametrize(
    ("name", "shape", "options", "message"),
    [
        ("eye_", (3,), {}, r"^eye_ expected 2 axes, got shape \(3,\)"),
        ("dirac_", (3, 2), {}, r"^dirac_ expected 3 or 4 or 5 axes, got shape \(3, 2\)"),
        ("dirac_", (3, 2, 1), {"groups": 2}, "expected 3 output channels to be a multiple of groups, got groups=2"),
        ("sparse_", (3, 2, 1), {"sparsity": 0.5}, "^sparse_ expected 2 axes"),
        ("orthogonal_", (3,), {}, "^orthogonal_ expected a weight of at least 2 axes"),
    ],
)
def test_shapes_that_torch_refuses_are_refused(name, shape, options, message):
    with pytest.raises(ValueError, match=message):
        getattr(init, name)(np.empty(shape), **options)
    with pytest.raises(ValueError, match=r"\w"):
        getattr(torch.nn.init, name)(torch.empty(shape), **options)


def test_sparse_refuses_a_fraction_outside():
    with pytest.raises(ValueError, match=r"expected 0 <= sparsity <= 1, got 1.5"):
        init.sparse_(np.empty((3, 3)), 1.5)


def test_every_function_of_torch_is_here():
    theirs = {name for name in vars(torch.nn.init) if name.endswith("_") and name[0].islower()}
    assert set(init.__all__) == theirs | {"calculate_gain"}
    for name in init.__all__:
        ours, others = (list(signature(getattr(of, name)).parameters.values()) for of in (init, torch.nn.init))
        assert [(p.name, p.default) for p in ours] == [(p.name, p.default) for p in others], name


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0, 3)])
def test_constants(shape, dtype):
    for name, args, value in (("zeros_", (), 0.0), ("ones_", (), 1.0), ("constant_", (0.1,), 0.1)):
        array = np.full(shape, np.nan, dtype)
        assert getattr(init, name)(array, *args) is array
        tensor = getattr(torch.nn.init, name)(torch.empty(shape, dtype=TORCH[dtype]), *args)
        assert array.tobytes() == tensor.numpy().tobytes()
        assert (array == dtype(value)).all()


@pytest.mark.parametrize("name", ["uniform_", "kaiming_uniform_", "xavier_uniform_", "trunc_normal_", "orthogonal_"])
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


@pytest.mark.parametrize("name", ["kaiming_uniform_", "xavier_uniform_", "kaiming_normal_", "xavier_normal_"])
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
    for name in ("kaiming_uniform_", "kaiming_normal_"):
        with pytest.warns(UserWarning, match="zero-element") as warned:
            getattr(init, name)(np.empty(shape), generator=g)
        assert [one.filename for one in warned] == [__file__]
    init.xavier_uniform_(np.empty(shape), generator=g)
    np.testing.assert_array_equal(g.get_state(), Generator(0).get_state())
