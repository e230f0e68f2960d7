"""Layers of the transformer, one behind the other: encoder, decoder, and both."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from refnet import _check
from refnet.generator import Generator
from refnet.nn import init
from refnet.nn.container import ModuleList
from refnet.nn.module import Array, Module, Params
from refnet.nn.normalization import LayerNorm
from refnet.nn.transformer import TransformerEncoderLayer
from refnet.nn.transformer_decoder import TransformerDecoderLayer


class StackSaved(NamedTuple):
    """What each layer saved, and what the last norm did, None without one; shape and dtype of the output."""

    layers: list[Any]
    norm: Any
    shape: tuple[int, ...]
    dtype: Any


def adopt_copies(stack: Any, place: str, layer: Module, kind: type[Module], norm: Module | None) -> None:
    """Take copies of a layer inside, under `layers`, and the norm; all copies draw from the generators of the layer."""
    name = type(stack).__name__
    if not isinstance(layer, kind):
        raise TypeError(f"{name}: expected {place} to be a {kind.__name__}, got {type(layer).__name__}")
    if norm is not None and not isinstance(norm, Module):
        raise TypeError(f"{name}: expected norm to be a module or None, got {type(norm).__name__}")
    sources = [value for module in layer.modules() for value in vars(module).values() if isinstance(value, Generator)]
    copies = [copy.deepcopy(layer, {id(source): source for source in sources}) for _ in range(stack.num_layers)]
    stack.layers, stack.norm = ModuleList(copies), norm
    stack.adopt({"layers": stack.layers} | ({} if norm is None else {"norm": norm}))


def through_layers(
    stack: Any, X: Array, given: Mapping[str, Any], kept: Mapping[str, Array | None]
) -> tuple[Array, StackSaved]:
    """The output for what every layer is given, and for dropout masks with a leading axis of layers."""
    name, saved = type(stack).__name__, []
    _check.arrays(name, **{mask: K for mask, K in kept.items() if K is not None})
    for mask, K in kept.items():
        if K is not None and K.shape[:1] != (stack.num_layers,):
            due = f"a leading axis of {stack.num_layers} layers"
            raise ValueError(f"{name}: expected {mask} with {due}, got shape {tuple(K.shape)}")
    Y = X
    for k, layer in enumerate(stack.layers):
        own = {mask: None if K is None else K[k] for mask, K in kept.items()}
        Y, s = layer.forward(Y, **given, **own)
        saved.append(s)
    of_norm = None
    if stack.norm is not None:
        Y, of_norm = stack.norm.forward(Y)
    return Y, StackSaved(saved, of_norm, tuple(Y.shape), Y.dtype)


def back_through_layers(stack: Any, grad_output: Array, saved: StackSaved) -> tuple[list[Array | None], Params]:
    """The gradient of the input, then of what every layer is given, None for what is not of floats."""
    dY = _check.upstream(type(stack).__name__, grad_output, saved.shape, saved.dtype)
    grads: Params = {}
    inner: Params = {}
    if stack.norm is not None:
        dY, dP = stack.norm.backward(dY, saved.norm)
        stack.add_grads(grads, "norm", dP)
    total: list[Array | None] = []
    for place, (layer, s) in reversed([*enumerate(zip(stack.layers, saved.layers, strict=True))]):
        dX, dP = layer.backward(dY, s)
        stack.layers.add_grads(inner, str(place), dP)
        dY, *own = dX if isinstance(dX, tuple) else (dX,)
        # dM = sum_k dM_k: every layer k is given the same memory and the same masks
        total = [a if b is None else a + b for a, b in zip(own, total, strict=True)] if total else own
    stack.add_grads(grads, "layers", inner)
    return [dY, *total], {name: grads[name] for name in stack.params}


class TransformerEncoder(Module):
    """Y = norm(f_N(... f_1(X))): N copies of an encoder layer, one behind the other, and a norm if there is one.

    Axes: those of the layer, for X, Y and the masks, which are the same for all layers. Dropout masks have a leading
    axis of layers.

    All layers begin with equal parameters, as in torch. They draw their dropout masks one after the other from the
    generator of the layer that they are copies of.

    Places that `src_key_padding_mask` leaves out are computed as all others. torch does so too where it computes
    gradients or is in training mode; otherwise its faster way may write 0 there.

    Args:
        encoder_layer: a TransformerEncoderLayer, which is copied. num_layers: N. norm: a module, which is not copied.
        enable_nested_tensor, mask_check: accepted as torch's; they bear on its faster way alone.

    Raises:
        TypeError: encoder_layer or norm is of another class.
        ValueError: num_layers is below 1; a dropout mask has no axis of layers; and as the layers.
    """

    def __init__(
        self,
        encoder_layer: Module,
        num_layers: int,
        norm: Module | None = None,
        enable_nested_tensor: bool = True,
        mask_check: bool = True,
    ) -> None:
        super().__init__()
        self.num_layers = _check.size("TransformerEncoder", "num_layers", num_layers, 1)
        self.enable_nested_tensor, self.mask_check = enable_nested_tensor, mask_check
        adopt_copies(self, "encoder_layer", encoder_layer, TransformerEncoderLayer, norm)

    def forward(
        self,
        src: Array,
        mask: Array | None = None,
        src_key_padding_mask: Array | None = None,
        is_causal: bool | None = None,
        attn_dropout_mask: Array | None = None,
        dropout1_mask: Array | None = None,
        dropout_mask: Array | None = None,
        dropout2_mask: Array | None = None,
    ) -> tuple[Array, StackSaved]:
        """The last four are those of the layers; None draws them, in training mode."""
        given = {"src_mask": mask, "src_key_padding_mask": src_key_padding_mask, "is_causal": bool(is_causal)}
        kept = {
            "attn_dropout_mask": attn_dropout_mask,
            "dropout1_mask": dropout1_mask,
            "dropout_mask": dropout_mask,
            "dropout2_mask": dropout2_mask,
        }
        return through_layers(self, src, given, kept)

    def backward(self, grad_output: Array, saved: StackSaved) -> tuple[Any, Params]:
        """The gradients of src and of each mask that was given, None for one of booleans; else src's alone."""
        every, grads = back_through_layers(self, grad_output, saved)
        return (tuple(every) if every[1:] else every[0]), grads


class TransformerDecoder(Module):
    """Y = norm(f_N(... f_1(X, M) ..., M)): N copies of a decoder layer, one behind the other, which all attend to one
    memory M, and a norm if there is one.

    Axes, copies and masks: as of `TransformerEncoder`.

    Args:
        decoder_layer: a TransformerDecoderLayer, which is copied. num_layers: N. norm: a module, which is not copied.

    Raises: as `TransformerEncoder`.
    """

    def __init__(self, decoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        super().__init__()
        self.num_layers = _check.size("TransformerDecoder", "num_layers", num_layers, 1)
        adopt_copies(self, "decoder_layer", decoder_layer, TransformerDecoderLayer, norm)

    def forward(
        self,
        tgt: Array,
        memory: Array,
        tgt_mask: Array | None = None,
        memory_mask: Array | None = None,
        tgt_key_padding_mask: Array | None = None,
        memory_key_padding_mask: Array | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
        attn_dropout_mask: Array | None = None,
        dropout1_mask: Array | None = None,
        multihead_attn_dropout_mask: Array | None = None,
        dropout2_mask: Array | None = None,
        dropout_mask: Array | None = None,
        dropout3_mask: Array | None = None,
    ) -> tuple[Array, StackSaved]:
        """The last six are those of the layers; None draws them, in training mode."""
        given = {
            "memory": memory,
            "tgt_mask": tgt_mask,
            "memory_mask": memory_mask,
            "tgt_key_padding_mask": tgt_key_padding_mask,
            "memory_key_padding_mask": memory_key_padding_mask,
            "tgt_is_causal": bool(tgt_is_causal),
            "memory_is_causal": memory_is_causal,
        }
        kept = {
            "attn_dropout_mask": attn_dropout_mask,
            "dropout1_mask": dropout1_mask,
            "multihead_attn_dropout_mask": multihead_attn_dropout_mask,
            "dropout2_mask": dropout2_mask,
            "dropout_mask": dropout_mask,
            "dropout3_mask": dropout3_mask,
        }
        return through_layers(self, tgt, given, kept)

    def backward(self, grad_output: Array, saved: StackSaved) -> tuple[Any, Params]:
        """The gradients of tgt, of memory and of each mask that was given, None for one of booleans."""
        every, grads = back_through_layers(self, grad_output, saved)
        return tuple(every), grads


class TransformerSaved(NamedTuple):
    """What encoder and decoder saved; the names of the inputs that were given, and which of them each part had, in its
    own order; shape and dtype of the output."""

    encoder: Any
    decoder: Any
    names: list[str]
    of_encoder: list[str]
    of_decoder: list[str]
    shape: tuple[int, ...]
    dtype: Any


class Transformer(Module):
    """Y = decoder(tgt, M) with M = encoder(src): stacks of `TransformerEncoderLayer` and `TransformerDecoderLayer`,
    each with a LayerNorm behind it.

    Axes: those of the layers, for src, tgt, Y and the masks. Dropout masks have a leading axis of layers.

    Initial values: every matrix inside, those of a custom encoder or decoder too, is drawn by `xavier_uniform_`, after
    one layer of each kind was made; the layers of a stack begin with different matrices therefore. torch's draws are
    the same.

    Args:
        d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias: those of
            the layers. num_encoder_layers, num_decoder_layers: how many.
        custom_encoder, custom_decoder: modules that stand in place of these stacks and are called as they are.
        device: accepted as torch's: the processor. dtype: float32 or float64 (the default).
        generator: source of initial values, torch's bit for bit, and of the dropout masks that are not given.

    Raises:
        TypeError: custom_encoder or custom_decoder is no module.
        ValueError: src and tgt have not d_model units, or different numbers of axes or samples; and as the parts.
    """

    def __init__(
        self,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Module = "relu",
        custom_encoder: Module | None = None,
        custom_decoder: Module | None = None,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        self.d_model = _check.size("Transformer", "d_model", d_model, 1)
        self.nhead, self.batch_first = nhead, batch_first
        more: dict[str, Any] = {"bias": bias, "device": device, "dtype": dtype}
        sizes = (d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first)
        encoder: Any = custom_encoder
        decoder: Any = custom_decoder
        if encoder is None:
            layer: Module = TransformerEncoderLayer(*sizes, **more, generator=generator)
            encoder = TransformerEncoder(layer, num_encoder_layers, LayerNorm(d_model, layer_norm_eps, **more))
        if decoder is None:
            layer = TransformerDecoderLayer(*sizes, **more, generator=generator)
            decoder = TransformerDecoder(layer, num_decoder_layers, LayerNorm(d_model, layer_norm_eps, **more))
        self.encoder, self.decoder = encoder, decoder
        self.custom = [stack for stack in (custom_encoder, custom_decoder) if stack is not None]
        self.adopt({"encoder": encoder, "decoder": decoder})
        for P in self.params.values():
            if P.ndim > 1:
                init.xavier_uniform_(P, generator=generator)

    @staticmethod
    def generate_square_subsequent_mask(sz: int, device: Any = None, dtype: Any = None) -> Array:
        """The additive mask (sz, sz) that leaves out all later places: -infinity above the diagonal, 0 elsewhere."""
        what = "generate_square_subsequent_mask"
        size = _check.size(what, "sz", sz, 0)
        number, places = _check.dtype_of(what, dtype, device).type, np.arange(size)
        return np.where(np.expand_dims(places, -1) < places, number(-math.inf), number(0.0))

    def forward(
        self,
        src: Array,
        tgt: Array,
        src_mask: Array | None = None,
        tgt_mask: Array | None = None,
        memory_mask: Array | None = None,
        src_key_padding_mask: Array | None = None,
        tgt_key_padding_mask: Array | None = None,
        memory_key_padding_mask: Array | None = None,
        src_is_causal: bool | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
        encoder_attn_dropout_mask: Array | None = None,
        encoder_dropout1_mask: Array | None = None,
        encoder_dropout_mask: Array | None = None,
        encoder_dropout2_mask: Array | None = None,
        decoder_attn_dropout_mask: Array | None = None,
        decoder_dropout1_mask: Array | None = None,
        decoder_multihead_attn_dropout_mask: Array | None = None,
        decoder_dropout2_mask: Array | None = None,
        decoder_dropout_mask: Array | None = None,
        decoder_dropout3_mask: Array | None = None,
    ) -> tuple[Array, TransformerSaved]:
        """The last ten are those of encoder and decoder; None draws them, in training mode."""
        self.check(src, tgt)
        # the name here, and there
        of_encoder: dict[str, tuple[str, Array | None]] = {
            "src_mask": ("mask", src_mask),
            "src_key_padding_mask": ("src_key_padding_mask", src_key_padding_mask),
            "encoder_attn_dropout_mask": ("attn_dropout_mask", encoder_attn_dropout_mask),
            "encoder_dropout1_mask": ("dropout1_mask", encoder_dropout1_mask),
            "encoder_dropout_mask": ("dropout_mask", encoder_dropout_mask),
            "encoder_dropout2_mask": ("dropout2_mask", encoder_dropout2_mask),
        }
        of_decoder: dict[str, tuple[str, Array | None]] = {
            "tgt_mask": ("tgt_mask", tgt_mask),
            "memory_mask": ("memory_mask", memory_mask),
            "tgt_key_padding_mask": ("tgt_key_padding_mask", tgt_key_padding_mask),
            "memory_key_padding_mask": ("memory_key_padding_mask", memory_key_padding_mask),
            "decoder_attn_dropout_mask": ("attn_dropout_mask", decoder_attn_dropout_mask),
            "decoder_dropout1_mask": ("dropout1_mask", decoder_dropout1_mask),
            "decoder_multihead_attn_dropout_mask": ("multihead_attn_dropout_mask", decoder_multihead_attn_dropout_mask),
            "decoder_dropout2_mask": ("dropout2_mask", decoder_dropout2_mask),
            "decoder_dropout_mask": ("dropout_mask", decoder_dropout_mask),
            "decoder_dropout3_mask": ("dropout3_mask", decoder_dropout3_mask),
        }
        M, saved = self.encoder.forward(
            src, is_causal=src_is_causal, **{there: A for there, A in of_encoder.values() if A is not None}
        )
        Y, saved_decoder = self.decoder.forward(
            tgt,
            M,
            tgt_is_causal=tgt_is_causal,
            memory_is_causal=memory_is_causal,
            **{there: A for there, A in of_decoder.values() if A is not None},
        )
        own, others = ([name for name, (_, A) in part.items() if A is not None] for part in (of_encoder, of_decoder))
        names = [name for name in ORDER if name in own or name in others]
        return Y, TransformerSaved(saved, saved_decoder, names, own, others, tuple(Y.shape), Y.dtype)

    def check(self, src: Array, tgt: Array) -> None:
        """Raise unless both have d_model units, and as many axes and samples."""
        _check.arrays("Transformer", src=src, tgt=tgt)
        for name, x in (("src", src), ("tgt", tgt)):
            if x.ndim not in (2, 3) or x.ndim != src.ndim:
                raise ValueError(f"Transformer: expected {name} with 2 axes, or 3 with samples, got {tuple(x.shape)}")
            if x.shape[-1] != self.d_model:
                raise ValueError(f"Transformer: expected {name} of {self.d_model} units, got {tuple(x.shape)}")
        at = 0 if self.batch_first else 1
        if src.ndim == 3 and src.shape[at] != tgt.shape[at]:
            raise ValueError(
                f"Transformer: expected src and tgt of as many samples, got {tuple(src.shape)} and {tuple(tgt.shape)}"
            )

    def backward(self, grad_output: Array, saved: TransformerSaved) -> tuple[Any, Params]:
        """The gradients of src, of tgt and of each mask that was given, None for one of booleans."""
        dY = _check.upstream("Transformer", grad_output, saved.shape, saved.dtype)
        grads: Params = {}
        # (dtgt, dM) = ddecoder(dY)     dsrc = dencoder(dM)
        (dT, dM, *others), dP = self.decoder.backward(dY, saved.decoder)
        self.add_grads(grads, "decoder", dP)
        dX, dP = self.encoder.backward(dM, saved.encoder)
        self.add_grads(grads, "encoder", dP)
        dS, *own = dX if isinstance(dX, tuple) else (dX,)
        found = dict(zip(saved.of_decoder, others, strict=True)) | dict(zip(saved.of_encoder, own, strict=True))
        return (dS, dT, *(found[name] for name in saved.names)), {name: grads[name] for name in self.params}


ORDER = (
    "src_mask",
    "tgt_mask",
    "memory_mask",
    "src_key_padding_mask",
    "tgt_key_padding_mask",
    "memory_key_padding_mask",
    "encoder_attn_dropout_mask",
    "encoder_dropout1_mask",
    "encoder_dropout_mask",
    "encoder_dropout2_mask",
    "decoder_attn_dropout_mask",
    "decoder_dropout1_mask",
    "decoder_multihead_attn_dropout_mask",
    "decoder_dropout2_mask",
    "decoder_dropout_mask",
    "decoder_dropout3_mask",
)
"""The masks that `Transformer.forward` takes, in its order."""
