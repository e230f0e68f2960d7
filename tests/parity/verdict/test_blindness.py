"""A blind budget names the operation that took its sight, and the stable form is not blind."""

import numpy as np
import pytest

import parity
from parity.budget.array import Budget, Profile
from parity.records.record import VJP, Spec
from parity.truth.value import Truth
from parity.verdict.answer import Judge
from parity.verdict.blindness import causes_in_expression
from parity.verdict.evaluation import Request
from refnet.arithmetic import special

F4 = np.float32


def square_sum(x):
    return np.sum(x * x)


def centred(x):
    d = x - np.sum(x) / 3
    return np.sum(d * d) / 3


def shifted(x):
    return np.log(np.sum(np.exp(x - special.shift(x, -1)))) + special.shift(x, -1)[0]


EXPRESSIONS = {
    "norm": (lambda x: np.sqrt(square_sum(x)), F4([3e19, 4e19]), "no bound holds after multiply", None),
    "logsumexp": (lambda x: np.log(np.sum(np.exp(x))), F4([1000, 0, -1000]), "exp may overflow", shifted),
    "1 - s(x)": (
        lambda x: 1 - special.sigmoid(x),
        np.array([40.0]),
        "1 - s(x) is s(-x)",
        lambda x: special.sigmoid(-x),
    ),
    "expm1": (lambda x: np.exp(x) - 1, F4([-1e-7]), "exp(x) - 1 is expm1(x)", None),
    "1 - 1/(1 + E)": (
        lambda x: 1 - 1 / (1 + np.exp(-x)),
        np.array([40.0]),
        "1 - 1 / (1 + E) is E / (1 + E)",
        lambda x: np.exp(-x) / (1 + np.exp(-x)),
    ),
    "1 - tanh^2": (
        lambda x: 1 - np.tanh(x) * np.tanh(x),
        F4([20.0]),
        "4 s(2x) s(-2x)",
        lambda x: 4 * special.sigmoid(2 * x) * special.sigmoid(-2 * x),
    ),
    "1 + erf": (
        lambda x: 1 + special.erf(x),
        np.array([-7.0]),
        "1 + erf(x) is erfc(-x)",
        lambda x: special.erfc(-x),
    ),
    "1 - erf": (lambda x: 1 - special.erf(x), np.array([7.0]), "1 - erf(x) is erfc(x)", special.erfc),
    "one-pass variance": (
        lambda x: square_sum(x) / 3 - (np.sum(x) / 3) * (np.sum(x) / 3),
        F4([10000, 10000.125, 10000.25]),
        "a variance is the mean of (x - mean)^2",
        centred,
    ),
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_the_operation_and_a_stable_form(name):
    f, x, said, stable = EXPRESSIONS[name]
    profile = Profile.of(str(x.dtype))
    assert said in causes_in_expression(f, [Budget.exact(x, profile)])

    def sees(g):
        with np.errstate(all="ignore"):
            b = g(Budget.exact(x, profile))
        return bool((b.e < abs(b.x)).any())

    assert not sees(f)
    assert stable is None or sees(stable)


def test_a_report_tells_it():
    x = F4([-1e-7, 1e-7])
    wrong = F4([1.0, 1.0]) * F4(1.5e-7)
    found = parity.enclose(lambda x: np.exp(x) - 1, x).check(wrong)
    assert (found.ok, found["value"].verdict) == (False, "blind")
    assert found["value"].reason.endswith("exp(x) - 1 is expm1(x)")


def test_a_record_tells_it():
    """BatchNorm of samples whose deviation is lost beside their mean, if that is rounded."""
    x = np.array([[1e8], [1e8 + 8]], F4)
    spec = Spec("BatchNorm1d", {"num_features": 1, "affine": False, "track_running_stats": False})
    record = VJP(spec, {}, (x,), (np.ones((2, 1), F4),))
    judge = Judge(Request(record, Profile.of("float32")), {"output": Truth.of([[-1.0], [1.0]])})
    (v,) = judge({"output": F4([[-0.5], [0.5]])})
    assert v.verdict == "blind"
    assert v.reason == (
        "no bound holds in 2 of 2 elements, first [0, 0]; no bound holds after sqrt; "
        "the argument of the root may be zero or negative"
    )
