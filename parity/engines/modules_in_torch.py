"""Classes that torch.nn lacks, written with torch's own functions; and dropout masks that are given to torch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any


def masked(x: Any, mask: Any, p: float) -> Any:
    """torch.nn.Dropout's product with a given mask: its own kernel draws the mask and cannot be handed one. The mask is
    divided first, as in `_dropout_impl` of torch's source: what is left out is 0 though the scale may overflow."""
    mask = mask.reshape(x.shape).to(x.dtype)
    return x * (mask / (1 - p) if p < 1 else mask * 0.0)


@contextmanager
def dropping(torch: Any, masks: Sequence[Any]) -> Iterator[None]:
    """Let torch drop what the masks say, one after the other, in place of what it draws: dropout multiplies by the
    mask, scaled_dot_product_attention hands it to the path that torch takes where there is dropout.
    """
    waiting, functional = list(masks), torch.nn.functional
    own = {name: getattr(functional, name) for name in ("dropout", "scaled_dot_product_attention")}
    # By its binding to Python, which hands C++'s warnings to Python's filters; `torch.ops` prints them.
    math = torch._scaled_dot_product_attention_math

    def dropout(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
        return masked(input, waiting.pop(0), p) if training else input

    def attention(
        query: Any,
        key: Any,
        value: Any,
        attn_mask: Any = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Any:
        more = {"scale": scale, "enable_gqa": enable_gqa}
        mask = waiting.pop(0) if dropout_p > 0 else None
        if mask is None or dropout_p == 1:
            # Of all that is dropped nothing is kept, whatever is drawn.
            whole = own["scaled_dot_product_attention"]
            return whole(query, key, value, attn_mask, dropout_p, is_causal, **more)
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            # As torch does before it calls this path.
            zeros = torch.zeros(attn_mask.shape, dtype=query.dtype, device=query.device)
            attn_mask = zeros.masked_fill(~attn_mask, -torch.inf)
        return math(query, key, value, attn_mask, dropout_p, is_causal, mask, **more)[0]

    functional.dropout, functional.scaled_dot_product_attention = dropout, attention
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Dropout mask should only be used for testing", UserWarning)
            yield
    finally:
        for name, function in own.items():
            setattr(functional, name, function)


def _attention(torch: Any, **args: Any) -> Any:
    """torch.nn.functional.scaled_dot_product_attention, by the path that torch chooses."""
    given = dict(args)
    lower_right = given.pop("alignment", "upper_left") == "lower_right" and given.get("is_causal", False)
    p = given.pop("dropout_p", 0.0)

    class ScaledDotProductAttention(torch.nn.Module):  # type: ignore[misc]
        def forward(self, query: Any, key: Any, value: Any, attn_mask: Any = None) -> Any:
            own = dict(given)
            if lower_right:
                own["is_causal"] = False
                rows, columns = query.shape[-2], key.shape[-2]
                attn_mask = torch.ones(rows, columns, dtype=torch.bool, device=query.device).tril(columns - rows)
            function = torch.nn.functional.scaled_dot_product_attention
            return function(query, key, value, attn_mask=attn_mask, dropout_p=p if self.training else 0.0, **own)

    return ScaledDotProductAttention()


def _rrelu(torch: Any, lower: float = 1 / 8, upper: float = 1 / 3, inplace: bool = False) -> Any:
    """torch.nn.RReLU, which cannot be handed slopes: with given ones torch's own backward kernel is handed what its
    forward kernel keeps, the slopes, and 1 where the input is above 0."""

    class OfSlopes(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(context: Any, x: Any, slopes: Any) -> Any:
            noise = torch.where(x <= 0, slopes, 1.0).to(x.dtype)
            context.save_for_backward(x, noise)
            return x * noise

        @staticmethod
        def backward(context: Any, grad: Any) -> Any:
            x, noise = context.saved_tensors
            own = torch.ops.aten.rrelu_with_noise_backward(grad, x, noise, lower, upper, True, False)
            return own, torch.where(x <= 0, grad * x, 0.0)

    class RReLU(torch.nn.RReLU):  # type: ignore[misc]
        def forward(self, input: Any, slopes: Any = None) -> Any:
            return super().forward(input) if slopes is None else OfSlopes.apply(input, slopes)

    return RReLU(lower, upper, inplace)


def _rotary(torch: Any, **args: Any) -> Any:
    """Neighbours as complex numbers, as Meta's Llama has them, in float32 where the input is narrower; halves by
    `rotate_half`, as Hugging Face's Llama."""

    class RotaryEmbedding(torch.nn.Module):  # type: ignore[misc]
        def forward(self, input: Any, cos: Any, sin: Any) -> Any:
            turned, rest = input[..., : 2 * cos.shape[-1]], input[..., 2 * cos.shape[-1] :]
            if args.get("interleaved", False):
                wide = torch.float64 if input.dtype == torch.float64 else torch.float32
                x, c, s = (a.to(wide) for a in (turned, cos, sin))
                pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2).contiguous())
                turned = torch.view_as_real(pairs * torch.complex(c, s)).flatten(-2).to(input.dtype)
            else:
                first, second = turned.chunk(2, -1)
                c, s = (torch.cat([table, table], -1) for table in (cos, sin))
                turned = turned * c + torch.cat([-second, first], -1) * s
            return torch.cat([turned, rest], -1)

    return RotaryEmbedding()


def graph(torch: Any, layers: Sequence[Any], steps: Any, inputs: Any = ("input",), outputs: Any = ("output",)) -> Any:
    """refnet.nn.Graph by torch's autograd."""

    class Graph(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            for place, layer in enumerate(layers):
                self.add_module(str(place), layer)

        def forward(self, *given: Any) -> Any:
            values = dict(zip(inputs, given, strict=True))
            for result, place, *names in steps:
                own = [values[name] for name in names]
                if place not in ("+", "*") and isinstance(self[place], torch.nn.LSTMCell):
                    # Its states come as one tuple.
                    own[1:] = [tuple(own[1:])] if own[1:] else []
                made = sum(own) if place == "+" else own[0] * own[1] if place == "*" else self[place](*own)
                values |= {result: made} if isinstance(result, str) else dict(zip(result, made, strict=True))
            last = tuple(values[name] for name in outputs)
            return last if len(last) > 1 else last[0]

        def __getitem__(self, place: str) -> Any:
            return self.get_submodule(place)

    return Graph()


def _gated(torch: Any, activation: Any, i: int, h: int, o: int | None, bias: bool) -> Any:
    """A feed-forward block with a gate, which torch.nn does not have, as published networks have it."""

    class Gated(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.gate_proj, self.up_proj = (torch.nn.Linear(i, h, bias) for _ in range(2))
            self.down_proj = torch.nn.Linear(h, i if o is None else o, bias)

        def forward(self, input: Any) -> Any:
            return self.down_proj(activation(self.gate_proj(input)) * self.up_proj(input))

    return Gated()


def _swiglu(
    torch: Any, in_features: int, hidden_features: int, out_features: int | None = None, bias: bool = False
) -> Any:
    return _gated(torch, torch.nn.SiLU(), in_features, hidden_features, out_features, bias)


def _geglu(
    torch: Any,
    in_features: int,
    hidden_features: int,
    out_features: int | None = None,
    bias: bool = False,
    approximate: str = "none",
) -> Any:
    return _gated(torch, torch.nn.GELU(approximate), in_features, hidden_features, out_features, bias)


def _half_squared_error(torch: Any, reduction: str = "sum") -> Any:
    """The article's loss, which torch.nn does not have, by torch's autograd."""

    class HalfSquaredError(torch.nn.Module):  # type: ignore[misc]
        def forward(self, input: Any, target: Any) -> Any:
            loss = 0.5 * (target - input) ** 2
            return {"none": loss, "sum": loss.sum(), "mean": loss.mean()}[reduction]

    return HalfSquaredError()


OWN: Mapping[str, Callable[..., Any]] = {
    "HalfSquaredError": _half_squared_error,
    "ScaledDotProductAttention": _attention,
    "RotaryEmbedding": _rotary,
    "RReLU": _rrelu,
    "SwiGLU": _swiglu,
    "GEGLU": _geglu,
}
"""How to make each in torch, from torch itself and the arguments of its class."""


def objective(torch: Any, network: Any, loss: Any) -> Any:
    """A network with a loss behind it, as one module of inputs and targets."""

    class Objective(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network, self.loss = network, loss

        def forward(self, input: Any, target: Any) -> Any:
            return self.loss(self.network(input), target)

    return Objective()
