"""refnet.train.capture.program: what is left out and joined, and that every bit stays the same.

A step is recorded on some numbers and carried out on others, by the program and by NumPy alone. Memory of the program's
own begins full of NaN, so that nothing can be right by being zero.
"""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refnet import _check
from refnet.train.capture import program, replay
from refnet.train.capture.recorder import Recorder, Traced


@pytest.fixture(autouse=True, scope="module")
def dirty_memory():
    with pytest.MonkeyPatch.context() as patch:
        aligned = replay.aligned

        def dirty(size):
            memory = aligned(size)
            memory.fill(255)
            return memory

        patch.setattr(replay, "aligned", dirty)
        yield


def full(seed, *shape, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def apart(*shapes, dtype=np.float64):
    """A function that makes arrays of these shapes, each in memory of its own."""
    return lambda: [np.zeros(shape, dtype) for shape in shapes]


def beside(*shapes):
    """The same, one array beside the other: parameters of a small network; and a gradient for each, apart."""

    def make():
        sizes = [int(np.prod(shape)) for shape in shapes]
        parts = np.split(np.zeros(sum(sizes)), np.cumsum(sizes)[:-1])
        return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)] + apart(*shapes)()

    return make


def fill(arrays, seed):
    for k, array in enumerate(arrays):
        array[...] = full(seed + k, *array.shape) if array.dtype.kind == "f" else (full(seed + k, *array.shape) > 0)


def build(step, arrays):
    recorder = Recorder()
    result = step(*(Traced(array, recorder) for array in arrays))
    return program.build(recorder.operations, arrays, result.a)


def assert_same_bits(step, make, *passes, parameters=0, seed=1):
    """Two replays in a row do what two plain steps do, to the result and to the arrays that are given. Returns the
    program; `passes` are what it goes through, all of them if none is named.
    """
    arrays, twins = make(), make()
    fill(arrays, seed)
    made = build(step, arrays)
    for one in passes:
        getattr(program, one)(made)
    if not passes:
        program.simplify(made, parameters)
    places = replay.layout(made)
    for operation in made.operations:
        assert_reads_before_writing(operation, places)
    call = replay.function(made, places, [], indexed=False)
    fill(arrays, seed + 10)
    fill(twins, seed + 10)
    for _ in range(2):
        expected, actual = np.asarray(step(*twins)), np.asarray(call(None))
        assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype)
        assert actual.tobytes() == expected.tobytes()
        for array, twin in zip(arrays, twins, strict=True):
            assert array.tobytes() == twin.tobytes()
    return made


def assert_reads_before_writing(operation, places):
    """An elementwise operation has its result where an operand is, or where none is. (NumPy would go round it by a
    copy, machine code would not.)
    """
    if operation.function in program.ELEMENTWISE:
        out = places[operation.out]
        for ref in operation.refs:
            operand = places[ref]
            same = (operand.ctypes.data, operand.shape, operand.strides) == (out.ctypes.data, out.shape, out.strides)
            assert same or not np.shares_memory(operand, out)


def names(made):
    return [getattr(operation.function, "__name__", "check") for operation in made.operations]


def minus(X):
    return -X


def begin_updates(X):
    if isinstance(X, Traced):
        X.recorder.updates = True


# Steps in which a rule that is left out shows.


def twice_with_a_write_between(X):
    Y = X * 2
    X[...] = X + 1
    return Y - X * 2


def second_is_written(X):
    Y, Z = X * 2, X * 2
    Z += 1
    return Y / Z


def first_is_written(X):
    Y, Z = X * 2, X * 2
    Y += 1
    return Y / Z


def minus_twice_and_a_write(X):
    Y = -X
    X[...] = X * 3
    return -Y - X


def same_but_for_the_axis(X):
    return X.sum(axis=-1) - X.sum(axis=-2)


def a_copy_that_is_read_elsewhere(X, Y):
    Z = X * 3
    Y[...] = Z
    return Z + X


def a_write_moved_before_a_read(X, Y):
    Z = X - 3
    Y2 = Y * 2
    Y[...] = Z
    return Y2 + X


def a_write_over_what_is_read(X, Y):
    X[...] = X[..., ::-1] * 2
    return Y * X


def turned_on_the_way(X, Y):
    Z = X * 3
    Y[...] = Z.mT
    return X - 1


def to_whole_numbers(X, B):
    Z = X * 3
    B[...] = Z
    return X + 1


def only_writes(X, Y):
    Y[...] = X * X
    return X.sum()


def padded(X):
    return np.pad(X * 2, ((1, 2), (0, 1))) - 1


def a_number_that_is_given(X, rate):
    return X * 2.5 + X * rate + rate


def ones_that_are_given(X, rate):
    return X * rate + 1


def ones_of_another_dtype(B):
    Y = (B | ~B) * np.ones(())
    return Y + Y


def result_is_a_repetition(X):
    return (X * 3, X * 3)[1]


def sgd(P, Q, G, H):
    loss = (P * P).sum() + (Q * Q).sum()
    G, H = G * 2, H * 2
    begin_updates(P)
    P[...] = P - 0.25 * G
    Q[...] = Q - 0.25 * H
    return loss


def one_ascends(P, Q, G, H):
    loss, G, H = G.sum(), G * 2, H * 2
    begin_updates(P)
    P[...] = P - 0.25 * G
    Q[...] = Q + 0.25 * H
    return loss


def other_rates(P, Q, G, H):
    loss, G, H = G.sum(), G * 2, H * 2
    begin_updates(P)
    P[...] = P - 0.25 * G
    Q[...] = Q - 0.5 * H
    return loss


def gradients_from_one_array(P, Q, G, H):
    loss, D = G.sum(), (G - H) * 2
    begin_updates(P)
    P[...] = P - 0.25 * D
    Q[...] = Q - 0.25 * D
    return loss


def parts_of_a_gradient(P, Q, G, H):
    loss, D, E = G.sum(), np.concatenate([G, H, G]) * 2, np.concatenate([H, G]) * 3
    begin_updates(P)
    P[...] = P - 0.25 * D[2:4]
    Q[...] = Q - 0.25 * E[2:]
    return loss


def crossed(P, Q, G, H):
    loss, G, H = G.sum(), G * 2, H * 2
    begin_updates(P)
    P[...] = P + G
    P[...] = P * H
    Q[...] = Q + H
    Q[...] = Q * G
    return loss


def second_before_first(P, Q, G, H):
    loss, G, H = G.sum(), G * 2, H * 2
    begin_updates(P)
    Q[...] = Q - 0.25 * H
    P[...] = P - 0.25 * G
    return loss


def with_a_gap(P, R, Q, G, S, H):
    loss, G, H = G.sum(), G * 2, H * 2
    begin_updates(P)
    P[...] = P - 0.25 * G
    Q[...] = Q - 0.25 * H
    return loss


def loss_after_the_updates(P, Q, G, H):
    G, H = G * 2, H * 2
    begin_updates(P)
    P[...] = P - 0.25 * G
    Q[...] = Q - 0.25 * H
    if isinstance(P, Traced):
        P.recorder.updates = False
    return (P * Q).sum()


def sums_in_the_updates(P, Q, G, H):
    loss, G, H = G.sum(), G * 2, H * 2
    begin_updates(P)
    P[...] = P - G.sum(axis=0)
    Q[...] = Q - H.sum(axis=0)
    return loss


def operand_is_needed_later(X):
    Y = X * 2
    Z = Y + 1
    return Y * Z


def result_outlives_later_work(X, Y):
    Z = X * 2
    Y[...] = (Y + 1) * (Y - 1) * (Y + 2)
    return Z


def spread_out_later(X):
    Y = X[0] * 2
    return Y + X


ONE, SQUARES = apart((3, 3)), apart((3, 3), (3, 3))
PAIR, TRIPLE = beside((2, 2), (2, 2)), beside((2, 2), (2, 2), (2, 2))
OF_ONE = (
    *(twice_with_a_write_between, second_is_written, first_is_written, minus_twice_and_a_write, same_but_for_the_axis),
    *(padded, result_is_a_repetition, operand_is_needed_later, spread_out_later),
)
OF_TWO = (
    *(a_copy_that_is_read_elsewhere, a_write_moved_before_a_read, a_write_over_what_is_read, turned_on_the_way),
    *(only_writes, result_outlives_later_work),
)
OF_PARAMETERS = (
    *(sgd, one_ascends, other_rates, gradients_from_one_array, parts_of_a_gradient, crossed, second_before_first),
    *(loss_after_the_updates, sums_in_the_updates),
)
PITFALLS = {
    **dict.fromkeys(OF_ONE, ONE),
    **dict.fromkeys(OF_TWO, SQUARES),
    **dict.fromkeys(OF_PARAMETERS, PAIR),
    with_a_gap: TRIPLE,
    to_whole_numbers: lambda: [np.zeros((3, 3)), np.zeros((3, 3), np.int64)],
    a_number_that_is_given: lambda: [np.zeros((3, 3)), np.array(2.5)],
    ones_that_are_given: lambda: [np.zeros((3, 3)), np.array(1.0)],
    ones_of_another_dtype: lambda: [np.zeros((3, 3), bool)],
}
PARAMETERS = dict.fromkeys((*OF_PARAMETERS, with_a_gap), 2)


def assert_pitfall_is_avoided(step):
    make = PITFALLS[step]
    if step in (a_number_that_is_given, ones_that_are_given):
        # At the time of the record the given number happens to be that of a constant.
        arrays = make()
        made = build(step, arrays)
        program.simplify(made, 0)
        call = replay.function(made, replay.layout(made), [], indexed=False)
        arrays[0][...], arrays[1][...] = full(1, 3, 3), -0.75
        assert call(None).tobytes() == step(*map(np.copy, arrays)).tobytes()
    else:
        assert_same_bits(step, make, parameters=PARAMETERS.get(step, 0))


@pytest.mark.parametrize("step", PITFALLS, ids=lambda step: step.__name__)
def test_pitfalls(step):
    assert_pitfall_is_avoided(step)


FAULTS = {
    "repetition though an operand was written": (
        *(program, "without_repetitions", "tuple((ref, writes[ref.root]) for ref in refs)", "refs"),
    ),
    "repetition that is written later": (program, "without_repetitions", "or times[out.root] > 1", ""),
    "repetition of what is written later": (
        *(program, "without_repetitions", "times[twin.root] > program.own(twin)", "False"),
    ),
    "repetition with another axis": (program, "without_repetitions", "operation.options, ", ""),
    "repetition that is the result": (program, "without_repetitions", "out.root == program.result.root", "False"),
    "an operand of another layout handed on": (*(program, "without_repetitions", "not out.same_layout(twin) or ", ""),),
    "a given 1 for a constant 1": (program, "_unchanged", "one.root in program.constant", "one.root in program.given"),
    "any constant for 1": (program, "_unchanged", " and program.given[one.root] == 1", ""),
    "a given number for a constant": (program, "build", " and root(array) not in stay | filled", ""),
    "what is given counts as dead": (program, "without_dead", "{program.result.root, *program.given}", "set()"),
    "only the loss counts": (program, "without_dead", "{program.result.root, *program.given}", "{program.result.root}"),
    "margins forgotten": (program, "build", 'if options.pop("pinned", False) and out.root not in stay', "if False"),
    "in place though it is read elsewhere": (
        *(program, "into_place", "readers[ref.root] == times[ref.root] == 1", "times[ref.root] == 1"),
    ),
    "in place though the target is read before": (program, "into_place", "touched.get(out.root, -1) <= place", "True"),
    "in place over what is read": (
        *(program, "into_place", "all(operand.root != out.root or operand == out for operand in kept[place].refs)"),
        "True",
    ),
    "in place though it is turned": (program, "into_place", "kept[place].out == ref", "True"),
    "in place in another dtype": (program, "into_place", "(ref.shape, ref.dtype) == (out.shape, out.dtype)", "True"),
    "unlike operations joined": (program, "_joined", "len(alike) > 1 or ", ""),
    "what does not lie side by side joined": (
        *(program, "_side_by_side", "[ref.offset - refs[0].offset for ref in refs] != starts", "False"),
    ),
    "one gradient for two joined": (
        program,
        "_side_by_side",
        "len(set(roots)) < len(roots) or places.keys() & set(roots) or not all(map(program.whole, refs))",
        "False",
    ),
    "a gradient joined twice": (program, "_side_by_side", "places.keys() & set(roots) or ", ""),
    "parts of a gradient joined": (program, "_side_by_side", " or not all(map(program.whole, refs))", ""),
    "updates moved behind what follows": (
        *(program, "join_parameters", " or program.operations[-len(steps) :] != steps", ""),
    ),
    "gradients not moved": (program, "join_parameters", "program.moved(places)", "pass"),
    "an operand overwritten that is needed": (replay, "_left_by_operand", "last[ref.root] == index", "True"),
    "an operand of another size overwritten": (replay, "_left_by_operand", " and ref.same_layout(out)", ""),
    "room given away too soon": (replay, "layout", "and last[root] == index and", "and last[root] >= index and"),
    "the result overwritten": (replay, "layout", "(program.result.root, *program.first)", "program.first"),
    "room that is too small": (replay, "_left", "size <= room <= 2 * size", "room <= 2 * size"),
    "margins not written": (replay, "layout", "memory[places[root]][: content.nbytes] = bytes_of(content)", "pass"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_falls_into_a_pitfall(fault, seed_fault):
    seed_fault(*FAULTS[fault])
    seen = []
    for step in PITFALLS:
        try:
            assert_pitfall_is_avoided(step)
        except Exception as error:
            seen.append((step, error))
    assert seen


# What each simplification leaves.


@pytest.mark.parametrize(
    ("step", "left"),
    [
        (lambda X, Y: (X + Y) * (X + Y), ["add", "multiply"]),
        (lambda X, Y: (X @ Y) - (X @ Y).mT, ["matmul", "subtract"]),
        (lambda X, Y: X.sum(axis=-1) * X.sum(axis=-1), ["reduce", "multiply"]),
        (lambda X, Y: np.exp(-minus(X)) + np.exp(X) - 1, ["negative", "exp", "add", "subtract"]),
        (lambda X, Y: (X * np.ones(())) + (np.ones(()) * Y), ["add"]),
        (lambda X, Y: (X * np.ones(3)) + Y, ["multiply", "add"]),
        (lambda X, Y: (X * np.full((), 2.0)) + Y, ["multiply", "add"]),
        (lambda X, Y: (X + Y) * (Y + X), ["add", "add", "multiply"]),
        (lambda X, Y: X.mT.copy() + X.mT.copy(), ["copyto", "copyto", "add"]),
        (lambda X, Y: np.where(X > Y, X, Y) + np.where(X > Y, Y, X), ["greater", "where", "where", "add"]),
        (lambda X, Y: np.where(X > Y, X, Y) * np.where(X > Y, X, Y), ["greater", "where", "multiply"]),
    ],
)
def test_repetitions(step, left):
    assert names(assert_same_bits(step, SQUARES, "without_repetitions")) == left


def test_repetitions_of_repetitions():
    def step(X, Y):
        return np.tanh((X + Y) * 2) - np.tanh((X + Y) * 2)

    assert names(assert_same_bits(step, SQUARES, "without_repetitions")) == ["add", "multiply", "tanh", "subtract"]


@pytest.mark.parametrize(
    ("step", "left"),
    [
        (lambda X, Y: (X + Y, X * Y, np.exp(X))[1], ["multiply"]),
        (lambda X, Y: (np.exp(np.exp(X)), X - Y)[1], ["subtract"]),
        (lambda X, Y: (Y.__setitem__(..., X * 2), X + 0)[1], ["multiply", "copyto", "add"]),
        (lambda X, Y: ((X * 2).__setitem__(0, Y[1]), X - 1)[1], ["subtract"]),
        (lambda X, Y: (_check.probabilities("it", x=X * 0 + 0.5), Y - 1)[1], ["multiply", "add", "check", "subtract"]),
    ],
)
def test_dead_ends(step, left):
    assert names(assert_same_bits(step, SQUARES, "without_dead")) == left


def test_a_check_stays_and_raises():
    def step(X):
        _check.probabilities("it", x=X * 2)
        return X + 1

    X = np.full(3, 0.25)
    made = build(step, [X])
    program.simplify(made, 0)
    call = replay.function(made, replay.layout(made), [], indexed=False)
    assert call(None).tolist() == [1.25] * 3
    X[1] = 0.75
    with pytest.raises(ValueError, match=r"it: expected x between 0 and 1, got 1\.5"):
        call(None)


def test_a_check_that_fails_comes_before_what_is_assigned_after_it():
    def step(X, Y):
        Z = X * 2
        _check.probabilities("it", x=X * 0.5)
        Y[...] = Z
        return X + 1

    X, Y = np.full(3, 0.25), np.zeros(3)
    made = build(step, [X, Y])
    program.simplify(made, 0)
    call = replay.function(made, replay.layout(made), [], indexed=False)
    Y[...], X[...] = 0, 4
    with pytest.raises(ValueError, match="expected x between 0 and 1"):
        call(None)
    assert Y.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("step", "left"),
    [
        (lambda X, Y: (Y.__setitem__(..., Y - 2 * X), X.sum())[1], ["multiply", "subtract", "reduce"]),
        (lambda X, Y: (Y.__setitem__((..., 0), X[0] * X[1]), X.sum())[1], ["multiply", "reduce"]),
        (lambda X, Y: (Y.__setitem__(..., X @ X), X.sum())[1], ["matmul", "copyto", "reduce"]),
        (lambda X, Y: (Y.__setitem__(..., X), X.sum())[1], ["copyto", "reduce"]),
        (lambda X, Y: (Y.__setitem__(..., 3), X.sum())[1], ["copyto", "reduce"]),
        (lambda X, Y: (Y.__setitem__(..., X[0] * 2), X.sum())[1], ["multiply", "copyto", "reduce"]),
    ],
)
def test_into_place(step, left):
    assert names(assert_same_bits(step, SQUARES, "into_place")) == left


def test_copies_of_results_are_computed_in_place():
    def step(X, Y):
        Z = (X + Y).copy()
        Z += 1
        return Z * X

    assert names(assert_same_bits(step, SQUARES, "into_place")) == ["add", "add", "multiply"]


def momentum(parameters):
    """Steps of SGD with momentum, as the optimizer writes them, on parameters, their momenta and their gradients."""

    def step(*arrays):
        P, B, G = (arrays[k : k + parameters] for k in range(0, len(arrays), parameters))
        loss = sum((p * p).sum() for p in P)
        grads = [g * p for g, p in zip(G, P, strict=True)]
        begin_updates(P[0])
        for p, b, g in zip(P, B, grads, strict=True):
            g = g + np.float64(0.125) * p
            b[...] = np.float64(0.5) * b + g
            p[...] = p - np.float64(0.25) * b
        return loss

    return step


@pytest.mark.parametrize("shapes", [[(2, 3), (3,)], [(2, 3), (), (1,), (4, 2, 1)], [(), ()]], ids=str)
def test_updates_are_joined(shapes):
    def make():
        held = [beside(*shapes)()[: len(shapes)] for _ in range(2)]
        return [*held[0], *held[1], *apart(*shapes)()]

    step, k = momentum(len(shapes)), len(shapes)
    made = assert_same_bits(step, make, parameters=k)
    updates = [operation for operation in made.operations if operation.updates]
    assert [operation.function for operation in updates] == [
        *(np.multiply, np.add, np.multiply, np.add, np.multiply, np.subtract),
    ]
    total = sum(int(np.prod(shape)) for shape in shapes)
    assert {operation.out.shape for operation in updates} == {(total,)}
    # For one fewer they are not: an array is left over.
    made = assert_same_bits(step, make, parameters=k + 1)
    assert sum(operation.updates for operation in made.operations) == 6 * k


@pytest.mark.parametrize("shapes", [[(0,), (3,)], [(2, 0), (0, 3)], [(2, 2), (3, 0), (3,)]], ids=str)
def test_updates_of_parameters_without_elements(shapes):
    def make():
        held = [beside(*shapes)()[: len(shapes)] for _ in range(2)]
        return [*held[0], *held[1], *apart(*shapes)()]

    assert_same_bits(momentum(len(shapes)), make, parameters=len(shapes))


@pytest.mark.parametrize(
    "step", [one_ascends, other_rates, gradients_from_one_array, parts_of_a_gradient, crossed, second_before_first]
)
def test_updates_that_are_not_alike_are_not_joined(step):
    made, apart = (assert_same_bits(step, PAIR, parameters=parameters) for parameters in (2, 1))
    assert names(made) == names(apart)


def test_updates_of_parameters_apart_are_not_joined():
    make = apart((2, 2), (2, 2), (2, 2), (2, 2))
    assert names(assert_same_bits(sgd, make, parameters=2)) == names(assert_same_bits(sgd, make, parameters=1))
    assert len(names(assert_same_bits(sgd, PAIR, parameters=2))) < len(names(assert_same_bits(sgd, make, parameters=2)))


# Roots and references.


def test_roots():
    """What is given keeps its place, what nobody writes is constant, the rest is the program's own."""
    X, Y, C = full(1, 3, 3), full(2, 3, 3), full(3, 3)
    recorder = Recorder()
    T, S = Traced(X, recorder), Traced(Y, recorder)
    A = T[1:] * C
    S[0] = A[0]
    result = (A + np.float64(2)).sum()
    made = program.build(recorder.operations, [X, Y], result.a)
    multiply, copyto, add, reduce = made.operations
    assert [made.given[ref.root] is array for ref, array in zip(multiply.refs, (X, C), strict=True)] == [True, True]
    assert multiply.refs[0].offset == X.strides[0]
    assert multiply.refs[0].shape == (2, 3)
    assert copyto.out.root not in made.sizes
    assert made.given[copyto.out.root] is Y
    assert made.constant == {multiply.refs[1].root, add.refs[1].root}
    assert made.sizes == {multiply.out.root: 48, add.out.root: 48, reduce.out.root: 8}
    assert made.result == reduce.out
    assert made.whole(multiply.out)
    assert not made.whole(copyto.refs[0])
    assert not made.whole(copyto.out)
    assert made.first == {}


def test_margins_are_first():
    made = build(lambda X: np.pad(X, 1) * 2, [np.ones((2, 2))])
    ((root, content),) = made.first.items()
    assert content.tobytes() == np.pad(np.ones((2, 2)), 1).tobytes()
    assert made.operations[0].out.root == root


def test_equal_constants_are_one():
    made = build(lambda X: (X * np.float64(0.5) + np.float64(0.5)) / np.array(0.25), [np.ones(3)])
    first, second, third = (operation.refs[1] for operation in made.operations)
    assert first == second != third
    made = build(lambda X: X.astype(np.float32) * np.float32(0.5) + np.float64(0.5), [np.ones(3)])
    assert made.operations[1].refs[1] != made.operations[2].refs[1]
    made = build(lambda X: X * np.float64(0.0) + np.float64(-0.0), [np.ones(3)])
    assert made.operations[0].refs[1] != made.operations[1].refs[1]


def test_one_number_out_of_a_constant_array():
    table = np.array([1.0, 3.0])
    assert_same_bits(lambda X: X * table[0, ...] + X * table[..., 1], apart((3,)))


def test_contiguous():
    X = np.zeros((4, 3))
    for view in (
        X,
        X.T,
        X[1:],
        X[:, 1:],
        X[:1, :1],
        X[::2],
        X[1:2],
        X[:0],
        X[0, 0, ...],
        np.broadcast_to(X, (2, 4, 3)),
    ):
        made = build(lambda T, view=view: T * 1.5 + view, [np.zeros(view.shape)])
        assert made.operations[1].refs[1].contiguous == view.flags.c_contiguous


# Random programs.

SIZE = 3
UNARY = {
    "negative": lambda X: -X,
    "tanh": np.tanh,
    "once": lambda X: np.ones(()) * X,
    "twice negative": lambda X: -minus(X),
    "copy": lambda X: X.copy(),
    "half": lambda X: X * 0.5,
}
BINARY = {
    "add": lambda X, Y: X + Y,
    "subtract": lambda X, Y: X - Y,
    "multiply": lambda X, Y: X * Y,
    "matmul": lambda X, Y: X @ Y,
    "where": lambda X, Y: np.where(X > Y, X, Y),
    "masked": lambda X, Y: np.where((X > 0) & (Y < 1), Y, 0),
    "concatenate": lambda X, Y: np.concatenate([X[:1], Y[1:]], axis=0),
}
VIEWS = {
    "turned": lambda X: X.mT,
    "backwards": lambda X: X[::-1],
    "mirrored": lambda X: X[..., ::-1],
    "reshaped": lambda X: X.reshape(-1).reshape(SIZE, SIZE),
    "first row": lambda X: np.broadcast_to(X[0], (SIZE, SIZE)),
    "sum of rows": lambda X: np.broadcast_to(X.sum(axis=0, keepdims=True), (SIZE, SIZE)),
    "padded": lambda X: np.pad(X[1:, :2], ((0, 1), (1, 0))),
}
WRITES = {
    "all": np.s_[...],
    "row": np.s_[1],
    "column": np.s_[..., 0],
    "corner": np.s_[:2, 1:],
}

number = st.integers(0, 11)
instruction = st.one_of(
    st.tuples(st.just("unary"), st.sampled_from(sorted(UNARY)), number, number),
    st.tuples(st.just("binary"), st.sampled_from(sorted(BINARY)), number, number),
    st.tuples(st.just("view"), st.sampled_from(sorted(VIEWS)), number, number),
    st.tuples(st.just("write"), st.sampled_from(sorted(WRITES)), number, number),
    st.tuples(st.just("add to"), st.sampled_from(sorted(WRITES)), number, number),
)


def random_step(instructions):
    """A straight-line step on three square arrays; writes go to arrays that are given or that an operation made."""

    def step(*arrays):
        values, writable = list(arrays), list(arrays)
        for kind, name, i, j in instructions:
            X, Y = values[i % len(values)], values[j % len(values)]
            if kind == "unary":
                values.append(UNARY[name](X))
                writable.append(values[-1])
            elif kind == "binary":
                values.append(BINARY[name](X, Y))
                writable.append(values[-1])
            elif kind == "view":
                values.append(VIEWS[name](X))
            else:
                target, index = writable[i % len(writable)], WRITES[name]
                if kind == "write":
                    target[index] = Y[index]
                else:
                    target[index] += (Y * 1.5)[index]
        return values[-1] * 2

    return step


@settings(max_examples=120, deadline=None, derandomize=True)
@given(st.lists(instruction, min_size=1, max_size=14))
def test_random_programs(instructions):
    with np.errstate(all="ignore"):
        assert_same_bits(random_step(instructions), apart(*[(SIZE, SIZE)] * 3))


@pytest.mark.parametrize("one", ["without_repetitions", "without_dead", "into_place"])
@settings(max_examples=40, deadline=None, derandomize=True)
@given(instructions=st.lists(instruction, min_size=4, max_size=14))
def test_random_programs_by_one_simplification(one, instructions):
    with np.errstate(all="ignore"):
        made = assert_same_bits(random_step(instructions), apart(*[(SIZE, SIZE)] * 3), one)
        plain = build(random_step(instructions), apart(*[(SIZE, SIZE)] * 3)())
    assert len(made.operations) <= len(plain.operations)


moves = st.lists(
    st.sampled_from(["decay", "momentum", "nesterov", "ascend", "clip", "scale"]), min_size=1, max_size=4, unique=True
)


def random_updates(recipes):
    def step(*arrays):
        k = len(recipes)
        P, B, G = arrays[:k], arrays[k : 2 * k], arrays[2 * k :]
        loss = sum((p * p).sum() for p in P)
        grads = [g * p + g for g, p in zip(G, P, strict=True)]
        begin_updates(P[0])
        for p, b, g, recipe in zip(P, B, grads, recipes, strict=True):
            for move in recipe:
                if move == "decay":
                    g = g + np.float64(0.125) * p
                elif move == "ascend":
                    g = -g
                elif move == "clip":
                    g = np.where(g > 1, 1, g)
                elif move == "scale":
                    g = g / (1 + np.abs(g))
                else:
                    b[...] = np.float64(0.5) * b + g
                    g = g + np.float64(0.5) * b if move == "nesterov" else b
            p[...] = p - np.float64(0.25) * g
        return loss

    return step


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    shapes=st.lists(st.sampled_from([(2, 3), (3,), (), (1, 1), (2, 2)]), min_size=2, max_size=4),
    recipe=moves,
    other=moves,
    odd=st.integers(0, 8),
)
def test_random_updates(shapes, recipe, other, odd):
    """Alike for all parameters, or for all but one."""
    recipes = [other if k == odd else recipe for k in range(len(shapes))]

    def make():
        held = [beside(*shapes)()[: len(shapes)] for _ in range(2)]
        return [*held[0], *held[1], *apart(*shapes)()]

    made = assert_same_bits(random_updates(recipes), make, parameters=len(shapes))
    shapes_of = [operation.out.shape for operation in made.operations if operation.updates]
    joined = "clip" not in recipe and (odd >= len(shapes) or other == recipe)
    if joined:
        assert len(set(shapes_of)) == 1
    assert all(first.updates <= second.updates for first, second in pairwise(made.operations))
