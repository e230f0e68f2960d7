"""refnet.train.capture: whatever can be trained has, captured, the bits of a plain training.

`twice.assert_same_bits` trains twice from the same start, plainly and captured, and compares everything that a training
leaves. Both ways of doing captured updates are tried, as Python calls ("replayed") and as machine code.
"""

import numpy as np
import pytest
from twice import (
    CLASSES,
    DTYPES,
    IMAGES,
    LAYERS,
    ONES,
    OPTIONS,
    ORDERS,
    N,
    T,
    X,
    assert_as_machine_code,
    assert_same_bits,
    declared,
    full,
    linear,
    mlp,
    of_weights,
    split,
    start,
)

from refnet import Generator, nn
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


ELEMENTWISE = [
    *("SiLU", "GELU", "Mish", "Softplus", "LogSigmoid", "Softsign", "Tanhshrink", "ELU", "SELU", "CELU"),
    *("LeakyReLU", "PReLU", "ReLU6", "Hardtanh", "Hardsigmoid", "Hardswish", "Hardshrink", "Softshrink"),
]
GATED = {
    "GLU": lambda dtype: nn.GLU(),
    "SwiGLU": lambda dtype: nn.SwiGLU(6, 4, 3, dtype=dtype, generator=Generator(3)),
    "GEGLU": lambda dtype: nn.GEGLU(6, 4, 3, True, "tanh", dtype=dtype, generator=Generator(3)),
}


@pytest.mark.arithmetic
@pytest.mark.parametrize("name", [*ELEMENTWISE, *GATED, "Threshold", "Softmin"])
def test_activations(name, kind):
    dtype = kind
    made = {"Threshold": lambda: nn.Threshold(0.1, -0.5), "PReLU": lambda: nn.PReLU(6, dtype=dtype)}
    made |= {
        "Softmin": lambda: nn.Softmin(-1),
        **{gated: lambda make=make: make(dtype) for gated, make in GATED.items()},
    }

    def layers():
        activation = made.get(name, getattr(nn, name))()
        return [linear(4, 6, 1, dtype), activation, linear(3 if name in GATED else 6, 2, 2, dtype)]

    assert_same_bits(start(layers, dtype=dtype, momentum=0.9, lr=0.02), batch_size=4)


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


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("Embedding", {"padding_idx": 1, "max_norm": 0.5}),
        ("Embedding", {"scale_grad_by_freq": True}),
        *(("EmbeddingBag", {"mode": mode, "padding_idx": 1, "max_norm": 0.5}) for mode in ("sum", "mean", "max")),
    ],
    ids=str,
)
def test_tables_are_replayed(kind, options, way):
    """Their scatter is no loop of NumPy's, so that there is no machine code."""
    K = np.arange(24).reshape(8, 3) % 5 if kind == "EmbeddingBag" else np.arange(8) % 5
    make = start(lambda: [getattr(nn, kind)(5, 4, _weight=full(0, 5, 4), **options), linear(4, 2, 2)], inputs=K)
    assert_same_bits(make, batch_size=4)


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
