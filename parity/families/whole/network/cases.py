"""Networks: a Sequential from its input to every gradient.

A head of LogSoftmax with a one-hot upstream gradient is the cross-entropy of one sample, up to the sign.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from parity.families.case import FAMILIES, FULL, Draw, Spec, VJPCase, indices

SIGMOID, TANH, RELU, IDENTITY, FLATTEN = (Spec(name) for name in ("Sigmoid", "Tanh", "ReLU", "Identity", "Flatten"))
SOFTMAX, LOG_SOFTMAX = Spec("Softmax", {"dim": -1}), Spec("LogSoftmax", {"dim": -1})


def _linear(i: int, o: int, **args: Any) -> Spec:
    return Spec("Linear", {"in_features": i, "out_features": o, **args})


def _weights(prefix: str, i: int, o: int, scale: float = 1.0) -> dict[str, Draw]:
    return {f"{prefix}.weight": Draw((o, i), scale=scale), f"{prefix}.bias": Draw((o,), scale=scale)}


def _sequential(*layers: Spec, order: tuple[int, ...] | None = None) -> Spec:
    return Spec("Sequential", layers=layers, order=order)


def _network(
    what: str,
    X: tuple[int, ...],
    dY: tuple[int, ...] | Draw,
    spec: Spec,
    arrays: Mapping[str, Draw],
    training: bool = True,
    families: tuple[str, ...] = FAMILIES,
) -> VJPCase:
    """`X` is the input's shape, `dY` the upstream gradient or its shape."""
    upstream = dY if isinstance(dY, Draw) else Draw(dY)
    return VJPCase(f"Network/{what}", spec, (Draw(X),), (upstream,), arrays, training, families)


TWO = _sequential(_linear(2, 2), SIGMOID, _linear(2, 2), SIGMOID)
TWO_ARRAYS = {**_weights("0", 2, 2), **_weights("2", 2, 2)}


def _mlp(activation: Spec, head: Spec) -> tuple[Spec, dict[str, Draw]]:
    """4-6-5-3."""
    layers = _sequential(_linear(4, 6), activation, _linear(6, 5), activation, _linear(5, 3), head)
    return layers, {**_weights("0", 4, 6), **_weights("2", 6, 5), **_weights("4", 5, 3)}


CNN = _sequential(
    Spec("Conv2d", {"in_channels": 1, "out_channels": 2, "kernel_size": 3, "padding": 1, "stride": 2}),
    RELU,
    Spec("Conv2d", {"in_channels": 2, "out_channels": 3, "kernel_size": 2}),
    RELU,
    FLATTEN,
    _linear(12, 4),
    LOG_SOFTMAX,
)
CNN_ARRAYS = {
    "0.weight": Draw((2, 1, 3, 3)),
    "0.bias": Draw((2,)),
    "2.weight": Draw((3, 2, 2, 2)),
    "2.bias": Draw((3,)),
    **_weights("5", 12, 4, 0.25),
}

NORMALIZED = _sequential(_linear(4, 5), Spec("BatchNorm1d", {"num_features": 5}), TANH, _linear(5, 3), LOG_SOFTMAX)
NORMALIZED_ARRAYS = {
    **_weights("0", 4, 5),
    "1.weight": Draw((5,)),
    "1.bias": Draw((5,)),
    "1.running_mean": Draw((5,)),
    "1.running_var": Draw((5,), "positive"),
    "1.num_batches_tracked": indices((), 3),
    **_weights("3", 5, 3),
}

# One normalization at two places: it counts two batches and moves twice.
TWICE_NORMALIZED = _sequential(
    Spec("BatchNorm1d", {"num_features": 3}),
    _linear(3, 3),
    TANH,
    _linear(3, 2),
    order=(0, 1, 0, 2, 3),
)
TWICE_NORMALIZED_ARRAYS = {
    "0.weight": Draw((3,)),
    "0.bias": Draw((3,)),
    "0.running_mean": Draw((3,)),
    "0.running_var": Draw((3,), "positive"),
    "0.num_batches_tracked": indices((), 3),
    **_weights("1", 3, 3),
    **_weights("4", 3, 2),
}

SHARED = _weights("0", 3, 3)
TO_A_HEAD = {**_weights("0", 3, 4), **_weights("2", 4, 2)}
LARGER = {**_weights("0", 32, 64, 0.25), **_weights("2", 64, 10, 0.25)}

CASES = (
    *(_network(f"2-2-2, batch {n}", (n, 2), (n, 2), TWO, TWO_ARRAYS) for n in (0, 1, 4)),
    _network("2-2-2, no batch axis", (2,), (2,), TWO, TWO_ARRAYS),
    *(
        _network(f"4-6-5-3, {hidden.type}, {head.type}", (3, 4), (3, 3), *_mlp(hidden, head))
        for hidden in (SIGMOID, TANH, RELU)
        for head in (SOFTMAX, LOG_SOFTMAX)
    ),
    *(
        _network(f"4-6-5-3, {hidden.type}, cross-entropy", (1, 4), Draw((1, 3), "onehot"), *_mlp(hidden, LOG_SOFTMAX))
        for hidden in (TANH, RELU)
    ),
    _network("4-6-5-3, gradient of stride zero", (3, 4), Draw((3, 3), layout="expanded"), *_mlp(TANH, IDENTITY)),
    _network(
        "linear layers only",
        (3, 3),
        (3, 2),
        _sequential(_linear(3, 4), _linear(4, 2)),
        {**_weights("0", 3, 4), **_weights("1", 4, 2)},
    ),
    _network("ReLU between", (3, 3), (3, 2), _sequential(_linear(3, 4), RELU, _linear(4, 2)), TO_A_HEAD),
    *(
        _network(
            f"one layer at two places, {between.type} between",
            (3, 3),
            (3, 3),
            _sequential(_linear(3, 3), between, order=(0, 1, 0)),
            SHARED,
        )
        for between in (TANH, RELU)
    ),
    _network(
        "one layer at three places, a head behind",
        (2, 3),
        (2, 2),
        _sequential(_linear(3, 3), TANH, _linear(3, 2), order=(0, 1, 0, 1, 0, 2)),
        {**SHARED, **_weights("5", 3, 2)},
    ),
    _network(
        "nested",
        (3, 3),
        (3, 3),
        _sequential(_sequential(_linear(3, 4), SIGMOID), _sequential(_sequential(_linear(4, 3)), LOG_SOFTMAX)),
        {**_weights("0.0", 3, 4), **_weights("1.0.0", 4, 3)},
    ),
    _network(
        "nested, one block at two places",
        (3, 3),
        (3, 2),
        _sequential(_sequential(_linear(3, 3), TANH), _linear(3, 2), order=(0, 0, 1)),
        {**_weights("0.0", 3, 3), **_weights("2", 3, 2)},
    ),
    _network("convolutional", (2, 1, 6, 6), (2, 4), CNN, CNN_ARRAYS),
    _network("convolutional, cross-entropy", (1, 1, 6, 6), Draw((1, 4), "onehot"), CNN, CNN_ARRAYS),
    _network("batch normalization", (5, 4), (5, 3), NORMALIZED, NORMALIZED_ARRAYS),
    _network("batch normalization, evaluation", (5, 4), (5, 3), NORMALIZED, NORMALIZED_ARRAYS, training=False),
    _network("batch normalization at two places", (5, 3), (5, 2), TWICE_NORMALIZED, TWICE_NORMALIZED_ARRAYS),
    _network(
        "dropout, evaluation",
        (3, 3),
        (3, 2),
        _sequential(_linear(3, 4), Spec("Dropout", {"p": 0.3}), _linear(4, 2)),
        TO_A_HEAD,
        training=False,
    ),
    _network(
        "32-64-10, Sigmoid, LogSoftmax",
        (2, 32),
        (2, 10),
        _sequential(_linear(32, 64), SIGMOID, _linear(64, 10), LOG_SOFTMAX),
        LARGER,
        families=FULL,
    ),
)
