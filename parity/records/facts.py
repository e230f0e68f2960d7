"""What is to be known of a class beside its forward and its backward, in one table, a row for each class.

What a class says itself is asked there and stands nowhere else: which arrays are parameters and which buffers, in the
module that is built of a spec; which state an optimizer keeps, in its `schema`; the dtype of a buffer, in the record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import refnet
from parity.records.record import VJP, Optimize, Spec, Train
from refnet.optim.optimizer import State


@dataclass(frozen=True)
class Facts:
    """A row of the table.

    Attributes:
        inputs: the arguments of `forward`, by torch's names. One that is an index or a mask has no derivative, which
            its dtype says.
        together: the last inputs that torch takes as one tuple: their number.
        mask: whether the last input is a mask in place of random draws, which torch cannot be handed.
        draws: whether it draws random numbers where it is given none.
        arrays: constructor arguments that are arrays, and buffers of the module.
        products, sums: whether terms are added up in it, in products of matrices or otherwise: rewritings of sums bear
            on it then.
    """

    inputs: tuple[str, ...] = ("input",)
    together: int = 0
    mask: bool = False
    draws: bool = False
    arrays: tuple[str, ...] = ()
    products: bool = False
    sums: bool = False


_LOSS = Facts(("input", "target"), sums=True)

MODULES: Mapping[str, Facts] = {
    "Linear": Facts(products=True, sums=True),
    "Identity": Facts(),
    "Flatten": Facts(),
    "Sigmoid": Facts(),
    "Tanh": Facts(),
    "ReLU": Facts(),
    "Softmax": Facts(sums=True),
    "LogSoftmax": Facts(sums=True),
    "BatchNorm1d": Facts(sums=True),
    "LayerNorm": Facts(sums=True),
    "Dropout": Facts(("input", "mask"), mask=True, draws=True),
    "Conv2d": Facts(products=True, sums=True),
    "LSTMCell": Facts(("input", "h_0", "c_0"), together=2, products=True, sums=True),
    "MSELoss": _LOSS,
    "L1Loss": _LOSS,
    "HalfSquaredError": _LOSS,
    "CrossEntropyLoss": Facts(("input", "target"), arrays=("weight",), sums=True),
    "BCELoss": Facts(("input", "target"), arrays=("weight",), sums=True),
    "BCEWithLogitsLoss": Facts(("input", "target"), arrays=("weight", "pos_weight"), sums=True),
}
"""Every layer and loss. Containers are specs with layers, and optimizers have their schema."""

OTHER = Facts()
"""What holds of a class that has no row."""


def facts(spec: Spec) -> Facts:
    """The facts about a spec's class."""
    return MODULES.get(spec.type, OTHER)


def schema(spec: Spec) -> Mapping[str, State]:
    """What the optimizer of a spec may keep for each parameter, by name."""
    return {array.name: array for array in getattr(refnet.optim, spec.type).schema}


def is_counter(spec: Spec, path: str) -> bool:
    """Whether the state `NAME.KEY` of the optimizer of a spec is a counter: a number, the same in every arithmetic."""
    known = schema(spec).get(path.rpartition(".")[2])
    return known is not None and known.counter


def dtype_of(record: VJP | Optimize | Train, name: str) -> str:
    """The dtype of the tensor of that name in a right answer.

    An update is subtracted in float64. A buffer keeps its dtype. A counter of steps is torch's, in float32.
    """
    kind, _, path = name.partition(".")
    if kind == "update":
        return "float64"
    if kind == "buffer" and not isinstance(record, Optimize):
        own = record.arrays[path].dtype
        return record.dtype if own.kind == "f" else str(own)
    if kind == "state" and not isinstance(record, VJP):
        optimizer = record.spec if isinstance(record, Optimize) else record.optimizer
        return "float32" if is_counter(optimizer, path) else record.dtype
    return record.dtype
