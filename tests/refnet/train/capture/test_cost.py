"""What capturing costs: it is bounded, whatever a training is like.

Times depend on the machine; what is counted here does not: what is translated, how often, and what is kept.
"""

import gc
import itertools
import re
import signal
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import numpy as np
import pytest
from twice import T, X, assert_same_bits, linear, standing, start

import refnet
from refnet import nn, optim
from refnet.train.capture import captured, comparison, native, program, recorder
from refnet.train.capture.native import lowering, translator

pytest.importorskip("llvmlite")


def deep(depth, width=4):
    return lambda: [layer for seed in range(depth) for layer in (linear(width, width, seed), nn.Tanh())]


@pytest.fixture
def kernels(monkeypatch, do_updates):
    """The texts of the kernels that were translated."""
    do_updates("as machine code")
    texts, compiled = [], translator.compiled
    monkeypatch.setattr(translator, "_known", {})

    def counted(source):
        texts.extend(re.findall(r"define void @k\w{64}\(", source))
        return compiled(source)

    monkeypatch.setattr(translator, "compiled", counted)
    return texts


def test_equal_layers_are_translated_once(kernels):
    counts = []
    for depth in (3, 4, 30):
        translator._known.clear()
        kernels.clear()
        make = start(deep(depth), targets=X, lr=0.01)
        assert assert_same_bits(make, iterations=6, record=False).why_not_native == ""
        counts.append(len(kernels))
    assert counts[0] == counts[1] == counts[2] < 30


def test_a_second_training_translates_nothing(kernels):
    for _ in range(2):
        kernels.clear()
        assert assert_same_bits(start(momentum=0.9), iterations=6, record=False).why_not_native == ""
    assert kernels == []


def test_translation_stops_when_it_takes_longer_than_it_is_worth(kernels):
    texts = [f"; {number}\ndefine void @kernel() {{ ret void }}" for number in range(40)]
    with pytest.raises(native.NotNative, match="takes too long"):
        translator.translated(texts, 0.0, lambda: False)
    assert len(kernels) <= translator.AT_ONCE


def test_translation_is_not_stopped_because_others_use_the_processor(kernels, monkeypatch):
    """Its budget is time of the processor in its own thread: while it waits, none of it is used up."""
    texts = [f"; {number}\ndefine void @kernel() {{ ret void }}" for number in range(40)]
    clocks = SimpleNamespace(thread_time=lambda: 0.0, perf_counter=itertools.count().__next__)
    monkeypatch.setattr(translator, "time", clocks)
    assert len(translator.translated(texts, 0.5, lambda: False)) == len(kernels) == 40


STAGES = {
    "recording": (recorder.Recorder, "note"),
    "simplifying": (program.Program, "moved"),
    "lowering": (lowering.Lowering, "operation"),
    "translating": (translator, "compiled"),
    "trying": (comparison.Comparison, "_compare"),
}


@pytest.mark.parametrize("stage", STAGES)
def test_an_interrupt_ends_what_is_done_beside_the_update(stage, kernels, monkeypatch):
    """It is heeded before the next operation, piece or trial; the update is done, and then it is handed on."""
    owner, name = STAGES[stage]
    true, seen = getattr(owner, name), []

    def interrupting(*args, **options):
        seen.append(1)
        if len(seen) == 1:
            signal.raise_signal(signal.SIGINT)
        return true(*args, **options)

    begin, twin = start(deep(6), targets=X)(), start(deep(6), targets=X)()
    monkeypatch.setattr(owner, name, interrupting)
    with pytest.raises(KeyboardInterrupt):
        refnet.fit(begin.net, begin.loss, begin.opt, X, X, iterations=500, batch_size=4, generator=begin.generator)
    assert len(seen) <= 2
    monkeypatch.undo()
    refnet.fit(twin.net, twin.loss, twin.opt, X, X, iterations=2, batch_size=4, generator=twin.generator, capture=False)
    assert standing(begin) == standing(twin)


def test_after_an_interrupt_that_is_only_noted_updates_are_captured(kernels, monkeypatch):
    begin, noted = start(deep(6), targets=X)(), []
    before = signal.signal(signal.SIGINT, lambda *_: noted.append(1))
    true = lowering.Lowering.operation

    def interrupting(*args):
        if not noted:
            signal.raise_signal(signal.SIGINT)
        return true(*args)

    monkeypatch.setattr(lowering.Lowering, "operation", interrupting)
    run, many = native.Machine.run, []
    monkeypatch.setattr(native.Machine, "run", lambda self, k, *args: many.append(k) or run(self, k, *args))
    try:
        history = refnet.fit(begin.net, begin.loss, begin.opt, X, X, iterations=50, batch_size=4)
    finally:
        signal.signal(signal.SIGINT, before)
    assert noted == [1]
    assert [k for k in many if k > 1]
    assert (history.why_plain, history.why_not_native) == ("", "")


def test_what_is_translated_is_small():
    """Nothing interrupts the translation of a piece: so it has a few kernels, and a kernel has few lines."""
    assert translator.AT_ONCE <= 8


def test_kernels_are_kept_and_let_go(monkeypatch):
    monkeypatch.setattr(translator, "_known", {})
    monkeypatch.setattr(translator, "KEPT", 8)
    texts = [f"; {number}\ndefine void @kernel() {{ ret void }}" for number in range(40)]
    for first in range(0, 40, 5):
        found = translator.translated(texts[first : first + 5], float("inf"), lambda: False)
        assert sorted(found) == sorted(texts[first : first + 5])
    assert list(translator._known) == texts[-8:]
    gc.collect()
    assert found[texts[-1]][0]


def test_memory_is_flat_over_many_trainings():
    """In a process of its own, whose memory nothing else grows. Every fit once left 0.35 to 1 MB behind."""
    code = """
        import gc, numpy as np, refnet
        from refnet import nn, optim
        from refnet.train.capture import captured
        captured.PAID_BACK, captured.SHORT = float("inf"), 0

        def resident():
            gc.collect()
            with open("/proc/self/statm") as file:
                return int(file.read().split()[1]) * 4096

        X, T = np.ones((8, 3)), np.ones((8, 2))
        for k in range(140):
            net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
            history = refnet.fit(net, nn.MSELoss(), optim.SGD(net.params, lr=0.1), X, T, batch_size=4, iterations=4)
            assert history.why_not_native == ""
            if k == 40:
                before = resident()
        print(resident() - before)
    """
    if not sys.platform.startswith("linux"):
        pytest.skip("the memory of a process is read from /proc")
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 100 * 100_000


def test_batches_of_a_rare_size_are_plain_among_captured_ones(monkeypatch):
    recorded, record = [], captured.record
    monkeypatch.setattr(captured, "record", lambda *args: recorded.append(len(args[3])) or record(*args))
    how = {"batch_size": 3, "iterations": 180, "record": False}
    assert_same_bits(start(momentum=0.9), **how)
    assert recorded == [3]
    monkeypatch.setattr(captured, "SHORT", 20)
    assert_same_bits(start(momentum=0.9), **how)
    assert recorded == [3, 3, 2]


def test_a_long_update_is_captured_in_a_short_training(monkeypatch):
    monkeypatch.setattr(captured, "RECORDING", 0.0)
    begin = start()()
    history = refnet.fit(begin.net, begin.loss, begin.opt, X, T, iterations=captured.SHORT // 2)
    assert history.why_plain == ""
    monkeypatch.setattr(captured, "RECORDING", float("inf"))
    history = refnet.fit(begin.net, begin.loss, begin.opt, X, T, iterations=captured.SHORT // 2)
    assert history.why_plain == f"a record pays only beyond {captured.SHORT} updates"


def test_recording_takes_nothing_along(do_updates):
    """Weights that are recorded after every update are those of the plain training; nothing is looked at again."""
    do_updates("as machine code")
    resumed, resume = [], captured.Captured.resume
    captured.Captured.resume = lambda self: resumed.append(1) or resume(self)
    try:
        assert_same_bits(start(momentum=0.9), record=True)
    finally:
        captured.Captured.resume = resume
    assert resumed == []


def test_the_optimizers_schema_says_when_its_state_is_whole(way):
    """State that comes after the second step is there before an update is recorded."""

    class Entry:
        since = 3

    class Late(optim.SGD):
        capturable = True
        schema = (Entry,)

        def step(self, grads):
            super().step(grads)
            for name, P in self.param_groups[0]["params"].items():
                kept = self.state.setdefault(name, {})
                kept.setdefault("t", np.zeros(()))
                if len(kept) == 1 and kept["t"] == 2:
                    kept["late"] = P * 0
                if "late" in kept:
                    kept["late"][...] = kept["late"] + P
                else:
                    kept["t"][...] = kept["t"] + 1

    def make():
        begin = start()()
        begin.opt = Late(begin.net.params, lr=0.1)
        return begin

    assert_same_bits(make)
