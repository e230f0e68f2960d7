"""refnet.train.capture.native.innermost: trainings that lie innermost have the bits that each has alone."""

import itertools

import numpy as np
import pytest

import refnet
from refnet import Generator, nn, optim
from refnet.train.capture import captured, native, replay
from refnet.train.capture.native import block_memory, innermost, lowering, translator
from refnet.train.capture.program import build
from refnet.train.capture.recorder import Recorder, Traced

pytest.importorskip("llvmlite")

DRAWS = np.random.default_rng(0)
X, T = DRAWS.standard_normal((6, 2)), DRAWS.random((6, 2))


@pytest.fixture
def laid_out(monkeypatch):
    """Machines that are made, each with whether the runs lie innermost; translating always pays."""
    made = []
    true = native.Machine

    def machine(*args):
        made.append((true(*args), len(args) == 7))
        return made[-1][0]

    monkeypatch.setattr(native, "Machine", machine)
    monkeypatch.setattr(captured, "SHORT", 0)
    monkeypatch.setattr(captured, "PAID_BACK", float("inf"))
    return made


def perceptron(generator, dtype=None):
    draws = {"generator": generator, "dtype": dtype}
    return nn.Sequential(nn.Linear(2, 2, **draws), nn.Sigmoid(), nn.Linear(2, 2, **draws), nn.Tanh())


def normalized(generator):
    return nn.Sequential(nn.Linear(2, 4, generator=generator), nn.LayerNorm(4), nn.Linear(4, 2, generator=generator))


def train(make, loss, optimizer, runs, targets=T, inputs=X, **options):
    """Many at once, and the first, a middle and the last one alone and plainly."""
    nets = [make(Generator(run)) for run in range(runs)]
    opts = [optimizer(net.params, run) for run, net in enumerate(nets)]
    generators = None
    if options.get("batch_size") is not None:
        generators = [Generator(100 + run) for run in range(runs)]
    histories = refnet.ensemble(
        nets, loss, opts, inputs, targets, iterations=40, generators=generators, **{"batch_size": None, **options}
    )
    for run in (0, runs // 2, runs - 1):
        net = make(Generator(run))
        history = refnet.fit(
            *(net, loss, optimizer(net.params, run), inputs, targets),
            **{"batch_size": None, **options},
            iterations=40,
            generator=Generator(100 + run),
            capture=False,
        )
        assert history.loss.tobytes() == histories[run].loss.tobytes()
        for name, P in net.params.items():
            assert P.tobytes() == nets[run].params[name].tobytes()
            if "record" in options:
                assert history.weights[name].tobytes() == histories[run].weights[name].tobytes()
    return histories[0]


def rates(params, run):
    return optim.SGD(params, lr=0.1 + 0.01 * run)


def one_rate(params, _):
    return optim.SGD(params, lr=0.125)


def momentum(params, run):
    return optim.SGD(params, lr=0.01 * run, momentum=0.9, nesterov=True)


def adam(params, _):
    return optim.Adam(params, lr=0.01)


@pytest.mark.parametrize("optimizer", [rates, one_rate, momentum, adam])
@pytest.mark.parametrize("batch_size", [1, 2])
def test_many_lie_innermost(optimizer, batch_size, laid_out):
    history = train(perceptron, nn.MSELoss(), optimizer, 20, batch_size=batch_size)
    assert (history.why_plain, history.why_not_native) == ("", "")
    assert [here for _, here in laid_out] == [True]


@pytest.mark.parametrize("optimizer", [rates, one_rate])
def test_one_batch_that_all_see_recorded_rates_and_float32(optimizer, laid_out):
    record = {"record": (0, 3, 7, 40)}
    assert train(perceptron, nn.MSELoss(), optimizer, 33, T[:1], X[:1], **record).why_not_native == ""
    schedule = {"lr_lambda": lambda update: 1 / (1 + update)}
    assert train(perceptron, nn.MSELoss(), optimizer, 33, T[:2], X[:2], **schedule).why_not_native == ""
    few = (T[:2].astype(np.float32), X[:2].astype(np.float32))
    single = train(lambda generator: perceptron(generator, np.float32), nn.MSELoss(), optimizer, 16, *few)
    assert single.why_not_native == ""
    assert all(here for _, here in laid_out)


def test_what_cannot_lie_so_lies_as_it_did(laid_out):
    classes = {"targets": T.argmax(axis=1)}
    for make, loss, runs, options in (
        (perceptron, nn.MSELoss(), innermost.LEAST - 1, {}),
        (perceptron, nn.MSELoss(), 20, {}),  # (its products are of 24 multiplications)
        (perceptron, nn.CrossEntropyLoss(), 20, {**classes, "batch_size": 2}),  # (has a maximum)
    ):
        laid_out.clear()
        assert train(make, loss, rates, runs, **options).why_not_native == ""
        assert [here for _, here in laid_out] == [False]


def test_layer_norm(laid_out):
    assert train(normalized, nn.MSELoss(), rates, 20, batch_size=1).why_plain == ""


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("inner", [(1,), (5,), (3, 2), (2, 4), (3, 3), (1, 17), (4, 1, 6), (2, 25), (1, 3, 1)])
def test_sums_are_in_numpys_order(inner, dtype):
    runs = innermost.LEAST + 3
    array = (DRAWS.standard_normal((runs, *inner)) * 4.0 ** DRAWS.integers(-9, 9, (runs, *inner))).astype(dtype)
    array[0] = -0.0
    for count in range(1, len(inner) + 1):
        for axes in itertools.combinations(range(1, len(inner) + 1), count):
            recorder = Recorder()
            buffer = array.copy()
            sums = (Traced(buffer, recorder) * dtype(1.5)).sum(axis=axes)
            others = tuple(range(1, sums.ndim))
            loss = sums.sum(axis=others) if others else sums
            program = build(recorder.operations, [buffer], loss.a)
            arrays = replay.layout(program)
            layout = native.laid_out(program, arrays, runs, [buffer])
            machine = native.Machine(program, arrays, [], [], float("inf"), lambda: False, layout)
            there = layout.arrays[program.operations[1].out]
            assert there.strides[0] == there.itemsize
            loss = machine.run(1)[0]
            expected = (array * dtype(1.5)).sum(axis=axes)
            assert loss.tobytes() == (expected.sum(axis=others) if others else expected).tobytes()


def test_another_order_of_a_sum_passes_nowhere(laid_out, monkeypatch):
    true = lowering.terms
    monkeypatch.setattr(lowering, "terms", lambda *args: [row[::-1] for row in true(*args)][::-1])

    def wide(generator):
        return nn.Sequential(nn.Linear(2, 4, generator=generator), nn.Tanh())

    history = train(wide, nn.MSELoss(), rates, 20, DRAWS.random((6, 4)), batch_size=1)
    assert [here for _, here in laid_out] == [True]
    assert history.why_not_native == "the machine code gives other bits than the plain update"


def test_blocks_of_many_runs(laid_out):
    """Long enough that what one loop alone needs is in memory of one block's size."""
    runs = lowering.LONG // 2 + 3
    assert train(perceptron, nn.MSELoss(), momentum, runs, T[:1], X[:1]).why_not_native == ""
    ((machine, here),) = laid_out
    assert here
    assert sum(function == translator.functions()[0]["blocks"] for function in machine.table[:, 0]) > 1


def test_a_number_that_is_not_stored_and_yet_read_passes_nowhere(laid_out, monkeypatch):
    """What the replay has left in the same memory must not be found there."""

    def inside(works, spans):
        roots = {root for work in works for root in work.roots if root is not None}
        return {root for root in roots if works[0].number <= spans[root].first}

    monkeypatch.setattr(block_memory, "inside", inside)

    def make(generator):
        return nn.Sequential(nn.Linear(2, 3, generator=generator), nn.RMSNorm(3), nn.Linear(3, 2, generator=generator))

    assert train(make, nn.MSELoss(), rates, 3, T[:1], X[:1]).why_not_native == (
        "the machine code gives other bits than the plain update"
    )
