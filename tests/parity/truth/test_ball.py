"""Numbers into balls, and certified numbers out of them, against exact rational arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from flint import arb, ctx

from parity.records.record import Undecided
from parity.truth import ball
from parity.truth.certify import settle
from parity.truth.node import Node

SMALLEST = Fraction(2) ** -1074
LARGEST = Fraction(np.finfo(float).max)


def rationals() -> list[Fraction]:
    random = np.random.default_rng(0)
    digits = random.integers(1, 2**62, (200, 2)).tolist()
    exponents = random.integers(-1100, 900, 200).tolist()
    return [Fraction(n, d) * Fraction(2) ** e * (-1) ** n for (n, d), e in zip(digits, exponents, strict=True)]


def half_ways() -> list[Fraction]:
    """Exactly between two binary64 numbers, normal and subnormal."""
    below = [1.0, 1.0 + 2**-52, -3.0, 2.0**-1022, 5 * 2.0**-1074, 2.0**-1074, 0.0, 1 - 2.0**-53]
    return [(Fraction(x) + Fraction(math.nextafter(x, math.inf))) / 2 for x in below]


@pytest.fixture(autouse=True)
def bits() -> Any:
    with ball.precision(2560):
        yield


def test_the_nearest_number_to_any_rational() -> None:
    assert [ball.nearest(ball.ball(x)) for x in rationals()] == [float(x) for x in rationals()]


def test_ties_go_to_even() -> None:
    assert [ball.nearest(ball.ball(x)) for x in half_ways()] == [float(x) for x in half_ways()]
    assert ball.nearest(ball.ball(1 + Fraction(2) ** -53)) == 1.0
    assert ball.nearest(ball.ball(1 + 3 * Fraction(2) ** -53)) == 1 + 2**-51
    assert ball.nearest(ball.ball(SMALLEST / 2)) == 0.0
    assert ball.nearest(ball.ball(3 * SMALLEST / 2)) == float(2 * SMALLEST)


@pytest.mark.parametrize("tip", [-1, 1])
def test_a_tie_is_tipped_by_the_least_difference(tip: int) -> None:
    for x in half_ways():
        tipped = x + tip * Fraction(2) ** -1500
        assert ball.nearest(ball.ball(tipped)) == float(tipped)


def test_a_ball_across_a_boundary_is_undecided() -> None:
    with pytest.raises(Undecided, match="straddles"):
        ball.nearest(arb(1) + arb(2) ** -53 + arb(0, arb(2) ** -100))
    assert ball.nearest(arb(1) + arb(0, arb(2) ** -100)) == 1.0


@pytest.mark.parametrize("x", [arb("nan"), arb("inf"), arb(0, "inf")], ids=str)
def test_what_is_not_finite_is_undecided(x: Any) -> None:
    with pytest.raises(Undecided, match="not finite"):
        ball.nearest(x)
    with pytest.raises(Undecided):
        ball.certify(x)


def test_overflow_is_undecided() -> None:
    limit = LARGEST + (LARGEST - Fraction(math.nextafter(float(LARGEST), 0))) / 2
    assert ball.nearest(ball.ball(limit - 1)) == float(LARGEST)
    for x in (limit, -limit, limit * 2):
        with pytest.raises(Undecided, match="overflows"):
            ball.nearest(ball.ball(x))


def test_certified_numbers_have_106_bits() -> None:
    for x in rationals():
        hi, lo = ball.certify(ball.ball(x))
        assert hi == float(x)
        assert lo == float(x - Fraction(hi))
        assert abs(x - Fraction(hi) - Fraction(lo)) <= max(abs(x) * Fraction(2) ** -106, SMALLEST / 2)


def test_what_binary64_holds_is_certified_as_it_is() -> None:
    for x in (0.0, 1.0, -0.1, 5e-324, float(LARGEST)):
        assert ball.certify(arb(x)) == (x, 0.0)


def test_underflow_is_certified_as_zero() -> None:
    for x in (SMALLEST / 3, -SMALLEST / 3, Fraction(2) ** -5000):
        assert ball.certify(ball.ball(x)) == (0.0, 0.0)
    assert ball.certify(ball.ball(1 + SMALLEST / 3)) == (1.0, 0.0)


def test_an_exact_zero_that_no_ball_can_prove() -> None:
    """1/3 - 1/3 is a ball around 0: at the highest precision it is below what binary64 can tell from 0."""
    third = arb(1) / 3
    assert ball.certify(third - third) == (0.0, 0.0)
    with ball.precision(256):
        third = arb(1) / 3
        with pytest.raises(Undecided):
            ball.certify(third - third)


def answers(f: Callable[[], Any]) -> tuple[list[int], Callable[[], dict[str, Any]]]:
    asked: list[int] = []

    def answer() -> dict[str, Any]:
        asked.append(ctx.prec)
        made = np.empty(2, object)
        made[:] = [f(), arb(1) / 3]
        return {"x": made}

    return asked, answer


def test_precision_rises_until_all_is_settled() -> None:
    asked, answer = answers(lambda: arb(2).sqrt())
    truth = settle(answer)["x"]
    assert asked == [256]
    assert truth.decimal(30, (0,)) == "1.41421356237309504880168872421"
    asked, answer = answers(lambda: (arb(2) ** 400 + 1) - arb(2) ** 400)
    assert settle(answer)["x"].hi.tolist() == [1.0, 1 / 3]
    assert asked == [256, 512]


def test_what_is_never_settled_is_said_to_be_so() -> None:
    asked, answer = answers(lambda: arb(0, 1))
    truth = settle(answer)["x"]
    assert asked == list(ball.PRECISIONS)
    assert truth.undecided.tolist() == [True, False]
    assert truth.hi[1] == 1 / 3


def test_a_comparison_may_be_settled_by_more_bits() -> None:
    asked, answer = answers(lambda: arb(1) if Node(arb(2) ** 300 + 1) > Node(arb(2) ** 300) else arb(2))
    assert settle(answer)["x"].hi[0] == 1.0
    assert asked == [256, 512]
    third = arb(1) / 3
    _, answer = answers(lambda: Node(third) > Node(third))
    with pytest.raises(Undecided):
        settle(answer)


def test_precision_is_put_back() -> None:
    with pytest.raises(ZeroDivisionError, match="77"), ball.precision(77):
        raise ZeroDivisionError(ctx.prec)
    assert ctx.prec == 2560


def test_floats_become_nodes_and_integers_stay() -> None:
    for array in (np.float32([[0.1, 2.0]]), np.array(0.5), np.zeros((0, 2))):
        nodes = ball.lift(array)
        assert nodes.dtype == object
        assert nodes.shape == array.shape
        assert [n.value == float(x) for n, x in zip(nodes.flat, array.flat, strict=True)] == [True] * array.size
    for array in (np.array([1, 2]), np.array([True])):
        assert ball.lift(array) is array


def test_fractions_are_enclosed() -> None:
    (third,) = ball.lift(np.array([Fraction(1, 3)]))
    assert (third.value * 3).contains(1)
    assert not third.value.is_exact()
    assert ball.ball(Fraction(3, 8)) == arb(0.375)


def test_every_kind_of_number_keeps_its_value() -> None:
    for number in (0.5, np.float64(0.5), np.float32(0.5), np.float16(0.5)):
        assert ball.ball(number) == arb(0.5)
    for number in (2**80, -3, np.int8(-3), True, np.uint64(2**63)):
        assert ball.ball(number) == arb(int(number))


def test_numbers_among_nodes_are_balls_too() -> None:
    mixed = np.array([Node(arb(2)), 3, 0.5, np.int64(4)], object)
    assert ball.values(mixed).tolist() == [2, 3, 0.5, 4]
    assert ball.values(Node(arb(7))).shape == ()


def test_gradients_of_nodes_that_nothing_depends_on_are_zero() -> None:
    used, unused = Node(arb(1)), Node(arb(1))
    used.grad = arb(5)
    assert ball.gradients(np.array([used, unused], object)).tolist() == [5, 0]


def test_a_rest_halfway_between_two_numbers_is_settled_at_the_highest_precision() -> None:
    """An exact sum that no ball proves: 1 + 2^-60 (1 + 2^-53), reached through a third."""
    exact = 1 + Fraction(1, 2**60) * (1 + Fraction(1, 2**53))
    for bits in ball.PRECISIONS:
        with ball.precision(bits):
            near = ball.ball(exact * Fraction(1, 3)) * 3
            if bits < ball.PRECISIONS[-1]:
                with pytest.raises(Undecided):
                    ball.certify(near)
            else:
                hi, lo = ball.certify(near)
                assert hi == 1.0
                assert lo in (2.0**-60, 2.0**-60 * (1 + 2.0**-52))
