"""Anyone's optimizer held against the truth."""

import pytest

import parity

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


def test_a_wrong_one_is_found(params):
    report = parity.check_update(Nesterov, "SGD", params, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01)
    assert {v.name for v in report.verdicts if v.verdict == "FAIL"} >= {"update.weight", "state.bias.momentum_buffer"}


def test_bad_input(params):
    with pytest.raises(parity.UsageError, match=r"expected a class of torch\.optim among .*SGD.*, got 'Sgd'"):
        parity.check_update(torch.optim.SGD, "Sgd", params, lr=0.1)
    with pytest.raises(parity.UsageError, match="expected arguments that SGD takes"):
        parity.check_update(torch.optim.SGD, "SGD", params, beta=0.1)
