"""Certified values are those of the formulas that torch documents; and were they others, it would show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf

from parity.engines.faulty import FaultyEngine
from parity.families.case import Case, TrainCase, VJPCase
from parity.families.documented import DIGITS, LAYERS, OPTIMIZERS, differences, transcribed
from parity.families.listing import FAULTS, Fault, catalogue
from parity.records.record import VJP, Optimize, Spec, Unsupported, UsageError
from parity.truth import ball, tape
from parity.truth.certify import certified, settle
from parity.truth.value import Truth
from parity.vectors.catalogue_answers import truths

TRANSCRIBED = {
    *("BCELoss", "BCEWithLogitsLoss", "BatchNorm1d", "Conv2d", "CrossEntropyLoss", "Dropout", "Flatten"),
    *("HalfSquaredError", "Identity", "L1Loss", "LSTMCell", "Linear", "LogSoftmax", "MSELoss", "ReLU", "SGD"),
    *("Sigmoid", "Softmax", "Tanh"),
}
"""The classes with a transcription. For all others, that torch's own forward and updates agree is the evidence."""
CASES = [
    case
    for case in catalogue()
    if not isinstance(case, TrainCase) and case.spec.types() <= TRANSCRIBED | {"Sequential", "Objective"}
]
VJPS = [case for case in CASES if isinstance(case, VJPCase)]

Index = tuple[int, ...]
Elements = Mapping[tuple[str, Index], Any]

RELATIVE = mpf("1e-31")
STEP = mpf("1e-50")
"""What central differences may be off by."""
UNDERFLOW = mpf(2) ** -1074
"""What a certified pair of binary64 numbers may lose of a value at the end of their range."""

UNSAID = {
    ("BatchNorm1d/batch 0", "buffer.running_mean"),
    ("BatchNorm1d/batch 0", "buffer.running_var"),
    ("BatchNorm1d/three axes, batch 0", "buffer.running_mean"),
    ("BatchNorm1d/three axes, batch 0", "buffer.running_var"),
    ("CrossEntropyLoss/all ignored, mean", "output"),
}
"""Where the documented formula is 0 / 0. (In torch an empty batch moves no statistics, a mean over nothing is NaN.)"""

KINKED = (
    "ReLU/near zero",
    "ReLU/at the kink",
    "L1Loss/ties",
    "BCELoss/at 0 and 1",
    "BCELoss/just below the clamp",
    "CrossEntropyLoss/all ignored, mean",
)
"""How the names of those cases begin whose forward has no slope somewhere."""


def each() -> Iterator[Any]:
    """All cases. In every run of the tests are the first of each class with these arguments, and those at kinks."""
    known: set[tuple[str, ...]] = set()
    for case in CASES:
        way = str(case.spec), *(str(getattr(case, name, "")) for name in ("training", "names", "groups"))
        always = way not in known or case.name.startswith(KINKED)
        yield pytest.param(case, id=case.name, marks=() if always else pytest.mark.slow)
        known.add(way)


def kept_or_certified(case: Case, family: str) -> Mapping[str, Truth]:
    try:
        return truths(case, family, "float64")
    except UsageError:
        return certified(case.record(family, "float64"))


def elements(arrays: Mapping[str, Any]) -> Elements:
    return {(name, i): a[i] for name, a in arrays.items() for i in np.ndindex(*a.shape)}


def slopes_of(record: VJP) -> Elements:
    slopes = differences(record)
    # Of 100 digits of 1 - sigmoid(1000) none is left, and its logarithm has no slope.
    return differences(record, digits=DIGITS) if any(map(mp.isnan, slopes.values())) else slopes


def contradicted(proved: Mapping[str, Truth], documented: Elements, floor: Any = UNDERFLOW) -> list[str]:
    """The elements whose certified value differs from the documented one in 31 digits and by more than `floor`.

    A documented nan claims nothing.
    """
    found = []
    with mp.workdps(500):
        for (name, i), value in documented.items():
            value, truth = mp.mpmathify(value), proved[name][i]
            certain = mpf(float(truth.hi)) + mpf(float(truth.lo))
            if not mp.isnan(value) and not abs(certain - value) <= RELATIVE * abs(value) + floor:
                found.append(f"{name}{list(i)}: documented {mp.nstr(value, 35)}, certified {mp.nstr(certain, 35)}")
    return found


# ---- the catalogue


@pytest.mark.parametrize("case", list(each()))
def test_certified_values_are_the_documented_ones(case: Case) -> None:
    for family in case.families:
        record, proved = case.record(family, "float64"), kept_or_certified(case, family)
        assert isinstance(record, VJP | Optimize)
        documented = transcribed(record)
        shapes = {name: t.shape for name, t in proved.items() if not name.startswith("grad")}
        assert {name: a.shape for name, a in documented.items()} == shapes
        assert not any(proved[name].undecided.any() for name in documented)
        assert {(case.name, name) for (name, _), value in elements(documented).items() if mp.isnan(value)} <= UNSAID
        assert contradicted(proved, elements(documented)) == []
        if isinstance(record, VJP) and family == case.families[-1]:
            slopes = slopes_of(record)
            gradients = {name for name, t in proved.items() if name.startswith("grad") and t.hi.size}
            assert {name for name, _ in slopes} == gradients
            assert case.name.startswith(KINKED) or not any(map(mp.isnan, slopes.values()))
            assert contradicted(proved, slopes, STEP) == []


@pytest.mark.parametrize("kind", sorted(LAYERS))
def test_each_class_has_slopes(kind: str) -> None:
    records = (case.record(case.families[-1], "float64") for case in VJPS if case.spec.type == kind)
    assert any(not mp.isnan(slope) for record in records for slope in differences(record, each=1).values())


def test_what_is_transcribed_is_in_the_catalogue() -> None:
    assert {*LAYERS, *OPTIMIZERS} == TRANSCRIBED
    assert set().union(*(case.spec.types() for case in VJPS)) == {*LAYERS, "Sequential", "Objective"}
    assert {case.spec.type for case in CASES if case not in VJPS} == set(OPTIMIZERS)


# ---- faults

OTHER_FORMULAS = (
    "bias not added",
    "dropout not scaled",
    "softmax along another axis",
    "normalization by the unbiased variance",
    "running variance biased",
    "running momentum the other way",
    "eps outside the root",
    "padding mode ignored",
    "gates in another order",
    "mean for sum",
    "mean over samples only",
    "smoothing among the other classes",
    "weight of the target smoothed",
    "weighted mean by the number of samples",
    "ignored rows not ignored",
    "dampening at the first step",
    "nesterov ignored",
    "weight decay decoupled",
    "weight decay maximized",
    "options of a group ignored",
)
OTHER_DERIVATIVES = (
    "bias gradient averaged",
    "shared gradient of one place",
    "dropout's scale left out backward",
    "tanh' not squared",
    "softmax's Jacobian taken for diagonal",
    "statistics taken for constants",
    "kernel flipped backward",
    "tanh' of the cell at the output",
    "1/N missing",
    "pos_weight left out backward",
    "smoothing forward only",
)


def named(name: str) -> Fault:
    (fault,) = (fault for fault in FAULTS if fault.name == name)
    return fault


def proved_with(fault: Fault, record: VJP | Optimize) -> dict[str, Truth]:
    """What would be certified if refnet had the fault and nothing else noticed."""

    def answer() -> dict[str, Any]:
        with tape.untaped():
            tensors = FaultyEngine(fault).tensors(record, ball.lift)
        if isinstance(record, VJP):
            return {name: ball.values(t) for name, t in tensors.items()}
        return {
            name.replace("param.", "update."): np.stack([ball.values(b - a) for a, b in pairwise(series)])
            for name, series in tensors.items()
            if name.startswith("param.")
        }

    return settle(answer)


def touched(fault: Fault) -> Iterator[tuple[VJP | Optimize, dict[str, Truth]]]:
    """Records that the fault bears on, with what would be certified then."""
    for case in CASES:
        record = case.record(case.families[-1], "float64")
        assert isinstance(record, VJP | Optimize)
        empty = isinstance(record, VJP) and any(x.size == 0 for x in record.inputs)
        if fault.touches(record) and not empty:
            with suppress(Unsupported):
                yield record, proved_with(fault, record)


@pytest.mark.parametrize("name", OTHER_FORMULAS)
def test_another_formula_is_seen(name: str) -> None:
    def seen(record: VJP | Optimize, proved: Mapping[str, Truth]) -> bool:
        documented = {at: value for at, value in elements(transcribed(record)).items() if at[0] in proved}
        return contradicted(proved, documented) != []

    assert any(seen(*each) for each in touched(named(name)))


@pytest.mark.parametrize("name", OTHER_DERIVATIVES)
def test_another_derivative_is_seen(name: str) -> None:
    def seen(record: VJP | Optimize, proved: Mapping[str, Truth]) -> bool:
        return isinstance(record, VJP) and contradicted(proved, differences(record), STEP) != []

    assert any(seen(*each) for each in touched(named(name)))


def test_a_class_without_transcription_is_named() -> None:
    x = np.ones(2)
    with pytest.raises(Unsupported, match=r"transcription: expected one of Linear, .*, got GELU"):
        transcribed(VJP(Spec("GELU"), {}, (x,), (x,)))
    with pytest.raises(Unsupported, match=r"transcription: expected one of SGD, got Adam"):
        transcribed(Optimize(Spec("Adam"), {"w": x}, {"w": x[None]}))
