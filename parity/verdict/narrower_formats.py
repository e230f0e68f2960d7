"""The narrower number formats that would explain the size of every error: a guess, and said to be no more."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from parity.records.record import Answer, Undecided
from parity.verdict.evaluation import Profile
from parity.verdict.match import Diagnosis
from parity.verdict.recomputed import Recomputed
from parity.verdict.tensor import Array, Enclosure, inside


def format_that_explains(
    again: Recomputed, answer: Answer, enclosures: Mapping[str, Enclosure], failing: tuple[str, ...]
) -> list[Diagnosis]:
    """The finest of some narrower formats that would explain the size of every error, if one would."""
    for name, what, profile in _formats(answer, again.profile.storage.name):
        try:
            bounds = again.narrower(profile)
        except Undecided:
            continue
        known = enclosures.keys() & bounds.keys()
        if all(
            name in known and _fits(answer.get(name), Enclosure(enclosures[name].truth, bounds[name]))
            for name in failing
        ):
            return [Diagnosis(name, f"{what}, in {', '.join(failing)}", tensors=failing)]
    return []


def _formats(answer: Answer, dtype: str) -> list[tuple[str, str, Profile]]:
    """Name, reason and profile of each format that is tried, the finest first."""
    wide = dtype == "float64"
    floats = [t for t in answer.values() if t.dtype.kind == "f"]
    if wide and all(np.array_equal(t.astype(np.float32), t) for t in floats):
        return [("computed in float32", "every element is a float32 number", Profile.of("float32"))]
    return [
        *([("sums in float32", "no error is larger", Profile.of("float64", "float32", "float32"))] if wide else []),
        ("products of 11 bits", "no error is larger", Profile.of(dtype, product="tf32")),
        ("products of 8 bits", "no error is larger", Profile.of(dtype, product="bfloat16")),
    ]


def _fits(got: Array | None, enclosure: Enclosure) -> bool:
    if got is None or got.shape != enclosure.truth.shape:
        return False
    return bool(np.isfinite(got).all()) and inside(got, enclosure)
