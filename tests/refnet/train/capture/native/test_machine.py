"""refnet.train.capture.native.machine: NumPy's own loops, called without NumPy, give the bits that NumPy gives."""

import numpy as np
import pytest

from refnet.arithmetic.special import FORMULAS
from refnet.train.capture import native, replay
from refnet.train.capture.native import lowering, translator
from refnet.train.capture.program import ELEMENTWISE, build
from refnet.train.capture.recorder import Recorder, Traced

pytest.importorskip("llvmlite")

DRAWS = np.random.default_rng(0)
SHAPES = [
    (),
    (1,),
    (7,),
    (3, 5),
    (5, 1),
    (1, 6),
    (4, 3, 5),
    (2, 1, 3),
    (33, 17),
    (20_000,),
    (3, 9_000),
    (9_000, 3),
    (0, 3),
]


def full(*shape, dtype=np.float64):
    return (DRAWS.standard_normal(shape) * 4.0 ** DRAWS.integers(-4, 4, shape)).astype(dtype)


def assert_same_bits(step, *arrays):
    """`step`, recorded on some numbers and translated, does on others what it does plainly."""
    recorder = Recorder()
    buffers = [np.copy(array, order="K") for array in arrays]
    with np.errstate(all="ignore"):
        result = step(*(Traced(buffer, recorder) for buffer in buffers)).copy()
        program = build(recorder.operations, buffers, result.a)
        machine = native.Machine(program, replay.layout(program), [], [])
        for scale in (0.5, -3.0):
            for buffer, array in zip(buffers, arrays, strict=True):
                buffer[...] = array if array.dtype.kind in "biu" else array * array.dtype.type(scale)
            expected = np.asarray(step(*buffers))
            first, second = machine.run(2)
            assert first.dtype == expected.dtype
            assert first.shape == expected.shape
            assert first.tobytes() == second.tobytes() == expected.tobytes()


OF_NUMBERS = sorted(ELEMENTWISE - {np.bitwise_and, np.bitwise_or, np.invert}, key=lambda ufunc: ufunc.__name__)


@pytest.mark.arithmetic
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("ufunc", OF_NUMBERS, ids=lambda ufunc: ufunc.__name__)
def test_elementwise(ufunc, dtype):
    for shape in SHAPES:
        assert_same_bits(ufunc, *(full(*shape, dtype=dtype) for _ in range(ufunc.nin)))


@pytest.mark.arithmetic
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_quotient_by_a_constant(dtype):
    """By a power of two it is a product; where the inverse is none, or has lost digits, it stays a quotient."""
    info = np.finfo(dtype)
    exponents = [1, -1, 5, 60, -60, info.maxexp - 1, info.maxexp - 2, info.minexp, info.minexp - info.nmant]
    powers = [sign * 2.0**k for k in exponents for sign in (1, -1)]
    with np.errstate(all="ignore"):
        X = np.concatenate(
            [full(300, dtype=dtype), info.tiny * full(300, dtype=dtype), info.max / full(90, dtype=dtype)]
        )
        X[:5] = 0, -0.0, np.inf, -np.inf, info.smallest_subnormal
        for c in np.array([3, -10, 0, np.inf, *powers], dtype):
            assert_same_bits(lambda X, c=c: X / c, X)


@pytest.mark.parametrize(("c", "quotients"), [(8.0, 0), (3.0, 1)])
def test_a_quotient_by_a_power_of_two_is_a_product(c, quotients, monkeypatch):
    texts, true = [], lowering.llvm_loops.kernel
    monkeypatch.setattr(lowering.llvm_loops, "kernel", lambda *a, **k: texts.append(true(*a, **k)) or texts[-1])
    assert_same_bits(lambda X: X / np.float64(c), full(5))
    assert sum(kernel.text.count("fdiv") for kernel in texts) == quotients


def test_of_booleans():
    for ufunc in (np.bitwise_and, np.logical_or):
        assert_same_bits(lambda X, Y, u=ufunc: np.where(u(X > 0, Y > 0), X, Y), full(4, 5), full(4, 5))
    assert_same_bits(lambda X: np.where(np.invert(X > 0), X, 0), full(40))


def test_operands_are_spread_and_turned():
    for step in (lambda X, Y: X + Y, lambda X, Y: Y * X, lambda X, Y: X.mT - Y.mT):
        assert_same_bits(step, full(6, 4, 5), full(4, 5))
        assert_same_bits(step, full(6, 4, 5), full(4, 1))
        assert_same_bits(step, full(6, 4, 5), full(6, 1, 5))
    assert_same_bits(lambda X, Y: X.mT + Y, full(4, 3), full(3, 4))
    assert_same_bits(lambda X, Y: X[..., ::-2, :] * Y[..., 1:3, :], full(4, 3), full(3, 3))


@pytest.mark.arithmetic
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [shape for shape in SHAPES if 0 not in shape], ids=str)
def test_reductions(shape, dtype):
    """The order of the additions shows in the last bits: with numbers of many sizes, another order gives others."""
    sets = [None, *range(-len(shape), 0), *((a, b) for a in range(-len(shape), 0) for b in range(a + 1, 0))]
    for axis in sets:
        for keepdims in (False, True):
            assert_same_bits(lambda X, a=axis, k=keepdims: X.sum(axis=a, keepdims=k), full(*shape, dtype=dtype))
            assert_same_bits(
                lambda X, a=axis, k=keepdims: X.max(axis=a, keepdims=k), np.asarray(full(*shape, dtype=dtype))
            ) if axis is not None else None


@pytest.mark.arithmetic
@pytest.mark.parametrize("size", [*range(2, 40), 127, 128, 129, 1_000, 4_096, 8_192, 8_193, 30_011])
def test_long_sums(size):
    for columns in (1, 3):
        assert_same_bits(lambda X: X.sum(axis=-1), full(columns, size))
        assert_same_bits(lambda X: X.sum(axis=-2), full(size, columns))
        assert_same_bits(lambda X: X.sum(), full(columns, size))


def test_sums_and_products_of_integers():
    T = np.arange(-7, 8).reshape(3, 5)
    for axis in (None, -1, -2):
        assert_same_bits(lambda T, a=axis: T.sum(axis=a), T)
    assert_same_bits(lambda T: T @ T[:2].mT, T)


def test_sum_of_negative_zeros():
    for shape, axis in (((1,), -1), ((5,), -1), ((1, 3), -2), ((2, 3), -2)):
        assert_same_bits(lambda X, a=axis: X.sum(axis=a), np.full(shape, -0.0))


@pytest.mark.arithmetic
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_matrix_products(dtype):
    for n, k, m in [(1, 2, 2), (1, 1, 1), (2, 1, 3), (1, 7, 1), (5, 3, 4), (32, 64, 10), (64, 100, 33), (3, 200, 1)]:
        assert_same_bits(lambda X, W: X @ W.mT, full(n, k, dtype=dtype), full(m, k, dtype=dtype))
        assert_same_bits(lambda X, W: X @ W, full(n, k, dtype=dtype), full(k, m, dtype=dtype))
        assert_same_bits(lambda D, X: D.mT @ X, full(k, n, dtype=dtype), full(k, m, dtype=dtype))
        for runs in (1, 6):
            assert_same_bits(lambda X, W: X @ W.mT, full(runs, n, k, dtype=dtype), full(runs, m, k, dtype=dtype))
            assert_same_bits(lambda X, W: X @ W.mT, full(n, k, dtype=dtype), full(runs, m, k, dtype=dtype))
    assert_same_bits(lambda X: X.mT @ X, full(9, 5, dtype=dtype))


@pytest.mark.arithmetic
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_outer_products(dtype):
    for m, n in ((64, 64), (1, 5_000), (5_000, 1), (77, 130)):
        A, B = full(m, 1, dtype=dtype), full(1, n, dtype=dtype)
        A[:: m // 2 + 1], B[:, ::3] = -0.0, -0.0
        A[-1], B[:, -1] = np.finfo(dtype).tiny, -np.finfo(dtype).smallest_subnormal
        assert_same_bits(lambda A, B: A @ B + 1, A, B)
        assert_same_bits(lambda A, B: A @ B, A, B)


def test_casts():
    values = np.array([0.1, -0.0, 1e-45, 1e38, np.inf, np.nan, 2.0**-150, 1 + 2.0**-24, 1 + 3 * 2.0**-24])
    for X in (values, full(40), full(5000)):
        assert_same_bits(lambda X: np.where((Y := X.astype(np.float32)) == Y, Y, np.float32(7)), X)
        assert_same_bits(lambda X: np.where((Y := X.astype(np.float64)) == Y, Y, 7), X.astype(np.float32))
        assert_same_bits(lambda X: X + X.astype(np.float32).astype(np.float64), full(*X.shape))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_moves(dtype):
    assert_same_bits(lambda X: X.mT.copy(), full(7, 5, dtype=dtype))
    assert_same_bits(lambda X: X.mT.reshape(-1), full(3, 7, 5, dtype=dtype))
    assert_same_bits(
        lambda X, Y: np.concatenate((X, Y[..., ::-1], X), axis=-1), full(4, 2, dtype=dtype), full(4, 5, dtype=dtype)
    )
    assert_same_bits(lambda X: np.pad(X, ((1, 2), (0, 3))) * X.dtype.type(3), full(4, 2, dtype=dtype))
    assert_same_bits(lambda X, Y: np.where(X > Y, X, Y), full(6, 7, dtype=dtype), full(7, dtype=dtype))
    assert_same_bits(lambda X: np.where(X > 0, X, 0), full(6, 7, dtype=dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("repeats", [1, 3, 200])
def test_pairs_of_special_values(dtype, repeats):
    """Zeros of both signs, infinities and NaN: in loops that are vectorized, and their last elements."""
    values = np.array([0.0, -0.0, np.inf, -np.inf, 2.0, np.nan], dtype)
    X, Y = (np.tile(side.ravel(), repeats) for side in np.meshgrid(values, values))

    def step(ufunc):
        # (of NaNs only that they are NaN: not their sign)
        return lambda X, Y: np.where((Z := ufunc(X, Y)) == Z, Z, 7)

    for ufunc in (np.minimum, np.maximum, np.add, np.subtract, np.multiply, np.divide):
        assert_same_bits(step(ufunc), X, Y)
    for ufunc in (np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal):
        assert_same_bits(lambda X, Y, u=ufunc: np.where(u(X, Y), X.dtype.type(1), X.dtype.type(2)), X, Y)
    assert_same_bits(lambda X, Y: np.where((np.absolute(X) == X) | (X != X), 1 / np.absolute(X), -X), X, Y)


def test_integers_are_compared():
    for dtype in ("i1", "u1", "i2", "u2", "i4", "u4", "i8"):
        ends = np.iinfo(dtype)
        T = np.array([3, 1, 0, 2, ends.max, ends.min]).astype(dtype)
        for ufunc in (np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal):
            assert_same_bits(lambda T, X, u=ufunc: np.where(u(T, np.arange(6)), X, 0), T, full(6))
            assert_same_bits(lambda T, X, u=ufunc: np.where(u(T[1:], T[:-1]), X[1:], 0), T, full(6))


def test_long_operations_take_turns():
    """Blocks of one operation after blocks of another, and not where one needs what the other has not yet written."""
    X, Y = full(5 * lowering.BLOCK + 3), full(5 * lowering.BLOCK + 3)
    assert_same_bits(lambda X, Y: X * Y + X / Y - X, X, Y)
    assert_same_bits(lambda X: np.subtract(*FORMULAS["sigmoids"](X)), X)

    def shifted(X, Y):
        Z = X * Y
        return (Z[..., ::-1] + Z)[..., 1:] * Z[..., :-1] + Z[..., 3:4]

    assert_same_bits(shifted, X, Y)

    def in_place(X, Y):
        Z = X + Y
        Z[..., 1:] = Z[..., :-1] * Y[..., 1:]
        return Z - X

    assert_same_bits(in_place, X, Y)
    assert_same_bits(lambda X, Y: np.where(X > Y, X, Y) * X, X.astype(np.float32), Y.astype(np.float32))


@pytest.mark.parametrize("seed", range(30))
def test_random_operations_on_blocks(seed, monkeypatch):
    """What is needed in one block, by another loop of the block, by a later loop, and after all of them; in memory that
    several arrays take in turn."""
    monkeypatch.setattr(lowering, "BLOCK", 4)
    monkeypatch.setattr(lowering, "LONG", 8)
    draws = np.random.default_rng(seed)
    recipe = [(draws.integers(8), *draws.random(3)) for _ in range(draws.integers(3, 25))]

    def step(*given):
        arrays = list(given)
        for what, *which in recipe:
            a, b, c = (arrays[int(choice * len(arrays))] for choice in which)
            match int(what):
                case 0:
                    arrays.append(np.exp(a * 0.1))
                case 1:
                    arrays.append(np.where(a > b, b, c))
                case 2:
                    arrays[-1] = a - b
                case 3:
                    arrays.append(a * b.sum(axis=-1, keepdims=True))
                case 4 if len(arrays) > 2:
                    arrays[-1][..., 1:] = b[..., :-1] + c[..., 1:]
                case _:
                    arrays.append(a * b + c)
        return sum(arrays[2:], arrays[0] * arrays[1])

    assert_same_bits(step, full(11), full(11))


def test_what_one_block_needs_is_never_in_memory_whole(monkeypatch):
    monkeypatch.setattr(lowering, "BLOCK", 4)
    monkeypatch.setattr(lowering, "LONG", 8)
    recorder, X = Recorder(), DRAWS.standard_normal(11)

    def parts(X):
        """First what the last line reads in another order, then what the lines before it alone need."""
        S = X * X
        E = np.exp(S)
        Y = E + 1
        over, T = Y > 2, X * 3
        Z = np.where(over, Y, T)
        return Y, Z, S, E, over, T

    Y, Z, *_ = parts(Traced(X, recorder))
    result = (Y[..., :-1] * Z[..., 1:]).sum(axis=-1)
    program = build(recorder.operations, [X], result.a)
    arrays = replay.layout(program)
    machine = native.Machine(program, arrays, [], [])
    outs = {operation.out for operation in program.operations}
    replay.function(program, arrays, [], indexed=False)(slice(None))
    there, here = machine.inside
    expected = [array.tobytes() for array in there]
    for out in outs:
        arrays[out][...] = 0
    machine.run(1)
    assert [array.tobytes() for array in here] == expected
    read_later, passing = ({part.tobytes() for part in some} for some in (parts(X)[:2], parts(X)[2:]))
    assert read_later <= set(expected)
    assert not passing & {arrays[out].tobytes() for out in outs}


OF_SEVERAL = {
    "sigmoids": lambda X: np.subtract(*FORMULAS["sigmoids"](X)),
    "amax_weights": lambda X: FORMULAS["amax_weights"](X, -1),
    "largest": lambda X: np.where(FORMULAS["largest"](X, -1), X, 0.0),
    "total": lambda X: FORMULAS["total"](X, -1),
    "one_minus_power": lambda X: FORMULAS["one_minus_power"](0.5, X),
}
"""Special functions of more than one argument or result, as functions of one array."""


@pytest.mark.arithmetic
def test_special_functions():
    for name, formula in FORMULAS.items():
        assert_same_bits(OF_SEVERAL.get(name, formula), full(50) * 300)


def test_samples_rates_and_losses():
    """A batch is gathered for each update, a rate set, and a loss kept."""
    recorder, whole, buffer, rate = Recorder(), full(9, 3), np.zeros((2, 3)), np.zeros(())
    result = (Traced(buffer, recorder) * Traced(rate, recorder)).sum()
    program = build(recorder.operations, [buffer, rate], result.a)
    machine = native.Machine(program, replay.layout(program), [(whole, buffer)], [rate])
    batches = [np.array(pair) for pair in ((0, 8), (3, 3), (7, 1))]
    rates = np.array([[1.0], [-2.0], [0.25]])
    expected = [(whole[batch] * r).sum() for batch, (r,) in zip(batches, rates, strict=True)]
    assert machine.run(3, np.array(batches), rates).tolist() == expected
    assert machine.run(1, np.array([[2, 3]])).tolist() == [(whole[2:4] * 0.25).sum()]
    for indices in (np.arange(3), None):
        with pytest.raises(ValueError, match="batches of 2 samples"):
            machine.run(1, indices)


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (lambda X: np.einsum("ij->j", X), "einsum"),
        (lambda X: X.astype(np.int64) + 1, "a copy from float64 to int64"),
        (lambda X: (X.mT + 0).sum(axis=-1), "do not lie in their order"),
        (lambda X: X.mT + X.mT, "a loss that does not lie in order"),
        (lambda X: X @ X[0], "a matrix product of vectors"),
    ],
)
def test_what_cannot_be_translated_is_refused(step, reason):
    recorder, X = Recorder(), full(3, 3)
    result = step(Traced(X, recorder))
    program = build(recorder.operations, [X], result.a)
    with pytest.raises(native.NotNative, match=reason):
        native.Machine(program, replay.layout(program), [], [])


def test_an_operand_is_not_written_over_while_it_is_read():
    """A copy onto itself is not translated; a sum with itself turned round does not take its operand's place."""
    assert_same_bits(lambda X: (X * X) + (X * X)[..., ::-1], full(50))

    def reversed_sum(X):
        Y = X * X
        return Y + Y[..., ::-1]

    assert_same_bits(reversed_sum, full(50))
    for index in (np.s_[..., 1:], np.s_[..., 1:, :]):

        def onto_itself(X, index=index):
            Y = X * X
            Y[index] = Y[tuple(slice(None, -1) if isinstance(part, slice) and part.start else part for part in index)]
            return Y

        with pytest.raises(native.NotNative, match="writes over its operand"):
            assert_same_bits(onto_itself, full(4, 4))


def test_without_the_translator(monkeypatch):
    caches = (translator._processor, translator.functions)
    for known in caches:
        known.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "llvmlite", None)
    recorder, X = Recorder(), full(3)
    result = Traced(X, recorder).sum()
    program = build(recorder.operations, [X], result.a)
    with pytest.raises(native.NotNative, match="llvmlite is not installed"):
        native.Machine(program, replay.layout(program), [], [])
    for known in caches:
        known.cache_clear()


def test_what_only_the_same_loop_reads_is_not_stored(monkeypatch):
    texts = []
    true = translator.translated
    monkeypatch.setattr(translator, "translated", lambda found, *args: true(texts.append(found) or found, *args))
    A, B = full(70), full(70)

    def stores(step):
        texts.clear()
        assert_same_bits(step, A, B)
        return [text.count("store double") for text in texts[0] if "define" in text]

    assert stores(lambda X, Y: (X * Y + X) / Y) == [1]
    # A product that a loop of NumPy's reads, and one that is read before and behind it.
    assert stores(lambda X, Y: np.exp(X * Y) + X) == [1, 1]
    assert stores(lambda X, Y: np.exp((Z := X * Y) + X) - Z) == [2, 1]
    # One that a sum reads, whose 0 is written in the same loop: the sum itself comes after it.
    for shape in ((1, 9), (9, 1)):
        assert_same_bits(lambda X, Y: (X * Y).sum(axis=-1) * 2, full(*shape), full(*shape))
        assert_same_bits(lambda X, Y: (X * Y).sum(axis=0) * 2, full(*shape), full(*shape))
        assert_same_bits(lambda X, Y: np.concatenate([X * Y, X - Y]), full(*shape), full(*shape))
    # One that is read in another order, and so from memory.
    assert stores(lambda X, Y: (X * Y)[::-1] + X)[:2] == [1, 1]


def test_what_is_left_in_between_is_the_same_in_both():
    recorder = Recorder()
    buffers = [DRAWS.random(9), DRAWS.random(9)]
    X, Y = (Traced(buffer, recorder) for buffer in buffers)
    result = np.exp(X * Y + X) * Y
    program = build(recorder.operations, buffers, result.a)
    machine = native.Machine(program, arrays := replay.layout(program), [], [])
    machine.run(1)
    there, here = machine.inside
    assert [array.shape for array in there] == [array.shape for array in here] != []
    # (X Y is in no memory; what exp has been taken of left its place)
    assert all(any(array is known for known in arrays.values()) for array in here)
    assert len(here) < len({operation.out.root for operation in program.operations})
