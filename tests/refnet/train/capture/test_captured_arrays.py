"""refnet.train.capture: the bits of a plain training wherever the arrays lie in memory; see test_capture."""

import numpy as np
import pytest
from twice import (
    LAYERS,
    ORDERS,
    Start,
    T,
    X,
    assert_as_machine_code,
    assert_same_bits,
    linear,
    start,
    train,
)

from refnet import nn, optim
from refnet.train.capture import storage


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
