"""Mistakes seeded into right kernels, each found by the sweep unaided, and not by the plain check."""

import pytest

import parity

torch = pytest.importorskip("torch")
F = torch.nn.functional

pytestmark = pytest.mark.arithmetic


def linear(backward, forward=lambda x, w: x @ w.T):
    class Dense(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, w):
            ctx.save_for_backward(x, w)
            return forward(x, w)

        @staticmethod
        def backward(ctx, g):
            x, w = ctx.saved_tensors
            return backward(ctx, g, x, w)

    return Dense.apply


def right(ctx, g, x, w):
    return g @ w, g.T @ x


def as_stored(t):
    """What a kernel reads that takes a tensor for contiguous."""
    return t.as_strided(t.shape, torch.empty(t.shape).stride()) if t.untyped_storage().nbytes() >= t.nbytes else t


def first_element(ctx, g, x, w):
    g = torch.full_like(g, g.flatten()[0].item()) if 0 in g.stride() else g
    return g @ w, g.T @ x


def needs_all(ctx, g, x, w):
    """Wrong unless all gradients are asked for."""
    gw = g.T @ x
    return g @ w if ctx.needs_input_grad[1] else torch.zeros_like(x), gw


MISTAKES = {
    "stride ignored in the backward": (
        linear(lambda ctx, g, x, w: (as_stored(g) @ w, as_stored(g).T @ x)),
        "upstream gradient transposed: grad",
    ),
    "stride of an input ignored": (
        linear(right, lambda x, w: as_stored(x) @ w.T),
        "input 0 transposed: output",
    ),
    "expanded upstream gradient misread": (linear(first_element), "upstream gradient expanded: grad"),
    "gradient of an unused input wrong": (linear(needs_all), "gradient of input 0 alone: grad_input"),
}


@pytest.fixture
def arrays():
    torch.manual_seed(0)
    return torch.randn(4, 5), torch.randn(3, 5)


@pytest.mark.parametrize("name", MISTAKES)
def test_found_by_the_sweep_alone(name, arrays):
    fn, says = MISTAKES[name]
    assert parity.check(fn, "linear", *arrays).ok
    report = parity.check(fn, "linear", *arrays, sweep=True)
    assert not report.ok
    assert says in "\n".join(v.name for v in report.verdicts if v.verdict == "FAIL")


def test_other_bits_from_call_to_call(arrays):
    count = [0]

    def drifts(ctx, g, x, w):
        count[0] += 1
        return (g @ w) * (1 + 2.0**-23 * (count[0] % 2)), g.T @ x

    report = parity.check(linear(drifts), "linear", *arrays, sweep=True)
    # Where rounding leaves the truth as it is, the accuracy tells it too.
    assert "called again: same bits" in [v.name for v in report.verdicts if v.verdict == "FAIL"]


def test_right_kernels_pass(arrays):
    report = parity.check(F.linear, "linear", *arrays, sweep=True)
    assert report.ok, report
    assert {"input 0 transposed: ok", "upstream gradient one-hot: ok", "batch 0: ok", "called again: ok"} <= set(
        report.notes
    )


def test_numpy_pairs_have_negative_strides():
    import numpy as np

    x = np.array([[0.5, -1.0, 2.0], [1.0, 3.0, -2.0]])
    pair = (lambda x: (np.maximum(x, 0), x), lambda g, x: g * (x > 0))
    report = parity.check(pair, "relu", x, sweep=True)
    assert report.ok, report
    assert "input 0 negative stride: ok" in report.notes
