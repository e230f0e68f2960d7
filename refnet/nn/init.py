"""Initial values: `torch.nn.init`'s functions for NumPy arrays.

Each fills the array that it is given in place and returns it. Names, arguments and defaults are torch's;
`generator=None` means `refnet.generator.default_generator`. Draws equal torch's bit for bit, within the scope that
`refnet.generator` states; the matrix of `orthogonal_` does up to rounding errors.
"""

import math
import warnings
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from refnet.generator import Generator, default_generator, resolve

__all__ = [
    "calculate_gain",
    "constant_",
    "dirac_",
    "eye_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "orthogonal_",
    "sparse_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
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
    """Fill `tensor`, of any shape, with draws from N(mean, std^2). Raises as `Generator.normal_`."""
    return resolve(generator).normal_(tensor, mean, std)


def trunc_normal_(
    tensor: NDArray[Float],
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
) -> NDArray[Float]:
    """Fill `tensor`, of any shape, with draws from N(mean, std^2) among those that lie in [a, b].

    Where [a, b] holds more than 0.3 of the distribution, normals are drawn, and those outside drawn anew; else a draw x
    from U[a, b) is kept with probability exp(log p(x) - max log p), p the density. Every attempt draws for all
    elements, as in torch 2.13.

    Raises ValueError unless `std > 0` and `a <= b`.
    """
    if not (std > 0 and a <= b):
        raise ValueError(f"trunc_normal_ expected std > 0 and a <= b, got std={std}, a={a}, b={b}")
    if mean < a - 2 * std or mean > b + 2 * std:
        warnings.warn("trunc_normal_: mean is more than 2 std from [a, b]", stacklevel=2)
    below = [(1.0 + math.erf((end - mean) / std / math.sqrt(2.0))) / 2 for end in (a, b)]
    drawn = np.empty_like(tensor)
    if below[1] - below[0] > 0.3:
        low, high = tensor.dtype.type(a), tensor.dtype.type(b)
        normal_(tensor, mean, std, generator)
        while (outside := (tensor < low) | (tensor > high)).any():
            np.copyto(tensor, normal_(drawn, mean, std, generator), where=outside)
        return tensor
    highest = -0.5 * ((max(a, min(mean, b)) - mean) / std) ** 2
    pending: NDArray[np.bool_] = np.ones(tensor.shape, np.bool_)
    height = np.empty_like(tensor)
    while pending.any():
        np.copyto(tensor, uniform_(drawn, a, b, generator), where=pending)
        with np.errstate(divide="ignore"):
            # x is kept where log u <= -((x - mean) / std)^2 / 2 - max log p
            log_u = np.log(uniform_(height, generator=generator))
        pending = pending & (log_u > -0.5 * ((drawn - mean) / std) ** 2 - highest)
    return tensor


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


def eye_(tensor: NDArray[Scalar]) -> NDArray[Scalar]:
    """Fill a matrix with 1 on its diagonal and 0 elsewhere. Raises ValueError for another number of axes."""
    _axes("eye_", tensor, 2)
    tensor[...] = np.eye(*tensor.shape)
    return tensor


def dirac_(tensor: NDArray[Scalar], groups: int = 1) -> NDArray[Scalar]:
    """Fill a convolution's weight (o, i, *kernel) so that it hands its input on: in each group of output channels,
    channel d has 1 at input channel d in the middle of the kernel (at k // 2 of each of its axes), and 0 elsewhere.

    Raises ValueError unless there are 3 to 5 axes, and as many output channels in each group.
    """
    _axes("dirac_", tensor, 3, 4, 5)
    outputs, inputs, *kernel = tensor.shape
    if groups < 1 or outputs % groups:
        raise ValueError(f"dirac_ expected {outputs} output channels to be a multiple of groups, got groups={groups}")
    tensor[...] = 0
    size = outputs // groups
    d = np.arange(min(size, inputs))
    for group in range(groups):
        tensor[(group * size + d, d, *(k // 2 for k in kernel))] = 1
    return tensor


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
    std = _kaiming_std("kaiming_uniform_", tensor, a, mode, nonlinearity)
    if std is None:
        return tensor
    # In torch's order of operations, because a bound that differs in its last bit moves every draw.
    bound = math.sqrt(3.0) * std
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: NDArray[Float],
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> NDArray[Float]:
    """Fill a weight (o, i, ...) with draws from N(0, gain^2 / fan); fan, gain and errors as in `kaiming_uniform_`."""
    std = _kaiming_std("kaiming_normal_", tensor, a, mode, nonlinearity)
    return tensor if std is None else normal_(tensor, 0.0, std, generator)


def _kaiming_std(operation: str, tensor: NDArray[Any], a: float, mode: str, nonlinearity: str) -> float | None:
    """gain / sqrt(fan); None, with a warning, for a weight without elements."""
    if tensor.size == 0:
        warnings.warn("Initializing zero-element tensors is a no-op", stacklevel=3)
        return None
    fans = dict(zip(("fan_in", "fan_out"), _calculate_fan_in_and_fan_out(tensor), strict=True))
    if mode.lower() not in fans:
        raise ValueError(f"{operation} expected mode fan_in or fan_out, got {mode!r}")
    return calculate_gain(nonlinearity, a) / math.sqrt(fans[mode.lower()])


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


def xavier_normal_(tensor: NDArray[Float], gain: float = 1.0, generator: Generator | None = None) -> NDArray[Float]:
    """Fill a weight (o, i, ...) with draws from N(0, 2 gain^2 / (fan_in + fan_out)).

    Source and errors as of `xavier_uniform_`.
    """
    fan_in, fan_out = _calculate_fan_in_and_fan_out(tensor)
    if tensor.size == 0:
        return tensor
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / (fan_in + fan_out)), generator)


def orthogonal_(tensor: NDArray[Float], gain: float = 1, generator: Generator | None = None) -> NDArray[Float]:
    """Fill a weight (o, ...), seen as a matrix (o, n), with gain times a matrix whose rows, or if there are more rows
    than columns whose columns, are orthonormal.

    It is the Q of QR = a matrix of normals (transposed if wide) with a positive diagonal of R, which is unique, and
    which makes it uniform among such matrices (F. Mezzadri, Notices of the AMS 54, 2007). The normals are torch's. Q
    is LAPACK's, and equals torch's up to the rounding errors of the factorization.

    A. M. Saxe, J. L. McClelland, S. Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear
    neural networks", ICLR 2014.

    Raises ValueError for fewer than two axes.
    """
    if tensor.ndim < 2:
        raise ValueError(f"orthogonal_ expected a weight of at least 2 axes, got shape {tensor.shape}")
    if tensor.size == 0:
        return tensor
    rows, columns = tensor.shape[0], tensor.size // tensor.shape[0]
    normals = normal_(np.empty((rows, columns), tensor.dtype), generator=generator)
    Q, R = np.linalg.qr(normals.T if rows < columns else normals)
    Q = Q * np.sign(np.diagonal(R))
    tensor[...] = (Q.T if rows < columns else Q).reshape(tensor.shape)
    tensor *= tensor.dtype.type(gain)
    return tensor


def sparse_(
    tensor: NDArray[Float], sparsity: float, std: float = 0.01, generator: Generator | None = None
) -> NDArray[Float]:
    """Fill a matrix (r, c) with draws from N(0, std^2), and in each column set ceil(sparsity r) elements to 0.

    As in torch, only the normals come from `generator`. Which elements are 0 is drawn from the default generator.

    J. Martens, "Deep learning via Hessian-free optimization", ICML 2010.

    Raises ValueError unless there are two axes and 0 <= sparsity <= 1.
    """
    _axes("sparse_", tensor, 2)
    if not 0 <= sparsity <= 1:
        raise ValueError(f"sparse_ expected 0 <= sparsity <= 1, got {sparsity}")
    rows, columns = tensor.shape
    normal_(tensor, 0.0, std, generator)
    for column in range(columns):
        tensor[default_generator.randperm(rows)[: math.ceil(sparsity * rows)], column] = 0
    return tensor


def _axes(operation: str, tensor: NDArray[Any], *numbers: int) -> None:
    if tensor.ndim not in numbers:
        raise ValueError(f"{operation} expected {' or '.join(map(str, numbers))} axes, got shape {tensor.shape}")


def _calculate_fan_in_and_fan_out(tensor: NDArray[Any]) -> tuple[int, int]:
    """How many inputs an output unit of a weight sees, and how many outputs an input unit reaches.

    A Linear weight is (o, i), a convolution's (o, i / groups, *kernel): fan_in = shape[1] * prod(kernel) and
    fan_out = shape[0] * prod(kernel). Raises ValueError for fewer than two axes.
    """
    if tensor.ndim < 2:
        raise ValueError(f"fan in and fan out expected a weight of at least 2 axes, got shape {tensor.shape}")
    outputs, inputs, *kernel = tensor.shape
    return inputs * math.prod(kernel), outputs * math.prod(kernel)
