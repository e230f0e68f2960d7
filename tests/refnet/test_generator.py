"""refnet.Generator against torch.Generator: the same bits, and the same state afterwards."""

import copy
import itertools
import pickle

import numpy as np
import pytest
import torch

from refnet import generator as module
from refnet.generator import RANDPERM_LIMIT, Generator, default_generator, manual_seed, resolve

pytestmark = pytest.mark.arithmetic

SEEDS = (0, 1, 5, 2**31, 2**32 + 5, 2**40, 2**64 - 1, -1, -(2**63))
SIZES = (0, 1, 3, 7, 8, 15, 16, 17, 1000)
DTYPES = (np.float32, np.float64)
TORCH = {np.float32: torch.float32, np.float64: torch.float64}

fused = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"),
    reason="refnet.generator's claim is for torch on AVX2 and AVX512, where uniform_ is fused",
)


def bits(array):
    return np.asarray(array).view({4: np.int32, 8: np.int64}[array.dtype.itemsize])


def assert_same_bits(actual, expected):
    expected = expected.numpy()
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
    np.testing.assert_array_equal(bits(actual), bits(expected))


def assert_same_state(ours, theirs):
    np.testing.assert_array_equal(ours.get_state(), theirs.get_state().numpy())


def pair(seed):
    return Generator(seed), torch.Generator().manual_seed(seed)


@pytest.fixture
def restored_defaults():
    state = default_generator.get_state()
    with torch.random.fork_rng(devices=[]):
        yield
    default_generator.set_state(state)


# Words and seeds


def test_words_are_the_mersenne_twister_of_the_cpp_standard():
    # ISO C++ [rand.predef]: the 10000th value of a default mt19937, whose seed is 5489, is 4123659995.
    words = Generator(5489).random_raw(10_000)
    assert words.dtype == np.uint64
    assert words[-1] == 4123659995


@pytest.mark.parametrize("seed", SEEDS)
def test_a_seed_gives_torchs_state(seed):
    ours, theirs = pair(seed)
    assert ours.initial_seed() == theirs.initial_seed()
    assert_same_state(ours, theirs)


def test_without_a_seed_it_is_a_torch_generator_without_a_seed():
    assert Generator().initial_seed() == torch.Generator().initial_seed()
    assert_same_state(Generator(), torch.Generator())


def test_only_the_low_32_bits_of_a_seed_are_drawn_from():
    np.testing.assert_array_equal(Generator(5).random_raw(700), Generator(2**32 + 5).random_raw(700))
    assert (Generator(5).random_raw(700) != Generator(6).random_raw(700)).any()


def test_manual_seed_returns_the_generator_and_starts_again():
    g = Generator(3)
    first = g.random_raw(5)
    assert g.manual_seed(3) is g
    np.testing.assert_array_equal(g.random_raw(5), first)
    assert Generator(0).manual_seed(np.int64(7)).initial_seed() == 7


@pytest.mark.parametrize("seed", [2**64, -(2**63) - 1])
def test_a_seed_out_of_range_is_refused_as_torch_refuses_it(seed):
    with pytest.raises(ValueError, match="Overflow"):
        torch.Generator().manual_seed(seed)
    with pytest.raises(ValueError, match=rf"expected a seed from .*, got {seed}"):
        Generator(seed)


@pytest.mark.parametrize("seed", [1.0, True, "1"])
def test_a_seed_that_is_no_integer_is_refused(seed):
    with pytest.raises(TypeError, match="manual_seed expected an integer, got"):
        Generator().manual_seed(seed)


def test_random_raw_refuses_a_negative_count():
    with pytest.raises(ValueError, match="expected n >= 0, got -1"):
        Generator(0).random_raw(-1)


# States


@pytest.mark.parametrize("words", [0, 1, 623, 624, 625, 1248])
def test_a_state_goes_over_to_torch_and_back(words):
    ours, theirs = pair(2**40 + 9)
    ours.random_raw(words)
    theirs.set_state(torch.from_numpy(ours.get_state()))
    assert_same_state(ours, theirs)
    twin = Generator(1)
    twin.set_state(theirs.get_state().numpy())
    assert_same_state(twin, theirs)
    expected = torch.rand(700, generator=theirs)
    assert_same_bits(ours.rand(700, dtype=np.float32), expected)

    again = Generator(1)
    again.set_state(theirs.get_state().numpy())
    assert_same_state(again, theirs)
    assert again.initial_seed() == 2**40 + 9


@fused
def test_a_normal_that_torch_holds_in_reserve_goes_over_and_back_and_goes_with_a_new_seed():
    ours, theirs = pair(0)
    torch.randn(1, dtype=torch.float64, generator=theirs)
    ours.set_state(theirs.get_state().numpy())
    assert_same_state(ours, theirs)
    twin = ours.clone()
    expected = torch.randn(2, dtype=torch.float64, generator=theirs)
    assert_same_bits(ours.randn(2), expected)
    assert_same_bits(twin.randn(2), expected)
    assert_same_state(ours, theirs)
    theirs.set_state(torch.from_numpy(ours.get_state()))
    assert_same_bits(ours.randn(1), torch.randn(1, dtype=torch.float64, generator=theirs))
    assert_same_state(ours.manual_seed(4), theirs.manual_seed(4))


def with_field(offset, dtype, value):
    state = Generator(0).get_state()
    state[offset : offset + np.dtype(dtype).itemsize].view(dtype)[...] = value
    return state


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (np.zeros(5055, np.uint8), r"expected an array uint8 \(5056,\), got uint8 \(5055,\)"),
        (np.zeros(5056, np.int8), r"got int8 \(5056,\)"),
        (b"", "got bytes"),
        (np.zeros(5056, np.uint8), "seeded=0"),
        (with_field(8, np.int32, 0), "left=0"),
        (with_field(8, np.int32, 7), "left=7, next=0"),
        (with_field(16, np.uint64, 625), "left=1, next=625"),
        (with_field(24, np.uint64, 2**32), f"largest word {2**32}"),
    ],
)
def test_what_is_no_state_is_refused_and_changes_nothing(state, message):
    g = Generator(3)
    before = g.get_state()
    with pytest.raises(ValueError, match=message):
        g.set_state(state)
    np.testing.assert_array_equal(g.get_state(), before)


@pytest.mark.parametrize("copied", [Generator.clone, copy.deepcopy, lambda g: pickle.loads(pickle.dumps(g))])
def test_a_copy_draws_the_same_and_for_itself(copied):
    g = Generator(3)
    g.random_raw(10)
    twin = copied(g)
    drawn = twin.random_raw(1000)
    np.testing.assert_array_equal(g.random_raw(1000), drawn)
    assert_same_state(g, torch.Generator().set_state(torch.from_numpy(twin.get_state())))


# Uniform draws


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", SEEDS)
def test_rand_is_torchs(seed, dtype):
    ours, theirs = pair(seed)
    for size in SIZES:
        assert_same_bits(ours.rand(size, dtype=dtype), torch.rand(size, dtype=TORCH[dtype], generator=theirs))
        assert_same_state(ours, theirs)


@pytest.mark.parametrize("draw", [Generator.rand, Generator.randn])
def test_a_shape_is_taken_as_torch_takes_it(draw):
    assert draw(Generator(0)).shape == getattr(torch, draw.__name__)(()).shape == ()
    for size in ((2, 3), ((2, 3),)):
        assert draw(Generator(0), *size).shape == getattr(torch, draw.__name__)(*size).shape == (2, 3)
    assert draw(Generator(0), 2).dtype == np.float64


@fused
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", SEEDS)
def test_uniform_is_torchs(seed, dtype):
    ours, theirs = pair(seed)
    for size, bound in itertools.product(SIZES, (7**-0.5, 0.1, 3.0)):
        array = np.empty(size, dtype)
        assert ours.uniform_(array, -bound, bound) is array
        assert_same_bits(array, torch.empty(size, dtype=TORCH[dtype]).uniform_(-bound, bound, generator=theirs))
        assert_same_state(ours, theirs)


ENDS = {
    np.float32: (0.0, -0.0, 1.0, -1 / 7, 3.0, 1e-20, -1e-20, 1e-45, -1e-45, 1.5e-38, 3e38, 1 + 2.0**-23, 16777215.0),
    np.float64: (
        *(0.0, -0.0, 1.0, -1 / 7, 3.0, 1e-20, -1e-20, 1 + 2.0**-52, 2.0**53 - 1),
        *(5e-324, -5e-324, 1e-310, 1e-300, 2.0**-960, 2.0**-961, 2.0**960, -(2.0**961), 1e300, 1.7e308),
    ),
}


@fused
@pytest.mark.parametrize("dtype", DTYPES)
def test_uniform_is_torchs_for_narrow_wide_subnormal_and_huge_intervals(dtype):
    for low, high in itertools.combinations_with_replacement(sorted(ENDS[dtype]), 2):
        ours, theirs = pair(7)
        actual = ours.uniform_(np.empty(200, dtype), low, high)
        assert_same_bits(actual, torch.empty(200, dtype=TORCH[dtype]).uniform_(low, high, generator=theirs))


@fused
@pytest.mark.parametrize("dtype", DTYPES)
def test_an_interval_may_be_as_wide_as_the_largest_number(dtype):
    largest = float(np.finfo(dtype).max)
    for low, high in ((0.0, largest), (-largest, 0.0), (-largest / 2, largest / 2)):
        ours, theirs = pair(7)
        actual = ours.uniform_(np.empty(20, dtype), low, high)
        assert_same_bits(actual, torch.empty(20, dtype=TORCH[dtype]).uniform_(low, high, generator=theirs))


@fused
@pytest.mark.parametrize("dtype", DTYPES)
def test_an_unfused_product_would_be_noticed(dtype):
    low, high = dtype(-(7**-0.5)), dtype(7**-0.5)
    unfused = Generator(0).rand(1000, dtype=dtype) * (high - low) + low
    expected = torch.empty(1000, dtype=TORCH[dtype]).uniform_(float(low), float(high), generator=pair(0)[1])
    assert (unfused != expected.numpy()).mean() > 0.1


@fused
def test_rounding_a_float32_draw_twice_would_be_noticed():
    low = float(np.float32(-1e-20))
    twice = (Generator(0).rand(1000, dtype=np.float32).astype(np.float64) * 3.0 + low).astype(np.float32)
    expected = torch.empty(1000).uniform_(low, 3.0, generator=pair(0)[1])
    assert (twice != expected.numpy()).mean() > 0.1
    assert_same_bits(Generator(0).uniform_(np.empty(1000, np.float32), low, 3.0), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_upper_end_is_never_drawn(dtype):
    # Between neighbours every draw rounds to one of the two, half of them to the upper.
    lower = dtype(1) - np.finfo(dtype).epsneg
    assert (Generator(0).uniform_(np.empty(100, dtype), lower, 1.0) == lower).all()


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("step", [1, 2])
def test_an_array_is_filled_in_the_order_of_its_memory_as_in_torch(axes, step):
    ours, theirs = pair(0)
    array, tensor = np.zeros((4, 5, 6)), torch.zeros(4, 5, 6, dtype=torch.float64)
    ours.uniform_(array.transpose(axes)[::step, :, 1::step])
    tensor.permute(axes)[::step, :, 1::step].uniform_(generator=theirs)
    assert_same_bits(array, tensor)
    assert_same_state(ours, theirs)


@pytest.mark.parametrize(
    ("low", "high", "dtype", "message"),
    [
        (1.0, 0.0, np.float64, "from_=1.0, to=0.0"),
        (float("nan"), 1.0, np.float64, "from_=nan"),
        (0.0, float("inf"), np.float64, "to=inf"),
        (0.0, 1e39, np.float32, "finite in float32"),
        (-3e38, 3e38, np.float32, "to - from_ to be finite in float32"),
        (-1.7e308, 1.7e308, np.float64, "to - from_ to be finite in float64"),
    ],
)
def test_an_interval_that_torch_refuses_is_refused(low, high, dtype, message):
    with pytest.raises(RuntimeError):
        torch.empty(2, dtype=TORCH[dtype]).uniform_(low, high)
    g = Generator(0)
    with pytest.raises(ValueError, match=message):
        g.uniform_(np.empty(2, dtype), low, high)
    assert_same_state(g, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("dtype", [np.float16, np.int64, ">f8"])
def test_other_dtypes_are_refused(dtype):
    with pytest.raises(TypeError, match="uniform_ expected dtype float32 or float64, got"):
        Generator(0).uniform_(np.empty(2, dtype))
    with pytest.raises(TypeError, match="rand expected dtype float32 or float64, got"):
        Generator(0).rand(2, dtype=dtype)


# Normal and exponential draws


@fused
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", SEEDS)
def test_randn_is_torchs(seed, dtype):
    # Sizes below 16 go one pair after the other, and an odd one leaves a normal to the next; blocks of 16 above.
    ours, theirs = pair(seed)
    # An empty array leaves the normal that is kept for the next one.
    for size in (*SIZES, 2, 1, 0, 31, 32, 33, 47, 1):
        assert_same_bits(ours.randn(size, dtype=dtype), torch.randn(size, dtype=TORCH[dtype], generator=theirs))
        assert_same_state(ours, theirs)


@fused
@pytest.mark.parametrize("dtype", DTYPES)
def test_normal_is_torchs(dtype):
    ours, theirs = pair(3)
    for size, (mean, std) in itertools.product((*SIZES, 20_000), ((0.3, 1.7), (-5, 1e-3), (1e30, 1e30), (2.0, 0.0))):
        array = np.empty(size, dtype)
        assert ours.normal_(array, mean, std) is array
        assert_same_bits(array, torch.empty(size, dtype=TORCH[dtype]).normal_(mean, std, generator=theirs))
        assert_same_state(ours, theirs)


@fused
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_ends_of_the_uniform_draws_give_torchs_normals(dtype):
    # Words that no seed would give soon: u = 0, the largest u, and v at quarters and eighths of a turn.
    words = np.array([0, 1, 2**21, 2**22, 2**23, 3 * 2**22, 2**24 - 1, 2**24 - 2, 5 * 2**21, 7 * 2**21, 2**32 - 1])
    untwisted = np.random.default_rng(0).choice(words, 624)
    state = Generator(1)
    state.random_raw(1)
    bytes_ = state.get_state()
    bytes_[24 : 24 + 8 * 624].view(np.uint64)[...] = [_before_tempering(int(word)) for word in untwisted]
    ours, theirs = Generator(0), torch.Generator()
    ours.set_state(bytes_)
    theirs.set_state(torch.from_numpy(bytes_))
    for size in (200, 5, 100):
        assert_same_bits(ours.randn(size, dtype=dtype), torch.randn(size, dtype=TORCH[dtype], generator=theirs))


def _before_tempering(word: int) -> int:
    """The word of the state from which the twister makes this word (Matsumoto & Nishimura 1998, section 2.1)."""
    word ^= word >> 18
    word ^= (word << 15) & 0xEFC60000
    y = word
    for _ in range(4):
        y = word ^ ((y << 7) & 0x9D2C5680)
    word = y & 0xFFFFFFFF
    y = word
    for _ in range(2):
        y = word ^ (y >> 11)
    return y


@fused
@pytest.mark.parametrize("dtype", DTYPES)
def test_normals_and_others_fill_an_array_in_the_order_of_its_memory(dtype):
    # ... and normals of an array that is not contiguous come one pair after the other.
    for fill in ("normal_", "exponential_", "bernoulli_"):
        ours, theirs = pair(2)
        array, tensor = np.zeros((5, 7), dtype), torch.zeros(5, 7, dtype=TORCH[dtype])
        getattr(ours, fill)(array.T)
        getattr(tensor.T, fill)(generator=theirs)
        getattr(ours, fill)(array[:, 1::2])
        getattr(tensor[:, 1::2], fill)(generator=theirs)
        assert_same_bits(array, tensor)
        assert_same_state(ours, theirs)


@pytest.mark.parametrize("std", [-1.0, float("nan")])
def test_normal_refuses_a_negative_deviation(std):
    with pytest.raises(ValueError, match="normal_ expected std >= 0, got"):
        Generator(0).normal_(np.empty(3), 0.0, std)
    with pytest.raises(RuntimeError):
        torch.empty(3).normal_(0.0, std)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lambd", [1.0, 0.7, 30.0])
def test_exponential_is_torchs(lambd, dtype):
    ours, theirs = pair(5)
    for size in SIZES:
        array = ours.exponential_(np.empty(size, dtype), lambd)
        assert_same_bits(array, torch.empty(size, dtype=TORCH[dtype]).exponential_(lambd, generator=theirs))
        assert_same_state(ours, theirs)


@pytest.mark.parametrize("lambd", [0.0, -1.0])
def test_exponential_refuses_a_rate_that_is_not_positive(lambd):
    with pytest.raises(ValueError, match="exponential_ expected lambd > 0, got"):
        Generator(0).exponential_(np.empty(3), lambd)
    with pytest.raises(RuntimeError):
        torch.empty(3).exponential_(lambd)


# Draws of integers


@pytest.mark.parametrize("p", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("dtype", DTYPES)
def test_bernoulli_is_torchs(dtype, p):
    ours, theirs = pair(6)
    for size in SIZES:
        array = ours.bernoulli_(np.empty(size, dtype), p)
        assert_same_bits(array, torch.empty(size, dtype=TORCH[dtype]).bernoulli_(p, generator=theirs))
        each = Generator(9).rand(size, dtype=dtype)
        assert_same_bits(ours.bernoulli(each), torch.bernoulli(torch.from_numpy(each), generator=theirs))
        assert_same_state(ours, theirs)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_probability_of_0_or_1_is_certain(dtype):
    p = np.array([0, 1] * 9, dtype)
    assert_same_bits(Generator(6).bernoulli(p), torch.bernoulli(torch.from_numpy(p), generator=pair(6)[1]))
    np.testing.assert_array_equal(Generator(6).bernoulli(p), p)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_draw_that_is_p_gives_0_as_in_torch(dtype):
    drawn = Generator(6).rand(5, dtype=dtype)
    p = torch.from_numpy(drawn)
    assert_same_bits(Generator(6).bernoulli(drawn), torch.bernoulli(p, generator=pair(6)[1]))
    assert not Generator(6).bernoulli(drawn).any()
    first = float(Generator(6).rand(1)[0])
    ours = Generator(6).bernoulli_(np.empty(5, dtype), first)
    assert_same_bits(ours, torch.empty(5, dtype=TORCH[dtype]).bernoulli_(first, generator=pair(6)[1]))
    assert ours[0] == 0


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 10), (-5, 7), (0, 2**28 - 1), (0, 2**28), (-(2**40), 2**33)])
def test_randint_is_torchs(low, high):
    ours, theirs = pair(2**40)
    for size in ((), (7,), (3, 5), (0, 2)):
        assert_same_bits(ours.randint(low, high, size), torch.randint(low, high, size, generator=theirs))
        assert_same_state(ours, theirs)
    ends = (-(2**63), 2**63 - 1)
    assert_same_bits(ours.randint(*ends, 9), torch.randint(*ends, (9,), generator=theirs))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", SEEDS)
def test_multinomial_is_torchs(seed, dtype):
    ours, theirs = pair(seed)
    for k in (1, 2, 7, 100):
        weights = Generator(9).rand(3, k, dtype=dtype) * 5
        weights[1, 1:] = 0  # one that is sure, as the only one
        for shaped in (weights, weights[0], weights[1], weights[:, ::-1].copy()):
            for samples, replacement in ((1, True), (1, False), (2, True), (40, True)):
                drawn = ours.multinomial(shaped, samples, replacement)
                assert_same_bits(
                    drawn, torch.multinomial(torch.from_numpy(shaped), samples, replacement, generator=theirs)
                )
                assert_same_state(ours, theirs)
        for samples in {1, (k + 1) // 2, k}:
            row = weights[2]
            assert_same_bits(
                ours.multinomial(row, samples),
                torch.multinomial(torch.from_numpy(row), samples, generator=theirs),
            )
            assert_same_state(ours, theirs)


@pytest.mark.parametrize(
    ("weights", "samples", "replacement", "message"),
    [
        ([0.5, -0.5], 1, True, "finite weights of at least 0"),
        ([0.5, np.nan], 1, False, "finite weights of at least 0"),
        ([0.5, np.inf], 1, False, "finite weights of at least 0"),
        ([0.0, 0.0], 1, True, "a sum above 0"),
        ([[0.5, 0.5], [0.0, 0.0]], 1, True, "a sum above 0"),
        ([0.5, 0.5], 0, True, "num_samples from 1, got 0"),
        ([0.5, 0.5], 3, False, "num_samples from 1 to 2, got 3"),
        ([[[0.5]]], 1, False, r"\(k,\) or \(n, k\), k > 0, got shape \(1, 1, 1\)"),
    ],
)
def test_multinomial_refuses_what_torch_refuses(weights, samples, replacement, message):
    g = Generator(0)
    with pytest.raises(RuntimeError):
        torch.multinomial(torch.tensor(weights), samples, replacement)
    with pytest.raises(ValueError, match=message):
        g.multinomial(np.array(weights), samples, replacement)
    assert_same_state(g, torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda g: g.bernoulli_(np.empty(2), 1.5), "bernoulli_ expected 0 <= p <= 1, got 1.5"),
        (lambda g: g.bernoulli_(np.empty(2), -0.5), "bernoulli_ expected 0 <= p <= 1, got -0.5"),
        *(
            (lambda g, p=p: g.bernoulli(np.array([0.5, p])), "bernoulli_ expected 0 <= p <= 1, got a p outside")
            for p in (np.nan, -0.5, 1.5)
        ),
        (lambda g: g.bernoulli_(np.empty(2), np.empty(3)), r"expected p of shape \(2,\), got \(3,\)"),
        (lambda g: g.randint(3, 3, (2,)), "randint expected .*, got low=3, high=3"),
        (lambda g: g.randint(0, 2**63, (2,)), "randint expected"),
        (lambda g: g.randint(-(2**63) - 1, 0, (2,)), "randint expected"),
    ],
)
def test_other_bad_arguments_are_refused_and_draw_nothing(draw, message):
    g = Generator(0)
    with pytest.raises(ValueError, match=message):
        draw(g)
    assert_same_state(g, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["normal_", "exponential_"])
def test_other_dtypes_have_no_normals(name):
    with pytest.raises(TypeError, match=f"{name} expected dtype float32 or float64, got int64"):
        getattr(Generator(0), name)(np.empty(2, np.int64))


# Permutations


@pytest.mark.parametrize("seed", SEEDS)
def test_randperm_is_torchs(seed):
    ours, theirs = pair(seed)
    for n in (0, 1, 2, 3, 10, 625, 1000):
        assert_same_bits(ours.randperm(n), torch.randperm(n, generator=theirs))
        assert_same_state(ours, theirs)


@pytest.mark.parametrize("n", [-1, RANDPERM_LIMIT, 2**40])
def test_randperm_refuses_lengths_that_torch_permutes_in_another_way(n):
    with pytest.raises(ValueError, match=f"randperm expected 0 <= n < 214748364 .* got {n}"):
        Generator(0).randperm(n)


# The default generator


@pytest.mark.usefixtures("restored_defaults")
def test_manual_seed_seeds_the_default_generator_as_torchs():
    torch.manual_seed(2**32 + 5)
    assert manual_seed(2**32 + 5) is default_generator is module.default_generator
    assert_same_bits(default_generator.rand(20, dtype=np.float32), torch.rand(20))
    assert_same_state(default_generator, torch.default_generator)


def test_resolve_gives_the_default_for_none_and_refuses_strangers():
    g = Generator(0)
    assert resolve(g) is g
    assert resolve(None) is default_generator
    with pytest.raises(TypeError, match=r"expected a refnet.Generator or None, .*got torch.*Generator"):
        resolve(torch.Generator())
