"""A convention of RMSNorm. Letters and axes as there: s sample, f feature, F features in all."""

from __future__ import annotations

from typing import Any

from parity.families.formula import Variant


def _weight_from_1(module: Any) -> None:
    right = module.forward

    def forward(input: Any) -> Any:
        Y, saved = right(input)
        if "weight" in module.params:
            # Y[s,f] = H[s,f] (1 + G[f])
            Y = (saved.H * (1 + module.params["weight"].reshape(saved.H.shape[-1]))).reshape(*saved.shape)
        return Y, saved

    def backward(dY: Any, saved: Any) -> Any:
        if "weight" not in module.params:
            return right_backward(dY, saved)
        # dG[f] = sum_s dY[s,f] H[s,f]     dH[s,f] = dY[s,f] (1 + G[f])
        dX, grads = right_backward(dY, saved)
        H, F = saved.H, max(saved.H.shape[-1], 1)
        dH = dY.reshape(*H.shape) * (1 + module.params["weight"].reshape(H.shape[-1]))
        dX = saved.R * (dH - H * (dH * H).sum(axis=-1, keepdims=True) / F)
        return dX.reshape(*saved.shape), grads

    right_backward = module.backward
    module.forward, module.backward = forward, backward


CONVENTIONS = (
    Variant(
        "weight counted from 1",
        "The output is scaled by 1 + weight, so that weights begin at 0.",
        "google-deepmind/gemma: gemma/gm/nn/_layers.py, RMSNorm; huggingface/transformers: GemmaRMSNorm",
        {"RMSNorm": _weight_from_1},
        ("gemma",),
    ),
)
