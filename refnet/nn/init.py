"""Initial values: `torch.nn.init`'s functions for NumPy arrays.

Each fills the array that it is given in place and returns it. Names, arguments and defaults are torch's;
`generator=None` means `refnet.generator.default_generator`. Draws equal torch's bit for bit, within the scope that
`refnet.generator` states; `normal_` but for the last bits of logarithm, sine and cosine.
"""

import math
import warnings
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from refnet.generator import Generator, resolve

__all__ = [
    "calculate_gain",
    "constant_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "uniform_",
    "xavier_uniform_",
    "zeros_",
]

Scalar = TypeVar("Scalar", bound=np.generic)
Float = TypeVar("Float", bound=np.floating[Any])

_GAINS = {
    "linear": 1.0,
    "conv1d": 1.0,
    "conv2d": 1.0,
    "conv3d": 1.0,
    "conv_transpose1d": 1.0,
    "conv_transpose2d": 1.0,
    "conv_transpose3d": 1.0,
    "sigmoid": 1.0,
    "tanh": 5.0 / 3,
    "relu": math.sqrt(2.0),
    "selu": 3.0 / 4,
}


def uniform_(
    tensor: NDArray[Float], a: float = 0.0, b: float = 1.0, generator: Generator | None = None
) -> NDArray[Float]:
    """Fill `tensor`, of any shape, with draws from U[a, b). Raises as `Generator.uniform_`."""
    return resolve(generator).uniform_(tensor, a, b)


def normal_(
    tensor: NDArray[Float], mean: float = 0.0, std: float = 1.0, generator: Generator | None = None
) -> NDArray[Float]:
    """Fill `tensor`, of any shape, with draws from N(mean, std^2), by the transform of G. E. P. Box and M. E. Muller
    (Annals of Mathematical Statistics 29, 1958): from u and v of U[0, 1) come sqrt(-2 log(1 - u)) times cos(2 pi v) and
    sin(2 pi v).

    As in torch, 16 draws at a time are paired, the first 8 as u with the others as v, and where the number is no
    multiple of 16 the last 16 are drawn anew. Fewer than 16 are drawn in float64, v before u, two at a time; of an odd
    number torch keeps the last for its next draw, and this function does not.

    Raises:
        TypeError: the dtype is neither float32 nor float64.
        ValueError: `std` is below 0.
    """
    if not std >= 0:
        raise ValueError(f"normal_: expected std >= 0, got {std}")
    source, n = resolve(generator), tensor.size
    if n < 16:
        v, u = source.rand(-(-n // 2), 2).T
        made = _box_muller(u, v).T.reshape(-1)[:n]
    else:
        uniform = source.rand(n, dtype=tensor.dtype)
        if n % 16:
            uniform = np.concatenate([uniform[: n // 16 * 16], source.rand(16, dtype=tensor.dtype)])
        u, v = uniform.reshape(-1, 2, 8).transpose(1, 0, 2)
        made = _box_muller(u, v).transpose(1, 0, 2).reshape(-1)
        if n % 16:
            made = np.concatenate([made[:-16][: n - 16], made[-16:]])
    tensor[...] = (made * std + mean).reshape(tensor.shape)
    return tensor


def _box_muller(u: NDArray[Any], v: NDArray[Any]) -> NDArray[Any]:
    radius, angle = np.sqrt(-2 * np.log1p(-u)), v * (2 * math.pi)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)])


def constant_(tensor: NDArray[Scalar], val: float) -> NDArray[Scalar]:
    """Fill `tensor`, of any shape, with `val`."""
    tensor[...] = val
    return tensor


def ones_(tensor: NDArray[Scalar]) -> NDArray[Scalar]:
    """Fill `tensor`, of any shape, with 1."""
    return constant_(tensor, 1)


def zeros_(tensor: NDArray[Scalar]) -> NDArray[Scalar]:
    """Fill `tensor`, of any shape, with 0."""
    return constant_(tensor, 0)


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor by which the standard deviation of weights in front of `nonlinearity` is raised.

    1 for linear, convolutions and sigmoid, 5/3 for tanh, sqrt(2) for relu, 3/4 for selu, and for leaky_relu
    sqrt(2 / (1 + param**2)), where `param` is its negative slope, 0.01 unless given (He et al. 2015, equation 15).

    Raises ValueError for another name, or a slope that is not a number.
    """
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        if isinstance(slope, bool) or not isinstance(slope, int | float):
            raise ValueError(
                f"calculate_gain expected a number as negative slope, got {type(slope).__name__} {slope!r}"
            )
        return math.sqrt(2.0 / (1 + slope**2))
    if nonlinearity not in _GAINS:
        raise ValueError(f"calculate_gain expected one of leaky_relu, {', '.join(_GAINS)}, got {nonlinearity!r}")
    return _GAINS[nonlinearity]


def kaiming_uniform_(
    tensor: NDArray[Float],
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> NDArray[Float]:
    """Fill a weight (o, i, ...) with draws from U[-bound, bound), bound = gain sqrt(3 / fan).

    `fan` is fan_in or fan_out as `mode` says, and gain is `calculate_gain(nonlinearity, a)`. A weight without elements
    is returned with a warning, as in torch.

    K. He, X. Zhang, S. Ren, J. Sun, "Delving deep into rectifiers", ICCV 2015.

    Raises ValueError for fewer than two axes, another mode or an unknown nonlinearity.
    """
    if tensor.size == 0:
        warnings.warn("Initializing zero-element tensors is a no-op", stacklevel=2)
        return tensor
    fans = dict(zip(("fan_in", "fan_out"), _calculate_fan_in_and_fan_out(tensor), strict=True))
    if mode.lower() not in fans:
        raise ValueError(f"kaiming_uniform_ expected mode fan_in or fan_out, got {mode!r}")
    # In torch's order of operations, because a bound that differs in its last bit moves every draw.
    std = calculate_gain(nonlinearity, a) / math.sqrt(fans[mode.lower()])
    bound = math.sqrt(3.0) * std
    return uniform_(tensor, -bound, bound, generator)


def xavier_uniform_(tensor: NDArray[Float], gain: float = 1.0, generator: Generator | None = None) -> NDArray[Float]:
    """Fill a weight (o, i, ...) with draws from U[-bound, bound), bound = gain sqrt(6 / (fan_in + fan_out)).

    X. Glorot, Y. Bengio, "Understanding the difficulty of training deep feedforward neural networks", AISTATS 2010.

    Raises ValueError for fewer than two axes.
    """
    fan_in, fan_out = _calculate_fan_in_and_fan_out(tensor)
    if tensor.size == 0:
        return tensor
    std = gain * math.sqrt(2.0 / (fan_in + fan_out))
    bound = math.sqrt(3.0) * std
    return uniform_(tensor, -bound, bound, generator)


def _calculate_fan_in_and_fan_out(tensor: NDArray[Any]) -> tuple[int, int]:
    """How many inputs an output unit of a weight sees, and how many outputs an input unit reaches.

    A Linear weight is (o, i), a convolution's (o, i / groups, *kernel): fan_in = shape[1] * prod(kernel) and
    fan_out = shape[0] * prod(kernel). Raises ValueError for fewer than two axes.
    """
    if tensor.ndim < 2:
        raise ValueError(f"fan in and fan out expected a weight of at least 2 axes, got shape {tensor.shape}")
    outputs, inputs, *kernel = tensor.shape
    return inputs * math.prod(kernel), outputs * math.prod(kernel)
