"""Quantiles, times and paired differences against NumPy's and SciPy's, and what infinity does to them."""

import math
from fractions import Fraction

import numpy as np
import pytest
import scipy

from benchmarks.convergence import order_statistics

INF = math.inf


def draws(seed, n):
    return np.random.default_rng(seed).standard_normal(n).tolist()


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 9, 10, 15, 20, 33, 35])
@pytest.mark.parametrize("share", [Fraction(1, 5), Fraction(1, 2), Fraction(4, 5), Fraction(1, 7)])
def test_quantile_is_numpys_second_definition(n, share):
    values = draws(n, n)
    if (share * n).denominator > 1:
        expected = np.quantile(values, float(share), method="averaged_inverted_cdf")
    else:
        # A float cannot say a share of 1/5 or 1/7, so NumPy may take the rank for just above an integer.
        expected = np.mean(np.sort(values)[[int(share * n) - 1, int(share * n)]])
    assert order_statistics.quantile(values, share) == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize(
    ("values", "median"),
    [([1.0, 2.0, INF], 2.0), ([1.0, 2.0, INF, INF], INF), ([1.0, INF, INF, INF], INF), ([-INF, INF], math.nan)],
)
def test_infinity_is_a_value_like_others(values, median):
    assert order_statistics.quantile(values, Fraction(1, 2)) == pytest.approx(median, nan_ok=True)


def test_a_mean_of_the_largest_numbers_does_not_overflow():
    largest = np.finfo(float).max
    assert order_statistics.quantile([largest, np.nextafter(largest, 0)], Fraction(1, 2)) < INF


def test_band_of_twenty_has_four_runs_below_and_four_above():
    band = order_statistics.band([float(k) for k in reversed(range(1, 21))])
    assert band == (10.5, 4.5, 16.5)


@pytest.mark.parametrize("values", [[], [1.0, math.nan]])
@pytest.mark.parametrize("function", [lambda v: order_statistics.quantile(v, Fraction(1, 2)), order_statistics.time_by])
def test_nothing_and_nan_are_refused(function, values):
    with pytest.raises(ValueError, match=r"at least one .* no NaN"):
        function(values)


@pytest.mark.parametrize("share", [Fraction(0), Fraction(1), Fraction(3, 2)])
def test_a_share_lies_between_0_and_1(share):
    with pytest.raises(ValueError, match="share between 0 and 1, got"):
        order_statistics.quantile([1.0], share)


@pytest.mark.parametrize("misses", range(8))
def test_time_by_is_kaplan_meiers_quantile(misses):
    times = [3.0, 1.0, 2.0, 2.0, 5.0, 8.0, 7.0][misses:]
    last = 100.0
    curve = scipy.stats.ecdf(scipy.stats.CensoredData(uncensored=times, right=[last] * misses)).sf
    for share in (Fraction(1, 5), Fraction(1, 2), Fraction(4, 5)):
        reached = [t for t, left in zip(curve.quantiles, curve.probabilities, strict=True) if left <= 1 - share + 1e-12]
        expected = reached[0] if reached and reached[0] < last else INF
        assert order_statistics.time_by([*times, *[INF] * misses], share) == expected


def test_a_time_is_not_reached_when_more_than_half_miss():
    assert order_statistics.time_by([4.0, 2.0, INF, INF]) == 4.0
    assert order_statistics.time_by([4.0, INF, INF]) == INF


@pytest.mark.parametrize("n", range(1, 41))
def test_interval_is_scipys(n):
    first, second = draws(n, n), draws(100 + n, n)
    difference = order_statistics.paired(first, second)
    apart = np.subtract(first, second)
    interval = scipy.stats.quantile_test(apart, q=0, p=0.5).confidence_interval(0.95)
    assert difference.median == np.median(apart)
    assert difference.below + difference.above == n == difference.n
    assert difference.above == (apart > 0).sum()
    if n < 6:
        assert (difference.low, difference.high, difference.coverage) == (-INF, INF, 1.0)
        return
    assert (difference.low, difference.high) == tuple(interval)
    # The median lies outside where fewer than `rank` of n values are on one side of it.
    rank = sorted(apart).index(difference.low) + 1
    assert difference.coverage == pytest.approx(1 - 2 * scipy.stats.binom.cdf(rank - 1, n, 0.5), rel=1e-12)
    assert difference.coverage >= 0.95 > 1 - 2 * scipy.stats.binom.cdf(rank, n, 0.5)


def test_diverged_runs_count_in_a_difference():
    first = [INF, INF, 1.0, 1.0, 1.0, 1.0, 1.0]
    second = [INF, 2.0, INF, 3.0, 3.0, 3.0, 3.0]
    difference = order_statistics.paired(first, second)
    assert difference == (7, 5, 1, -2.0, -INF, INF, pytest.approx(1 - 2 / 2**7))


def test_paired_needs_pairs():
    with pytest.raises(ValueError, match="the same number of values of both arms, got 2 and 1"):
        order_statistics.paired([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="no NaN"):
        order_statistics.paired([math.nan], [1.0])
