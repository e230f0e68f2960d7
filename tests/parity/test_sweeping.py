"""Mistakes seeded into right kernels, each found by the sweep unaided."""

import json

import numpy as np
import pytest

import parity

torch = pytest.importorskip("torch")
F = torch.nn.functional

pytestmark = pytest.mark.arithmetic

TILE = 4
"""The length that the tiled kernel here takes an axis apart by."""


def function(forward, backward):
    """A torch.autograd.Function of x and w, which backward gets with the context and the upstream gradient."""

    class Dense(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, w):
            ctx.save_for_backward(x, w)
            return forward(x, w)

        @staticmethod
        def backward(ctx, g):
            return backward(ctx, g, *ctx.saved_tensors)

    return Dense.apply


def product(x, w):
    return x @ w.T


def right(ctx, g, x, w):
    return g @ w, g.T @ x


def as_stored(t):
    """What a kernel reads that takes a tensor for contiguous."""
    return t.as_strided(t.shape, torch.empty(t.shape).stride()) if t.untyped_storage().nbytes() >= t.nbytes else t


def first_number(t):
    """What a kernel reads that takes an expanded tensor for a number."""
    return torch.full_like(t, t.flatten()[0].item()) if 0 in t.stride() else t


def in_tiles(x, w):
    """A product whose last tile is left out where it holds a single row."""
    y = x @ w.T
    if len(x) > TILE and len(x) % TILE == 1:
        y[-1] = 0
    return y


def unused(ctx, g, x, w):
    """The gradient by x is right only where that by w is asked for too."""
    return g @ w if ctx.needs_input_grad[1] else torch.zeros_like(x), g.T @ x


def accumulating(ctx, g, x, w):
    """A gradient that the kernel adds itself, as fused ones do, and then gives to autograd, which adds it again."""
    gw = g.T @ x
    if w.grad is not None:
        w.grad += gw
    return g @ w, gw


def half(ctx, g, x, w):
    gw = g.T @ x
    gw[len(gw) // 2 :] = 0
    return g @ w, gw


def overwriting(x, w):
    y = x @ w.T
    x.data.clamp_(min=0)
    return y


class Drifting:
    """Another last bit at every second call."""

    def __init__(self):
        self.calls = 0

    def __call__(self, ctx, g, x, w):
        self.calls += 1
        return (g @ w) * (1 + 2.0**-23 * (self.calls % 2)), g.T @ x


def layer_norm(statistics=lambda x: x, scale=lambda var, eps: torch.rsqrt(var + eps)):
    """LayerNorm by its own hands: statistics in a format, eps in a place."""

    class LayerNorm(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, w, b, eps):
            mean = statistics(x).mean(-1, keepdim=True).to(x.dtype)
            var = statistics(x - mean).square().mean(-1, keepdim=True).to(x.dtype)
            r = scale(var, eps)
            ctx.save_for_backward((x - mean) * r, r, w)
            return (x - mean) * r * w + b

        @staticmethod
        def backward(ctx, g):
            n, r, w = ctx.saved_tensors
            h = g * w
            gx = r * (h - h.mean(-1, keepdim=True) - n * (h * n).mean(-1, keepdim=True))
            return gx, (g * n).flatten(0, -2).sum(0), g.flatten(0, -2).sum(0), None

    def fn(input, normalized_shape, weight, bias, eps=1e-5):
        return LayerNorm.apply(input, weight, bias, eps)

    return fn


PRODUCTS = {
    "stride ignored in the backward": (
        function(product, lambda ctx, g, x, w: (as_stored(g) @ w, as_stored(g).T @ x)),
        "upstream gradient transposed: grad_input",
    ),
    "stride of an input ignored": (function(lambda x, w: as_stored(x) @ w.T, right), "input 0 transposed: output"),
    "an expanded upstream gradient misread": (
        function(product, lambda ctx, g, x, w: (first_number(g) @ w, first_number(g).T @ x)),
        "upstream gradient expanded: grad_input",
    ),
    "wrong only at tile + 1": (function(in_tiles, right), f"axis of 3 with {TILE + 1}: output"),
    "gradient wrong where another is unused": (function(product, unused), "gradient of input 0 alone: grad_input"),
    "weight gradient accumulated twice": (
        function(product, accumulating),
        "added to existing gradients: gradient of input 1",
    ),
    "another result from call to call": (function(product, Drifting()), "called again: same bits"),
    "half of the rows of the weight gradient lost": (function(product, half), "grad.weight"),
    "input overwritten": (function(overwriting, right), "inputs"),
}

NORMS = {
    "statistics in bfloat16": layer_norm(statistics=lambda x: x.bfloat16()),
    "eps outside the root": layer_norm(scale=lambda var, eps: 1 / (var.sqrt() + eps)),
    "eps beside the variance's root": layer_norm(scale=lambda var, eps: torch.rsqrt(var) + eps),
}


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def failing(report):
    return [v.name for v in report.verdicts if v.verdict == "FAIL"]


@pytest.mark.parametrize("name", PRODUCTS)
def test_found_in_a_product(name):
    fn, says = PRODUCTS[name]
    report = parity.check(fn, "linear", torch.randn(3, 5), torch.randn(6, 5), sweep=True, tile=TILE)
    assert says in failing(report), report


@pytest.mark.parametrize("name", NORMS)
def test_found_in_a_norm(name):
    x, w, b = torch.randn(4, 6), torch.randn(6), torch.randn(6)
    assert parity.check(layer_norm(), "layer_norm", x, (6,), w, b, sweep=True).ok
    report = parity.check(NORMS[name], "layer_norm", x, (6,), w, b, sweep=True)
    # A part of 1e-5 in float32 is near what the budget sees: the tensors differ in which of the trials show it.
    assert {"output", "grad_input", "grad.weight"} <= {trial.split(": ")[-1] for trial in failing(report)}, report


def test_a_number_as_upstream_gradient():
    """A loss whose backward takes its upstream gradient for 1, and one that reads it as an element of a vector."""

    def loss(backward):
        class Loss(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x, t):
                ctx.save_for_backward(x, t)
                return (x - t).square().mean()

            @staticmethod
            def backward(ctx, g):
                x, t = ctx.saved_tensors
                gx = backward(g, x - t)
                return gx, -gx

        return Loss.apply

    arrays = torch.randn(4, 3), torch.randn(4, 3)
    right = parity.check(loss(lambda g, d: g * 2 * d / d.numel()), "mse_loss", *arrays, sweep=True)
    assert right.ok, right
    taken = parity.check(loss(lambda g, d: 2 * d / d.numel()), "mse_loss", *arrays, sweep=True)
    assert "upstream gradient zero: grad_input.0" in failing(taken)
    misread = parity.check(loss(lambda g, d: g[0] * 2 * d / d.numel()), "mse_loss", *arrays, sweep=True)
    assert {v.name: v.reason for v in misread.verdicts}["call"].startswith("raised IndexError")


@pytest.mark.parametrize("name", [n for n in PRODUCTS if n not in ("input overwritten",) and "half" not in n])
def test_the_plain_check_would_pass_them(name):
    """What the sweep is for. Of the drift, only where rounding hides it."""
    fn, _ = PRODUCTS[name]
    report = parity.check(fn, "linear", torch.randn(3, 5), torch.randn(6, 5))
    assert report.ok or name.startswith("another result")


# ---- what is right passes


def test_a_right_product():
    report = parity.check(F.linear, "linear", torch.randn(4, 5), torch.randn(3, 5), sweep=True, tile=TILE)
    assert report.ok, report
    assert {
        "input 0 transposed",
        "input 1 sliced",
        "upstream gradient one-hot",
        "upstream gradient one number expanded",
        "gradient of input 1 alone",
        "batch 0",
        "batch 1",
        "batch 3",
        f"axis of 3 with {TILE + 1}",
        f"axis of 4 with {TILE - 1}",
        "called again",
        "alone and in a batch",
        "added to existing gradients",
        "second backward",
    } <= report.parts.keys()
    assert {"batch 0: ok", "called again: ok"} <= set(report.notes)
    document = json.loads(report.to_json())
    assert {part["name"] for part in document["parts"]} == set(report.parts)
    assert all(part["ok"] for part in document["parts"])


def test_modules():
    for module, x in (
        (torch.nn.Linear(5, 3), torch.randn(4, 5)),
        (torch.nn.Conv2d(2, 3, 3, padding=1), torch.randn(2, 2, 4, 4)),
        (torch.nn.BatchNorm1d(5), torch.randn(4, 5)),
    ):
        report = parity.check(module, x, sweep=True)
        assert [v for v in report.verdicts if v.verdict == "FAIL"] == [], report
        assert all(p.requires_grad and p.grad is None for p in module.parameters())
        assert {
            "gradients of the parameters alone",
            "parameter weight frozen",
            "second backward",
        } <= report.parts.keys()
        if isinstance(module, torch.nn.Conv2d):
            assert {"input 0 channels last", "upstream gradient channels last"} <= report.parts.keys()
        if isinstance(module, torch.nn.BatchNorm1d):
            assert "alone and in a batch: not tried, the samples do not stay apart" in report.notes


def test_sizes_among_the_arguments():
    x, w, b = torch.randn(4, 6), torch.randn(6), torch.randn(6)
    report = parity.check(layer_norm(), "layer_norm", x, (6,), w, b, sweep=True, tile=8)
    assert report.ok, report
    assert {"axis of 6 with 7", "axis of 6 with 9", "axis of 4 with 8"} <= report.parts.keys()
    # A function that knows its sizes says so, and is not held to others.
    own = {"weight": w, "bias": b, "normalized_shape": (6,)}
    fixed = parity.check(
        lambda x, weight, bias: F.layer_norm(x, (6,), weight, bias), "layer_norm", x, sweep=True, tile=8, **own
    )
    assert fixed.ok, fixed
    assert any(note.startswith("axis of 6 with 9: not tried, the function raised") for note in fixed.notes)


def test_bits_alone_and_in_a_batch_are_told():
    def padded(x, w):
        """A product whose sums are taken in another order when there are many rows."""
        return x @ w.T if len(x) < 2 else (x.flip(1) @ w.flip(1).T)

    report = parity.check(function(padded, right), "linear", torch.randn(4, 64), torch.randn(3, 64), sweep=True)
    assert report.ok, report
    part = report.parts["alone and in a batch"]
    assert part.ok
    assert part["output 0"].verdict in ("exact", "rounding")
    if part["output 0"].verdict == "rounding":
        assert "has other bits alone than in the batch" in str(report)


def test_a_second_backward_that_finds_its_memory_used():
    def spent(ctx, g, x, w):
        grads = g @ w, g.T @ x
        w.data.zero_()
        return grads

    class Reusing(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, w):
            ctx.kept = x.clone(), w.clone()
            return x @ w.T

        @staticmethod
        def backward(ctx, g):
            x, w = ctx.kept
            grads = g @ w, g.T @ x
            w.zero_()
            return grads

    x, w = torch.randn(4, 5), torch.randn(3, 5)
    assert "second backward: gradient of input 0" in failing(parity.check(Reusing.apply, "linear", x, w, sweep=True))
    before = w.clone()
    report = parity.check(function(product, spent), "linear", x, w)
    assert "got others in input 1" in report["inputs"].reason
    # What was overwritten is put back.
    assert torch.equal(w, before)


def test_an_upstream_gradient_that_is_written_to():
    def impolite(ctx, g, x, w):
        grads = g @ w, g.T @ x
        g.zero_()
        return grads

    report = parity.check(function(product, impolite), "linear", torch.randn(4, 5), torch.randn(3, 5))
    assert failing(report) == ["inputs"]
    assert "upstream gradient" in report["inputs"].reason


# ---- other frameworks


def test_numpy_pairs():
    x = np.array([[0.5, -1.0, 2.0], [1.0, 3.0, -2.0]])
    pair = (lambda x: (np.maximum(x, 0), x), lambda g, x: g * (x > 0))
    report = parity.check(pair, "relu", x, sweep=True)
    assert report.ok, report
    assert {"input 0 negative stride", "upstream gradient negative stride", "second backward"} <= report.parts.keys()
    assert "added to existing gradients: not tried, the framework has none such" in report.notes


def test_jax():
    jax = pytest.importorskip("jax")
    x = jax.numpy.asarray(np.random.default_rng(0).standard_normal((3, 4)), "float32")
    report = parity.check(lambda x: jax.nn.softmax(x, axis=-1), "softmax", x, dim=-1, sweep=True)
    assert report.ok, report
    assert {"upstream gradient one-hot", "batch 1", "second backward"} <= report.parts.keys()


def test_expressions():
    x, w = torch.randn(4, 5), torch.randn(5, 3)
    report = parity.check(lambda x, w: torch.tanh(x @ w), lambda x, w: np.tanh(x @ w), x, w, sweep=True)
    assert report.ok, report
    assert {"input 0 transposed", "batch 1"} <= report.parts.keys()


def test_a_call_that_fails_is_not_swept():
    report = parity.check(lambda x: 1 / 0, "relu", torch.randn(4, 3), sweep=True)
    assert failing(report) == ["call"]
    assert "not swept: the plain call fails" in report.notes


@pytest.mark.parametrize("options", [{"tile": 4}, {"tile": 0, "sweep": True}, {"tile": 2.5, "sweep": True}])
def test_a_tile_is_a_positive_number_beside_a_sweep(options):
    with pytest.raises(parity.UsageError, match="expected tile to be a positive number beside sweep=True, got"):
        parity.check(F.relu, "relu", torch.randn(4, 3), **options)
