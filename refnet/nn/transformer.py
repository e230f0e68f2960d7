"""The layer of a transformer that attends to itself."""

from __future__ import annotations

from typing import Any, NamedTuple

from refnet import _check
from refnet.nn.module import Array, Params
from refnet.nn.transformer_layer import TransformerLayer


class TransformerEncoderLayerSaved(NamedTuple):
    """What each part saved, by its name; shape and dtype of the input; which of its further inputs were given."""

    parts: dict[str, Any]
    shape: tuple[int, ...]
    dtype: Any
    given: tuple[bool, ...]


class TransformerEncoderLayer(TransformerLayer):
    """Attention of the input to itself, then two affine maps with an activation between them, each with a residual and
    a norm.

        X1 = norm1(X + dropout1(self_attn(X)))     Y = norm2(X1 + dropout2(F(X1)))
        F(X) = linear2(dropout(f(linear1(X))))

    With `norm_first`, X1 = X + dropout1(self_attn(norm1(X))) and Y = X1 + dropout2(F(norm2(X1))).

    Axes: those of `MultiheadAttention`, for X, Y and the masks; a boolean mask is True where a pair or key is left out.

    Args and Raises: those of `TransformerLayer`; dropout is at four places.
    """

    ATTENTIONS = ("self_attn",)

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
        parts: dict[str, Any] = {}

        def normed(place: str, X: Array) -> Array:
            return self.through(parts, place, X)

        def attended(X: Array) -> Array:
            given = (src_mask, src_key_padding_mask, is_causal, attn_dropout_mask, dropout1_mask)
            return self.attended(parts, "self_attn", X, X, *given)

        def fed(X: Array) -> Array:
            return self.fed(parts, X, dropout_mask, dropout2_mask)

        if self.norm_first:
            X1 = X + attended(normed("norm1", X))
            Y = X1 + fed(normed("norm2", X1))
        else:
            X1 = normed("norm1", X + attended(X))
            Y = normed("norm2", X1 + fed(X1))
        masks = (src_mask, src_key_padding_mask, attn_dropout_mask, dropout1_mask, dropout_mask, dropout2_mask)
        return Y, TransformerEncoderLayerSaved(parts, tuple(X.shape), X.dtype, tuple(m is not None for m in masks))

    def backward(self, grad_output: Array, saved: TransformerEncoderLayerSaved) -> tuple[Any, Params]:
        """The gradients of src and of each mask that was given, None for one of booleans; else src's alone."""
        parts, shape, dtype, given = saved
        dY = _check.upstream("TransformerEncoderLayer", grad_output, shape, dtype)
        grads: Params = {}

        def back(place: str, dY: Array) -> Array:
            return self.back_through(parts, grads, place, dY)

        def of_attended(dY: Array) -> tuple[Array, list[Array | None]]:
            dQ, dK, dV, *masks = self.of_attended(parts, grads, "self_attn", dY)
            # X is query, key and value
            return dQ + dK + dV, masks

        def of_fed(dY: Array) -> Array:
            return self.of_fed(parts, grads, dY)

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
