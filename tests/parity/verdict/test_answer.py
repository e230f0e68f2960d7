"""Answers to whole records: refnet's own, and what is wrong with others."""

import math
from dataclasses import replace

import numpy as np
import pytest

from parity.budget.array import Profile
from parity.engines.refnet import RefnetEngine
from parity.families.listing import catalogue
from parity.records.record import VJP, Optimize, Spec, Undecided
from parity.truth.value import Truth
from parity.vectors import catalogue_answers
from parity.verdict.answer import Judge, enclose, judge_answer, other_formulas
from parity.verdict.evaluation import Request

pytestmark = pytest.mark.arithmetic

FLOAT64, FLOAT32 = Profile.of("float64"), Profile.of("float32")
BATCHNORM = "BatchNorm1d/momentum 0.25, sixteen samples"
BY_NAME = {case.name: case for case in catalogue()}


def at(name, family="full", dtype="float64"):
    """A case's record, its truth, and refnet's answer."""
    record = BY_NAME[name].record(family, dtype)
    engine = RefnetEngine()
    answer = engine.optimize(record) if isinstance(record, Optimize) else engine.vjp(record)
    return record, catalogue_answers.truths(BY_NAME[name], family, dtype), answer


def verdicts(judged):
    return {v.name: v.verdict for v in judged}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", ["Linear/batch 3", BATCHNORM, "SGD/lr 0.1, momentum 0.9"])
def test_a_right_answer(name, dtype):
    record, truths, answer = at(name, dtype=dtype)
    judged = judge_answer(Request(record, Profile.of(dtype)), truths, answer)
    assert [v.name for v in judged] == list(answer)
    assert truths.keys() == answer.keys()
    assert {v.verdict for v in judged} <= {"exact", "rounding"}
    assert all(0 <= v.share <= 1 for v in judged)


def test_on_the_grid_the_budget_is_zero():
    record, truths, answer = at("Linear/batch 3", "grid")
    judged = judge_answer(Request(record, FLOAT64), truths, answer)
    assert {(v.verdict, v.detection_limit) for v in judged} == {("exact", 0.0)}
    answer["grad.bias"][1] = np.nextafter(answer["grad.bias"][1], np.inf)
    (wrong,) = (v for v in judge_answer(Request(record, FLOAT64), truths, answer) if v.verdict == "FAIL")
    assert (wrong.name, wrong.share, wrong.where) == ("grad.bias", math.inf, (1,))


def test_one_element_off_by_two_budgets():
    record, truths, answer = at("Linear/batch 3")
    bound = enclose(Request(record, FLOAT64), truths)["grad.weight"].bound
    answer["grad.weight"][1, 0] = truths["grad.weight"].hi[1, 0] + 2 * bound[1, 0]
    (wrong,) = (v for v in judge_answer(Request(record, FLOAT64), truths, answer) if v.verdict == "FAIL")
    assert (wrong.name, wrong.where) == ("grad.weight", (1, 0))
    assert wrong.share == pytest.approx(2, rel=0.1)
    assert "first [1, 0]: expected" in wrong.reason


def test_names():
    record, truths, answer = at("Linear/batch 3")
    answer["grad_weight"] = answer.pop("grad.weight")
    judged = {v.name: v for v in judge_answer(Request(record, FLOAT64), truths, answer)}
    assert judged["grad.weight"].reason == "missing"
    assert judged["grad_weight"].verdict == "FAIL"
    assert judged["grad_weight"].reason == "expected no tensor but output, grad_input, grad.weight, grad.bias"
    assert list(judged)[-1] == "grad_weight"
    nothing = judge_answer(Request(record, FLOAT64), truths, {})
    assert {v.reason for v in nothing} == {"missing"}


def test_dtypes():
    record, truths, answer = at(BATCHNORM, dtype="float32")
    enclosures = enclose(Request(record, FLOAT32), truths)
    due = {name: record.dtype_of(name) for name in enclosures}
    assert due["output"] == "float32"
    assert due["buffer.num_batches_tracked"] == "int64"
    answer["buffer.num_batches_tracked"] = answer["buffer.num_batches_tracked"].astype(np.float32)
    answer["output"] = answer["output"].astype(np.float64)
    failing = {v.name: v.reason for v in judge_answer(Request(record, FLOAT32), truths, answer) if v.verdict == "FAIL"}
    assert failing == {
        "output": "expected dtype float32, got float64",
        "buffer.num_batches_tracked": "expected dtype int64, got float32",
    }


def test_counters_are_exact():
    record, truths, answer = at(BATCHNORM)
    answer["buffer.num_batches_tracked"] = answer["buffer.num_batches_tracked"] + 1
    (wrong,) = (v for v in judge_answer(Request(record, FLOAT64), truths, answer) if v.verdict == "FAIL")
    assert (wrong.name, wrong.share) == ("buffer.num_batches_tracked", math.inf)


def test_updates_are_float64_and_named_by_step():
    record, truths, answer = at("SGD/lr 0.1, momentum 0.9", dtype="float32")
    assert all(t.dtype == np.float64 for name, t in answer.items() if name.startswith("update."))
    name = next(name for name in answer if name.startswith("update."))
    answer[name][3] *= 1.01
    (wrong,) = (v for v in judge_answer(Request(record, FLOAT32), truths, answer) if v.verdict == "FAIL")
    assert wrong.name == name
    assert "first step 4, [0" in wrong.reason


def test_the_budget_of_an_update_covers_its_subtraction():
    """From 1 to 1 - 0.1 g: the engine's last rounding is in the parameter, another in the difference."""
    record = Optimize(Spec("SGD", {"lr": 0.1}), {"w": np.ones(1)}, {"w": np.full((1, 1), 0.3)})
    truth = {"update.w": Truth.of([[-0.03]])}
    bound = enclose(Request(record, FLOAT64), truth)["update.w"].bound[0, 0]
    # 2 (2u) of the parameter at most, and of the product and the difference, which are small beside it.
    assert 2.0**-53 < bound < 2.0**-51


def test_a_judge_serves_many_answers():
    record, truths, answer = at("Linear/batch 3")
    judge = Judge(Request(record, FLOAT64), truths)
    zero = {name: np.zeros_like(t) for name, t in answer.items()}
    for given in (answer, zero, answer):
        assert judge(given) == judge_answer(Request(record, FLOAT64), truths, given)


def test_a_wider_profile_has_a_wider_budget():
    record, truths, _ = at("Linear/batch 3", dtype="float32")
    plain, tf32 = (
        enclose(Request(record, FLOAT32), truths),
        enclose(Request(record, Profile.of("float32", product="tf32")), truths),
    )
    assert (tf32["output"].bound >= 1_000 * plain["output"].bound).all()


def test_kinks_that_the_budget_cannot_decide():
    """0.1 * 3 - 0.3 is not 0, and rounding decides on which side of the kink a right engine comes out."""
    spec = Spec(
        "Sequential", layers=(Spec("Linear", {"in_features": 2, "out_features": 1, "bias": False}), Spec("ReLU"))
    )
    weight = np.array([[0.1, -0.3]])
    record = VJP(spec, {"0.weight": weight}, (np.array([[3.0, 1.0]]),), (np.ones((1, 1)),))
    truths = {name: Truth.of(np.zeros(shape)) for name, shape in SHAPES.items()}
    bounds = {name: e.bound for name, e in enclose(Request(record, FLOAT64), truths).items()}
    # Both sides of the kink are allowed: the gradient by the input is the weight or 0; by the weight, the input or 0.
    assert bounds["output"] < 1e-15
    assert np.allclose(bounds["grad_input"], abs(weight), rtol=1e-12)
    assert np.allclose(bounds["grad.0.weight"], [[3.0, 1.0]], rtol=1e-12)
    decided = replace(record, inputs=(np.array([[3.5, 1.0]]),))
    assert all((e.bound < 1e-14).all() for e in enclose(Request(decided, FLOAT64), truths).values())


SHAPES = {"output": (1, 1), "grad_input": (1, 2), "grad.0.weight": (1, 2)}


def test_other_formulas_are_made_when_they_are_asked_for():
    asked = []

    def weaker(patches):
        asked.append(patches)
        raise Undecided

    others = other_formulas({"Sigmoid"}, weaker, weaker)
    assert others
    assert asked == []
    assert others[0].enclosures() == {}
    assert others[0].enclosures() == {}
    assert len(asked) == 1
    assert other_formulas({"Flatten"}, weaker, weaker) == ()


@pytest.mark.parametrize("wrong", [9000.0, -9000.0])
def test_a_variants_bound_goes_with_that_variants_truth(wrong):
    """Where BCELoss's logarithms are clamped its derivative is 0, which no rounding turns into anything else."""
    record, truths, answer = at("BCELoss/at 0 and 1, targets wrong", dtype="float32")
    assert verdicts(judge_answer(Request(record, FLOAT32), truths, answer))["grad_input.0"] == "convention"
    answer["grad_input.0"] = np.full_like(answer["grad_input.0"], wrong)
    assert verdicts(judge_answer(Request(record, FLOAT32), truths, answer))["grad_input.0"] == "FAIL"


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_jaxs_choices_are_conventions(dtype):
    """Its |x| has the slope 1 at 0; Equinox's BatchNorm begins with the first batch's statistics."""
    profile = Profile.of(dtype)
    record, truths, answer = at("L1Loss/ties, mean", dtype=dtype)
    x, t = record.inputs
    slope = np.where(x >= t, 1, -1).astype(dtype) * record.grad_outputs[0] / x.dtype.type(x.size)
    answer["grad_input.0"], answer["grad_input.1"] = slope, -slope
    judged = {v.name: v for v in judge_answer(Request(record, profile), truths, answer)}
    assert {(v.verdict, v.formula) for n, v in judged.items() if n != "output"} == {("convention", "|x|'(0) = 1")}
    record, truths, answer = at("BatchNorm1d/batch 3", dtype=dtype)
    x = record.inputs[0]
    answer["buffer.running_mean"], answer["buffer.running_var"] = x.mean(axis=0), x.var(axis=0)
    judged = {v.name: v for v in judge_answer(Request(record, profile), truths, answer)}
    for name in ("buffer.running_mean", "buffer.running_var"):
        assert (judged[name].verdict, judged[name].formula[:28]) == ("convention", "running statistics begin as ")


def test_logits_through_jaxs_softplus():
    jax = pytest.importorskip("jax")

    def losses(x, t):
        return -(t * jax.nn.log_sigmoid(x) + (1 - t) * jax.nn.log_sigmoid(-x))

    formulas = set()
    for name, case in BY_NAME.items():
        if not name.startswith("BCEWithLogitsLoss/") or case.spec.args != {"reduction": "none"} or case.arrays:
            continue
        record, truths, answer = at(name, case.families[-1], "float32")
        _, pull = jax.vjp(losses, *record.inputs)
        for k, gradient in enumerate(pull(np.array(record.grad_outputs[0]))):
            answer[f"grad_input.{k}"] = np.asarray(gradient)
        judged = judge_answer(Request(record, FLOAT32), truths, answer)
        assert {v.verdict for v in judged} <= {"exact", "rounding", "unstable", "blind"}, name
        formulas |= {v.formula for v in judged if v.verdict == "unstable"}
    assert "exp(x - softplus(x))" in formulas


def test_one_slope_at_the_kink():
    record, truths, answer = at("ReLU/at the kink, both zeros")
    x, g = record.inputs[0], record.grad_outputs[0]
    for slope, said in ((x >= 0, "convention"), ((x > 0) | (x == 0) & ~np.signbit(x), "FAIL")):
        answer["grad_input"] = g * slope
        assert verdicts(judge_answer(Request(record, FLOAT64), truths, answer))["grad_input"] == said


def test_a_weaker_formula_is_named():
    record, truths, answer = at("Sigmoid/extreme")
    (weaker,) = (o for o in Judge(Request(record, FLOAT64), truths).others if o.name == "y(1 - y)")
    y = answer["output"]
    answer["grad_input"] = record.grad_outputs[0] * y * (1 - y)
    (v,) = (v for v in judge_answer(Request(record, FLOAT64), truths, answer) if v.name == "grad_input")
    assert (v.verdict, v.formula) == ("unstable", weaker.name)
    assert v.share > 1
