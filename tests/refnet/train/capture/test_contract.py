"""refnet.train.capture.contract: what is known is captured, what is not runs plainly and says so, and either way every
number is that of the plain training.

Every test here trains in a way that once gave other numbers, or an error, without a warning.
"""

import numpy as np
import pytest
from twice import CLASSES, LAYERS, Own, Start, T, X, assert_same_bits, declared, full, linear, start, train

import refnet
from refnet import Generator, nn, optim
from refnet.train.capture import comparison
from refnet.train.capture.contract import check_promise, is_capturable
from refnet.train.capture.native import llvm_loops, lowering
from refnet.train.capture.native.summation import Summation


def starts(change):
    """`start()`, changed."""

    def make():
        begin = start(momentum=0.9)()
        change(begin)
        return begin

    return make


# Arrays as they come.


@pytest.mark.parametrize("weight", [np.broadcast_to(1.0, 2), np.frombuffer(np.array([1.0, 2.0]).tobytes())])
def test_read_only_weights_of_a_loss(weight, way):
    make = start(loss=lambda: nn.CrossEntropyLoss(weight), targets=CLASSES, momentum=0.9)
    assert_same_bits(make)


def test_a_frozen_read_only_parameter(way):
    def make():
        begin = start(groups=lambda params: {name: P for name, P in params.items() if name != "0.weight"})()
        begin.net.params["0.weight"].flags.writeable = False
        return begin

    assert_same_bits(make)


def test_targets_of_foreign_byte_order(way):
    make = start(loss=nn.CrossEntropyLoss, targets=CLASSES.astype(CLASSES.dtype.newbyteorder()))
    assert_same_bits(make, plain="the targets are of foreign byte order")


def turned(array):
    return np.asfortranarray(array)


def strided(array):
    return np.repeat(array, 2, axis=0)[::2]


def backwards(array):
    return array[::-1].copy()[::-1]


def spread(array):
    return np.broadcast_to(array[0], array.shape)


@pytest.mark.parametrize("batch_size", [3, None])
@pytest.mark.parametrize("layout", [turned, strided, backwards, spread], ids=lambda layout: layout.__name__)
def test_samples_in_any_layout_have_the_bits_of_a_copy(layout, batch_size, way):
    wide, out = full(7, 8, 40), full(8, 8, 2)

    def make(view):
        def begin():
            net = nn.Sequential(linear(40, 6, 1), nn.Tanh(), linear(6, 2, 2))
            return Start(net, nn.MSELoss(), optim.SGD(net.params, lr=0.1), view(layout(wide)), view(layout(out)))

        return begin

    how = {"batch_size": batch_size, "shuffle": False}
    assert_same_bits(make(lambda array: array), **how)
    assert train(make(lambda array: array), **how)[0] == train(make(np.array), capture=False, **how)[0]


@pytest.mark.parametrize("grads", ["zero", "any"])
def test_weights_tied_by_a_view(grads, way):
    def make():
        net = nn.Sequential(linear(4, 4, 1, bias=False), nn.ReLU(), linear(4, 4, 2, bias=False))
        net.bind({"0.weight": (W := net.params["0.weight"]), "2.weight": W[...]})
        inputs = -np.ones((8, 4)) if grads == "zero" else X
        return Start(net, nn.MSELoss(), optim.SGD(net.params, lr=0.1), inputs, full(9, 8, 4))

    assert_same_bits(make, plain="two arrays lie in the same memory")


# Callbacks and schedules that may do anything.


def layers(begin):
    return [*begin.net.modules()][1:]


def new_generator(k, _, begin):
    if k == 6:
        layers(begin)[1].generator = begin.others[0]


def other_line(k, _, begin):
    layers(begin)[1].line = [lambda _, X: X * 2, lambda _, X: X * 3, lambda _, X: X * 4][k % 3]


def config(k, _, begin):
    layers(begin)[1].by.factor = 1 + k // 5


def a_class_out_of_range(k, _, begin):
    if k == 9:
        begin.targets[...] = 7


def other_errors(k, _, begin):
    if k == 9:
        np.seterr(over="raise")


class Factor:
    factor = 1.0


class Configured(nn.Module):
    capturable = True

    def __init__(self):
        super().__init__()
        self.by = Factor()

    def forward(self, X):
        return X * self.by.factor, self.by.factor

    def backward(self, dY, by):
        return dY * by, {}


def of(middle):
    return lambda: [linear(4, 5, 1), middle(), linear(5, 2, 2)]


def with_another_generator():
    begin = start(of(lambda: nn.Dropout(0.5, generator=Generator(3))))()
    begin.others = (Generator(4),)
    return begin


def of_classes():
    return start(loss=nn.CrossEntropyLoss, targets=CLASSES.copy())()


CALLBACKS = {
    "another generator": (with_another_generator, new_generator),
    "another function": (start(of(lambda: Own(lambda _, X: X))), other_line),
    "a configuration object": (start(of(Configured)), config),
    "a class out of range": (of_classes, a_class_out_of_range),
}


@pytest.mark.parametrize("name", CALLBACKS)
@pytest.mark.parametrize("batch_size", [4, None])
def test_a_callback_that_changes_anything(name, batch_size, way):
    make, callback = CALLBACKS[name]
    expected, reference = train(make, callback, capture=False, batch_size=batch_size, record=False)
    actual, result = train(make, callback, batch_size=batch_size, record=False)
    assert {key for key in expected if actual[key] != expected[key]} == set()
    assert isinstance(reference, Exception) == (callback is a_class_out_of_range)
    if isinstance(reference, Exception):
        assert (type(result), str(result)) == (type(reference), str(reference))


def test_a_callback_that_puts_another_array_in_place(way):
    def left(capture):
        begin = start(momentum=0.9)()
        held = dict(begin.net.params)

        def callback(k, _):
            if k == 6:
                begin.net.params = {**held, "0.weight": held["0.weight"].copy()}

        refnet.fit(begin.net, begin.loss, begin.opt, X, T, iterations=30, shuffle=False, callback=callback)
        return [P.tobytes() for P in (*held.values(), *begin.net.params.values(), layers(begin)[0].params["weight"])]

    assert left(True) == left(False)


def test_a_callback_that_sets_how_errors_are_handled(way):
    def left(capture):
        with np.errstate(over="warn"):
            begin = start(lr=1e200)()
            with pytest.raises(FloatingPointError, match="overflow"):
                refnet.fit(
                    *(begin.net, begin.loss, begin.opt, X, T),
                    iterations=20,
                    capture=capture,
                    callback=lambda k, _: np.seterr(over="raise"),
                )

    left(False)
    left(True)


def rate_by_weights(begin):
    return lambda k: 1 / (1 + abs(float(begin.net.params["0.weight"][0, 0])))


def rate_that_sets_momentum(begin):
    def rate(k):
        begin.opt.param_groups[0]["momentum"] = 0.5 + k / 100
        return 1.0

    return rate


def rate_that_draws(begin):
    return lambda k: begin.generator.rand(()).item()


def rate_that_raises(begin):
    def rate(k):
        if k == 17:
            raise ArithmeticError("enough")
        return 1.0

    return rate


@pytest.mark.parametrize("rate", [rate_by_weights, rate_that_sets_momentum, rate_that_draws, rate_that_raises])
def test_a_schedule_that_may_do_anything(rate, way):
    def left(capture):
        begin = start(momentum=0.9)()
        raised = None
        try:
            refnet.fit(
                *(begin.net, begin.loss, begin.opt, begin.inputs, begin.targets),
                batch_size=3,
                iterations=60,
                generator=begin.generator,
                lr_lambda=rate(begin),
                capture=capture,
            )
        except ArithmeticError as error:
            raised = str(error)
        weights = [P.tobytes() for P in begin.net.params.values()]
        return raised, weights, begin.generator.get_state().tobytes(), begin.opt.param_groups[0]["momentum"]

    assert left(True) == left(False)


def test_a_schedule_that_declares_itself_is_asked_ahead(do_updates):
    pytest.importorskip("llvmlite")
    do_updates("as machine code")
    for schedule, ahead in ((declared(lambda k: 0.9**k), True), (lambda k: 0.9**k, False)):
        begin, asked = start()(), []

        def rate(k, schedule=schedule, begin=begin, asked=asked):
            asked.append(begin.net.params["0.weight"].tobytes())
            return schedule(k)

        rate.capturable = getattr(schedule, "capturable", False)
        refnet.fit(begin.net, begin.loss, begin.opt, X, T, iterations=60, lr_lambda=rate)
        assert (len(set(asked)) < 60) == ahead


# Classes of a user's own.


class Momentum:
    """An optimizer of a user's own, in the ways that users write one."""

    def __init__(self, params, way):
        self.param_groups, self.state, self.way = [{"params": dict(params), "lr": 0.05, "t": 0}], {}, way
        self.m = {name: np.zeros_like(P) for name, P in params.items()}

    def step(self, grads):
        (group,) = self.param_groups
        group["t"] += 1
        for name, P in group["params"].items():
            G = grads[name]
            if self.way == "bound anew":
                self.m[name] = 0.9 * self.m[name] + G
            elif self.way == "in place":
                m = self.m[name]
                m *= 0.9
                m += G
            else:
                self.m[name] = G / (1 - 0.9 ** group["t"])
            P -= group["lr"] * self.m[name]


@pytest.mark.parametrize("kind", ["bound anew", "in place", "counted"])
def test_an_optimizer_that_declares_nothing_runs_plainly(kind, way):
    def make():
        begin = start()()
        begin.opt = Momentum(begin.net.params, kind)
        return begin

    reason = "Momentum is no class of refnet's, and does not declare itself capturable"
    assert_same_bits(make, plain=reason)


def test_a_layer_that_declares_nothing_runs_plainly(way):
    class Undeclared(Own):
        pass

    make = start(of(lambda: Undeclared(lambda _, X: X * 2)))
    assert_same_bits(make, plain="Undeclared is no class of refnet's")
    derived = start(of(lambda: type("Relu", (nn.ReLU,), {})()))
    assert_same_bits(derived, plain="Relu is no class of refnet's")


def test_a_layer_that_writes_into_its_input_runs_plainly(way):
    class Squared(nn.Module):
        def forward(self, X):
            X *= X
            return X, X

        def backward(self, dY, saved):
            return dY, {}

    assert_same_bits(start(of(Squared), lr=0.01), plain="Squared is no class of refnet's")


def test_a_method_put_over_another_is_foreign():
    layer = nn.ReLU()
    assert is_capturable(layer)
    layer.forward = lambda X: (X, X)
    assert not is_capturable(layer)


def test_what_declares_itself_is_known():
    def schedule(k):
        return 1.0

    assert not is_capturable(schedule)
    assert is_capturable(declared(schedule))
    assert is_capturable(Own(None))
    assert is_capturable(optim.SGD(linear(2, 2, 1).params))
    assert not is_capturable(type("Derived", (Own,), {})(None))


# The check of the promise.


def promise(module, opt=lambda params: optim.SGD(params, lr=0.1)):
    check_promise(nn.Sequential(linear(4, 5, 1), module, linear(5, 2, 2)), nn.MSELoss(), opt, X, T)


def test_promises_that_are_kept():
    promise(Configured())
    promise(nn.Dropout(0.5))
    promise(nn.BatchNorm1d(5))


def counts(self, X):
    self.count = getattr(self, "count", 0) + 1
    return X


DRAWS = np.random.default_rng(0)


def draws_elsewhere(_, X):
    return X * DRAWS.random(X.shape)


@pytest.mark.parametrize("line", [counts, draws_elsewhere])
def test_promises_that_are_broken(line):
    with pytest.raises(AssertionError, match="check_promise: expected"):
        promise(Own(line))


def test_a_promise_not_to_write_into_samples():
    def into_samples(_, X):
        X *= 2
        return X

    net = nn.Sequential(Own(into_samples), linear(4, 2, 1))
    with pytest.raises(ValueError, match="read-only"):
        check_promise(net, nn.MSELoss(), optim.SGD, X, T)


def test_an_optimizer_that_counts_breaks_its_promise():
    with pytest.raises(AssertionError, match="attributes of the optimizer"):
        promise(nn.Tanh(), lambda params: Momentum(params, "bound anew"))


# The comparison with the plain update.


def sums(dtype):
    """A layer in which five terms are added up, and the sum shows in the gradients alone."""
    return [linear(4, 5, 1, dtype), nn.Softmax(-1), linear(5, 2, 2, dtype)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("of_layers", [sums, LAYERS["LogSoftmax"]])
@pytest.mark.parametrize("lr", [1e-1, 1e-9])
def test_no_sum_in_another_order_passes(dtype, of_layers, lr, monkeypatch, do_updates):
    pytest.importorskip("llvmlite")
    do_updates("as machine code")
    make = start(lambda: of_layers(dtype), dtype=dtype, lr=lr)
    assert assert_same_bits(make).why_not_native == ""
    short, written = llvm_loops.short_sum, []

    def from_the_last(total, first, terms, step):
        written.append(terms)
        return short(total, first._replace(first=first.first + (terms - 1) * step), terms, -step)

    monkeypatch.setattr(llvm_loops, "short_sum", from_the_last)
    history = assert_same_bits(make)
    assert max(written) > 2
    assert history.why_not_native == "the machine code gives other bits than the plain update"


@pytest.mark.parametrize("lr", [1e-1, 1e-9])
def test_no_product_in_another_order_passes(lr, monkeypatch, do_updates):
    pytest.importorskip("llvmlite")
    do_updates("as machine code")
    monkeypatch.setattr(lowering, "order_of_products", lambda *_, **__: Summation(fused=False, backwards=True))
    runs = 3

    def begin():
        nets = [nn.Sequential(linear(4, 2, seed), nn.Tanh(), linear(2, 2, seed + 9)) for seed in range(runs)]
        return nets, [optim.SGD(net.params, lr=lr) for net in nets], [Generator(seed) for seed in range(runs)]

    nets, opts, generators = begin()
    histories = refnet.ensemble(nets, nn.MSELoss(), opts, X, T, batch_size=2, iterations=40, generators=generators)
    twins, twin_opts, twin_generators = begin()
    for net, twin, opt, generator in zip(nets, twins, twin_opts, twin_generators, strict=True):
        refnet.fit(twin, nn.MSELoss(), opt, X, T, batch_size=2, iterations=40, generator=generator, capture=False)
        np.testing.assert_array_equal(net.params["0.weight"], twin.params["0.weight"])
    assert histories[0].why_not_native == "the machine code gives other bits than the plain update"


def test_a_difference_that_comes_later_is_seen_and_told(way, monkeypatch):
    """A replay that is right in the beginning: as a library would be that takes another way some time later."""
    result, wrong = comparison.Comparison._result, []

    def later(self, *args):
        left, inside = result(self, *args)
        wrong.append(len(self._storage.homes()))
        return (comparison.Snapshot([np.zeros(3)]) if len(wrong) > 30 else left), inside

    monkeypatch.setattr(comparison.Comparison, "_result", later)
    monkeypatch.setattr(comparison, "TRIALS", 1)
    begin = start()()
    wrong.extend([0] * 26)
    with pytest.warns(RuntimeWarning, match="captured updates have other bits than plain ones"):
        history = refnet.fit(begin.net, begin.loss, begin.opt, X, T, iterations=200)
    assert history.why_plain == "a captured update had other bits than the plain one"


@pytest.mark.parametrize("size", [3, comparison.MANY])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_snapshot_sees_every_bit_but_those_of_nan(size, dtype):
    taken, other = np.ones(size, dtype), np.ones((size, 1), dtype)
    taken[0], taken[1] = np.nan, 0.0
    own = comparison.Snapshot([taken, other])
    same = taken.copy()
    same[0] = -taken[0]
    assert own.agrees([same, other])
    taken[2] = 3.0
    assert own.agrees([same, other])
    for place, value in ((0, 1.0), (1, -0.0), (1, np.nan), (2, np.nextafter(dtype(1), dtype(2)))):
        wrong = same.copy()
        wrong[place] = value
        assert not own.agrees([wrong, other])
        assert not own.agrees([same, wrong.reshape(-1, 1)])
    assert not own.agrees([same])
    assert not own.agrees([same, other.astype({4: np.float64, 8: np.float32}[dtype().itemsize])])


# Arguments.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"record": [1.5]}, "expected record of integers, got 1.5"),
        ({"record": [150.5]}, "expected record of integers, got 150.5"),
        ({"record": 3}, "expected record as a bool or as numbers of updates, got 3"),
        ({"lr_lambda": 0.5}, "expected lr_lambda to be a function or None, got 0.5"),
        ({"callback": "x"}, "expected callback to be a function or None, got 'x'"),
    ],
)
def test_arguments_that_are_refused(options, message):
    begin = start()()
    with pytest.raises(TypeError, match=message):
        refnet.fit(begin.net, begin.loss, begin.opt, X, T, iterations=200, **options)
