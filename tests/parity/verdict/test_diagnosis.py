"""A failing answer is named for what it is, and only for that."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from itertools import tee
from typing import Any

import numpy as np
import pytest
from mistakes_made import CASES, answered, given, judging, made, truth

from parity.budget.array import Profile
from parity.engines.faulty import FaultyEngine
from parity.engines.refnet import RefnetEngine
from parity.families.case import TrainCase
from parity.families.fault import together as both
from parity.families.formula import together
from parity.families.listing import FAULTS, WEAKER, Fault
from parity.records.record import VJP, Answer, Spec, Train
from parity.truth.certify import certified
from parity.truth.value import Truth
from parity.verdict import diagnosis
from parity.verdict.answer import enclose, judge_answer
from parity.verdict.diagnosis import Diagnosis, diagnose
from parity.verdict.evaluation import Evaluation, Request, TrainingRequest
from parity.verdict.lockstep import judge_steps
from parity.verdict.recomputed import RAISED, Recomputed
from parity.verdict.relations import relations_to_truth
from parity.verdict.table import is_caught
from parity.verdict.tensor import Enclosure

FLOAT64 = Profile.of("float64")
BY_NAME = {fault.name: fault for fault in FAULTS}
LAYER = "Linear/batch 3"


class Remembered(Recomputed):
    """A record computed again; what a mistake makes of it is computed once, and not for every answer to it."""

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self.answers: dict[str, Answer | Exception] = {}
        self.said: dict[str, Iterator[dict[str, Evaluation]]] = {}

    def answer(self, fault: Fault) -> Answer:
        if fault.name not in self.answers:
            try:
                self.answers[fault.name] = super().answer(fault)
            except (*RAISED, AttributeError) as error:
                self.answers[fault.name] = error
        found = self.answers[fault.name]
        if isinstance(found, Exception):
            raise found
        return found

    def evaluations(self, fault: Fault, own: Answer) -> Iterator[dict[str, Evaluation]]:
        self.said[fault.name], found = tee(self.said.get(fault.name) or super().evaluations(fault, own))
        return found


KNOWN: dict[int, Remembered] = {}


def recomputed(request: Request) -> Remembered:
    """The same for the same request, of the latest ones."""
    found = KNOWN.get(id(request))
    if found is None:
        if len(KNOWN) == 64:
            KNOWN.clear()
        # It holds the request, so that no other one gets its id.
        found = KNOWN[id(request)] = Remembered(request)
    return found


@pytest.fixture(autouse=True)
def _remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "Recomputed", recomputed)


def diagnosed(
    record: Any, answer: Answer, truths: dict[str, Truth], failing: list[str], profile: Profile = FLOAT64
) -> list[Diagnosis]:
    """What is said of these tensors of an answer."""
    request = Request(record, profile)
    return diagnose(request, answer, enclose(request, truths), failing)


def told(name: str, family: str, answer: Answer, failing: list[str]) -> list[Diagnosis]:
    """The same of an answer to a record of the catalogue."""
    judge = judging(name, family)
    return diagnose(judge.request, answer, judge.enclosures, failing)


def judged(name: str, answer: Answer, family: str = "full") -> list[Diagnosis]:
    """What is said of the tensors of an answer that fail."""
    failing = [v.name for v in judging(name, family)(answer) if v.verdict == "FAIL"]
    assert failing
    return told(name, family, answer, failing)


NAMED = [f for f in FAULTS if not f.reply and not f.train]


@pytest.mark.parametrize("fault", NAMED, ids=lambda fault: fault.name)
def test_a_mistake_is_diagnosed_as_itself(fault: Fault) -> None:
    for name, family, _, answer in made(fault):
        failing = [v.name for v in judging(name, family)(answer) if is_caught(v.verdict)]
        found = told(name, family, answer, failing)
        if fault.name in [d.name for d in found]:
            (own,) = (d for d in found if d.name == fault.name)
            assert own.tensors == tuple(failing)
            return
    pytest.fail("it is recognized in no case")


@pytest.mark.parametrize("fault", [f for f in FAULTS if f.train], ids=lambda fault: fault.name)
def test_a_mistake_of_training_is_diagnosed_as_itself(fault: Fault) -> None:
    plain = ("Training/mini-batch, the last one short", "Training/worked example, biases frozen")
    trainings = [case for case in CASES.values() if isinstance(case, TrainCase)]
    for case in sorted(trainings, key=lambda case: case.name not in plain):
        record = case.record("full", "float64").first(8)
        answer, right = FaultyEngine(fault).train(record), FaultyEngine().train(record)
        if all(np.array_equal(answer[name], a) for name, a in right.items()):
            continue
        failing = [v.name for v in judge_steps(TrainingRequest(record, FLOAT64), answer) if v.verdict == "FAIL"]
        if fault.name in [d.name for d in diagnose(TrainingRequest(record, FLOAT64), answer, {}, failing)]:
            return
    pytest.fail("it is recognized in no case")


def test_a_mistake_of_a_layer_is_recognized_in_training() -> None:
    record = CASES["Training/mini-batch, the last one short"].record("full", "float64")
    assert isinstance(record, Train)
    record = replace(record, batches=record.batches[:3])
    answer = RefnetEngine(BY_NAME["bias gradient averaged"].patches).train(record)
    found = diagnose(TrainingRequest(record, FLOAT64), answer, {}, ["update.0.bias"])
    assert [d.name for d in found] == ["bias gradient averaged"]


def test_a_right_training_matches_nothing() -> None:
    record = CASES["Training/stochastic"].record("full", "float64")
    assert isinstance(record, Train)
    record = replace(record, batches=record.batches[:3])
    assert diagnose(TrainingRequest(record, FLOAT64), RefnetEngine().train(record), {}, ["loss"]) == []


RIGHT = [LAYER, "BatchNorm1d/batch 3", "LSTMCell/states of a hundred", "Network/2-2-2, batch 1", "Sigmoid/extreme"]


@pytest.mark.parametrize("name", [*RIGHT, "SGD/gradients of very different sizes"])
def test_a_right_answer_matches_no_mistake(name: str) -> None:
    # Though it is said of every tensor that it fails.
    found = told(name, "full", given(name)[1], list(truth(name)))
    assert not {d.name for d in found} & {f.name for f in FAULTS if f.dtypes != ("float64",)}


def test_nothing_is_said_where_nothing_fails() -> None:
    answer = given(LAYER)[1]
    assert told(LAYER, "full", {**answer, "output": -answer["output"]}, []) == []


def test_two_mistakes_that_coincide_are_both_listed() -> None:
    # Without ignored rows the number of samples is the number of those that count.
    name = "CrossEntropyLoss/weight, mean"
    names = {
        d.name for d in judged(name, FaultyEngine(BY_NAME["ignored rows counted in the mean"]).vjp(given(name)[0]))
    }
    assert {"ignored rows counted in the mean", "weighted mean by the number of samples"} <= names


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("Linear/batch 3", "bias gradient averaged", "weight gradient transposed"),
        ("LSTMCell/batch 3", "cell state's gradient dropped", "one of two biases without gradient"),
        ("BatchNorm1d/batch 3", "variance taken for a constant", "BatchNorm: bias gradient of the first sample"),
    ],
)
def test_two_mistakes_at_once_are_named(name: str, first: str, second: str) -> None:
    record, _ = given(name)
    names = [(BY_NAME[first], BY_NAME[second]), (BY_NAME[second], BY_NAME[first])]
    found = judged(name, answered(FaultyEngine(both(*names[0])), record))
    assert [d.name for d in found if d.name in {both(*pair).name for pair in names}], found


def test_a_pair_is_not_named_where_a_third_mistake_is() -> None:
    record, _ = given(LAYER)
    answer = answered(FaultyEngine(BY_NAME["bias gradient averaged"]), record)
    answer["grad.weight"] = answer["grad.weight"] * 1.001
    assert not [d for d in judged(LAYER, answer) if ", and " in d.name]


def test_almost_is_not_a_match() -> None:
    answer = FaultyEngine(BY_NAME["bias gradient averaged"]).vjp(given(LAYER)[0])
    assert judged(LAYER, answer)[0].name == "bias gradient averaged"
    answer["grad.bias"] = answer["grad.bias"] * (1 + 1e-12)
    assert [d.what for d in judged(LAYER, answer)] == ["0.333333 times the truth in grad.bias"]


def test_what_else_is_wrong_is_not_passed_over() -> None:
    answer = FaultyEngine(BY_NAME["bias gradient averaged"]).vjp(given(LAYER)[0])
    answer["grad.weight"] = answer["grad.weight"] + 1e-6
    assert "bias gradient averaged" not in {d.name for d in judged(LAYER, answer)}


def test_a_missing_tensor_is_no_mistake_of_the_dictionary() -> None:
    answer = {name: a for name, a in given(LAYER)[1].items() if name != "grad.bias"}
    assert judged(LAYER, answer) == []


def test_a_mistake_beside_a_weaker_formula() -> None:
    """An engine with a mistake in a layer and 1 - y^2 in another one, far out, where that has lost its digits."""
    record = VJP(
        Spec("Sequential", layers=(Spec("Linear", {"in_features": 1, "out_features": 2}), Spec("Tanh"))),
        {"0.weight": np.array([[3.0], [0.7]]), "0.bias": np.array([0.1, 0.2])},
        (np.array([[2.9], [0.3], [-2.7]]),),
        (np.array([[1.1, -0.4], [0.3, 0.9], [-1.3, 0.6]]),),
    )
    truths, fault = certified(record), BY_NAME["bias gradient of the last sample"]
    weaker = together([v for v in WEAKER if "torch" in v.users])
    own = RefnetEngine(weaker.patches).vjp(record)
    right = [v.verdict for v in judge_answer(Request(record, FLOAT64), truths, own)]
    assert "unstable" in right
    assert "FAIL" not in right
    answer = FaultyEngine(replace(fault, patches={**weaker.patches, **fault.patches})).vjp(record)
    failing = [v.name for v in judge_answer(Request(record, FLOAT64), truths, answer) if v.verdict == "FAIL"]
    assert failing == ["grad.0.bias"]
    assert [d.name for d in diagnosed(record, answer, truths, failing)] == [fault.name]


def changed(**tensors: Any) -> Answer:
    answer = given(LAYER)[1]
    return {**answer, **{name: change(answer[name]) for name, change in tensors.items()}}


def only(array: np.ndarray, index: Any, value: float) -> np.ndarray:
    array = array.copy()
    array[index] += value
    return array


@pytest.mark.parametrize(
    ("change", "name", "what"),
    [
        (np.zeros_like, "zero", "0 in every element in grad_input"),
        (np.negative, "a constant factor", "-1 times the truth in grad_input"),
        (lambda g: g * 2, "a constant factor", "2 times the truth in grad_input"),
        (lambda g: g / 3, "a constant factor", "1/3, the number of samples times the truth in grad_input"),
        (lambda g: g * -3, "a constant factor", "-(3, the number of samples) times the truth in grad_input"),
        (lambda g: g * 1.5, "a constant factor", "3/2, of the number of samples times the truth in grad_input"),
        (lambda g: g * 1.2345, "a constant factor", "1.2345 times the truth in grad_input"),
        (lambda g: np.roll(g, 1, axis=0), "rows", "rows shifted by 1 in grad_input"),
        (lambda g: g[[0, 2, 1]], "rows", "rows in the order [0, 2, 1] in grad_input"),
        (lambda g: g[::-1], "rows", "rows from the end in grad_input"),
        (lambda g: np.roll(g, 2, axis=1), "columns", "columns shifted by 2 in grad_input"),
        (lambda g: only(g, (1, 2), 1e-9), "one element", "only [1, 2] is wrong in grad_input"),
        (lambda g: only(g, 2, 1.0), "one row", "only row 2 of 3 is wrong in grad_input"),
        (lambda g: np.vstack([g[:2], 0 * g[2:]]), "one row", "only row 2 of 3 is wrong, and 0 there in grad_input"),
        (lambda g: only(g, (0, 0), np.nan), "not finite", "1 of 15 elements are NaN or infinite in grad_input"),
        (lambda g: g.T, "transposed", "the truth's last two axes exchanged in grad_input"),
    ],
)
def test_relations(change: Any, name: str, what: str) -> None:
    found = judged(LAYER, changed(grad_input=change))
    assert (name, what) in [(d.name, d.what) for d in found]


def test_relations_in_any_order_of_rows() -> None:
    """Large tensors are compared row by row: all pairs of rows would take 8 GiB here."""
    rng = np.random.default_rng(0)
    x, g = rng.standard_normal((2, 1024, 1024))
    record = VJP(Spec("expression"), {}, (x,), (g,))
    own = {"grad_input": Enclosure.around(x, np.full(x.shape, 1e-15))}
    order = rng.permutation(1024)
    for got, what in (
        (np.roll(x, 3, 0), "rows: rows shifted by 3 in grad_input"),
        (x[:, ::-1], "columns: columns from the end in grad_input"),
        (x[:, np.roll(np.arange(1024), 1023)], "columns: columns shifted by 1023 in grad_input"),
        (x + 1, ""),
    ):
        tracemalloc.start()
        found = relations_to_truth(record, {"grad_input": got}, own, ["grad_input"])
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert [str(d) for d in found] == ([what] if what else [])
        assert most < 20 * x.nbytes
    small, few = {"grad_input": Enclosure.around(x[:9], np.zeros((9, 1024)))}, np.argsort(order[:9])
    (found,) = relations_to_truth(record, {"grad_input": x[:9][few]}, small, ["grad_input"])
    assert str(found) == f"rows: rows in the order {few.tolist()} in grad_input"


@pytest.mark.parametrize("change", [lambda g: g + 1, lambda g: g * g, lambda g: g[::-1] + 1e-6, lambda g: g[:2]])
def test_what_bears_no_relation_has_none(change: Any) -> None:
    assert judged(LAYER, changed(grad_input=change)) == []


def test_a_relation_of_several_tensors_is_said_once() -> None:
    found = judged(LAYER, changed(**{"grad.weight": np.negative, "grad.bias": np.negative}))
    assert [str(d) for d in found] == ["a constant factor: -1 times the truth in grad.weight, grad.bias"]
    assert found[0].tensors == ("grad.weight", "grad.bias")


def test_one_tensor_in_another_s_place() -> None:
    name = "MSELoss/batch 3, mean"
    answer = given(name)[1]
    swapped = {**answer, "grad_input.0": answer["grad_input.1"], "grad_input.1": answer["grad_input.0"]}
    kinds = [(d.name, d.what) for d in judged(name, swapped)]
    assert ("another tensor", "what grad_input.1 should be in grad_input.0") in kinds
    assert ("another tensor", "what grad_input.0 should be in grad_input.1") in kinds


def test_an_input_handed_on() -> None:
    record, answer = given(LAYER)
    found = judged(LAYER, {**answer, "grad_input": record.inputs[0].copy()})
    assert [str(d) for d in found] == ["handed on: input 0, unchanged in grad_input"]


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        ("computed in float32", "computed in float32"),
        ("sums in float32", "sums in float32"),
        ("products of 11 bits", "products of 11 bits"),
        ("products of 8 bits", "products of 8 bits"),
    ],
)
def test_the_format_that_was_used(fault: str, named: str) -> None:
    record, _ = given("Linear/64 to 10")
    found = judged("Linear/64 to 10", answered(FaultyEngine(BY_NAME[fault]), record))
    assert found[0].name == named
    formats = {"computed in float32", "sums in float32", "products of 11 bits", "products of 8 bits"}
    assert {d.name for d in found} & formats == {named}


def test_reads_as_a_sentence() -> None:
    answer = FaultyEngine(BY_NAME["bias gradient averaged"]).vjp(given(LAYER)[0])
    what = "db = sum_n dY / N against db = sum_n dY: the loss was averaged already"
    assert str(judged(LAYER, answer)[0]) == f"bias gradient averaged: {what} (kvfrans/notes#5)"


def test_a_record_that_is_no_float64() -> None:
    record = CASES[LAYER].record("full", "float32")
    assert isinstance(record, VJP)
    answer, truths = FaultyEngine(BY_NAME["products of 11 bits"]).vjp(record), certified(record)
    profile = Profile.of("float32")
    failing = [v.name for v in judge_answer(Request(record, profile), truths, answer) if v.verdict == "FAIL"]
    assert failing
    assert diagnosed(record, answer, truths, failing, profile)[0].name == "products of 11 bits"
