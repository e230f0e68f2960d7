"""Layers of the transformer."""

from __future__ import annotations

from typing import Any, NamedTuple

from refnet import _check
from refnet.generator import Generator
from refnet.nn.activation import GELU
from refnet.nn.activation_piecewise import ReLU
from refnet.nn.dropout import Dropout
from refnet.nn.linear import Linear
from refnet.nn.module import Array, Module, Params
from refnet.nn.multihead_attention import MultiheadAttention
from refnet.nn.normalization import LayerNorm

ACTIVATIONS = {"relu": ReLU, "gelu": GELU}


def activation_of(name: str, activation: str | Module) -> Module:
    """The module that a layer of that name is to use between its two affine maps."""
    if isinstance(activation, str):
        _check.one_of(name, "activation", activation, tuple(ACTIVATIONS))
        activation = ACTIVATIONS[activation]()
    if not isinstance(activation, Module) or activation.params:
        raise TypeError(f"{name}: expected activation to be a module without parameters, got {activation!r}")
    return activation


def through(layer: Any, saved: dict[str, Any], place: str, X: Array, *masks: Array | None) -> Array:
    """The output of the part of a layer at a place, which adds what it saved to `saved`. A dropout that drops nothing
    is left out where no mask is given."""
    inner = layer.activation if place == "activation" else layer._modules[place]
    if masks and masks[0] is None and not vars(inner)["p"]:
        return X
    Y, saved[place] = inner.forward(X, *masks)
    return Y


def back_through(layer: Any, parts: dict[str, Any], grads: Params, place: str, dY: Array) -> Array:
    """The gradient of the input of that part, which adds those of its parameters to `grads`."""
    if place not in parts:
        return dY
    inner = layer.activation if place == "activation" else layer._modules[place]
    dX, dP = inner.backward(dY, parts[place])
    if dP:
        layer.add_grads(grads, place, dP)
    return dX[0] if isinstance(dX, tuple) else dX


class TransformerEncoderLayerSaved(NamedTuple):
    """What each part saved, by its name; shape and dtype of the input; which of its further inputs were given."""

    parts: dict[str, Any]
    shape: tuple[int, ...]
    dtype: Any
    given: tuple[bool, ...]


class TransformerEncoderLayer(Module):
    """Attention of the input to itself, then two affine maps with an activation between them, each with a residual and
    a norm.

        X1 = norm1(X + dropout1(self_attn(X)))     Y = norm2(X1 + dropout2(F(X1)))
        F(X) = linear2(dropout(f(linear1(X))))

    With `norm_first`, X1 = X + dropout1(self_attn(norm1(X))) and Y = X1 + dropout2(F(norm2(X1))).

    Axes: those of `MultiheadAttention`, for X, Y and the masks; a boolean mask is True where a pair or key is left out.

    Args:
        d_model, nhead, dim_feedforward: units of the input, heads, units between the two affine maps.
        dropout: probability of an element to be dropped, at four places.
        activation: f, `relu`, `gelu` or a module without parameters.
        layer_norm_eps, batch_first, norm_first, bias: as those of the parts.
        device: accepted as torch's: the processor. dtype: float32 or float64 (the default).
        generator: source of initial values, torch's bit for bit, and of the dropout masks that are not given.

    Raises: as its parts; ValueError for an unknown activation, TypeError for one with parameters.
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Module = "relu",
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
        self.activation, self.norm_first = activation_of("TransformerEncoderLayer", activation), norm_first
        more: dict[str, Any] = {"bias": bias, "device": device, "dtype": dtype}
        drawn: dict[str, Any] = {**more, "generator": generator}
        self.adopt(
            {
                "self_attn": MultiheadAttention(d_model, nhead, dropout, batch_first=batch_first, **drawn),
                "linear1": Linear(d_model, dim_feedforward, **drawn),
                "dropout": Dropout(dropout, generator=generator),
                "linear2": Linear(dim_feedforward, d_model, **drawn),
                "norm1": LayerNorm(d_model, layer_norm_eps, **more),
                "norm2": LayerNorm(d_model, layer_norm_eps, **more),
                "dropout1": Dropout(dropout, generator=generator),
                "dropout2": Dropout(dropout, generator=generator),
            }
        )

    def forward(
        self,
        src: Array,
        src_mask: Array | None = None,
        src_key_padding_mask: Array | None = None,
        is_causal: bool = False,
        attn_dropout_mask: Array | None = None,
        dropout1_mask: Array | None = None,
        dropout_mask: Array | None = None,
        dropout2_mask: Array | None = None,
    ) -> tuple[Array, TransformerEncoderLayerSaved]:
        """The last four are True where dropout keeps an element: of the weights of attention, of what it gives, between
        the two affine maps, behind them; None draws one, in training mode."""
        X = src
        saved: dict[str, Any] = {}

        def go(place: str, X: Array, *masks: Array | None) -> Array:
            return through(self, saved, place, X, *masks)

        def attended(X: Array) -> Array:
            attention: Any = self._modules["self_attn"]
            (Y, _), saved["self_attn"] = attention.forward(
                X,
                X,
                X,
                key_padding_mask=src_key_padding_mask,
                need_weights=False,
                attn_mask=src_mask,
                is_causal=is_causal,
                dropout_mask=attn_dropout_mask,
            )
            return go("dropout1", Y, dropout1_mask)

        def fed(X: Array) -> Array:
            H = go("dropout", go("activation", go("linear1", X)), dropout_mask)
            return go("dropout2", go("linear2", H), dropout2_mask)

        if self.norm_first:
            X1 = X + attended(go("norm1", X))
            Y = X1 + fed(go("norm2", X1))
        else:
            X1 = go("norm1", X + attended(X))
            Y = go("norm2", X1 + fed(X1))
        masks = (src_mask, src_key_padding_mask, attn_dropout_mask, dropout1_mask, dropout_mask, dropout2_mask)
        return Y, TransformerEncoderLayerSaved(saved, tuple(X.shape), X.dtype, tuple(m is not None for m in masks))

    def backward(self, grad_output: Array, saved: TransformerEncoderLayerSaved) -> tuple[Any, Params]:
        """The gradients of src and of each mask that was given, None for one of booleans; else src's alone."""
        parts, shape, dtype, given = saved
        dY = _check.upstream("TransformerEncoderLayer", grad_output, shape, dtype)
        grads: Params = {}

        def back(place: str, dY: Array) -> Array:
            return back_through(self, parts, grads, place, dY)

        def of_attended(dY: Array) -> tuple[Array, list[Array | None]]:
            (dQ, dK, dV, *masks), dP = self._modules["self_attn"].backward(back("dropout1", dY), parts["self_attn"])
            self.add_grads(grads, "self_attn", dP)
            # X is query, key and value
            return dQ + dK + dV, masks

        def of_fed(dY: Array) -> Array:
            return back("linear1", back("activation", back("dropout", back("linear2", back("dropout2", dY)))))

        if self.norm_first:
            # dX1 = dY + dF(dY)     dX = dX1 + dself_attn(dX1), each through its norm
            dX1 = dY + back("norm2", of_fed(dY))
            dA, masks = of_attended(dX1)
            dX = dX1 + back("norm1", dA)
        else:
            # dS2 = dnorm2(dY)     dX1 = dS2 + dF(dS2)     dS1 = dnorm1(dX1)     dX = dS1 + dself_attn(dS1)
            dS2 = back("norm2", dY)
            dS1 = back("norm1", dS2 + of_fed(dS2))
            dA, masks = of_attended(dS1)
            dX = dS1 + dA
        # attention gives its masks in its own order: of padding, of pairs
        own = iter(masks)
        padding, pairs = (next(own) if was else None for was in (given[1], given[0]))
        every = [dM for dM, was in zip((pairs, padding, *4 * (None,)), given, strict=True) if was]
        return ((dX, *every) if every else dX), {name: grads[name] for name in self.params}
