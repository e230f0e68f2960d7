"""The probe finds the chains that sums were made with."""

from __future__ import annotations

import numpy as np
import pytest

from parity.engines.base import Engine
from parity.records.record import VJP, Answer, Array, Unsupported
from parity.run import probing


class Blocks(Engine):
    """Sums in blocks of a length, one term after the other, then the blocks' sums likewise. It has no L1Loss."""

    name = "blocks"

    def __init__(self, length: int) -> None:
        self.length = length

    def vjp(self, record: VJP) -> Answer:
        if record.spec.type != "Linear":
            raise Unsupported("no L1Loss")
        (x,), (g,), w = record.inputs, record.grad_outputs, record.arrays["weight"]
        return {
            "output": self.sum(x[:, None, :] * w),
            "grad_input": self.sum(g[:, None, :] * w.T),
            "grad.weight": self.sum(g.T[:, None, :] * x.T),
            "grad.bias": self.sum(g.T),
        }

    def sum(self, terms: Array) -> Array:
        parts = np.split(terms, range(self.length, terms.shape[-1], self.length), axis=-1)
        # NumPy's running sums add one term after the other.
        sums = np.stack([np.cumsum(part, axis=-1)[..., -1] for part in parts], axis=-1)
        return np.cumsum(sums, axis=-1)[..., -1]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_chain_is_found(dtype: str) -> None:
    """To nearest, an addition errs by half of what the model allows: half the chain is what is needed."""
    for length, terms in ((512, 512), (64, 512), (16, 512)):
        found = probing.probe(Blocks(length), terms, dtype)
        chain = length - 1 + -(-terms // length) - 1
        depths = [p.depth for p in found if p.depth is not None]
        assert len(depths) == 4
        assert max(depths) <= chain
        assert min(depths) >= 0.49 * (length - 1)
        assert [p.reason for p in found if p.depth is None] == ["no L1Loss"]


def test_refnet_adds_in_pairs() -> None:
    """The bound of its sums: log2 n and a constant, on any machine."""
    from parity.engines import loading

    found = {p.what: p.depth for p in probing.probe(loading.load("refnet"), 1024, "float32")}
    sums = [depth for what, depth in found.items() if what.startswith("a sum")]
    assert len(sums) == 2
    assert all(depth is not None and depth <= 10 + 16 for depth in sums)
