"""Batches in parts: what is certified of their gradients, and that a wrong one is seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parity.budget.array import Profile
from parity.engines.base import Engine
from parity.engines.refnet import RefnetEngine
from parity.families.case import DTYPES, VJPCase
from parity.families.listing import catalogue, select
from parity.records import definition
from parity.records.record import VJP, Answer, Split, Undecided, Unsupported, UsageError
from parity.run.judging import judge_case
from parity.run.results import CaseResult
from parity.truth.value import Truth
from parity.vectors import catalogue_answers, store
from parity.verdict import combined as parts
from parity.verdict.answer import enclose
from parity.verdict.evaluation import Request, SplitRequest

pytestmark = pytest.mark.arithmetic

CASES = [case for case in catalogue() if isinstance(case, VJPCase) and case.parts]
BY_NAME = {case.name.removeprefix("PerSample/"): case for case in CASES}

MEAN = BY_NAME["MSELoss mean, mean of samples"]
SHORT = BY_NAME["MSELoss mean, mean of batches, last one short"]
WEIGHTED = BY_NAME["MSELoss mean, weighted mean of batches, last one short"]

NOT_THE_BATCH = {
    "MSELoss mean, mean of batches, last one short",
    "CrossEntropyLoss mean, class weights, mean of samples",
    "CrossEntropyLoss mean, ignore_index, mean of batches",
    "BatchNorm1d, mean of samples",
    "BatchNorm1d, mean of batches",
}
RECORDS = [(case, family, dtype) for case in CASES for family in case.families for dtype in DTYPES]
EACH = pytest.mark.parametrize(("case", "family", "dtype"), RECORDS, ids=lambda x: getattr(x, "name", x))


def split_of(case: VJPCase, family: str = "full", dtype: str = "float64") -> Split:
    split = case.split(family, dtype)
    assert split
    return split


def same(a: Truth, b: Truth) -> bool:
    return bool((a.hi == b.hi).all() and (a.lo == b.lo).all())


# ---- what is asked


def test_where_the_parts_do_not_make_up_the_batch() -> None:
    assert {case.name for case in CASES} == {case.name for case in select("PerSample")}
    assert {name for name, case in BY_NAME.items() if case.parts and not case.parts.equal} == NOT_THE_BATCH


@EACH
def test_every_sample_is_in_one_part(case: VJPCase, family: str, dtype: str) -> None:
    split = split_of(case, family, dtype)
    for k, x in enumerate(split.whole.inputs):
        np.testing.assert_array_equal(np.concatenate([part.inputs[k] for part in split.parts]), x)
    assert all(part.dtype == dtype for part in split.parts)
    assert len(split.weights) == len(split.parts)
    # Whatever is called a mean has weights that add up to 1.
    assert split.divisor == (1 if "sum of" in case.name else sum(split.weights))


def test_a_case_without_parts_has_none() -> None:
    (case,) = select("Linear/batch 3")
    assert isinstance(case, VJPCase)
    assert case.split("full", "float64") is None


# ---- what is certified


@EACH
def test_what_is_kept_says_whether_they_are_equal(case: VJPCase, family: str, dtype: str) -> None:
    whole, kept = catalogue_answers.truths(case, family, dtype), catalogue_answers.in_parts(case, family, dtype)
    assert case.parts
    assert len(kept.parts) == len(case.parts.rows)
    assert kept.combined.keys() == {name for name in whole if name.startswith("grad.")}
    assert case.parts.equal == all(same(whole[name], t) for name, t in kept.combined.items())
    for truths in (whole, *kept.parts, kept.combined):
        assert not any(t.undecided.any() or np.isnan(t.hi).any() for t in truths.values())


@EACH
def test_a_difference_is_larger_than_any_right_engines_rounding(case: VJPCase, family: str, dtype: str) -> None:
    """No right engine can have the two alike where they are not."""
    split, profile = split_of(case, family, dtype), Profile.of(dtype)
    truths, combined = (
        catalogue_answers.truths(case, family, dtype),
        catalogue_answers.in_parts(case, family, dtype).combined,
    )
    whole, bounds = enclose(Request(split.whole, profile), truths), SplitRequest(split, profile).bounds()
    apart = [(whole[name].truth.error(t.hi) > whole[name].bound + bounds[name]).mean() for name, t in combined.items()]
    assert split.equal == (max(apart) == 0)
    assert split.equal or max(apart) > 0.5


def rational(array: Any) -> Any:
    made = np.empty(array.shape, dtype=object)
    for index in np.ndindex(*array.shape):
        made[index] = Fraction(float(array[index]))
    return made


@pytest.mark.parametrize("case", [c for c in CASES if "MSELoss" in c.name], ids=lambda case: case.name)
@pytest.mark.parametrize("family", ["grid", "full"])
def test_rational_arithmetic_has_it_exactly(case: VJPCase, family: str) -> None:
    """A linear model's gradients are rational: no rounding, no balls."""
    split = split_of(case, family)
    whole, *rest = (definition.vjp(record, rational) for record in (split.whole, *split.parts))
    combined = definition.combination(rest, split.weights, Fraction(split.divisor))
    assert combined
    assert split.equal == all((whole[name] == g).all() for name, g in combined.items())


@pytest.mark.parametrize("case", [MEAN, BY_NAME["BatchNorm1d, evaluation, mean of samples"]], ids=lambda c: c.name)
def test_what_is_equal_is_not_certified_to_differ(case: VJPCase) -> None:
    oracle = pytest.importorskip("parity.truth.certify")
    with pytest.raises(Undecided, match=r"Objective.*: no element tells what the parts make up"):
        oracle.certified(replace(split_of(case), equal=False))


@pytest.mark.parametrize("name", sorted(NOT_THE_BATCH))
def test_what_differs_is_not_certified_to_be_equal(name: str) -> None:
    oracle = pytest.importorskip("parity.truth.certify")
    with pytest.raises(oracle.Disagreement, match=r"the whole has .*, what its parts make up"):
        oracle.certified(replace(split_of(BY_NAME[name]), equal=True))


def test_another_way_to_part_a_batch_has_no_answer() -> None:
    assert WEIGHTED.parts
    changed = replace(WEIGHTED, parts=replace(WEIGHTED.parts, weights=(2, 1, 2)))
    with pytest.raises(UsageError, match="expected a certified answer to this record"):
        catalogue_answers.truths(changed, "full", "float64")


def test_findings_in_words() -> None:
    def said(case: VJPCase, family: str) -> str:
        kept = catalogue_answers.in_parts(case, family, "float64")
        request = SplitRequest(split_of(case, family), Profile.of("float64"))
        return parts.finding(request, catalogue_answers.truths(case, family, "float64"), kept.combined)

    assert said(MEAN, "grid") == "certified: (g0 + g1 + g2 + g3) / 4 is the gradient of the whole"
    assert said(WEIGHTED, "full") == "certified: (2 g0 + 2 g1 + g2) / 5 is the gradient of the whole"
    assert said(BY_NAME["MSELoss sum, sum of samples"], "full") == (
        "certified: g0 + g1 + g2 + g3 is the gradient of the whole"
    )
    whole, made = split_of(SHORT), RefnetEngine()
    answers = [made.vjp(part) for part in whole.parts]
    own, (W, b) = made.vjp(whole.whole), ("grad.network.weight", "grad.network.bias")
    shares = {n: abs(sum(a[n] for a in answers) / 3 - own[n]).max() / abs(own[n]).max() for n in (W, b)}
    name = max(shares, key=lambda n: shares[n])
    assert said(SHORT, "full") == (
        "certified: (g0 + g1 + g2) / 3 is not the gradient of the whole: "
        f"up to {shares[name]:.3g} of its largest element apart, in {name}"
    )


# ---- what is judged


class Changed(Engine):
    """refnet, with its answer to each record changed."""

    name = "changed"

    def __init__(self, change: Callable[[Answer, VJP], Answer]) -> None:
        self.change = change

    def vjp(self, record: VJP) -> Answer:
        return self.change(RefnetEngine().vjp(record), record)


def judged(case: VJPCase, change: Callable[[Answer, VJP], Answer], family: str = "full") -> CaseResult:
    (found,) = judge_case(case, family, "float64", [Changed(change)])
    return found


def failing(result: CaseResult) -> list[str]:
    return [v.name for v in result.verdicts if v.verdict == "FAIL"]


def test_a_right_engine_has_every_tensor_judged() -> None:
    found = judged(SHORT, lambda answer, record: answer)
    split = split_of(SHORT)
    own = list(RefnetEngine().vjp(split.whole))
    assert [v.name for v in found.verdicts] == [
        *own,
        *(f"part {k} {name}" for k in range(3) for name in own),
        "combined grad.network.weight",
        "combined grad.network.bias",
    ]
    assert found.conforms
    assert found.notes[0].startswith("certified: (g0 + g1 + g2) / 3 is not the gradient of the whole")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["MSELoss mean, mean of samples", "MSELoss sum, sum of samples"])
def test_on_the_grid_the_combined_gradient_is_the_batchs_to_the_bit(name: str, dtype: str) -> None:
    (found,) = judge_case(BY_NAME[name], "grid", dtype, [RefnetEngine()])
    gradients = [v for v in found.verdicts if "grad.network" in v.name]
    assert {(v.verdict, v.detection_limit) for v in gradients} == {("exact", 0.0)}


def test_a_short_batch_divided_by_the_size_of_the_others() -> None:
    """Its gradient is too small, and the weighted mean of batches is no longer that of the set."""

    def by_two(answer: Answer, record: VJP) -> Answer:
        n = len(record.inputs[0])
        return {name: a * min(1.0, n / 2) if name.startswith("grad") else a for name, a in answer.items()}

    found = judged(WEIGHTED, by_two)
    assert failing(found) == [
        *(f"part 2 {name}" for name in ("grad_input.0", "grad_input.1")),
        *(f"part 2 grad.network.{name}" for name in ("weight", "bias")),
        *(f"combined grad.network.{name}" for name in ("weight", "bias")),
    ]
    assert any(d.startswith("part 2: a constant factor: 1/2") for d in found.diagnosis)


def test_per_sample_gradients_that_are_off_by_a_billionth() -> None:
    def off(answer: Answer, record: VJP) -> Answer:
        return {name: a * (1 + 1e-9) if name == "grad.network.bias" else a for name, a in answer.items()}

    names = failing(judged(MEAN, lambda answer, record: off(answer, record) if len(record.inputs[0]) == 1 else answer))
    assert names == [*(f"part {k} grad.network.bias" for k in range(4)), "combined grad.network.bias"]


def test_a_batch_gradient_that_is_the_mean_over_batches() -> None:
    """A kept short batch overweights its samples: what such a loop descends is not the gradient of the set."""
    split = split_of(SHORT)

    def mean_of_batches(answer: Answer, record: VJP) -> Answer:
        if len(record.inputs[0]) < 5:
            return answer
        batches = [RefnetEngine().vjp(part) for part in split.parts]
        return {**answer, **definition.combination(batches, split.weights, split.divisor)}

    assert failing(judged(SHORT, mean_of_batches)) == ["grad.network.weight", "grad.network.bias"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda g: {}, "missing"),
        (lambda g: {"grad.network.bias": g[:1]}, "missing"),
        (lambda g: {"grad.network.bias": g.astype(np.float32)}, "outside their budget"),
        (lambda g: {"grad.network.bias": g * np.nan}, "outside their budget"),
    ],
)
def test_one_part_that_is_no_answer(change: Any, reason: str) -> None:
    def spoilt(answer: Answer, record: VJP) -> Answer:
        if record.inputs[0].tobytes() != split_of(MEAN).parts[1].inputs[0].tobytes():
            return answer
        bias = answer.pop("grad.network.bias")
        return {**answer, **change(bias)}

    found = judged(MEAN, spoilt)
    assert failing(found) == ["part 1 grad.network.bias", "combined grad.network.bias"]
    assert reason in found.verdicts[-1].reason


def test_parts_that_are_unsupported() -> None:
    def whole_only(answer: Answer, record: VJP) -> Answer:
        if len(record.inputs[0]) == 1:
            raise Unsupported("one sample")
        return answer

    found = judged(MEAN, whole_only)
    assert found.conforms
    assert found.notes == ("parts: not judged, unsupported: one sample",)
    assert not any(v.name.startswith(("part", "combined")) for v in found.verdicts)


def test_an_engine_without_objectives() -> None:
    def none(answer: Answer, record: VJP) -> Answer:
        raise Unsupported(f"no {record.spec.type}")

    found = judged(MEAN, none)
    assert (found.unsupported, found.verdicts, found.notes) == ("no Objective", (), ())


def test_a_budget_that_is_undecided(monkeypatch: pytest.MonkeyPatch) -> None:
    def undecided(*args: Any) -> Any:
        raise Undecided("too close")

    monkeypatch.setattr(SplitRequest, "bounds", undecided)
    found = judged(MEAN, lambda answer, record: answer)
    assert {(v.name, v.verdict, v.reason) for v in found.verdicts[-2:]} == {
        ("combined grad.network.weight", "undecided", "too close"),
        ("combined grad.network.bias", "undecided", "too close"),
    }
    assert not found.conforms


def test_a_missing_file_is_said_so(tmp_path: Path) -> None:
    store.write("persample", {"x": np.zeros(1)}, {}, tmp_path)
    with pytest.raises(UsageError, match="the case has changed since"):
        judge_case(MEAN, "full", "float64", [RefnetEngine()], tmp_path)
