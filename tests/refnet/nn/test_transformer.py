"""The layers of a transformer against torch's."""

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


LAYERS = ("TransformerEncoderLayer", "TransformerDecoderLayer")


@fused
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("options", [{}, {"bias": False}, {"norm_first": True, "batch_first": True}], ids=str)
def test_names_and_initial_values_are_torchs(name: str, options: dict[str, Any]) -> None:
    torch.manual_seed(3)
    theirs = getattr(torch.nn, name)(4, 2, 5, dtype=torch.float64, **options)
    ours = getattr(nn, name)(4, 2, 5, generator=Generator(3), **options)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for key, parameter in theirs.named_parameters():
        np.testing.assert_array_equal(ours.params[key], parameter.detach().numpy())


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


@pytest.mark.parametrize("norm_first", [False, True])
def test_decoder_at_a_wider_size(norm_first: bool) -> None:
    """As above, of a memory of another length; the mask of the memory is added and has a gradient."""
    torch.manual_seed(0)
    options: dict[str, Any] = {"dropout": 0.0, "activation": "gelu", "norm_first": norm_first, "batch_first": True}
    theirs = torch.nn.TransformerDecoderLayer(32, 4, 64, dtype=torch.float64, **options)
    ours = nn.TransformerDecoderLayer(32, 4, 64, **options)
    ours.load_state_dict({name: p.detach().numpy() for name, p in theirs.state_dict().items()})
    rng = np.random.default_rng(0)
    x, dY = rng.normal(size=(2, 3, 10, 32))
    memory, added = rng.normal(size=(3, 7, 32)), rng.normal(size=(10, 7))
    mask = np.triu(np.ones((10, 10), bool), 1)
    given = [torch.tensor(a, requires_grad=True) for a in (x, memory, added)]
    y = theirs(given[0], given[1], torch.tensor(mask), given[2], tgt_is_causal=True)
    y.backward(torch.tensor(dY))
    Y, saved = ours.forward(x, memory, mask, added, tgt_is_causal=True)
    (dX, dM, none, dA), grads = ours.backward(dY, saved)
    assert none is None
    np.testing.assert_allclose(Y, y.detach().numpy(), rtol=1e-10, atol=1e-12)
    for dOurs, t in zip((dX, dM, dA), given, strict=True):
        np.testing.assert_allclose(dOurs, t.grad.numpy(), rtol=1e-9, atol=1e-11)
    for name, parameter in theirs.named_parameters():
        np.testing.assert_allclose(grads[name], parameter.grad.numpy(), rtol=1e-9, atol=1e-11)


def test_a_decoder_drops_in_training_alone() -> None:
    x = np.random.default_rng(0).normal(size=(2, 4))
    layer = nn.TransformerDecoderLayer(4, 2, 3, 0.5, generator=Generator(0))
    assert (layer(x, x) != layer(x, x)).any()
    layer.eval()
    np.testing.assert_array_equal(layer(x, x), layer(x, x))


def test_refused_by_a_decoder() -> None:
    layer, x = nn.TransformerDecoderLayer(4, 2, 3, 0.0), np.zeros((2, 3, 4))
    with pytest.raises(ValueError, match="TransformerDecoderLayer: expected activation to be one of relu, gelu, got"):
        nn.TransformerDecoderLayer(4, 2, activation="r")
    with pytest.raises(ValueError, match="MultiheadAttention: expected key and value of 3 samples"):
        layer(x, np.zeros((2, 2, 4)))
    with pytest.raises(ValueError, match="MultiheadAttention: expected attn_mask of shape"):
        layer(x, x, memory_mask=np.zeros((2, 3)))
    with pytest.raises(ValueError, match="MultiheadAttention: expected an attn_mask with is_causal"):
        layer(x, x, memory_is_causal=True)
    Y, saved = layer.forward(x, x)
    with pytest.raises(ValueError, match="TransformerDecoderLayer"):
        layer.backward(Y[:1], saved)


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
