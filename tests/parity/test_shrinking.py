"""The smallest input that shows a failure: a program that fails without parity, and passes with a right kernel."""

import importlib
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import parity

pytestmark = pytest.mark.arithmetic

KERNELS = {
    "torch": """
        import torch


        class Dense(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x, w, b):
                ctx.save_for_backward(x, w)
                return x @ w.T + b

            @staticmethod
            def backward(ctx, g):
                x, w = ctx.saved_tensors
                return g @ w, g.T @ x, g.{sum}(0)


        class Strided(Dense):
            @staticmethod
            def backward(ctx, g):
                x, w = ctx.saved_tensors
                h = g.{whole} if g.T.is_contiguous() and min(g.shape) > 1 else g
                return h @ w, h.T @ x, h.sum(0)


        class Accumulating(Dense):
            @staticmethod
            def backward(ctx, g):
                x, w = ctx.saved_tensors
                gw = g.T @ x
                if w.grad is not None and {twice}:
                    w.grad += gw
                return g @ w, gw, g.sum(0)


        class Tanh(torch.nn.Tanh):
            def forward(self, input):
                return torch.tanh(input) * {scale}


        def raising(input):
            if len(input) > 2 and {twice}:
                raise RuntimeError("more than two rows")
            return torch.relu(input)


        def overwriting(input):
            y = torch.relu(input)
            if {twice}:
                input.data.abs_()
            return y
        """,
    "numpy": """
        import numpy as np


        def forward(x):
            return np.maximum(x, 0), x


        def backward(g, x):
            return g * (x > {kink})
        """,
    "jax": """
        import jax
        import jax.numpy as jnp


        @jax.custom_vjp
        def tanh(x):
            return jnp.tanh(x)


        tanh.defvjp(lambda x: (jnp.tanh(x), jnp.tanh(x)), lambda y, g: (g * (1 - y{power}),))
        """,
}

WRONG = {"sum": "mean", "whole": "reshape(-1).sort()[0].reshape(g.shape)", "twice": "True", "scale": "1.01"}
RIGHT = {"sum": "sum", "whole": "clone()", "twice": "False", "scale": "1"}
OTHER = {"numpy": ({"kink": "-2"}, {"kink": "0"}), "jax": ({"power": ""}, {"power": " * y"}), "torch": (WRONG, RIGHT)}


@pytest.fixture
def kernels(tmp_path, monkeypatch):
    """Writes the kernels of a framework, wrong or right, and imports the wrong ones."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def written(framework, right=False):
        name = f"kernels_of_{tmp_path.name}_{framework}".replace("-", "_")
        values = OTHER[framework][right]
        text = textwrap.dedent(KERNELS[framework])
        for key, value in values.items():
            text = text.replace("{" + key + "}", value)
        (tmp_path / f"{name}.py").write_text(text)
        sys.modules.pop(name, None)
        importlib.invalidate_caches()
        return importlib.import_module(name)

    return written


def outcome(report, apart=False):
    """What the report's program raises, where there is no parity; apart, in a process of its own."""
    if apart:
        program = f"import sys\nsys.modules['parity'] = None\n{report.script}"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
        )
        return (done.stderr.splitlines() or [""])[-1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "parity", None)
        try:
            exec(compile(report.script, "shown", "exec"), {"__name__": "shown"})
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    return ""


def shows(report, kernels, framework, says="AssertionError", apart=False):
    """The program fails, and passes with the right kernel."""
    assert textwrap.indent(report.script, "    ").rstrip() in str(report)
    assert "parity" not in report.script
    last = outcome(report, apart)
    assert last.startswith(says), (report.script, last)
    kernels(framework, right=True)
    assert outcome(report) == "", report.script


@pytest.fixture
def torch():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    return torch


@pytest.fixture
def arrays(torch):
    return torch.randn(7, 5), torch.randn(6, 5), torch.randn(6)


def test_an_autograd_function(torch, kernels, arrays):
    report = parity.check(kernels("torch").Dense.apply, "linear", *arrays)
    # A mean over one sample is right: two are left, and one of all else.
    assert "input = torch.tensor([[" in report.script
    made = {}
    lines = [line for line in report.script.splitlines() if line.partition(" = ")[0] in ("input", "weight", "bias")]
    exec("import torch\n" + "\n".join(lines), made)
    assert [tuple(made[name].shape) for name in ("input", "weight", "bias")] == [(2, 1), (1, 1), (1,)]
    shows(report, kernels, "torch", apart=True)


def test_a_layout(kernels, arrays):
    report = parity.check(kernels("torch").Strided.apply, "linear", *arrays, sweep=True)
    assert "upstream gradient transposed: grad_input" in [v.name for v in report.verdicts if v.verdict == "FAIL"]
    assert "grad_output = torch.tensor(" in report.script
    assert ".mT.contiguous().mT" in report.script
    shows(report, kernels, "torch")


def test_an_existing_gradient(kernels, arrays):
    report = parity.check(kernels("torch").Accumulating.apply, "linear", *arrays, sweep=True)
    assert "leaf.grad = torch.ones_like(leaf)" in report.script
    shows(report, kernels, "torch")


def test_what_raises_and_what_overwrites(torch, kernels):
    module = kernels("torch")
    x = torch.randn(7, 4)
    raising = parity.check(module.raising, "relu", x)
    overwriting = parity.check(module.overwriting, "relu", x)
    shows(raising, kernels, "torch", "RuntimeError: more than two rows")
    kernels("torch")
    shows(overwriting, kernels, "torch")


def test_a_call_that_fails_stays_the_same_failure(torch, kernels):
    """A smaller input that is refused for its size shows something else."""
    w = torch.randn(5, 3)
    report = parity.check(lambda x: x @ w, "relu", torch.randn(4, 5))
    assert "expected 1 output of shape (1, 5), got 1 output of shape (1, 3)" in report.script.splitlines()[0]


def test_functions_of_torch_have_torchs_names(torch):
    report = parity.check(torch.tanh, "sigmoid", torch.tensor([0.5]))
    assert report.subject == "tanh against sigmoid"
    assert "from torch import tanh" in report.script


def test_a_module_of_torch_itself(torch):
    """Its program makes it, with its weights. torch is right: it is the reference that is another function."""
    module, x = torch.nn.Linear(3, 3), torch.randn(4, 3)
    report = parity.check(module, "tanh", x)
    assert "fn = torch.nn.Linear(in_features=3, out_features=3, bias=True)" in report.script
    assert "fn.load_state_dict({'weight': torch.tensor([[" in report.script
    assert outcome(report).startswith("AssertionError")


def test_plain_functions(kernels):
    module = kernels("numpy")
    x = np.array([[0.0, -1.25, 2.0], [1.0, 3.0, -2.0]])
    report = parity.check((module.forward, module.backward), "relu", x)
    assert "output, saved = forward(input)" in report.script
    shows(report, kernels, "numpy")


def test_jax(kernels):
    jax = pytest.importorskip("jax")
    report = parity.check(kernels("jax").tanh, "tanh", jax.numpy.asarray([[0.3, -1.1], [0.7, 0.2]], "float32"))
    assert "output, pullback = jax.vjp(" in report.script
    shows(report, kernels, "jax")


def test_an_expression_and_a_trusted_function(torch, kernels):
    module, x = kernels("torch"), torch.randn(4, 3)
    for reference in (lambda x: np.tanh(x), parity.trusted(torch.tanh)):
        report = parity.check(module.overwriting, reference, x)
        assert "got = " in report.script
        compile(report.script, "shown", "exec")
    # Where only a function in float64 is known, no bound is.
    assert "rounding = " not in report.script


def test_a_given_upstream_gradient(torch, kernels, arrays):
    g = torch.zeros(7, 6)
    g[3, 2] = 0.25
    report = parity.check(kernels("torch").Dense.apply, "linear", *arrays, grad_output=g)
    shows(report, kernels, "torch")


def test_a_function_that_no_import_reaches(torch):
    report = parity.check(lambda x: torch.relu(x) + 1, "relu", torch.randn(3, 4))
    assert "fn = ...  # " in report.script
    assert "no import reaches it; put it here" in report.script


def test_what_is_right_has_no_program(torch):
    assert parity.check(torch.relu, "relu", torch.randn(3, 4)).script == ""
