"""A line search for the strong Wolfe conditions, as torch's LBFGS has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from refnet.arithmetic import special
from refnet.nn.module import Array

C1, C2 = 1e-4, 0.9


class Point(NamedTuple):
    """The objective at x + t d.

    Attributes:
        t: the length of the step. f: the objective. G: its gradient. slope: G.d, the derivative by t.
    """

    t: Array
    f: Array
    G: Array
    slope: Array


def strong_wolfe(
    at: Callable[[Array], Point], t: Array, D: Array, start: Point, most: int, tolerance_change: float
) -> tuple[Point, int]:
    """A point along D with f(t) <= f(0) + c1 t f'(0) and |f'(t)| <= c2 |f'(0)|, c1 = 1e-4 and c2 = 0.9, and how often
    `at` was asked. The search ends sooner after `most` trials, or where the bracket is narrower than
    `tolerance_change`; it has the lowest point found then.

    First t grows until the step is long enough: a bracket of two points holds a step to be found. Then the bracket is
    made smaller by cubic interpolation.

    Source: J. Nocedal, S. J. Wright, "Numerical optimization", 2nd ed., Springer 2006, algorithms 3.5 and 3.6 and
    equation 3.59; the bounds of the steps are those of M. Schmidt's minFunc, as in torch/optim/lbfgs.py.
    """
    c1, c2 = special.lift(C1, D), special.lift(C2, D)
    # size = max_i |d[i]|
    size = special.amax(np.absolute(D), -1)
    previous, new = start, at(t)
    asked, trials, insufficient = 1, 0, False
    most_slope = -c2 * start.slope

    def flat(slope: Array) -> bool:
        """|slope| <= c2 |f'(0)|"""
        return bool(slope <= most_slope) and bool(slope >= -most_slope)

    bracket: list[Point] = []
    while trials < most:
        if new.f > start.f + c1 * new.t * start.slope or (trials > 1 and new.f >= previous.f):
            bracket = [previous, new]
            break
        if flat(new.slope):
            return new, asked
        if new.slope >= 0:
            bracket = [previous, new]
            break
        least = new.t + special.lift(0.01, D) * (new.t - previous.t)
        t = lowest_of_cubic(previous, new, least, 10 * new.t)
        previous, new = new, at(t)
        asked, trials = asked + 1, trials + 1
    if not bracket:
        bracket = [start, new]
    low, high = _by_height(bracket)
    tenth, narrow = special.lift(0.1, D), special.lift(tolerance_change, D)
    while trials < most:
        first, second = bracket
        if np.absolute(second.t - first.t) * size < narrow:
            break
        left, right = smaller(first.t, second.t), larger(first.t, second.t)
        t = lowest_of_cubic(first, second, left, right)
        # A trial close to an end is taken once; the next time, or at the end itself, it is moved away from there.
        margin = tenth * (right - left)
        near = smaller(right - t, t - left) < margin
        if near and (insufficient or t >= right or t <= left):
            t = right - margin if np.absolute(t - right) < np.absolute(t - left) else left + margin
            near = False
        insufficient = bool(near)
        new = at(t)
        asked, trials = asked + 1, trials + 1
        if new.f > start.f + c1 * new.t * start.slope or new.f >= bracket[low].f:
            bracket[high] = new
            low, high = _by_height(bracket)
            continue
        if flat(new.slope):
            return new, asked
        if new.slope * (bracket[high].t - bracket[low].t) >= 0:
            bracket[high] = bracket[low]
        bracket[low] = new
    return bracket[low], asked


def lowest_of_cubic(a: Point, b: Point, least: Array, most: Array) -> Array:
    """Where the cubic through two points, with their slopes, is lowest, between `least` and `most`; the middle of the
    two where it has no such place."""
    # d1 = a' + b' - 3 (f(a) - f(b)) / (a - b)
    d1 = a.slope + b.slope - 3 * (a.f - b.f) / (a.t - b.t)
    # d2^2 = d1^2 - a' b'
    square = d1 * d1 - a.slope * b.slope
    if not square >= 0:
        return (least + most) / 2
    d2 = np.sqrt(square)
    if not a.t <= b.t:
        a, b = b, a
    # t = b - (b - a) (b' + d2 - d1) / (b' - a' + 2 d2)
    t = b.t - (b.t - a.t) * ((b.slope + d2 - d1) / (b.slope - a.slope + 2 * d2))
    return smaller(larger(t, least), most)


def smaller(a: Array, b: Array) -> Array:
    """The smaller of two numbers, the first where it is NaN, as Python's `min`."""
    return np.where(b < a, b, a)


def larger(a: Array, b: Array) -> Array:
    """The larger of two numbers, the first where it is NaN, as Python's `max`."""
    return np.where(b > a, b, a)


def _by_height(bracket: list[Point]) -> tuple[int, int]:
    """The places of the lower and of the higher point."""
    return (0, 1) if bracket[0].f <= bracket[1].f else (1, 0)
