"""Functions that bring a backward pass of their own: a pair (forward, backward), and a module of refnet's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from refnet.nn import Module


class Misfit(TypeError):
    """What a function gave is not what is due: of another kind, shape, device or number."""


def brings_backward(fn: Any) -> bool:
    """Whether it is one of these."""
    return isinstance(fn, (tuple, Module))


def forward(fn: Any, inputs: Sequence[Any], options: Mapping[str, Any]) -> tuple[Any, Any]:
    """The output, or a tuple of several, and what backward needs."""
    gave = (fn.forward if isinstance(fn, Module) else fn[0])(*inputs, **options)
    if not isinstance(gave, tuple) or len(gave) != 2:
        raise Misfit(f"expected forward to give (output, saved), got {type(gave).__name__}")
    return gave


def backward(fn: Any, sent: Any, saved: Any, floating: Sequence[int]) -> tuple[dict[int, Any], dict[str, Any]]:
    """The gradient by each input, by number, and by each parameter, by name.

    Args:
        sent: the upstream gradient, or a tuple of several. floating: the numbers of the inputs that are of floats.
    """
    if isinstance(fn, Module):
        back = fn.backward(sent, saved)
        if not isinstance(back, tuple) or len(back) != 2 or not isinstance(back[1], Mapping):
            raise Misfit(f"expected backward to give (grad_input, grad_params), got {type(back).__name__}")
        by_place = back[0] if isinstance(back[0], tuple) else (back[0],)
        return dict(enumerate(by_place)), {name: back[1].get(name) for name in fn.params}
    back = fn[1](sent, saved)
    grads = list(back) if isinstance(back, (tuple, list)) else [back]
    if len(grads) != len(floating):
        raise Misfit(f"expected backward to give {len(floating)} gradients, one for each input, got {len(grads)}")
    return dict(zip(floating, grads, strict=True)), {}
