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

ADDS = pytest.mark.xfail(strict=True, reason="torch adds infinities of both signs where refnet has one")
DIVIDES = pytest.mark.xfail(strict=True, reason="torch divides infinity by infinity where refnet has 1 / infinity")
OTHERWISE = {("BCEWithLogitsLoss", -np.inf): ADDS, ("Softsign", np.inf): DIVIDES, ("Softsign", -np.inf): DIVIDES}
EITHER = ("ELU", "SELU", "CELU", "Hardswish")
"""torch's gradient at a NaN is one or not, as the place in the tensor has it: see docs/findings.md."""
VALUES = (np.nan, np.inf, -np.inf)
# A dropped NaN or infinity is 0 and not NaN, as the class says.
ASKED = [
    pytest.param(name, value, marks=[OTHERWISE[name, value]] if (name, value) in OTHERWISE else [])
    for name in MODULES
    if name not in ("Dropout", "BCELoss")  # BCELoss refuses what is not between 0 and 1
    for value in VALUES
]


@pytest.mark.parametrize(("name", "value"), ASKED)
def test_positions_are_torchs(name: str, value: float) -> None:
    pytest.importorskip("torch")
    case = typical(OWN, name)
    assert case is not None
    record = case.record("full", "float64")
    if record.inputs[0].dtype.kind == "f":
        first = record.inputs[0].copy()
        first.flat[1] = value
        record = replace(record, inputs=(first, *record.inputs[1:]))
    else:
        # Of a table that is looked up, the row of the first index.
        table = record.arrays["weight"].copy()
        table[record.inputs[0].flat[0], 1] = value
        record = replace(record, arrays={**record.arrays, "weight": table})
    own, other = RefnetEngine().vjp(record), TorchEngine().vjp(record)
    assert own.keys() == other.keys()
    for tensor, values in own.items():
        if name in EITHER and tensor == "grad_input":
            other[tensor].flat[1] = values.flat[1]
        for kind in (np.isnan, np.isposinf, np.isneginf):
            np.testing.assert_array_equal(kind(values), kind(other[tensor]), err_msg=f"{tensor}, {kind.__name__}")
