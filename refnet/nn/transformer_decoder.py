"""The layer of a transformer that attends to itself and to a memory."""

from __future__ import annotations

from typing import Any, NamedTuple

from refnet import _check
from refnet.generator import Generator
from refnet.nn.dropout import Dropout
from refnet.nn.linear import Linear
from refnet.nn.module import Array, Module, Params
from refnet.nn.multihead_attention import MultiheadAttention
from refnet.nn.normalization import LayerNorm
from refnet.nn.transformer import activation_of, back_through, through

NAME = "TransformerDecoderLayer"


class TransformerDecoderLayerSaved(NamedTuple):
    """What each part saved, by its name; shape and dtype of the input; which masks of both attentions were given, in
    the order of `forward`, and how many dropout masks."""

    parts: dict[str, Any]
    shape: tuple[int, ...]
    dtype: Any
    given: tuple[bool, ...]
    dropout_masks: int


class TransformerDecoderLayer(Module):
    """Attention of the input to itself, then to the memory M, then two affine maps with an activation between them,
    each with a residual and a norm.

        X1 = norm1(X + dropout1(self_attn(X, X, X)))     X2 = norm2(X1 + dropout2(multihead_attn(X1, M, M)))
        Y = norm3(X2 + dropout3(F(X2)))     F(X) = linear2(dropout(f(linear1(X))))

    With `norm_first`, X1 = X + dropout1(self_attn(Z, Z, Z)) with Z = norm1(X),
    X2 = X1 + dropout2(multihead_attn(norm2(X1), M, M)) and Y = X2 + dropout3(F(norm3(X2))): M has no norm.

    Axes: those of `MultiheadAttention`, for X, M, Y and the masks; a boolean mask is True where a pair or key is left
    out. `tgt_is_causal` and `memory_is_causal` are only hints that the mask is causal.

    Args:
        d_model, nhead, dim_feedforward: units of X and M, heads, units between the two affine maps.
        dropout: probability of an element to be dropped, at six places.
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
        self.activation, self.norm_first = activation_of(NAME, activation), norm_first
        more: dict[str, Any] = {"bias": bias, "device": device, "dtype": dtype}
        drawn: dict[str, Any] = {**more, "generator": generator}
        attention = {
            name: MultiheadAttention(d_model, nhead, dropout, batch_first=batch_first, **drawn)
            for name in ("self_attn", "multihead_attn")
        }
        self.adopt(
            {
                **attention,
                "linear1": Linear(d_model, dim_feedforward, **drawn),
                "dropout": Dropout(dropout, generator=generator),
                "linear2": Linear(dim_feedforward, d_model, **drawn),
                **{f"norm{k}": LayerNorm(d_model, layer_norm_eps, **more) for k in (1, 2, 3)},
                **{f"dropout{k}": Dropout(dropout, generator=generator) for k in (1, 2, 3)},
            }
        )

    def forward(
        self,
        tgt: Array,
        memory: Array,
        tgt_mask: Array | None = None,
        memory_mask: Array | None = None,
        tgt_key_padding_mask: Array | None = None,
        memory_key_padding_mask: Array | None = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
        attn_dropout_mask: Array | None = None,
        dropout1_mask: Array | None = None,
        multihead_attn_dropout_mask: Array | None = None,
        dropout2_mask: Array | None = None,
        dropout_mask: Array | None = None,
        dropout3_mask: Array | None = None,
    ) -> tuple[Array, TransformerDecoderLayerSaved]:
        """The last six are True where dropout keeps an element: of the weights of each attention, of what it gives,
        between the two affine maps, behind them; None draws one, in training mode."""
        X = tgt
        saved: dict[str, Any] = {}

        def go(place: str, X: Array, *masks: Array | None) -> Array:
            return through(self, saved, place, X, *masks)

        def attended(place: str, Q: Array, M: Array, *masks: Any) -> Array:
            attention: Any = self._modules[place]
            pairs, padding, is_causal, kept = masks
            (Y, _), saved[place] = attention.forward(
                Q, M, M, padding, False, pairs, is_causal=is_causal, dropout_mask=kept
            )
            return Y

        def of_self(X: Array) -> Array:
            given = (tgt_mask, tgt_key_padding_mask, tgt_is_causal, attn_dropout_mask)
            return go("dropout1", attended("self_attn", X, X, *given), dropout1_mask)

        def of_memory(X: Array) -> Array:
            given = (memory_mask, memory_key_padding_mask, memory_is_causal, multihead_attn_dropout_mask)
            return go("dropout2", attended("multihead_attn", X, memory, *given), dropout2_mask)

        def fed(X: Array) -> Array:
            H = go("dropout", go("activation", go("linear1", X)), dropout_mask)
            return go("dropout3", go("linear2", H), dropout3_mask)

        if self.norm_first:
            X1 = X + of_self(go("norm1", X))
            X2 = X1 + of_memory(go("norm2", X1))
            Y = X2 + fed(go("norm3", X2))
        else:
            X1 = go("norm1", X + of_self(X))
            X2 = go("norm2", X1 + of_memory(X1))
            Y = go("norm3", X2 + fed(X2))
        masks = (tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask)
        kept = (
            attn_dropout_mask,
            dropout1_mask,
            multihead_attn_dropout_mask,
            dropout2_mask,
            dropout_mask,
            dropout3_mask,
        )
        given, dropped = (tuple(m is not None for m in group) for group in (masks, kept))
        return Y, TransformerDecoderLayerSaved(saved, tuple(X.shape), X.dtype, given, sum(dropped))

    def backward(self, grad_output: Array, saved: TransformerDecoderLayerSaved) -> tuple[Any, Params]:
        """The gradients of tgt, of memory and of each mask that was given, None for one of booleans."""
        parts, shape, dtype, given, dropout_masks = saved
        dY = _check.upstream(NAME, grad_output, shape, dtype)
        grads: Params = {}

        def back(place: str, dY: Array) -> Array:
            return back_through(self, parts, grads, place, dY)

        def of_attended(place: str, dY: Array) -> tuple[Array, Array, Array, list[Array | None]]:
            (dQ, dK, dV, *masks), dP = self._modules[place].backward(dY, parts[place])
            self.add_grads(grads, place, dP)
            return dQ, dK, dV, masks

        def of_self(dY: Array) -> tuple[Array, list[Array | None]]:
            dQ, dK, dV, masks = of_attended("self_attn", back("dropout1", dY))
            # X is query, key and value
            return dQ + dK + dV, masks

        def of_memory(dY: Array) -> tuple[Array, Array, list[Array | None]]:
            dQ, dK, dV, masks = of_attended("multihead_attn", back("dropout2", dY))
            # M is key and value
            return dQ, dK + dV, masks

        def of_fed(dY: Array) -> Array:
            return back("linear1", back("activation", back("dropout", back("linear2", back("dropout3", dY)))))

        if self.norm_first:
            # dX2 = dY + dF(dY)            dX1 = dX2 + dmultihead_attn(dX2)
            # dX = dX1 + dself_attn(dX1)   each through its norm
            dX2 = dY + back("norm3", of_fed(dY))
            dA, dM, of_pairs = of_memory(dX2)
            dX1 = dX2 + back("norm2", dA)
            dA, own = of_self(dX1)
            dX = dX1 + back("norm1", dA)
        else:
            # dS3 = dnorm3(dY)             dX2 = dS3 + dF(dS3)
            # dS2 = dnorm2(dX2)            dX1 = dS2 + dmultihead_attn(dS2)
            # dS1 = dnorm1(dX1)            dX = dS1 + dself_attn(dS1)
            dS3 = back("norm3", dY)
            dS2 = back("norm2", dS3 + of_fed(dS3))
            dA, dM, of_pairs = of_memory(dS2)
            dS1 = back("norm1", dS2 + dA)
            dA, own = of_self(dS1)
            dX = dS1 + dA
        # each attention gives its masks in its own order: of padding, of pairs
        order = ((own, given[2]), (own, given[0]), (of_pairs, given[3]), (of_pairs, given[1]))
        padding, pairs, memory_padding, memory_pairs = (m.pop(0) if was else None for m, was in order)
        every = zip((pairs, memory_pairs, padding, memory_padding), given, strict=True)
        masks = [dMask for dMask, was in every if was]
        return (dX, dM, *masks, *dropout_masks * (None,)), {name: grads[name] for name in self.params}
