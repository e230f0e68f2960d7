"""refnet.ensemble: every run of many ends with the bits that it has alone."""

import signal

import numpy as np
import pytest

import refnet
from refnet import nn, optim
from refnet.optim import lr_scheduler
from refnet.train.capture import captured, native
from refnet.train.capture.native import translator

RUNS = 5
DRAWS = np.random.default_rng(0)
X, T, CLASSES = DRAWS.standard_normal((10, 4)), DRAWS.standard_normal((10, 3)), np.arange(10) % 3
ONE_RATE, RATES = (0.1,) * RUNS, (0.1, 0.2, 0.05, 0.3, 0.15)


def mlp(g):
    return nn.Sequential(nn.Linear(4, 3, generator=g), nn.Tanh(), nn.Linear(3, 3, generator=g))


def normed(g):
    return nn.Sequential(nn.Linear(4, 6, generator=g), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3, generator=g))


def start(net=mlp, rates=RATES, **options):
    nets = [net(refnet.Generator(seed)) for seed in range(len(rates))]
    opts = [optim.SGD(n.params, lr=rate, **options) for n, rate in zip(nets, rates, strict=True)]
    return nets, opts, [refnet.Generator(50 + seed) for seed in range(len(rates))]


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


def assert_lone_twins(make, loss=nn.MSELoss, targets=T, iterations=150, capture=True, inputs=X, **how):
    how = {"batch_size": 3, "iterations": iterations, "record": [0, 7, iterations], **how}
    nets, opts, generators = make()
    histories = refnet.ensemble(nets, loss(), opts, inputs, targets, generators=generators, capture=capture, **how)
    together = [left(*run) for run in zip(nets, opts, generators, histories, strict=True)]
    for (net, opt, generator), found in zip(zip(*make(), strict=True), together, strict=True):
        history = refnet.fit(net, loss(), opt, inputs, targets, generator=generator, capture=False, **how)
        assert found == left(net, opt, generator, history)
    assert len({run["loss"] for run in together}) == len(nets)
    return histories[0]


@pytest.mark.parametrize("how", ["plain", "replayed", "native"])
@pytest.mark.parametrize("rates", [ONE_RATE, RATES])
@pytest.mark.parametrize("batch_size", [None, 1, 3, 10])
def test_every_run_is_its_lone_twin(batch_size, rates, how, monkeypatch):
    if how == "native":
        pytest.importorskip("llvmlite")
    monkeypatch.setattr(captured, "PAID_BACK", np.inf if how == "native" else -1.0)
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
        {"clip_norm": 0.1},
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
    refused(ValueError, "batch_size to be at least 1, got 0", batch_size=0)

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


IMAGES = DRAWS.standard_normal((10, 2, 4, 5))


def of(*layers, dtype=np.float64):
    """A network from a Linear(4, 5), these layers and a Linear(5, 3)."""
    return lambda g: nn.Sequential(
        nn.Linear(4, 5, dtype=dtype, generator=g),
        *(layer() for layer in layers),
        nn.Linear(5, 3, dtype=dtype, generator=g),
    )


def convolution(**options):
    def net(g):
        conv = nn.Conv2d(2, 4, (2, 3), generator=g, **options)
        size = conv.forward(IMAGES)[0][0].size
        return nn.Sequential(conv, nn.ReLU(), nn.Flatten(), nn.Linear(size, 3, generator=g))

    return net


def shared(g):
    layer = nn.Linear(4, 4, generator=g)
    return nn.Sequential(layer, nn.Tanh(), layer, nn.Sequential(layer), nn.Linear(4, 3, generator=g))


LAYERS = {
    "Sigmoid": of(nn.Sigmoid),
    "ReLU": of(nn.ReLU),
    "Softmax": of(lambda: nn.Softmax(-1)),
    "GELU": of(nn.GELU),
    "SiLU": of(nn.SiLU),
    "ELU": of(nn.ELU),
    "Hardswish": of(nn.Hardswish),
    "PReLU of channels": of(lambda: nn.PReLU(5)),
    "SwiGLU": of(lambda: nn.SwiGLU(5, 4, generator=refnet.Generator(7))),
    "LogSoftmax": of(lambda: nn.LogSoftmax(1)),
    "Dropout evaluated": of(lambda: nn.Dropout(0.5).eval()),
    "BatchNorm evaluated": of(lambda: nn.BatchNorm1d(5).eval()),
    "BatchNorm without parameters": of(lambda: nn.BatchNorm1d(5, affine=False)),
    "BatchNorm with an average": of(lambda: nn.BatchNorm1d(5, momentum=None)),
    "shared layers": shared,
}


@pytest.mark.arithmetic
@pytest.mark.parametrize("capture", [True, False])
@pytest.mark.parametrize(
    "name", [name for name in LAYERS if name != "LogSoftmax"]
)  # which diverges here, with warnings
def test_layers(name, capture, do_updates):
    do_updates("replayed")
    for batch_size in (5, None):
        make = lambda: start(LAYERS[name], rates=(0.01, 0.02, 0.03))  # noqa: E731
        assert_lone_twins(make, iterations=8, record=[0, 7], batch_size=batch_size, capture=capture)


@pytest.mark.parametrize(
    "options",
    [{}, {"padding": 1, "stride": (1, 2), "groups": 2}, {"padding": "same", "padding_mode": "circular"}],
    ids=str,
)
def test_convolutions(options, way):
    make = lambda: start(convolution(**options))  # noqa: E731
    for batch_size in (5, 1):
        assert_lone_twins(
            make, nn.CrossEntropyLoss, CLASSES, iterations=9, record=[7], batch_size=batch_size, inputs=IMAGES
        )


POSITIVE = (T > 0).astype(np.float64)
LOSSES = {
    "L1": (nn.L1Loss, T),
    "half squared": (nn.HalfSquaredError, T),
    "probabilities": (lambda: nn.CrossEntropyLoss(label_smoothing=0.1), abs(T)),
    "ignored and smoothed": (
        lambda: nn.CrossEntropyLoss(np.array([0.5, 1, 2]), label_smoothing=0.1),
        np.where(np.arange(10) == 3, -100, CLASSES),
    ),
}


@pytest.mark.arithmetic
@pytest.mark.parametrize("name", LOSSES)
def test_losses(name, way):
    loss, targets = LOSSES[name]
    assert_lone_twins(lambda: start(rates=(0.01, 0.02, 0.03)), loss, targets, iterations=12, record=[7], batch_size=5)


@pytest.mark.arithmetic
@pytest.mark.parametrize("batch_size", [5, None])
def test_logits(batch_size, way):
    def loss():
        return nn.BCEWithLogitsLoss(np.array([1, 0.5, 2]), pos_weight=np.array(3.0))

    history = assert_lone_twins(start, loss, POSITIVE, iterations=12, record=[7], batch_size=batch_size)
    assert history.why_plain == ""


def test_probabilities(way):
    def net(g):
        return nn.Sequential(*of(nn.Tanh)(g).layers, nn.Sigmoid())

    for weight in (None, np.array([1, 0.5, 2])):
        make = lambda: start(net)  # noqa: E731
        loss = lambda weight=weight: nn.BCELoss(weight)  # noqa: E731
        assert_lone_twins(make, loss, POSITIVE, iterations=12, record=[7], batch_size=5)


@pytest.mark.arithmetic
@pytest.mark.parametrize("runs", [1, 2, 17])
def test_any_number_of_runs(runs, way):
    for options in ({}, {"momentum": 0.9, "dampening": 0.5, "maximize": True}):
        make = lambda options=options: start(rates=tuple(0.01 + 0.01 * k for k in range(runs)), **options)  # noqa: E731
        assert assert_lone_twins(make, iterations=12, record=[7]).why_plain == ""


@pytest.mark.arithmetic
def test_float32(way):
    def make():
        return start(of(nn.Tanh, dtype=np.float32), momentum=0.9)

    how = {"lr_lambda": lambda k: 0.9**k, "iterations": 20, "record": [7]}
    history = assert_lone_twins(make, targets=T.astype(np.float32), inputs=X.astype(np.float32), **how)
    assert history.loss.dtype == np.float32


def test_samples_of_several_rows(way):
    inputs, targets = DRAWS.standard_normal((10, 2, 4)), DRAWS.standard_normal((10, 2, 3))
    for batch_size in (5, None):
        assert_lone_twins(start, targets=targets, inputs=inputs, iterations=12, record=[7], batch_size=batch_size)


def test_groups_and_frozen_parameters(way):
    """A rate that agrees in one group and differs in the other; and a parameter that no optimizer holds."""

    def make():
        nets, _, generators = start()
        opts = []
        for net, rate in zip(nets, RATES, strict=True):
            first = {"params": {"0.weight": net.params["0.weight"]}, "lr": 0.1}
            second = {"params": {"2.weight": net.params["2.weight"]}, "lr": rate, "momentum": 0.5}
            opts.append(optim.SGD([first, second]))
        return nets, opts, generators

    for how in ({}, {"lr_lambda": lambda k: 0.9**k}):
        assert_lone_twins(make, iterations=30, record=[7], **how)


def test_what_a_history_holds():
    nets, opts, generators = start()
    first, *others = refnet.ensemble(
        nets, nn.MSELoss(), opts, X, T, batch_size=3, iterations=6, record=[2, 6], generators=generators
    )
    assert len(others) == RUNS - 1
    assert first.loss.shape == (6,)
    assert first.updates_per_epoch == 4
    assert first.recorded.tolist() == [2, 6]
    assert {name: there.shape for name, there in first.weights.items()} == {
        name: (2, *P.shape) for name, P in nets[0].params.items()
    }
    np.testing.assert_array_equal(first.weights["0.weight"][1], nets[0].params["0.weight"])
    assert first.why_plain == "a record pays only beyond 100 updates"


def test_the_networks_own_arrays_are_written():
    nets, opts, generators = start(normed)
    arrays = [{**net.params, **net.buffers} for net in nets]
    refnet.ensemble(nets, nn.MSELoss(), opts, X, T, batch_size=5, iterations=120, generators=generators)
    for net, opt, held in zip(nets, opts, arrays, strict=True):
        for name, array in {**net.params, **net.buffers}.items():
            assert array is held[name]
            assert type(array) is np.ndarray
        assert all(P is net.params[name] for name, P in opt.param_groups[0]["params"].items())
    assert [opt.param_groups[0]["lr"] for opt in opts] == list(RATES)
    assert int(nets[0].buffers["1.num_batches_tracked"]) == 120


def test_samples_in_their_own_order_need_a_generator_each():
    """As in `fit`, torch's DataLoader draws from it in any order: two words an epoch."""
    assert_lone_twins(start, iterations=12, record=[7], shuffle=False)
    refused(ValueError, "expected a generator for each run, got None", shuffle=False, generators=None)


def test_the_whole_set_needs_no_generator():
    nets, opts, _ = start()
    refnet.ensemble(nets, nn.MSELoss(), opts, X, T, batch_size=None, iterations=3)
    twins, twin_opts, _ = start()
    for net, twin, opt in zip(nets, twins, twin_opts, strict=True):
        refnet.fit(twin, nn.MSELoss(), opt, X, T, batch_size=None, iterations=3)
        np.testing.assert_equal(net.state_dict(), twin.state_dict())


# Errors and interrupts in the midst.


def assert_all_stand_after(nets, opts, updates, course, make=start):
    """Every run is where its lone twin is after so many updates of this course."""
    for net, opt, (twin, twin_opt, generator) in zip(nets, opts, zip(*make(), strict=True), strict=True):
        refnet.fit(twin, nn.MSELoss(), twin_opt, X, T, generator=generator, capture=False, iterations=updates, **course)
        np.testing.assert_equal(net.state_dict(), twin.state_dict())
        np.testing.assert_equal(opt.state, twin_opt.state)


@pytest.mark.parametrize("k", [0, 3, 40])
def test_an_interrupt_leaves_all_networks_after_a_whole_update(k, way):
    def schedule(update):
        if update == k:
            signal.raise_signal(signal.SIGINT)
        return 0.99**update

    def make():
        return start(momentum=0.9)

    nets, opts, generators = make()
    course = {"batch_size": 3, "lr_lambda": lambda update: 0.99**update}
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        refnet.ensemble(
            *(nets, nn.MSELoss(), opts, X, T),
            **course | {"iterations": 400, "generators": generators, "lr_lambda": schedule},
        )
    assert signal.getsignal(signal.SIGINT) is handler
    (twin, *_), (opt, *_), (generator, *_) = make()
    how = course | {"iterations": 400, "generator": generator, "record": True, "capture": False}
    weights = refnet.fit(twin, nn.MSELoss(), opt, X, T, **how).weights
    (done,) = [n for n in range(401) if all((weights[name][n] == P).all() for name, P in nets[0].params.items())]
    assert done > k if way == "as machine code" else done == k + 1
    assert_all_stand_after(nets, opts, done, course, make)


def test_an_error_in_the_midst_leaves_all_networks_after_a_whole_update(way):
    """A class that does not exist, in the fourth batch."""
    classes = CLASSES.copy()
    classes[7] = 9
    nets, opts, generators = start(momentum=0.9)
    how = {"batch_size": 2, "shuffle": False}
    with pytest.raises(ValueError, match="expected class indices from 0 to 2 or -100, got 9"):
        refnet.ensemble(nets, nn.CrossEntropyLoss(), opts, X, classes, generators=generators, iterations=120, **how)
    for net, opt, (twin, twin_opt, generator) in zip(nets, opts, zip(*start(momentum=0.9), strict=True), strict=True):
        refnet.fit(twin, nn.CrossEntropyLoss(), twin_opt, X, CLASSES, generator=generator, iterations=3, **how)
        np.testing.assert_equal(net.state_dict(), twin.state_dict())
        np.testing.assert_equal(opt.state, twin_opt.state)


# What is refused.


def test_more_bad_arguments():
    refused(
        ValueError,
        "at least one network and as many optimizers, got 0 networks",
        lambda n, o, g: (n.clear(), o.clear()),
    )
    refused(ValueError, "at least one network and as many optimizers, got 5 networks and 4", lambda n, o, g: o.pop())
    refused(ValueError, "record within 0 to 5, got 6 to 6", record=[6])
    refused(ValueError, "drop_last", batch_size=11, drop_last=True)
    refused(ValueError, "replacement with shuffle", replacement=True, shuffle=False)
    refused(TypeError, "expected a refnet.Generator", lambda n, o, g: g.__setitem__(1, np.random.default_rng(0)))
    refused(ValueError, "alike but for values and lr", lambda n, o, g: n[3].eval())
    refused(ValueError, "expected finite values in 2.weight", lambda n, o, g: n[4].params["2.weight"].fill(np.inf))

    def other_dtype(nets, opts, _):
        nets[1] = of(nn.Tanh, dtype=np.float32)(refnet.Generator(0))
        opts[1] = optim.SGD(nets[1].params, lr=0.1)

    refused(ValueError, "expected 0.weight alike in every run, got float64 .* and float32", other_dtype)

    def other_names(nets, opts, _):
        nets[1] = nn.Sequential(nn.Linear(4, 3, bias=False), nn.Tanh(), nn.Linear(3, 3))
        opts[1] = optim.SGD(nets[1].params, lr=0.1)

    refused(ValueError, "expected a parameter or buffer .* in every run", other_names)

    def frozen(nets, opts, _):
        opts[1] = optim.SGD({"0.weight": nets[1].params["0.weight"]}, lr=0.1)

    refused(ValueError, "alike but for values and lr", frozen)


def test_batches_that_were_counted_differently():
    nets, opts, generators = start(normed)
    nets[2].buffers["1.num_batches_tracked"][...] = 4
    with pytest.raises(ValueError, match=r"expected 1\.num_batches_tracked, of integers, alike in every run"):
        refnet.ensemble(nets, nn.MSELoss(), opts, X, T, generators=generators, iterations=5)


def test_state_that_the_second_optimizer_lacks():
    nets, opts, generators = start(momentum=0.9)
    refnet.fit(nets[0], nn.MSELoss(), opts[0], X, T, batch_size=None, iterations=2)
    with pytest.raises(ValueError, match="expected state of 0"):
        refnet.ensemble(nets, nn.MSELoss(), opts, X, T, generators=generators, iterations=5)


def test_state_that_the_first_optimizer_lacks():
    nets, opts, generators = start(momentum=0.9)
    refnet.fit(nets[1], nn.MSELoss(), opts[1], X, T, batch_size=None, iterations=2)
    with pytest.raises(ValueError, match="expected state of 0"):
        refnet.ensemble(nets, nn.MSELoss(), opts, X, T, generators=generators, iterations=5)


class Scale(nn.Module):
    capturable = True

    def __init__(self, by):
        super().__init__()
        self.by = by

    def forward(self, X):
        return X * self.by, None

    def backward(self, dY, saved):
        return dY * self.by, {}


class Twice(Scale):
    """What its namesake below is not."""

    capturable = True

    def forward(self, X):
        return X * 2 * self.by, None


NAMESAKE = type("Twice", (Scale,), {})


def of_two(first, second):
    """Two networks that differ in a way that is not seen in their parameters."""

    def make():
        nets = [first(refnet.Generator(0)), second(refnet.Generator(1))]
        return nets, [optim.SGD(net.params, lr=0.1) for net in nets], [refnet.Generator(50), refnet.Generator(51)]

    return make


def once_more(times):
    def net(g):
        layer, tanh = nn.Linear(4, 4, generator=g), nn.Tanh()
        return nn.Sequential(layer, tanh, *[layer] * times[0], *[tanh] * times[1], nn.Linear(4, 3, generator=g))

    return net


UNLIKE = {
    "a layer at one more place": of_two(once_more((1, 0)), once_more((0, 0))),
    "an activation at one more place": of_two(once_more((0, 1)), once_more((0, 0))),
    "a float32 of a module": of_two(of(lambda: Scale(np.float32(1))), of(lambda: Scale(np.float32(2)))),
    "an array of a module": of_two(of(lambda: Scale(np.arange(5))), of(lambda: Scale(np.ones(5)))),
    "a float of a module": of_two(of(lambda: Scale(1.0)), of(lambda: Scale(2.0))),
    "classes of one name": of_two(of(lambda: Twice(1.0)), of(lambda: NAMESAKE(1.0))),
}


@pytest.mark.parametrize("name", UNLIKE)
def test_networks_that_are_not_alike_are_refused_or_trained_as_they_are(name):
    try:
        assert_lone_twins(UNLIKE[name], iterations=5, record=[3])
    except ValueError as error:
        assert "alike" in str(error)  # noqa: PT017


@pytest.mark.parametrize("of_buffers", [True, False])
def test_two_networks_on_the_same_memory_are_refused(of_buffers):
    nets, opts, generators = start(normed)
    arrays = {**nets[1].params, **nets[1].buffers}
    for name, array in {**nets[0].params, **nets[0].buffers}.items():
        if (name in nets[0].buffers) == of_buffers:
            arrays[name] = array[...]
    nets[1].bind(arrays)
    opts[1] = optim.SGD(nets[1].params, lr=RATES[1])
    with pytest.raises(ValueError, match="arrays of their own"):
        refnet.ensemble(nets, nn.MSELoss(), opts, X, T, generators=generators, batch_size=5, iterations=5)


def test_a_layer_that_is_refused_leaves_everything_as_it_is():
    def net(g):
        return nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3, generator=g), nn.Dropout(0.5, generator=g))

    nets, opts, generators = start(net)
    before = [[array.tobytes() for array in net.state_dict().values()] for net in nets]
    with pytest.raises(TypeError, match="runs cannot share"):
        refnet.ensemble(nets, nn.MSELoss(), opts, X, T, generators=generators, batch_size=5, iterations=2)
    assert before == [[array.tobytes() for array in net.state_dict().values()] for net in nets]


def test_no_machine_code_is_no_obstacle(monkeypatch):
    def missing():
        raise native.NotNative("llvmlite is not installed")

    monkeypatch.setattr(captured, "PAID_BACK", float("inf"))
    monkeypatch.setattr(translator, "_processor", missing)
    for known in (translator.functions,):
        known.cache_clear()
    assert assert_lone_twins(start).why_not_native == "llvmlite is not installed"


@pytest.mark.parametrize("capture", [False, True])
def test_each_run_has_its_own_scheduler(capture):
    courses = []
    for together in (True, False):
        nets, opts, generators = start(rates=(0.1, 0.02, 0.05, 0.2, 0.3))
        schedulers = [lr_scheduler.CosineAnnealingLR(opt, 9 + run, 0.001) for run, opt in enumerate(opts)]
        how = {"iterations": 150, "batch_size": 2, "capture": capture}
        if together:
            refnet.ensemble(nets, nn.MSELoss(), opts, X, T, **how, generators=generators, schedulers=schedulers)
        else:
            for net, opt, scheduler, generator in zip(nets, opts, schedulers, generators, strict=True):
                refnet.fit(net, nn.MSELoss(), opt, X, T, **how, generator=generator, scheduler=scheduler)
        weights = [[P.tobytes() for P in net.params.values()] for net in nets]
        courses.append(
            (weights, [scheduler.state_dict() for scheduler in schedulers], [opt.state_dict() for opt in opts])
        )
    assert repr(courses[0]) == repr(courses[1])


def test_schedulers_that_do_not_fit():
    nets, opts, generators = start(momentum=0.5)
    for schedulers, message in (
        ([lr_scheduler.StepLR(opts[0], 3)], "ensemble: expected a scheduler for each of 5 optimizers, got 1"),
        ([lr_scheduler.StepLR(opts[0], 3) for _ in opts], "ensemble: expected a scheduler of the optimizer opt"),
        (
            [lr_scheduler.CyclicLR(opt, 0.1, 0.2) for opt in opts],
            "ensemble: expected schedulers that leave the momentum",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            refnet.ensemble(
                *(nets, nn.MSELoss(), opts, X, T), generators=generators, iterations=3, schedulers=schedulers
            )
