"""The narrower number format that an answer's errors come from: named only where its simulation fits them.

refnet is run with the factors of products, the sums, or everything in the narrower format, and its errors are held
against the answer's, over all failing tensors together. It is a measurement and says no more than that it fits:

- Rounded factors give errors that hardly depend on the order of the sums: the answer's error less the simulated one
  must be less than half of it, root mean square.
- Rounded sums depend on the order: the two errors must be of one size, within a factor of 3, and more than half of
  the answer's must be left when the nearest multiple of the truth is taken away, as rounding knows no factor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np

from parity.budget.formats import Profile
from parity.verdict.fingerprint import DETOUR, fingerprint
from parity.verdict.match import Diagnosis
from parity.verdict.recomputed import Recomputed
from parity.verdict.simulated_sums import one_by_one
from parity.verdict.tensor import Answer, Array, Enclosure, inside
from refnet.arithmetic.array_like import Undecided

OUTPUTS = 16
"""Fewer errors than this say nothing of their size."""

PRECISIONS = {"computed in float32", "sums in float32", "products of 11 bits", "products of 8 bits"}
"""The simulated formats, which are known mistakes as well."""

RESIDUAL, APART = 0.5, 3.0
"""The largest part that a simulation may leave unexplained, and the largest ratio of two sizes."""


def format_that_explains(
    again: Recomputed, answer: Answer, enclosures: Mapping[str, Enclosure], failing: tuple[str, ...]
) -> list[Diagnosis]:
    """The finest of some narrower formats whose simulation fits, if one does."""
    declared, storage = again.request.profile, again.request.profile.storage.name
    two_bytes = storage not in ("float64", "float32")
    # Two-byte results lie on their own grid, whatever they were computed in.
    if not two_bytes and (name := _grid(answer, enclosures, failing)):
        return [Diagnosis(name, f"only numbers of it, in {', '.join(failing)}", tensors=failing, precision=True)]
    simulations = {fault.name: partial(again.answer, fault) for fault in again.mistakes()}
    if two_bytes:
        simulations[f"sums in {storage}"] = partial(again.by_rules, one_by_one(declared.storage.nearest))
    for name, profile, alike in _formats(answer, declared):
        try:
            bounds = again.request.bounds_of_narrower(profile)
            simulated = simulations[name]() if name in simulations else {}
        except Undecided:
            continue
        known = enclosures.keys() & bounds.keys() & simulated.keys()
        if all(
            name in known and _within(answer.get(name), Enclosure(enclosures[name].truth, bounds[name]))
            for name in failing
        ) and _fits(answer, simulated, enclosures, failing, alike):
            said = f"a simulation of it fits, in {', '.join(failing)}"
            return [Diagnosis(name, said, tensors=failing, precision=True)]
    return []


def _grid(answer: Answer, enclosures: Mapping[str, Enclosure], failing: tuple[str, ...]) -> str:
    """What the grid says that the failing tensors lie on, all together."""
    got = [answer.get(name) for name in failing]
    truths = [enclosures[name].truth for name in failing if name in enclosures]
    tensors = [np.ravel(t) for t, truth in zip(got, truths, strict=False) if t is not None and t.shape == truth.shape]
    if len(tensors) < len(failing) or len({t.dtype for t in tensors}) != 1 or any(t.undecided.any() for t in truths):
        return ""
    hi, lo = (np.concatenate([np.ravel(getattr(t, part)) for t in truths]) for part in ("hi", "lo"))
    found = fingerprint(np.concatenate(tensors), hi, lo, {})
    # That of float64 is simulated below.
    return "" if found == DETOUR else found


def _formats(answer: Answer, declared: Profile) -> Iterator[tuple[str, Profile, bool]]:
    """The name and profile of each format that is tried, the finest first, and whether errors should be alike."""
    dtype = declared.storage.name
    if dtype not in ("float64", "float32"):
        if declared.accumulator.u < declared.storage.u:
            yield f"sums in {dtype}", Profile.of(dtype), False
        return
    wide = dtype == "float64"
    floats = [t for t in answer.values() if t.dtype.kind == "f"]
    if wide and all(np.array_equal(t.astype(np.float32), t) for t in floats):
        yield "computed in float32", Profile.of("float32"), False
        return
    if wide:
        yield "sums in float32", Profile.of("float64", "float32", "float32"), False
    yield "products of 11 bits", Profile.of(dtype, product="tf32"), True
    yield "products of 8 bits", Profile.of(dtype, product="bfloat16"), True


def _fits(
    answer: Answer, simulated: Answer, enclosures: Mapping[str, Enclosure], failing: tuple[str, ...], alike: bool
) -> bool:
    """Whether the errors are the simulated ones, or of their size, each tensor's in units of the simulated."""
    errors, others = [], []
    for name in failing:
        truth = enclosures[name].truth
        own, other = (np.ravel((t.astype(np.float64) - truth.hi) - truth.lo) for t in (answer[name], simulated[name]))
        if not (unit := _size(other)):
            return False
        multiple = np.ravel(truth.hi) * (np.vdot(own, truth.hi) / (np.vdot(truth.hi, truth.hi) or 1.0))
        if not alike and _size(own - multiple) <= RESIDUAL * _size(own):
            return False
        errors.append(own / unit)
        others.append(other / unit)
    e, s = np.concatenate(errors), np.concatenate(others)
    if e.size < OUTPUTS or not e.any():
        return False
    return _size(e - s) < RESIDUAL * _size(e) if alike else 1 / APART <= _size(e) / _size(s) <= APART


def _size(e: Array) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(e * e)))


def _within(got: Array | None, enclosure: Enclosure) -> bool:
    if got is None or got.shape != enclosure.truth.shape:
        return False
    return bool(np.isfinite(got).all()) and inside(got, enclosure)
