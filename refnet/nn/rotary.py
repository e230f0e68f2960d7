"""Rotary position embedding."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from refnet import _check
from refnet.nn.attention import summed_to
from refnet.nn.module import Array, Module, Params


class RotaryEmbeddingSaved(NamedTuple):
    """The pairs of units X1 and X2, and the tables."""

    X1: Array
    X2: Array
    C: Array
    S: Array
    shape: tuple[int, ...]


def rotary_tables(length: int, units: int, base: float = 10_000.0, dtype: Any = np.float64) -> tuple[Array, Array]:
    """`cos` and `sin` of the angles l base^(-2 r / units) for positions l from 0, computed in float64."""
    exponents = np.arange(0, units, 2) * (-1.0 / units)
    angles = np.expand_dims(np.arange(length), -1) * np.power(float(base), exponents)
    return np.asarray(np.cos(angles), dtype), np.asarray(np.sin(angles), dtype)


class RotaryEmbedding(Module):
    """Turns pairs of units by an angle that grows with the position: the scores of attention then depend on distances.

    Axes: l position, e unit, r pair. X (..., l, e); `cos` C and `sin` S (l, r), see `rotary_tables`, or (..., l, r), of
    which leading axes are broadcast; 2 r is at most e, and units after the first 2 r are handed on.

        Y1[l,r] = X1[l,r] C[l,r] - X2[l,r] S[l,r]     Y2[l,r] = X1[l,r] S[l,r] + X2[l,r] C[l,r]

    J. Su et al., "RoFormer: enhanced transformer with rotary position embedding", arXiv:2104.09864, equation 34. Two
    layouts are in use, and weights that were trained in one are wrong in the other:

    - `interleaved`: a pair is two neighbours, X1[r] = X[2r], X2[r] = X[2r + 1]. The paper, GPT-J, Meta's Llama.
    - halves: X1 is the first half, X2 the second. GPT-NeoX, Hugging Face's Llama (`rotate_half`), and the default of
      flash-attn's `apply_rotary_emb`, from which the argument's name is.

    torch.nn has no such class.

    Args:
        interleaved: whether a pair is two neighbours.

    Raises:
        TypeError: input and tables are not floats of one dtype.
        ValueError: their shapes do not fit each other.
    """

    def __init__(self, interleaved: bool = False) -> None:
        super().__init__()
        _check.flag("RotaryEmbedding", "interleaved", interleaved)
        self.interleaved = interleaved

    def extra_repr(self) -> str:
        return f"interleaved={self.interleaved}"

    def forward(self, input: Array, cos: Array, sin: Array) -> tuple[Array, RotaryEmbeddingSaved]:
        X, C, S = input, cos, sin
        _check.floating("RotaryEmbedding", input=X, cos=C, sin=S)
        _check.same_shape("RotaryEmbedding", cos=C, sin=S)
        if X.ndim < 2 or C.ndim < 2 or X.shape[-2] != C.shape[-2] or 2 * C.shape[-1] > X.shape[-1]:
            raise ValueError(
                "RotaryEmbedding: expected an input (..., L, E) and tables (L, R) with 2 R at most E, "
                f"got {tuple(X.shape)} and {tuple(C.shape)}"
            )
        _check.broadcast_to("RotaryEmbedding", (*X.shape[:-1], C.shape[-1]), cos=C)
        X1, X2 = self.pairs(X, C.shape[-1])
        # Y1[l,r] = X1[l,r] C[l,r] - X2[l,r] S[l,r]     Y2[l,r] = X1[l,r] S[l,r] + X2[l,r] C[l,r]
        Y = self.joined(X1 * C - X2 * S, X1 * S + X2 * C, X)
        return Y, RotaryEmbeddingSaved(X1, X2, C, S, X.shape)

    def backward(self, grad_output: Array, saved: RotaryEmbeddingSaved) -> tuple[tuple[Array, Array, Array], Params]:
        """The gradients of the input and of both tables, which are numbers like others."""
        X1, X2, C, S, shape = saved
        dY = _check.upstream("RotaryEmbedding", grad_output, shape, X1.dtype)
        dY1, dY2 = self.pairs(dY, C.shape[-1])
        # dX1[l,r] = dY1[l,r] C[l,r] + dY2[l,r] S[l,r]     dX2[l,r] = dY2[l,r] C[l,r] - dY1[l,r] S[l,r]
        dX = self.joined(dY1 * C + dY2 * S, dY2 * C - dY1 * S, dY)
        # dC[l,r] = sum_n (dY1[n,l,r] X1[n,l,r] + dY2[n,l,r] X2[n,l,r])     over n, what the tables are the same for
        dC = summed_to(dY1 * X1 + dY2 * X2, C.shape)
        # dS[l,r] = sum_n (dY2[n,l,r] X1[n,l,r] - dY1[n,l,r] X2[n,l,r])
        dS = summed_to(dY2 * X1 - dY1 * X2, C.shape)
        return (dX, dC, dS), {}

    def pairs(self, X: Array, r: int) -> tuple[Array, Array]:
        """X1 and X2."""
        if self.interleaved:
            return X[..., : 2 * r : 2], X[..., 1 : 2 * r : 2]
        return X[..., :r], X[..., r : 2 * r]

    def joined(self, Y1: Array, Y2: Array, X: Array) -> Array:
        """The units of the pairs at their places, and behind them those of X."""
        r = Y1.shape[-1]
        if self.interleaved:
            Y = np.concatenate([np.expand_dims(Y1, -1), np.expand_dims(Y2, -1)], axis=-1)
            Y1, Y2 = Y.reshape(*X.shape[:-1], 2 * r), X[..., :0]
        return np.concatenate([Y1, Y2, X[..., 2 * r :]], axis=-1)
