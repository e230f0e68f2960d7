"""refnet.train.capture: whatever can be trained has, captured, the bits of a plain training.

`twice.assert_same_bits` trains twice from the same start, plainly and captured, and compares everything that a training
leaves. Both ways of doing captured updates are tried, as Python calls ("replayed") and as machine code.
"""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twice import (
    CLASSES,
    DTYPES,
    IMAGES,
    LAYERS,
    ONES,
    N,
    Start,
    T,
    X,
    assert_as_machine_code,
    assert_same_bits,
    declared,
    full,
    linear,
    mlp,
    of_weights,
    own,
    split,
    start,
    train,
)

import refnet
from refnet import Generator, _check, nn, optim
from refnet.arithmetic import special
from refnet.train.capture import storage

# Layers and losses.


class Unrolled(nn.Module):
    """An LSTMCell over the steps of X (n, t, x); gives the last hidden state."""

    capturable = True

    def __init__(self):
        super().__init__()
        self.cell = nn.LSTMCell(3, 4, generator=Generator(4))
        self.params = self.cell.params

    def bind(self, arrays):
        self.cell.bind(arrays)
        self.params = self.cell.params

    def forward(self, X):
        H = C = np.zeros((X.shape[0], 4))
        saved = []
        for t in range(X.shape[1]):
            (H, C), step = self.cell.forward(X[:, t], H, C)
            saved.append(step)
        return H, saved

    def backward(self, dY, saved):
        dH, dC, grads = dY, np.zeros(dY.shape), {}
        for step in reversed(saved):
            (dX, dH, dC), own = self.cell.backward((dH, dC), step)
            grads = {name: grads[name] + grad if name in grads else grad for name, grad in own.items()}
        return dX, grads


class OneHot(nn.Module):
    """Integers (n,) to (n, 4): inputs that are no floats."""

    capturable = True

    def forward(self, X):
        return np.where(np.expand_dims(X, -1) == np.arange(4), np.float64(1), np.float64(0)), None

    def backward(self, dY, saved):
        return None, {}


def shared():
    layer = linear(4, 4, 1)
    return [layer, nn.Tanh(), layer, nn.Sequential(nn.Identity(), layer), linear(4, 2, 2)]


@pytest.mark.arithmetic
@pytest.mark.parametrize("batch_size", [4, None])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LAYERS)
def test_layers(name, dtype, batch_size, do_updates):
    """As machine code in one dtype for samples of which some are picked, in the other for all of them."""
    way = do_updates("replayed" if (dtype == np.float32) == (batch_size is None) else "as machine code")
    make = start(lambda: LAYERS[name](dtype), dtype=dtype, momentum=0.9, lr=0.02)
    assert_as_machine_code(way, assert_same_bits(make, batch_size=batch_size))


CONVOLUTIONS = [
    {},
    {"padding": 1, "bias": False},
    {"stride": 2, "padding": (1, 2), "groups": 2},
    {"padding": "same", "dilation": 2, "padding_mode": "circular"},
    {"padding": 1, "padding_mode": "reflect"},
    {"padding": 2, "padding_mode": "replicate", "stride": (1, 3)},
]


@pytest.mark.parametrize("options", CONVOLUTIONS, ids=str)
def test_convolutions(options, kind):
    dtype = kind

    def layers():
        conv = nn.Conv2d(2, 4, (2, 3), dtype=dtype, generator=Generator(1), **options)
        size = conv.forward(IMAGES.astype(dtype))[0][0].size
        return [conv, nn.ReLU(), nn.Flatten(), linear(size, 2, 2, dtype)]

    for batch_size in (4, 1) if dtype == np.float64 else (None,):
        make = start(layers, nn.CrossEntropyLoss, IMAGES, CLASSES, dtype, momentum=0.9)
        assert_same_bits(make, batch_size=batch_size, iterations=12, record=range(0, 13, 6))


def test_recurrent_cells(way):
    for batch_size in (4, None):
        make = start(lambda: [Unrolled(), linear(4, 2, 2)], inputs=full(4, N, 3, 3), momentum=0.9)
        assert_as_machine_code(way, assert_same_bits(make, batch_size=batch_size))


def test_integer_inputs(way):
    make = start(lambda: [OneHot(), linear(4, 2, 2)], inputs=np.array([0, 3, 1, 2, 2, 1, 0, 3]))
    for batch_size in (4, 1, None):
        assert_same_bits(make, batch_size=batch_size)


def test_batch_norm_with_an_average_is_replayed(way):
    """Its divisor is the number of batches, which no machine code turns into a float."""
    make = start(lambda: [linear(4, 5, 1), nn.BatchNorm1d(5, momentum=None), linear(5, 2, 2)])
    history = assert_same_bits(make)
    if way == "as machine code":
        assert history.why_not_native == "a copy from int64 to float64"


@pytest.mark.parametrize("loss", [nn.MSELoss, nn.L1Loss, nn.HalfSquaredError, lambda: nn.MSELoss(reduction="sum")])
def test_losses_of_numbers(loss, kind):
    assert_same_bits(start(mlp, loss, dtype=kind, lr=0.02))


def test_binary_cross_entropy(kind):
    dtype = kind

    def layers():
        return [*mlp(dtype), nn.Sigmoid()]

    for loss in (nn.BCELoss, of_weights(nn.BCELoss, dtype, weight=[1, 0.5])):
        for batch_size in (4, None):
            assert_same_bits(start(layers, loss, targets=ONES, dtype=dtype), batch_size=batch_size)


LOGITS = {
    "plain": {},
    "weights": {"weight": [1, 0.5]},
    "one weight": {"pos_weight": 3.0},
    "weights and positive weights": {"weight": 0.5, "pos_weight": [2, 0.25]},
}


@pytest.mark.parametrize("name", LOGITS)
def test_binary_cross_entropy_of_logits(name, kind):
    dtype, loss = kind, of_weights(nn.BCEWithLogitsLoss, kind, **LOGITS[name])
    for batch_size in (4, None):
        assert_same_bits(start(mlp, loss, targets=ONES, dtype=dtype), batch_size=batch_size)


CROSS_ENTROPY = {
    "classes": ({}, CLASSES),
    "int32": ({}, CLASSES.astype(np.int32)),
    "int8": ({}, CLASSES.astype(np.int8)),
    "weights": ({"weight": np.array([1, 0.5])}, CLASSES),
    "ignored": ({"ignore_index": 1, "weight": np.array([1, 0.5])}, CLASSES),
    "some ignored": ({}, np.where(np.arange(N) % 3, CLASSES, -100)),
    "sum": ({"reduction": "sum"}, CLASSES),
    "smoothed": ({"label_smoothing": 0.1, "weight": np.array([1, 0.5])}, CLASSES),
    "probabilities": ({}, abs(T)),
    "probabilities smoothed": ({"label_smoothing": 0.1}, abs(T)),
}


@pytest.mark.parametrize("name", CROSS_ENTROPY)
def test_cross_entropy(name, kind):
    dtype, (options, targets) = kind, CROSS_ENTROPY[name]

    def loss():
        weight = options.get("weight")
        own = {} if weight is None else {"weight": weight.astype(dtype)}
        return nn.CrossEntropyLoss(**options | own)

    for batch_size in (4, None):
        assert_same_bits(start(mlp, loss, targets=targets, dtype=dtype), batch_size=batch_size)


def test_a_batch_of_which_all_is_ignored_is_nan(way):
    """The mean over nothing; its gradient is 0."""
    make = start(mlp, nn.CrossEntropyLoss, targets=np.array([-100, -100, 0, 1, 0, 1, -100, -100]))
    history = assert_same_bits(make, batch_size=2, shuffle=False)
    assert np.isnan(history.loss[::4]).all()
    assert np.isfinite(history.loss[1::4]).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint64])
def test_unsigned_classes(dtype, do_updates):
    do_updates("replayed")
    assert_same_bits(start(mlp, nn.CrossEntropyLoss, targets=CLASSES.astype(dtype)))


# Optimizers and orders.

OPTIONS = [
    {},
    {"momentum": 0.9},
    {"momentum": 0.9, "nesterov": True},
    {"momentum": 0.9, "dampening": 0.5},
    {"weight_decay": 0.1},
    {"maximize": True, "lr": 0.001},
    {"momentum": 0.9, "weight_decay": 0.1, "nesterov": True, "maximize": True, "lr": 0.001},
    {"lr": 1},
    {"lr": 0},
    {"lr": np.float32(0.1)},
    {"lr": np.array(0.1)},
]
ORDERS = [
    {"batch_size": None},
    {"batch_size": 1},
    {"batch_size": 3},
    {"batch_size": 4},
    {"batch_size": N},
    {"batch_size": 20},
    {"batch_size": 3, "drop_last": True},
    {"batch_size": 3, "shuffle": False},
    {"batch_size": N, "shuffle": False},
    {"batch_size": 3, "shuffle": False, "drop_last": True},
    {"batch_size": 3, "replacement": True},
    {"batch_size": 3, "replacement": True, "drop_last": True},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_options_of_the_optimizer(options, way, monkeypatch):
    assert_as_machine_code(way, assert_same_bits(start(dtype=np.float32, **options)))
    # No network is so small that its parameters are laid side by side.
    monkeypatch.setattr(storage, "SMALL", 0)
    assert_as_machine_code(way, assert_same_bits(start(**options)))


@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_orders(order, way):
    make = start(lambda: LAYERS["BatchNorm"](np.float64), momentum=0.9)
    if order.get("batch_size") == 1:
        make = start(momentum=0.9)
    assert_as_machine_code(way, assert_same_bits(make, **order))


def test_all_sizes_of_a_short_last_batch(way):
    for n in (1, 2, 4, 5, 7) if way == "replayed" else (2, 7):
        assert_same_bits(start(inputs=X[:n], targets=T[:n]), batch_size=3, iterations=12, record=False)


@pytest.mark.parametrize(
    "second",
    [{}, {"momentum": 0.9}, {"weight_decay": 0.1}, {"maximize": True}, {"momentum": 0.9, "nesterov": True}],
    ids=str,
)
def test_groups(second, way):
    make = start(groups=lambda params: split(params, **second), weight_decay=0.01)
    assert_as_machine_code(way, assert_same_bits(make))
    assert_as_machine_code(
        way, assert_same_bits(make, lr_lambda=declared(lambda k: 0.9**k), record=False, iterations=60)
    )


@pytest.mark.parametrize("part", ["0.", "2.", "bias"])
def test_frozen_parameters(part, way):
    def held(params):
        return {name: P for name, P in params.items() if part not in name}

    history = assert_same_bits(start(groups=held, momentum=0.9))
    assert_as_machine_code(way, history)
    for name, there in history.weights.items():
        assert (there[0] == there[-1]).all() == (part in name)


def test_shared_layers(way, monkeypatch):
    for small in (storage.SMALL, 0):
        monkeypatch.setattr(storage, "SMALL", small)
        assert_as_machine_code(way, assert_same_bits(start(shared, momentum=0.9)))


SCHEDULES = {
    "falling": lambda k: 0.95**k,
    "warming up": lambda k: min(1, k / 10),
    "of whole numbers": lambda k: 1 - k // 30,
}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules(schedule, kind):
    make = start(dtype=kind, momentum=0.9)
    for record in (range(0, 61, 6), False):
        assert_same_bits(make, lr_lambda=declared(SCHEDULES[schedule]), iterations=60, record=record)


# Where the arrays lie.


def turned(array):
    return np.asfortranarray(array)


def in_pieces(array):
    memory = np.zeros(tuple(2 * size for size in array.shape), array.dtype)
    view = memory[tuple(slice(None, None, 2) for _ in array.shape)]
    view[...] = array
    return view


def backwards(array):
    return array[::-1].copy()[::-1]


def part_of_more(array):
    memory = np.zeros(array.size + 20, array.dtype)
    view = memory[7 : 7 + array.size].reshape(array.shape)
    view[...] = array
    return view


def spread(array):
    return np.broadcast_to(array[:1], array.shape)


@pytest.mark.parametrize("lay", [turned, in_pieces, backwards, part_of_more, spread])
@pytest.mark.parametrize("order", [ORDERS[0], ORDERS[3], ORDERS[8], {"batch_size": 4, "shuffle": False}], ids=str)
def test_inputs_that_are_only_read(lay, order, way):
    def make():
        begin = start(momentum=0.9)()
        begin.inputs, begin.targets = lay(begin.inputs), lay(begin.targets)
        begin.inputs.flags.writeable = begin.targets.flags.writeable = False
        return begin

    assert_same_bits(make, **order)


def test_mapped_inputs(way, tmp_path):
    np.save(tmp_path / "inputs.npy", X)

    def make():
        begin = start()()
        begin.inputs = np.load(tmp_path / "inputs.npy", mmap_mode="r")
        return begin

    for order in ORDERS[:2]:
        assert_as_machine_code(way, assert_same_bits(make, **order))


def laid(lay):
    """A start whose parameters and buffers lie as `lay` lays them."""

    def make():
        begin = start(lambda: LAYERS["BatchNorm"](np.float64))()
        arrays = {**begin.net.params, **begin.net.buffers}
        begin.net.bind({name: lay(array) if array.ndim else array for name, array in arrays.items()})
        begin.opt = optim.SGD(begin.net.params, lr=0.1, momentum=0.9)
        return begin

    return make


@pytest.mark.parametrize("small", [2**15, 0])
@pytest.mark.parametrize("lay", [turned, in_pieces, backwards, part_of_more])
def test_parameters_in_any_order(lay, small, way, monkeypatch):
    monkeypatch.setattr(storage, "SMALL", small)
    assert_same_bits(laid(lay))


@pytest.mark.parametrize("small", [2**15, 0])
def test_parameters_in_one_piece_of_memory(small, way, monkeypatch):
    monkeypatch.setattr(storage, "SMALL", small)
    memory, place = np.zeros(200), [0]

    def beside(array):
        view = memory[place[0] : place[0] + array.size].reshape(array.shape)
        view[...] = array
        place[0] += array.size
        return view

    def make():
        place[0] = 0
        return laid(beside)()

    assert_same_bits(make)


def test_mapped_parameters(way, tmp_path):
    """As memmaps they are no plain arrays; looked at as such they are."""

    def mapped(array):
        memory = np.memmap(tmp_path / f"{len(list(tmp_path.iterdir()))}", array.dtype, "w+", shape=array.shape)
        memory[...] = array
        return memory

    assert_same_bits(laid(mapped), plain="the network's arrays are not NumPy's")
    assert_same_bits(laid(lambda array: np.asarray(mapped(array))))
    assert_same_bits(start())


def test_vectors_in_pieces_of_the_memory_of_others(do_updates):
    def lay(array):
        if array.ndim != 1:
            return array
        memory = np.frombuffer(bytearray(2 * array.nbytes), array.dtype)[::2]
        memory[...] = array
        return memory

    do_updates("replayed")
    expected, _ = train(laid(lay), capture=False)
    actual, _ = train(laid(lay))
    assert actual == expected


@pytest.mark.parametrize("base", [lambda array: np.frombuffer(bytearray(array.tobytes())).reshape(array.shape)])
def test_parameters_in_memory_of_others(base, way, monkeypatch):
    """A rate of 0 in the first updates hides that the weights do not move; later it shows."""

    def make():
        begin = start(lr=0.0)()
        begin.net.bind({name: base(array) for name, array in begin.net.params.items()})
        begin.opt = optim.SGD(begin.net.params, lr=0.0)
        return begin

    def warm_up(k, _, begin):
        begin.opt.param_groups[0]["lr"] = 0.1 if k > 5 else 0.0

    monkeypatch.setattr(storage, "SMALL", 0)
    assert_same_bits(make, callback=warm_up)


@pytest.mark.parametrize("small", [2**15, 0])
@pytest.mark.parametrize("tied", [np.transpose, np.asarray], ids=["turned", "as it is"])
def test_two_parameters_on_the_same_memory(tied, small, way, monkeypatch):
    """Weights tied by a view: what one update writes, the other must see. Side by side they would not."""

    def make():
        first, second = linear(4, 4, 1, bias=False), linear(4, 4, 2, bias=False)
        second.bind({"weight": tied(first.params["weight"])[...]})
        net = nn.Sequential(first, nn.Tanh(), second)
        return Start(net, nn.MSELoss(), optim.SGD(net.params, lr=0.1, momentum=0.9), targets=X)

    monkeypatch.setattr(storage, "SMALL", small)
    assert_same_bits(make, plain="two arrays lie in the same memory")


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("small", [2**15, 0])
def test_parameters_without_elements(small, way, monkeypatch):
    monkeypatch.setattr(storage, "SMALL", small)
    for bias in (True, False):
        make = start(lambda bias=bias: [linear(4, 0, 1, bias=bias), nn.Tanh(), linear(0, 2, 2)], momentum=0.9)
        assert_same_bits(make)
    assert_same_bits(start(lambda: [linear(0, 2, 2)], inputs=X[:, :0]))
    assert_same_bits(start(lambda: [linear(4, 1, 2, bias=False)], targets=T[:, :1]))


class Scale(nn.Module):
    """y = a x + b with a number a and a number b."""

    capturable = True

    def __init__(self):
        super().__init__()
        self.params = {"a": np.array(1.5), "b": np.array(0.0)}

    def forward(self, X):
        return self.params["a"] * X + self.params["b"], X

    def backward(self, dY, X):
        return dY * self.params["a"], {"a": (dY * X).sum(), "b": dY.sum()}


@pytest.mark.parametrize("small", [2**15, 0])
def test_parameters_without_axes(small, way, monkeypatch):
    monkeypatch.setattr(storage, "SMALL", small)
    assert_same_bits(start(lambda: [Scale()], targets=X, momentum=0.9, weight_decay=0.1, lr=0.01))
    assert_same_bits(start(lambda: [linear(4, 2, 1), Scale()], momentum=0.9, lr=0.01))


def test_a_network_beyond_the_small_ones(way):
    """More than 2^15 bytes of parameters."""
    make = start(lambda: [linear(4, 600, 1), nn.Tanh(), linear(600, 2, 2)], momentum=0.9, lr=0.001)
    assert sum(P.nbytes for P in make().net.params.values()) > storage.SMALL
    assert_as_machine_code(way, assert_same_bits(make))


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
