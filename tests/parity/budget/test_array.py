"""Budgets as arrays: comparisons, open sums, shapes, and what has no rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from adversary import F32, F64, PROFILES, Case, case, draw, largest
from numpy.lib.stride_tricks import sliding_window_view

from parity.budget.array import Budget, NoRule
from parity.records.record import Undecided
from refnet.arithmetic import special

pytestmark = pytest.mark.arithmetic

# ---- comparisons


@pytest.mark.parametrize("compare", [np.greater, np.greater_equal, np.less, np.less_equal, np.equal, np.not_equal])
def test_a_comparison_decides_where_all_evaluations_agree(compare: Any) -> None:
    x = Budget.exact(np.array([3.0, -3.0]), F64, e=1.0)
    assert compare(x, 0.5).tolist() == compare(np.array([3.0, -3.0]), 0.5).tolist()
    for apart in (0.0, 1.0, 1.5, 2.0):
        condition = compare(x, np.array([3.0 - apart, 0.0]))
        assert condition.open.tolist() == [True, False]
        with pytest.raises(Undecided, match=f"{compare.__name__}: .* 1 of 2 elements"):
            bool(condition)


def test_an_exact_value_and_an_evaluation_may_lie_on_two_sides_of_a_branch() -> None:
    """Why it takes twice the bound: x = 1.5 within 1 may stand for the exact 0.5 and for an engine's -0.5."""
    flipped = case(lambda x: np.where(x > 0, x, 10.0), [1.5] * 9, e=1.0)
    assert 0.6 < largest(flipped, F64) <= 1


def test_an_open_element_has_the_hull_of_both_branches() -> None:
    x = Budget.exact(np.array([0.5, 3.0]), F64, e=1.0)
    made = np.where(x > 0, x, 10.0)
    assert made.x.tolist() == [0.5, 3.0]
    # An exact 0.5 - 1 has the second branch, while an engine at 0.5 + 1 takes the first; and the other way round.
    assert made.e.tolist() == [pytest.approx(9.5 + 2), 1.0]
    assert np.where(x > 0, 3.0, 3.0).e.tolist() == [0.0, 0.0]


def test_conditions_are_joined_as_far_as_they_are_decided() -> None:
    x = Budget.exact(np.array([0.5, 3.0, -3.0]), F64, e=1.0)
    above = x > 0
    yes, no = np.ones(3, bool), np.zeros(3, bool)
    assert (above & yes).open.tolist() == [True, False, False]
    assert not (above & no).open.any()
    assert not (above | yes).open.any()
    assert (~above).value.tolist() == [False, False, True]
    assert (~above).open.tolist() == np.logical_not(above).open.tolist() == [True, False, False]
    assert np.expand_dims(above, 0).shape == above.reshape(1, 3).shape == (1, 3)
    assert np.concatenate([above, yes]).open.tolist() == [True, False, False, False, False, False]
    numbers = above * np.full(3, 2.0)
    assert (numbers.x.tolist(), numbers.e.tolist()) == ([2.0, 2.0, 0.0], [pytest.approx(2.0), 0.0, 0.0])
    assert above.sum().e == pytest.approx(1.0)
    for decision in (lambda: above.any(), lambda: np.ones(3)[above], lambda: np.asarray(above)):
        with pytest.raises(Undecided, match="1 of 3 elements"):
            decision()


def test_exact_values_compare_even_when_equal() -> None:
    x = Budget.exact(np.array([1.0, 0.0]), F64)
    assert (x == x).all()
    assert not (x > x).any()
    assert (x >= 0).all()


def test_what_has_no_bound_is_undecided() -> None:
    x = Budget.exact(np.array([np.nan]), F64, e=np.inf)
    assert np.greater(x, 0).open.all()


def test_a_budget_is_no_condition() -> None:
    with pytest.raises(TypeError, match="expected a comparison"):
        bool(Budget.exact(1.0, F64))


# ---- open sums


MOVES: dict[str, Callable[[Any], Any]] = {
    "nothing": lambda s: s,
    "reshape": lambda s: s.reshape(4).reshape(2, 2),
    "np.reshape": lambda s: np.reshape(s, (2, 2)),
    "expand_dims": lambda s: np.expand_dims(s, -1)[..., 0],
    "mT": lambda s: s.mT.mT,
    "getitem": lambda s: s[:, ::-1][:, ::-1],
    "copy": lambda s: s.copy(),
    "np.copy": np.copy,
    "broadcast_to": lambda s: np.broadcast_to(s, (3, 2, 2))[1],
    "pad": lambda s: np.pad(s, 1)[1:-1, 1:-1],
    "concatenate": lambda s: np.concatenate([s[:1], s[1:]], axis=0),
    "where": lambda s: np.where(np.array([True, False]), s, s),
    "windows": lambda s: sliding_window_view(s, (2, 2), axis=(-2, -1))[0, 0],
    "negative": lambda s: np.negative(-s),
    "subtract": lambda s: -(0.0 - s),
}


@pytest.mark.parametrize("profile", ["float32", "bfloat16 in float32"])
@pytest.mark.parametrize("move", MOVES)
def test_a_sum_stays_open_while_it_is_moved_about(move: str, profile: str) -> None:
    x, y = (Budget.exact(draw(k, PROFILES[profile], 2, 2), PROFILES[profile]) for k in range(2))
    closed = Budget((x @ y).x, (x @ y).e, (x @ y).q, x.profile)
    moved = MOVES[move](x @ y) + y @ x
    merged = x @ y + y @ x
    assert (moved.e >= merged.e).all()
    assert (moved.e <= merged.e * (2 if move == "subtract" else 1)).all()
    assert (merged.e != (closed + y @ x).e).any()


def test_a_sum_of_sums_is_one_sum() -> None:
    x = Budget.exact(draw(0, F32, 4, 5, 6), F32)
    assert np.sum(np.sum(x, axis=-1), axis=-1).e.tolist() == pytest.approx(
        np.sum(x, axis=(-2, -1)).e.tolist(), rel=1e-12
    )


def test_an_assigned_sum_is_closed() -> None:
    x = Budget.exact(draw(0, F32, 2, 2), F32)
    stored = x.copy()
    stored[...] = x @ x
    closed = Budget((x @ x).x, (x @ x).e, (x @ x).q, F32)
    assert (stored + x).e.tolist() == (closed + x).e.tolist()


def test_a_write_closes_a_sum_and_its_views() -> None:
    """What is written may be stored and read again, so nothing may be added to the sum that was there."""
    x = Budget.exact(draw(0, F32, 2, 2), F32)
    for written, read in ((0, 1), (1, 0)):
        sums = x @ x, None
        sums = (sums[0], sums[0][:1])
        sums[written][0] = 0.1
        v = sums[read][:1]
        closed = Budget(v.x, v.e, v.q, F32)
        assert (v + x[0]).e.tolist() == (closed + x[0]).e.tolist()
        assert (v + x[0]).e.all()
    s = x @ x
    copied = s.copy()
    s[0] = 0.1
    assert copied.open_sum is not None


# ---- shapes, and the rest of the surface


@pytest.mark.parametrize("shape", [(), (0,), (1,), (0, 3), (3, 0), (2, 0, 3), (1, 3)])
def test_budgets_have_the_shapes_that_arrays_have(shape: tuple[int, ...]) -> None:
    a = np.ones(shape) * 1.5
    functions_of_one = [
        lambda x: x + x,
        lambda x: 0.1 * x,
        lambda x: np.exp(x) / (x + 3),
        np.sum,
        lambda x: np.sum(np.exp(x)),
        lambda x: np.expand_dims(x, 0),
        lambda x: x.reshape(-1) if x.size else x.reshape(0),
        lambda x: np.where(x > 1, x, 0),
        lambda x: np.broadcast_to(x, (2, *x.shape)),
    ]
    if shape:
        functions_of_one += [
            lambda x: x.sum(axis=-1),
            lambda x: x.sum(axis=0, keepdims=True),
            lambda x: np.concatenate([x, x * 2], axis=-1),
            lambda x: np.pad(x, 1),
            lambda x: x[..., :1],
            lambda x: special.shift(x, -1),
            lambda x: np.expand_dims(x, -2) @ np.expand_dims(x, -1),
        ]
    if len(shape) == 2:
        functions_of_one += [
            lambda x: x @ x.mT,
            lambda x: x.mT @ x,
            lambda x: np.einsum("ij,ij->j", x, x),
            lambda x: x[0:] @ x[0] if len(x) else x,
        ]
    for f in functions_of_one:
        want, got = np.asarray(f(a)), Case(f, (a,)).budget(F64)
        assert got.shape == want.shape
        assert (abs(got.x - want) <= got.e).all()


@pytest.mark.parametrize(
    ("a", "b"),
    [((3,), (3, 2)), ((2, 3), (3,)), ((3,), (3,)), ((4, 2, 3), (3, 2)), ((2, 3), (4, 3, 2)), ((3,), (4, 3, 2))],
)
def test_matmul_of_every_rank(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    x, y = draw(0, F64, *a), draw(1, F64, *b)
    got = Case(lambda x, y: x @ y, (x, y)).budget(F64)
    assert got.shape == (x @ y).shape
    assert (abs(got.x - x @ y) <= got.e).all()


@pytest.mark.parametrize(
    ("f", "what"),
    [
        (np.var, "np.var"),
        (lambda x: np.maximum(x, 0), "np.maximum"),
        (np.linalg.norm, "np.linalg.norm"),
        (lambda x: x**x, "** with an exponent that is no number"),
        (lambda x: x.T, ".T"),
        (lambda x: x.mean(), ".mean"),
        (np.add.reduce, "np.add.reduce"),
        (lambda x: np.exp(x, out=x), "np.exp(out=...)"),
        (np.asarray, "np.asarray"),
    ],
)
def test_what_has_no_rule_is_named(f: Callable[..., Any], what: str) -> None:
    with pytest.raises(NoRule) as error:
        f(Budget.exact(np.ones((2, 2)), F64))
    assert error.value.what == what
    assert what in str(error.value)


@pytest.mark.parametrize("subscripts", ["ij,jk", "...i,i->i", "ii,i->i"])
def test_einsum_says_what_it_takes(subscripts: str) -> None:
    b = Budget.exact(np.ones((2, 2)), F64)
    with pytest.raises(TypeError, match=r"expected '->', no '...', and no index twice in one operand, got"):
        np.einsum(subscripts, *[b] * (subscripts.count(",") + 1))


def test_results_share_no_memory_that_could_be_written_behind_their_back() -> None:
    given = np.ones(2)
    x = Budget.exact(given, F64)
    minus, copied = -x, x.copy()
    minus[...] = 0.1
    copied[...] = 0.2
    x[0] = 5.0
    assert given.tolist() == [1.0, 1.0]
    assert x.x.tolist() == [5.0, 1.0]
    assert not x.e.any()
