"""A torch.autograd.Function of one's own, RMSNorm, held against the truth: python examples/autograd_function.py"""

import sys

import torch

import parity


class RMSNorm(torch.autograd.Function):
    """y = x / sqrt(mean(x^2) + eps) * w, over the last axis."""

    @staticmethod
    def forward(ctx, x, weight, eps):
        r = torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)
        ctx.save_for_backward(x, weight, r)
        return x * r * weight

    @staticmethod
    def backward(ctx, grad_output):
        x, weight, r = ctx.saved_tensors
        n, h = x * r, grad_output * weight
        grad_x = r * (h - n * (h * n).mean(-1, keepdim=True))
        grad_weight = (grad_output * n).sum(tuple(range(x.ndim - 1)))
        return grad_x, grad_weight, None


def rms_norm(input, normalized_shape, weight, eps=1e-6):
    """The signature of torch.nn.functional.rms_norm: the reference's arguments are the function's."""
    return RMSNorm.apply(input, weight, eps)


if __name__ == "__main__":
    torch.manual_seed(0)
    report = parity.check(rms_norm, "rms_norm", torch.randn(6, 8), [8], torch.randn(8), eps=1e-6, sweep=True)
    print(report)
    sys.exit(not report.ok)
