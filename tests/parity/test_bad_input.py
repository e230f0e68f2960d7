"""What is not as it must be, each with one clear message: input that can't be judged, and results of another kind."""

import re
import sys

import numpy as np
import pytest

import parity

torch = pytest.importorskip("torch")
F = torch.nn.functional

X, W, B = torch.ones(4, 5) / 3, torch.ones(3, 5) / 7, torch.ones(3) / 9


def hooked(kind):
    module = torch.nn.Linear(5, 3)
    getattr(module, f"register_{kind}")(lambda *a: None)
    return module


def weight_normed():
    return torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(5, 3))


INPUT = {
    "unknown reference": ((F.softmax, "softmacs", X), {}, "got 'softmacs'; near it: softmax"),
    "another argument": (
        (F.softmax, "softmax", X),
        {"axis": -1},
        "expected arguments of softmax(input, dim), got others",
    ),
    "too few arguments": (
        (F.linear, "linear", X),
        {},
        "expected arguments of linear(input, weight, bias=None), got others",
    ),
    "a class without its parameters": (
        (F.linear, "Linear", X),
        {},
        "got others: missing a required argument: 'weight'",
    ),
    "a class's other argument": ((F.linear, "Linear", X, W), {"features": 5}, "got an unexpected keyword argument"),
    "shapes that do not fit": ((F.linear, "linear", X, W[:, :4], B), {}, "expected inputs that Linear("),
    "a number for an array": ((F.linear, "linear", X, 3, B), {}, "expected an array as weight, got int"),
    "an array for a number": (
        (F.rms_norm, "rms_norm", X, torch.ones(5)),
        {},
        "got an array of shape (5,) as normalized_shape; where your function does not take normalized_shape there, "
        "give it by name",
    ),
    "more than the reference takes": (
        (F.softmax, "softmax", X, -1, 3),
        {},
        "got others: too many positional arguments",
    ),
    "no arrays": ((F.relu, "relu"), {}, "expected arrays of torch, JAX or NumPy as inputs, got none"),
    "a list": ((F.relu, "relu", [1.0]), {}, "expected arrays of torch, JAX or NumPy as inputs, got list"),
    "a sparse tensor": ((F.relu, "relu", X.to_sparse()), {}, "expected a dense tensor as input 0, got one of layout"),
    "not a reference": ((F.relu, "qqq", X), {}, "or parity.trusted(function), as the reference"),
    "a function of torch as reference": (
        (F.relu, torch.tanh, X),
        {},
        "takes a function of a framework as parity.trusted(function)",
    ),
    "integers": (
        (F.relu, "relu", X.long()),
        {},
        "expected floats of one format in the inputs, got none; input 0 is of int64",
    ),
    "complex numbers": (
        (torch.tanh, "tanh", X.to(torch.complex64)),
        {},
        "input 0 is of complex64, judged are float64, float32, bfloat16, float16",
    ),
    "a class's name in small letters": ((F.silu, "swiglu", X), {}, "got 'swiglu'; near it: SwiGLU;"),
    "an expression of several results": (
        (F.relu, lambda x: (x, x), X),
        {},
        "got tuple; several are enclosed one by one: lambda x: f(x)[0]",
    ),
    "two formats, as kernels take them": (
        (F.linear, "linear", X.bfloat16(), W, B),
        {},
        "a function that takes several converts inside",
    ),
    "two formats": ((F.linear, "linear", X.double(), W, B), {}, "got float32 in input 1 and float64 in input 0"),
    "two frameworks": (
        (F.linear, "linear", X.numpy(), W, B),
        {},
        "expected arrays of one framework, got numpy and torch",
    ),
    "NaN": ((F.relu, "relu", X * float("nan")), {}, "expected finite values in input 0, got nan"),
    "infinity": ((F.linear, "linear", X, W / 0, B), {}, "expected finite values in input 1, got inf"),
    "meta tensors": ((F.relu, "relu", X.to("meta")), {}, "expected values in input 0, got a tensor on the meta device"),
    "a module on the meta device": (
        (torch.nn.Linear(5, 3, device="meta"), X),
        {},
        "in weight, got a tensor on the meta",
    ),
    "a forward hook": (
        (hooked("forward_hook"), X),
        {},
        "expected a Linear as torch has it, got one with forward_hooks",
    ),
    "a hook before": ((hooked("forward_pre_hook"), X), {}, "got one with forward_pre_hooks"),
    "a backward hook": ((hooked("full_backward_hook"), X), {}, "got one with backward_hooks"),
    "a hook inside": ((torch.nn.Sequential(hooked("forward_hook")), X), {}, "got one with forward_hooks"),
    "parametrizations": ((weight_normed(), X), {}, "got one with parametrizations"),
    "a class that is not covered": ((torch.nn.Fold((4, 5), (2, 2)), X), {}, "that refnet covers, got a Fold"),
    "no reference": (
        (F.relu, None, X),
        {},
        "expected a reference for a function: a name of torch.nn, or an expression",
    ),
    "no function": ((7, "relu", X), {}, "expected a function, a module or a pair of functions, got int"),
    "three functions": (
        ((F.relu,) * 3, "relu", X),
        {},
        "expected a function, a module or a pair of functions, got tuple",
    ),
    "an upstream gradient of another shape": (
        (F.relu, "relu", X),
        {"grad_output": X[:, :4]},
        "expected grad_output of shape (4, 5), got (4, 4)",
    ),
    "an unknown profile": ((F.relu, "relu", X), {"profile": "float32, sums in x87"}, "got 'x87'"),
    "another profile": ((F.relu, "relu", X), {"profile": "float64"}, "expected a profile of float32"),
}


@pytest.mark.parametrize("what", INPUT)
def test_input_that_cannot_be_judged(what):
    (fn, reference, *inputs), options, says = INPUT[what]
    with pytest.raises(parity.UsageError, match=re.escape(says)) as caught:
        parity.check(fn, reference, *inputs, **options)
    assert str(caught.value).count("\n") == 0
    assert len(str(caught.value)) < 400


def test_arrays_of_numpy_for_a_function_of_another_framework():
    with pytest.raises(parity.UsageError, match="expected arrays of torch as inputs, as the outputs are, got NumPy's"):
        parity.check(lambda x: torch.relu(torch.from_numpy(x)), "relu", X.numpy())


def test_trusting_no_function():
    with pytest.raises(parity.UsageError, match="trusted: expected a function, got int"):
        parity.trusted(7)


def function(forward, backward=lambda g, x, w: (g @ w, g.T @ x)):
    """A torch.autograd.Function of x and w."""

    class Own(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, w):
            ctx.save_for_backward(x, w)
            return forward(x, w)

        @staticmethod
        def backward(ctx, *g):
            return backward(g[0], *ctx.saved_tensors)

    return Own.apply


def right(x, w):
    return x @ w.T


RESULTS = {
    "another shape": (
        function(lambda x, w: right(x, w).T),
        "call",
        "expected 1 output of shape (4, 3), got 1 output of shape (3, 4)",
    ),
    "another dtype": (function(lambda x, w: right(x, w).double()), "output", "expected dtype float32, got float64"),
    "another device": (
        function(lambda x, w: right(x, w).to("meta")),
        "call",
        "expected an output on cpu, as the inputs are, got one on meta",
    ),
    "two outputs": (
        function(lambda x, w: (right(x, w), x.sum())),
        "call",
        "expected 1 output of shape (4, 3), got 2 outputs",
    ),
    "no array": (lambda x, w: 3.0, "call", "expected arrays, got float"),
    "nothing": (lambda x, w: None, "call", "expected arrays, got NoneType"),
    "another framework's": (
        lambda x, w: right(x, w).detach().numpy(),
        "call",
        "expected an array of torch, as the inputs are, got one of numpy",
    ),
    "a gradient of another shape": (
        function(right, lambda g, x, w: (g @ w, x.T @ g)),
        "call",
        "raised RuntimeError: Function OwnBackward returned an invalid gradient at index 1 - got [5, 3] but expected",
    ),
    "too many gradients": (
        function(right, lambda g, x, w: (g @ w, g.T @ x, g)),
        "call",
        "raised RuntimeError: function OwnBackward returned an incorrect number of gradients (expected 2, got 3)",
    ),
    "None for a gradient": (
        function(right, lambda g, x, w: (g @ w, None)),
        "grad.weight",
        "expected a gradient, got None",
    ),
    "a gradient that autograd does not know": (
        lambda x, w: right(x, w.detach()),
        "grad.weight",
        "expected a gradient, got None",
    ),
    "NaN": (function(right, lambda g, x, w: (g @ w * float("nan"), g.T @ x)), "grad_input", "got nan"),
    "an exception": (lambda x, w: {}["no"], "call", "raised KeyError: 'no'"),
}


@pytest.mark.parametrize("what", RESULTS)
def test_results_of_another_kind(what):
    fn, tensor, says = RESULTS[what]
    report = parity.check(fn, "linear", X, W)
    assert not report.ok
    assert says in report[tensor].reason
    assert report[tensor].verdict == "FAIL"


PAIRS = {
    "no pair": (lambda x, w: x @ w.T, lambda g, s: g, "expected forward to give (output, saved), got ndarray"),
    "one gradient": (
        lambda x, w: (x @ w.T, (x, w)),
        lambda g, s: g @ s[1],
        "to give 2 gradients, one for each input, got 1",
    ),
    "no arrays": (lambda x, w: (x @ w.T, (x, w)), lambda g, s: ("a", "b"), "expected arrays, got str"),
    "an output of another shape": (lambda x, w: (x, (x, w)), lambda g, s: (g, g), "expected 1 output of shape (4, 3)"),
}


@pytest.mark.parametrize("what", PAIRS)
def test_pairs_of_plain_functions(what):
    forward, backward, says = PAIRS[what]
    report = parity.check((forward, backward), "linear", X.numpy(), W.numpy())
    assert says in report["call"].reason


def test_a_gradient_of_another_shape_from_a_plain_function():
    pair = (lambda x, w: (x @ w.T, (x, w)), lambda g, s: (g @ s[1], s[0].T @ g))
    report = parity.check(pair, "linear", X.numpy(), W.numpy())
    assert report["grad.weight"].reason == "expected shape (3, 5), got (5, 3)"


def test_arguments_that_a_function_has_under_other_names():
    def forward(x, w):
        return x @ w.T

    reason = parity.check(forward, "linear", X, weight=W)["call"].reason
    assert reason.endswith("where your function has other names, give its arguments in order, without names")


def test_a_missing_gradient_says_how_to_leave_it_out():
    """Labels, masks and tables of angles have none; where inputs are marked, nothing is to be said of that."""
    fn = function(right, lambda g, x, w: (g @ w, None))
    due = "expected a gradient, got None; if none is due by this input, mark those by which one is: x.requires_grad_()"
    assert parity.check(fn, "linear", X, W)["grad.weight"].reason == due
    assert parity.check(fn, "linear", X.clone().requires_grad_(), W).ok
    both = parity.check(fn, "linear", X.clone().requires_grad_(), W.clone().requires_grad_())
    assert both["grad.weight"].reason == "expected a gradient, got None"


def test_what_is_empty_is_judged():
    report = parity.check(F.linear, "linear", X[:0], W, B)
    assert report.ok, report
    assert {v.verdict for v in report.verdicts} == {"exact"}


@pytest.mark.parametrize(("package", "call"), [("pandas", lambda report: report.to_dataframe())])
def test_a_dependency_that_is_missing(monkeypatch, package, call):
    report = parity.check((lambda x: (np.maximum(x, 0), x), lambda g, x: g * (x > 0)), "relu", np.ones((2, 3)))
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=f"expected the package {package}, got none; pip install {package}"):
        call(report)
