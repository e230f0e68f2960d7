"""Recurrent cells."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from refnet import _check
from refnet.arithmetic import special
from refnet.generator import Generator
from refnet.nn import init
from refnet.nn.module import Array, Module, Params


class LSTMCell(Module):
    """One step of a long short-term memory, from states H0, C0 to H1, C1.

    Axes: n sample, x input unit, h hidden unit, z the 4h gate units: h each of input gate i, forget gate f, candidate g
    and output gate o, in this order. X (n, x), or (x,) for a single sample; H0, C0, H1, C1 (n, h) or (h,). `weight_ih`
    W (z, x), `weight_hh` U (z, h), `bias_ih` and `bias_hh` (z,). s is the sigmoid.

        Z = X W^T + bias_ih + H0 U^T + bias_hh     Si = s(Zi)   Sf = s(Zf)   Tg = tanh(Zg)   So = s(Zo)
        C1 = Sf C0 + Si Tg                         H1 = So tanh(C1)

    torch.nn.LSTMCell takes (H0, C0) as one tuple, and zeros if it is left out; here they are two inputs, always given.
    The derivatives of sigmoid and tanh are written s(z) s(-z) and 4 s(2z) s(-2z): accurate in saturated gates too.

    Args:
        input_size, hidden_size: number of input units, of hidden units.
        bias: whether there are the two biases.
        dtype: float32 or float64 (the default).
        generator: source of the initial values; torch's defaults, U(-1/sqrt(h), 1/sqrt(h)) for all, bit for bit.

    Raises:
        TypeError: input, states and parameters are not floats of one dtype.
        ValueError: their shapes do not fit each other; nothing is broadcast.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        dtype: Any = None,
        *,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        self.input_size, self.hidden_size = input_size, hidden_size
        bound = 1 / math.sqrt(hidden_size) if hidden_size > 0 else 0
        z = 4 * hidden_size
        shapes: dict[str, tuple[int, ...]] = {"weight_ih": (z, input_size), "weight_hh": (z, hidden_size)}
        if bias:
            shapes |= {"bias_ih": (z,), "bias_hh": (z,)}
        for name, shape in shapes.items():
            self.params[name] = init.uniform_(np.empty(shape, dtype or np.float64), -bound, bound, generator=generator)

    def forward(self, X: Array, H0: Array, C0: Array) -> tuple[tuple[Array, Array], Any]:
        """Return `((H1, C1), saved)`."""
        _check.floating("LSTMCell", input=X, h0=H0, c0=C0, **self.params)
        if X.ndim not in (1, 2) or X.shape[-1] != self.input_size:
            x = self.input_size
            raise ValueError(
                f"LSTMCell: expected input of shape (N, {x}) or ({x},), input_size = {x}, got {tuple(X.shape)}"
            )
        shape = (*X.shape[:-1], self.hidden_size)
        for name, state in (("h0", H0), ("c0", C0)):
            if tuple(state.shape) != shape:
                raise ValueError(
                    f"LSTMCell: expected {name} of shape {shape}, hidden_size = {self.hidden_size}, "
                    f"with input of shape {tuple(X.shape)}, got {tuple(state.shape)}"
                )
        single = X.ndim == 1
        if single:
            X, H0, C0 = (np.expand_dims(array, -2) for array in (X, H0, C0))
        # Z[n,z] = sum_x X[n,x] W[z,x] + bias_ih[z] + sum_h H0[n,h] U[z,h] + bias_hh[z]
        Z = X @ self.params["weight_ih"].mT + H0 @ self.params["weight_hh"].mT
        if "bias_ih" in self.params:
            Z = Z + self.params["bias_ih"] + self.params["bias_hh"]
        h = self.hidden_size
        Zi, Zf, Zg, Zo = Z[..., :h], Z[..., h : 2 * h], Z[..., 2 * h : 3 * h], Z[..., 3 * h :]
        (Si, Ri), (Sf, Rf), (So, Ro) = map(special.sigmoids, (Zi, Zf, Zo))
        Tg = np.tanh(Zg)
        # C1[n,h] = Sf[n,h] C0[n,h] + Si[n,h] Tg[n,h]
        C1 = Sf * C0 + Si * Tg
        # H1[n,h] = So[n,h] tanh(C1[n,h])
        Tc = np.tanh(C1)
        H1 = So * Tc
        output = (H1.reshape(*shape), C1.reshape(*shape)) if single else (H1, C1)
        return output, (single, X, H0, C0, Zg, (Ri, Rf, Ro), Si, Sf, Tg, So, C1, Tc)

    def backward(self, grad_output: tuple[Array, Array], saved: Any) -> tuple[tuple[Array, Array, Array], Params]:
        """Return `((dX, dH0, dC0), grad_params)` for `(dH1, dC1)`."""
        dH1, dC1 = grad_output
        single, X, H0, C0, Zg, (Ri, Rf, Ro), Si, Sf, Tg, So, C1, Tc = saved
        if single:
            dH1, dC1 = np.expand_dims(dH1, -2), np.expand_dims(dC1, -2)
        # dC[n,h] = dC1[n,h] + dH1[n,h] So[n,h] tanh'(C1[n,h]): all that reaches C1
        dC = dC1 + dH1 * So * _dtanh(C1)
        # dZi[n,h] = dC[n,h] Tg[n,h] s(Zi[n,h]) s(-Zi[n,h])
        dZi = dC * Tg * (Si * Ri)
        # dZf[n,h] = dC[n,h] C0[n,h] s(Zf[n,h]) s(-Zf[n,h])
        dZf = dC * C0 * (Sf * Rf)
        # dZg[n,h] = dC[n,h] Si[n,h] tanh'(Zg[n,h])
        dZg = dC * Si * _dtanh(Zg)
        # dZo[n,h] = dH1[n,h] Tc[n,h] s(Zo[n,h]) s(-Zo[n,h])
        dZo = dH1 * Tc * (So * Ro)
        dZ = np.concatenate([dZi, dZf, dZg, dZo], axis=-1)
        # dX[n,x] = sum_z dZ[n,z] W[z,x]     dH0[n,h] = sum_z dZ[n,z] U[z,h]     dC0[n,h] = dC[n,h] Sf[n,h]
        dX, dH0, dC0 = dZ @ self.params["weight_ih"], dZ @ self.params["weight_hh"], dC * Sf
        if single:
            dX, dH0, dC0 = dX.reshape(self.input_size), dH0.reshape(self.hidden_size), dC0.reshape(self.hidden_size)
        # dW[z,x] = sum_n dZ[n,z] X[n,x]     dU[z,h] = sum_n dZ[n,z] H0[n,h]
        grads = {"weight_ih": dZ.mT @ X, "weight_hh": dZ.mT @ H0}
        if "bias_ih" in self.params:
            # dbias_ih[z] = dbias_hh[z] = sum_n dZ[n,z]; two arrays, as one may be scaled in place
            grads["bias_ih"] = dZ.sum(axis=-2)
            grads["bias_hh"] = grads["bias_ih"].copy()
        return (dX, dH0, dC0), grads


def _dtanh(X: Array) -> Array:
    """tanh'(x) = 4 s(2x) s(-2x), elementwise."""
    Y, Z = special.sigmoids(2 * X)
    return 4 * (Y * Z)
