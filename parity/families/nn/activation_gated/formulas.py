"""Other formulas of GLU. Those of SwiGLU and GEGLU are their activations', in the family `activation_smooth`."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.families.formula import Variant
from refnet.arithmetic import special


def _glu_from_sigmoid(module: Any) -> None:
    def backward(dY: Any, saved: Any) -> Any:
        A, B, c = saved
        S = special.sigmoid(B)
        # dA[.] = dY[.] S[.]     dB[.] = dY[.] A[.] (1 - S[.]) S[.]
        return np.concatenate([dY * S, dY * (A * ((1 - S) * S))], axis=c), {}

    module.backward = backward


WEAKER = (
    Variant(
        "1 - s(b) in glu'",
        "The gate's derivative from the rounded sigmoid: 1 - s(b) has lost its digits where s(b) is near 1.",
        "torch: aten/src/ATen/native/cpu/Activation.cpp, glu_backward_kernel; JAX differentiates a * s(b) likewise",
        {"GLU": _glu_from_sigmoid},
        ("torch", "jax"),
    ),
)
