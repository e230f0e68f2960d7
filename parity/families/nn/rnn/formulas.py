"""A weaker formula of LSTMCell's backward."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.families.formula import Variant


def _gates_from_outputs(module: Any) -> None:
    def backward(grad_output: Any, saved: Any) -> Any:
        single, X, H0, C0, *_, Si, Sf, Tg, So, _, Tc, given = saved
        dH1, dC1 = (np.expand_dims(d, -2) for d in grad_output) if single else grad_output
        # dC[n,h] = dC1[n,h] + dH1[n,h] So[n,h] (1 - Tc[n,h]^2)
        dC = dC1 + dH1 * So * (1 - Tc * Tc)
        # dZi[n,h] = dC[n,h] Tg[n,h] (1 - Si[n,h]) Si[n,h]     dZf[n,h] = dC[n,h] C0[n,h] (1 - Sf[n,h]) Sf[n,h]
        dZi, dZf = dC * Tg * ((1 - Si) * Si), dC * C0 * ((1 - Sf) * Sf)
        # dZg[n,h] = dC[n,h] Si[n,h] (1 - Tg[n,h]^2)           dZo[n,h] = dH1[n,h] Tc[n,h] (1 - So[n,h]) So[n,h]
        dZg, dZo = dC * Si * (1 - Tg * Tg), dH1 * Tc * ((1 - So) * So)
        dZ = np.concatenate([dZi, dZf, dZg, dZo], axis=-1)
        # dX[n,x] = sum_z dZ[n,z] W[z,x]     dH0[n,h] = sum_z dZ[n,z] U[z,h]     dC0[n,h] = dC[n,h] Sf[n,h]
        dX, dH0, dC0 = dZ @ module.params["weight_ih"], dZ @ module.params["weight_hh"], dC * Sf
        if single:
            dX, dH0, dC0 = (d.reshape(d.shape[-1]) for d in (dX, dH0, dC0))
        # dW[z,x] = sum_n dZ[n,z] X[n,x]     dU[z,h] = sum_n dZ[n,z] H0[n,h]     db[z] = sum_n dZ[n,z]
        db = dZ.sum(axis=-2)
        grads = {"weight_ih": dZ.mT @ X, "weight_hh": dZ.mT @ H0, "bias_ih": db, "bias_hh": db}
        # Without given states there is the gradient of X alone.
        return (dX if given == "none" else (dX, dH0, dC0)), {name: grads[name] for name in module.params}

    module.backward = backward


WEAKER = (
    Variant(
        "y(1 - y) and 1 - y^2 in the gates",
        "Both of these inside LSTMCell, whose gates torch's CPU backend differentiates one by one.",
        "torch: aten/src/ATen/native/RNN.cpp, CellParams and LSTMCell; derivatives as above",
        {"LSTMCell": _gates_from_outputs},
        ("torch", "jax"),
    ),
)
