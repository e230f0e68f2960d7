"""Harmless rewritings change bits and are never flagged."""

from __future__ import annotations

from fractions import Fraction
from functools import cache

import numpy as np
import pytest

from parity.budget.array import Profile
from parity.engines.faulty import FaultyEngine
from parity.engines.refnet import RefnetEngine
from parity.families.case import Case, OptimizeCase, TrainCase
from parity.families.listing import REWRITINGS, Fault, catalogue
from parity.families.whole.arithmetic.rewritings import fma
from parity.records.record import Answer, Optimize, Train
from parity.truth.value import Truth
from parity.vectors import catalogue_answers
from parity.verdict.answer import judge_answer
from parity.verdict.evaluation import Request

CASES = {case.name: case for case in catalogue() if not isinstance(case, TrainCase)}


@cache
def truth(case: str, family: str, dtype: str) -> dict[str, Truth]:
    return catalogue_answers.truths(CASES[case], family, dtype)


def some_changed(rewriting: Fault, dtype: str) -> list[tuple[Case, str, Answer]]:
    """Ten of the cases in which it changes a bit, from all over the catalogue, or as many as there are."""
    engine, right, changed = FaultyEngine(rewriting), RefnetEngine(), []
    apart = [case for first in range(31) for case in list(CASES.values())[first::31]]
    for case, family in [(c, family) for c in apart for family in c.families]:
        record = case.record(family, dtype)
        if rewriting.touches(record) and len(changed) < 10:
            answers = [e.optimize(record) if isinstance(record, Optimize) else e.vjp(record) for e in (engine, right)]
            if any(answers[0][t].tobytes() != a.tobytes() for t, a in answers[1].items()):
                changed.append((case, family, answers[0]))
    return changed


@pytest.mark.arithmetic
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("rewriting", REWRITINGS, ids=lambda rewriting: rewriting.name)
def test_not_flagged(rewriting: Fault, dtype: str) -> None:
    changed = some_changed(rewriting, dtype)
    assert changed, "it changes nothing, so there is nothing to be shown"
    for case, family, answer in changed:
        record = case.record(family, dtype)
        assert not isinstance(record, Train)
        request, known = Request(record, Profile.of(dtype)), truth(case.name, family, dtype)
        right = RefnetEngine()
        plain = right.optimize(record) if isinstance(record, Optimize) else right.vjp(record)
        unseen = {v.name for v in judge_answer(request, known, plain) if v.verdict == "blind"}
        for v in judge_answer(request, known, answer):
            passing = ("exact", "rounding", "convention", "undecided", *(["blind"] if v.name in unseen else []))
            assert v.verdict in passing, f"{case.name} {family}: {v.reason}"


def test_there_are_rewritings_of_layers_losses_and_optimizers() -> None:
    kinds = {kind for r in REWRITINGS for kind in (*r.types, *r.patches)}
    assert {"Linear", "Conv2d", "CrossEntropyLoss", "SGD"} <= kinds
    assert any(isinstance(case, OptimizeCase) for case in CASES.values())


@pytest.mark.parametrize(
    ("a", "b", "c", "result"),
    [
        (2.0**27 + 1, 2.0**27 - 1, -(2.0**54), -1.0),  # the product alone rounds the 1 away
        (1 + 2.0**-52, 1 - 2.0**-52, -1.0, -(2.0**-104)),
        (2.0**-600, 2.0**-600, 0.0, 0.0),
        (2.0**-540, 2.0**-534, 0.0, 2.0**-1074),
        (2.0**800, 2.0**200, -(2.0**1000), 0.0),
        (2.0**1000, 2.0**20, -(2.0**1020), 0.0),
        (np.inf, 1.0, 1.0, np.inf),
        (0.0, 5.0, 3.0, 3.0),
    ],
)
def test_fused_multiply_add_rounds_once(a: float, b: float, c: float, result: float) -> None:
    assert fma(np.array([a]), np.array([b]), np.array([c]))[0] == result


def test_fused_multiply_add_against_rational_arithmetic() -> None:
    a, b, c = np.random.default_rng(1).standard_normal((3, 500))
    c = np.where(np.arange(500) % 2, c, -a * b)
    exact = [float(Fraction(x) * Fraction(y) + Fraction(z)) for x, y, z in zip(a, b, c, strict=True)]
    assert fma(a, b, c).tolist() == exact


def test_fused_multiply_add_in_float32_rounds_once() -> None:
    a, b, c = (np.float32(x) for x in np.random.default_rng(2).standard_normal((3, 300)))
    c = np.where(np.arange(300) % 2, c, -a * b).astype(np.float32)
    got = fma(a, b, c)
    assert got.dtype == np.float32
    for x, y, z, r in zip(a.tolist(), b.tolist(), c.tolist(), got.tolist(), strict=True):
        exact = Fraction(x) * Fraction(y) + Fraction(z)
        near = np.float32(r)
        neighbours = [float(np.nextafter(near, np.float32(s))) for s in (-np.inf, np.inf)]
        assert all(abs(Fraction(r) - exact) <= abs(Fraction(n) - exact) for n in neighbours)
