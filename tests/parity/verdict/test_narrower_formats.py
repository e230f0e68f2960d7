"""A format is named where its simulation fits the errors, and nowhere else."""

import numpy as np
import pytest

import parity
from parity.budget.array import Profile
from parity.engines.refnet import RefnetEngine
from parity.families.listing import catalogue
from parity.vectors import catalogue_answers
from parity.verdict.answer import Judge
from parity.verdict.evaluation import Request
from parity.verdict.narrower_formats import format_that_explains
from parity.verdict.recomputed import Recomputed
from parity.verdict.simulated_sums import one_by_one
from refnet.arithmetic.array_like import Undecided

pytestmark = pytest.mark.arithmetic

(CASE,) = (case for case in catalogue() if case.name == "Linear/64 to 10")


DECLARED = "bfloat16, accumulate float32"


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


def in_turn(a, b):
    """A product whose partial sums are numbers of the arrays' format, from the first term to the last."""
    total = a[:, :1] * b[:1]
    for k in range(1, a.shape[1]):
        total = total + a[:, k, None] * b[k]
    return total


def in_blocks(a, b):
    """Likewise, of eight terms in turn, and of these sums in turn."""
    blocks = [in_turn(a[:, k : k + 8], b[k : k + 8]) for k in range(0, a.shape[1], 8)]
    return sum(blocks[1:], blocks[0])


def linear(product, change=lambda grad: grad):
    """A linear layer whose gradient by the weight is changed, as a function of torch's tensors."""
    torch = pytest.importorskip("torch")

    class Linear(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, w):
            ctx.save_for_backward(x, w)
            return product(x, w.T)

        @staticmethod
        def backward(ctx, g):
            x, w = ctx.saved_tensors
            return product(g, w), change(product(g.T, x))

    return Linear.apply


def drawn(dtype, n=32, k=96, m=12):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    return torch.randn(n, k, dtype=getattr(torch, dtype)), torch.randn(m, k, dtype=getattr(torch, dtype))


def torch_product(a, b):
    return (a.float() @ b.float()).bfloat16()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("product", [in_turn, in_blocks])
def test_sums_in_two_bytes_where_float32_is_declared(dtype, product):
    report = parity.check(linear(product), "linear", *drawn(dtype), profile=f"{dtype}, accumulate float32")
    named = {v.formula for v in report.verdicts if v.verdict == "imprecise"}
    assert named == {f"sums in {dtype}"}
    assert all(v.verdict in ("imprecise", "rounding") for v in report.verdicts)
    assert not report.ok


def test_sums_in_float32_are_what_was_declared():
    report = parity.check(linear(torch_product), "linear", *drawn("bfloat16"), profile=DECLARED)
    assert {v.verdict for v in report.verdicts} <= {"rounding", "exact"}


@pytest.mark.parametrize(
    "change",
    [lambda grad: grad * 1.1, lambda grad: grad / 32, lambda grad: -grad, lambda grad: grad.roll(1, 0)],
    ids=["a tenth more", "averaged", "negated", "rows moved on"],
)
def test_a_mistake_in_two_bytes_is_no_format(change):
    report = parity.check(linear(torch_product, change), "linear", *drawn("bfloat16"), profile=DECLARED)
    assert report["grad.weight"].verdict == "FAIL"


def test_sums_of_every_kind_from_the_first_term_to_the_last():
    """By hand, in whole numbers: 0.4, 0.4 and 0.6 are 0, 0 and 1, and add up to 1."""
    rules = one_by_one(np.rint)
    x = np.array([[0.4, 0.4, 0.6], [2.6, 0.4, 0.4]])
    assert rules["sum"](x).tolist() == 4
    assert rules["sum"](x, axis=-1).tolist() == [1, 3]
    assert rules["sum"](x, axis=(0, 1), keepdims=True).tolist() == [[4]]
    assert rules["sum"](x, axis=0).tolist() == [3, 0, 1]
    assert rules["sum"](np.zeros((0, 2)), axis=0).tolist() == [0, 0]
    assert rules["matmul"](x, np.ones((3, 1))).tolist() == [[1], [3]]
    assert rules["matmul"](np.ones((4, 2, 3)), np.ones((3, 5))).shape == (4, 2, 5)
    with pytest.raises(Undecided, match="20000 terms for each of 1 sums"):
        rules["sum"](np.ones(20000))
