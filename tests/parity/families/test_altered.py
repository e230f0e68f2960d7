"""The altered arithmetic: nothing altered changes nothing; what is altered is what the rule says."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from parity.budget.array import Budget, Profile
from parity.budget.fewer_bits import accumulated_in, significand
from parity.families.altered import Altered, bare
from parity.families.listing import select
from parity.records import definition
from parity.records.record import VJP

CASES = [
    "Linear/two leading axes",
    "Sigmoid/moderate",
    "Softmax/middle axis",
    "BatchNorm1d/batch 3",
    "Conv2d/groups, stride and padding",
    "LSTMCell/states of a hundred",
    "CrossEntropyLoss/some ignored, weight, mean",
    "Network/2-2-2, batch 1",
]


def case_record(name: str) -> VJP:
    (case,) = (case for case in select(name) if case.name == name)
    record = case.record("full", "float64")
    assert isinstance(record, VJP)
    return record


@pytest.mark.parametrize("name", CASES)
def test_without_rules_every_bit_is_the_same(name: str) -> None:
    record = case_record(name)
    plain = definition.vjp(record, lambda a: a)
    altered = definition.vjp(record, lambda a: Altered(a, {}))
    assert plain.keys() == altered.keys()
    for tensor, value in plain.items():
        np.testing.assert_array_equal(bare(altered[tensor]), value)


@pytest.mark.parametrize("name", CASES)
def test_without_rules_every_budget_is_the_same(name: str) -> None:
    record, lift = case_record(name), partial(Budget.exact, profile=Profile.of("float32"))
    record = VJP(
        record.spec,
        {n: a.astype(np.float32) if a.dtype.kind == "f" else a for n, a in record.arrays.items()},
        tuple(x.astype(np.float32) if x.dtype.kind == "f" else x for x in record.inputs),
        tuple(g.astype(np.float32) for g in record.grad_outputs),
    )
    plain = definition.vjp(record, lift)
    altered = definition.vjp(record, lambda a: Altered(lift(a), {}))
    for tensor, value in plain.items():
        if isinstance(value, Budget):
            np.testing.assert_array_equal(bare(altered[tensor]).e, value.e)


def test_a_rule_replaces_its_operation_and_no_other() -> None:
    a = Altered(np.array([[1.0, 2.0], [3.0, 4.0]]), {"matmul": lambda x, y: x @ y + 1, "sum": lambda x, **_: x[0]})
    np.testing.assert_array_equal((a @ a).a, [[8, 11], [16, 23]])
    np.testing.assert_array_equal(a.sum(axis=-1).a, [1, 2])
    np.testing.assert_array_equal(np.sum(a, axis=-1).a, [1, 2])
    np.testing.assert_array_equal((a * a).a, [[1, 4], [9, 16]])


def test_writing_reaches_the_array_within() -> None:
    inner = np.zeros(3)
    Altered(inner, {})[...] = Altered(np.arange(3.0), {})
    np.testing.assert_array_equal(inner, [0, 1, 2])


def test_comparisons_are_plain() -> None:
    on = Altered(np.array([-1.0, 2.0]), {}) > 0
    assert isinstance(on, np.ndarray)
    assert on.tolist() == [False, True]


@pytest.mark.parametrize(
    ("x", "rounded"),
    [
        (1 + 2.0**-10, 1 + 2.0**-10),
        (1 + 2.0**-11, 1.0),  # half-way, to the even 1
        (1 + 3 * 2.0**-11, 1 + 2.0**-9),  # half-way, to the even one above
        (1 + 2.0**-11 + 2.0**-40, 1 + 2.0**-10),
        (-(2 - 2.0**-12), -2.0),
        (0.0, 0.0),
        (2.0**-1000 * (1 + 2.0**-30), 2.0**-1000),
    ],
)
def test_eleven_bits(x: float, rounded: float) -> None:
    assert significand(np.array([x]), 11)[0] == rounded


def test_eleven_bits_are_those_of_float16_in_its_range() -> None:
    x = np.random.default_rng(0).uniform(-100, 100, 1000)
    np.testing.assert_array_equal(significand(x, 11), x.astype(np.float16).astype(np.float64))


def test_a_budget_that_rounds_to_one_number_has_it_exactly() -> None:
    a = Budget.exact([1 + 2.0**-20, 1 + 2.0**-11], Profile.of("float64"), e=2.0**-50)
    rounded = significand(a, 11)
    assert rounded.x.tolist() == [1.0, 1.0]
    # The second lies half-way: some right evaluations round up.
    assert rounded.e.tolist() == [0.0, 2.0**-10]


def test_sums_in_float32_lose_what_float32_loses() -> None:
    total = accumulated_in("float32", np.sum)
    assert total(np.array([2.0**24, 1.0, 1.0])) == 2.0**24
    assert total(np.array([2.0**24, 1.0, 1.0])).dtype == np.float64
    bound = total(Budget.exact([1.0, 1 / 3, 1 / 7], Profile.of("float64")))
    assert 2.0**-26 < bound.e < 2.0**-20
