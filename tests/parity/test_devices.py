"""What is on an accelerator is judged where it comes from. Skipped where there is none."""

import runpy
import warnings
from pathlib import Path

import pytest

import parity
from parity.engines import loading
from parity.families.listing import catalogue
from parity.run import judging

torch = pytest.importorskip("torch")
F = torch.nn.functional

pytestmark = pytest.mark.device


@pytest.fixture(params=["cuda", "mps"])
def device(request):
    there = torch.cuda.is_available() if request.param == "cuda" else torch.backends.mps.is_available()
    if not there:
        pytest.skip(f"torch finds no {request.param} device here")
    torch.manual_seed(0)
    # In TF32 the factors of a product have 11 bits, which nobody declares here.
    torch.backends.cuda.matmul.allow_tf32 = False
    with warnings.catch_warnings():
        # torch says once that the thread of the backward pass had no context yet.
        warnings.filterwarnings("ignore", "Attempting to run cuBLAS", UserWarning)
        w = torch.ones(2, 2, device=request.param, requires_grad=True)
        (w @ w).sum().backward()
    return request.param


@pytest.fixture
def arrays(device):
    return [torch.randn(shape).to(device) for shape in ((4, 5), (3, 5), (3,))]


def test_a_function_swept(arrays):
    report = parity.check(F.linear, "linear", *arrays, sweep=True, tile=4)
    assert report.ok, report
    assert all(x.grad is None for x in arrays)


def test_bfloat16(arrays):
    x = arrays[0].bfloat16()
    report = parity.check(F.relu, "relu", x)
    assert report.ok, report


def test_a_mistake_and_its_program(device, arrays):
    class Dense(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, w, b):
            ctx.save_for_backward(x, w)
            return x @ w.T + b

        @staticmethod
        def backward(ctx, g):
            x, w = ctx.saved_tensors
            return g @ w, g.T @ x, g.mean(0)

    report = parity.check(Dense.apply, "linear", *arrays)
    assert report["grad.bias"].verdict == "FAIL"
    assert f"device='{device}" in report.script


def test_modules(device, arrays):
    module = torch.nn.Sequential(torch.nn.Linear(5, 3), torch.nn.Tanh()).to(device)
    report = parity.check(module, arrays[0], sweep=True)
    assert report.ok, report


def test_an_output_left_on_the_processor(arrays):
    report = parity.check(lambda x, w, b: F.linear(x, w, b).cpu(), "linear", *arrays)
    assert "as the inputs are, got one on cpu" in report["call"].reason


def test_kernels_of_triton(device, capsys):
    pytest.importorskip("triton")
    if device != "cuda":
        pytest.skip("the example asks for cuda")
    example = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "triton_layer_norm.py"))
    assert example["main"]([]) == 0
    assert capsys.readouterr().out.startswith("ok: ")
    assert example["main"](["--mistake"]) == 1
    assert "axis of 16 with 17: output" in capsys.readouterr().out


def test_tf32_is_named_where_nobody_declares_it(device, arrays):
    if device != "cuda":
        pytest.skip("TF32 is of cuda")
    x, w = (torch.randn(shape, device="cuda") for shape in ((64, 256), (64, 256)))
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        report = parity.check(F.linear, "linear", x, w)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False
    assert {v.verdict for v in report.verdicts} == {"imprecise"}
    assert {v.formula for v in report.verdicts} == {"products of 11 bits"}
    assert parity.check(F.linear, "linear", x, w).ok


def test_an_optimizer(arrays):
    report = parity.check_update(torch.optim.SGD, "SGD", arrays, lr=0.1, momentum=0.9)
    assert report.ok, report


def test_the_engine(device):
    cases = [case for case in catalogue() if case.name in ("Linear/batch 3", "Tanh/moderate", "LayerNorm/batch 3")]
    for case in cases:
        (found,) = judging.judge_case(case, "full", "float32", [loading.load(f"torch:device={device}")])
        assert [v for v in found.verdicts if v.verdict == "FAIL"] == [], found
