"""Anyone's optimizer held against the truth."""

import numpy as np
import pytest

import parity
import refnet

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.arithmetic


@pytest.fixture
def params():
    torch.manual_seed(0)
    return {"weight": torch.randn(3, 4), "bias": torch.randn(3)}


class Nesterov(torch.optim.SGD):
    """One that forgets its weight decay after the first step."""

    def step(self, closure=None):
        super().step(closure)
        for group in self.param_groups:
            group["weight_decay"] = 0.0


def failing(report):
    return {v.name for v in report.verdicts if v.verdict == "FAIL"}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("SGD", {"lr": 0.1}),
        ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
        ("Adam", {"lr": 0.01, "amsgrad": True}),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_torch_is_right(params, name, options, dtype):
    given = {n: p.to(dtype) for n, p in params.items()}
    report = parity.check_update(getattr(torch.optim, name), name, given, **options)
    assert report.ok, report
    names = {"update.weight", "update.bias"}
    names |= {"state.bias.step", "state.weight.max_exp_avg_sq"} if name == "Adam" else set()
    assert names <= {v.name for v in report.verdicts}


OTHERS = ["LBFGS", "SparseAdam"]  # whose steps take no whole gradients
OF_TORCH = [name for name in refnet.optim.__all__ if hasattr(torch.optim, name) and name not in OTHERS]


@pytest.mark.parametrize("name", OF_TORCH)
def test_every_optimizer_of_torch(params, name):
    """With the state that each keeps: counters, single numbers, rows and columns."""
    given = {"weight": params["weight"].double()} if name == "Muon" else {n: p.double() for n, p in params.items()}
    options = {"ns_steps": 1} if name == "Muon" else {"momentum": 0.9} if name == "SGD" else {}
    report = parity.check_update(getattr(torch.optim, name), name, given, steps=3, lr=0.1, **options)
    assert report.ok, report
    keys = {v.name.removeprefix("state.weight.") for v in report.verdicts if v.name.startswith("state.weight.")}
    schema = getattr(refnet.optim, name).schema
    assert keys == {s.name for s in schema if s.when in (None, *options) and s.shape((3, 4)) is not None}


def test_a_wrong_one_is_found(params):
    report = parity.check_update(Nesterov, "SGD", params, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01)
    assert failing(report) >= {"update.weight", "state.bias.momentum_buffer"}


class Aliasing(torch.optim.SGD):
    """One whose momentum buffer is the gradient's own memory."""

    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                buffer = self.state[p].get("momentum_buffer")
                self.state[p]["momentum_buffer"] = p.grad if buffer is None else buffer.mul_(0.9).add_(p.grad)
                with torch.no_grad():
                    p.sub_(self.state[p]["momentum_buffer"], alpha=group["lr"])


def test_state_that_is_another_name_for_the_gradient_is_found(params):
    report = parity.check_update(Aliasing, "SGD", params, steps=3, lr=0.1, momentum=0.9)
    assert {"update.weight", "state.weight.momentum_buffer"} <= failing(report)


class DecayInPlace(torch.optim.SGD):
    """The decay is added to the gradient where it lies."""

    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                p.grad.add_(p.detach(), alpha=group["weight_decay"])
                p.data.sub_(p.grad, alpha=group["lr"])


def test_a_gradient_that_a_step_writes_into_is_told(params):
    report = parity.check_update(DecayInPlace, "SGD", params, lr=0.1, weight_decay=0.1)
    assert report.ok
    (note,) = [note for note in report.notes if "writes into" in note]
    assert note.startswith("a step writes into its gradients (weight, bias)")
    told = parity.check_update(torch.optim.SGD, "SGD", params, lr=0.1, weight_decay=0.1).notes
    assert not any("writes into" in note for note in told)


def test_a_plain_step_that_writes_into_its_gradients_is_told():
    def step(params, grads, state):
        for name, p in params.items():
            grads[name] *= 0.1
            p -= grads[name]
        return params, state

    report = parity.check_update(step, "SGD", {"w": np.ones(3)}, lr=0.1)
    assert any("writes into its gradients (w)" in note for note in report.notes)


def test_absent_gradients_and_groups(params):
    draws = torch.Generator().manual_seed(1)
    rows = [{n: torch.randn(p.shape, generator=draws) for n, p in params.items()} for _ in range(4)]
    rows[0]["bias"] = rows[2]["bias"] = None
    del rows[3]["weight"]
    groups = [(["weight"], {"weight_decay": 0.1}), (["bias"], {"lr": 0.5})]
    report = parity.check_update(torch.optim.SGD, "SGD", params, grads=rows, groups=groups, lr=0.1, momentum=0.9)
    assert report.ok, report

    class Eager(torch.optim.SGD):
        """Takes an absent gradient for zeros, so that the momentum goes on moving the parameter."""

        def step(self, closure=None):
            for group in self.param_groups:
                for p in group["params"]:
                    p.grad = torch.zeros_like(p) if p.grad is None else p.grad
            super().step(closure)

    report = parity.check_update(Eager, "SGD", params, grads=rows, groups=groups, lr=0.1, momentum=0.9)
    assert {"update.weight", "update.bias"} <= failing(report)


def heavy_ball(params, grads, state, lr=0.1, momentum=0.9, forget=False):
    """A plain function; with `forget`, one whose momentum starts anew in each step."""
    state = state or {}
    kept = {
        n: {"momentum_buffer": momentum * state[n]["momentum_buffer"] + g if n in state else g}
        for n, g in grads.items()
    }
    moved = {n: p - lr * kept[n]["momentum_buffer"] for n, p in params.items()}
    return moved, {} if forget else kept


@pytest.mark.parametrize("framework", ["numpy", "torch"])
def test_a_plain_function(params, framework):
    given = {n: p.numpy() for n, p in params.items()} if framework == "numpy" else params
    report = parity.check_update(heavy_ball, "SGD", given, lr=0.1, momentum=0.9)
    assert report.ok, report
    assert "state.weight.momentum_buffer" in report
    wrong = parity.check_update(lambda p, g, s: heavy_ball(p, g, s, forget=True), "SGD", given, lr=0.1, momentum=0.9)
    assert failing(wrong) == {"update.weight", "update.bias"}
    assert "state momentum_buffer: not judged, the optimizer has none of that name" in wrong.notes


@pytest.mark.parametrize(
    "gave", [lambda p, g, s: p, lambda p, g, s: ({}, s), lambda p, g, s: ({n: v[:1] for n, v in p.items()}, s)]
)
def test_a_plain_function_that_gives_something_else(params, gave):
    report = parity.check_update(gave, "SGD", params, lr=0.1)
    assert report["step"].reason.startswith("raised TypeError: expected ")


@pytest.mark.parametrize("nesterov", [False, True])
def test_optax(params, nesterov):
    optax, jax = pytest.importorskip("optax"), pytest.importorskip("jax")
    given = {n: jax.numpy.asarray(p.numpy()) for n, p in params.items()}
    options = {"momentum": 0.9, "nesterov": nesterov}
    report = parity.check_update(optax.sgd(0.1, **options), "SGD", given, lr=0.1, **options)
    assert report.ok, report
    assert "state.weight.momentum_buffer" in report
    other = parity.check_update(optax.sgd(0.1, **options), "SGD", given, lr=0.1, momentum=0.8, nesterov=nesterov)
    assert failing(other) == set(other)


@pytest.mark.parametrize(
    ("amsgrad", "verdict", "formula"),
    [
        (False, "unstable", "1 - beta ** t in the parameter's format"),
        (True, "convention", "the largest corrected v"),
    ],
)
def test_optax_by_its_own_formulas(params, amsgrad, verdict, formula):
    optax, jax = pytest.importorskip("optax"), pytest.importorskip("jax")
    given = {n: jax.numpy.asarray(p.numpy()) for n, p in params.items()}
    make = optax.amsgrad if amsgrad else optax.adam
    # Where another test has switched binary64 on, JAX takes powers of beta in it.
    with jax.enable_x64(False):
        report = parity.check_update(make(0.01), "Adam", given, lr=0.01, amsgrad=amsgrad)
    assert report.ok, report
    assert (report["update.weight"].verdict, report["update.weight"].formula) == (verdict, formula)
    assert {"state.weight.exp_avg", "state.weight.exp_avg_sq", "state.weight.step"} <= set(report)
    # Another epsilon is a mistake.
    assert "update.weight" in failing(
        parity.check_update(make(0.01, eps=1e-3), "Adam", given, lr=0.01, amsgrad=amsgrad)
    )


def test_bad_input(params):
    def bad(says, *args, **options):
        with pytest.raises(parity.UsageError, match=says) as caught:
            parity.check_update(*args, **options)
        assert "\n" not in str(caught.value)

    bad(r"expected a class of torch\.optim among .*SGD.*, got 'Sgd'", torch.optim.SGD, "Sgd", params, lr=0.1)
    bad("expected arguments that SGD takes", torch.optim.SGD, "SGD", params, beta=0.1)
    bad("expected a class of optimizers, an optax transformation or a function, got int", 7, "SGD", params)
    bad("a function, got SGD that is made already", torch.optim.SGD(params.values(), lr=0.1), "SGD", params, lr=0.1)
    bad("expected arrays of torch, JAX or NumPy as inputs, got none", torch.optim.SGD, "SGD", {})
    bad("expected floats of one format", torch.optim.SGD, "SGD", {"a": torch.arange(3)})
    short = [{"weight": torch.zeros(3), "bias": torch.zeros(3)}]
    bad(
        r"expected a gradient of weight of float32 of \(3, 4\), got float32 of \(3,\)",
        heavy_ball,
        "SGD",
        params,
        grads=short,
    )
    bad("expected gradients of weight, bias in step 1, got 1", heavy_ball, "SGD", params, grads=[[torch.zeros(3, 4)]])
    bad("expected groups of weight, bias, each once", heavy_ball, "SGD", params, groups=[(["weight"], {})], lr=0.1)


def test_what_an_optimizer_raises(params):
    class Broken(torch.optim.SGD):
        def step(self, closure=None):
            raise np.linalg.LinAlgError("singular")

    report = parity.check_update(Broken, "SGD", params, lr=0.1)
    assert report["step"].reason == "raised LinAlgError: singular"


@pytest.mark.parametrize("name", OTHERS)
def test_an_optimizer_without_whole_gradients_is_refused(name):
    with pytest.raises(parity.UsageError, match=f"steps take whole gradients, got {name}; .*parity run -k {name}"):
        parity.check_update(getattr(torch.optim, name), name, [np.ones(2)])


class Uphill(refnet.optim.SGD):
    """One derived from refnet's, with a mistake in it."""

    def update(self, name, P, G, group):
        super().update(name, P, -G, group)


def test_refnets_optimizers_and_those_derived_from_them():
    params = {"weight": np.linspace(-1, 1, 12).reshape(3, 4), "bias": np.linspace(0.5, 1, 3)}
    groups = [(["weight"], {"momentum": 0.9}), (["bias"], {"lr": 0.5})]
    report = parity.check_update(refnet.optim.SGD, "SGD", params, groups=groups, lr=0.1)
    assert report.ok, report
    assert report["state.weight.momentum_buffer"].verdict in ("exact", "rounding")
    wrong = parity.check_update(Uphill, "SGD", params, lr=0.1)
    assert [v.name for v in wrong.verdicts if v.verdict == "FAIL"] == ["update.weight", "update.bias"]
    coupled = parity.check_update(refnet.optim.Adam, "AdamW", params, lr=0.1, weight_decay=0.1)
    assert "weight decay coupled" in str(coupled)
