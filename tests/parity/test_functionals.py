"""Every function of torch.nn.functional that is a reference, called as torch's users call it, and judged."""

import pytest

import parity
from parity.records.functionals import FUNCTIONALS
from parity.records.record import UsageError

torch = pytest.importorskip("torch")
F = torch.nn.functional

pytestmark = pytest.mark.arithmetic

DRAWS = torch.Generator().manual_seed(0)


def drawn(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=DRAWS)


def chance(*shape):
    return torch.rand(*shape, dtype=torch.float64, generator=DRAWS) * 0.9 + 0.05


X, Y, T = drawn(4, 6), drawn(4, 6), torch.tensor([2, 0, 5, 1])
SIGN = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64)
SIGNS = torch.sign(drawn(4, 6))
IMAGE, KERNEL = drawn(2, 3, 5, 5), drawn(4, 3, 3, 3)
ALONE = [n for n, f in FUNCTIONALS.items() if set(f.signature.parameters) <= {"input", "inplace"}]
WITH_DIM = ("softmax", "log_softmax", "softmin")

CALLS = {
    **{name: ((X,), {}) for name in ALONE},
    **{name: ((X,), {"dim": -1}) for name in WITH_DIM},
    "linear": ((X, drawn(3, 6), drawn(3)), {}),
    "gelu": ((X,), {"approximate": "tanh"}),
    "softplus": ((X,), {"beta": 2.0, "threshold": 3.0}),
    "elu": ((X,), {"alpha": 0.5}),
    "celu": ((X,), {"alpha": 0.5}),
    "leaky_relu": ((X,), {"negative_slope": 0.2}),
    "prelu": ((X, drawn(6)), {}),
    "rrelu": ((X,), {"lower": 0.25, "upper": 0.5}),
    "hardtanh": ((X,), {"min_val": -0.5, "max_val": 0.75}),
    "hardshrink": ((X,), {"lambd": 0.25}),
    "softshrink": ((X,), {"lambd": 0.25}),
    "threshold": ((X,), {"threshold": 0.1, "value": 2.0}),
    "glu": ((X,), {"dim": -1}),
    "mse_loss": ((X, Y), {"reduction": "sum"}),
    "l1_loss": ((X, Y), {"reduction": "none"}),
    "huber_loss": ((X, Y), {"delta": 0.5}),
    "smooth_l1_loss": ((X, Y), {"beta": 0.5}),
    "binary_cross_entropy": ((chance(4, 6), chance(4, 6)), {"weight": chance(6)}),
    "binary_cross_entropy_with_logits": ((X, chance(4, 6)), {"pos_weight": chance(6)}),
    "cross_entropy": ((X, T), {"label_smoothing": 0.1}),
    "nll_loss": ((F.log_softmax(X, -1), T), {}),
    "kl_div": ((F.log_softmax(X, -1), F.softmax(Y, -1)), {"reduction": "batchmean"}),
    "gaussian_nll_loss": ((X, Y, chance(4, 6)), {"full": True}),
    "poisson_nll_loss": ((X, chance(4, 6)), {}),
    "soft_margin_loss": ((X, SIGNS), {}),
    "multilabel_soft_margin_loss": ((X, chance(4, 6)), {}),
    "hinge_embedding_loss": ((X, SIGNS), {"margin": 0.5}),
    "margin_ranking_loss": ((X, Y, SIGNS), {"margin": 0.5}),
    "cosine_embedding_loss": ((X, Y, SIGN), {"margin": 0.1}),
    "triplet_margin_loss": ((X, Y, drawn(4, 6)), {}),
    "multi_margin_loss": ((X, T), {}),
    "multilabel_margin_loss": ((X, torch.tensor([[2, 0, -1, 1, 3, 4]] * 4)), {}),
    "cosine_similarity": ((X, Y), {"dim": -1}),
    "pairwise_distance": ((X, Y), {}),
    "conv2d": ((IMAGE, KERNEL, drawn(4)), {"padding": 1, "stride": 2}),
    "layer_norm": ((X, (6,), drawn(6), drawn(6)), {"eps": 1e-3}),
    "group_norm": ((IMAGE, 3, drawn(3), drawn(3)), {}),
    "batch_norm": ((X, drawn(6), chance(6), drawn(6), drawn(6)), {}),
    "instance_norm": ((IMAGE,), {"weight": drawn(3), "bias": drawn(3)}),
    "rms_norm": ((X, (6,), drawn(6)), {"eps": 1e-3}),
    "embedding": ((T, drawn(6, 3)), {}),
    "embedding_bag": ((T, drawn(6, 3), torch.tensor([0, 2])), {"mode": "sum"}),
    "scaled_dot_product_attention": ((drawn(2, 3, 4), drawn(2, 5, 4), drawn(2, 5, 4)), {}),
}

FOUND = {"hardsigmoid": {"grad_input"}}
"""What torch 2.13.0 gets wrong in float64: docs/findings.md."""


def test_every_functional_is_called():
    assert CALLS.keys() == FUNCTIONALS.keys()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", [name for name in CALLS if name in FUNCTIONALS])
def test_torch_is_right(name, dtype):
    inputs, options = CALLS[name]

    def of(value):
        return value.to(dtype) if isinstance(value, torch.Tensor) and value.is_floating_point() else value

    report = parity.check(
        getattr(F, name), name, *map(of, inputs), **{key: of(value) for key, value in options.items()}
    )
    failing = {v.name for v in report.verdicts if v.verdict == "FAIL"}
    assert failing == (FOUND.get(name, set()) if dtype == torch.float64 else set()), report
    assert len(report.verdicts) > 1
    # Twice the gradient is seen in every one.
    wrong = parity.check(
        lambda *arrays, **given: 2 * getattr(F, name)(*arrays, **given),
        name,
        *map(of, inputs),
        **{key: of(value) for key, value in options.items()},
    )
    assert not wrong.ok


def test_slopes_that_are_drawn_are_not_known():
    """rrelu in evaluation has no draws; in training it is given its slopes, or there is no truth."""
    slopes = drawn(4, 6)

    def leaky(input, slopes):
        return torch.where(input > 0, input, slopes * input)

    report = parity.check(leaky, "rrelu", X, slopes=slopes, training=True)
    assert report.ok, report
    assert [v.name for v in report.verdicts] == ["output", "grad_input.0", "grad_input.1"]
    assert not parity.check(lambda input, slopes: leaky(input, 2 * slopes), "rrelu", X, slopes=slopes, training=True).ok
    assert not parity.check(lambda input: F.rrelu(input, 0.25, 0.75), "rrelu", X).ok
    with pytest.raises(UsageError, match="expected slopes with training=True, as what is drawn can't be known, got"):
        parity.check(F.rrelu, "rrelu", X, training=True)
    with pytest.raises(UsageError, match="expected training=True with slopes, which evaluation leaves alone"):
        parity.check(leaky, "rrelu", X, slopes=slopes)
