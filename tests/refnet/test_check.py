"""What is refused at the door of a layer, in words."""

from fractions import Fraction

import numpy as np
import pytest

from refnet import _check, nn
from refnet.arithmetic.runs import Runs


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([[1.0, 2.0]], "Sigmoid: expected input to be an array, got list"),
        (1.0, "Sigmoid: expected input to be an array, got float"),
        (None, "Sigmoid: expected input to be an array, got NoneType"),
        (np.ones(2, np.int64), "Sigmoid: expected input of dtype float32 or float64, got int64"),
        (np.ones(2, np.float16), "Sigmoid: expected input of dtype float32 or float64, got float16"),
        (np.ones(2, complex), "Sigmoid: expected input of dtype float32 or float64, got complex128"),
        (np.ones(2, np.dtype(np.float64).newbyteorder()), "Sigmoid: expected input of dtype float32 or float64, got "),
    ],
)
def test_inputs_refused(given, message):
    with pytest.raises(TypeError, match=message):
        nn.Sigmoid().forward(given)


def test_mixed_dtypes_are_refused():
    with pytest.raises(TypeError, match="MSELoss: expected input and target of one dtype, got float64 and float32"):
        nn.MSELoss().forward(np.ones(2), np.ones(2, np.float32))


@pytest.mark.parametrize("value", [0, 0.5, True, np.float32(0.5), Fraction(1, 3), np.array(0.5), Runs(np.array([0.1]))])
def test_numbers_pass(value):
    _check.number("SGD", "lr", value, least=0)
    _check.number("SGD", "dampening", value)


def test_numbers_refused():
    _check.number("SGD", "dampening", -1)
    for value in (-1, float("nan"), np.array(-1.0), np.array(np.nan)):
        with pytest.raises(ValueError, match="SGD: expected lr to be at least 0, got "):
            _check.number("SGD", "lr", value, least=0)
    with pytest.raises(ValueError, match="SGD: expected dampening to be a number, got nan"):
        _check.number("SGD", "dampening", float("nan"))
    with pytest.raises(TypeError, match="SGD: expected lr to be a number, got None"):
        _check.number("SGD", "lr", None, least=0)
