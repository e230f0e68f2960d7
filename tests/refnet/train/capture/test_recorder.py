"""refnet.train.capture.recorder: what is noted down, carried out again on other numbers, gives what the lines give."""

import contextlib
import copy
import math

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from refnet import Generator, _check
from refnet.arithmetic import special
from refnet.arithmetic.runs import Runs
from refnet.train.capture.recorder import Recorder, Traced, Uncapturable

pytestmark = pytest.mark.arithmetic

DTYPES = [np.float32, np.float64]


def full(seed, *shape, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def record(step, *arrays):
    """The recorder after `step` on these arrays, and its result."""
    recorder = Recorder()
    return recorder, step(*(Traced(array, recorder) for array in arrays))


def carry_out(operations):
    """Every operation once more, on the arrays it was noted with, one by one as NumPy defines them."""
    for operation in operations:
        function, args, out, options = operation.function, operation.args, operation.out, dict(operation.options)
        if options.pop("check", False):
            function(out)
        elif function is np.copyto:
            np.copyto(out, *args, "unsafe")
        elif function is np.where:
            out[...] = np.where(*args)
        elif function is np.concatenate:
            out[...] = np.concatenate(args, **options)
        elif function is np.einsum:
            out[...] = np.einsum(options["subscripts"], *args)
        elif not isinstance(function, np.ufunc) and function.__name__ == "reduce":
            out[...] = function(*args, **options)
        elif isinstance(function, np.ufunc):
            function(*args, out=out)
        else:
            function(*args, out)


def assert_repeats(step, *arrays, operations=None):
    """The record of `step` on other numbers does on these what `step` does."""
    others = [array if array.dtype.kind in "bi" else array.dtype.type(-0.5) * array + 1 for array in arrays]
    buffers = [np.copy(other, order="K") for other in others]
    recorder, result = record(step, *buffers)
    if operations is not None:
        assert len(recorder.operations) == operations
    for given in (others, arrays):
        for buffer, array in zip(buffers, given, strict=True):
            buffer[...] = array
        carry_out(recorder.operations)
        expected = step(*map(np.copy, given))
        assert (result.shape, result.ndim, result.size) == (np.shape(expected), np.ndim(expected), np.size(expected))
        assert result.dtype == expected.dtype
        assert result.a.tobytes() == np.asarray(expected).tobytes()


def in_place(X, Y):
    Z = X.copy()
    Z += Y
    Z *= 2
    Z[..., 0] = X[..., 1]
    Z[1:, ...] -= 1
    Z[0] = 3
    return Z


# The step, and how many operations it is: views are none.
STEPS = {
    "arithmetic": (lambda X, Y: -((X + Y) * X / (Y - 3) + 2), 6),
    "of numbers on the left": (lambda X, Y: 1 - (2 * X) + 1 / Y, 4),
    "functions": (lambda X, Y: np.exp(X) + np.log(Y * Y) + np.log1p(X * X) + np.tanh(Y) + np.sqrt(X * X), 12),
    "comparisons": (lambda X, Y: np.where((X > Y) & (X >= 0) | ~(Y < 1) | (X == Y) | (X <= -1) | (X != X), X, Y), 13),
    "where with numbers": (lambda X, Y: np.where(X > 0, X, 0) + np.where(Y > 0, 0.25, Y), 5),
    "where with a plain condition": (lambda X, Y: np.where(np.arange(5) > 2, X, Y), 1),
    "matrix products": (lambda X, Y: X @ Y.mT @ (Y @ Y.mT), 3),
    "product with a plain array": (lambda X, Y: X @ np.arange(10.0, dtype=np.float32).reshape(5, 2).astype(X.dtype), 1),
    "product from the left": (lambda X, Y: np.ones((2, 3), X.dtype) @ X, 1),
    "sums": (lambda X, Y: X.sum() + X.sum(axis=-1, keepdims=True) * np.sum(Y, axis=(-2, -1)), 5),
    "sum over nothing": (lambda X, Y: X[:0].sum(axis=-2) + Y, 2),
    "to one number": (lambda X, Y: (X * Y).sum() / X.size, 3),
    "largest": (lambda X, Y: X - X.max(axis=-1, keepdims=True) + Y.max(axis=-2), 4),
    "slices": (lambda X, Y: X[1:, ::2] - Y[:-1, 4:1:-1][..., :3], 1),
    "new axes and whole numbers": (lambda X, Y: X[None, 1] + Y[..., 2, None], 1),
    "one element": (lambda X, Y: X[0, 1] * Y, 1),
    "reshaped": (lambda X, Y: X.reshape(-1) + np.reshape(Y, (15,)), 1),
    "reshaped where memory does not allow it": (lambda X, Y: X.mT.reshape(3, 5) + Y.mT.reshape((15,))[:5], 3),
    "expanded and spread": (lambda X, Y: np.expand_dims(X, -3) * np.broadcast_to(Y, (2, 3, 5)), 1),
    "concatenated": (lambda X, Y: np.concatenate([X, Y[:, 1:], np.zeros((3, 1), X.dtype)], axis=-1), 1),
    "padded": (lambda X, Y: np.pad(X, ((1, 0), (0, 2))) + np.pad(Y, [(0, 1), (1, 1)]), 3),
    "windows": (lambda X, Y: sliding_window_view(X, 3, axis=-1).sum(axis=-1) * Y[:, :3], 2),
    "einsum": (lambda X, Y: np.einsum("ni,nj->ij", X, Y) + np.einsum("ni,ni->", X, Y), 3),
    "copies": (lambda X, Y: np.copy(X) + Y.copy() + X.astype(np.float64).astype(Y.dtype), None),
    "to another dtype": (lambda X, Y: X.astype(np.float32) + Y.astype(np.float32), None),
    "in place": (in_place, 7),
    "into a given array": (lambda X, Y: np.multiply(X, Y, out=X.copy()), 2),
    "sigmoid": (lambda X, Y: special.sigmoid(X) - special.log_sigmoid(Y), None),
    "sigmoids": (lambda X, Y: special.sigmoids(X)[0] * special.sigmoids(Y)[1], None),
    "softmax": (lambda X, Y: np.exp(X - special.shift(X, -1)) + special.shift(Y[:, :0], -1), None),
    "lifted": (lambda X, Y: special.lift(0.1, X) * X + special.lift(np.arange(5), Y), 2),
    "rows": (lambda X, Y: sum(row.sum() for row in X) * Y, None),
    "power": (lambda X, Y: X**2 + abs(Y) ** 0.5, 4),
    "absolute value and the rest": (lambda X, Y: np.rint(abs(X) * 4) + np.sin(Y) + np.minimum(X, Y), None),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", STEPS)
def test_a_record_repeats_the_step(name, dtype):
    step, operations = STEPS[name]
    assert_repeats(step, full(1, 3, 5, dtype=dtype), full(2, 3, 5, dtype=dtype), operations=operations)


@pytest.mark.parametrize("name", STEPS)
def test_on_arrays_in_other_orders(name):
    step, _ = STEPS[name]
    assert_repeats(step, np.asfortranarray(full(1, 3, 5)), full(2, 5, 3).T)
    assert_repeats(step, full(1, 6, 10)[::2, ::-2], full(2, 3, 5)[::-1])


def test_integers_and_booleans():
    on = lambda T: np.where(np.expand_dims(T, -1) == np.arange(4), np.float32(1), np.float32(0))  # noqa: E731
    for dtype in (np.int64, np.int32, np.int8):
        assert_repeats(on, np.array([0, 3, 1], dtype))
        assert_repeats(lambda T: (T != -100).sum() + T, np.array([0, 3, -100], dtype))
    assert_repeats(lambda B: np.where(B | ~B, B, True), np.array([True, False]))


def test_no_axes():
    assert_repeats(lambda X: X * 2 + X.sum() - X[...], np.array(1.5))


def test_an_error_in_carrying_out_would_be_seen():
    with pytest.raises(AssertionError):
        assert_repeats(lambda X: Traced(X.a * 2, X.recorder) if isinstance(X, Traced) else X * 2, full(1, 3))


@pytest.mark.parametrize(
    "view",
    [
        lambda X: X[1:, ::-1],
        lambda X: X[0],
        lambda X: X[0, 1],
        lambda X: X[..., None],
        lambda X: X[...],
        lambda X: X.mT,
        lambda X: X.reshape(5, 3),
        lambda X: np.expand_dims(X, -1),
        lambda X: np.broadcast_to(X, (2, 3, 5)),
        lambda X: sliding_window_view(X, 2, axis=-1),
    ],
)
def test_a_view_is_no_operation(view):
    X = full(1, 3, 5)
    recorder, result = record(view, X)
    assert recorder.operations == []
    assert np.shares_memory(result.a, X)


def test_what_is_read_of_an_array_that_is_no_value():
    recorder, X = Recorder(), full(1, 3, 5, dtype=np.float32)
    T = Traced(X, recorder)
    assert (T.shape, T.ndim, T.size, T.dtype, len(T)) == ((3, 5), 2, 15, np.float32, 3)
    assert (np.shape(T), np.ndim(T)) == ((3, 5), 2)
    assert repr(T) == f"Traced({X!r})"
    assert recorder.operations == []


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (lambda X: bool((X > 0).sum()), "a decision or a Python number is made from the values"),
        (lambda X: X if X.sum() > 0 else -X, "a decision or a Python number"),
        (lambda X: X * float(X.sum()), "a decision or a Python number"),
        (lambda X: X * int(X.sum()), "a decision or a Python number"),
        (lambda X: X * math.exp(X.sum()), "a decision or a Python number"),
        (lambda X: range(X.sum()), "a decision or a Python number"),
        (lambda X: X.sum().item(), "a decision or a Python number"),
        (lambda X: X.tolist(), "a decision or a Python number"),
        (lambda X: np.asarray(X), "a decision or a Python number"),
        (lambda X: np.array([X, X]), "a decision or a Python number"),
        (lambda X: np.zeros(X.shape).__setitem__(..., X), "a decision or a Python number"),
        (lambda X: 0.5 in X, "a decision or a Python number"),
        (lambda X: X[X > 0], "an array is indexed by another"),
        (lambda X: X[[0, 1]], "an array is indexed by another"),
        (lambda X: X[np.arange(2), 0], "an array is indexed by another"),
        (lambda X: X.copy().__setitem__([0, 1], 0), "an array is indexed by another"),
        (lambda X: np.sort(X), r"np\.sort has no rule"),
        (lambda X: np.clip(X, 0, 1), r"np\.clip has no rule"),
        (lambda X: np.mean(X), r"np\.mean has no rule"),
        (lambda X: np.zeros_like(X), r"np\.zeros_like has no rule"),
        (lambda X: np.add.reduce(X), r"np\.add\.reduce with options"),
        (lambda X: np.add.at(X, 0, 1), r"np\.add\.at with options"),
        (lambda X: np.add(X, 1, where=X > 0), r"np\.add\.__call__ with options"),
        (lambda X: np.add(X, 1, dtype=np.float32), r"np\.add\.__call__ with options"),
        (lambda X: divmod(X, 2), r"np\.divmod\.__call__ .* several results"),
    ],
)
def test_what_cannot_be_repeated_is_refused(step, reason):
    with pytest.raises(Uncapturable, match=reason):
        record(step, full(1, 3, 5))


@pytest.mark.parametrize(
    "step",
    [lambda X: X + "a", lambda X: X.T, lambda X: X.any(), lambda X: X.reshape(5, 3, order="F"), lambda X: X + 1j],
)
def test_what_traced_arrays_do_not_have_is_no_silent_copy(step):
    with pytest.raises((TypeError, AttributeError)):
        record(step, full(1, 3, 5))


DEFECTS = {
    "a deep copy": lambda X: copy.deepcopy(X) * 2,
    "a boolean index": lambda X: X[True] * 2,
    "a plain array written to": lambda X: (Y := np.empty(X.shape), np.multiply(X, 2, out=Y), X + Y * 2)[2],
}


@pytest.mark.parametrize("name", DEFECTS)
def test_values_do_not_slip_out_of_the_record(name):
    with contextlib.suppress(Uncapturable):
        assert_repeats(DEFECTS[name], full(1, 3))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_number_is_noted_in_the_dtype_it_takes_part_in(dtype):
    recorder, _ = record(lambda X: (X * 3, X < 2, X / 0.1), full(1, 3, dtype=dtype))
    numbers = [arg for operation in recorder.operations for arg in operation.args if np.ndim(arg) == 0]
    assert [(number.dtype, number) for number in numbers] == [(dtype, 3), (dtype, 2), (dtype, dtype(0.1))]
    recorder, result = record(lambda X: X * np.float64(0.1), full(1, 3, dtype=np.float32))
    assert result.dtype == np.float64
    assert recorder.operations[0].args[1].dtype == np.float64


def test_what_is_assigned_is_copied_by_value():
    def step(X):
        Y = X.copy()
        X[0] = 7
        return Y

    recorder, result = record(step, full(1, 3))
    assert [operation.function for operation in recorder.operations] == [np.copyto] * 2
    assert result.a[0] != 7


def test_the_optimizers_part_is_marked():
    recorder, X = Recorder(), Traced(full(1, 3), Recorder())
    X.recorder = recorder
    X * 2
    recorder.updates = True
    X[...] = X + 1
    assert [operation.updates for operation in recorder.operations] == [False, True, True]


def test_overflow_that_is_ignored_is_noticed():
    recorder, X = record(lambda X: X * 2, full(1, 3))
    assert not recorder.quiet
    with np.errstate(over="ignore"):
        X + 1
    X + 1
    assert recorder.quiet
    assert record(special.sigmoid, full(1, 3))[0].quiet
    assert not record(special.log_sigmoid, full(1, 3))[0].quiet


def test_a_check_of_samples_is_made_once_on_all_of_them():
    whole, batch, recorder = np.array([0, 1, 2, 5]), np.array([0, 1]), Recorder()
    recorder.samples[id(batch)] = whole
    T = Traced(batch, recorder)
    _check.class_indices("loss", T, 6, -100)
    assert recorder.operations == []
    with pytest.raises(ValueError, match="loss: expected class indices from 0 to 2 or -100, got 5"):
        _check.class_indices("loss", T, 3, -100)


def test_a_check_of_computed_values_is_an_operation():
    X = np.array([0.25, 0.5])
    recorder, _ = record(lambda X: _check.probabilities("loss", x=X * 2), X)
    assert len(recorder.operations) == 2
    carry_out(recorder.operations)
    X[1] = 0.75
    with pytest.raises(ValueError, match=r"loss: expected x between 0 and 1, got 1\.5"):
        carry_out(recorder.operations)
    with pytest.raises(ValueError, match=r"loss: expected x between 0 and 1, got 1\.5"):
        record(lambda X: _check.probabilities("loss", x=X * 2), X)


@pytest.mark.parametrize("dtype", DTYPES)
def test_draws_are_made_again(dtype):
    g, twin, other = Generator(1), Generator(1), Generator(2)
    X = full(1, 2, 3, dtype=dtype)
    recorder, result = record(lambda X: special.rand(g, X) + special.rand(other, X) * special.rand(g, X), X)
    assert [generator for generator, _ in recorder.generators] == [g, other]
    other_twin = Generator(2)
    for _ in range(3):
        first, second, third = twin.rand(2, 3), other_twin.rand(2, 3), twin.rand(2, 3)
        assert result.a.tobytes() == (first + second * third).tobytes()
        assert (g.get_state() == twin.get_state()).all()
        carry_out(recorder.operations)


def test_runs_of_recorded_arrays():
    """`Runs` stands outside: what it does to its inner array is noted down."""
    A, W, x = full(1, 4, 3, 5), full(2, 4, 2, 5), full(3, 3, 5)

    def step(A, W):
        A, W = Runs(A), Runs(W)
        Y = (A + x) @ W.mT
        Y = np.where(Y > 0, Y, 0) * special.sigmoid(Y) + special.lift(0.5, Y)
        Y[..., 0] = 1
        return ((Y - special.shift(Y, -1)).sum() * W.sum(axis=-1)).a

    assert_repeats(step, A, W)
    recorder = Recorder()
    T, R = Traced(full(1, 3), recorder), Runs(full(2, 4, 3))
    with pytest.raises(TypeError, match="which runs cannot share"):
        special.rand(Generator(0), Runs(Traced(A, recorder)))
    assert isinstance(R * T, Runs)
    assert isinstance(T + R, Runs)
