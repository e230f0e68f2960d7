"""Each weaker formula is equal in exact arithmetic, and weaker: it leaves the budget somewhere and keeps its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from parity.budget.array import Profile
from parity.engines.refnet import RefnetEngine
from parity.families.case import TrainCase
from parity.families.formula import Patch, together
from parity.families.listing import WEAKER, Variant, catalogue, conventions, weaker
from parity.records import definition
from parity.records.record import VJP, Answer, Optimize, Spec, Train
from parity.truth import ball, tape
from parity.truth.value import Truth
from parity.vectors import catalogue_answers
from parity.verdict.answer import enclose, judge_answer, others_for
from parity.verdict.evaluation import Request
from parity.verdict.tensor import judge
from refnet import nn
from refnet.arithmetic import special
from refnet.arithmetic.array_like import Undecided
from refnet.arithmetic.runs import Runs

FLOAT64 = Profile.of("float64")

CASES = {case.name: case for case in catalogue()}

COMPOSED = {"TransformerEncoderLayer", "TransformerDecoderLayer", "Transformer"}
"""Classes whose other formulas are those of their parts, where they are tested."""

BY_NAME = {variant.name: variant for variant in WEAKER if not variant.patches.keys() <= COMPOSED}

FAR = VJP(Spec("Sigmoid"), {}, (np.array([-40.0, -20.0, -3.0, 0.5, 3.0, 40.0]),), (np.ones(6),))
"""Where the sigmoid is far below 1/2 and far above it."""


def case_record(name: str, dtype: str = "float64") -> VJP | Optimize:
    record = CASES[name].record("full", dtype)
    assert not isinstance(record, Train)
    return record


def answered(record: VJP | Optimize, patches: Mapping[str, Patch] = definition.NO_PATCHES) -> Answer:
    engine = RefnetEngine(patches)
    return engine.vjp(record) if isinstance(record, VJP) else engine.optimize(record)


def computed(record: VJP | Optimize, lift: Any, patches: Mapping[str, Patch]) -> dict[str, Any]:
    """What `definition` gives, of an optimizer the last of each tensor."""
    if isinstance(record, VJP):
        return definition.vjp(record, lift, patches)
    return {name: series[-1] for name, series in definition.optimize(record, lift, patches).items()}


@cache
def truth(name: str, dtype: str) -> dict[str, Truth]:
    return catalogue_answers.truths(CASES[name], "full", dtype)


@cache
def revealing(name: str, dtype: str = "float64") -> str:
    """A case in which the variant leaves the budget of the formula itself."""
    for case in catalogue():
        if not isinstance(case, TrainCase) and case.spec.type in BY_NAME[name].patches and "full" in case.families:
            record = case_record(case.name, dtype)
            answer = answered(record, BY_NAME[name].patches)
            enclosures = enclose(Request(record, Profile.of(dtype)), truth(case.name, dtype))
            if any(judge(t, answer[t], e, str(answer[t].dtype)).verdict == "FAIL" for t, e in enclosures.items()):
                return case.name
    return pytest.fail(f"{name}: it is weaker in no case of the catalogue")


@pytest.mark.parametrize("name", ["BCELoss/batch 3, mean", "BCELoss/weight, none"])
def test_a_mistake_of_refnets_is_no_convention(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A convention is written out: were it whatever refnet computes, a backward of zeros would follow it."""

    def zeros(self: Any, dY: Any, saved: Any) -> Any:
        dX = np.where(saved[0] >= 0, special.lift(0.0, saved[0]), 0)
        return (dX, dX), {}

    record, truths = case_record(name), truth(name, "float64")
    monkeypatch.setattr(nn.BCELoss, "backward", zeros)
    verdicts = {v.name: v.verdict for v in judge_answer(Request(record, FLOAT64), truths, answered(record))}
    assert (verdicts["grad_input.0"], verdicts["grad_input.1"]) == ("FAIL", "FAIL")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("target", ["0", "1", "0.25"])
def test_the_floored_denominator_is_a_convention(target: str, dtype: str) -> None:
    name = f"BCELoss/at 0 and 1, target {target}"
    record, profile = case_record(name, dtype), Profile.of(dtype)
    (v,) = (
        v
        for v in judge_answer(Request(record, profile), truth(name, dtype), answered(record))
        if v.name == "grad_input.0"
    )
    assert (v.verdict, v.formula) == ("convention", "(x - t) / max(x(1 - x), 1e-12)")


@pytest.mark.parametrize(("name", "dtype"), [(name, dtype) for name, v in BY_NAME.items() for dtype in v.dtypes])
def test_weaker_than_the_formula(name: str, dtype: str) -> None:
    case = revealing(name, dtype)
    variant, record, truths, profile = BY_NAME[name], case_record(case, dtype), truth(case, dtype), Profile.of(dtype)
    answer = answered(record, variant.patches)
    primary = enclose(Request(record, profile), truths)
    outside = [t for t, e in primary.items() if judge(t, answer[t], e, str(answer[t].dtype)).verdict == "FAIL"]
    assert outside
    verdicts = {v.name: v for v in judge_answer(Request(record, profile), truths, answer)}
    own = enclose(Request(record, profile), truths, variant.patches)
    # Under its own name, or that of another listed formula that is as weak there; where it is so weak that it has no
    # bound, it excuses nothing.
    for t in outside:
        bounded = np.isfinite(own[t].bound).all()
        seen = verdicts[t].verdict == "unstable" or (verdicts[t].verdict == "blind" and verdicts[t].formula)
        assert seen or (verdicts[t].verdict == "FAIL" and not bounded), t
    for t, e in own.items():
        kept = judge(t, answer[t], e, str(answer[t].dtype)).verdict
        assert kept in ("exact", "rounding", "undecided", "blind"), t


def test_a_formula_without_a_bound_excuses_nothing() -> None:
    name = "BatchNorm1d/mean 1000"
    record = case_record(name, "float32")
    answer = answered(record)
    answer["grad_input"] = np.full_like(answer["grad_input"], 12345.0)
    verdicts = {v.name: v for v in judge_answer(Request(record, Profile.of("float32")), truth(name, "float32"), answer)}
    assert verdicts["grad_input"].verdict == "FAIL"


@pytest.mark.parametrize("name", BY_NAME)
def test_the_formula_itself_needs_no_variant(name: str) -> None:
    record = case_record(revealing(name))
    verdicts = judge_answer(Request(record, Profile.of("float64")), truth(revealing(name), "float64"), answered(record))
    assert {v.verdict for v in verdicts} <= {"exact", "rounding", "undecided"}


def in_balls(record: VJP | Optimize, variant: Variant | None) -> dict[str, Any]:
    patches = variant.patches if variant else definition.NO_PATCHES
    with ball.precision(4000), tape.untaped():
        tensors = computed(record, ball.lift, patches)
        return {name: ball.values(t) for name, t in tensors.items()}


OF_TWO_MODES = ("BatchNorm", "InstanceNorm", "Dropout", "MultiheadAttention", "Transformer")
"""How the names of classes begin that compute something else in evaluation."""


@pytest.mark.parametrize(
    ("name", "options"),
    [
        (name, options)
        for name, variant in BY_NAME.items()
        for options in ({}, {"training": False})
        if not options or any(kind.startswith(OF_TWO_MODES) for kind in variant.patches)
    ],
)
def test_equal_in_exact_arithmetic(name: str, options: dict[str, Any]) -> None:
    record = case_record(revealing(name))
    if isinstance(record, VJP):
        record = replace(record, **options)
    right, other = in_balls(record, None), in_balls(record, BY_NAME[name])
    assert right.keys() == other.keys()
    with ball.precision(4000):
        for tensor, values in right.items():
            for x, y in zip(values.flat, other[tensor].flat, strict=True):
                difference = abs(x - y)
                # 4,000 bits less what cancels: no more than a thousandth part of them is lost.
                assert difference.overlaps(0 * x), tensor
                assert float(difference.rad()) <= 2.0**-900, tensor


@pytest.mark.parametrize(
    "case",
    [
        "CrossEntropyLoss/weight and smoothing, mean",
        "CrossEntropyLoss/probabilities, smoothing, sum",
        "CrossEntropyLoss/some ignored, weight, none",
    ],
)
def test_cross_entropy_with_every_option_is_equal_in_exact_arithmetic(case: str) -> None:
    record = case_record(case)
    right, other = in_balls(record, None), in_balls(record, BY_NAME["nll(log_softmax(x))"])
    with ball.precision(4000):
        assert all((x - y).overlaps(0 * x) for t in right for x, y in zip(right[t].flat, other[t].flat, strict=True))


@pytest.mark.parametrize("name", BY_NAME)
def test_many_runs_at_once(name: str) -> None:
    record, patches = case_record(revealing(name)), BY_NAME[name].patches
    with np.errstate(all="ignore"):
        alone = computed(record, np.copy, patches)
        runs = computed(record, lambda a: Runs(np.stack([a, a / 2, a])), patches)
    for tensor, value in alone.items():
        if isinstance(runs[tensor], Runs):
            np.testing.assert_array_equal(runs[tensor].a[2], value)


def test_the_correction_of_optaxs_muon_needs_the_number_of_the_step() -> None:
    """Muon keeps no count: of a state that was given, nothing is guessed."""
    (of_optax,) = (v for v in conventions({"Muon"}) if "jax" in v.users)
    params, grads = {"weight": np.eye(2)}, {"weight": np.ones((2, 2))}
    given = definition.optimizer(Spec("Muon"), {"weight": np.eye(2)})
    given.step(grads)
    resumed = definition.optimizer(Spec("Muon"), params, patches=of_optax.patches)
    resumed.load_state_dict(given.state_dict())
    with pytest.raises(Undecided, match="what the correction of weight is cannot be told"):
        resumed.step(grads)


def test_a_formula_in_a_narrower_format_is_tried_last() -> None:
    record = case_record("Muon/ns_steps 1")
    kinds = [
        (other.kind, other.name) for other in others_for(Request(record, FLOAT64), truth("Muon/ns_steps 1", "float64"))
    ]
    narrow = {v.name for v in weaker({"Muon"}) if v.narrow}
    assert narrow
    assert {name for _, name in kinds[-len(narrow) :]} == narrow
    assert "convention" in {kind for kind, _ in kinds[: -len(narrow)]}


def test_bearing_on_takes_together_what_one_engine_uses() -> None:
    names = [variant.name for variant in weaker({"Sigmoid", "Tanh", "Linear"})]
    assert names == [
        "y(1 - y)",
        "1 - y^2",
        "(1 + tanh(x/2)) / 2",
        "y(1 - y), 1 - y^2",
        "y(1 - y), 1 - y^2, (1 + tanh(x/2)) / 2",
    ]


def test_bearing_on_nothing() -> None:
    assert weaker({"Linear", "SGD"}) == []


def test_together_makes_all_changes_to_one_type() -> None:
    both = together([BY_NAME["y(1 - y)"], BY_NAME["(1 + tanh(x/2)) / 2"]])
    answer = RefnetEngine(both.patches).vjp(FAR)
    assert answer["output"][0] == 0
    assert answer["grad_input"][-1] == 0
    right = RefnetEngine().vjp(FAR)
    assert right["output"][0] > 0
    assert right["grad_input"][-1] > 0


@pytest.mark.parametrize(
    "name", ["TransformerEncoder/batch 3, a norm behind", "TransformerDecoder/samples in columns, both masks causal"]
)
def test_formulas_in_a_stack_stand_on_the_stacks_own_parameters(name: str) -> None:
    """A stack copies its layer: what is changed in the layer is changed in the copies."""
    record = next(c for c in catalogue() if c.name == name).record("full", "float32")
    assert isinstance(record, VJP)
    right = RefnetEngine().vjp(record)
    for variant in weaker(record.types()):
        for tensor, said in Request.plain(record).values(patches=variant.patches).items():
            within = abs(right[tensor].astype(np.float64) - said.x) <= 2 * said.e
            assert within.all(), (variant.name, tensor)
