"""Computing the certified answer to a case's record, as the arrays that are kept (see `parity.vectors`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from parity.engines.refnet import RefnetEngine
from parity.families.case import Case, TrainCase
from parity.records.record import Answer, Array, Train
from parity.truth.value import Truth
from parity.vectors.catalogue_answers import asked, singles
from parity.verdict import free_run

STEPS = 12
"""The number of single updates of a training that are certified, evenly spread in the logarithm of their number."""


def certify(case: Case, family: str, dtype: str, kept: Mapping[str, Array] | None = None) -> dict[str, Array]:
    """Compute the answer to a case's record, as the arrays that are kept.

    Args:
        kept: what is kept already, to be computed again from the same weights: those of a float run are not the same
            on every machine.
    """
    from parity.truth.certify import certified

    record = asked(case, family, dtype)
    if not isinstance(case, TrainCase) or not isinstance(record, Train):
        return _kept(certified(record), "")
    arrays: dict[str, Array] = {}
    if case.certified:
        arrays |= _kept(certified(record, case.certified), "")
        arrays |= {f"bound.{name}": e for name, e in free_run.bounds(record, case.certified).items()}
    for number, single in (singles(record, kept) if kept else _recorded(record)).items():
        arrays |= {f"step.{number}.before.{name}": a for name, a in single.arrays.items()}
        arrays |= {f"step.{number}.before.state.{name}": a for name, a in single.state.items()}
        arrays |= _kept(certified(single, (1,)), f"step.{number}.after.")
    return arrays


def _recorded(record: Train) -> dict[int, Train]:
    """Single updates of a run of refnet's, by their number."""
    numbers = sorted({int(k) for k in np.geomspace(1, record.iterations, STEPS)})
    return dict(zip(numbers, _single_updates(record, RefnetEngine().train(record), numbers), strict=True))


def _kept(truths: Mapping[str, Truth], prefix: str) -> dict[str, Array]:
    arrays = {}
    for name, t in truths.items():
        arrays[f"{prefix}{name}.hi"], arrays[f"{prefix}{name}.lo"] = t.hi, t.lo
        if t.undecided.any():
            arrays[f"{prefix}{name}.undecided"] = t.undecided.astype(np.uint8)
    return arrays


def _single_updates(record: Train, answer: Answer, numbers: Sequence[int]) -> list[Train]:
    """Records of one update each: a recorded run's updates of these numbers (from 1), from its weights and optimizer
    state before them."""
    states = {n.removeprefix("state."): a for n, a in answer.items() if n.startswith("state.")}
    return [
        record.single(
            k,
            {n: answer[f"param.{n}"][k - 1] for n in record.arrays},
            {n: a[k - 2] for n, a in states.items()} if k > 1 else record.state,
        )
        for k in numbers
    ]
