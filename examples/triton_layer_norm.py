"""LayerNorm as Triton kernels, forward and backward, judged where they run: on a graphics processor.

A program works on one row and masks what lies beyond its end. `--mistake` leaves out one mask: the places beyond the
end then hold 0 - mean, and count as deviations. Lengths that are a power of two do not show it; the sweep tries others.

    python examples/triton_layer_norm.py [--mistake]

Exit code: 0 when all is right, 1 when not, 2 without a device or Triton.
"""

import sys

try:
    import torch
    import triton
    import triton.language as tl
except ImportError as error:
    print(f"triton_layer_norm: expected torch and triton, got: {error}", file=sys.stderr)
    sys.exit(2)

import parity

BLOCK = 16


@triton.jit
def forward_kernel(X, W, B, Y, MEAN, RSTD, n, eps, BLOCK: tl.constexpr, MASKED: tl.constexpr):
    """A row: m = sum_j x_j / n, r = 1 / sqrt(sum_j (x_j - m)^2 / n + eps), y_j = (x_j - m) r w_j + b_j."""
    i, j = tl.program_id(0), tl.arange(0, BLOCK)
    inside = j < n
    x = tl.load(X + i * n + j, mask=inside, other=0.0)
    m = tl.sum(x, 0) / n
    d = tl.where(inside, x - m, 0.0) if MASKED else x - m
    r = 1 / tl.sqrt(tl.sum(d * d, 0) / n + eps)
    w = tl.load(W + j, mask=inside, other=0.0)
    b = tl.load(B + j, mask=inside, other=0.0)
    tl.store(Y + i * n + j, d * r * w + b, mask=inside)
    tl.store(MEAN + i, m)
    tl.store(RSTD + i, r)


@triton.jit
def backward_kernel(DY, X, W, MEAN, RSTD, DX, DW, n, BLOCK: tl.constexpr):
    """A row: h_j = (x_j - m) r, g_j = dy_j w_j, dx_j = r (g_j - (sum_k g_k + h_j sum_k g_k h_k) / n); and its part
    dy_j h_j of the weight's gradient."""
    i, j = tl.program_id(0), tl.arange(0, BLOCK)
    inside = j < n
    x = tl.load(X + i * n + j, mask=inside, other=0.0)
    dy = tl.load(DY + i * n + j, mask=inside, other=0.0)
    w = tl.load(W + j, mask=inside, other=0.0)
    r = tl.load(RSTD + i)
    h = tl.where(inside, (x - tl.load(MEAN + i)) * r, 0.0)
    g = dy * w
    dx = r * (g - (tl.sum(g, 0) + h * tl.sum(g * h, 0)) / n)
    tl.store(DX + i * n + j, dx, mask=inside)
    tl.store(DW + i * n + j, dy * h, mask=inside)


def layer_norm(masked):
    """The autograd function, of inputs (..., n), weight (n,) and bias (n,)."""

    class LayerNorm(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, weight, bias, eps=1e-5):
            n = x.shape[-1]
            rows = x.reshape(-1, n).contiguous()
            y = torch.empty_like(rows)
            mean, rstd = rows.new_empty(len(rows)), rows.new_empty(len(rows))
            if len(rows):
                block = max(BLOCK, triton.next_power_of_2(n))
                w, b = weight.contiguous(), bias.contiguous()
                forward_kernel[(len(rows),)](rows, w, b, y, mean, rstd, n, eps, BLOCK=block, MASKED=masked)
            ctx.save_for_backward(rows, weight, mean, rstd)
            return y.reshape(x.shape)

        @staticmethod
        def backward(ctx, dy):
            rows, weight, mean, rstd = ctx.saved_tensors
            n = rows.shape[-1]
            given = dy.reshape(-1, n).contiguous()
            dx, dw = torch.empty_like(rows), torch.empty_like(rows)
            if len(rows):
                block = max(BLOCK, triton.next_power_of_2(n))
                args = given, rows, weight.contiguous(), mean, rstd, dx, dw, n
                backward_kernel[(len(rows),)](*args, BLOCK=block)
            return dx.reshape(dy.shape), dw.sum(0), given.sum(0), None

    return LayerNorm.apply


def main(arguments):
    """Judges the kernels; the exit code."""
    if not torch.cuda.is_available():
        print("triton_layer_norm: expected a device cuda, torch finds none here", file=sys.stderr)
        return 2
    torch.manual_seed(0)
    x, w, b = (torch.randn(shape, device="cuda") for shape in ((5, BLOCK), (BLOCK,), (BLOCK,)))
    own = layer_norm(masked="--mistake" not in arguments)

    def fn(input, weight, bias):
        return own(input, weight, bias)

    report = parity.check(fn, "layer_norm", x, weight=w, bias=b, normalized_shape=[BLOCK], sweep=True, tile=BLOCK)
    print(report)
    return int(not report.ok)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
