"""refnet.train.capture: random networks, modules that draw random numbers, and modules of a user's own; see
test_capture."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twice import (
    CLASSES,
    DTYPES,
    OPTIONS,
    ORDERS,
    T,
    assert_same_bits,
    linear,
    mlp,
    own,
    start,
    train,
)

import refnet
from refnet import Generator, _check, nn, optim
from refnet.arithmetic import special

# Random networks.

ACTIVATIONS = {"Tanh": nn.Tanh, "ReLU": nn.ReLU, "Sigmoid": nn.Sigmoid, "Softmax": lambda: nn.Softmax(-1)}


@pytest.mark.parametrize(("how", "examples"), [("replayed", 40), ("as machine code", 8)])
def test_random_networks(how, examples, do_updates):
    do_updates(how)

    @settings(max_examples=examples, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(
        widths=st.lists(st.integers(1, 6), max_size=3),
        activation=st.sampled_from(sorted(ACTIVATIONS)),
        normed=st.booleans(),
        dtype=st.sampled_from(DTYPES),
        loss=st.sampled_from([nn.MSELoss, nn.CrossEntropyLoss]),
        options=st.sampled_from(OPTIONS[:5]),
        order=st.sampled_from(ORDERS),
        seed=st.integers(0, 100),
    )
    def of(widths, activation, normed, dtype, loss, options, order, seed):
        def layers():
            made, before = [], 4
            for k, width in enumerate(widths):
                made += [linear(before, width, seed + k, dtype), ACTIVATIONS[activation]()]
                made += [nn.BatchNorm1d(width, dtype=dtype)] if normed and order["batch_size"] != 1 else []
                before = width
            return [*made, linear(before, 2, seed + 9, dtype)]

        targets = CLASSES if loss is nn.CrossEntropyLoss else T
        assert_same_bits(
            start(layers, loss, targets=targets, dtype=dtype, **options), **order, iterations=13, record=False
        )

    of()


# Randomness.


def dropped(place, p=0.5, layers=mlp, same=False):
    def make():
        begin = start()()
        g = begin.generator if same else Generator(9)
        made = layers()
        made.insert(place, nn.Dropout(p, generator=g))
        begin.net = nn.Sequential(*made)
        begin.opt, begin.others = optim.SGD(begin.net.params, lr=0.1), (g,)
        return begin

    return make


@pytest.mark.parametrize("p", [0, 1])
def test_dropout_that_draws_what_it_does_not_need(p, way):
    """With p = 1 nothing is drawn; with p = 0 it is, and all is kept."""
    assert_same_bits(dropped(2, p))


@pytest.mark.parametrize("batch_size", [3, 1])
@pytest.mark.parametrize("same", [False, True])
@pytest.mark.parametrize("place", [0, 2])
def test_dropout(place, same, batch_size, do_updates):
    """The generator is left where the plain training leaves it, also if it draws the order as well."""
    do_updates("replayed")
    assert_same_bits(dropped(place, same=same), batch_size=batch_size)


@pytest.mark.parametrize("p", [0.5, 0.01])
@pytest.mark.parametrize("place", [0, 2])
def test_dropout_of_the_whole_set(place, p, do_updates):
    """With p = 0.01 the first masks keep everything, so that the first replay is right by chance."""
    do_updates("replayed")
    assert_same_bits(dropped(place, p), batch_size=None, iterations=60)


def test_slopes_that_are_drawn_where_values_ask_for_it():
    """RReLU draws as many numbers as there are elements not above 0: its training is plain. Evaluated, it is not."""

    def begin(training):
        rrelu = lambda: nn.RReLU(generator=Generator(9)).train(training)  # noqa: E731
        return start(lambda: [linear(4, 5, 1), rrelu(), linear(5, 2, 2)])

    assert_same_bits(begin(True), "how many numbers are drawn depends on values", iterations=120, record=False)
    assert_same_bits(begin(False), iterations=120, record=False)


def test_two_layers_of_dropout_on_one_generator(way):
    def layers():
        g = Generator(9)
        layers.g = g
        return [linear(4, 5, 1), nn.Dropout(0.3, generator=g), nn.Tanh(), nn.Dropout(0.5, generator=g), linear(5, 2, 2)]

    def make():
        begin = start(layers)()
        begin.others = (layers.g,)
        return begin

    assert_same_bits(make)


def test_dropout_from_the_default_generator(way):
    state = refnet.generator.default_generator.get_state()

    def make():
        begin = start(lambda: [linear(4, 5, 1), nn.Dropout(), linear(5, 2, 2)])()
        begin.others = (refnet.manual_seed(3),)
        return begin

    try:
        assert_same_bits(make)
    finally:
        refnet.generator.default_generator.set_state(state)


# Modules of a user's own.


def in_place(_, X):
    Y = X.copy()
    Y += 1
    Y *= X
    Y[..., 0] = 0
    Y[..., 1:3] += X[..., 2:4]
    return Y


CAPTURED = {
    "in place": in_place,
    "views": lambda _, X: X[..., ::-1] * X.mT.mT + X[0],
    "power": lambda _, X: X**2 / (1 + abs(X)),
    "functions without a name in refnet": lambda _, X: np.sin(X) + np.rint(4 * X) % 3,
    "conditions": lambda _, X: np.where((X > 0) & (X < 1) | ~(X > -1), X, -X),
    "whole numbers": lambda _, X: X * (3 * X).astype(np.int64),
    "another dtype": lambda _, X: X.astype(np.float32).astype(np.float64),
    "einsum": lambda _, X: X * np.einsum("ni,ni->n", X, X)[:, None],
    "rows": lambda _, X: sum(row.sum() for row in X) + X,
    "padded": lambda _, X: np.pad(X, ((1, 0), (0, 2)))[1:, :5],
    "once and minus twice": lambda _, X: np.ones(()) * X - (-(-1.0 * X)),
    "decisions by shape": lambda _, X: X * 2 if len(X) > 2 else X / X.shape[-1],
    "looked at by a check": lambda _, X: (_check.probabilities("it", x=X * 0 + 0.5), X)[1],
}


@pytest.mark.parametrize("name", CAPTURED)
def test_a_users_module_is_captured(name, way):
    assert_same_bits(own(CAPTURED[name]))


def test_a_users_backward_is_captured(way):
    def back(dY, saved):
        X, G = saved
        G = G + dY
        G[..., 0] *= 2
        return np.where(X > 0, G, dY * X)

    assert_same_bits(own(lambda _, X: (X * X, (X, X * 2)), back))


PLAIN = {
    "if any": (lambda _, X: X * 2 if (X > 0).any() else X, "no attribute 'any'"),
    "if sum": (lambda _, X: X * 2 if X.sum() > 0 else X, "a decision or a Python number"),
    "float": (lambda _, X: X * float(X.sum()), "a decision or a Python number"),
    "asarray": (lambda _, X: np.asarray(X) * 2, "a decision or a Python number"),
    "an array filled": (
        lambda _, X: (Y := np.zeros(X.shape), Y.__setitem__(..., X))[0],
        "a decision or a Python number",
    ),
    "clip": (lambda _, X: np.clip(X, -1, 1), "np.clip has no rule for recorded arrays"),
    "sort": (lambda _, X: np.sort(X), "np.sort has no rule for recorded arrays"),
    "fancy index": (lambda _, X: X[:, [0, 1, 2, 3, 4]], "an array is indexed by another"),
    "mask": (lambda _, X: X * X[X > 0].sum(), "an array is indexed by another"),
    "transpose": (lambda _, X: X.T.T, "no attribute 'T'"),
    "reduce": (lambda _, X: X * np.add.reduce(X), "np.add.reduce with options"),
    "where of numbers": (lambda _, X: np.where(X, X * 2, 0), "a replay failed: TypeError: Cannot cast array data"),
    "a mode of padding": (lambda _, X: np.pad(X, 1, mode="edge")[1:-1, 1:-1], "unexpected keyword argument 'mode'"),
}


@pytest.mark.parametrize("name", PLAIN)
def test_a_users_module_is_plain_and_the_history_says_why(name, way):
    line, reason = PLAIN[name]
    history = assert_same_bits(own(line), plain=reason)
    assert history.why_not_native == "no update was captured" or reason.startswith("a replay failed")


def test_a_users_module_that_decides_only_now_and_then(way):
    """What is captured for one size of batch and not for another is plain from then on."""
    make = own(lambda _, X: X * float(X.sum()) if len(X) == 2 else X)
    reason = "a decision or a Python number is made from the values of an array"
    assert_same_bits(make, batch_size=3, plain=reason)


def test_a_users_draws(way):
    g = []

    def make():
        begin = own(lambda _, X: X * special.rand(g[0], X))()
        g[:] = begin.others = (Generator(7),)
        return begin

    assert_same_bits(make)


def test_a_result_in_an_array_that_is_not_recorded(way):
    """Read there, it would be a constant."""
    reason = "a result goes into an array that is not recorded"
    assert_same_bits(own(lambda _, X: np.multiply(X, 2, out=np.empty(X.shape))), plain=reason)


def test_one_number_out_of_a_table(way):
    table = np.array([1.0, 2.0])
    assert_same_bits(own(lambda _, X: X * table[..., 1]))


def test_concatenated_flat(do_updates):
    do_updates("as machine code")
    assert_same_bits(own(lambda _, X: np.concatenate([X, X], axis=None)[: X.size].reshape(*X.shape)))


class Adam:
    """State in arrays, as `opt.state` wants it; or the number of steps as a Python number, which a record repeats."""

    capturable = True

    def __init__(self, params, counted):
        self.param_groups, self.state, self.steps = [{"params": dict(params), "lr": 0.01}], {}, 0
        self.counted = counted

    def step(self, grads):
        if not self.counted:
            self.steps += 1
        for name, P in self.param_groups[0]["params"].items():
            if name not in self.state:
                self.state[name] = {"m": P * 0, "v": P * 0, "t": np.zeros(())}
            state, G = self.state[name], grads[name]
            state["t"][...] = state["t"] + 1
            t = state["t"] if self.counted else self.steps
            state["m"][...] = 0.9 * state["m"] + 0.1 * G
            state["v"][...] = 0.99 * state["v"] + 0.01 * G * G
            M, V = state["m"] / (1 - 0.9**t), state["v"] / (1 - 0.99**t)
            P[...] = P - self.param_groups[0]["lr"] * M / (np.sqrt(V) + 1e-8)


def adam(counted):
    def make():
        begin = start()()
        begin.opt = Adam(begin.net.params, counted)
        return begin

    return make


def test_an_optimizer_of_a_users_own(way):
    assert_same_bits(adam(counted=True))


def test_an_optimizer_that_counts(way):
    expected, _ = train(adam(counted=False), capture=False)
    actual, history = train(adam(counted=False))
    assert actual == expected
    assert history.why_plain == "the optimizer has attributes that change with its steps"
