"""Recurrent cells."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from refnet import _check
from refnet.arithmetic import special
from refnet.generator import Generator
from refnet.nn import init
from refnet.nn.module import Array, Module, Params


class LSTMCellSaved(NamedTuple):
    """Whether there was a single sample without the axis n; inputs; Zg; s(-Zi), s(-Zf), s(-Zo); the gates; C1 and its
    tanh; whether the states were given."""

    single: bool
    X: Array
    H0: Array
    C0: Array
    Zg: Array
    R: tuple[Array, Array, Array]
    Si: Array
    Sf: Array
    Tg: Array
    So: Array
    C1: Array
    Tc: Array
    given: str


class LSTMCell(Module):
    """One step of a long short-term memory, from states H0, C0 to H1, C1.

    Axes: n sample, x input unit, h hidden unit, z the 4h gate units: h each of input gate i, forget gate f, candidate g
    and output gate o, in this order. X (n, x), or (x,) for a single sample; H0, C0, H1, C1 (n, h) or (h,). `weight_ih`
    W (z, x), `weight_hh` U (z, h), `bias_ih` and `bias_hh` (z,). s is the sigmoid.

        Z = X W^T + bias_ih + H0 U^T + bias_hh     Si = s(Zi)   Sf = s(Zf)   Tg = tanh(Zg)   So = s(Zo)
        C1 = Sf C0 + Si Tg                         H1 = So tanh(C1)

    The states come as torch's one tuple (H0, C0), or as two inputs; zeros if they are left out.
    The derivatives of sigmoid and tanh are written s(z) s(-z) and 4 s(2z) s(-2z): accurate in saturated gates too.

    Args:
        input_size, hidden_size: number of input units, of hidden units.
        bias: whether there are the two biases.
        device: accepted as torch's: the processor.
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
        device: Any = None,
        dtype: Any = None,
        *,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        self.input_size = _check.size("LSTMCell", "input_size", input_size)
        self.hidden_size = _check.size("LSTMCell", "hidden_size", hidden_size)
        bound = 1 / math.sqrt(hidden_size) if hidden_size > 0 else 0
        z = 4 * hidden_size
        shapes: dict[str, tuple[int, ...]] = {"weight_ih": (z, input_size), "weight_hh": (z, hidden_size)}
        if bias:
            shapes |= {"bias_ih": (z,), "bias_hh": (z,)}
        dtype = _check.dtype_of("LSTMCell", dtype, device)
        for name, shape in shapes.items():
            self.params[name] = init.uniform_(np.empty(shape, dtype), -bound, bound, generator=generator)

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}" + ("" if "bias_ih" in self.params else ", bias=False")

    def forward(
        self, input: Array, hx: Any = None, cx: Array | None = None
    ) -> tuple[tuple[Array, Array], LSTMCellSaved]:
        """Return `((H1, C1), saved)`. `hx` is the tuple (H0, C0), or H0 alone with C0 as `cx`; None means zeros."""
        X = input
        H0: Array
        C0: Array
        _check.floating("LSTMCell", input=X)
        given = "two" if cx is not None else "none" if hx is None else "tuple"
        if given == "none":
            H0 = C0 = _zeros(X, self.hidden_size)
        elif given == "two":
            H0, C0 = hx, cx
        elif not isinstance(hx, tuple | list) or len(hx) != 2:
            raise TypeError(f"LSTMCell: expected hx to be a pair of states, got {type(hx).__name__}")
        else:
            H0, C0 = hx
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
        Z = special.product(X, self.params["weight_ih"].mT) + special.product(H0, self.params["weight_hh"].mT)
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
        return output, LSTMCellSaved(single, X, H0, C0, Zg, (Ri, Rf, Ro), Si, Sf, Tg, So, C1, Tc, given)

    def backward(self, grad_output: tuple[Array, Array], saved: LSTMCellSaved) -> tuple[Any, Params]:
        """Return `(grad_input, grad_params)` for `(dH1, dC1)`; grad_input has the form of the inputs: dX alone,
        (dX, (dH0, dC0)) or (dX, dH0, dC0)."""
        single, X, H0, C0, Zg, (Ri, Rf, Ro), Si, Sf, Tg, So, C1, Tc, given = saved
        shape = (self.hidden_size,) if single else C1.shape
        dH1, dC1 = (_check.upstream("LSTMCell", d, shape, C1.dtype) for d in grad_output)
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
        dX, dH0 = special.product(dZ, self.params["weight_ih"]), special.product(dZ, self.params["weight_hh"])
        dC0 = dC * Sf
        if single:
            dX, dH0, dC0 = dX.reshape(self.input_size), dH0.reshape(self.hidden_size), dC0.reshape(self.hidden_size)
        # dW[z,x] = sum_n dZ[n,z] X[n,x]     dU[z,h] = sum_n dZ[n,z] H0[n,h]
        grads = {"weight_ih": special.over_samples(dZ, X), "weight_hh": special.over_samples(dZ, H0)}
        if "bias_ih" in self.params:
            # dbias_ih[z] = dbias_hh[z] = sum_n dZ[n,z]; two arrays, as one may be scaled in place
            grads["bias_ih"] = special.total(dZ, -2)
            grads["bias_hh"] = grads["bias_ih"].copy()
        inputs = {"none": dX, "tuple": (dX, (dH0, dC0)), "two": (dX, dH0, dC0)}
        return inputs[given], grads


def _zeros(X: Array, h: int) -> Array:
    """(..., h) zeros of the arithmetic and dtype of X."""
    Z: Array = special.lift(np.zeros((*X.shape[:-1], h)), X)
    return Z


def _dtanh(X: Array) -> Array:
    """tanh'(x) = 4 s(2x) s(-2x), elementwise."""
    Y, Z = special.sigmoids(2 * X)
    return 4 * (Y * Z)
