"""refnet.train.capture.captured: captured updates among what comes between them.

Callbacks, errors, overflow, interrupts; when updates are captured at all, and what a replay must pass before it is
relied on. What is trained is small; test_capture goes through the rest.
"""

import math
import signal
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from twice import (
    CLASSES,
    LAYERS,
    ONES,
    Own,
    T,
    X,
    assert_same_bits,
    declared,
    linear,
    mlp,
    of_weights,
    own,
    split,
    standing,
    start,
    train,
)

import refnet
from refnet import _check, nn
from refnet.train import loop, training
from refnet.train.capture import captured, comparison, native, program, recording, storage, watch
from refnet.train.capture.native import lowering, translator

# Callbacks.


def of_rate(k, _, begin):
    begin.opt.param_groups[0]["lr"] *= 0.9


def of_momentum(k, _, begin):
    if k in (5, 11):
        begin.opt.param_groups[0]["momentum"] -= 0.25


def of_weights_in_place(k, _, begin):
    for P in begin.net.params.values():
        np.clip(P, -0.3, 0.3, out=P)


def of_the_losss_options(k, _, begin):
    if k == 5:
        begin.loss.reduction = "sum"


def of_an_early_end(k, _, begin):
    """The best weights put back, and an error to get out."""
    if k == 11:
        for P in begin.net.params.values():
            P[...] = 0.5
        raise RuntimeError("enough")


def of_state_in_place(k, _, begin):
    if k == 5:
        for state in begin.opt.state.values():
            state["momentum_buffer"][...] = 0


def of_a_loaded_network(k, _, begin):
    if k == 5:
        of_a_loaded_network.kept = {name: array.copy() for name, array in begin.net.state_dict().items()}
    if k == 9:
        begin.net.load_state_dict(of_a_loaded_network.kept)


def of_a_loaded_optimizer(k, _, begin):
    if k == 5:
        of_a_loaded_optimizer.kept = begin.opt.state_dict()
    if k == 9:
        begin.opt.load_state_dict(of_a_loaded_optimizer.kept)


def of_the_mode(k, _, begin):
    if k == 5:
        begin.net.eval()
    if k == 9:
        begin.net.train()


def of_one_modules_mode(k, _, begin):
    begin.net.layers[1].train(k % 10 > 3)


def of_a_validation(k, _, begin):
    begin.net.eval()
    begin.net.forward(X)
    begin.net.train()


def of_buffers(k, _, begin):
    begin.net.buffers["1.running_mean"][...] = 0


def of_a_further_group(k, _, begin):
    if k == 5:
        begin.opt.add_param_group({"params": {"0.weight": begin.net.params["0.weight"]}, "lr": 0.01})


def of_the_generator(k, _, begin):
    begin.generator.random_raw(3)


def of_samples(k, _, begin):
    begin.inputs *= 1.01
    begin.targets[0] = k


CALLBACKS = [
    *(of_rate, of_momentum, of_weights_in_place, of_state_in_place, of_a_loaded_network, of_a_loaded_optimizer),
    *(of_the_mode, of_one_modules_mode, of_a_validation, of_buffers, of_the_generator, of_samples),
]


@pytest.mark.parametrize("callback", CALLBACKS)
def test_callbacks_that_change_something(callback, way):
    make = start(lambda: LAYERS["BatchNorm"](np.float64), momentum=0.9)
    assert_same_bits(make, callback=callback)


def test_a_callback_that_adds_parameters(way):
    def held(params):
        return {name: P for name, P in params.items() if name != "0.weight"}

    assert_same_bits(start(groups=held, momentum=0.9), callback=of_a_further_group)


def test_a_callback_that_asks_for_momentum(way):
    def callback(k, _, begin):
        begin.opt.param_groups[0]["momentum"] = 0.9 if k >= 5 else 0

    assert_same_bits(start(), callback=callback, plain="the optimizer makes new state in later updates")


def test_changes_again_and_again(way, monkeypatch):
    """A record for every few updates does not pay."""
    monkeypatch.setattr(captured, "CHANGES", 3)

    def callback(k, _, begin):
        begin.opt.param_groups[0]["weight_decay"] = 0.01 * (k % 4)

    assert_same_bits(start(), callback=callback, plain="a callback changes the optimizer's options")
    assert_same_bits(start(), callback=lambda k, _, begin: k < 4 and callback(k, _, begin), iterations=8, record=False)


def test_a_callback_is_given_the_loss(way):
    seen = {True: [], False: []}
    for capture, there in seen.items():
        begin = start()()
        history = refnet.fit(
            *(begin.net, begin.loss, begin.opt, begin.inputs, begin.targets),
            batch_size=3,
            iterations=20,
            generator=begin.generator,
            capture=capture,
            callback=lambda k, loss, there=there: there.append((k, loss, type(loss), np.geterr()["over"])),
        )
        assert [loss for _, loss, *_ in there] == history.loss.tolist()
    assert seen[True] == seen[False]


def test_a_callback_that_fails_leaves_what_it_wrote(way):
    make = start(momentum=0.9)
    expected, _ = train(make, of_an_early_end, capture=False)
    actual, error = train(make, of_an_early_end)
    assert str(error) == "enough"
    assert [name for name in expected if actual[name] != expected[name]] == []


OPTIONS_OF_MODULES = {
    "eps": (lambda begin, value: setattr(begin.net.layers[1], "eps", value), 0.5),
    "momentum": (lambda begin, value: setattr(begin.net.layers[1], "momentum", value), 0.7),
    "smoothing": (lambda begin, value: setattr(begin.loss, "label_smoothing", value), 0.3),
    "reduction": (lambda begin, value: setattr(begin.loss, "reduction", value), "sum"),
}


@pytest.mark.parametrize("name", OPTIONS_OF_MODULES)
def test_a_callback_that_changes_a_modules_options(name, do_updates):
    do_updates("replayed")
    change, value = OPTIONS_OF_MODULES[name]
    make = start(lambda: LAYERS["BatchNorm"](np.float64), nn.CrossEntropyLoss, targets=CLASSES)
    assert_same_bits(make, callback=lambda k, _, begin: k == 5 and change(begin, value))


def test_a_callback_that_changes_the_losss_weights(way):
    def callback(k, _, begin):
        begin.loss.buffers["weight"][...] = [1 + k, 2]

    make = start(mlp, of_weights(nn.CrossEntropyLoss, np.float64, weight=[1, 2]), targets=CLASSES)
    assert_same_bits(make, callback=callback)


def test_a_callback_that_changes_the_losss_weights_for_the_whole_set(way):
    def callback(k, _, begin):
        begin.loss.buffers["weight"][...] = [1 + k, 2]

    make = start(mlp, of_weights(nn.CrossEntropyLoss, np.float64, weight=[1, 2]), targets=CLASSES)
    assert_same_bits(make, callback=callback, batch_size=None)


def test_a_callback_that_changes_the_losss_weight_without_axes(do_updates):
    def callback(k, _, begin):
        begin.loss.buffers["weight"][...] = k

    do_updates("as machine code")
    make = start(mlp, of_weights(nn.BCEWithLogitsLoss, np.float64, weight=2.0), targets=ONES)
    assert_same_bits(make, callback=callback)


def test_a_callback_that_changes_all_samples(way):
    make = start(lambda: [nn.BatchNorm1d(4), linear(4, 2, 1)])
    assert_same_bits(make, callback=of_samples, batch_size=None)


# Errors.


@pytest.mark.parametrize("normed", [False, True])
def test_a_class_out_of_range_in_a_late_batch(normed, way):
    targets = CLASSES.copy()
    targets[6] = 5
    layers = (lambda: [nn.BatchNorm1d(4), linear(4, 2, 1)]) if normed else mlp
    make = start(layers, nn.CrossEntropyLoss, targets=targets, momentum=0.9)
    error = assert_same_bits(make, batch_size=2, shuffle=False)
    assert "expected class indices from 0 to 1 or -100, got 5" in str(error)
    # Nobody sees the sample: no error, and no replay, since the check is made on all of them.
    history = assert_same_bits(make, batch_size=2, shuffle=False, iterations=3, record=False, plain="got 5")
    assert len(history.loss) == 3


@pytest.mark.parametrize("lr", [0.1, 0.3, 1.0])
def test_a_probability_out_of_range_after_a_while(lr, way):
    """Found by a check that is part of what is replayed."""
    layers = lambda: [linear(4, 5, 3), nn.BatchNorm1d(5), linear(5, 2, 1), Own(lambda _, X: X * 0.3 + 0.5)]  # noqa: E731
    error = assert_same_bits(start(layers, nn.BCELoss, targets=ONES, lr=lr), iterations=100, record=False)
    assert "BCELoss: expected input between 0 and 1, got" in str(error)


def test_a_last_batch_of_one_sample(way):
    """Too small to be normed: an error at the end of the first epoch, in an update of a new size."""
    make = start(lambda: LAYERS["BatchNorm"](np.float64), inputs=X[:7], targets=T[:7])
    error = assert_same_bits(make, batch_size=3)
    assert "expected more than 1 sample" in str(error)


def test_a_module_that_fails_now_and_then(way):
    """What it decides by cannot be recorded, so its errors come where they come."""

    def line(_, X):
        if float(abs(X).max()) > 1.8:
            raise ArithmeticError("too large")
        return X * 2

    assert isinstance(assert_same_bits(own(line), iterations=100, record=False), ArithmeticError)


# Divergence.


def diverging():
    """Slowly enough that the first updates are still finite."""
    return start(lambda: [linear(4, 5, 1), linear(5, 2, 2)], lr=0.4, momentum=0.9)


@pytest.mark.parametrize("layers", ["ReLU", "Tanh", "BatchNorm", "Softmax"])
def test_divergence_has_the_same_bits(layers, kind):
    make = start(lambda: LAYERS[layers](kind), dtype=kind, lr=30.0, momentum=0.9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        history = assert_same_bits(make, iterations=300, record=False)
    assert not np.isfinite(history.loss[-1]) or layers in ("Tanh", "BatchNorm", "Softmax")


def test_warnings_of_divergence(way):
    """Replayed, they are those of the plain updates. Machine code has none."""
    messages = {}
    for capture in (False, True):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            train(diverging(), capture=capture, iterations=100, record=False)
        messages[capture] = {str(warning.message) for warning in caught}
    assert any("overflow" in message for message in messages[False])
    assert any("invalid value" in message for message in messages[False])
    assert messages[True] == (messages[False] if way == "replayed" else set())


def test_a_warning_that_is_an_error_stops_the_training(way):
    with np.errstate(over="raise"):
        error = assert_same_bits(diverging(), iterations=100, record=False)
    assert isinstance(error, FloatingPointError)


def test_overflow_that_a_module_ignores_is_ignored_everywhere(way):
    """As the docstring of `fit` says; and outside of updates nothing is ignored."""
    make = start(lambda: [linear(4, 5, 1), nn.Sigmoid(), linear(5, 2, 2)], lr=1e300)
    seen = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(make, lambda *_: seen.append(np.geterr()["over"]), iterations=6, record=False)
    assert seen == ["warn"] * 6
    assert not any("<string>" in warning.filename and "overflow" in str(warning.message) for warning in caught)


# Interrupts.


class Watch(nn.Module):
    """Calls `act` in the middle of its k-th evaluation, replays included: the check of a value is part of them."""

    capturable = True

    def __init__(self, k, act):
        super().__init__()
        self.left, self.act = k, act

    def forward(self, X):
        _check.on_values(X, self.look)
        return X, None

    def backward(self, dY, saved):
        return dY, {}

    def look(self, array):
        self.left -= 1
        if self.left == 0:
            self.act()


def watched(k, act):
    return start(lambda: [linear(4, 5, 1), Watch(k, act), nn.BatchNorm1d(5), linear(5, 2, 2)], momentum=0.9)


def assert_stands_after_a_whole_update(left, make, **how):
    """Network and optimizer are as after some number of plain updates; returns that number."""
    after = []

    def callback(k, _, begin):
        if standing(begin) == left:
            after.append(k)

    train(make, callback, capture=False, record=False, **how)
    (done,) = after
    return done


def interrupted(make, **how):
    """What is left after a training that was interrupted."""
    begin = make()
    with pytest.raises(KeyboardInterrupt):
        refnet.fit(
            *(begin.net, begin.loss, begin.opt, begin.inputs, begin.targets),
            **{"batch_size": 4, "generator": begin.generator} | how,
        )
    return standing(begin)


@pytest.mark.parametrize(("k", "update"), [(1, 1), (2, 2), (3, 2), (4, 2), (5, 3), (13, 11), (20, 17)])
def test_an_interrupt_in_the_middle_of_a_replay_waits(k, update, do_updates, monkeypatch):
    """Checks take part in replays, not in machine code. The second update looks three times: when it is recorded, when
    that is tried, and when it is done. The eleventh is the tenth captured one and is compared: it looks twice.
    """
    do_updates("replayed")
    monkeypatch.setattr(comparison, "TRIALS", 0)
    monkeypatch.setattr(captured, "FIRST", 1)
    handler = signal.getsignal(signal.SIGINT)
    left = interrupted(watched(k, lambda: signal.raise_signal(signal.SIGINT)), iterations=25)
    assert signal.getsignal(signal.SIGINT) is handler
    assert assert_stands_after_a_whole_update(left, watched(0, None)) == update


@pytest.mark.parametrize("k", [0, 1, 2, 9, 40])
def test_an_interrupt_before_many_updates_leaves_whole_ones(k, way):
    def schedule(update):
        if update == k:
            signal.raise_signal(signal.SIGINT)
        return 0.99**update

    make = start(momentum=0.9)
    left = interrupted(make, iterations=400, lr_lambda=declared(schedule))
    done = assert_stands_after_a_whole_update(left, make, iterations=400, lr_lambda=lambda update: 0.99**update)
    assert done > k if way == "as machine code" else done == k + 1


def test_a_handler_that_does_not_raise_lets_replays_go_on(way):
    calls = []
    before = signal.signal(signal.SIGINT, lambda *_: calls.append(np.geterr()["over"]))
    try:
        for layer in (nn.Tanh, nn.Sigmoid):

            def schedule(k):
                if k in (7, 12):
                    signal.raise_signal(signal.SIGINT)
                return 0.9**k

            make = start(lambda layer=layer: [linear(4, 5, 1), layer(), linear(5, 2, 2)], momentum=0.9)
            assert_same_bits(make, lr_lambda=schedule, record=False, iterations=40)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(calls) >= 4
    assert set(calls) == {"warn"}


# When it is done at all, and what it trusts.


def test_a_short_training_is_plain(monkeypatch):
    monkeypatch.setattr(captured, "RECORDING", math.inf)  # however slow an update is on this machine, at this moment
    begin = start()()
    history = refnet.fit(begin.net, begin.loss, begin.opt, X, T, iterations=captured.SHORT)
    assert history.why_plain == "a record pays only beyond 100 updates"
    assert history.why_not_native == "no update was captured"
    # A record that costs much must pay for itself a little longer.
    most = captured.DEEP * captured.SHORT
    assert refnet.fit(begin.net, begin.loss, begin.opt, X, T, iterations=most).why_plain != ""
    assert refnet.fit(begin.net, begin.loss, begin.opt, X, T, iterations=most + 1).why_plain == ""
    monkeypatch.undo()
    assert refnet.fit(begin.net, begin.loss, begin.opt, X, T, iterations=captured.SHORT + 1).why_plain == ""


def test_machine_code_is_made_where_it_pays(monkeypatch):
    monkeypatch.setattr(translator, "loaded", lambda: True)
    monkeypatch.setattr(captured, "_saved", lambda *_: 1e-5)
    monkeypatch.setattr(translator, "missing", lambda texts: len(set(texts)))
    begin = start()()
    history = refnet.fit(begin.net, begin.loss, begin.opt, X, T, batch_size=None, iterations=200)
    assert history.why_not_native == "machine code pays only in a longer training"
    pytest.importorskip("llvmlite")
    history = refnet.fit(begin.net, begin.loss, begin.opt, X, T, batch_size=None, iterations=20_000)
    assert history.why_not_native == ""


def test_without_the_translator(do_updates, monkeypatch):
    do_updates("as machine code")

    def missing():
        raise native.NotNative("llvmlite is not installed")

    monkeypatch.setattr(translator, "_processor", missing)
    for known in (translator.functions,):
        known.cache_clear()
    assert assert_same_bits(start(momentum=0.9)).why_not_native == "llvmlite is not installed"


def test_a_program_with_a_fault_is_not_relied_on(way, monkeypatch):
    """A sum for a difference: the first replay does not do what the plain update does, and then all are plain."""
    simplify = program.simplify

    def with_a_fault(made, *args):
        simplify(made, *args)
        made.operations[-1] = replace(made.operations[-1], function=np.add)

    monkeypatch.setattr(program, "simplify", with_a_fault)
    for layers in (mlp, lambda: LAYERS["BatchNorm"](np.float64)):
        make = start(layers, momentum=0.9)
        assert_same_bits(make, plain="a replay has other bits than the plain update")


def test_machine_code_with_a_fault_is_not_relied_on(do_updates, monkeypatch):
    pytest.importorskip("llvmlite")
    do_updates("as machine code")
    done = lowering.Lowering.done

    def shortened(lowered):
        del done(lowered).calls[-2]
        return lowered

    monkeypatch.setattr(lowering.Lowering, "done", shortened)
    history = assert_same_bits(start(momentum=0.9))
    assert history.why_not_native == "the machine code gives other bits than the plain update"


FLAT = """
import sys
sys.path.append(sys.argv[1])
import tracemalloc
import numpy as np
import refnet
from refnet.train.capture import captured
from twice import T, X, start

captured.SHORT, captured.PAID_BACK = 0, float(sys.argv[2])
# As in a large program, whose table of interned strings takes megabytes when CPython makes it anew.
names = [sys.intern(f"name {k}") for k in range(60_000)]
begin, seen = start(momentum=0.9)(), []


def rate(k):
    if k in (2_000, 9_999):
        seen.append(tracemalloc.get_traced_memory()[0])
    return 1.0


tracemalloc.start()
refnet.fit(
    *(begin.net, begin.loss, begin.opt, np.repeat(X, 40, 0), np.repeat(T, 40, 0)),
    batch_size=3,
    iterations=10_000,
    generator=begin.generator,
    lr_lambda=rate,
)
print(seen[1] - seen[0])
"""


@pytest.mark.parametrize("paid_back", ["-1", "inf"])
def test_memory_is_flat(paid_back):
    """Over 10,000 updates, of which the first make the record; in a process of its own, with nothing else loaded."""
    pytest.importorskip("llvmlite")
    folder = Path(__file__).parent / "importable"
    done = subprocess.run(
        [sys.executable, "-c", FLAT, str(folder), paid_back], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 20_000


# Faults.


def by_a_callback(k, _, begin):
    of_rate(k, _, begin)
    of_momentum(k, _, begin)
    of_weights_in_place(k, _, begin)
    of_state_in_place(k, _, begin)


def scenarios():
    """What a fault must be seen by: arguments of `assert_same_bits`."""
    yield start(momentum=0.9, dtype=np.float32), {}
    normed = start(lambda: LAYERS["BatchNorm"](np.float64), momentum=0.9)
    yield normed, {"record": False, "callback": of_the_mode}
    yield normed, {"callback": by_a_callback}
    yield normed, {"callback": of_a_loaded_optimizer, "record": False}
    grouped = start(groups=split, momentum=0.9, dtype=np.float32)
    yield grouped, {"lr_lambda": declared(lambda k: 0.9**k), "record": False, "iterations": 40}
    frozen = start(groups=lambda params: {"2.weight": params["2.weight"]}, momentum=0.9)
    yield frozen, {"record": False}
    yield start(mlp, nn.CrossEntropyLoss, targets=CLASSES), {"callback": of_the_losss_options}
    yield start(momentum=0.9), {"callback": of_an_early_end}


CAPTURED_CLASS, STORAGE_CLASS = captured.Captured, storage.Storage
LOOK = (CAPTURED_CLASS, "_look", "update.net, update.loss, update.opt)")
FAULTS = {
    "network and optimizer not written back": (STORAGE_CLASS, "settle", "own[...] = home", "pass"),
    "errors ignored for good": (CAPTURED_CLASS, "_end_ignoring", "np.seterr(**self._errors)", "pass"),
    "a callback's values not taken": (STORAGE_CLASS, "leave", "home[...] = own", "pass"),
    "changes not noticed": (CAPTURED_CLASS, "resume", "self._watch.changed()", "False"),
    "rates not taken": (CAPTURED_CLASS, "read_rates", 'cell[...] = plain(group["lr"])', "pass"),
    "factors not taken": (CAPTURED_CLASS, "many", "plain(rate) for rate in", "plain(of_group[0]) for _ in"),
    "rates in another dtype": (CAPTURED_CLASS, "many", ".astype(self._rates[0].dtype)", ""),
    "modes not noticed": (*LOOK, "update.loss, update.opt)"),
    "options not noticed": (
        CAPTURED_CLASS,
        "_look",
        "update.net, update.loss, update.opt)",
        "update.net, update.loss)",
    ),
    "new arrays not noticed": (watch.Watch, "changed", " or not _same(self._values(now), values, operator.is_)", ""),
    "a trial counts": (comparison.Comparison, "_result", "self._storage.restore(before)", "pass"),
    "the record counts": (recording, "record", "storage.restore(before)", "pass"),
    "the first plain update does not count": (
        CAPTURED_CLASS,
        "_first",
        "storage.leave()\n    self._ignore_overflow()",
        "storage.away()",
    ),
    "buffers have no home": (STORAGE_CLASS, "__init__", "arrays_of(net).values()", "net.params.values()"),
    "the loss's options not noticed": (
        CAPTURED_CLASS,
        "_look",
        "update.net, update.loss, update.opt)",
        "update.net, update.opt)",
    ),
    "the optimizer itself records": (recording, "_standing_in", "copy.copy(update.opt)", "update.opt"),
    "what a callback wrote written over": (STORAGE_CLASS, "settle", "self._away = False", "pass"),
    "network not put back": (recording, "_standing_in", "net.bind(arrays)", "pass"),
    "not written back at the end": (loop, "run_updates", "finally:\n        step.settle()", "finally:\n        pass"),
    "rates not read for an update": (loop, "run_updates", "step.read_rates()", "pass"),
    "rows not stopped at": (loop, "run_updates", "*(update for update in rows if update), total", "total"),
}


OF_MANY_UPDATES = {"factors not taken", "rates in another dtype", "rows not stopped at"}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_seen(fault, do_updates, seed_fault, monkeypatch):
    do_updates("as machine code" if fault in OF_MANY_UPDATES else "replayed")
    seed_fault(*FAULTS[fault])
    monkeypatch.setattr(captured, "record", recording.record)
    monkeypatch.setattr(training, "run_updates", loop.run_updates)
    assert any(goes_wrong(make, how) for make, how in scenarios())


def goes_wrong(make, how):
    errors = np.geterr()
    try:
        assert_same_bits(make, **how)
    except Exception:
        return True
    finally:
        np.seterr(**errors)
    return False


def test_without_a_fault_nothing_is_seen(way):
    for make, how in scenarios():
        assert_same_bits(make, **how)
