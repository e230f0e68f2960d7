"""torch: eager modules, its fused optimizer, its compiler, and its batched ensembles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.func import functional_call, grad_and_value, vmap

from benchmarks.speed import initial_state
from benchmarks.speed.contenders import Training
from benchmarks.speed.networks import (
    ADAM_RATE,
    BETAS,
    EPS,
    LSTM,
    RATE,
    Network,
    SelfAttention,
    loss_module,
    modules,
)


def _module(network: Network) -> Any:
    return modules(network, nn, {LSTM: _OverSteps, SelfAttention: _Attending}).to(getattr(torch, network.dtype))


class _OverSteps(nn.Module):  # type: ignore[misc]
    def __init__(self, layer: LSTM) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(layer.inputs, layer.units)

    def forward(self, X: Any) -> Any:
        states: Any = None
        for x in X.unbind(-2):
            states = self.cell(x, states)
        return states[0]


class _Attending(nn.Module):  # type: ignore[misc]
    def __init__(self, layer: SelfAttention) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(layer.units, layer.heads, batch_first=True)

    def forward(self, X: Any) -> Any:
        return self.attention(X, X, X, need_weights=False)[0]


def _data(network: Network) -> tuple[Any, Any]:
    inputs, targets = initial_state.data(network)
    return torch.tensor(inputs), torch.tensor(targets)


def eager(network: Network, **options: Any) -> Training:
    net, loss = _module(network), loss_module(network, nn)
    net.load_state_dict({name: torch.tensor(P[0]) for name, P in initial_state.start(network).items()})
    made, lr = (torch.optim.Adam, ADAM_RATE) if network.optimizer == "Adam" else (torch.optim.SGD, RATE)
    opt = made(net.parameters(), lr=lr, **options)
    X, T = _data(network)

    def run(steps: int) -> Any:
        for _ in range(steps):
            opt.zero_grad()
            value = loss(net(X), T)
            value.backward()
            opt.step()
        return value.item()

    return Training(run, lambda: {name: P.detach().numpy().copy() for name, P in net.named_parameters()})


def fused(network: Network) -> Training:
    return eager(network, fused=True)


def _functional(network: Network, lone: bool, compiled: bool) -> Training:
    """A step as one function of a dict of weights, which it updates in place."""
    net, loss = _module(network), loss_module(network, nn)
    weights = {name: torch.tensor(P[0] if lone else P) for name, P in initial_state.start(network).items()}
    X, T = _data(network)

    def objective(P: dict[str, Any], X: Any, T: Any) -> Any:
        return loss(functional_call(net, P, (X,)), T)

    gradient = grad_and_value(objective)
    if not lone:
        gradient = vmap(gradient, in_dims=(0, None, None))

    state = {name: (torch.zeros_like(P), torch.zeros_like(P)) for name, P in weights.items()}
    counter = torch.zeros((), dtype=torch.float64)

    def step(P: dict[str, Any], X: Any, T: Any) -> Any:
        G, value = gradient(P, X, T)
        if network.optimizer == "SGD":
            for name, theta in P.items():
                theta.sub_(G[name], alpha=RATE)
            return value
        counter.add_(1)
        for name, theta in P.items():
            m, v = state[name]
            m.lerp_(G[name], 1 - BETAS[0])
            v.mul_(BETAS[1]).addcmul_(G[name], G[name], value=1 - BETAS[1])
            rate = (ADAM_RATE / (1 - BETAS[0] ** counter)).to(m.dtype)
            root = (1 - BETAS[1] ** counter).sqrt().to(m.dtype)
            theta.sub_(rate * m / (v.sqrt() / root + EPS))
        return value

    taken: Callable[..., Any] = step
    if compiled:
        # Else the second shape of a step would be compiled for every shape, which runs slower.
        torch.compiler.reset()
        taken = torch.compile(step, fullgraph=True, dynamic=False)

    def run(steps: int) -> Any:
        for _ in range(steps):
            value = taken(weights, X, T)
        return value.numpy().copy()

    return Training(run, lambda: {name: P.numpy().copy() for name, P in weights.items()})


def compiled(network: Network) -> Training:
    return _functional(network, lone=True, compiled=True)


def ensemble(network: Network) -> Training:
    return _functional(network, lone=False, compiled=False)


def compiled_ensemble(network: Network) -> Training:
    return _functional(network, lone=False, compiled=True)
