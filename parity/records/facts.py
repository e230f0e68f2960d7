"""What is to be known of a class beside its forward and its backward, in one table, a row for each class.

A `Spec` of the class has its row as `facts`.

What a class says itself is asked there and stands nowhere else: which arrays are parameters and which buffers, in the
module that is built of a spec; which state an optimizer keeps, in its `schema`; the dtype of a buffer, in the record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


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
        dtype: whether what it computes depends on the dtype, so that it is built with the record's.
    """

    inputs: tuple[str, ...] = ("input",)
    together: int = 0
    mask: bool = False
    draws: bool = False
    arrays: tuple[str, ...] = ()
    products: bool = False
    sums: bool = False
    dtype: bool = False


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
    "BatchNorm2d": Facts(sums=True),
    "BatchNorm3d": Facts(sums=True),
    "InstanceNorm1d": Facts(sums=True),
    "InstanceNorm2d": Facts(sums=True),
    "InstanceNorm3d": Facts(sums=True),
    "LayerNorm": Facts(sums=True),
    "GroupNorm": Facts(sums=True),
    "RMSNorm": Facts(sums=True, dtype=True),
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
