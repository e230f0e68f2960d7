"""TransformerEncoderLayer against torch.nn.TransformerEncoderLayer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from refnet import nn
from refnet.generator import Generator

pytestmark = pytest.mark.arithmetic
fused = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"),
    reason="refnet.generator's claim is for torch on AVX2 and AVX512, where uniform_ is fused",
)


@fused
@pytest.mark.parametrize("options", [{}, {"bias": False}, {"norm_first": True, "batch_first": True}], ids=str)
def test_names_and_initial_values_are_torchs(options: dict[str, Any]) -> None:
    torch.manual_seed(3)
    theirs = torch.nn.TransformerEncoderLayer(4, 2, 5, dtype=torch.float64, **options)
    ours = nn.TransformerEncoderLayer(4, 2, 5, generator=Generator(3), **options)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for name, parameter in theirs.named_parameters():
        np.testing.assert_array_equal(ours.params[name], parameter.detach().numpy())


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("norm_first", [False, True])
def test_at_a_wider_size(activation: str, norm_first: bool) -> None:
    """Both engines sum some 64 terms of size 1 in a chain of a dozen steps: equal to 10 digits."""
    torch.manual_seed(0)
    options: dict[str, Any] = {"dropout": 0.0, "activation": activation, "norm_first": norm_first, "batch_first": True}
    theirs = torch.nn.TransformerEncoderLayer(32, 4, 64, dtype=torch.float64, **options)
    ours = nn.TransformerEncoderLayer(32, 4, 64, **options)
    ours.load_state_dict({name: p.detach().numpy() for name, p in theirs.state_dict().items()})
    x, dY = np.random.default_rng(0).normal(size=(2, 3, 10, 32))
    mask = np.triu(np.ones((10, 10), bool), 1)
    t = torch.tensor(x, requires_grad=True)
    y = theirs(t, torch.tensor(mask), is_causal=True)
    y.backward(torch.tensor(dY))
    Y, saved = ours.forward(x, mask, is_causal=True)
    (dX, none), grads = ours.backward(dY, saved)
    assert none is None
    np.testing.assert_allclose(Y, y.detach().numpy(), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(dX, t.grad.numpy(), rtol=1e-10, atol=1e-12)
    for name, parameter in theirs.named_parameters():
        np.testing.assert_allclose(grads[name], parameter.grad.numpy(), rtol=1e-9, atol=1e-11)


def test_a_module_as_activation() -> None:
    x = np.random.default_rng(0).normal(size=(2, 4))
    made = [
        nn.TransformerEncoderLayer(4, 2, 3, 0.0, f, generator=Generator(0))(x) for f in ("gelu", nn.GELU(), nn.Tanh())
    ]
    np.testing.assert_array_equal(made[0], made[1])
    assert (made[0] != made[2]).any()


def test_dropout_is_drawn_in_training_alone() -> None:
    x = np.random.default_rng(0).normal(size=(2, 4))
    layer = nn.TransformerEncoderLayer(4, 2, 3, 0.5, generator=Generator(0))
    assert (layer(x) != layer(x)).any()
    layer.eval()
    np.testing.assert_array_equal(layer(x), layer(x))


def test_refused() -> None:
    with pytest.raises(ValueError, match="TransformerEncoderLayer: expected activation to be one of relu, gelu, got"):
        nn.TransformerEncoderLayer(4, 2, activation="r")
    with pytest.raises(TypeError, match="expected activation to be a module without parameters, got PReLU"):
        nn.TransformerEncoderLayer(4, 2, activation=nn.PReLU())
    with pytest.raises(ValueError, match="MultiheadAttention: expected embed_dim to be a multiple of num_heads"):
        nn.TransformerEncoderLayer(5, 2)
