"""MultiheadAttention against torch.nn.MultiheadAttention."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import parity
from refnet import nn
from refnet.generator import Generator

pytestmark = pytest.mark.arithmetic
fused = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"),
    reason="refnet.generator's claim is for torch on AVX2 and AVX512, where uniform_ is fused",
)

OPTIONS: list[dict[str, Any]] = [
    {},
    {"bias": False},
    {"add_bias_kv": True, "add_zero_attn": True},
    {"kdim": 3, "vdim": 5},
    {"batch_first": True},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("samples", [None, 2])
def test_a_torch_module_is_judged_right(options: dict[str, Any], samples: int | None) -> None:
    torch.manual_seed(0)
    module = torch.nn.MultiheadAttention(4, 2, dtype=torch.float64, **options)

    def drawn(length: int, units: int) -> torch.Tensor:
        lead = () if samples is None else (samples,)
        shape = (*lead, length, units) if options.get("batch_first") else (length, *lead, units)
        return torch.randn(*shape, dtype=torch.float64)

    report = parity.check(
        module, drawn(3, 4), drawn(5, options.get("kdim", 4)), drawn(5, options.get("vdim", 4)), seed=1
    )
    assert report.ok, report
    assert {"output.0", "output.1", "grad.out_proj.weight", "grad_input.2"} <= {v.name for v in report.verdicts}


@fused
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_names_and_initial_values_are_torchs(options: dict[str, Any]) -> None:
    torch.manual_seed(3)
    theirs = torch.nn.MultiheadAttention(4, 2, dtype=torch.float64, **options)
    ours = nn.MultiheadAttention(4, 2, generator=Generator(3), **options)
    assert list(ours.params) == [name for name, _ in theirs.named_parameters()]
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for name, parameter in theirs.named_parameters():
        assert ours.params[name].shape == tuple(parameter.shape)
        if name not in ("bias_k", "bias_v"):
            np.testing.assert_array_equal(ours.params[name], parameter.detach().numpy())


def test_the_distribution_of_bias_k() -> None:
    generator = Generator(1)
    layers = [nn.MultiheadAttention(64, 1, add_bias_kv=True, generator=generator) for _ in range(64)]
    draws = np.concatenate([layer.params["bias_k"] * 8 for layer in layers])
    assert abs(draws.mean()) < 5 / 64
    assert abs(draws.std() - 1) < 5 / 90


def test_a_causal_hint_does_not_hide_appended_keys() -> None:
    """torch 2.13 replaces the mask by is_causal without need_weights, and then hides them (docs/findings.md)."""
    torch.manual_seed(0)
    theirs = torch.nn.MultiheadAttention(4, 2, add_bias_kv=True, dtype=torch.float64)
    ours = nn.MultiheadAttention(4, 2, add_bias_kv=True)
    ours.load_state_dict({name: p.detach().numpy() for name, p in theirs.state_dict().items()})
    x, mask = np.random.default_rng(0).normal(size=(3, 4)), np.triu(np.ones((3, 3), bool), 1)
    expected, _ = theirs(*3 * [torch.tensor(x)], attn_mask=torch.tensor(mask), need_weights=False)
    for need_weights in (True, False):
        Y, _ = ours(x, x, x, attn_mask=mask, is_causal=True, need_weights=need_weights)
        np.testing.assert_allclose(Y, expected.detach().numpy(), rtol=1e-13)


def test_weights_add_up() -> None:
    layer = nn.MultiheadAttention(6, 3, batch_first=True, generator=Generator(0))
    x = np.random.default_rng(0).normal(size=(2, 4, 6))
    _, each = layer(x, x, x, average_attn_weights=False)
    _, mean = layer(x, x, x)
    assert each.shape == (2, 3, 4, 4)
    np.testing.assert_allclose(each.sum(axis=-1), 1, rtol=1e-15)
    np.testing.assert_allclose(mean, each.mean(axis=1), rtol=1e-15)
    assert layer(x, x, x, need_weights=False)[1] is None


def test_repr_is_torchs_but_for_the_class_inside() -> None:
    theirs = repr(torch.nn.MultiheadAttention(4, 2)).replace("NonDynamicallyQuantizable", "")
    assert repr(nn.MultiheadAttention(4, 2)) == theirs


X = (3, 2, 4)
REFUSED: list[tuple[dict[str, Any], tuple[Any, ...], dict[str, Any], str]] = [
    ({}, ((3, 4), X, X), {}, r"expected key with 2 axes, or 3 with samples, got \(3, 2, 4\)"),
    ({}, ((3, 2, 5), X, X), {}, r"expected query of 4 units, got \(3, 2, 5\)"),
    ({"kdim": 3}, (X, X, X), {}, r"expected key of 3 units, got \(3, 2, 4\)"),
    ({}, (X, X, (4, 2, 4)), {}, "expected key and value alike but for units"),
    ({}, (X, (3, 1, 4), (3, 1, 4)), {}, "expected key and value of 2 samples"),
    ({}, (X, X, X), {"key_padding_mask": np.zeros((3, 2), bool)}, r"key_padding_mask of shape \(2, 3\), got \(3, 2\)"),
    ({}, (X, X, X), {"attn_mask": np.zeros((2, 3, 3), bool)}, r"attn_mask of shape \(3, 3\) or \(4, 3, 3\), got"),
    ({}, (X, X, X), {"attn_mask": np.zeros((3, 3), int)}, "attn_mask of dtype bool or float64, got int64"),
    ({}, (X, X, X), {"is_causal": True}, "expected an attn_mask with is_causal, got None"),
    ({}, (X, X, X), {"dropout_mask": np.zeros((2, 3, 3), bool)}, r"dropout_mask of shape \(2, 2, 3, 3\), got"),
]


@pytest.mark.parametrize(("options", "shapes", "more", "message"), REFUSED)
def test_refused(options: Any, shapes: Any, more: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=f"^MultiheadAttention: .*{message}"):
        nn.MultiheadAttention(4, 2, **options)(*(np.zeros(shape) for shape in shapes), **more)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((5, 2), "embed_dim to be a multiple of num_heads, got 5 and 2"),
        ((0, 1), "embed_dim to be at least 1, got 0"),
        ((4, 2, 1.5), "0 <= dropout <= 1, got 1.5"),
    ],
)
def test_refused_arguments(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^MultiheadAttention: expected {message}"):
        nn.MultiheadAttention(*arguments)


def test_one_upstream_gradient_too_many() -> None:
    layer = nn.MultiheadAttention(4, 2)
    x = np.zeros(X)
    (Y, _), saved = layer.forward(x, x, x, need_weights=False)
    with pytest.raises(ValueError, match="expected one upstream gradient without need_weights, got two"):
        layer.backward((Y, np.zeros((2, 3, 3))), saved)
