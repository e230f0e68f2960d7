"""What both layers of a transformer are made of."""

from __future__ import annotations

from typing import Any, ClassVar

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


class TransformerLayer(Module):
    """One attention or several, then F(X) = linear2(dropout(f(linear1(X)))), each with a residual and a norm. A class
    says which attentions it has, and in which order the parts go.

    Args:
        d_model, nhead, dim_feedforward: units of the input, heads, units between the two affine maps.
        dropout: probability of an element to be dropped: in and behind each attention, and at two places of F.
        activation: f, `relu`, `gelu` or a module without parameters.
        layer_norm_eps, batch_first, norm_first, bias: as those of the parts.
        device: accepted as torch's: the processor. dtype: float32 or float64 (the default).
        generator: source of initial values, torch's bit for bit, and of the dropout masks that are not given.

    Raises: as its parts; ValueError for an unknown activation, TypeError for one with parameters.
    """

    ATTENTIONS: ClassVar[tuple[str, ...]]

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
        self.activation, self.norm_first = self._activation(activation), norm_first
        more: dict[str, Any] = {"bias": bias, "device": device, "dtype": dtype}
        drawn: dict[str, Any] = {**more, "generator": generator}
        attentions = {
            name: MultiheadAttention(d_model, nhead, dropout, batch_first=batch_first, **drawn)
            for name in self.ATTENTIONS
        }
        places = range(1, len(attentions) + 2)
        self.adopt(
            {
                **attentions,
                "linear1": Linear(d_model, dim_feedforward, **drawn),
                "dropout": Dropout(dropout, generator=generator),
                "linear2": Linear(dim_feedforward, d_model, **drawn),
                **{f"norm{k}": LayerNorm(d_model, layer_norm_eps, **more) for k in places},
                **{f"dropout{k}": Dropout(dropout, generator=generator) for k in places},
            }
        )

    def _activation(self, activation: str | Module) -> Module:
        name = type(self).__name__
        if isinstance(activation, str):
            _check.one_of(name, "activation", activation, tuple(ACTIVATIONS))
            activation = ACTIVATIONS[activation]()
        if not isinstance(activation, Module) or activation.params:
            raise TypeError(f"{name}: expected activation to be a module without parameters, got {activation!r}")
        return activation

    def through(self, parts: dict[str, Any], place: str, X: Array, *masks: Array | None) -> Array:
        """The output of the part at a place, which adds what it saved to `parts`. A dropout that drops nothing is left
        out where no mask is given."""
        inner: Any = self.activation if place == "activation" else self._modules[place]
        if masks and masks[0] is None and not inner.p:
            return X
        Y, parts[place] = inner.forward(X, *masks)
        return Y

    def back_through(self, parts: dict[str, Any], grads: Params, place: str, dY: Array) -> Array:
        """The gradient of the input of that part, which adds those of its parameters to `grads`."""
        if place not in parts:
            return dY
        inner = self.activation if place == "activation" else self._modules[place]
        dX, dP = inner.backward(dY, parts[place])
        if dP:
            self.add_grads(grads, place, dP)
        return dX[0] if isinstance(dX, tuple) else dX

    def attended(self, parts: dict[str, Any], place: str, Q: Array, M: Array, *masks: Any) -> Array:
        """What Q attends to in M, behind dropout; masks of pairs and of padding, whether they are causal, and the masks
        of the two dropouts."""
        attention: Any = self._modules[place]
        pairs, padding, is_causal, kept, kept_behind = masks
        (Y, _), parts[place] = attention.forward(Q, M, M, padding, False, pairs, is_causal=is_causal, dropout_mask=kept)
        return self.through(parts, f"dropout{1 + self.ATTENTIONS.index(place)}", Y, kept_behind)

    def of_attended(self, parts: dict[str, Any], grads: Params, place: str, dY: Array) -> tuple[Any, ...]:
        """dQ, dK, dV, then what attention gives for its masks, of padding and of pairs."""
        dY = self.back_through(parts, grads, f"dropout{1 + self.ATTENTIONS.index(place)}", dY)
        attention: Any = self._modules[place]
        dX: tuple[Any, ...]
        dX, dP = attention.backward(dY, parts[place])
        self.add_grads(grads, place, dP)
        return dX

    def fed(self, parts: dict[str, Any], X: Array, kept: Array | None, kept_behind: Array | None) -> Array:
        """F(X) behind dropout, for the masks of its two dropouts."""
        H = self.through(parts, "activation", self.through(parts, "linear1", X))
        H = self.through(parts, "linear2", self.through(parts, "dropout", H, kept))
        return self.through(parts, f"dropout{1 + len(self.ATTENTIONS)}", H, kept_behind)

    def of_fed(self, parts: dict[str, Any], grads: Params, dY: Array) -> Array:
        for place in (f"dropout{1 + len(self.ATTENTIONS)}", "linear2", "dropout", "activation", "linear1"):
            dY = self.back_through(parts, grads, place, dY)
        return dY
