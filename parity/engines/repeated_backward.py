"""Backward where there are gradients already, and backward again: what a training does around a function.

The gradients of torch's leaves are those that `backward` leaves in `.grad`. A right function gives the same bits each
time that the same numbers go through it; where it does not, the repeated call says so.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from parity.engines import any_array, function_call

Array = np.ndarray[Any, Any]

Differing = dict[str, tuple[Array | None, Array | None]]
"""By the name of a gradient, what was due and what came."""


def _buffers_put_back(look: Callable[..., Differing | None]) -> Callable[..., Differing | None]:
    """Once all is done: what backward needs must not be written into before."""

    @functools.wraps(look)
    def looked(fn: Any, *args: Any, **options: Any) -> Differing | None:
        with any_array.buffers_put_back(fn):
            return look(fn, *args, **options)

    return looked


@_buffers_put_back
def accumulated(
    fn: Any, inputs: Sequence[Any], grad_outputs: Sequence[Array], wanted: Sequence[int], **options: Any
) -> Differing | None:
    """Gradients that were added to existing ones, where they are not the sum; None where the framework adds none."""
    if isinstance(fn, tuple) or function_call.framework(inputs) != "torch":
        return None
    import torch

    leaves, outputs, params = _forward(fn, inputs, wanted, options)
    before = {name: p.grad for name, p in params.items()}
    try:
        alone = _backward(leaves, outputs, grad_outputs)
        draws = np.random.default_rng(len(leaves))
        leaves, outputs, _ = _forward(fn, inputs, wanted, options)
        there = {}
        for name, leaf in leaves.items():
            there[name] = function_call.like(draws.standard_normal(tuple(leaf.shape)), leaf)
            leaf.grad = there[name].clone()
        together = _backward(leaves, outputs, grad_outputs)
        with torch.no_grad():
            due = {name: there[name] if g is None else there[name] + g for name, g in alone.items()}
        return _differing(due, together)
    finally:
        for name, p in params.items():
            p.grad = before[name]


@_buffers_put_back
def second(
    fn: Any, inputs: Sequence[Any], grad_outputs: Sequence[Array], wanted: Sequence[int], **options: Any
) -> Differing | None:
    """Gradients of a second backward through the same forward, where they are not those of the first; None where there
    is no backward."""
    passes: Callable[[], Mapping[str, Any]]
    if isinstance(fn, tuple):
        forward, backward = fn
        output, saved = forward(*inputs, **options)
        several = isinstance(output, tuple)

        def passes() -> Mapping[str, Any]:
            sent = tuple(map(function_call.like, grad_outputs, output if several else [output]))
            grads = backward(sent if several else sent[0], saved)
            return {f"gradient {k}": g for k, g in enumerate(grads if isinstance(grads, (tuple, list)) else [grads])}

    elif (framework := function_call.framework(inputs)) == "torch":
        leaves, outputs, params = _forward(fn, inputs, wanted, options)
        before = {name: p.grad for name, p in params.items()}

        def passes() -> Mapping[str, Any]:
            for leaf in leaves.values():
                leaf.grad = None
            try:
                return _backward(leaves, outputs, grad_outputs)
            finally:
                for name, p in params.items():
                    p.grad = before[name]

    elif framework == "jax" and wanted:
        output, pullback = function_call.pullback(fn, inputs, wanted, options)

        def passes() -> Mapping[str, Any]:
            several = isinstance(output, tuple)
            sent = tuple(map(function_call.like, grad_outputs, output if several else [output]))
            return {f"gradient {k}": g for k, g in zip(wanted, pullback(sent if several else sent[0]), strict=True)}

    else:
        return None
    first = {name: None if g is None else function_call.to_numpy(g) for name, g in passes().items()}
    return _differing(first, passes())


def _forward(
    fn: Any, inputs: Sequence[Any], wanted: Sequence[int], options: Mapping[str, Any]
) -> tuple[dict[str, Any], list[Any], dict[str, Any]]:
    """The leaves by name, the outputs, and the parameters of a module among the leaves."""
    own, outputs = function_call.forward_torch(fn, inputs, wanted, options)
    params = {name: p for name, p in function_call.own_arrays(fn).items() if p.requires_grad}
    return {**{f"gradient of input {k}": own[k] for k in wanted}, **params}, outputs, params


def _backward(leaves: Mapping[str, Any], outputs: Sequence[Any], grad_outputs: Sequence[Array]) -> dict[str, Any]:
    import torch

    moving = [(y, function_call.like(g, y)) for y, g in zip(outputs, grad_outputs, strict=True) if y.requires_grad]
    if moving:
        ys, gs = zip(*moving, strict=True)
        torch.autograd.backward(ys, gs, retain_graph=True, inputs=list(leaves.values()))
    return {name: None if leaf.grad is None else leaf.grad.detach().clone() for name, leaf in leaves.items()}


def _differing(due: Mapping[str, Any], came: Mapping[str, Any]) -> Differing:
    pairs = {
        name: tuple(None if g is None else function_call.to_numpy(g) for g in (due[name], came[name])) for name in due
    }
    return {
        name: (a, b)
        for name, (a, b) in pairs.items()
        if (a is None) != (b is None) or (a is not None and b is not None and a.tobytes() != b.tobytes())
    }
