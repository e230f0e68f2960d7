import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parent / "importable"))
pytest.register_assert_rewrite("twice")


@pytest.fixture(params=[("replayed", np.float32), ("as machine code", np.float64)], ids=str)
def kind(request, do_updates):
    """Either way of doing captured updates with a dtype of its own, to halve what there is to try; gives the dtype."""
    way, dtype = request.param
    if way == "as machine code":
        pytest.importorskip("llvmlite")
    do_updates(way)
    return dtype
