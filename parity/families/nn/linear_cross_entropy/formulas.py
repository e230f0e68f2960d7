"""A weaker formula of LinearCrossEntropyLoss: that of the cross-entropy inside."""

from __future__ import annotations

from typing import Any

from parity.families.fault import replaced
from parity.families.formula import Variant
from parity.families.nn.cross_entropy.formulas import of_log_softmax


def _through_log_softmax(module: Any, right: Any, *chunk: Any) -> Any:
    loss = module.loss()
    of_log_softmax(loss)
    return right(*chunk, loss)


WEAKER = (
    Variant(
        "nll(log_softmax(x W + b))",
        "The gradient of the logits as exp(log p) - [c = t]: it has lost its digits where p of the target is near 1.",
        "torch: torch/nn/functional.py, linear_cross_entropy without options; aten/src/ATen/native/LossNLL.cpp",
        {"LinearCrossEntropyLoss": replaced("chunk", _through_log_softmax)},
        ("torch",),
    ),
)
