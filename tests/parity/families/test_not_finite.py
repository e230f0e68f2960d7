"""NaN and infinity among the inputs: refnet's answers are NaN and infinite where torch's are, for every layer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from parity.engines.refnet import RefnetEngine
from parity.engines.torch import TorchEngine
from parity.families.conditions import typical
from parity.families.listing import OWN
from parity.records.facts import MODULES
from parity.records.record import VJP

PLAIN = (
    "TransformerEncoder/batch 3, a norm behind",
    "TransformerDecoder/batch 3, gelu",
    "Transformer/batch 3, gelu",
)

OTHERWISE = {
    ("ScaledDotProductAttention", -np.inf): "torch takes a row of scores that are all -inf for a query without keys",
    ("BCEWithLogitsLoss", -np.inf): "torch adds infinities of both signs where refnet has one",
    ("SoftMarginLoss", -np.inf): "torch divides infinity by infinity where refnet's gradient is 1",
    ("Softsign", np.inf): "torch divides infinity by infinity where refnet has 1 / infinity",
    ("Softsign", -np.inf): "torch divides infinity by infinity where refnet has 1 / infinity",
}
EITHER = ("ELU", "SELU", "CELU", "Hardswish")
"""torch's gradient at a NaN is one or not, as the place in the tensor has it: see docs/findings.md."""
VALUES = (np.nan, np.inf, -np.inf)
# A dropped NaN or infinity is 0 and not NaN, as the class says.
ASKED = [
    pytest.param(
        name,
        value,
        marks=[pytest.mark.xfail(strict=True, reason=OTHERWISE[name, value])] if (name, value) in OTHERWISE else [],
    )
    for name in MODULES
    if name not in ("Dropout", "BCELoss")  # BCELoss refuses what is not between 0 and 1
    for value in VALUES
]


@pytest.mark.parametrize(("name", "value"), ASKED)
def test_positions_are_torchs(name: str, value: float) -> None:
    pytest.importorskip("torch")
    # Of the two of which no case has samples along the first axis of all inputs, one that is as plain.
    case = typical(OWN, name) or next(
        case for case in OWN if case.spec.type == name and case.name in (*PLAIN, f"{name}/batch 3")
    )
    record = case.record("full", "float64")
    assert isinstance(record, VJP)
    if record.inputs[0].dtype.kind == "f":
        first = record.inputs[0].copy()
        first.flat[1] = value
        record = replace(record, inputs=(first, *record.inputs[1:]))
    else:
        # Of a table that is looked up, the row of the first index.
        table = record.arrays["weight"].copy()
        table[record.inputs[0].flat[0], 1] = value
        record = replace(record, arrays={**record.arrays, "weight": table})
    alike(record)


def alike(record: VJP) -> None:
    """NaN and the infinities stand at the same places of refnet's answer and of torch's."""
    own, other = RefnetEngine().vjp(record), TorchEngine().vjp(record)
    assert own.keys() == other.keys()
    for tensor, values in own.items():
        if record.spec.type in EITHER and tensor == "grad_input":
            other[tensor].flat[1] = values.flat[1]
        for kind in (np.isnan, np.isposinf, np.isneginf):
            np.testing.assert_array_equal(kind(values), kind(other[tensor]), err_msg=f"{tensor}, {kind.__name__}")


def poisoned(array: np.ndarray) -> np.ndarray:
    """A copy with a NaN at its second place, or its only one."""
    made = array.copy()
    made.flat[min(1, made.size - 1)] = np.nan
    return made


@pytest.mark.parametrize("name", ["CrossEntropyLoss", "HalfSquaredError", "LSTMCell"])
def test_a_nan_goes_where_it_goes_in_torch(name: str) -> None:
    """From each input, parameter, weight of the classes and upstream gradient, one after the other."""
    pytest.importorskip("torch")
    case = typical(OWN, name)
    assert case is not None
    record = case.record("full", "float64")
    asked = 0
    for field in ("inputs", "grad_outputs"):
        arrays = getattr(record, field)
        for k, array in enumerate(arrays):
            if array.dtype.kind == "f":
                alike(replace(record, **{field: (*arrays[:k], poisoned(array), *arrays[k + 1 :])}))
                asked += 1
    for key, array in record.arrays.items():
        alike(replace(record, arrays={**record.arrays, key: poisoned(array)}))
        asked += 1
    assert asked == {"CrossEntropyLoss": 3, "HalfSquaredError": 3, "LSTMCell": 9}[name]
