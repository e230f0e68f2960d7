"""Whatever is changed in a right answer is seen: every tensor of refnet's answers that is not zero, in float64, one
kind of change at a time.

What may pass is the value of a listed convention, or a change smaller than the verdict says that it sees: a weaker
formula that loses so many digits at this input that it proves nothing of a tensor, or no more than its first digits.

One tensor in a hundred is changed in every run of the tests, always the same ones; `-m slow` changes all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from zlib import crc32

import numpy as np
import pytest

from parity.budget.array import Profile
from parity.engines.refnet import RefnetEngine
from parity.families.case import TrainCase
from parity.families.listing import catalogue
from parity.records.record import VJP, Array, Undecided
from parity.vectors import catalogue_answers
from parity.verdict.answer import Judge
from parity.verdict.evaluation import Request
from parity.verdict.tensor import TensorVerdict, judge

CHANGES = {
    "negated": (lambda t: -t, 2.0),
    "zeroed": (lambda t: np.zeros_like(t), 1.0),
    "doubled": (lambda t: 2 * t, 1.0),
    "times 1.001": (lambda t: 1.001 * t, 0.001),
}
"""With what is done to the largest element, in its own size."""


def passing(share: int) -> Iterator[str]:
    """What is changed and passes, of one tensor in `share`."""
    for case in catalogue():
        for family in case.families if not isinstance(case, TrainCase) else ():
            record = case.record(family, "float64")
            answer: dict[str, Array] | None = None
            truths = catalogue_answers.truths(case, family, "float64")
            names = [name for name in truths if crc32(f"{case.name}, {family}, {name}".encode()) % share == 0]
            for name in names:
                if answer is None:
                    engine = RefnetEngine()
                    answer = engine.vjp(record) if isinstance(record, VJP) else engine.optimize(record)  # type: ignore[arg-type]
                    try:
                        judging = Judge(Request(record, Profile.of("float64")), truths)  # type: ignore[arg-type]
                    except Undecided:
                        break
                right, enclosure = answer[name], judging.enclosures[name]
                if right.dtype.kind != "f" or not enclosure.truth.hi.any() or np.isnan(right).all():
                    continue
                for change, (by, size) in CHANGES.items():
                    with np.errstate(all="ignore"):
                        changed = by(right)
                    v = judge(name, changed, enclosure, record.dtype_of(name), judging.others)
                    if v.verdict != "FAIL" and not _told(v, size, changed, judging):
                        yield f"{case.name}, {family}, {name}, {change}: {v.verdict} {v.formula}, {v.detection_limit}"


def _told(v: TensorVerdict, size: float, changed: Array, judging: Judge) -> bool:
    """Whether the verdict says that it does not see the change, or the change makes a convention's value."""
    if v.verdict == "convention":
        (theirs,) = (other.enclosures()[v.name].truth.hi for other in judging.others if other.name == v.formula)
        return bool(np.allclose(changed, theirs, rtol=1e-6, atol=0, equal_nan=True))
    return bool(v.formula) and v.detection_limit >= size


def test_a_change_is_seen() -> None:
    assert list(passing(100)) == []


@pytest.mark.slow
def test_every_change_is_seen() -> None:
    assert list(passing(1)) == []
