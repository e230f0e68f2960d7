"""A format is named where its simulation fits the errors, and nowhere else."""

import numpy as np
import pytest

from parity.budget.array import Profile
from parity.engines.refnet import RefnetEngine
from parity.families.listing import catalogue
from parity.vectors import catalogue_answers
from parity.verdict.answer import Judge
from parity.verdict.evaluation import Request
from parity.verdict.narrower_formats import format_that_explains
from parity.verdict.recomputed import Recomputed

pytestmark = pytest.mark.arithmetic

(CASE,) = (case for case in catalogue() if case.name == "Linear/64 to 10")


def rounded(a, bits):
    """By masking what lies behind, to nearest, with ties away from zero: not refnet's own simulation."""
    mantissa, exponent = np.frexp(a)
    return np.ldexp(np.trunc(np.ldexp(mantissa, bits) + np.copysign(0.5, mantissa)), exponent - bits)


def named(dtype, engine):
    """The formats that are named for an engine's linear layer."""
    record = CASE.record("full", dtype)
    answer = RefnetEngine().vjp(record)
    x, g, w = record.inputs[0], record.grad_outputs[0], record.arrays["weight"]
    answer |= engine(x, g, w, record.arrays["bias"])
    judge = Judge(Request(record, Profile.of(dtype)), catalogue_answers.truths(CASE, "full", dtype))
    failing = tuple(v.name for v in judge(answer) if v.verdict == "FAIL")
    assert failing
    found = format_that_explains(Recomputed(Request(record, Profile.of(dtype))), answer, judge.enclosures, failing)
    return [d.name for d in found]


def backwards(a, b):
    """A product whose terms are added up from the last to the first."""
    total = np.zeros((a.shape[0], b.shape[1]), a.dtype)
    for k in reversed(range(a.shape[1])):
        total = total + a[:, k, None] * b[k]
    return total


@pytest.mark.parametrize(("bits", "name"), [(11, "products of 11 bits"), (8, "products of 8 bits")])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_rounded_factors_whatever_the_order(dtype, bits, name):
    def engine(x, g, w, b):
        rx, rg, rw = (rounded(a, bits).astype(a.dtype) for a in (x, g, w))
        return {"output": backwards(rx, rw.T) + b, "grad_input": backwards(rg, rw), "grad.weight": backwards(rg.T, rx)}

    assert named(dtype, engine) == [name]


def test_sums_in_float32_whatever_the_order():
    def engine(x, g, w, b):
        x, g, w = (a.astype(np.float32) for a in (x, g, w))
        return {"grad_input": backwards(g, w).astype(np.float64), "grad.weight": backwards(g.T, x).astype(np.float64)}

    assert named("float64", engine) == ["sums in float32"]


@pytest.mark.parametrize("by", [1e-3, 1e-5, 1e-7])
def test_a_mistake_of_that_size_is_no_format(by):
    """Every error is smaller than that of products of 8 bits; nothing of it is rounding."""
    assert named("float64", lambda x, g, w, b: {"grad_input": (g @ w) * (1 + by)}) == []
    assert named("float32", lambda x, g, w, b: {"grad.weight": (g.T @ x) * np.float32(1 + max(by, 1e-5))}) == []


def test_too_few_errors_say_nothing():
    def engine(x, g, w, b):
        return {"grad.bias": rounded(g, 8).sum(axis=0)}

    assert named("float64", engine) == []
