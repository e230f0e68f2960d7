"""Training by each regime, and the worked example."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from parity.families.case import Draw, Spec, TrainCase, given, indices


def _mlp(i: int, h: int, o: int, hidden: str, output: str | None = None) -> Spec:
    layers = [
        Spec("Linear", {"in_features": i, "out_features": h}),
        Spec(hidden),
        Spec("Linear", {"in_features": h, "out_features": o}),
        *([Spec(output)] if output else []),
    ]
    return Spec("Sequential", layers=tuple(layers))


WORKED_EXAMPLE = TrainCase(
    "Training/worked example, biases frozen",
    _mlp(2, 2, 2, "Sigmoid", "Sigmoid"),
    Spec("HalfSquaredError"),
    Spec("SGD", {"lr": 0.5}),
    given((1, 2), 0.05, 0.10),
    given((1, 2), 0.01, 0.99),
    {
        "0.weight": given((2, 2), 0.15, 0.20, 0.25, 0.30),
        "0.bias": given((2,), 0.35),
        "2.weight": given((2, 2), 0.40, 0.45, 0.50, 0.55),
        "2.bias": given((2,), 0.60),
    },
    batch_size=None,
    certified=(1, 2, 10, 100, 1000, 10_000),
    trainable=("0.weight", "2.weight"),
)

# Ten samples of three inputs in two classes that no plane divides: class 1 where an odd number of inputs is positive.
INPUTS = given(
    (10, 3),
    *(0.5, 1.0, 0.75),
    *(1.0, -0.5, -1.0),
    *(-0.75, 1.0, -0.5),
    *(-1.0, -0.75, 0.5),
    *(0.75, 0.5, 1.25),
    *(-0.5, -1.0, -0.75),
    *(1.0, 0.75, -0.5),
    *(0.5, -1.0, 1.0),
    *(-1.25, 0.5, 0.75),
    *(-0.75, -0.5, -1.25),
)
CLASSES = indices((10,), 1, 1, 1, 1, 1, 0, 0, 0, 0, 0)
PARITY = {
    "0.weight": Draw((5, 3), scale=0.5),
    "0.bias": Draw((5,), scale=0.5),
    "2.weight": Draw((2, 5), scale=0.5),
    "2.bias": Draw((2,), scale=0.5),
}


def _parity(what: str, batch_size: int | None, optimizer: Mapping[str, Any], **more: Any) -> TrainCase:
    return TrainCase(
        f"Training/{what}",
        _mlp(3, 5, 2, "Tanh"),
        Spec("CrossEntropyLoss"),
        Spec("SGD", optimizer),
        INPUTS,
        CLASSES,
        PARITY,
        batch_size,
        certified=(1, 2, 10, 20),
        **more,
    )


CASES = (
    WORKED_EXAMPLE,
    _parity("batch", None, {"lr": 0.1, "momentum": 0.9}),
    _parity("mini-batch, the last one short", 4, {"lr": 0.05}),
    _parity(
        "mini-batch, the last one dropped",
        4,
        {"lr": 0.05, "momentum": 0.5, "nesterov": True},
        drop_last=True,
        iterations=2_000,
    ),
    _parity("stochastic", 1, {"lr": 0.02, "weight_decay": 0.001}),
)
