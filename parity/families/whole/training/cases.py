"""Training by each regime, and the worked example."""

from __future__ import annotations

import math
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


REGIMES = (
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


def _linear(i: int, o: int, **args: Any) -> Spec:
    return Spec("Linear", {"in_features": i, "out_features": o, **args})


def _sequential(*layers: Spec) -> Spec:
    return Spec("Sequential", layers=layers)


def _short(
    what: str,
    network: Spec,
    loss: Spec,
    optimizer: Spec,
    inputs: Draw,
    targets: Draw,
    arrays: Mapping[str, Draw],
    **more: Any,
) -> TrainCase:
    """Few updates, of layers and losses that the trainings above have not."""
    return TrainCase(
        f"Training/{what}",
        network,
        loss,
        optimizer,
        inputs,
        targets,
        arrays,
        **{"batch_size": 3, "iterations": 40, "certified": (1, 5), "singles": 2, **more},
    )


TANH = Spec("Tanh")
MLP = _mlp(3, 4, 2, "Tanh")
MLP_ARRAYS = {
    "0.weight": Draw((4, 3), scale=0.5),
    "0.bias": Draw((4,), scale=0.5),
    "2.weight": Draw((2, 4), scale=0.5),
    "2.bias": Draw((2,), scale=0.5),
}
X, T = Draw((8, 3), scale=0.5), Draw((8, 2))

CONVOLUTIONAL = _sequential(
    Spec("Conv2d", {"in_channels": 2, "out_channels": 2, "kernel_size": 2, "groups": 2}),
    TANH,
    Spec("Flatten"),
    _linear(8, 3),
)
NORMALIZED = _sequential(
    _linear(3, 4, bias=False),
    Spec("BatchNorm1d", {"num_features": 4}),
    TANH,
    Spec("LayerNorm", {"normalized_shape": 4}),
    _linear(4, 2),
)

# One normalization at two places: it counts two batches in an update.
TWICE_NORMALIZED = Spec(
    "Sequential",
    layers=(Spec("BatchNorm1d", {"num_features": 3, "momentum": None}), _linear(3, 3, bias=False), TANH, _linear(3, 2)),
    order=(0, 1, 0, 2, 3),
)
EMBEDDED = _sequential(
    Spec("Embedding", {"num_embeddings": 6, "embedding_dim": 3, "padding_idx": 0, "max_norm": 1.0}),
    Spec("Flatten"),
    _linear(6, 2),
)

# Two steps of one cell, the second from the states that the first leaves: gradients go back through time. The last c
# goes nowhere.
RECURRENT = Spec(
    "Graph",
    {"steps": ((("h", "c"), "0", "input"), (("h2", "c2"), "0", "input", "h", "c"), ("output", "1", "h2"))},
    layers=(Spec("LSTMCell", {"input_size": 3, "hidden_size": 3}), _linear(3, 2)),
)

# One layer at two places: its gradient is the sum of both places', and its norm is counted once.
TIED = Spec("Sequential", layers=(_linear(3, 3), TANH, _linear(3, 2)), order=(0, 1, 0, 2))
TIED_ARRAYS = {
    "0.weight": Draw((3, 3), scale=0.5),
    "0.bias": Draw((3,), scale=0.5),
    "3.weight": Draw((2, 3), scale=0.5),
    "3.bias": Draw((2,), scale=0.5),
}
MOMENTUM = Spec("SGD", {"lr": 0.1, "momentum": 0.9})


def _around(what: str, optimizer: Spec, loss: Spec = Spec("MSELoss"), **more: Any) -> TrainCase:  # noqa: B008
    """Something done around the step, on all eight samples at once."""
    given = {"network": MLP, "arrays": MLP_ARRAYS, "inputs": X, "targets": T, **more}
    return _short(what, loss=loss, optimizer=optimizer, **{"batch_size": None, "iterations": 20, **given})


AROUND_THE_STEP = (
    _around("clipped by the norm", MOMENTUM, clip={"max_norm": 4.0}),
    _around("clipped by the largest element", MOMENTUM, clip={"max_norm": 0.25, "norm_type": math.inf}),
    _around("clipped by the norm of order 1", MOMENTUM, clip={"max_norm": 1.0, "norm_type": 1.0}),
    _around("clipped by value", MOMENTUM, clip={"clip_value": 0.125}),
    _around(
        "micro-batches of a mean, the last one smaller",
        Spec("AdamW", {"lr": 0.05}),
        Spec("CrossEntropyLoss"),
        targets=indices((8,), 0, 1, 1, 0, 1, 0, 0, 1),
        accumulate=3,
    ),
    _around(
        "micro-batches of a sum, clipped",
        MOMENTUM,
        Spec("MSELoss", {"reduction": "sum"}),
        accumulate=3,
        clip={"max_norm": 0.5},
    ),
    _around("frozen half-way", Spec("AdamW", {"lr": 0.05, "weight_decay": 0.5}), frozen={"0.weight": 10, "2.bias": 2}),
    _around(
        "tied weights, clipped, a falling rate",
        MOMENTUM,
        network=TIED,
        arrays=TIED_ARRAYS,
        clip={"max_norm": 0.5},
        rates=tuple(0.5 * 0.75**k for k in range(20)),
    ),
    _around(
        "a cosine schedule, clipped",
        Spec("AdamW", {"lr": 0.05}),
        clip={"max_norm": 0.5},
        rates=tuple(0.025 * (1 + math.cos(math.pi * k / 20)) for k in range(20)),
    ),
)

# Dropout of the inputs and of the hidden units. The last batch of an epoch has two samples, the others three.
DROPPING = _sequential(Spec("Dropout", {"p": 0.25}), _linear(3, 4), TANH, Spec("Dropout", {"p": 0.5}), _linear(4, 2))
DROPPED = (
    _short(
        "dropout, groups with weight decay",
        DROPPING,
        Spec("MSELoss"),
        Spec("SGD", {"lr": 0.1, "momentum": 0.9}),
        Draw((8, 3)),
        T,
        {
            "1.weight": Draw((4, 3), scale=0.5),
            "1.bias": Draw((4,), scale=0.5),
            "4.weight": Draw((2, 4), scale=0.5),
            "4.bias": Draw((2,), scale=0.5),
        },
        groups=((("1.weight", "4.weight"), {"weight_decay": 0.1}), (("1.bias", "4.bias"), {"lr": 0.05})),
        drops={"0": (3,), "3": (4,)},
        mask_seed=10,
        singles=1,
        # Of fewer none would be captured.
        iterations=200,
    ),
)


def _of_loss(loss: str, T: Draw, *, log: bool = False, **args: Any) -> TrainCase:
    """A linear model that descends a loss, with LogSoftmax behind it for a loss of `log` probabilities. Few updates and
    few arrays: the loss is what is asked about."""
    layers = (_linear(3, 3), *([Spec("LogSoftmax", {"dim": -1})] if log else []))
    return _short(
        loss,
        _sequential(*layers),
        Spec(loss, args),
        Spec("SGD", {"lr": 0.1, "weight_decay": 0.01}),
        X,
        T,
        {"0.weight": Draw((3, 3), scale=0.5), "0.bias": Draw((3,), scale=0.5)},
        iterations=12,
        certified=(3,),
        singles=1,
    )


SIGNS = Draw((8, 3), "sign")
LOSSES = (
    _of_loss("HuberLoss", Draw((8, 3)), delta=0.75),
    _of_loss("SmoothL1Loss", Draw((8, 3)), beta=0.5, reduction="sum"),
    _of_loss("NLLLoss", indices((8,), 0, 1, 2, 1, 2, -100, 0, 2), log=True),
    _of_loss("KLDivLoss", Draw((8, 3), "unit"), log=True, reduction="batchmean"),
    _of_loss("PoissonNLLLoss", Draw((8, 3), "positive"), full=True),
    _of_loss("SoftMarginLoss", SIGNS),
    _of_loss("MultiLabelSoftMarginLoss", Draw((8, 3), "unit")),
    _of_loss("HingeEmbeddingLoss", SIGNS, margin=0.5),
    _of_loss("MultiMarginLoss", indices((8,), 0, 1, 2, 1, 2, 0, 0, 2), p=2, margin=0.5),
    _of_loss("MultiLabelMarginLoss", indices((8, 3), 0, -1, -1, 2, 1, -1, 1, -1, 0)),
)
"""The losses of an output and its targets that no other training has. Losses of three arrays, and
LinearCrossEntropyLoss, which has parameters, are none that `refnet.fit` takes."""

CASES: tuple[TrainCase, ...] = (
    *REGIMES,
    *AROUND_THE_STEP,
    *DROPPED,
    *LOSSES,
    _short(
        "convolution with groups, weight decay",
        CONVOLUTIONAL,
        Spec("CrossEntropyLoss", {"label_smoothing": 0.1}),
        Spec("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
        Draw((8, 2, 3, 3), scale=0.5),
        indices((8,), 0, 1, 2, 1, 2, 0, 0, 2),
        {
            "0.weight": Draw((2, 1, 2, 2), scale=0.5),
            "0.bias": Draw((2,), scale=0.5),
            "3.weight": Draw((3, 8), scale=0.25),
            "3.bias": Draw((3,), scale=0.25),
        },
    ),
    _short(
        "normalizations, Adam, groups",
        NORMALIZED,
        Spec("MSELoss"),
        Spec("Adam", {"lr": 0.01}),
        X,
        T,
        {
            "0.weight": Draw((4, 3), scale=0.25),
            "1.weight": Draw((4,), "positive"),
            "1.bias": Draw((4,), scale=0.5),
            "1.running_mean": Draw((4,)),
            "1.running_var": Draw((4,), "positive"),
            "1.num_batches_tracked": indices((), 0),
            "3.weight": Draw((4,), "positive"),
            "3.bias": Draw((4,), scale=0.5),
            "4.weight": Draw((2, 4), scale=0.5),
            "4.bias": Draw((2,), scale=0.5),
        },
        groups=(
            (("0.weight", "4.weight"), {"weight_decay": 0.1}),
            (("1.weight", "1.bias", "3.weight", "3.bias", "4.bias"), {"amsgrad": True}),
        ),
        drop_last=True,
    ),
    _short("L1Loss", MLP, Spec("L1Loss"), Spec("SGD", {"lr": 0.1, "weight_decay": 1.0}), X, T, MLP_ARRAYS),
    _short(
        "HalfSquaredError, AdamW",
        MLP,
        Spec("HalfSquaredError"),
        Spec("Adam", {"lr": 0.1, "weight_decay": 2.0, "decoupled_weight_decay": True}),
        X,
        T,
        MLP_ARRAYS,
    ),
    _short(
        "BCEWithLogitsLoss",
        MLP,
        Spec("BCEWithLogitsLoss", {"reduction": "sum"}),
        Spec("SGD", {"lr": 0.05, "momentum": 0.5, "nesterov": True, "weight_decay": 0.1}),
        X,
        Draw((8, 2), "unit"),
        MLP_ARRAYS,
    ),
    _short(
        "BCELoss",
        _sequential(*MLP.layers, Spec("Sigmoid")),
        Spec("BCELoss"),
        Spec("Adam", {"lr": 0.05, "maximize": False}),
        X,
        Draw((8, 2), "unit"),
        MLP_ARRAYS,
    ),
    _short(
        "one normalization at two places",
        TWICE_NORMALIZED,
        Spec("MSELoss"),
        Spec("SGD", {"lr": 0.05, "momentum": 0.9}),
        X,
        T,
        {
            "0.weight": Draw((3,), "positive"),
            "0.bias": Draw((3,), scale=0.5),
            "0.running_mean": Draw((3,)),
            "0.running_var": Draw((3,), "positive"),
            "0.num_batches_tracked": indices((), 0),
            "1.weight": Draw((3, 3), scale=0.5),
            "4.weight": Draw((2, 3), scale=0.5),
            "4.bias": Draw((2,), scale=0.5),
        },
        drop_last=True,
    ),
    _short(
        "an embedding, renormalized in place",
        EMBEDDED,
        Spec("MSELoss"),
        Spec("SGD", {"lr": 0.5}),
        indices((8, 2), 1, 2, 3, 1, 0, 4, 2, 0, 4, 4, 1, 3, 2, 4, 3, 0),
        T,
        {"0.weight": Draw((6, 3)), "2.weight": Draw((2, 6), scale=0.5), "2.bias": Draw((2,), scale=0.5)},
    ),
    _short(
        "an LSTM cell, two steps",
        RECURRENT,
        Spec("MSELoss"),
        Spec("Adam", {"lr": 0.05}),
        X,
        T,
        {
            "0.weight_ih": Draw((12, 3), scale=0.5),
            "0.weight_hh": Draw((12, 3), scale=0.5),
            "0.bias_ih": Draw((12,), scale=0.5),
            "0.bias_hh": Draw((12,), scale=0.5),
            "1.weight": Draw((2, 3), scale=0.5),
            "1.bias": Draw((2,), scale=0.5),
        },
    ),
)
