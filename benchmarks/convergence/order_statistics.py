"""What is said about several runs of one arm: bands, times to a target, paired differences.

A run that diverged has the loss +infinity, a run that missed a target the time +infinity: runs are never dropped. So
everything here is made of order statistics, which take infinity for a number like any other and hold for every
distribution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

MIDDLE = Fraction(1, 2)

SHARES = (MIDDLE, Fraction(1, 5), Fraction(4, 5))
"""Which quantiles the fields of a `Band` are."""

LEVEL = Fraction(95, 100)
"""The least confidence of an interval."""


class Band(NamedTuple):
    """The median of some values and the 20% and 80% quantiles around it."""

    median: float
    low: float
    high: float


class Paired(NamedTuple):
    """How one arm differs from another, seed by seed.

    Attributes:
        n: pairs. below, above: in how many the first arm's value is below or above the second's.
        median: of the differences, first minus second. low, high: an interval for the median of their distribution.
        coverage: the confidence of that interval: exact where the differences have a continuous distribution, at
            least so much otherwise.
    """

    n: int
    below: int
    above: int
    median: float
    low: float
    high: float
    coverage: float


def quantile(values: Sequence[float], share: Fraction) -> float:
    """The value that a share of the values does not exceed: the mean of the two that qualify where there are two.

    Definition 2 of R. J. Hyndman and Y. Fan, "Sample quantiles in statistical packages", The American Statistician 50
    (1996). It interpolates nothing else, and so never between a number and infinity; its median is the usual one. The
    mean of -infinity and +infinity is NaN.

    Raises:
        ValueError: there are no values, or one of them is NaN; the share is not between 0 and 1.
    """
    if not values or any(math.isnan(v) for v in values):
        raise ValueError(f"quantile: expected at least one value and no NaN, got {list(values)}")
    if not 0 < share < 1:
        raise ValueError(f"quantile: expected a share between 0 and 1, got {share}")
    ordered, rank = sorted(values), share * len(values)
    if rank.denominator > 1:
        return ordered[math.ceil(rank) - 1]
    below, above = ordered[int(rank) - 1], ordered[int(rank)]
    return below if below == above else below / 2 + above / 2


def band(values: Sequence[float]) -> Band:
    """Median, 20% and 80% quantile; errors as `quantile`."""
    return Band(*(quantile(values, share) for share in SHARES))


def time_by(times: Sequence[float], share: Fraction = MIDDLE) -> float:
    """The time by which this share of the runs has arrived; +infinity if fewer ever do ("not reached").

    The runs that missed, +infinity, are censored after every time that was reached. So this is the quantile of the
    Kaplan-Meier estimate, where the share of those under way first falls to 1 - `share`: E. L. Kaplan and P. Meier,
    "Nonparametric estimation from incomplete observations", J. Amer. Statist. Assoc. 53 (1958).

    Raises:
        ValueError: there are no times, or one of them is NaN.
    """
    if not times or any(math.isnan(t) for t in times):
        raise ValueError(f"time_by: expected at least one time and no NaN, got {list(times)}")
    return sorted(times)[math.ceil(share * len(times)) - 1]


def paired(first: Sequence[float], second: Sequence[float]) -> Paired:
    """The median difference between two arms over their common seeds, with its distribution-free interval.

    Two values that are both infinite are a tie, a difference of 0.

    Raises:
        ValueError: the two do not have the same number of values, or have none, or one of them is NaN.
    """
    if len(first) != len(second):
        raise ValueError(f"paired: expected the same number of values of both arms, got {len(first)} and {len(second)}")
    differences = sorted(0.0 if a == b else a - b for a, b in zip(first, second, strict=True))
    median = quantile(differences, MIDDLE)
    rank, coverage = _interval(len(differences))
    low, high = (differences[rank - 1], differences[-rank]) if rank else (-math.inf, math.inf)
    below, above = (sum(d < 0 for d in differences), sum(d > 0 for d in differences))
    return Paired(len(differences), below, above, median, low, high, coverage)


def _interval(n: int) -> tuple[int, float]:
    """The largest r for which the r-th smallest and the r-th largest of n values enclose the median of their
    distribution with a probability of at least LEVEL, and this probability; r = 0, the whole line, where n < 6.

    That interval is the sign test's, inverted: the median lies outside when fewer than r values fall on one side of
    it, P = 1 - 2 sum_(i < r) C(n, i) / 2^n. It needs neither symmetry (which the interval of Wilcoxon's test does) nor
    resampling, and infinite differences do it no harm. Source: W. R. Thompson, "On confidence ranges for the median
    and other expectation distributions for populations of unknown distribution form", Ann. Math. Statist. 7 (1936).
    """
    rank, coverage = 0, Fraction(1)
    for r in range(1, n // 2 + 1):
        inside = coverage - Fraction(2 * math.comb(n, r - 1), 2**n)
        if inside < LEVEL:
            break
        rank, coverage = r, inside
    return rank, float(coverage)
