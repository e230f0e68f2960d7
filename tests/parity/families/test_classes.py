"""Every class has a row in the table of facts, cases, mistakes, and other formulas or a word that there are none."""

from __future__ import annotations

import inspect

import pytest

import refnet
from parity.families.case import TrainCase, VJPCase
from parity.families.listing import CONVENTIONS, FAULTS, NO_OTHER, WEAKER, catalogue
from parity.records import definition
from parity.records.facts import MODULES
from parity.records.record import Spec

LAYERS = [name for name in refnet.nn.__all__ if name not in ("Module", "Sequential", "init")]
CLASSES = [*LAYERS, "Sequential", *refnet.optim.__all__]
SINGLE = [case for case in catalogue() if not isinstance(case, TrainCase)]
OF_ITS_OWN = {name: [case for case in SINGLE if case.spec.type == name] for name in CLASSES}


def test_every_layer_has_a_row() -> None:
    assert {*MODULES} == {*LAYERS}


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_has_cases(name: str) -> None:
    assert len(OF_ITS_OWN[name]) >= 3


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_has_three_mistakes(name: str) -> None:
    assert len([fault for fault in FAULTS if name in fault.patches or name in fault.types]) >= 3


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_has_other_formulas_or_it_is_said_that_there_are_none(name: str) -> None:
    others = [variant for variant in WEAKER + CONVENTIONS if name in variant.patches]
    assert bool(others) != (name in NO_OTHER)


@pytest.mark.parametrize("name", LAYERS)
def test_a_row_says_what_the_class_says(name: str) -> None:
    facts, forward = MODULES[name], inspect.signature(getattr(refnet.nn, name).forward)
    assert len(facts.inputs) == len(forward.parameters) - 1 - len(facts.options)
    assert {*facts.options, *facts.dropout_masks} <= {*forward.parameters}
    in_place_of_draws = facts.mask or bool(facts.dropout_masks) or "slopes" in facts.inputs
    assert facts.draws == ("generator" in inspect.signature(getattr(refnet.nn, name)).parameters and in_place_of_draws)
    for case in OF_ITS_OWN[name]:
        assert isinstance(case, VJPCase)
        record = case.record(case.families[0], "float64")
        assert len(record.inputs) <= len(facts.inputs)
        module = definition.build(case.spec, record.arrays)
        assert {*module.params, *module.buffers} == {*record.arrays}
        # What is an argument of the constructor is a buffer.
        assert {*facts.arrays} & {*record.arrays} <= {*module.buffers}


@pytest.mark.parametrize("name", refnet.optim.__all__)
def test_a_schema_is_that_of_the_state(name: str) -> None:
    (record,) = (case.record("full", "float64") for case in OF_ITS_OWN[name][-1:])
    made = definition.optimizer(record.spec, {n: p.copy() for n, p in record.params.items()}, record.groups)  # type: ignore[union-attr]
    if made.takes_closure:
        made.step(lambda: (1.0, {n: p + 1 for n, p in record.params.items()}))  # type: ignore[union-attr]
    else:
        made.step(record.gradients(0))  # type: ignore[union-attr]
    known = Spec(name).schema
    assert {key for state in made.state.values() for key in state} <= {*known}
