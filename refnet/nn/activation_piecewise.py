"""Activations made of pieces of straight lines: the rectifiers, the clamps, the shrinks and the threshold.

At the kinks between the pieces each class says which subgradient it has: torch's.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from refnet import _check
from refnet.arithmetic import special
from refnet.generator import Generator, resolve
from refnet.nn.activation_elementwise import Elementwise
from refnet.nn.module import Array, Module, Params


class ReLUSaved(NamedTuple):
    """Where the input is at most 0; its dtype."""

    off: Array
    dtype: Any


class ReLU(Module):
    """y = max(x, 0), elementwise; the subgradient at 0 is 0, as torch's. A NaN stays one, and lets its gradient pass.

    Args:
        inplace: accepted as torch's; inputs are never written.
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def extra_repr(self) -> str:
        return "inplace=True" if self.inplace else ""

    def forward(self, input: Array) -> tuple[Array, ReLUSaved]:
        X = input
        _check.floating("ReLU", input=X)
        off = X <= 0
        return np.where(off, 0, X), ReLUSaved(off, X.dtype)

    def backward(self, grad_output: Array, saved: ReLUSaved) -> tuple[Array, Params]:
        dY, (off, dtype) = grad_output, saved
        dY = _check.upstream("ReLU", dY, off.shape, dtype)
        # dX[.] = 0 where X[.] <= 0, dY[.] elsewhere
        return np.where(off, 0, dY), {}


class LeakyReLU(Elementwise):
    """y = x for x > 0 and a x otherwise, elementwise; the derivative at 0 is a, as torch's.

    Args:
        negative_slope: a. inplace: accepted as torch's; inputs are never written.
    """

    def __init__(self, negative_slope: float = 1e-2, inplace: bool = False) -> None:
        super().__init__(inplace)
        _check.number("LeakyReLU", "negative_slope", negative_slope)
        self.negative_slope = negative_slope

    def arguments(self) -> str:
        return f"negative_slope={self.negative_slope}"

    def function(self, X: Array) -> Array:
        # Y[.] = X[.] where X[.] > 0, a X[.] elsewhere
        return self._by_sign(X, X)

    def gradient(self, dY: Array, X: Array) -> Array:
        # dX[.] = dY[.] where X[.] > 0, a dY[.] elsewhere
        return self._by_sign(X, dY)

    def _by_sign(self, X: Array, A: Array) -> Array:
        return np.where(X > 0, A, special.lift(self.negative_slope, X) * A)


class RReLUSaved(NamedTuple):
    """The input; where it is not on the side of slope 1; the slopes there; whether they were given."""

    X: Array
    off: Array
    A: Array
    given: bool


class RReLU(Module):
    """y = x for x > 0 and a x otherwise, elementwise, with a slope a for each element that is drawn from
    [lower, upper) in training mode; in evaluation mode a = (lower + upper) / 2. The derivative at 0 is a, as torch's.

    A NaN stays one; its gradient passes in training mode and has slope a in evaluation mode, as torch's.

    Source: B. Xu et al., "Empirical Evaluation of Rectified Activations in Convolutional Network", arXiv:1505.00853.

    Args:
        lower, upper: of the slopes.
        inplace: accepted as torch's; inputs are never written.
        generator: source of the slopes that are not given: torch's on the CPU, for an input that is contiguous. Only
            elements that are not above 0 have one drawn, so that a training that draws them is not captured.

    Raises:
        TypeError: the input or the slopes are not of floats, of one dtype.
        ValueError: lower is above upper; the slopes have another shape than the input.
    """

    def __init__(
        self,
        lower: float = 0.125,
        upper: float = 0.3333333333333333,
        inplace: bool = False,
        *,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("lower", lower), ("upper", upper)):
            _check.number("RReLU", name, value)
        if lower > upper:
            raise ValueError(f"RReLU: expected lower of at most upper = {upper}, got {lower}")
        self.lower, self.upper, self.inplace = lower, upper, inplace
        self.generator = resolve(generator)

    def extra_repr(self) -> str:
        return f"lower={self.lower}, upper={self.upper}" + (", inplace=True" if self.inplace else "")

    def forward(self, input: Array, slopes: Array | None = None) -> tuple[Array, RReLUSaved]:
        """`slopes`: one for each element; None draws them. Evaluation mode leaves them alone."""
        X = input
        _check.floating("RReLU", input=X)
        if slopes is not None:
            _check.floating("RReLU", input=X, slopes=slopes)
            _check.same_shape("RReLU", input=X, slopes=slopes)
        off = X <= 0 if self.training else ~(X > 0)
        if not self.training:
            A = (special.lift(self.lower, X) + special.lift(self.upper, X)) / 2
        elif slopes is None:
            A = special.uniform(self.generator, X, self.lower, self.upper, off)
        else:
            A = slopes
        # Y[.] = A[.] X[.] where X[.] <= 0, X[.] elsewhere
        return np.where(off, A * X, X), RReLUSaved(X, off, A, slopes is not None)

    def backward(self, grad_output: Array, saved: RReLUSaved) -> tuple[Any, Params]:
        """The gradient of the input, or, where slopes were given, of both."""
        dY, (X, off, A, given) = grad_output, saved
        dY = _check.upstream("RReLU", dY, X.shape, X.dtype)
        # dX[.] = A[.] dY[.] where X[.] <= 0, dY[.] elsewhere
        dX = np.where(off, A * dY, dY)
        if not given:
            return dX, {}
        # dA[.] = X[.] dY[.] where X[.] <= 0, 0 elsewhere; 0 where the slopes are left alone
        dA = np.where(off, X * dY, special.lift(0.0, X)) if self.training else special.lift(np.zeros(X.shape), X)
        return (dX, dA), {}


class PReLUSaved(NamedTuple):
    """The input, and where it is above 0."""

    X: Array
    on: Array


class PReLU(Module):
    """y = x for x > 0 and w_c x otherwise, elementwise; the derivative at 0 is w_c, as torch's.

    Axes: c channel, the second axis of the input, which has one where it has no second axis; `weight` W (c), one for
    all channels by default.

    Source: K. He et al., "Delving Deep into Rectifiers", arXiv:1502.01852.

    Args:
        num_parameters: the channels that have a weight of their own, or 1.
        init: initial value of the weights.
        device: accepted as torch's: the processor.
        dtype: float32 or float64 (the default).

    Raises:
        TypeError: an argument is of another type; input and weight are not floats of one dtype.
        ValueError: `num_parameters` is below 1, or is neither 1 nor the input's number of channels.
    """

    def __init__(self, num_parameters: int = 1, init: float = 0.25, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self.num_parameters = _check.size("PReLU", "num_parameters", num_parameters, 1)
        _check.is_number("PReLU", "init", init)
        self.init = init
        W = np.empty(self.num_parameters, _check.dtype_of("PReLU", dtype, device))
        W[...] = init
        self.params["weight"] = W

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"

    def _spread(self, X: Array) -> Array:
        """The weights beside the input: along its second axis."""
        W, channels = self.params["weight"], X.shape[1] if X.ndim > 1 else 1
        if W.shape[-1] not in (1, channels):
            raise ValueError(
                f"PReLU: expected an input of {W.shape[-1]} channels along its second axis, num_parameters = "
                f"{W.shape[-1]}, got shape {tuple(X.shape)}"
            )
        return W.reshape(-1, *(1,) * (X.ndim - 2)) if X.ndim > 1 else W.reshape((1,) * X.ndim)

    def forward(self, input: Array) -> tuple[Array, PReLUSaved]:
        X = input
        _check.floating("PReLU", input=X, weight=self.params["weight"])
        on = X > 0
        # Y[n,c,.] = X[n,c,.] where X[n,c,.] > 0, W[c] X[n,c,.] elsewhere
        return np.where(on, X, self._spread(X) * X), PReLUSaved(X, on)

    def backward(self, grad_output: Array, saved: PReLUSaved) -> tuple[Array, Params]:
        dY, (X, on) = grad_output, saved
        dY = _check.upstream("PReLU", dY, X.shape, X.dtype)
        # dX[n,c,.] = dY[n,c,.] where X[n,c,.] > 0, W[c] dY[n,c,.] elsewhere
        dX = np.where(on, dY, self._spread(X) * dY)
        # dW[c] = sum of dY[n,c,.] X[n,c,.] over n and . where X[n,c,.] is not above 0
        D = np.where(on, special.lift(0.0, X), dY * X)
        axes = tuple(range(-X.ndim, 0))
        if self.num_parameters > 1:
            axes = (*axes[:1], *axes[2:])
        dW = (special.total(D, axes, keepdims=True) if axes else D).reshape(self.num_parameters)
        return dX, {"weight": dW}


def _clamped(X: Array, a: Any, b: Any, low: Any, inside: Array, high: Any) -> Array:
    """`low` where X[.] <= a, `high` where X[.] >= b, `inside` elsewhere."""
    return np.where(X <= a, low, np.where(X >= b, high, inside))


class ReLU6(Elementwise):
    """y = min(max(x, 0), 6), elementwise; the subgradient at 0 and at 6 is 0, as torch's.

    A NaN stays one, and lets its gradient pass.
    """

    def function(self, X: Array) -> Array:
        # Y[.] = 0 where X[.] <= 0, 6 where X[.] >= 6, X[.] elsewhere
        return _clamped(X, 0, 6, 0, X, 6)

    def gradient(self, dY: Array, X: Array) -> Array:
        # dX[.] = 0 where X[.] <= 0 or X[.] >= 6, dY[.] elsewhere
        return _clamped(X, 0, 6, 0, dY, 0)


class Hardtanh(Elementwise):
    """y = min(max(x, a), b), elementwise; the subgradient at a and at b is 0, as torch's.

    A NaN stays one, and lets its gradient pass.

    Args:
        min_val, max_val: a and b. inplace: accepted as torch's; inputs are never written.
        min_value, max_value: torch's former names of the two.

    Raises:
        ValueError: `max_val` is not above `min_val`.
    """

    def __init__(
        self,
        min_val: float = -1.0,
        max_val: float = 1.0,
        inplace: bool = False,
        min_value: float | None = None,
        max_value: float | None = None,
    ) -> None:
        super().__init__(inplace)
        self.min_val = min_val if min_value is None else min_value
        self.max_val = max_val if max_value is None else max_value
        for name, bound in (("min_val", self.min_val), ("max_val", self.max_val)):
            _check.is_number("Hardtanh", name, bound)
        if not self.max_val > self.min_val:
            raise ValueError(f"Hardtanh: expected max_val above min_val = {self.min_val}, got {self.max_val}")

    def arguments(self) -> str:
        return f"min_val={self.min_val}, max_val={self.max_val}"

    def function(self, X: Array) -> Array:
        a, b = special.lift(self.min_val, X), special.lift(self.max_val, X)
        # Y[.] = a where X[.] <= a, b where X[.] >= b, X[.] elsewhere
        return _clamped(X, a, b, a, X, b)

    def gradient(self, dY: Array, X: Array) -> Array:
        a, b = special.lift(self.min_val, X), special.lift(self.max_val, X)
        # dX[.] = 0 where X[.] <= a or X[.] >= b, dY[.] elsewhere
        return _clamped(X, a, b, 0, dY, 0)


class Hardsigmoid(Elementwise):
    """y = min(max(x + 3, 0), 6) / 6, elementwise; the subgradient at -3 and at 3 is 0, and so is that of a NaN, as
    torch's.
    """

    def function(self, X: Array) -> Array:
        # Y[.] = 0 where X[.] <= -3, 1 where X[.] >= 3, (X[.] + 3) / 6 elsewhere
        return _clamped(X, -3, 3, 0, (X + 3) / 6, 1)

    def gradient(self, dY: Array, X: Array) -> Array:
        # dX[.] = dY[.] / 6 where -3 < X[.] < 3, 0 elsewhere
        return np.where(X > -3, np.where(X < 3, dY / 6, 0), 0)


class Hardswish(Elementwise):
    """y = x min(max(x + 3, 0), 6) / 6, elementwise; the subgradient at -3 is 0 and at 3 is 1, as torch's since 2.8.

    A NaN stays one, forward and backward.

    Source: A. Howard et al., "Searching for MobileNetV3", arXiv:1905.02244.
    """

    def function(self, X: Array) -> Array:
        R = _clamped(X, -3, 3, 0, X + 3, 6)
        # Y[.] = X[.] R[.] / 6
        return X * (R / 6)

    def gradient(self, dY: Array, X: Array) -> Array:
        # dX[.] = 0 where X[.] <= -3, dY[.] where X[.] >= 3, dY[.] (2 X[.] + 3) / 6 elsewhere
        return _clamped(X, -3, 3, 0, dY * ((2 * X + 3) / 6), dY)


def _shrunk(X: Array, t: Any, below: Array, above: Array) -> Array:
    """0 where -t <= X[.] <= t, `below` and `above` elsewhere; a NaN is below."""
    return np.where(X >= -t, np.where(X <= t, 0, above), below)


class Hardshrink(Elementwise):
    """y = x where |x| > t and 0 otherwise, elementwise; the derivative at t and at -t is 0, as torch's.

    A NaN stays one, and lets its gradient pass.

    Args:
        lambd: t.
    """

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__()
        _check.number("Hardshrink", "lambd", lambd)
        self.lambd = lambd

    def arguments(self) -> str:
        return f"{self.lambd}"

    def function(self, X: Array) -> Array:
        t = special.lift(self.lambd, X)
        # Y[.] = 0 where -t <= X[.] <= t, X[.] elsewhere
        return _shrunk(X, t, X, X)

    def gradient(self, dY: Array, X: Array) -> Array:
        t = special.lift(self.lambd, X)
        # dX[.] = 0 where -t <= X[.] <= t, dY[.] elsewhere
        return _shrunk(X, t, dY, dY)


class Softshrink(Elementwise):
    """y = x - t where x > t, x + t where x < -t, and 0 otherwise, elementwise; the subgradient at t and at -t is 0, as
    torch's.

    A NaN stays one, and lets its gradient pass.

    Args:
        lambd: t.

    Raises:
        ValueError: `lambd` is below 0.
    """

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__()
        _check.not_negative("Softshrink", "lambd", lambd)
        self.lambd = lambd

    def arguments(self) -> str:
        return f"{self.lambd}"

    def function(self, X: Array) -> Array:
        t = special.lift(self.lambd, X)
        # Y[.] = X[.] + t where X[.] < -t, X[.] - t where X[.] > t, 0 elsewhere
        return _shrunk(X, t, X + t, X - t)

    def gradient(self, dY: Array, X: Array) -> Array:
        t = special.lift(self.lambd, X)
        # dX[.] = 0 where -t <= X[.] <= t, dY[.] elsewhere
        return _shrunk(X, t, dY, dY)


class Threshold(Elementwise):
    """y = x where x > t and v otherwise, elementwise; the derivative at t is 0, as torch's.

    A NaN stays one, and lets its gradient pass.

    Args:
        threshold: t. value: v. inplace: accepted as torch's; inputs are never written.
    """

    def __init__(self, threshold: float, value: float, inplace: bool = False) -> None:
        super().__init__(inplace)
        for name, number in (("threshold", threshold), ("value", value)):
            _check.is_number("Threshold", name, number)
        self.threshold, self.value = threshold, value

    def arguments(self) -> str:
        return f"threshold={self.threshold}, value={self.value}"

    def function(self, X: Array) -> Array:
        # Y[.] = v where X[.] <= t, X[.] elsewhere
        return np.where(self._below(X), special.lift(self.value, X), X)

    def gradient(self, dY: Array, X: Array) -> Array:
        # dX[.] = 0 where X[.] <= t, dY[.] elsewhere
        return np.where(self._below(X), 0, dY)

    def _below(self, X: Array) -> Array:
        return X <= special.lift(self.threshold, X)
