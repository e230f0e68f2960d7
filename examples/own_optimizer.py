"""An optimizer of one's own, Adam, held against the truth step by step: python examples/own_optimizer.py"""

import sys

import torch

import parity


class Adam(torch.optim.Optimizer):
    """Its state has torch's names, so that it is judged too."""

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state.update(step=0, exp_avg=torch.zeros_like(p), exp_avg_sq=torch.zeros_like(p))
                state["step"] += 1
                state["exp_avg"].mul_(beta1).add_(p.grad, alpha=1 - beta1)
                state["exp_avg_sq"].mul_(beta2).addcmul_(p.grad, p.grad, value=1 - beta2)
                mean = state["exp_avg"] / (1 - beta1 ** state["step"])
                square = state["exp_avg_sq"] / (1 - beta2 ** state["step"])
                p.sub_(group["lr"] * mean / (square.sqrt() + group["eps"]))


if __name__ == "__main__":
    torch.manual_seed(0)
    params = {"weight": torch.randn(3, 4), "bias": torch.randn(3)}
    report = parity.check_update(Adam, "Adam", params, lr=0.01, betas=(0.8, 0.99))
    print(report)
    sys.exit(not report.ok)
