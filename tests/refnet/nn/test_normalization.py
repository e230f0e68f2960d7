"""GroupNorm and RMSNorm: by hand where every figure is a binary fraction, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from refnet import nn


def test_group_norm_by_hand() -> None:
    """Two groups of two channels: (1, 3) has mean 2 and variance 1, so with eps = 3 the scale is 1/2; (7, 7) is
    constant.
    """
    layer = nn.GroupNorm(2, 4, eps=3.0)
    layer.params["weight"][...], layer.params["bias"][...] = [2, 4, 8, 16], [1, 0, 0, 5]
    Y, saved = layer.forward(np.array([[1.0, 3.0, 7.0, 7.0]]))
    assert Y.tolist() == [[-0.5 * 2 + 1, 0.5 * 4, 0.0, 5.0]]
    # dH = (2, 4), sum dH = 6, sum dH H = 1: dX = 1/2 (dH - (6 + H) / 2)
    dX, grads = layer.backward(np.array([[1.0, 1.0, 0.0, 0.0]]), saved)
    assert dX.tolist() == [[0.5 * (2 - (6 - 0.5) / 2), 0.5 * (4 - (6 + 0.5) / 2), 0.0, 0.0]]
    assert grads["weight"].tolist() == [-0.5, 0.5, 0.0, 0.0]
    assert grads["bias"].tolist() == [1.0, 1.0, 0.0, 0.0]


def test_rms_norm_by_hand() -> None:
    """(1, 7): the mean of squares is 25, and 25 + 39 = 64: the scale is 1/8."""
    layer = nn.RMSNorm(2, eps=39.0)
    layer.params["weight"][...] = [2, 4]
    Y, saved = layer.forward(np.array([[1.0, 7.0]]))
    assert Y.tolist() == [[0.25, 3.5]]
    # dH = (2, 4), sum dH H = 2/8 + 28/8 = 15/4: dX = 1/8 (dH - H 15/8)
    dX, grads = layer.backward(np.array([[1.0, 1.0]]), saved)
    assert dX.tolist() == [[(2 - 15 / 64) / 8, (4 - 105 / 64) / 8]]
    assert grads["weight"].tolist() == [0.125, 0.875]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_eps_of_none_is_that_of_the_dtype(dtype: str) -> None:
    scale = float(np.sqrt(np.finfo(dtype).eps))
    X = np.array([[3.0, -1.0, 0.5]], dtype) * np.asarray(scale, dtype)
    ours = nn.RMSNorm(3, dtype=dtype).forward(X)[0]
    theirs = torch.nn.RMSNorm(3, dtype=getattr(torch, dtype))(torch.tensor(X)).detach().numpy()
    np.testing.assert_allclose(ours, theirs, rtol=4 * np.finfo(dtype).eps)
    # without the weight, whose dtype is not there to tell
    other = nn.RMSNorm(3, elementwise_affine=False).forward(X)[0]
    np.testing.assert_array_equal(other, ours)


def test_a_group_without_places_has_gradients_of_zero() -> None:
    """Sums of nothing; torch's gradient of the weight is NaN there (docs/findings.md)."""
    layer = nn.GroupNorm(2, 4)
    Y, saved = layer.forward(np.zeros((3, 4, 0)))
    _, grads = layer.backward(Y, saved)
    assert grads["weight"].tolist() == grads["bias"].tolist() == [0.0] * 4


REFUSED: dict[str, tuple[Any, Any, str]] = {
    "groups that do not divide": (
        lambda k: k.GroupNorm(3, 4),
        None,
        "GroupNorm: expected num_channels to be a multiple of num_groups = 3, got 4",
    ),
    "no group": (lambda k: k.GroupNorm(0, 4), None, "GroupNorm: expected num_groups to be at least 1, got 0"),
    "other channels": (
        lambda k: k.GroupNorm(2, 4),
        (3, 5, 2),
        r"GroupNorm: expected input of shape \(N, 4, ...\), num_channels = 4, got \(3, 5, 2\)",
    ),
    "no channels": (lambda k: k.GroupNorm(2, 4), (4,), r"GroupNorm: expected input of shape .* got \(4,\)"),
    "one value for each group": (
        lambda k: k.GroupNorm(4, 4),
        (1, 4),
        r"GroupNorm: expected more than 1 value for each group, got input shape \(1, 4\)",
    ),
    "other features": (
        lambda k: k.RMSNorm((2, 3)),
        (4, 3, 2),
        r"RMSNorm: expected input of shape \(..., 2, 3\), normalized_shape = \(2, 3\), got \(4, 3, 2\)",
    ),
    "too few axes": (lambda k: k.RMSNorm((2, 3)), (3,), r"RMSNorm: expected input of shape"),
    "no normalized axis": (
        lambda k: k.RMSNorm(()),
        None,
        r"RMSNorm: expected normalized_shape to have at least one axis, got \(\)",
    ),
}


def applied(make: Any, package: Any, X: Any) -> Any:
    return make(package)(X)


@pytest.mark.parametrize("what", REFUSED)
def test_what_torch_refuses_is_refused(what: str) -> None:
    make, shape, message = REFUSED[what]
    with pytest.raises((ValueError, RuntimeError, ZeroDivisionError)):
        applied(make, torch.nn, torch.zeros(shape or 1))
    with pytest.raises(ValueError, match=f"^{message}"):
        applied(make, nn, np.zeros(shape or 1))


@pytest.mark.parametrize("make", [lambda: nn.GroupNorm(2, 4, eps=-1e-5), lambda: nn.RMSNorm(4, eps=-1e-5)])
def test_an_eps_below_0_is_refused(make: Any) -> None:
    with pytest.raises(ValueError, match=r"Norm: expected eps .* got -1e-05"):
        make()


def test_other_dtypes_than_the_parameters_are_refused() -> None:
    for layer in (nn.GroupNorm(2, 4), nn.RMSNorm(4)):
        with pytest.raises(TypeError, match="Norm: expected input and weight of one dtype, got float32 and float64"):
            layer.forward(np.zeros((3, 4), np.float32))
