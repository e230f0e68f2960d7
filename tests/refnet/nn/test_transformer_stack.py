"""Stacks of transformer layers against torch's."""

from __future__ import annotations

import warnings
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

OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"norm_first": True, "batch_first": True, "bias": False, "activation": "gelu"},
)


def by_both(*args: Any, **options: Any) -> tuple[nn.Transformer, Any]:
    torch.manual_seed(3)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "enable_nested_tensor is True", UserWarning)
        theirs = torch.nn.Transformer(*args, dtype=torch.float64, **options)
    return nn.Transformer(*args, **options, generator=Generator(3)), theirs


def encoder(layers: int = 2, **options: Any) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(4, 2, 3, **{"dropout": 0.0, "generator": Generator(0), **options})
    return nn.TransformerEncoder(layer, layers, nn.LayerNorm(4))


@fused
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_transformer_is_torchs(options: dict[str, Any]) -> None:
    """Initial values to the bit; values and gradients, through some 20 steps of sums of 32 terms, to 10 digits."""
    ours, theirs = by_both(32, 4, 2, 3, 40, 0.0, **options)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for name, p in theirs.named_parameters():
        np.testing.assert_array_equal(ours.params[name], p.detach().numpy())
    assert repr(ours) == repr(theirs).replace("NonDynamicallyQuantizable", "")
    rng = np.random.default_rng(0)
    x, y, dY = rng.normal(size=(3, 5, 5, 32))
    added, padding = rng.normal(size=(5, 5)), rng.normal(size=(5, 5))
    causal = nn.Transformer.generate_square_subsequent_mask(5)
    given = [torch.tensor(a, requires_grad=True) for a in (x, y, added, padding)]
    out = theirs(*given[:2], src_mask=given[2], tgt_mask=torch.tensor(causal), memory_key_padding_mask=given[3])
    out.backward(torch.tensor(dY))
    Y, saved = ours.forward(x, y, src_mask=added, tgt_mask=causal, memory_key_padding_mask=padding)
    (dX, dT, dA, _, dP), grads = ours.backward(dY, saved)
    np.testing.assert_allclose(Y, out.detach().numpy(), rtol=1e-10, atol=1e-12)
    for d, t in zip((dX, dT, dA, dP), given, strict=True):
        np.testing.assert_allclose(d, t.grad.numpy(), rtol=1e-9, atol=1e-11)
    for name, p in theirs.named_parameters():
        np.testing.assert_allclose(grads[name], p.grad.numpy(), rtol=1e-9, atol=1e-11)


def test_the_causal_mask_is_torchs() -> None:
    for size in (0, 1, 4):
        mask = nn.Transformer.generate_square_subsequent_mask(size, dtype="float32")
        theirs = torch.nn.Transformer.generate_square_subsequent_mask(size).numpy()
        assert mask.dtype == theirs.dtype
        np.testing.assert_array_equal(mask, theirs)


def test_layers_are_copies_that_draw_from_one_generator() -> None:
    source = Generator(0)
    layer = nn.TransformerEncoderLayer(4, 2, 3, 0.5, generator=source)
    stack = nn.TransformerEncoder(layer, 3)
    first, second, _ = stack.layers
    for name, P in layer.params.items():
        np.testing.assert_array_equal(first.params[name], P)
        assert not np.shares_memory(first.params[name], second.params[name])
    for module in stack.modules():
        assert getattr(module, "generator", None) in (None, source)
    x = np.random.default_rng(0).normal(size=(2, 4))
    _, saved = stack.forward(x)
    masks = [s.parts["dropout1"].kept for s in saved.layers]
    assert (masks[0] != masks[1]).any() or (masks[1] != masks[2]).any()
    again = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 3, 0.5, generator=Generator(0)), 3)
    np.testing.assert_array_equal(stack.eval()(x), again.eval()(x))


def test_refused() -> None:
    layer, x = nn.TransformerEncoderLayer(4, 2, 3), np.zeros((2, 3, 4))
    with pytest.raises(TypeError, match="TransformerDecoder: expected decoder_layer to be a TransformerDecoderLayer"):
        nn.TransformerDecoder(layer, 2)
    with pytest.raises(TypeError, match="TransformerEncoder: expected norm to be a module or None, got str"):
        nn.TransformerEncoder(layer, 2, "norm")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="TransformerEncoder: expected num_layers to be at least 1, got 0"):
        nn.TransformerEncoder(layer, 0)
    with pytest.raises(ValueError, match="expected dropout_mask with a leading axis of 2 layers, got shape \\(3, 3\\)"):
        encoder()(x, dropout_mask=np.ones((3, 3), bool))
    Y, saved = encoder().forward(x)
    with pytest.raises(ValueError, match="TransformerEncoder"):
        encoder().backward(Y[:1], saved)
    with pytest.raises(TypeError, match="expected its modules to be called"):
        encoder().layers(x)


def test_refused_by_a_transformer() -> None:
    both, x = nn.Transformer(4, 2, 1, 1, 3, 0.0, generator=Generator(0)), np.zeros((2, 3, 4))
    for src, tgt, message in (
        (x, x[:, :2], "src and tgt of as many samples"),
        (x, x[0], "tgt with 2 axes, or 3 with samples"),
        (x[..., :3], x, "src of 4 units"),
        (x[0, 0], x, "src with 2 axes"),
    ):
        with pytest.raises(ValueError, match=f"Transformer: expected {message}"):
            both(src, tgt)
    with pytest.raises(TypeError, match="Transformer: expected a Module at place encoder"):
        nn.Transformer(4, 2, 1, 1, custom_encoder=abs)  # type: ignore[arg-type]
