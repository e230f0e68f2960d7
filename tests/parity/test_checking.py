"""Anyone's functions held against the truth: what is right passes, what is wrong is found and named."""

import json
import re
import warnings

import numpy as np
import pytest

import parity
from parity.records.record import UsageError

torch = pytest.importorskip("torch")
F = torch.nn.functional

pytestmark = pytest.mark.arithmetic


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def arrays(dtype=torch.float32):
    return torch.randn(4, 5, dtype=dtype), torch.randn(3, 5, dtype=dtype), torch.randn(3, dtype=dtype)


def verdicts(report):
    return {v.name: v.verdict for v in report.verdicts}


class Dense(torch.autograd.Function):
    """A dense layer whose bias gradient is averaged."""

    @staticmethod
    def forward(ctx, x, w, b):
        ctx.save_for_backward(x, w)
        return x @ w.T + b

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        return g @ w, g.T @ x, g.mean(0)


# ---- what is right


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_functions_of_torch(dtype):
    x, w, b = arrays(dtype)
    profile = f"{str(dtype).removeprefix('torch.')}, sums in float32" if dtype.itemsize == 2 else None
    report = parity.check(F.linear, "linear", x, w, b, profile=profile)
    assert report.ok, report
    assert list(verdicts(report)) == ["output", "grad_input", "grad.weight", "grad.bias"]
    # A class's name takes its parameters in the order of its state_dict.
    assert verdicts(parity.check(F.linear, "Linear", x, w, b, profile=profile)) == verdicts(report)


@pytest.mark.parametrize(
    ("name", "shape", "options"),
    [
        ("sigmoid", (3, 4), {}),
        ("tanh", (3, 4), {}),
        ("relu", (3, 4), {}),
        ("softmax", (3, 4), {"dim": -1}),
        ("log_softmax", (3, 4), {"dim": 0}),
        ("softmin", (3, 4), {"dim": 0}),
        ("silu", (3, 4), {}),
        ("gelu", (3, 4), {"approximate": "tanh"}),
        ("mish", (3, 4), {}),
        ("softplus", (3, 4), {"beta": 2.0, "threshold": 1.5}),
        ("logsigmoid", (3, 4), {}),
        ("softsign", (3, 4), {}),
        ("tanhshrink", (3, 4), {}),
        ("elu", (3, 4), {"alpha": 0.75}),
        ("selu", (3, 4), {}),
        ("celu", (3, 4), {"alpha": 0.75}),
        ("leaky_relu", (3, 4), {"negative_slope": 0.3}),
        ("relu6", (3, 4), {}),
        ("hardtanh", (3, 4), {"min_val": -0.25, "max_val": 0.5}),
        ("hardswish", (3, 4), {}),
        ("hardshrink", (3, 4), {"lambd": 0.3}),
        ("softshrink", (3, 4), {"lambd": 0.3}),
        ("threshold", (3, 4), {"threshold": 0.1, "value": -2.0}),
        ("glu", (3, 4), {"dim": 1}),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_functionals_of_one_input(name, shape, options, dtype):
    fn = getattr(F, name, None) or getattr(torch, name)
    report = parity.check(lambda input, **given: fn(input, **options), name, torch.randn(shape, dtype=dtype), **options)
    assert report.ok, report


def test_prelu_takes_its_weight_from_the_arguments():
    report = parity.check(F.prelu, "prelu", torch.randn(3, 4), torch.randn(4))
    assert report.ok, report
    assert list(verdicts(report)) == ["output", "grad_input", "grad.weight"]


def test_losses_and_convolution():
    x, t = torch.randn(6, 4), torch.randint(4, (6,))
    assert parity.check(F.cross_entropy, "cross_entropy", x, t, label_smoothing=0.1).ok
    assert list(verdicts(parity.check(F.mse_loss, "mse_loss", x, torch.randn(6, 4)))) == [
        "output",
        "grad_input.0",
        "grad_input.1",
    ]
    report = parity.check(
        F.conv2d, "conv2d", torch.randn(2, 3, 5, 5), torch.randn(4, 3, 3, 3), torch.randn(4), padding=1
    )
    assert report.ok, report


def test_modules_compiled_and_scripted():
    net = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2, bias=False))
    x = torch.randn(3, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted = torch.jit.script(net)
    for module in (net, scripted, torch.compile(net, backend="eager")):
        report = parity.check(module, x)
        assert report.ok, report
        assert {"grad.0.weight", "grad.0.bias", "grad.2.weight"} <= set(verdicts(report))
    norm = torch.nn.BatchNorm1d(5)
    report = parity.check(norm, None, x)
    assert report.ok, report
    assert "buffer.running_mean" in verdicts(report)


def test_functions_of_jax():
    jax = pytest.importorskip("jax")
    x = jax.numpy.asarray(np.random.default_rng(0).standard_normal((3, 4)), "float32")
    assert parity.check(lambda x: jax.nn.softmax(x, axis=-1), "softmax", x, dim=-1).ok

    @jax.custom_vjp
    def tanh(x):
        return jax.numpy.tanh(x)

    tanh.defvjp(lambda x: (jax.numpy.tanh(x), x), lambda x, g: (g * jax.numpy.tanh(x),))
    report = parity.check(tanh, "tanh", x)
    assert verdicts(report) == {"output": "rounding", "grad_input": "FAIL"}


def test_plain_functions():
    x = np.array([[0.0, -1.0, 2.0]])

    def backward(g, x):
        return g * (x > 0)

    assert parity.check((lambda x: (np.maximum(x, 0), x), backward), "relu", x).ok
    alone = parity.check(lambda x: np.maximum(x, 0), "relu", x)
    assert list(verdicts(alone)) == ["output"]
    assert any("gradients: not judged" in note for note in alone.notes)


def test_expressions():
    x, w, _ = arrays()
    assert parity.check(lambda x, w: torch.tanh(x @ w), lambda x, w: np.tanh(x @ w), x, w.T).ok
    wrong = parity.check(lambda x, w: torch.tanh(x @ w) * 1.001, lambda x, w: np.tanh(x @ w), x, w.T)
    assert set(verdicts(wrong).values()) == {"FAIL"}


def own(forward, backward):
    """The torch.autograd.Function of these."""
    return type(
        "Own", (torch.autograd.Function,), {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    ).apply


def tanh_with(gradient):
    """tanh, and what is given for its gradient from the upstream gradient and the output."""

    def forward(ctx, x):
        y = torch.tanh(x)
        ctx.save_for_backward(y)
        return y

    return own(forward, lambda ctx, g: gradient(g, *ctx.saved_tensors))


def test_numbers_among_the_arguments_of_an_expression():
    """They are given to the function and to the expression, by place or by name, and have no gradient."""
    x, w = torch.randn(3, 4), torch.randn(4)

    def softcap(x, cap, w):
        return cap * torch.tanh(x / cap) * w

    def expression(x, cap, w):
        return cap * np.tanh(x / cap) * w

    for args, options in (((x, 30.0, w), {}), ((x,), {"cap": 30.0, "w": w}), ((x,), {"w": w, "cap": 30})):
        report = parity.check(softcap, expression, *args, **options)
        assert report.ok, report
        assert list(verdicts(report)) == ["value", "gradients[0]", "gradients[1]"]
    # The last one is wrong: d(x w)/dw = x.
    wrong = parity.check(
        own(lambda ctx, x, c, w: (ctx.save_for_backward(x, w), c * x * w)[1], _twice_the_last),
        lambda x, c, w: c * x * w,
        x,
        0.5,
        torch.randn(3, 4),
    )
    assert [name for name, verdict in verdicts(wrong).items() if verdict == "FAIL"] == ["gradients[1]"]
    assert wrong.diagnosis == ("a constant factor: 2 times the truth in gradients[1]",)
    assert "got = x2.grad" in wrong.script


def _twice_the_last(ctx, g):
    x, w = ctx.saved_tensors
    return g * 0.5 * w, None, g * x


def test_what_a_wrong_gradient_of_an_expression_is_to_the_truth():
    x = torch.randn(3, 4)
    # The mean's 1 / 12 is left out.
    mean = own(
        lambda ctx, x: (ctx.save_for_backward(x), (x * x).mean())[1], lambda ctx, g: g * 2 * ctx.saved_tensors[0]
    )
    found = parity.check(mean, lambda x: np.mean(x * x), x)
    assert found.diagnosis == ("a constant factor: 12, the number of elements times the truth in gradients[0]",)
    negated = parity.enclose(lambda x: np.sum(x * x), x.numpy()).check(gradients=[-2 * x.numpy()])
    assert negated.diagnosis == ("a constant factor: -1 times the truth in gradients[0]",)
    with pytest.raises(UsageError, match=r"one for each array of the expression, got one array; write \[gradient\]"):
        parity.enclose(lambda x: np.sum(x * x), x.numpy()).check(gradients=2 * x.numpy())


@pytest.mark.parametrize("reference", ["tanh", np.tanh])
def test_an_upstream_gradient_that_is_left_out(reference):
    """The commonest mistake that a sum and backward() do not show: it is named, whatever the function is."""
    x = torch.randn(4, 5)
    ignoring = tanh_with(lambda g, y: 1 - y * y)
    found = parity.check(ignoring, reference, x)
    name = "grad_input" if reference == "tanh" else "gradients[0]"
    assert found.diagnosis == (f"upstream gradient left out: the truth of an upstream gradient of ones in {name}",)
    assert parity.check(ignoring, reference, x, grad_output=torch.ones(4, 5)).ok


def test_a_failing_function_that_is_not_deterministic():
    calls = iter(range(100))
    unsteady = parity.check(
        tanh_with(lambda g, y: g * (1 - y * y) * (1 + 2.0 ** -(3 + next(calls)))), "tanh", torch.randn(3)
    )
    assert not unsteady.ok
    assert [note.partition(":")[0] for note in unsteady.notes] == ["not deterministic"], unsteady
    assert "got others in gradient of input 0" in unsteady.notes[0]
    assert parity.check(tanh_with(lambda g, y: g), "tanh", torch.randn(3)).notes == ()


def test_where_a_function_raised():
    def backward(ctx, g):
        raise RuntimeError("bad block size")

    reason = parity.check(own(lambda ctx, x: x * 1, backward), "tanh", torch.randn(3))["call"].reason
    line = backward.__code__.co_firstlineno + 1
    assert reason == f"raised RuntimeError: bad block size (test_checking.py, line {line}, in backward)"


def test_masks_of_minus_infinity():
    """As most kernels of attention take them. The truth is that of the mask as booleans."""
    q, k, v = torch.randn(3, 1, 4, 8)
    seen = torch.ones(4, 4).tril().bool()
    mask = torch.zeros(4, 4).masked_fill(~seen, -torch.inf)
    added = parity.check(F.scaled_dot_product_attention, "scaled_dot_product_attention", q, k, v, attn_mask=mask)
    assert added.ok, added
    reference = "scaled_dot_product_attention"
    assert parity.check(
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, mask), reference, q, k, v, is_causal=True
    ).ok

    def unscaled(q, k, v, attn_mask):
        return torch.softmax(q @ k.mT + attn_mask, -1) @ v

    assert not parity.check(unscaled, reference, q, k, v, attn_mask=mask).ok


@pytest.mark.parametrize("reference", ["linear", lambda x, w: x @ w.T])
def test_what_to_say_of_sums_that_bfloat16_does_not_see(reference):
    """512 terms may come out as zero in bfloat16: nothing is proved. By the profile that the note says, all is."""
    x, w = torch.randn(512, 8).bfloat16(), torch.randn(3, 8).bfloat16()

    def product(x, w):
        return (x.float() @ w.float().T).bfloat16()

    def in_halves(x, w):
        # The gradient by w is a sum of two numbers of bfloat16.
        return torch.cat([product(x[:256], w), product(x[256:], w)])

    blind = parity.check(in_halves, reference, x, w)
    assert [v.verdict for v in blind.verdicts].count("blind") == 1
    profile = re.search('profile="(.*)"', "\n".join(blind.notes)).group(1)
    assert parity.check(product, reference, x, w, profile=profile).ok
    seen = parity.check(in_halves, reference, x, w, profile=profile)
    assert "blind" not in verdicts(seen).values()
    assert not any("profile=" in note for note in seen.notes)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_where_gradients_are_off(mode):
    """As in a project's tests of inference: what is asked for is gradients all the same."""
    before, module = torch.randn(4, 5), torch.nn.Linear(5, 3)
    with mode():
        x, w = torch.randn(4, 5), torch.randn(3, 5)
        right = parity.check(F.linear, "linear", x, w, sweep=True)
        assert right.ok, right
        assert parity.check(module, before).ok
        assert not torch.is_grad_enabled()


def test_a_trusted_function():
    x = torch.randn(4, 5)
    # Sums of three are exact in float64 only: the error of the coarser format is told in digits.
    sums = parity.check(lambda x: x.sum(-1), parity.trusted(lambda x: x.sum(-1)), x)
    assert sums.ok
    assert 6 < sums["output"].digits < 9
    right = parity.check(lambda x: 0.5 * x * (1 + torch.erf(x / 2**0.5)), parity.trusted(F.gelu), x)
    assert right.ok, right
    assert any("unproved" in note for note in right.notes)
    # The sigmoid's approximation of GELU is another function.
    assert not parity.check(lambda x: x * torch.sigmoid(1.702 * x), parity.trusted(F.gelu), x).ok


def test_gradients_that_are_asked_for():
    x, w, b = arrays()
    report = parity.check(F.linear, "linear", x, w.requires_grad_(), b)
    assert list(verdicts(report)) == ["output", "grad.weight"]


def test_keyword_arguments():
    x, w, b = arrays()
    report = parity.check(F.linear, "linear", x, weight=w, bias=b)
    assert report.ok, report
    assert list(verdicts(report)) == ["output", "grad_input", "grad.weight", "grad.bias"]


class RMSNorm(torch.autograd.Function):
    """Its arguments are not those of torch.nn.functional.rms_norm."""

    @staticmethod
    def forward(ctx, x, weight, eps):
        r = torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)
        ctx.save_for_backward(x * r, r, weight)
        return x * r * weight

    @staticmethod
    def backward(ctx, g):
        h, r, weight = ctx.saved_tensors
        a = g * weight
        return r * (a - h * (a * h).mean(-1, keepdim=True)), (g * h).sum(0), None


@pytest.mark.parametrize("reference", ["rms_norm", "RMSNorm"])
def test_arguments_in_the_order_of_the_function(reference):
    x, w = torch.randn(4, 8), torch.randn(8)
    for inputs, by_name in (
        ((x, w, 0.5), {}),
        ((x, w), {"eps": 0.5}),
        ((x,), {"weight": w, "eps": 0.5}),
    ):
        report = parity.check(RMSNorm.apply, reference, *inputs, normalized_shape=[8], **by_name)
        assert report.ok, report
        assert [v.name for v in report.verdicts] == ["output", "grad_input", "grad.weight"]
    wrong = parity.check(lambda x, w, eps: RMSNorm.apply(x, w, 2 * eps), reference, x, w, 0.5, normalized_shape=[8])
    assert not wrong.ok
    called = parity.check(RMSNorm.apply, "rms_norm", x, [8], w, 0.5)
    assert "were given; give by name what only the reference takes" in called["call"].reason


def test_a_given_upstream_gradient():
    x, w, b = arrays()
    report = parity.check(F.linear, "linear", x, w, b, grad_output=torch.zeros(4, 3))
    assert verdicts(report)["grad.weight"] == "exact"


def test_arrays_of_real_size_are_quick():
    """Of 10,000 elements; what it takes is measured elsewhere, here it ends."""
    assert parity.check(F.softmax, "softmax", torch.randn(100, 100), dim=-1).ok


# ---- what is wrong


def test_a_custom_function_with_a_known_mistake():
    report = parity.check(Dense.apply, "linear", *arrays())
    assert verdicts(report) == {
        "output": "rounding",
        "grad_input": "rounding",
        "grad.weight": "rounding",
        "grad.bias": "FAIL",
    }
    assert "consistent with: bias gradient averaged" in str(report)
    document = json.loads(report.to_json())
    assert document["ok"] is False
    with pytest.raises(AssertionError, match=r"not ok: Dense\.apply against linear"):
        assert report.ok, report


def test_precision_that_was_not_declared():
    x, w, b = arrays(torch.float64)
    report = parity.check(lambda x, w, b: F.linear(x.float(), w.float(), b.float()).double(), "linear", x, w, b)
    assert not report.ok
    assert verdicts(report)["output"] == "imprecise"
    assert report["output"].formula == "computed in float32"


def test_results_of_another_dtype_shape_or_none():
    x, w, b = arrays()
    wide = parity.check(lambda x, w, b: F.linear(x, w, b).double(), "linear", x, w, b)
    assert {v.name: v.reason for v in wide.verdicts}["output"] == "expected dtype float32, got float64"
    none = parity.check(lambda x, w, b: F.linear(x, w.detach(), b), "linear", x, w, b)
    assert {v.name: v.reason for v in none.verdicts}["grad.weight"] == (
        "expected a gradient, got None; if none is due by this input, mark those by which one is: x.requires_grad_()"
    )
    flat = parity.check(lambda x: torch.tanh(x), "linear", x, w, b)
    assert verdicts(flat) == {"call": "FAIL"}
    assert "raised TypeError" in flat.verdicts[0].reason


def test_an_input_that_is_written_to():
    x, w, b = arrays()

    def impolite(x, w, b):
        y = F.linear(x, w, b)
        b.data.add_(1)
        return y

    report = parity.check(impolite, "linear", x, w, b)
    assert "got others in input 2" in {v.name: v.reason for v in report.verdicts}["inputs"]


# ---- bad input


def bad(says, *args, **options):
    with pytest.raises(UsageError, match=re.escape(says)) as caught:
        parity.check(*args, **options)
    assert "\n" not in str(caught.value)


def test_bad_input():
    x, w, b = arrays()
    bad("got 'softmacs'; near it: softmax", F.softmax, "softmacs", x, dim=-1)
    bad("expected arguments of softmax", F.softmax, "softmax", x, axis=-1)
    bad("expected arguments of linear", F.linear, "linear", x)
    bad("expected floats of one format in the inputs, got", F.linear, "linear", x.double(), w, b)
    bad("expected floats of one format in the inputs, got none", F.relu, "relu", x.long())
    bad("expected finite values in input 0, got nan", F.relu, "relu", x * float("nan"))
    bad("expected arrays of one framework, got numpy and torch", F.linear, "linear", x.numpy(), w, b)
    bad("expected inputs that", F.linear, "linear", x, w[:, :4], b)
    bad("expected grad_output of shape (4, 5), got (4, 4)", F.relu, "relu", x, grad_output=x[:, :4])
    bad(
        "expected formats among float64, float32, tf32, bfloat16, float16 in the profile, got 'x87'",
        F.relu,
        "relu",
        x,
        profile="float32, sums in x87",
    )
    bad("expected a profile of float32", F.relu, "relu", x, profile="float64")
    bad("expected a function, a module or a pair", 7, "relu", x)
    bad("expected arrays of torch, JAX or NumPy as inputs, got none", F.relu, "relu")
    bad("expected a reference for a function", F.relu, None, x)
    bad("expected values in weight, got a tensor on the meta", torch.nn.Linear(5, 3, device="meta"), x)
    hooked = torch.nn.Linear(5, 3)
    hooked.register_forward_hook(lambda *a: None)
    bad("expected a Linear as torch has it, got one with forward_hooks", hooked, x)


def test_the_upstream_gradient_is_nobodys_input():
    """Inputs drawn as people draw them, by default_rng(0), are not the upstream gradient: of a normalization with equal
    weights the gradient would vanish, and zeros pass."""
    x, w = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32), np.full(8, 0.9, np.float32)

    def forward(x, w):
        r = 1 / np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(1e-6))
        return x * r * w, (x * r, w, r)

    def backward(g, saved):
        h, w, r = saved
        a = g * w
        return r * (a - h * (a * h).mean(-1, keepdims=True)), (g * h).sum(0)

    report = parity.check((forward, backward), "rms_norm", x, w, normalized_shape=[8], eps=1e-6)
    assert set(verdicts(report).values()) == {"rounding"}, report
    assert report["grad_input"].detection_limit < 1e-4
