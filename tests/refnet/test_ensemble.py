"""refnet.ensemble: every run of many ends with the bits that it has alone."""

import numpy as np
import pytest

import refnet
from refnet import nn, optim
from refnet.capture import native, update

RUNS = 5
DRAWS = np.random.default_rng(0)
X, T, CLASSES = DRAWS.standard_normal((10, 4)), DRAWS.standard_normal((10, 3)), np.arange(10) % 3
ONE_RATE, RATES = (0.1,) * RUNS, (0.1, 0.2, 0.05, 0.3, 0.15)


def mlp(g):
    return nn.Sequential(nn.Linear(4, 3, generator=g), nn.Tanh(), nn.Linear(3, 3, generator=g))


def normed(g):
    return nn.Sequential(nn.Linear(4, 6, generator=g), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3, generator=g))


def start(net=mlp, rates=RATES, **options):
    nets = [net(refnet.Generator(seed)) for seed in range(RUNS)]
    opts = [optim.SGD(n.params, lr=rate, **options) for n, rate in zip(nets, rates, strict=True)]
    return nets, opts, [refnet.Generator(50 + seed) for seed in range(RUNS)]


def left(net, opt, generator, history):
    """All that a training leaves behind, as bytes."""
    state = opt.state_dict()
    return {
        **{name: array.tobytes() for name, array in net.state_dict().items()},
        **{f"{name}, {key}": array.tobytes() for name, kept in state["state"].items() for key, array in kept.items()},
        "options": repr(state["param_groups"]),
        "generator": generator.get_state().tobytes(),
        "loss": history.loss.tobytes(),
        "recorded": (history.recorded.tolist(), [array.tobytes() for array in history.weights.values()]),
    }


def assert_lone_twins(make, loss=nn.MSELoss, targets=T, iterations=150, capture=True, **how):
    how = {"batch_size": 3, "iterations": iterations, "record": [0, 7, iterations], **how}
    nets, opts, generators = make()
    histories = refnet.ensemble(nets, loss(), opts, X, targets, generators=generators, capture=capture, **how)
    together = [left(*run) for run in zip(nets, opts, generators, histories, strict=True)]
    for (net, opt, generator), found in zip(zip(*make(), strict=True), together, strict=True):
        history = refnet.fit(net, loss(), opt, X, targets, generator=generator, capture=False, **how)
        assert found == left(net, opt, generator, history)
    assert len({run["loss"] for run in together}) == RUNS
    return histories[0]


@pytest.mark.parametrize("how", ["plain", "replayed", "native"])
@pytest.mark.parametrize("rates", [ONE_RATE, RATES])
@pytest.mark.parametrize("batch_size", [None, 1, 3, 10])
def test_every_run_is_its_lone_twin(batch_size, rates, how, monkeypatch):
    if how == "native":
        pytest.importorskip("llvmlite")
    monkeypatch.setattr(update, "CALL", 1.0 if how == "native" else 0.0)
    monkeypatch.setattr(update, "PASSING", 0.0)
    for options in ({}, {"momentum": 0.5, "nesterov": True, "weight_decay": 0.01}):
        history = assert_lone_twins(
            lambda options=options: start(rates=rates, **options), batch_size=batch_size, capture=how != "plain"
        )
        assert bool(history.why_plain) == (how == "plain")
        assert bool(history.why_not_native) == (how != "native")


@pytest.mark.parametrize("iterations", [20, 150])
def test_orders_schedules_losses_and_buffers(iterations):
    for how in (
        {"replacement": True},
        {"shuffle": False},
        {"drop_last": True},
        {"lr_lambda": lambda k: 1 / (1 + k / 10)},
    ):
        assert_lone_twins(start, iterations=iterations, **how)
    for loss in (nn.CrossEntropyLoss, lambda: nn.CrossEntropyLoss(np.array([0.5, 1.0, 2.0]), ignore_index=1)):
        assert_lone_twins(start, loss, CLASSES, iterations)
    assert_lone_twins(lambda: start(normed), iterations=iterations, batch_size=5)


def test_a_second_training_goes_on_with_the_state_of_the_first():
    def make():
        nets, opts, generators = start(momentum=0.9)
        for net, opt in zip(nets, opts, strict=True):
            refnet.fit(net, nn.MSELoss(), opt, X, T, batch_size=None, iterations=3)
        return nets, opts, generators

    assert_lone_twins(make)


def test_a_diverging_run_leaves_the_others_alone():
    with np.errstate(all="ignore"):
        assert_lone_twins(lambda: start(rates=(0.1, 1e6, 0.05, 0.2, 0.3)))


def refused(error, message, change=lambda nets, opts, generators: None, **how):
    nets, opts, generators = start()
    change(nets, opts, generators)
    before = [[array.tobytes() for array in net.state_dict().values()] for net in nets]
    how = {"generators": generators, "batch_size": 2, "iterations": 5, **how}
    with pytest.raises(error, match=message):
        refnet.ensemble(nets, nn.MSELoss(), opts, X, T, **how)
    assert before == [[array.tobytes() for array in net.state_dict().values()] for net in nets]


def test_bad_arguments_leave_everything_as_it_is():
    refused(ValueError, "at least one network and as many optimizers, got 4 networks", lambda n, o, g: n.pop())
    refused(ValueError, "expected 5 different generators, one a network, got 4", lambda n, o, g: g.pop())
    refused(ValueError, "expected 5 different generators", lambda n, o, g: g.__setitem__(0, g[1]))
    refused(ValueError, "expected a generator for each run, got None", generators=None)
    refused(ValueError, "optimizer on its network's params", lambda n, o, g: o.reverse())
    refused(ValueError, "expected finite values", lambda n, o, g: n[2].params["0.bias"].__setitem__(0, np.nan))
    refused(ValueError, "expected iterations to be an integer", iterations=-1)
    refused(ValueError, "batch_size to be a positive integer", batch_size=0)

    def other_make(nets, opts, _):
        nets[1] = nn.Sequential(nn.Linear(4, 3), nn.Sigmoid(), nn.Linear(3, 3))
        opts[1] = optim.SGD(nets[1].params, lr=0.1)

    refused(ValueError, "alike but for values and lr", other_make)
    refused(
        ValueError,
        "alike but for values and lr",
        lambda n, o, g: o.__setitem__(1, optim.SGD(n[1].params, lr=0.1, momentum=0.5)),
    )

    def one_network_twice(nets, opts, _):
        nets[1], opts[1] = nets[0], opts[0]

    refused(ValueError, "one array in two of them", one_network_twice)

    def other_shape(nets, opts, _):
        nets[1] = nn.Sequential(nn.Linear(4, 2), nn.Tanh(), nn.Linear(2, 3))
        opts[1] = optim.SGD(nets[1].params, lr=0.1)

    refused(ValueError, "expected 0.weight alike in every run", other_shape)


def test_a_layer_that_draws_is_refused():
    def dropping(g):
        return nn.Sequential(nn.Linear(4, 3, generator=g), nn.Dropout(0.5, generator=g))

    nets, opts, generators = start(dropping)
    with pytest.raises(TypeError, match="runs cannot share"):
        refnet.ensemble(nets, nn.MSELoss(), opts, X, T, generators=generators, iterations=2)
    refnet.ensemble([net.eval() for net in nets], nn.MSELoss(), opts, X, T, generators=generators, iterations=2)


def test_no_machine_code_is_no_obstacle(monkeypatch):
    def missing():
        raise native.NotNative("llvmlite is not installed")

    monkeypatch.setattr(update, "CALL", 1.0)
    monkeypatch.setattr(native, "_target", missing)
    assert assert_lone_twins(start).why_not_native == "llvmlite is not installed"
