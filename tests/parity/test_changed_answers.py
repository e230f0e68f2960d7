"""Whatever is changed in a right answer is seen: every tensor of refnet's answers that is not zero, in float64, one
kind of change at a time. None passes, but for two kinds:

- a change that makes the very value of a listed convention, such as the 0 that other libraries have at a tie;
- what is named in UNSEEN: a thousandth, under a weaker formula of torch's that keeps less than three digits there.

Where zeros would pass the verdict is `blind`, which is not good. Of some 12,000 tensors, each changed in four ways, 8
are then a convention's, and of 28 a thousandth is not seen, 24 of them Muon's.

One tensor in a hundred is changed in every run of the tests, always the same ones; `-m slow` changes all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
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
    "negated": lambda t: -t,
    "zeroed": np.zeros_like,
    "doubled": lambda t: 2 * t,
    "times 1.001": lambda t: 1.001 * t,
}

UNSEEN = {
    ("Tanh/extreme", "1 - y^2"): "y is 1 but for its last bits: 1 - y^2 is wrong in its first digit",
    ("LSTMCell/gates saturated beyond float32", "y(1 - y) and 1 - y^2 in the gates"): "the same in the gates",
    ("LayerNorm/mean 65536, eps 1e-12", "E[x^2] - E[x]^2 of a sample"): "squares of 2^32 leave a variance two digits",
    ("Muon/*", "Newton-Schulz in bfloat16"): "numbers of eight bits have less than three digits",
}
"""In which cases and under which weaker formula a thousandth is not seen, and why: torch's own answer errs by more."""


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
                if right.dtype.kind != "f" or not (enclosure.truth.hi.any() and np.nan_to_num(right).any()):
                    continue
                for change, by in CHANGES.items():
                    with np.errstate(all="ignore"):
                        changed = by(right)
                    v = judge(name, changed, enclosure, record.dtype_of(name), judging.others)
                    if v.ok and not _listed(case.name, change, v) and not _of_convention(v, changed, judging):
                        yield f"{case.name}, {family}, {name}, {change}: {v.verdict} {v.formula}, {v.detection_limit}"


def _listed(case: str, change: str, v: TensorVerdict) -> bool:
    """Whether it is named above that the change is not seen."""
    return change == "times 1.001" and any(fnmatchcase(case, pattern) and v.formula == f for pattern, f in UNSEEN)


def _of_convention(v: TensorVerdict, changed: Array, judging: Judge) -> bool:
    """Whether the change makes a convention's value, to fifteen digits."""
    if v.verdict != "convention":
        return False
    (theirs,) = (other.enclosures()[v.name].truth.hi for other in judging.others if other.name == v.formula)
    return bool(np.allclose(changed, theirs, rtol=1e-15, atol=0, equal_nan=True))


def test_a_change_is_seen() -> None:
    assert list(passing(100)) == []


@pytest.mark.slow
def test_every_change_is_seen() -> None:
    assert list(passing(1)) == []
