"""refnet.fit against the same loop in torch, with torch's DataLoader and the same generator."""

import dataclasses
import math
import signal
import threading
from itertools import islice, product

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

import refnet
from refnet import nn, optim
from refnet.optim import lr_scheduler
from refnet.train import loop, sampler, training
from refnet.train import step as updates
from refnet.train.capture import captured

pytestmark = pytest.mark.arithmetic

N = 6
ORDERS = [
    {"batch_size": batch_size, "shuffle": shuffle, "drop_last": drop_last}
    for batch_size, shuffle, drop_last in product((1, 2, 4, 8, None), (False, True), (False, True))
]
REPLACED = [
    {"batch_size": batch_size, "shuffle": True, "drop_last": drop_last, "replacement": True}
    for batch_size, drop_last in product((1, 4, 8), (False, True))
]


def updates_per_epoch(n, order):
    size = order["batch_size"] or n
    return n // size if order["drop_last"] else -(-n // size)


def grid(seed, *shape):
    return np.random.default_rng(seed).integers(-2, 3, shape).astype(np.float64)


def full(seed, *shape, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def linear(W, b):
    layer = nn.Linear(W.shape[1], W.shape[0], dtype=W.dtype)
    layer.load_state_dict({"weight": W, "bias": b})
    return layer


def torch_linear(layer):
    twin = torch.nn.Linear(layer.in_features, layer.out_features, dtype=torch.tensor(layer.params["weight"]).dtype)
    twin.load_state_dict({name: torch.tensor(P) for name, P in layer.params.items()})
    return twin


def torch_batches(inputs, targets, order, iterations, generator):
    """`iterations` batches of the usual loop over epochs, in which whole epochs are run to the loader's end."""
    if order["batch_size"] is None:
        yield from [(inputs, targets)] * iterations
        return
    samples, how = TensorDataset(inputs, targets), dict(order)
    if how.pop("replacement", False):
        how["sampler"] = RandomSampler(samples, replacement=how.pop("shuffle"), generator=generator)
    loader = DataLoader(samples, **how, generator=generator)
    epochs, rest = divmod(iterations, len(loader))
    for _ in range(epochs):
        yield from loader
    if rest:
        yield from islice(loader, rest)


def torch_fit(net, opt, inputs, targets, order, iterations, generator):
    """The loss of each update, and each parameter before and after each update, stacked."""

    def weights():
        return {name: P.detach().numpy().copy() for name, P in net.named_parameters()}

    losses, course = [], [weights()]
    for X, T in torch_batches(torch.tensor(inputs), torch.tensor(targets), order, iterations, generator):
        opt.zero_grad()
        value = torch.nn.MSELoss()(net(X), T)
        value.backward()
        opt.step()
        losses.append(value.item())
        course.append(weights())
    return losses, {name: np.stack([there[name] for there in course]) for name in course[0]}


def build(seed=0, dtype=np.float64, **options):
    """A small network of full significands, with an optimizer; the same for the same seed."""
    g = refnet.Generator(seed)
    net = nn.Sequential(nn.Linear(2, 3, dtype=dtype, generator=g), nn.Tanh(), nn.Linear(3, 1, dtype=dtype, generator=g))
    return net, optim.SGD(net.params, **{"lr": 0.1, "momentum": 0.9} | options)


def copies(net):
    return {name: array.copy() for name, array in net.state_dict().items()}


X, T = full(1, N, 2), full(2, N, 1)


def assert_same_bits_as_torch(fit, order, iterations):
    """Integer data and weights, a rate and batches that are powers of two: every weight is exact, in any order of sums.

    So are the differences Y - T, and the loss is a mean of their squares: its terms are rounded once, their sum less
    than once a term and the mean once, and all terms have one sign.
    """
    n = 8 if order["batch_size"] in (8, None) else N
    inputs, targets = grid(1, n, 2), grid(2, n, 2)
    net = nn.Sequential(linear(grid(3, 2, 2), grid(4, 2)))
    other = torch.nn.Sequential(torch_linear(net.layers[0]))
    g, tg = refnet.Generator(5), torch.Generator().manual_seed(5)
    opt, torch_opt = optim.SGD(net.params, lr=0.125), torch.optim.SGD(other.parameters(), lr=0.125)

    history = fit(net, nn.MSELoss(), opt, inputs, targets, **order, iterations=iterations, generator=g, record=True)
    losses, weights = torch_fit(other, torch_opt, inputs, targets, order, iterations, tg)

    assert history.updates_per_epoch == updates_per_epoch(n, order)
    assert list(history.weights) == list(weights)
    for name, there in weights.items():
        np.testing.assert_array_equal(history.weights[name], there)
        np.testing.assert_array_equal(net.params[name], there[-1])
    assert history.loss.shape == (iterations,)
    roundings = 2 * (order["batch_size"] or n) + 1
    assert (abs(history.loss - losses) <= 2 * 1.01 * roundings * 2.0**-53 * history.loss).all()
    np.testing.assert_array_equal(g.get_state(), tg.get_state().numpy())
    return history


@pytest.mark.parametrize("epochs", [0, 0.5, 1, 1.5, 2])
@pytest.mark.parametrize("order", ORDERS + REPLACED, ids=str)
def test_same_bits_as_torch_on_the_grid(order, epochs):
    n = 8 if order["batch_size"] in (8, None) else N
    assert_same_bits_as_torch(refnet.fit, order, math.ceil(epochs * updates_per_epoch(n, order)))


@pytest.mark.parametrize("order", ORDERS + REPLACED, ids=str)
def test_same_bits_as_torch_on_the_grid_when_captured(order, way):
    n = 8 if order["batch_size"] in (8, None) else N
    history = assert_same_bits_as_torch(refnet.fit, order, max(2, updates_per_epoch(n, order)))
    assert history.why_plain == ""


FAULTS = {
    "epoch left open": (sampler.Order, "finish", "generator.random_raw(left)", "pass"),
    "epoch always closed": (sampler.Order, "finish", "updates % self.updates_per_epoch == 0", "True"),
    "no shuffling": (sampler.Order, "batches", "shuffle=self.shuffle", "shuffle=False"),
    "last batch dropped": (sampler.Order, "batches", "drop_last=self.drop_last", "drop_last=True"),
    "last batch kept": (sampler.Order, "batches", "drop_last=self.drop_last", "drop_last=False"),
    "nothing drawn twice": (sampler.Order, "batches", "replacement=self.replacement", "replacement=False"),
    "other generator": (sampler.Order, "batches", "generator=generator", "generator=None"),
    "end of another order": (sampler.Order, "finish", "replacement=self.replacement, ", ""),
    "targets of other samples": (updates.Update, "__call__", "self.targets[batch]", "self.targets[::-1][batch]"),
    "loss after the update": (
        *(loop, "run_updates", "value = step(next(batches))\n                    losses[done] = plain(value)"),
        "batch = next(batches)\n"
        "                    step(batch)\n"
        "                    X, T = update.inputs[batch], update.targets[batch]\n"
        "                    value = losses[done] = update.loss.forward(net.forward(X)[0], T)[0]",
    ),
    "weights before the update": (loop, "run_updates", "if (row := rows.get(done))", "if (row := rows.get(done + 1))"),
    "upstream gradient of 2": (updates.Update, "__init__", "np.ones((), first.dtype)", "2 * np.ones((), first.dtype)"),
    "no step": (updates.Update, "on", "self.opt.step(grads)", "pass"),
}


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_fault_is_seen_on_the_grid(fault, seed_fault, monkeypatch):
    owner, name, old, new = FAULTS[fault]
    seed_fault(owner, name, old, new)
    monkeypatch.setattr(training, "run_updates", loop.run_updates)
    seen = []
    for order in REPLACED if "replacement" in old else ORDERS:
        n = 8 if order["batch_size"] in (8, None) else N
        try:
            assert_same_bits_as_torch(refnet.fit, order, updates_per_epoch(n, order))
            assert_same_bits_as_torch(refnet.fit, order, updates_per_epoch(n, order) + 1)
        except AssertionError:
            seen.append(order)
    assert seen


@pytest.mark.parametrize("shuffle", [False, True])
def test_same_bits_as_torch_with_the_default_generators(shuffle):
    inputs, targets = grid(1, N, 2), grid(2, N, 2)
    net = nn.Sequential(linear(grid(3, 2, 2), grid(4, 2)))
    other = torch.nn.Sequential(torch_linear(net.layers[0]))
    order = {"batch_size": 2, "shuffle": shuffle, "drop_last": False}
    opt, torch_opt = optim.SGD(net.params, lr=0.125), torch.optim.SGD(other.parameters(), lr=0.125)
    state = refnet.generator.default_generator.get_state()
    with torch.random.fork_rng(devices=[]):
        refnet.manual_seed(7)
        torch.manual_seed(7)
        history = refnet.fit(net, nn.MSELoss(), opt, inputs, targets, batch_size=2, shuffle=shuffle, iterations=6)
        losses, _ = torch_fit(other, torch_opt, inputs, targets, order, 6, None)
    refnet.generator.default_generator.set_state(state)
    np.testing.assert_array_equal(history.loss, losses)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_each_update_is_torchs_within_rounding(dtype):
    """From each recorded state torch makes the next update, of full significands; the updates are compared.

    For Y = X W^T + b, D = Y - T and dW = 2/(n m) D^T X, over n samples, m outputs and i inputs, any order of summation
    is off by at most k u times the same expression of absolute values, where k counts the roundings between a leaf and
    the result: i + 1 for Y, 1 for D, 2 for the factor of the mean, 1 for the product with X, n - 1 for the sum over n,
    and 2 for the rate, which is rounded itself. The new weight adds u of itself. Both engines may be off, in opposite
    directions, and 1% pays for terms in u^2.
    """
    i, m, size, iterations, lr = 3, 2, 4, 40, 0.1
    inputs, targets = full(1, N, i, dtype=dtype), full(2, N, m, dtype=dtype)
    net = nn.Sequential(linear(full(3, m, i, dtype=dtype), full(4, m, dtype=dtype)))
    other = torch.nn.Sequential(torch_linear(net.layers[0]))
    opt, torch_opt = optim.SGD(net.params, lr=lr), torch.optim.SGD(other.parameters(), lr=lr)
    g, tg = refnet.Generator(5), torch.Generator().manual_seed(5)

    history = refnet.fit(
        net, nn.MSELoss(), opt, inputs, targets, batch_size=size, iterations=iterations, generator=g, record=True
    )
    order = {"batch_size": size, "shuffle": True, "drop_last": False}
    batches = torch_batches(torch.tensor(inputs), torch.tensor(targets), order, iterations, tg)

    u = float(np.finfo(dtype).eps) / 2
    for k, (batch_X, batch_T) in enumerate(batches):
        before = {name: there[k] for name, there in history.weights.items()}
        other.load_state_dict({name: torch.tensor(P) for name, P in before.items()})
        torch_opt.zero_grad()
        value = torch.nn.MSELoss()(other(batch_X), batch_T)
        value.backward()
        torch_opt.step()

        n = len(batch_X)
        x, t = abs(batch_X.numpy().astype(np.float64)), abs(batch_T.numpy().astype(np.float64))
        W, b = (abs(before[name].astype(np.float64)) for name in ("0.weight", "0.bias"))
        D = x @ W.T + b + t
        roundings = i + 1 + 1 + 2 + 1 + (n - 1) + 2
        sizes = {"0.weight": 2 / (n * m) * D.T @ x, "0.bias": 2 / (n * m) * D.sum(axis=0)}
        for name, P in other.named_parameters():
            after, theirs = history.weights[name][k + 1].astype(np.float64), P.detach().numpy().astype(np.float64)
            bound = 2 * 1.01 * u * (roundings * lr * sizes[name] + abs(after))
            assert (abs((after - before[name]) - (theirs - before[name])) <= bound).all()
            # Sighted: the bound is small beside the update, else everything would pass.
            assert bound.max() < abs(after - before[name]).max() / 10
        loss_bound = 2 * 1.01 * u * (2 * (i + 2) + 1 + n * m) * (D * D).sum() / (n * m)
        assert abs(float(history.loss[k]) - value.item()) <= loss_bound
    assert history.loss.dtype == dtype
    assert all(there.dtype == dtype for there in history.weights.values())


def test_weights_shared_by_two_layers():
    """Two updates from integers: the third would not fit in 53 bits any more."""
    layer = linear(grid(3, 2, 2), grid(4, 2))
    net = nn.Sequential(layer, nn.ReLU(), layer)
    twin = torch_linear(layer)
    other = torch.nn.Sequential(twin, torch.nn.ReLU(), twin)
    sampler = grid(1, 4, 2), grid(2, 4, 2)
    opt, torch_opt = optim.SGD(net.params, lr=0.125), torch.optim.SGD(other.parameters(), lr=0.125)
    order = {"batch_size": 2, "shuffle": True, "drop_last": False}
    g, tg = refnet.Generator(5), torch.Generator().manual_seed(5)
    history = refnet.fit(net, nn.MSELoss(), opt, *sampler, batch_size=2, iterations=2, generator=g, record=True)
    losses, weights = torch_fit(other, torch_opt, *sampler, order, 2, tg)
    np.testing.assert_array_equal(history.loss, losses)
    assert list(history.weights) == list(weights) == ["0.weight", "0.bias"]
    for name, there in weights.items():
        np.testing.assert_array_equal(history.weights[name], there)
        assert (there[1:] != there[:-1]).any()


def test_three_regimes_on_one_sample_coincide():
    courses = []
    for batch_size, shuffle in ((None, True), (1, True), (32, True), (1, False)):
        net, opt = build()
        g = refnet.Generator(1)
        courses.append(
            refnet.fit(
                net,
                nn.MSELoss(),
                opt,
                X[:1],
                T[:1],
                batch_size=batch_size,
                shuffle=shuffle,
                iterations=50,
                generator=g,
                record=True,
            )
        )
    first, *others = courses
    assert (first.loss[1:] != first.loss[:-1]).any()
    for other in others:
        np.testing.assert_array_equal(other.loss, first.loss)
        np.testing.assert_equal(other.weights, first.weights)


@pytest.mark.parametrize(
    ("batch_size", "drop_last"), [(1, False), (2, False), (4, False), (4, True), (6, False), (None, False)]
)
def test_resumes_bit_for_bit_after_whole_epochs(batch_size, drop_last, tmp_path):
    epoch = {1: 6, 2: 3, 4: 1 if drop_last else 2, 6: 1, None: 1}[batch_size]
    order = {"batch_size": batch_size, "drop_last": drop_last}
    net, opt = build()
    g = refnet.Generator(1)
    whole = refnet.fit(net, nn.MSELoss(), opt, X, T, **order, iterations=7 * epoch, generator=g)

    first, first_opt = build()
    g1 = refnet.Generator(1)
    start = refnet.fit(first, nn.MSELoss(), first_opt, X, T, **order, iterations=3 * epoch, generator=g1)
    refnet.save(first.state_dict(), tmp_path / "net.npz")
    state, draws = first_opt.state_dict(), g1.get_state()

    second, second_opt = build(seed=99, lr=5.0)
    second.load_state_dict(refnet.load(tmp_path / "net.npz"))
    second_opt.load_state_dict(state)
    g2 = refnet.Generator()
    g2.set_state(draws)
    end = refnet.fit(second, nn.MSELoss(), second_opt, X, T, **order, iterations=4 * epoch, generator=g2)

    assert start.updates_per_epoch == epoch
    np.testing.assert_array_equal(np.concatenate([start.loss, end.loss]), whole.loss)
    np.testing.assert_equal(copies(second), copies(net))
    np.testing.assert_array_equal(g2.get_state(), g.get_state())


def test_loss_is_that_of_the_batch_before_the_update():
    net, opt = build()
    loss = nn.MSELoss()
    first = loss.forward(net.forward(X)[0], T)[0]
    history = refnet.fit(net, loss, opt, X, T, batch_size=None, iterations=1)
    assert history.loss.tolist() == [first]
    assert loss.forward(net.forward(X)[0], T)[0] < first


@pytest.mark.parametrize(
    ("record", "updates"), [(False, []), (True, range(11)), (range(0, 11, 4), [0, 4, 8]), ([7, 2], [2, 7])]
)
def test_record(record, updates):
    net, opt = build()
    every = refnet.fit(
        net, nn.MSELoss(), opt, X, T, batch_size=2, iterations=10, generator=refnet.Generator(1), record=True
    )
    net, opt = build()
    some = refnet.fit(
        net, nn.MSELoss(), opt, X, T, batch_size=2, iterations=10, generator=refnet.Generator(1), record=record
    )
    assert some.recorded.tolist() == list(updates)
    assert list(some.weights) == (list(net.params) if len(updates) else [])
    for name, there in some.weights.items():
        np.testing.assert_array_equal(there, every.weights[name][list(updates)])
    np.testing.assert_array_equal(some.loss, every.loss)
    np.testing.assert_array_equal(every.weights["0.weight"][-1], net.params["0.weight"])
    assert not np.shares_memory(every.weights["0.weight"], net.params["0.weight"])


def test_callback_sees_whole_updates():
    net, opt = build()
    seen, there = [], []

    def callback(k, loss):
        seen.append((k, float(loss)))
        there.append(net.params["0.weight"].copy())
        opt.param_groups[0]["lr"] *= 0.5

    history = refnet.fit(net, nn.MSELoss(), opt, X, T, batch_size=2, iterations=5, callback=callback, record=True)
    assert seen == list(enumerate(history.loss.tolist(), 1))
    np.testing.assert_array_equal(there, history.weights["0.weight"][1:])
    assert opt.param_groups[0]["lr"] == 0.1 / 32


def test_no_iterations():
    net, opt = build()
    before, g = copies(net), refnet.Generator(3)
    history = refnet.fit(net, nn.MSELoss(), opt, X, T, iterations=0, generator=g, record=True)
    assert history.loss.shape == (0,)
    assert history.recorded.tolist() == [0]
    np.testing.assert_equal(copies(net), before)
    np.testing.assert_array_equal(g.get_state(), refnet.Generator(3).get_state())


RATES = {
    "falling": lambda k: 0.9**k,
    "warming up": lambda k: min(1, k / 5),
    "stepwise": lambda k: 0.5 ** (k // 4),
    "a numpy number": lambda k: np.cos(k / 12),
    "a float32": lambda k: np.float32(0.9**k),
}


def groups(net):
    first = {name: P for name, P in net.params.items() if name.startswith("0.")}
    second = {name: P for name, P in net.params.items() if name.startswith("2.")}
    return optim.SGD([{"params": first, "lr": 0.3}, {"params": second}], lr=0.1, momentum=0.9)


@pytest.mark.parametrize("rate", RATES)
def test_the_rates_are_those_of_torchs_lambda_lr(rate):
    net, _ = build()
    opt = groups(net)
    torch_opt = torch.optim.SGD([{"params": [torch.zeros(1)], "lr": 0.3}, {"params": [torch.zeros(1)]}], lr=0.1)
    scheduler = torch.optim.lr_scheduler.LambdaLR(torch_opt, RATES[rate])
    rates, step = [], opt.step

    def noting(grads):
        rates.append([group["lr"] for group in opt.param_groups])
        step(grads)

    opt.step = noting
    refnet.fit(net, nn.MSELoss(), opt, X, T, batch_size=2, iterations=12, lr_lambda=RATES[rate])
    for own in rates:
        assert own == [group["lr"] for group in torch_opt.param_groups]
        torch_opt.step()
        scheduler.step()
    assert len(rates) == 12
    assert [group["lr"] for group in opt.param_groups] == [0.3, 0.1]


@pytest.mark.parametrize("capture", [False, True])
@pytest.mark.parametrize("rate", RATES)
def test_a_schedule_is_a_callback_that_sets_the_rate(rate, capture, way):
    """The rate of update k + 1 is set after update k; the course has the same bits."""
    courses = []
    for scheduled in (True, False):
        net, _ = build()
        opt = groups(net)
        own = [group["lr"] for group in opt.param_groups]

        def set_rates(k, _=None, opt=opt, own=own):
            for group, lr in zip(opt.param_groups, own, strict=True):
                dict.update(group, lr=lr * RATES[rate](k))  # a group itself refuses a negative one

        if not scheduled:
            set_rates(0)
        how = {"lr_lambda": RATES[rate], "capture": capture} if scheduled else {"callback": set_rates, "capture": False}
        g = refnet.Generator(1)
        history = refnet.fit(net, nn.MSELoss(), opt, X, T, batch_size=2, iterations=40, generator=g, **how)
        assert (history.why_plain == "") == how["capture"]
        courses.append((history.loss.tolist(), {name: P.tobytes() for name, P in net.params.items()}))
    assert courses[0] == courses[1]


@pytest.mark.parametrize("capture", [False, True])
@pytest.mark.parametrize("ahead", [False, True])
def test_a_schedule_that_gives_no_number_is_refused_by_name(capture, ahead, way):
    def rate(k):
        return None if k == 3 else 0.5

    rate.capturable = ahead
    net, opt = build()
    how = {"batch_size": 2, "generator": refnet.Generator(1), "lr_lambda": rate, "capture": capture}
    with pytest.raises(TypeError, match=r"^lr_lambda: expected its value at 3 to be a number, got None"):
        refnet.fit(net, nn.MSELoss(), opt, X, T, iterations=10, **how)
    assert opt.param_groups[0]["lr"] == 0.1


@pytest.mark.parametrize("capture", [False, True])
def test_a_schedule_that_fails_leaves_the_rates_and_whole_updates(capture, way):
    def fail(k):
        if k == 3:
            raise ArithmeticError("no rate")
        return 0.5

    net, opt = build()
    how = {"batch_size": 2, "generator": refnet.Generator(1), "lr_lambda": fail, "capture": capture}
    with pytest.raises(ArithmeticError, match="no rate"):
        refnet.fit(net, nn.MSELoss(), opt, X, T, iterations=10, **how)
    assert opt.param_groups[0]["lr"] == 0.1
    whole, whole_opt = build()
    refnet.fit(
        *(whole, nn.MSELoss(), whole_opt, X, T),
        **how | {"iterations": 3, "generator": refnet.Generator(1), "capture": False},
    )
    np.testing.assert_equal(copies(net), copies(whole))


def test_the_history_says_why_updates_were_plain(monkeypatch):
    monkeypatch.setattr(captured, "PAID_BACK", -1.0)
    # However slow an update is on this machine, at this moment.
    monkeypatch.setattr(captured, "RECORDING", math.inf)
    monkeypatch.setattr(captured, "SMALL", math.inf)
    net, opt = build()
    history = refnet.fit(net, nn.MSELoss(), opt, X, T, iterations=100)
    assert (history.why_plain, history.why_not_native) == (
        *("a record pays only beyond 100 updates", "no update was captured"),
    )
    history = refnet.fit(net, nn.MSELoss(), opt, X, T, iterations=101)
    assert (history.why_plain, history.why_not_native) == ("", "machine code pays only in a longer training")
    history = refnet.fit(net, nn.MSELoss(), opt, X, T, iterations=101, capture=False)
    assert (history.why_plain, history.why_not_native) == ("capture=False", "capture=False")


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("batch_size", [None, 1, 2, 3, 4, 6, 7])
def test_batches_that_are_alike(batch_size, drop_last):
    """So many can be done in one call: none is short among them, and none fewer than there are."""
    for n in range(1, 7):
        if drop_last and (batch_size or 1) > n:
            continue
        order = sampler.Order(n, batch_size, False, False, drop_last)
        sizes = [batch.stop - batch.start for batch in islice(order.batches(refnet.Generator(0)), 30)]
        for k in range(12):
            alike = order.alike(k)
            others = [place for place in range(k, 30) if sizes[place] != sizes[k]]
            if alike is None or not others:
                assert len(set(sizes)) == 1
            else:
                assert alike == others[0] - k


def test_history_is_frozen():
    net, opt = build()
    history = refnet.fit(net, nn.MSELoss(), opt, X, T, iterations=1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        history.loss = np.zeros(1)


def test_data_are_not_written():
    inputs, targets = X.copy(), T.copy()
    inputs.flags.writeable = targets.flags.writeable = False
    for batch_size in (None, 2):
        net, opt = build()
        refnet.fit(net, nn.MSELoss(), opt, inputs, targets, batch_size=batch_size, iterations=5)


def test_parameters_outside_the_optimizer_stay():
    net, _ = build()
    before = copies(net)
    opt = optim.SGD({name: P for name, P in net.params.items() if name.startswith("2.")}, lr=0.1)
    refnet.fit(net, nn.MSELoss(), opt, X, T, iterations=5)
    for name, P in net.params.items():
        assert np.array_equal(P, before[name]) == name.startswith("0.")


def test_modules_stay_in_their_mode():
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
    net.layers[1].eval()
    refnet.fit(net, nn.MSELoss(), optim.SGD(net.params), X, T, iterations=2)
    assert [module.training for module in net.modules()] == [True, True, False, True]
    assert net.buffers["1.num_batches_tracked"] == 0


class Wrapped(nn.Module):
    """A loss that calls a function in the middle of the update of its k-th batch."""

    capturable = True

    def __init__(self, k, act):
        super().__init__()
        self.inner, self.left, self.act = nn.MSELoss(), k, act

    def forward(self, X, T):
        return self.inner.forward(X, T)

    def backward(self, dY, saved):
        self.left -= 1
        if self.left == 0:
            self.act()
        return self.inner.backward(dY, saved)


@pytest.fixture
def course():
    """Ten updates that nothing came between, and how the same training starts again."""
    net, opt = build()
    history = refnet.fit(
        net, nn.MSELoss(), opt, X, T, batch_size=2, iterations=10, generator=refnet.Generator(1), record=True
    )

    def again(loss, **more):
        net, opt = build()
        try:
            return net, refnet.fit(
                net, loss, opt, X, T, batch_size=2, iterations=10, generator=refnet.Generator(1), **more
            )
        except KeyboardInterrupt:
            return net, None

    return history, again


def assert_stands_after(net, history, k):
    for name, P in net.params.items():
        np.testing.assert_array_equal(P, history.weights[name][k])


def test_an_interrupt_waits_for_the_update(course):
    history, again = course
    handler = signal.getsignal(signal.SIGINT)
    net, finished = again(Wrapped(4, lambda: signal.raise_signal(signal.SIGINT)))
    assert finished is None
    assert_stands_after(net, history, 4)
    assert signal.getsignal(signal.SIGINT) is handler


def test_an_interrupt_in_the_midst_of_the_step_waits(course):
    history, _ = course
    net, opt = build()
    update, calls = opt.update, []

    def interrupted(*arguments):
        update(*arguments)
        calls.append(arguments)
        if len(calls) == 6:  # of four parameters an update: half of the second
            signal.raise_signal(signal.SIGINT)

    opt.update = interrupted
    with pytest.raises(KeyboardInterrupt):
        refnet.fit(net, nn.MSELoss(), opt, X, T, batch_size=2, iterations=10, generator=refnet.Generator(1))
    assert_stands_after(net, history, 2)


def test_a_second_interrupt_does_not_wait(course):
    history, again = course

    def twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("not reached")

    net, finished = again(Wrapped(4, twice))
    assert finished is None
    assert_stands_after(net, history, 3)


def test_an_interrupt_in_the_last_update_is_not_lost(course):
    history, again = course
    net, finished = again(Wrapped(10, lambda: signal.raise_signal(signal.SIGINT)))
    assert finished is None
    assert_stands_after(net, history, 10)


def test_a_handler_that_does_not_raise_lets_training_go_on(course):
    history, again = course
    calls = []
    before = signal.signal(signal.SIGINT, lambda *arguments: calls.append(arguments))
    try:
        net, finished = again(Wrapped(4, lambda: signal.raise_signal(signal.SIGINT)))
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(calls) == 1
    np.testing.assert_array_equal(finished.loss, history.loss)
    assert_stands_after(net, history, 10)


def test_trains_outside_the_main_thread(course):
    history, again = course
    done = []
    thread = threading.Thread(target=lambda: done.append(again(nn.MSELoss())))
    thread.start()
    thread.join()
    np.testing.assert_array_equal(done[0][1].loss, history.loss)


def test_an_error_in_an_update_leaves_the_last_whole_one(course):
    history, again = course

    def fail():
        raise ArithmeticError("in the fourth")

    with pytest.raises(ArithmeticError, match="in the fourth"):
        again(Wrapped(4, fail))
    stopped = []
    with pytest.raises(ArithmeticError):
        again(nn.MSELoss(), callback=lambda k, loss: stopped.append(k) or (k == 3 and fail()))
    assert stopped == [1, 2, 3]
    assert history.loss.shape == (10,)


NAN, INF = X.copy(), T.copy()
NAN[3, 1], INF[2, 0] = np.nan, -np.inf
BAD_DATA = [
    (X[:0], T[:0], {}, ValueError, r"inputs of at least one sample .* got shape \(0, 2\)"),
    (X, np.float64(1), {}, ValueError, r"targets of at least one sample .* got shape \(\)"),
    (X, T[:-1], {}, ValueError, "got 6 and 5"),
    (NAN, T, {}, ValueError, "finite values in inputs"),
    (X, INF, {}, ValueError, "finite values in targets"),
    (X.astype(np.int64), T, {}, TypeError, "Linear: expected input of dtype float32 or float64, got int64"),
    (X, T.astype(np.int64), {}, TypeError, "MSELoss: .* got int64"),
    (X.astype(np.float32), T, {}, TypeError, "float32"),
    (X, T.astype(np.float32), {}, TypeError, "float32"),
    (X, T[:, 0], {}, ValueError, r"MSELoss: .* got \(6, 1\) and \(6,\)"),
    (full(1, N, 3), T, {}, ValueError, r"Linear: expected input of shape \(..., 2\)"),
    (X, T, {"iterations": -1}, ValueError, "iterations .* got -1"),
    (X, T, {"iterations": 2.5}, ValueError, "iterations .* got 2.5"),
    (X, T, {"iterations": True}, ValueError, "fit: expected iterations .* got True"),
    (X, T, {"batch_size": 0}, ValueError, "fit: expected batch_size .* got 0"),
    (X, T, {"batch_size": 1.5}, TypeError, "fit: expected batch_size to be an integer, got 1.5"),
    (X, T, {"shuffle": "no"}, TypeError, "fit: expected shuffle to be True or False, got 'no'"),
    (X, T, {"drop_last": None}, TypeError, "fit: expected drop_last to be True or False, got None"),
    (X, T, {"capture": 1}, TypeError, "fit: expected capture to be True or False, got 1"),
    (X, T, {"frozen": None}, TypeError, "fit: expected frozen to be a list, got NoneType"),
    (X, T, {"frozen": [0]}, TypeError, r"fit: expected frozen as names in a list, got \[0\]"),
    (X.astype(object), T, {}, TypeError, "fit: expected inputs of numbers, got dtype object"),
    (X, T.astype(str), {}, TypeError, "fit: expected targets of numbers, got dtype <U"),
    ([[1.0, 2.0], [3.0]], T[:2], {}, ValueError, "fit: expected inputs that make one array, got others"),
    (X, T, {"batch_size": 7, "drop_last": True}, ValueError, "drop_last"),
    (X, T, {"replacement": True, "shuffle": False}, ValueError, "replacement with shuffle"),
    (X, T, {"generator": np.random.default_rng(0)}, TypeError, "refnet.Generator"),
    (X, T, {"record": [0, 5]}, ValueError, "record within 0 to 4, got 0 to 5"),
    (X, T, {"record": [-1]}, ValueError, "got -1 to -1"),
]


@pytest.mark.parametrize(("inputs", "targets", "more", "error", "message"), BAD_DATA)
def test_bad_arguments_leave_everything_as_it_is(inputs, targets, more, error, message):
    net, opt = build()
    before = copies(net)
    with pytest.raises(error, match=message):
        refnet.fit(net, nn.MSELoss(), opt, inputs, targets, **{"iterations": 4} | more)
    np.testing.assert_equal(copies(net), before)
    assert opt.state == {}


@pytest.mark.parametrize("name", ["0.weight", "2.bias"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_parameter_that_is_not_finite_is_named(name, value):
    net, opt = build()
    net.params[name].flat[0] = value
    with pytest.raises(ValueError, match=f"finite values in {name}, got NaN or infinity"):
        refnet.fit(net, nn.MSELoss(), opt, X, T, iterations=4)


def test_a_loss_that_is_not_one_number():
    net, opt = build()
    before = copies(net)
    with pytest.raises(ValueError, match=r"one number, got shape \(6, 1\)"):
        refnet.fit(net, nn.MSELoss(reduction="none"), opt, X, T, iterations=4)
    np.testing.assert_equal(copies(net), before)


def test_the_optimizer_of_another_network():
    net, _ = build()
    _, opt = build()
    with pytest.raises(ValueError, match=r"array 0\.weight which is not net's"):
        refnet.fit(net, nn.MSELoss(), opt, X, T, iterations=4)


def wave(k):
    return 1 + np.sin(k)


SCHEDULERS = {
    "cosine": lambda opt: lr_scheduler.CosineAnnealingLR(opt, 17, 0.01),
    "steps": lambda opt: lr_scheduler.MultiStepLR(opt, [3, 20]),
    "a function": lambda opt: lr_scheduler.LambdaLR(opt, wave),
    "a declared function": lambda opt: lr_scheduler.LambdaLR(opt, capturable(wave)),
    "below zero": lambda opt: lr_scheduler.LambdaLR(opt, capturable(lambda k: 1 - k / 10)),
    "one after the other": lambda opt: lr_scheduler.SequentialLR(
        opt, [lr_scheduler.LinearLR(opt), lr_scheduler.ExponentialLR(opt, 0.9)], [5]
    ),
    "momentum too": lambda opt: lr_scheduler.OneCycleLR(opt, 0.1, total_steps=150),
}


def capturable(function):
    def declared(k):
        return function(k)

    declared.capturable = True
    return declared


def grouped(net):
    first, *rest = net.params
    parts = [{"params": {first: net.params[first]}, "lr": 0.3}, {"params": {name: net.params[name] for name in rest}}]
    return optim.SGD(parts, lr=0.1, momentum=0.5)


@pytest.mark.parametrize("capture", [False, True])
@pytest.mark.parametrize("which", SCHEDULERS)
def test_a_scheduler_steps_after_every_update(which, capture, way):
    """The same course as a loop by hand that steps the optimizer and then the scheduler, over two calls of fit."""
    course = []
    for by_hand in (True, False):
        net, _ = build()
        opt = grouped(net)
        scheduler, g = SCHEDULERS[which](opt), refnet.Generator(1)
        how = {"batch_size": 2, "generator": g}
        if by_hand:
            how |= {"callback": lambda k, loss, scheduler=scheduler: scheduler.step(), "capture": False}
        else:
            how |= {"scheduler": scheduler, "capture": capture}
        for iterations in (40, 80):
            history = refnet.fit(net, nn.MSELoss(), opt, X, T, **how, iterations=iterations)
        if not by_hand:
            assert (history.why_plain == "") == (capture and which != "momentum too")
        options = [(group["lr"], group["momentum"]) for group in opt.param_groups]
        state = {name: value for name, value in scheduler.state_dict().items() if name != "lr_lambdas"}
        course.append((options, state, {name: P.tobytes() for name, P in net.params.items()}))
    assert course[0] == course[1]


@pytest.mark.parametrize("capture", [False, True])
def test_a_scheduler_that_fails_leaves_whole_updates(capture, way):
    """As in a loop by hand: the update is done, and then the step of the scheduler fails."""
    net, opt = build()
    scheduler = lr_scheduler.OneCycleLR(opt, 0.1, total_steps=60, cycle_momentum=False)
    how = {"batch_size": 2, "capture": capture}
    with pytest.raises(ValueError, match="OneCycleLR: expected at most 60 steps"):
        refnet.fit(
            *(net, nn.MSELoss(), opt, X, T), **how, iterations=130, scheduler=scheduler, generator=refnet.Generator(1)
        )
    whole, whole_opt = build()
    other = lr_scheduler.OneCycleLR(whole_opt, 0.1, total_steps=61, cycle_momentum=False)
    other._schedule_phases, other.total_steps = scheduler._schedule_phases, 61
    refnet.fit(
        *(whole, nn.MSELoss(), whole_opt, X, T),
        **how | {"capture": False, "iterations": 61, "scheduler": other, "generator": refnet.Generator(1)},
    )
    np.testing.assert_equal(copies(net), copies(whole))
    assert scheduler.last_epoch == 60


def of_another(opt):
    return lr_scheduler.StepLR(build()[1], 3)


@pytest.mark.parametrize(
    ("scheduler", "error", "message"),
    [
        (of_another, ValueError, "fit: expected a scheduler of the optimizer opt, got one of another optimizer"),
        (lambda opt: "cosine", TypeError, "fit: expected scheduler to be one of refnet's, got str"),
        (
            lr_scheduler.ReduceLROnPlateau,
            ValueError,
            "fit: expected a scheduler that steps by itself, got ReduceLROnPl",
        ),
    ],
)
def test_a_scheduler_that_does_not_fit_is_refused(scheduler, error, message):
    net, opt = build()
    before = copies(net)
    with pytest.raises(error, match=message):
        refnet.fit(net, nn.MSELoss(), opt, X, T, iterations=5, scheduler=scheduler(opt))
    np.testing.assert_equal(copies(net), before)


def test_a_function_and_a_scheduler_are_too_many():
    net, opt = build()
    scheduler = lr_scheduler.StepLR(opt, 3)
    with pytest.raises(ValueError, match="fit: expected lr_lambda or a scheduler, got both"):
        refnet.fit(net, nn.MSELoss(), opt, X, T, iterations=5, scheduler=scheduler, lr_lambda=wave)


@pytest.mark.parametrize("capture", [False, True])
@pytest.mark.parametrize("clip_norm", [0.0, 0.3, math.inf])
def test_clipped_updates_are_those_of_a_loop_by_hand(clip_norm, capture, way):
    net, opt = build()
    how = {"batch_size": None, "iterations": 150, "clip_norm": clip_norm}
    history = refnet.fit(net, nn.MSELoss(), opt, X, T, **how, capture=capture)
    assert (history.why_plain == "") == capture
    by_hand, own = build()
    loss = nn.MSELoss()
    norms = []
    for _ in range(150):
        output, saved = by_hand.forward(X)
        (dY, _), _ = loss.backward(np.float64(1), loss.forward(output, T)[1])
        _, grads = by_hand.backward(dY, saved)
        norms.append(nn.utils.clip_grad_norm_(grads, clip_norm))
        own.step(grads)
    assert max(norms) > 0.3
    np.testing.assert_equal(copies(net), copies(by_hand))


@pytest.mark.parametrize(("clip_norm", "error"), [(-1.0, ValueError), (math.nan, ValueError), ("1", TypeError)])
def test_a_wrong_norm_to_clip_to_is_refused(clip_norm, error):
    net, opt = build()
    with pytest.raises(error, match="fit: expected clip_norm to be"):
        refnet.fit(net, nn.MSELoss(), opt, X, T, iterations=5, clip_norm=clip_norm)


def test_names_that_can_be_gone_through_once_stay_frozen():
    """An iterator was used up by the check, and all parameters moved."""
    net, opt = build()
    before = copies(net)
    refnet.fit(net, nn.MSELoss(), opt, X, T, iterations=3, frozen=iter(["0.weight"]), generator=refnet.Generator(0))
    after = copies(net)
    assert [name for name in before if np.array_equal(before[name], after[name])] == ["0.weight"]
