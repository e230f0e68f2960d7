"""Activations with a gate: GLU, and the blocks SwiGLU and GEGLU, which torch.nn does not have."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from refnet import _check
from refnet.arithmetic import special
from refnet.generator import Generator
from refnet.nn.activation import GELU, SiLU
from refnet.nn.linear import Linear
from refnet.nn.module import Array, Module, Params


class GLUSaved(NamedTuple):
    """The two halves of the input, and the axis."""

    A: Array
    B: Array
    c: int


class GLU(Module):
    """y = a s(b), a and b the halves of the input along `dim`, s the sigmoid.

    s'(b) is written s(b) s(-b), which keeps its digits where s(b) is near 1.

    Source: Y. N. Dauphin et al., "Language Modeling with Gated Convolutional Networks", arXiv:1612.08083.

    Raises:
        ValueError: the input has no axis `dim`, or an odd number of elements along it.
    """

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = dim

    def extra_repr(self) -> str:
        return f"dim={self.dim}"

    def forward(self, input: Array) -> tuple[Array, GLUSaved]:
        X = input
        _check.floating("GLU", input=X)
        c = _check.axis("GLU", X, self.dim)
        n, odd = divmod(X.shape[c], 2)
        if odd:
            raise ValueError(f"GLU: expected an even number of elements along axis {self.dim}, got shape {X.shape}")
        behind = (slice(None),) * (-1 - c)
        A, B = X[(..., slice(n), *behind)], X[(..., slice(n, None), *behind)]
        # Y[.] = A[.] s(B[.])
        return A * special.sigmoid(B), GLUSaved(A, B, c)

    def backward(self, grad_output: Array, saved: GLUSaved) -> tuple[Array, Params]:
        dY, (A, B, c) = grad_output, saved
        dY = _check.upstream("GLU", dY, A.shape, A.dtype)
        S, Z = special.sigmoids(B)
        # dA[.] = dY[.] s(B[.])     dB[.] = dY[.] A[.] s(B[.]) s(-B[.])
        return np.concatenate([dY * S, dY * (A * (S * Z))], axis=c), {}


class GatedSaved(NamedTuple):
    """What the three linear maps and the activation saved; the activated gate S and the value B beside it."""

    gate: Any
    up: Any
    down: Any
    act: Any
    S: Array
    B: Array


class SwiGLU(Module):
    """y = (silu(x Wg^T + bg) * (x Wu^T + bu)) Wd^T + bd: the feed-forward block of LLaMA and its kin.

    torch.nn has no such class. The parameters are named `gate_proj`, `up_proj` and `down_proj`, as in published
    checkpoints: (hidden, in), (hidden, in) and (out, hidden). The product alone, of two tensors that are there already,
    is `lambda a, b: a / (1 + np.exp(-a)) * b` for `parity.check`.

    Source: N. Shazeer, "GLU Variants Improve Transformer", arXiv:2002.05202, equation 6, FFN_SwiGLU.

    Args:
        in_features, hidden_features, out_features: sizes; `out_features` is `in_features` where it is None.
        bias: whether the three maps have biases: by default none, as in the source.
        device: accepted as torch's: the processor.
        dtype: float32 or float64 (the default).
        generator: source of the initial values of the three maps, in their order; see Linear.
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        out_features: int | None = None,
        bias: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        self.act = SiLU()
        out = in_features if out_features is None else out_features
        self.adopt(_maps(in_features, hidden_features, out, bias, device, dtype, generator))

    def forward(self, input: Array) -> tuple[Array, GatedSaved]:
        return _gated(self, input)

    def backward(self, grad_output: Array, saved: GatedSaved) -> tuple[Array, Params]:
        return _gated_backward(self, grad_output, saved)


class GEGLU(Module):
    """y = (gelu(x Wg^T + bg) * (x Wu^T + bu)) Wd^T + bd: the feed-forward block of Gemma and its kin.

    torch.nn has no such class. Parameters and arguments are those of SwiGLU.

    Source: N. Shazeer, "GLU Variants Improve Transformer", arXiv:2002.05202, equation 6, FFN_GEGLU.

    Args:
        approximate: "none" or "tanh", as of GELU.
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        out_features: int | None = None,
        bias: bool = False,
        approximate: str = "none",
        device: Any = None,
        dtype: Any = None,
        *,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        self.act = GELU(approximate)
        out = in_features if out_features is None else out_features
        self.adopt(_maps(in_features, hidden_features, out, bias, device, dtype, generator))

    def extra_repr(self) -> str:
        return self.act.arguments()

    def forward(self, input: Array) -> tuple[Array, GatedSaved]:
        return _gated(self, input)

    def backward(self, grad_output: Array, saved: GatedSaved) -> tuple[Array, Params]:
        return _gated_backward(self, grad_output, saved)


def _maps(
    i: int, h: int, o: int, bias: bool, device: Any, dtype: Any, generator: Generator | None
) -> dict[str, Module]:
    sizes = {"gate_proj": (i, h), "up_proj": (i, h), "down_proj": (h, o)}
    return {name: Linear(*size, bias, device, dtype, generator=generator) for name, size in sizes.items()}


def _gated(block: Any, X: Array) -> tuple[Array, GatedSaved]:
    gate, up, down = block.children()
    A, of_gate = gate.forward(X)
    B, of_up = up.forward(X)
    S, of_act = block.act.forward(A)
    # H[n,h] = f(A[n,h]) B[n,h]     Y = H Wd^T + bd
    Y, of_down = down.forward(S * B)
    return Y, GatedSaved(of_gate, of_up, of_down, of_act, S, B)


def _gated_backward(block: Any, dY: Array, saved: GatedSaved) -> tuple[Array, Params]:
    grads: Params = {}
    gate, up, down = block.children()
    dH, inner = down.backward(dY, saved.down)
    block.add_grads(grads, "down_proj", inner)
    # dA[n,h] = dH[n,h] B[n,h] f'(A[n,h])     dB[n,h] = dH[n,h] f(A[n,h])     dX = dA Wg + dB Wu
    dA, _ = block.act.backward(dH * saved.B, saved.act)
    dX, inner = gate.backward(dA, saved.gate)
    block.add_grads(grads, "gate_proj", inner)
    more, inner = up.backward(dH * saved.S, saved.up)
    block.add_grads(grads, "up_proj", inner)
    return dX + more, grads
