"""The formulas of findings on CUDA against the bits that a device answered, in `benchmarks/results/cuda_bits.json`."""

import json
from pathlib import Path

import numpy as np
import pytest

from parity.families.listing import catalogue
from parity.run.results import digests
from parity.verdict import findings_on_cuda as on_cuda

ROOT = Path(__file__).parents[3]
BITS = json.loads((ROOT / "benchmarks" / "results" / "cuda_bits.json").read_text(encoding="utf-8"))
BY_NAME = {case.name: case for case in catalogue()}

FORMULAS = {
    "Hardsigmoid/": on_cuda.hardsigmoid,
    "Hardswish/": on_cuda.hardswish,
    "BatchNorm": on_cuda.bias_by_shuffles,
    "Embedding/": on_cuda.rows_by_thirty_two,
}
# bfloat16 goes in float32
HELD = {"float64": np.float64, "bfloat16": np.float32, "float16": np.float16}


def several_places(record):
    """Whether a channel has more than one place: with one, another kernel is taken, which is right."""
    return np.prod(record.inputs[0].shape[2:]) > 1


@pytest.mark.parametrize(
    ("start", "tensors"), [("Hardsigmoid/", 32), ("Hardswish/", 17), ("BatchNorm", 130), ("Embedding/", 2)]
)
def test_each_tensor_bit_for_bit(start, tensors):
    compared = 0
    for name in filter(lambda name: name.startswith(start), BITS):
        for place, bits in BITS[name].items():
            family, dtype = place.split()
            record = BY_NAME[name].record(family, dtype)
            if start == "BatchNorm" and not several_places(record):
                continue
            for tensor, computed in FORMULAS[start](record, {}):
                found = digests({tensor: computed.value.astype(HELD[dtype])})[tensor]
                assert found == bits[tensor], (name, place, tensor)
                compared += 1
    assert compared == tensors
