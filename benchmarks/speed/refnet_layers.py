"""Layers of the timed networks that refnet has no module of: built from those that it has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.speed.networks import LSTM, SelfAttention
from refnet import nn


class OverSteps(nn.Module):
    """An LSTM cell over the steps of X (n, t, x), from states of 0; gives the last hidden state."""

    capturable = True

    def __init__(self, layer: LSTM, **options: Any) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(layer.inputs, layer.units, **options)
        self.adopt({"cell": self.cell})

    def forward(self, *inputs: Any) -> tuple[Any, Any]:
        (X,) = inputs
        states: tuple[Any, ...] = ()
        saved = []
        for t in range(X.shape[-2]):
            states, of_step = self.cell.forward(X[..., t, :], *states)
            saved.append(of_step)
        return states[0], saved

    def backward(self, grad_output: Any, saved: Any) -> tuple[Any, dict[str, Any]]:
        grads: dict[str, Any] = {}
        dX, dH, dC = [], grad_output, 0.0 * grad_output
        for of_step in reversed(saved):
            back, dP = self.cell.backward((dH, dC), of_step)
            dx, *states = back if isinstance(back, tuple) else (back,)
            dX.append(np.expand_dims(dx, -2))
            self.add_grads(grads, "cell", dP)
            if states:
                dH, dC = states
        return np.concatenate(dX[::-1], -2), grads


def attending(layer: SelfAttention, **options: Any) -> nn.Graph:
    attention = nn.MultiheadAttention(layer.units, layer.heads, batch_first=True, **options)
    steps = ((("output", "weights"), "attention", "input", "input", "input"),)
    return nn.Graph({"attention": attention}, steps)


OWN: dict[type, Callable[..., Any]] = {LSTM: OverSteps, SelfAttention: attending}
