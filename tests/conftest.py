import os
from pathlib import Path

import pytest

# Before NumPy and torch are loaded: small networks on many threads, beside other test processes, are many times slower.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
# Tests neither read nor write what the user's own trainings have translated.
os.environ["REFNET_CACHE"] = "0"

ARITHMETIC = [Path(__file__).parent / "parity" / "budget"]
"""Folders all of whose tests are marked `arithmetic`."""


def pytest_itemcollected(item):
    if any(item.path.is_relative_to(folder) for folder in ARITHMETIC):
        item.add_marker(pytest.mark.arithmetic)
