"""Right in a weaker form, or wrong: told from two precisions. Truths are mpmath's at 60 digits."""

import math

import mpmath
import numpy as np
import pytest

from parity.budget.formats import FORMATS
from parity.truth.value import Truth
from parity.verdict.tensor import TensorVerdict
from parity.verdict.two_precisions import TwoPrecisions, compared, reconsidered

RANDOM = np.random.default_rng(3)
WIDE = RANDOM.uniform(-8, 8, 200).astype(np.float32)
LOGITS = (RANDOM.standard_normal((40, 5)) * 5).astype(np.float32)
FAR = (100 + RANDOM.standard_normal((8, 50))).astype(np.float32)


def truth(function, x):
    """`function` in mpmath of each element (or row) of x, as a pair."""
    with mpmath.workdps(60):
        values = np.array([function([mpmath.mpf(float(v)) for v in np.atleast_1d(row)]) for row in x]).ravel()
        hi = np.array([float(v) for v in values])
        lo = np.array([float(v - mpmath.mpf(h)) for v, h in zip(values, hi, strict=True)])
    return Truth(hi, lo, np.zeros(hi.shape, bool))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def slope(x):
    e = np.exp(-abs(x))
    return e / (1 + e) ** 2


def softmax_row(row):
    total = mpmath.fsum(map(mpmath.exp, row))
    return [mpmath.exp(v) / total - (k == 0) for k, v in enumerate(row)]


def of_log_softmax(x):
    z = x - x.max(1, keepdims=True)
    g = np.exp(z - np.log(np.exp(z).sum(1, keepdims=True)))
    g[:, 0] -= 1
    return g.ravel()


SLOPE = (lambda row: [mpmath.exp(-abs(row[0])) / (1 + mpmath.exp(-abs(row[0]))) ** 2], WIDE)
SECH2 = (lambda row: [1 / mpmath.cosh(row[0]) ** 2], WIDE)
LOGISTIC = (lambda row: [1 / (1 + mpmath.exp(-row[0]))], WIDE)
VARIANCE = (lambda row: [mpmath.fsum((v - mpmath.fsum(row) / 50) ** 2 for v in row) / 50], FAR)
ENTROPY = (softmax_row, LOGITS)

WEAK = {
    "y(1 - y)": (SLOPE, lambda x: sigmoid(x) * (1 - sigmoid(x))),
    "1 - y^2": (SECH2, lambda x: 1 - np.tanh(x) ** 2),
    "tanh by exp(2x)": (SECH2, lambda x: 1 - ((np.exp(2 * x) - 1) / (np.exp(2 * x) + 1)) ** 2),
    "exp(x - softplus(x))": (LOGISTIC, lambda x: np.exp(x - np.log1p(np.exp(x)))),
    "exp(log p) - onehot": (ENTROPY, of_log_softmax),
    "one-pass variance": (VARIANCE, lambda x: (x * x).mean(1) - x.mean(1) ** 2),
}


def largest_off(by):
    def f(x):
        y = slope(x)
        k = np.argmax(y)
        y[k] *= x.dtype.type(1 + by)
        return y

    return f


WRONG = {
    "1e-3 in one element": (SLOPE, largest_off(1e-3)),
    "1e-6 in one element": (SLOPE, largest_off(1e-6)),
    "1e-9 in one element": (SLOPE, largest_off(1e-9)),
    "1e-9 throughout, and weak": (SLOPE, lambda x: sigmoid(x) * (1 - sigmoid(x)) * x.dtype.type(1 + 1e-9)),
    "a sign": (SLOPE, lambda x: -slope(x)),
    "without 1 - y": (SLOPE, sigmoid),
    "half": (SECH2, lambda x: (1 - np.tanh(x) ** 2) / 2),
    "biased variance": (VARIANCE, lambda x: x.var(1, ddof=1)),
    "smoothed": (ENTROPY, lambda x: of_log_softmax(x) * x.dtype.type(1 - 1e-7)),
}


def asked(form):
    (exact, x), f = form
    return compared(f(x), f(x.astype(np.float64)), truth(exact, x))


@pytest.mark.parametrize("name", WEAK)
def test_right_in_a_weaker_form_is_unstable(name):
    two = asked(WEAK[name])
    assert two.finding == "inaccurate", two
    verdict = reconsidered(TensorVerdict("g", "FAIL", reason="outside"), two)
    assert (verdict.verdict, verdict.reason) == ("unstable", "")
    assert f"p = {two.exponent:.2f}" in verdict.formula


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_fails(name):
    two = asked(WRONG[name])
    assert two.finding == "wrong", two
    verdict = reconsidered(TensorVerdict("g", "FAIL", reason="outside"), two)
    assert verdict.verdict == "FAIL"
    assert verdict.reason.startswith("outside; in two precisions: ")


def test_the_exponent_by_hand():
    one = Truth.of([1.0, 4.0])
    assert compared([1.0, 4 + 2.0**-10], [1.0, 4 + 2.0**-39], one) == TwoPrecisions(
        1.0, 2.0**-12, 2.0**-41, "inaccurate"
    )
    assert compared([1.0, 4 + 2.0**-10], [1.0, 4 + 2.0**-10], one) == TwoPrecisions(0.0, 2.0**-12, 2.0**-12, "wrong")
    # Between 0.4 and 0.8.
    assert compared([1 + 2.0**-10, 4.0], [1 + 2.0**-28, 4.0], one).finding == "open"
    u = FORMATS["bfloat16"].u / FORMATS["float32"].u
    assert compared([1 + 2.0**-8], [1 + 2.0**-24], Truth.of([1.0]), ("bfloat16", "float32")).exponent == 1.0
    assert u == 2.0**16


def test_where_nothing_is_concluded():
    one = Truth.of([1.0])
    for coarse, fine in ((math.inf, 1.5), (math.nan, 1.5), (1.0, 1.5), (1.5, 1.0)):
        two = compared([coarse], [fine], one)
        assert two.finding == "open"
        failing = TensorVerdict("g", "FAIL", reason="outside")
        assert reconsidered(failing, two) is failing
    # All digits lost in the coarser format: its error has nowhere to grow.
    assert compared([3.0], [1 + 1e-6], one).finding == "open"
    assert compared([3.0], [-1.0], one).finding == "wrong"


def test_what_passes_stays_as_it_is():
    good = TensorVerdict("g", "rounding")
    assert reconsidered(good, compared([1.5], [1.5], Truth.of([1.0]))) is good
    with pytest.raises(ValueError, match=r"expected answers of shape \(1,\), got \(2,\)"):
        compared([1.0, 2.0], [1.0], Truth.of([1.0]))
