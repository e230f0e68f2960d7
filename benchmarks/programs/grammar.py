"""Random programs: expressions of 3 x 3 matrices x and y, as NumPy's users and as torch's users write them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

UNARY = (
    ("np.tanh({0})", "torch.tanh({0})"),
    ("np.sin({0})", "torch.sin({0})"),
    ("np.cos({0})", "torch.cos({0})"),
    ("np.exp(np.tanh({0}))", "torch.exp(torch.tanh({0}))"),
    ("np.expm1(np.sin({0}))", "torch.expm1(torch.sin({0}))"),
    ("np.log(1 + ({0}) ** 2)", "torch.log(1 + ({0}) ** 2)"),
    ("np.log1p({0} * {0})", "torch.log1p({0} * {0})"),
    ("np.sqrt({0} * {0} + 0.5)", "torch.sqrt({0} * {0} + 0.5)"),
    ("np.abs({0})", "torch.abs({0})"),
    ("(-{0})", "(-{0})"),
    ("(({0}) ** 3)", "(({0}) ** 3)"),
    ("special.erf({0})", "torch.erf({0})"),
    ("{0}.T", "{0}.T"),
    ("{0}[::-1]", "{0}.flip(0)"),
    ("{0}[np.array([2, 0, 2])]", "{0}[torch.tensor([2, 0, 2])]"),
    ("np.cumsum({0}, axis=1)", "torch.cumsum({0}, 1)"),
    ("np.roll({0}, 1, axis=0)", "torch.roll({0}, 1, 0)"),
    ("np.clip({0}, -0.5, 1.0)", "torch.clamp({0}, -0.5, 1.0)"),
    ("({0} - np.mean({0}, axis=1, keepdims=True))", "({0} - {0}.mean(1, keepdim=True))"),
    ("({0} - np.max({0}, axis=0, keepdims=True))", "({0} - {0}.amax(0, keepdim=True))"),
    ("({0} / (1 + np.sum({0} * {0}, axis=0)))", "({0} / (1 + ({0} * {0}).sum(0)))"),
    ("(0.3 * {0} + 0.25)", "(0.3 * {0} + 0.25)"),
)
BINARY = (
    ("({0} + {1})", "({0} + {1})"),
    ("({0} - {1})", "({0} - {1})"),
    ("({0} * {1})", "({0} * {1})"),
    ("({0} / (2 + ({1}) ** 2))", "({0} / (2 + ({1}) ** 2))"),
    ("({0} @ {1})", "({0} @ {1})"),
    ("np.maximum({0}, {1})", "torch.maximum({0}, {1})"),
    ("np.minimum({0}, {1})", "torch.minimum({0}, {1})"),
    ("np.where({0} > {1}, {0}, 0.5 * {1})", "torch.where({0} > {1}, {0}, 0.5 * {1})"),
    ("np.concatenate([{0}[1:], {1}[:1]])", "torch.cat([{0}[1:], {1}[:1]])"),
    ("np.einsum('ij,kj->ik', {0}, {1})", "torch.einsum('ij,kj->ik', {0}, {1})"),
    ("np.outer({0}[0], {1}[:, 1])", "torch.outer({0}[0], {1}[:, 1])"),
)


@dataclass(frozen=True)
class Program:
    """An expression twice, and the arrays to evaluate it at, in float32's numbers.

    Attributes:
        numpy, torch: its source.
    """

    numpy: str
    torch: str
    x: Any
    y: Any


def program(seed: int) -> Program:
    """The program of this number. One in three has inputs that are multiples of 1/2, where ties are common."""
    draws = np.random.default_rng([20, seed])
    ours, theirs = _expression(draws, int(draws.integers(2, 6)))
    arrays = draws.standard_normal((2, 3, 3)).astype(np.float32)
    x, y = np.round(arrays * 2) / 2 if seed % 3 == 0 else arrays
    return Program(f"np.sum({ours} * np.cos(np.arange(9.0)).reshape(3, 3))", theirs, x, y)


def _expression(draws: np.random.Generator, depth: int) -> tuple[str, str]:
    if depth == 0:
        return (name := str(draws.choice(["x", "y"]))), name
    if draws.random() < 0.5:
        mine, torchs = UNARY[draws.integers(len(UNARY))]
        inner = _expression(draws, depth - 1)
        return mine.format(inner[0]), torchs.format(inner[1])
    mine, torchs = BINARY[draws.integers(len(BINARY))]
    one, other = _expression(draws, depth - 1), _expression(draws, int(draws.integers(depth)))
    return mine.format(one[0], other[0]), torchs.format(one[1], other[1])
