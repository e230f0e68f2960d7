"""How long the chains of additions are that an engine's sums go through, at least.

Each probe is a sum of ones among numbers of 0.999 u, at a regular distance: rounded to nearest, an addition of 0.999 u
to 1 loses it, and so a chain that goes on from a 1 errs by as many times 0.999 u as it is long. From the error follows
the least depth that `parity.budget` would allow it at. Other distances meet other ways of cutting a sum into blocks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from parity.engines.base import Engine, ask
from parity.records.record import VJP, Array, Spec

OTHER_DISTANCES = (48, 96, 192, 240, 320, 336, 352, 384, 448, 768)
"""Besides powers of two: lengths of blocks that BLAS libraries are known to use."""

FEW = 8
"""Sums that a product takes at once, of the same terms."""


@dataclass(frozen=True)
class Probed:
    """A kind of sum, as an engine answers it.

    Attributes:
        what: the sum. depth: the least depth that does not contradict the engine's answers; None where there is none.
        reason: why there is none.
    """

    what: str
    depth: int | None = None
    reason: str = ""


def probe(engine: Engine, terms: int, dtype: str) -> list[Probed]:
    """What an engine's sums of so many terms need, kind by kind."""
    u = float(np.finfo(dtype).eps) / 2
    rows = np.stack(list(_rows(terms, u))).astype(dtype)
    exact = np.array([math.fsum(row) for row in rows.astype(np.float64)])
    found: dict[str, Probed] = {}
    for record, sums in _records(rows):
        reply = ask(engine, record, {})
        for name, (what, at) in sums.items():
            if reply.answer is None or name not in reply.answer:
                reason = reply.unsupported or reply.failure or f"no {name} in the answer"
                found.setdefault(what, Probed(what, None, reason))
                continue
            got = np.asarray(reply.answer[name], np.float64)
            due = exact if at is None else np.asarray(exact[at])
            # The sums of one row stand along the other axis.
            due = due.reshape(-1, *[1] * (got.ndim - 1)) if due.ndim else due
            relative = float(np.max(abs(got - due) / due))
            needed = math.ceil(math.log1p(relative) / math.log1p(2 * u)) if math.isfinite(relative) else terms
            before = found.get(what, Probed(what)).depth or 0
            found[what] = Probed(what, max(before, needed))
    return list(found.values())


def _rows(terms: int, u: float) -> Iterator[Array]:
    distances = {2**k for k in range(3, terms.bit_length())} | set(OTHER_DISTANCES) | {terms}
    for distance in sorted(d for d in distances if d <= terms):
        row = np.full(terms, 0.999 * u)
        row[::distance] = 1
        yield row


def _records(rows: Array) -> Iterator[tuple[VJP, dict[str, tuple[str, int | None]]]]:
    """Records whose answers are sums of the rows: what each tensor is, and of which row, or None for one of each."""
    count, terms = rows.shape
    ones = np.ones((FEW, terms), rows.dtype)

    def linear(weight: Array, x: Array, g: Array) -> VJP:
        out, inside = weight.shape
        spec = Spec("Linear", {"in_features": inside, "out_features": out})
        return VJP(spec, {"weight": weight, "bias": np.zeros(out, rows.dtype)}, (x,), (g,))

    yield (
        linear(ones, rows, np.zeros((count, FEW), rows.dtype)),
        {"output": ("products: the output of Linear, over its inputs", None)},
    )
    yield (
        linear(np.ascontiguousarray(ones.T), np.zeros((count, FEW), rows.dtype), rows),
        {"grad_input": ("products: the input's gradient, over the outputs", None)},
    )
    yield (
        linear(np.ones((count, FEW), rows.dtype), np.ascontiguousarray(ones.T), np.ascontiguousarray(rows.T)),
        {
            "grad.weight": ("products: the weight's gradient, over the batch", None),
            "grad.bias": ("a sum: the bias's gradient, over the batch", None),
        },
    )
    for k, row in enumerate(rows):
        loss = VJP(Spec("L1Loss", {"reduction": "sum"}), {}, (row, np.zeros_like(row)), (np.ones((), rows.dtype),))
        yield loss, {"output": ("a sum: the loss, over all elements", k)}
