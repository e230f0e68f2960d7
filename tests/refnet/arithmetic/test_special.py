"""The two sigmoids from one exponential, against 60 digits."""

import mpmath
import numpy as np
import pytest

from refnet.arithmetic import special
from refnet.arithmetic.runs import Runs

pytestmark = pytest.mark.arithmetic

DTYPES = [np.float32, np.float64]


def arguments(dtype):
    """Every scale, and both sides of where exp(-x), and then exp(x), leaves the normal numbers."""
    info = np.finfo(dtype)
    ends = [np.log(float(info.max)), -np.log(float(info.tiny)), -np.log(float(info.smallest_subnormal))]
    near = [end * (1 + k * 2.0**-10) for end in ends for k in range(-40, 41)]
    sizes = np.r_[np.geomspace(1e-30, 2000, 3000), near].astype(dtype)
    return np.r_[sizes, -sizes, 0]


@pytest.mark.parametrize("dtype", DTYPES)
def test_both_are_accurate_everywhere(dtype):
    x = arguments(dtype)
    u, smallest = (float(getattr(np.finfo(dtype), name)) for name in ("eps", "smallest_subnormal"))
    tiny = float(np.finfo(dtype).tiny)
    with mpmath.workdps(60), np.errstate(all="raise", under="ignore"):
        for sign, y in zip((1, -1), special.sigmoids(x), strict=True):
            assert y.dtype == dtype
            true = [1 / (1 + mpmath.exp(-sign * mpmath.mpf(float(value)))) for value in x]
            # exp is off by 3 units in the last place at most, sum and quotient by half a unit each. Where exp(-x)
            # overflows, s(x) is 0, though less than the least normal number may have been left of it.
            lost = tiny if sign == 1 else 4 * smallest
            for value, found, t in zip(x, y, true, strict=True):
                assert abs(float(found) - t) <= 4 * u * t + lost, (value, found, t)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_first_is_the_sigmoid_and_the_second_the_limit_at_both_ends(dtype):
    x = np.array([-np.inf, -2000, -1, 0, 1, 2000, np.inf, np.nan], dtype)
    y, z = special.sigmoids(x)
    assert y.tobytes() == special.sigmoid(x).tobytes()
    assert z[[0, 1, 3, 5, 6]].tolist() == [1, 1, 0.5, 0, 0]
    assert np.isnan(z[7])
    assert [part.shape for part in special.sigmoids(np.zeros((0, 3), dtype))] == [(0, 3)] * 2
    assert [float(part) for part in special.sigmoids(dtype(0))] == [0.5, 0.5]


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_complement_of_the_error_function_is_accurate_everywhere(dtype):
    info = np.finfo(dtype)
    sizes = np.r_[np.geomspace(1e-30, 30, 2000), np.linspace(0, 28, 2000)].astype(dtype)
    x = np.r_[sizes, -sizes]
    with mpmath.workdps(60), np.errstate(all="raise", under="ignore"):
        for value, found in zip(x, special.erfc(x), strict=True):
            true = mpmath.erfc(mpmath.mpf(float(value)))
            # 5 units in the last place, and for x above 0 the rounding of x^2, which is half a unit of x^2.
            units = 5 + max(float(value), 0.0) ** 2 / 2
            assert abs(float(found) - true) <= units * float(info.eps) * true + 2 * float(info.tiny), value
    ends = special.erfc(np.array([np.inf, -np.inf, 0, np.nan], dtype))
    assert ends[:3].tolist() == [0, 2, 1]
    assert np.isnan(ends[3])


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_derivative_of_the_error_function_is_accurate_everywhere(dtype):
    info = np.finfo(dtype)
    sizes = np.r_[np.geomspace(1e-30, 30, 2000), np.linspace(0, 28, 2000), float(info.max)].astype(dtype)
    x = np.r_[sizes, -sizes]
    with mpmath.workdps(60), np.errstate(all="raise", under="ignore"):
        for value, found in zip(x, special.erf_derivative(x), strict=True):
            true = 2 / mpmath.sqrt(mpmath.pi) * mpmath.exp(-(mpmath.mpf(float(value)) ** 2))
            # exp is off by 3 units in the last place at most, the factor and the product by half a unit each, and x^2
            # by half a unit of x^2.
            units = 4 + min(abs(float(value)), 28.0) ** 2 / 2
            assert abs(float(found) - true) <= units * float(info.eps) * true + 2 * float(info.tiny), value
    ends = special.erf_derivative(np.array([np.inf, -np.inf, np.nan], dtype))
    assert ends[:2].tolist() == [0, 0]
    assert np.isnan(ends[2])


def test_runs_follow_what_is_done_on_floats():
    x = np.linspace(-50, 50, 12).reshape(3, 4)
    for part, expected in zip(special.sigmoids(Runs(x)), special.sigmoids(x), strict=True):
        assert part.a.tobytes() == expected.tobytes()


def test_other_arithmetics_have_the_function_twice():
    class Element:
        def __init__(self, name):
            self.name = name

        def __neg__(self):
            return Element("-" + self.name)

        def sigmoid(self):
            return Element(f"s({self.name})")

    y, z = special.sigmoids(np.array([Element("a"), Element("b")], object))
    assert [[e.name for e in part] for part in (y, z)] == [["s(a)", "s(b)"], ["s(-a)", "s(-b)"]]


@pytest.mark.parametrize("inner", [3, 2 * special.BLOCK + 5])
@pytest.mark.parametrize("shape", [(4,), (2, 3), (2, 0), (1, 2, 1)])
def test_a_product_with_one_matrix_is_that_of_all_rows_at_once(shape, inner):
    draws = np.random.default_rng(0)
    A, B = draws.standard_normal((*shape, 3, inner)), draws.standard_normal((5, inner)).T
    found = special.product(A, B)
    assert found.shape == (*shape, 3, 5)
    flat = A.reshape(-1, inner)
    if inner <= special.BLOCK:
        assert found.tobytes() == (flat @ B).tobytes()
    # Sums in any order, in a wider format: each term is rounded once and each sum at most once for each term.
    due = (flat.astype(np.longdouble) @ B.astype(np.longdouble)).reshape(found.shape)
    most = (abs(flat) @ abs(B)).reshape(found.shape)
    assert np.all(abs(found - due) <= 2 * inner * np.finfo(np.float64).eps * most)
    runs = np.stack([B, -B])
    for place, alone in enumerate(special.product(Runs(np.stack([A, A])), Runs(runs)).a):
        assert alone.tobytes() == special.product(A, runs[place]).tobytes()


def test_no_features_at_all():
    assert special.rows(np.empty((2, 4, 0))).shape == (8, 0)
    assert special.product(np.empty((2, 4, 0)), np.empty((0, 3))).tolist() == np.zeros((2, 4, 3)).tolist()
