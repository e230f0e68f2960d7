"""Trainings done twice: plainly and captured."""

from dataclasses import dataclass, field

import numpy as np

import refnet
from refnet import Generator, nn, optim
from refnet.train import training

N = 8
DTYPES = [np.float32, np.float64]

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
"""Of SGD."""

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
"""Of the data."""


def declared(schedule):
    """A schedule that may be asked ahead."""
    schedule.capturable = True
    return schedule


def full(seed, *shape, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


X, T = full(1, N, 4), full(2, N, 2)
CLASSES = np.array([0, 1, 1, 0, 1, 0, 0, 1])
ONES = (T > 0).astype(np.float64)
IMAGES = full(3, N, 2, 5, 6)


def linear(i, o, seed, dtype=np.float64, **options):
    return nn.Linear(i, o, dtype=dtype, generator=Generator(seed), **options)


def mlp(dtype=np.float64):
    return [linear(4, 5, 1, dtype), nn.Tanh(), linear(5, 2, 2, dtype)]


@dataclass
class Start:
    """Everything a training begins with; `others` are further generators."""

    net: nn.Module
    loss: nn.Module
    opt: optim.SGD
    inputs: np.ndarray = field(default_factory=X.copy)
    targets: np.ndarray = field(default_factory=T.copy)
    generator: Generator = field(default_factory=lambda: Generator(5))
    others: tuple[Generator, ...] = ()


def start(layers=mlp, loss=nn.MSELoss, inputs=X, targets=T, dtype=np.float64, groups=None, **options):
    """A function that makes the same start again and again."""

    def make():
        net = nn.Sequential(*(layers(dtype) if layers is mlp else layers()))
        params = groups(net.params) if groups else net.params
        data = (array.astype(dtype) if array.dtype == np.float64 else array for array in (inputs, targets))
        return Start(net, loss(), optim.SGD(params, **{"lr": 0.1} | options), *data)

    return make


def bits(array):
    """The bytes of an array, every NaN the same: which sign it has is up to the loop that made it."""
    return np.where(np.isnan(array), np.nan, array).astype(array.dtype).tobytes()


def standing(begin):
    """What the network and the optimizer hold."""
    left = {f"net {name}": bits(array) for name, array in begin.net.state_dict().items()}
    for name, state in begin.opt.state.items():
        left |= {f"state {name} {key}": bits(array) for key, array in state.items()}
    return left


def train(make, callback=None, **how):
    """What is left after a training: bytes by name; its history or its error."""
    begin = make()
    held = {**begin.net.params, **begin.net.buffers}
    how = {"batch_size": 4, "iterations": 25, "record": range(0, 26, 6), "generator": begin.generator} | how
    if callback is not None:
        how["callback"] = lambda k, loss: callback(k, loss, begin)
    errors = np.geterr()
    try:
        result = refnet.fit(begin.net, begin.loss, begin.opt, begin.inputs, begin.targets, **how)
    except Exception as error:
        result = error
    assert np.geterr() == errors
    for name, array in {**begin.net.params, **begin.net.buffers}.items():
        assert array is held[name]
    for group in begin.opt.param_groups:
        assert all(P is begin.net.params[name] for name, P in group["params"].items())
        assert isinstance(group["lr"], int | float | np.number | np.ndarray)
    left = standing(begin) | {f"loss {name}": bits(array) for name, array in begin.loss.buffers.items()}
    for k, generator in enumerate((begin.generator, *begin.others)):
        left[f"generator {k}"] = generator.get_state().tobytes()
    if isinstance(result, training.History):
        left |= {f"course of {name}": bits(there) for name, there in result.weights.items()}
        left["losses"], left["recorded"] = bits(result.loss), bits(result.recorded)
    return left, result


def assert_same_bits(make, plain="", callback=None, **how):
    """`plain`: what `why_plain` says; that it is empty means that updates were captured. Returns history or error."""
    expected, reference = train(make, callback, capture=False, **how)
    actual, result = train(make, callback, **how)
    assert [name for name in expected if actual.get(name) != expected[name]] == []
    assert actual.keys() == expected.keys()
    if isinstance(reference, Exception):
        assert (type(result), str(result)) == (type(reference), str(reference))
    else:
        assert plain in result.why_plain
        assert bool(plain) == bool(result.why_plain)
    return result


def assert_as_machine_code(way, history):
    assert history.why_not_native == ("" if way == "as machine code" else "machine code pays only in a longer training")


def between(*layers):
    return lambda dtype: [linear(4, 5, 1, dtype), *(layer(dtype) for layer in layers), linear(5, 2, 2, dtype)]


def norm(training=True, **options):
    return lambda dtype: nn.BatchNorm1d(5, dtype=dtype, **options).train(training)


LAYERS = {
    "Linear": lambda dtype: [linear(4, 2, 1, dtype)],
    "Linear without bias": lambda dtype: [linear(4, 5, 1, dtype, bias=False), linear(5, 2, 2, dtype, bias=False)],
    "Sigmoid": between(lambda dtype: nn.Sigmoid()),
    "Tanh": between(lambda dtype: nn.Tanh()),
    "ReLU": between(lambda dtype: nn.ReLU()),
    "Softmax": between(lambda dtype: nn.Softmax(-1)),
    "Softmax over samples": between(lambda dtype: nn.Softmax(0)),
    "LogSoftmax": between(lambda dtype: nn.LogSoftmax(1)),
    "Identity and Flatten": between(lambda dtype: nn.Identity(), lambda dtype: nn.Flatten()),
    "BatchNorm": between(norm()),
    "BatchNorm evaluated": between(norm(training=False)),
    "BatchNorm without parameters": between(norm(affine=False)),
    "BatchNorm without bias": between(norm(bias=False, eps=0.1, momentum=0.5)),
    "BatchNorm without statistics": between(norm(track_running_stats=False)),
    "BatchNorm twice": between(norm(), lambda dtype: nn.ReLU(), norm()),
    "Dropout evaluated": between(lambda dtype: nn.Dropout(0.5).eval()),
    "containers": lambda dtype: [
        nn.Sequential(nn.Sequential(linear(4, 3, 1, dtype)), nn.ReLU()),
        linear(3, 2, 2, dtype),
    ],
}


def of_weights(kind, dtype, **arrays):
    return lambda: kind(**{name: np.array(array, dtype) for name, array in arrays.items()})


def split(params, **second):
    first = {name: P for name, P in params.items() if name.startswith("0.")}
    rest = {name: P for name, P in params.items() if not name.startswith("0.")}
    return [{"params": first, "lr": 0.3}, {"params": rest, **second}]


class Own(nn.Module):
    """A module of one line; the gradient passes through, times what was saved."""

    capturable = True

    def __init__(self, line, back=lambda dY, saved: dY):
        super().__init__()
        self.line, self.back = line, back

    def forward(self, X):
        output = self.line(self, X)
        return output if isinstance(output, tuple) else (output, None)

    def backward(self, dY, saved):
        return self.back(dY, saved), {}


def own(line, back=lambda dY, saved: dY):
    return start(lambda: [linear(4, 5, 1), Own(line, back), linear(5, 2, 2)], lr=0.01)
