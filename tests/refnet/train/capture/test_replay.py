"""refnet.train.capture.replay: where a program's arrays lie, and the function that carries it out.

That a layout keeps every bit is shown in test_program, with faults seeded into it; here is what it does.
"""

import tracemalloc

import numpy as np
import pytest

from refnet import Generator
from refnet.arithmetic import special
from refnet.train.capture import program, replay
from refnet.train.capture.recorder import Recorder, Traced, Uncapturable

pytestmark = pytest.mark.arithmetic


def full(seed, *shape, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def build(step, *arrays):
    recorder = Recorder()
    result = step(*(Traced(array, recorder) for array in arrays))
    return program.build(recorder.operations, arrays, result.a)


def replayed(step, *arrays):
    made = build(step, *arrays)
    return replay.function(made, replay.layout(made), [], indexed=False)


def rooms(made):
    """The pieces of memory that the program's own arrays lie in: address and bytes."""
    places = replay.layout(made)
    return {places[ref].ctypes.data: made.sizes[ref.root] for ref in places if made.own(ref) and ref.offset == 0}


# Layout.


def test_a_chain_lies_in_one_place():
    made = build(lambda X: np.tanh(np.exp(X * 2) - 1) + 3, full(1, 4, 4))
    assert len(made.sizes) == 5
    assert len(rooms(made)) == 1


def test_what_is_needed_later_keeps_its_place():
    """Y and Z are there together, and T with both."""

    def step(X):
        Y, Z = X * 2, X * 3
        T = Y + Z
        return T * Y * Z

    assert len(rooms(build(step, full(1, 4, 4)))) == 3


def test_only_elementwise_results_take_an_operands_place():
    X = full(1, 4, 4)
    assert len(rooms(build(lambda X: (X * 2) @ X, X))) == 2
    assert len(rooms(build(lambda X: np.where(X > 0, X * 2, 0), X))) == 3
    assert len(rooms(build(lambda X: (X * 2).mT + 1, X))) == 2
    assert len(rooms(build(lambda X: (X * 2)[1:] + 1, X))) == 2


def test_a_place_that_was_left_is_taken_by_what_fits():
    def step(X):
        return ((X * 2) @ X) @ X @ X

    assert len(rooms(build(step, full(1, 4, 4)))) == 2
    # One number has a place of its own: one that is more than twice as large would be a waste.
    assert sorted(rooms(build(lambda X: ((X @ X) @ X).sum(), full(1, 4, 4))).values()) == [8, 128, 128]


def test_places_are_aligned():
    made = build(lambda X: (X * 2) @ (X + 1) @ X, full(1, 3, 3))
    assert all(address % replay.ALIGNMENT == 0 for address in rooms(made))


def test_what_is_given_stays_where_it_is():
    X, B = full(1, 3, 3), full(2, 6, 6)[::2, ::-2]
    made = build(lambda X, B: (B.__setitem__(..., X[1:2] * B), X.sum())[1], X, B)
    places = replay.layout(made)

    def place(array):
        return array.ctypes.data, array.shape, array.strides

    assert {place(array) for ref, array in places.items() if not made.own(ref)} == set(map(place, (X, X[1:2], B)))


@pytest.mark.parametrize(
    "array",
    [
        np.asfortranarray(full(1, 3, 4)),
        full(1, 6, 8)[::2, ::2],
        full(1, 3, 4)[::-1, ::-1],
        full(1, 4, 3).T[1:],
        np.broadcast_to(full(1, 4), (3, 4)),
        full(1, 3, 4)[:, :0],
        np.array(2.5),
        full(1, 5)[2, ...],
        np.zeros(3, [("x", np.float64), ("n", np.int8)])["x"] + 0,
        np.frombuffer(full(1, 3, 4).tobytes()),
    ],
    ids=lambda array: f"{array.shape} {array.strides}",
)
def test_given_arrays_in_any_order(array):
    twin = array.copy()
    array.flags.writeable = False
    call = replayed(lambda X: (X * 2 + X) * 3, array)
    assert np.asarray(call(None)).tobytes() == ((twin * 2 + twin) * 3).tobytes()


def test_an_array_in_pieces_is_refused():
    memory = np.ndarray((3, 4), np.float64, bytearray(6 * 8 * 8), strides=(2 * 8 * 8, 2 * 8))
    made = build(lambda X: X * 2, memory)
    with pytest.raises(Uncapturable, match="an array does not lie in one piece"):
        replay.layout(made)


# The function.


def test_samples_are_taken_by_indices_and_by_slices():
    whole, buffer = full(1, 7, 3), np.zeros((2, 3))
    made = build(lambda X: X * 2, buffer)
    batches = [np.array([6, 0]), np.array([3, 3])], [slice(0, 2), slice(5, 7)]
    for indexed, courses in zip((True, False), batches, strict=True):
        call = replay.function(made, replay.layout(made), [(whole, buffer)], indexed=indexed)
        for batch in courses:
            assert call(batch).tolist() == (whole[batch] * 2).tolist()


@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.float32])
def test_samples_of_any_dtype_and_order(dtype):
    whole = np.asfortranarray(np.arange(21).reshape(7, 3).astype(dtype))
    whole.flags.writeable = False
    buffer = whole[[0, 1]]
    made = build(lambda X: X + X, buffer)
    call = replay.function(made, replay.layout(made), [(whole, buffer)], indexed=True)
    assert call(np.array([6, 2])).tolist() == (whole[[6, 2]] * 2).tolist()


@pytest.mark.parametrize("whole", [np.zeros((40, 20_000)).T, np.zeros((20_000, 80))[:, ::2]], ids=["turned", "columns"])
def test_taking_samples_costs_no_copy_of_the_whole_set(whole):
    buffer = whole[:4].copy()
    made = build(lambda X: X * 2, buffer)
    call = replay.function(made, replay.layout(made), [(whole, buffer)], indexed=True)
    batch = np.arange(4)
    call(batch)
    tracemalloc.start()
    call(batch)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < whole.nbytes / 100


STEPS = {
    "ufuncs": lambda X, Y: np.exp(-(X + Y) / 3) * (X > Y),
    "products": lambda X, Y: X @ Y.mT + X.mT @ Y,
    "where": lambda X, Y: np.where(X > 0, np.where(Y > 0, X, 1), Y[0]),
    "where of dtypes": lambda X, Y: np.where(X > 0, X.astype(np.float32), Y),
    "copies": lambda X, Y: (X.astype(np.float32) * np.float32(3)).astype(np.float64) - Y.mT.reshape(-1).reshape(3, 3),
    "concatenate": lambda X, Y: np.concatenate([X, Y[:1], np.ones((1, 3))], axis=-2),
    "concatenate flat": lambda X, Y: np.concatenate([X, Y], axis=None),
    "einsum": lambda X, Y: np.einsum("ij, jk -> ki", X, Y) * 2,
    "sums": lambda X, Y: X.sum(axis=-1, keepdims=True) + Y.sum(axis=(-2, -1)) + X.sum(),
    "largest": lambda X, Y: X.max(axis=-2) * Y.max(),
    "pad": lambda X, Y: np.pad(X, ((1, 0), (0, 2)))[:3, :3] * Y,
    "assignments": lambda X, Y: (Z := X * 2, Z.__setitem__(0, Y[1]), Z.__setitem__((..., 1), 5), Z * 3)[-1],
    "other functions": lambda X, Y: np.rint(X * 9) + np.sin(Y) ** 2,
}


@pytest.mark.parametrize("name", STEPS)
def test_every_operation_is_carried_out(name):
    """On other numbers than at the record; twice, since nothing may be left over."""
    step, X, Y = STEPS[name], full(1, 3, 3), full(2, 3, 3)
    call = replayed(step, X, Y)
    X[...], Y[...] = full(3, 3, 3), full(4, 3, 3)
    expected = step(X.copy(), Y.copy())
    for _ in range(2):
        actual = call(None)
        assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype)
        assert actual.tobytes() == expected.tobytes()


@pytest.mark.parametrize("step", [special.log_sigmoid, lambda X: np.maximum(X, 0) * 2], ids=["log_sigmoid", "maximum"])
def test_nothing_deprecated_is_called(step):
    X = full(1, 3)
    assert replayed(step, X)(None).tobytes() == step(X).tobytes()


def test_draws_go_on():
    g, X = Generator(1), full(1, 2, 3)
    call = replayed(lambda X: special.rand(g, X) * 2, X)
    twin = Generator(1)
    twin.rand(2, 3)
    for _ in range(3):
        assert call(None).tolist() == (twin.rand(2, 3) * 2).tolist()


def test_the_result_is_a_number_of_its_own():
    X = np.array([1.0, 2.0])
    call = replayed(lambda X: X.sum(), X)
    first = call(None)
    X[...] = 5
    assert (first, call(None)) == (3.0, 10.0)
    assert type(first) is np.float64


def test_warnings_are_numpys():
    X = np.array([1.0, 2.0])
    call = replayed(lambda X: np.exp(X) * 2, X)
    X[1] = 1000
    with pytest.warns(RuntimeWarning, match="overflow encountered in exp"):
        call(None)
    with np.errstate(over="raise"), pytest.raises(FloatingPointError, match="overflow encountered in exp"):
        call(None)


def test_many_operations():
    """More names than a function had room for in older Pythons."""
    X = full(1, 3)

    def step(X):
        for k in range(400):
            X = np.tanh(X + k / 7)
        return X

    assert replayed(step, X)(None).tobytes() == step(X).tobytes()
