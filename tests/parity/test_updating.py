"""Anyone's optimizer held against the truth."""

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


@pytest.mark.parametrize("options", [{"lr": 0.1}, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_torch_is_right(params, options, dtype):
    report = parity.check_update(torch.optim.SGD, "SGD", {n: p.to(dtype) for n, p in params.items()}, **options)
    assert report.ok, report
    names = {"update.weight", "update.bias"}
    assert names <= {v.name for v in report.verdicts}


OF_TORCH = [name for name in refnet.optim.__all__ if hasattr(torch.optim, name)]


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
    assert {v.name for v in report.verdicts if v.verdict == "FAIL"} >= {"update.weight", "state.bias.momentum_buffer"}


def test_bad_input(params):
    with pytest.raises(parity.UsageError, match=r"expected a class of torch\.optim among .*SGD.*, got 'Sgd'"):
        parity.check_update(torch.optim.SGD, "Sgd", params, lr=0.1)
    with pytest.raises(parity.UsageError, match="expected arguments that SGD takes"):
        parity.check_update(torch.optim.SGD, "SGD", params, beta=0.1)
