"""The layer of a transformer that attends to itself and to a memory."""

from __future__ import annotations

from typing import Any, NamedTuple

from refnet import _check
from refnet.nn.module import Array, Params
from refnet.nn.transformer_layer import TransformerLayer


class TransformerDecoderLayerSaved(NamedTuple):
    """What each part saved, by its name; shape and dtype of the input; which masks of both attentions were given, in
    the order of `forward`, and how many dropout masks."""

    parts: dict[str, Any]
    shape: tuple[int, ...]
    dtype: Any
    given: tuple[bool, ...]
    dropout_masks: int


class TransformerDecoderLayer(TransformerLayer):
    """Attention of the input to itself, then to the memory M, then two affine maps with an activation between them,
    each with a residual and a norm.

        X1 = norm1(X + dropout1(self_attn(X, X, X)))     X2 = norm2(X1 + dropout2(multihead_attn(X1, M, M)))
        Y = norm3(X2 + dropout3(F(X2)))     F(X) = linear2(dropout(f(linear1(X))))

    With `norm_first`, X1 = X + dropout1(self_attn(Z, Z, Z)) with Z = norm1(X),
    X2 = X1 + dropout2(multihead_attn(norm2(X1), M, M)) and Y = X2 + dropout3(F(norm3(X2))): M has no norm.

    Axes: those of `MultiheadAttention`, for X, M, Y and the masks; a boolean mask is True where a pair or key is left
    out. `tgt_is_causal` and `memory_is_causal` are only hints that the mask is causal.

    Args and Raises: those of `TransformerLayer`; dropout is at six places, and M has as many units as the input.
    """

    ATTENTIONS = ("self_attn", "multihead_attn")

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
        parts: dict[str, Any] = {}

        def normed(place: str, X: Array) -> Array:
            return self.through(parts, place, X)

        def of_self(X: Array) -> Array:
            given = (tgt_mask, tgt_key_padding_mask, tgt_is_causal, attn_dropout_mask, dropout1_mask)
            return self.attended(parts, "self_attn", X, X, *given)

        def of_memory(X: Array) -> Array:
            given = (memory_mask, memory_key_padding_mask, memory_is_causal, multihead_attn_dropout_mask, dropout2_mask)
            return self.attended(parts, "multihead_attn", X, memory, *given)

        def fed(X: Array) -> Array:
            return self.fed(parts, X, dropout_mask, dropout3_mask)

        if self.norm_first:
            X1 = X + of_self(normed("norm1", X))
            X2 = X1 + of_memory(normed("norm2", X1))
            Y = X2 + fed(normed("norm3", X2))
        else:
            X1 = normed("norm1", X + of_self(X))
            X2 = normed("norm2", X1 + of_memory(X1))
            Y = normed("norm3", X2 + fed(X2))
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
        return Y, TransformerDecoderLayerSaved(parts, tuple(X.shape), X.dtype, given, sum(dropped))

    def backward(self, grad_output: Array, saved: TransformerDecoderLayerSaved) -> tuple[Any, Params]:
        """The gradients of tgt, of memory and of each mask that was given, None for one of booleans."""
        parts, shape, dtype, given, dropout_masks = saved
        dY = _check.upstream("TransformerDecoderLayer", grad_output, shape, dtype)
        grads: Params = {}

        def back(place: str, dY: Array) -> Array:
            return self.back_through(parts, grads, place, dY)

        def of_self(dY: Array) -> tuple[Array, list[Array | None]]:
            dQ, dK, dV, *masks = self.of_attended(parts, grads, "self_attn", dY)
            # X is query, key and value
            return dQ + dK + dV, masks

        def of_memory(dY: Array) -> tuple[Array, Array, list[Array | None]]:
            dQ, dK, dV, *masks = self.of_attended(parts, grads, "multihead_attn", dY)
            # M is key and value
            return dQ, dK + dV, masks

        def of_fed(dY: Array) -> Array:
            return self.of_fed(parts, grads, dY)

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
