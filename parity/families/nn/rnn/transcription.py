"""torch.nn.LSTMCell, as its page says it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mpmath import mp, mpf

from parity.families.mpmath_arrays import Array, Module, array_of, sigmoid_of, tanh_of


def lstm_cell(
    m: Module,
    x: Array,
    h: Array | None = None,
    c: Array | None = None,
    *,
    input_size: int,
    hidden_size: int,
    bias: bool = True,
) -> tuple[Array, Array]:
    """torch.nn.LSTMCell, with the rows of the weights in the order of torch.nn.LSTM: W_ii, W_if, W_ig, W_io.

    i, f, o = σ(W_i x + b_i + W_h h + b_h), g = tanh(likewise), each with its rows; c' = f c + i g, h' = o tanh(c').
    (h, c) is zero if it is not provided.
    """
    if h is None or c is None:
        h = c = array_of((*x.shape[:-1], hidden_size), lambda *index: mpf(0))
    W_i, W_h = m.arrays["weight_ih"], m.arrays["weight_hh"]
    none = array_of((4 * hidden_size,), lambda z: mpf(0))
    b_i, b_h = m.arrays.get("bias_ih", none), m.arrays.get("bias_hh", none)

    def net(*index: int) -> Any:
        *n, z = index
        from_x = mp.fsum(W_i[z, k] * x[*n, k] for k in range(input_size)) + b_i[z]
        return from_x + mp.fsum(W_h[z, k] * h[*n, k] for k in range(hidden_size)) + b_h[z]

    nets = array_of((*h.shape[:-1], 4 * hidden_size), net)

    def cell(*index: int) -> Any:
        *n, u = index
        i, f = sigmoid_of(nets[*n, u]), sigmoid_of(nets[*n, hidden_size + u])
        return f * c[*n, u] + i * tanh_of(nets[*n, 2 * hidden_size + u])

    new_c = array_of(c.shape, cell)

    def hidden(*index: int) -> Any:
        *n, u = index
        return sigmoid_of(nets[*n, 3 * hidden_size + u]) * tanh_of(new_c[index])

    return array_of(h.shape, hidden), new_c


LAYERS: Mapping[str, Callable[..., Any]] = {
    "LSTMCell": lstm_cell,
}
