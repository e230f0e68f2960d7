"""The worked example on torch: torch.nn, autograd and torch.optim, by the correct recipe."""

from __future__ import annotations

from typing import Any

import torch

from parity.example.perceptron import CORRECT, INPUT, PARAMS, RATE, TARGET, Tensors, floats


class TorchExample:
    """`parity.example.perceptron.Example` for torch, in `float64` or `float32`."""

    def __init__(self, dtype: str) -> None:
        lift = floats(dtype)
        layers = (make() for _ in range(2) for make in (lambda: torch.nn.Linear(2, 2), torch.nn.Sigmoid))
        self.network = torch.nn.Sequential(*layers).to(getattr(torch, dtype))
        self.network.load_state_dict({name: torch.from_numpy(lift(exact)) for name, exact in PARAMS.items()})
        self.input, self.target = (torch.from_numpy(lift(exact)) for exact in (INPUT, TARGET))
        moving = [p for name, p in self.network.named_parameters() if CORRECT.moves(name)]
        self.optimizer = torch.optim.SGD(moving, lr=float(RATE), foreach=False)

    def round(self, steps: bool = True) -> Tensors:
        """As `Example.round`; every derivative comes from autograd."""
        before = {name: p.detach().clone() for name, p in self.network.named_parameters()} if steps else {}
        hidden, squash_h, output, squash_o = self.network
        net_h = hidden(self.input)
        out_h = squash_h(net_h)
        net_o = output(out_h)
        out_o = squash_o(net_o)
        E_o = 0.5 * (self.target - out_o) ** 2
        E = E_o.sum()
        for tensor in (net_h, out_h, net_o, out_o) if steps else ():
            tensor.retain_grad()
        self.network.zero_grad()
        E.backward(retain_graph=steps)
        found = {"E": E, "out_o": out_o}
        if steps:
            found |= before | {"input": self.input, "target": self.target}
            found |= {"net_h": net_h, "out_h": out_h, "net_o": net_o, "E_o": E_o}
            found |= {"dE/dout_o": out_o.grad, "dE/dnet_o": net_o.grad}
            found |= {"dE/dout_h": out_h.grad, "dE/dnet_h": net_h.grad}
            found |= {"dout_o/dnet_o": _diagonal(out_o, net_o), "dout_h/dnet_h": _diagonal(out_h, net_h)}
            found["dE_o/dout_h"] = torch.stack([torch.autograd.grad(e, out_h, retain_graph=True)[0] for e in E_o])
            found |= {f"dE/d{name}": p.grad for name, p in self.network.named_parameters() if p.grad is not None}
        self.optimizer.step()
        return {name: t.detach().numpy() for name, t in found.items()}


def _diagonal(output: Any, input: Any) -> Any:
    """The derivative of an elementwise function."""
    return torch.autograd.grad(output, input, torch.ones_like(output), retain_graph=True)[0]
