"""Every contender makes refnet's updates; one that does not is found out."""

import sys
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest

import refnet
from benchmarks.speed import timed_rounds
from benchmarks.speed.contenders import CONTENDERS, LIMIT, Contender, on_refnet
from benchmarks.speed.floors import FLOORS
from benchmarks.speed.initial_state import data, start
from benchmarks.speed.networks import (
    GELU,
    LSTM,
    NETWORKS,
    Encoder,
    LayerNorm,
    Linear,
    Network,
    SelfAttention,
    convolutional,
    perceptron,
)
from refnet.train.capture import captured as capturing

ONE = perceptron(3, 4, 2, batch=2)
IMAGES = convolutional(5, 2, 3, batch=2)
MANY = perceptron(2, 2, 2, batch=1, runs=3)
TURN = 1e-4

COMPILED = ("torch-compile", "torch-func-compile")
"""Compiling takes too long for a test."""


@pytest.fixture(autouse=True)
def short_studies(monkeypatch):
    on_refnet.study.cache_clear()
    monkeypatch.setattr(on_refnet, "STUDY", 150)
    yield
    on_refnet.study.cache_clear()


def named(name):
    (found,) = (contender for contender in CONTENDERS if contender.name == name)
    return found


def entered(contender, network):
    if contender.package != "refnet":
        pytest.importorskip(contender.package)
    return timed_rounds.enter(contender, network, TURN)


@pytest.mark.arithmetic
@pytest.mark.parametrize(
    ("name", "network"),
    [
        (contender.name, replace(network, dtype=dtype))
        for contender in CONTENDERS
        for network, dtype in ((ONE, "float64"), (ONE, "float32"), (IMAGES, "float64"), (MANY, "float64"))
        if contender.takes(network) and contender.compared and contender.name not in COMPILED
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value.name}-{value.dtype}",
)
def test_updates_are_refnets(name, network):
    contender = named(name)
    entry = entered(contender, network)
    if isinstance(entry, timed_rounds.Outcome):
        assert entry.status == "unsupported"
        assert (name, network) == ("sklearn", IMAGES) or "clang" in entry.reason, entry.reason
        return
    assert entry.difference <= timed_rounds.AGREEMENT[network.dtype]
    if contender.package == "refnet":
        assert entry.same_bits


def test_a_wrong_gradient_is_found(monkeypatch):
    module = pytest.importorskip("benchmarks.speed.contenders.on_torch")
    true = module.grad_and_value

    def lying(function):
        def gradient(*args):
            grads, value = true(function)(*args)
            return {**grads, "2.bias": grads["2.bias"] * (1 + 1e-6)}, value

        return gradient

    monkeypatch.setattr(module, "grad_and_value", lying)
    outcome = timed_rounds.enter(named("torch-func"), MANY, TURN)
    assert outcome.status == "not comparable"
    assert outcome.reason == "after 3 updates 2.bias differs from refnet's by 1e-06 of its change"
    assert not outcome.seconds.size


def wrong_name(weights, loss):
    weights["bias"] = weights.pop("2.bias")


def wrong_dtype(weights, loss):
    weights["2.bias"] = weights["2.bias"].astype(np.float32)


def wrong_shape(weights, loss):
    weights["2.bias"] = weights["2.bias"][:, :1]


def not_finite(weights, loss):
    weights["0.weight"][1, 0, 0] = np.nan


def one_run(weights, loss):
    weights["0.weight"][2, 0, 0] += 1e-6


def runs_exchanged(weights, loss):
    weights["0.weight"][[0, 1]] = weights["0.weight"][[1, 0]]


def nothing_moved(weights, loss):
    weights.update({name: array.copy() for name, array in start(MANY).items()})


def wrong_loss(weights, loss):
    loss[1] *= 1 + 1e-6


def loss_is_nan(weights, loss):
    loss[1] = np.nan


LIES = (
    wrong_name,
    wrong_dtype,
    wrong_shape,
    not_finite,
    one_run,
    runs_exchanged,
    nothing_moved,
    wrong_loss,
    loss_is_nan,
)


@pytest.mark.parametrize("lie", LIES)
def test_what_is_not_the_same_is_refused(lie):
    contender = named("refnet-ensemble")
    weights, loss = timed_rounds.reference(MANY, 3)
    weights, loss = {name: array.copy() for name, array in weights.items()}, loss.copy()
    assert timed_rounds.compare(contender, MANY, 3, weights, loss) == ("", 0.0, True)
    lie(weights, loss)
    reason, _, same_bits = timed_rounds.compare(contender, MANY, 3, weights, loss)
    assert reason
    assert not same_bits


def test_a_last_bit_is_no_reason_but_not_the_same():
    weights, loss = timed_rounds.reference(MANY, 3)
    weights = {name: array.copy() for name, array in weights.items()}
    weights["0.weight"][0, 0, 0] = np.nextafter(weights["0.weight"][0, 0, 0], 2)
    reason, difference, same_bits = timed_rounds.compare(named("refnet-ensemble"), MANY, 3, weights, loss)
    assert not reason
    assert 0 < difference < 1e-12
    assert not same_bits


def test_of_very_many_runs_some_are_compared():
    network = perceptron(2, 2, 2, batch=1, runs=130)
    assert timed_rounds.compared_runs(network) == list(range(0, 130, 17))
    weights, loss = timed_rounds.reference(network, 3)
    lone = on_refnet.lone(network, capture=False, run=17)
    assert lone.run(3) == loss[1]
    for name, theta in lone.weights().items():
        np.testing.assert_array_equal(weights[name][1], theta)
        assert weights[name].shape == (8, *theta.shape)


@pytest.mark.parametrize("package", sorted({c.package for c in CONTENDERS} - {"refnet", "numpy"}))
def test_a_missing_library_is_named(package, monkeypatch):
    for module in list(sys.modules):
        if module.partition(".")[0] == package or module.startswith("benchmarks.speed.contenders.on_"):
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setitem(sys.modules, f"{package}.numpy", None)
    for contender in CONTENDERS:
        if contender.package == package:
            outcome = timed_rounds.enter(contender, MANY if not contender.one else ONE, TURN)
            assert (outcome.status, outcome.reason) == ("not installed", f"no module {package}")


def broken(error):
    class Broken(Contender):
        def build(self, network):
            raise error

    return Broken("broken", "broken", "", "")


def test_what_fails_is_unsupported_and_says_why():
    outcome = timed_rounds.enter(broken(RuntimeError("no such device\nand more")), ONE, TURN)
    assert (outcome.status, outcome.reason) == ("unsupported", "RuntimeError: no such device")
    needs = broken(ModuleNotFoundError("No module named 'other'", name="other"))
    outcome = timed_rounds.enter(needs, ONE, TURN)
    assert (outcome.status, outcome.reason) == ("unsupported", "ModuleNotFoundError: No module named 'other'")


def test_plain_where_captured_was_asked_for_is_not_measured(monkeypatch):
    true = refnet.fit
    monkeypatch.setattr(refnet, "fit", lambda *args, capture, **options: true(*args, capture=False, **options))
    outcome = timed_rounds.enter(named("refnet-captured"), ONE, TURN)
    assert (outcome.status, outcome.reason) == ("unsupported", "not captured: capture=False")


def test_a_usual_training_is_machine_code_but_for_one_who_has_no_translator(monkeypatch):
    pytest.importorskip("llvmlite")
    monkeypatch.setattr(on_refnet, "STUDY", 10_000)
    monkeypatch.setattr(on_refnet, "SECONDS", 1e9)
    # (whatever a translation takes on this machine)
    monkeypatch.setattr(capturing, "PAID_BACK", float("inf"))
    captured, replayed = (named(name).build(ONE) for name in ("refnet-captured", "refnet-replayed"))
    assert captured.least == replayed.least == 10_000
    for training in (captured, replayed):
        training.run(10_000)
    assert captured.told() == "10,000 updates a call, as machine code"
    assert replayed.told() == "10,000 updates a call, replayed: machine code is left out"
    captured.run(10_000)
    assert captured.told() == "10,000 updates a call, as machine code"
    for name, weights in captured.weights().items():
        assert not np.array_equal(weights, replayed.weights()[name])
    replayed.run(10_000)
    for name, weights in captured.weights().items():
        np.testing.assert_array_equal(weights, replayed.weights()[name])


@pytest.mark.parametrize(("step", "updates"), [(1e-4, 10_000), (1e-3, 1_500), (1.0, 101)])
def test_a_study_of_a_large_network_is_shorter(step, updates, monkeypatch):
    monkeypatch.setattr(on_refnet, "STUDY", 10_000)
    monkeypatch.setattr(on_refnet, "_seconds", lambda run, updates: 0.1 + updates * step)
    assert on_refnet.study(IMAGES) == pytest.approx(updates, abs=1)


def test_names():
    names = [contender.name for contender in CONTENDERS]
    assert len(set(names)) == len(names)
    networks = [network.name for network in NETWORKS]
    assert len(set(networks)) == len(networks)
    for floor in FLOORS:
        (network,) = (network for network in NETWORKS if network.name == floor.network)
        for name in (floor.over, floor.under):
            assert named(name).takes(network)


def test_the_limit_multiplies_what_a_step_multiplies(monkeypatch):
    """Counted as it multiplies, and by hand."""
    done = []

    def matmul(A, B, out):
        done.append(A.shape[-2] * A.shape[-1] * B.shape[-1])
        return np.matmul(A, B, out)

    module = import_module("benchmarks.speed.contenders.products")
    monkeypatch.setattr(module, "np", type("Counting", (), {"matmul": matmul, "random": np.random}))
    for network, products, by_hand in (
        (perceptron(3, 4, 2, batch=5), 5, 5 * (3 * 4 * 2 + 4 * 2 * 3)),
        (convolutional(5, 2, 3, batch=2), 5, 2 * 9 * (9 * 2) * 2 + 2 * 18 * 3 * 3),
        (perceptron(2, 2, 2, batch=1, runs=3), 5, 20),
    ):
        done.clear()
        LIMIT.build(network).run(1)
        assert len(done) == products
        assert sum(done) == network.multiplications == by_hand


def test_data_and_start_are_kept():
    for network in (ONE, IMAGES, MANY):
        inputs, targets = data(network)
        assert len(inputs) == len(targets) == network.batch
        for array in (inputs, targets, *start(network).values()):
            with pytest.raises(ValueError, match="read-only"):
                array[...] = 0
    assert data(IMAGES)[1].dtype == np.int64
    assert not np.array_equal(start(MANY)["0.weight"][0], start(MANY)["0.weight"][1])


SMALL = (
    Network("lstm", (LSTM(3, 4, 2), Linear(4, 2)), 2),
    Network("norm", (Linear(3, 4), LayerNorm(4), GELU(), Linear(4, 2)), 3),
    Network("attention", (SelfAttention(4, 2, 3),), 2),
    Network("encoder", (Encoder(4, 2, 5, 3),), 2),
    replace(ONE, optimizer="Adam"),
)
"""Layers and an optimizer that not every library is timed on."""


@pytest.mark.arithmetic
@pytest.mark.parametrize("network", SMALL, ids=lambda network: f"{network.name}-{network.optimizer}")
@pytest.mark.parametrize("name", ["refnet-captured", "torch-eager", "torch-fused", "jax-loop"])
def test_further_networks_are_trained_alike(name, network):
    entry = entered(named(name), network)
    assert isinstance(entry, timed_rounds.Entry), entry.reason
    assert entry.difference <= timed_rounds.AGREEMENT[network.dtype]


def test_who_is_timed_on_basic_layers_alone_takes_no_others():
    takers = {contender.name for contender in CONTENDERS if contender.takes(SMALL[0])}
    assert {"refnet-captured", "torch-eager", "torch-compile", "jax-loop", "products"} <= takers
    assert takers.isdisjoint({"autograd", "mygrad", "sklearn", "tinygrad"})
    assert not LIMIT.takes(Network("norm", (LayerNorm(4),), 2))
