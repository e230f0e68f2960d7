"""Classes that torch.nn lacks, written with torch's own functions; and dropout masks that are given to torch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def masked(x: Any, mask: Any, p: float) -> Any:
    """torch.nn.Dropout's product with a given mask: its own kernel draws the mask and cannot be handed one."""
    return x * mask.to(x.dtype) * (1 / (1 - p) if p < 1 else 0.0)


def dropping(torch: Any, masks: Sequence[Any]) -> Any:
    """A context in which torch's functions drop what the masks say, one after the other, in place of what they draw.

    torch.nn.functional.dropout multiplies by the mask; scaled_dot_product_attention takes it by
    torch.ops.aten._scaled_dot_product_attention_math, the path that torch itself takes where there is dropout.
    """
    waiting = list(masks)
    functional = torch.nn.functional

    class Dropping(torch.overrides.TorchFunctionMode):  # type: ignore[misc]
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            given = dict(kwargs or {})
            if func is functional.dropout and given.get("training", True):
                x, p = args[0], args[1] if len(args) > 1 else given.get("p", 0.5)
                return masked(x, waiting.pop(0), p)
            if func is functional.scaled_dot_product_attention:
                q, k, v, mask, p, *rest = (*args, None, 0.0)[: max(5, len(args))]
                mask, p = given.pop("attn_mask", mask), given.pop("dropout_p", p)
                if p > 0:
                    dropped = waiting.pop(0)
                    if p == 1:
                        # Nothing is kept, whatever is drawn.
                        return func(*args, **(kwargs or {}))
                    if mask is not None and mask.dtype == torch.bool:
                        # As torch does before it calls this path.
                        mask = torch.zeros(mask.shape, dtype=q.dtype, device=q.device).masked_fill(~mask, -torch.inf)
                    causal = given.pop("is_causal", rest[0] if rest else False)
                    math = torch.ops.aten._scaled_dot_product_attention_math
                    with warnings.catch_warnings():
                        warnings.filterwarnings("ignore", "Dropout mask should only be used for testing", UserWarning)
                        return math(q, k, v, mask, p, causal, dropped, **given)[0]
            return func(*args, **(kwargs or {}))

    return Dropping()


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


def _rotary(torch: Any, **args: Any) -> Any:
    """Neighbours as complex numbers, as Meta's Llama has them; halves by `rotate_half`, as Hugging Face's Llama."""

    class RotaryEmbedding(torch.nn.Module):  # type: ignore[misc]
        def forward(self, input: Any, cos: Any, sin: Any) -> Any:
            turned, rest = input[..., : 2 * cos.shape[-1]], input[..., 2 * cos.shape[-1] :]
            if args.get("interleaved", False):
                pairs = torch.view_as_complex(turned.reshape(*turned.shape[:-1], -1, 2).contiguous())
                turned = torch.view_as_real(pairs * torch.complex(cos, sin)).flatten(-2)
            else:
                first, second = turned.chunk(2, -1)
                twice = (torch.cat([table, table], -1) for table in (cos, sin))
                c, s = twice
                turned = turned * c + torch.cat([-second, first], -1) * s
            return torch.cat([turned, rest], -1)

    return RotaryEmbedding()


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
    "SwiGLU": _swiglu,
    "GEGLU": _geglu,
}
"""How to make each in torch, from torch itself and the arguments of its class."""
