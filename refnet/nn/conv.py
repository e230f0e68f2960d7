"""Convolution."""

from __future__ import annotations

import math
import operator
from typing import Any, NamedTuple

import numpy as np

from refnet import _check
from refnet.arithmetic import special
from refnet.generator import Generator
from refnet.nn import init
from refnet.nn.module import Array, Module, Params

Pair = tuple[int, int]

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class Conv2dSaved(NamedTuple):
    """The taps A (n, g, k, p), the shapes of the input and of the padded input, whether there was a single sample
    without the axis n, and the shape of the output."""

    A: Array
    X_shape: tuple[int, ...]
    P_shape: tuple[int, ...]
    single: bool
    Y_shape: tuple[int, ...]


class Conv2d(Module):
    """Two-dimensional cross-correlation, which torch.nn calls convolution.

        Y[n,g,o,h,w] = sum_c,i,j W[g,o,c,i,j] P[n,g,c,h s + i d,w s + j d] + b[g,o]

    Axes: n sample; g group; c input and o output channel of a group; y, x row and column of the input; h, w of the
    output; i, j of the kernel; s stride and d dilation, which have one value for rows and one for columns. P is the
    padded input. X (n, gc, y, x), or (gc, y, x) for a single sample; Y (n, go, h, w) or (go, h, w); `weight` W
    (go, c, i, j); `bias` b (go,).

    Padding, and the choice of taps A[n,g,c,i,j,h,w] = P[n,g,c,h s + i d,w s + j d], are made of slices; their adjoints
    put gradients back where the slices came from and add them up, so a row that no tap reached gets 0. Between them
    stands a matrix product for each sample and group, over the joint axes k = (c, i, j) and p = (h, w): reshape and
    matmul, because that is two to three times as fast as one einsum over all axes, save for tiny layers.

    Args:
        in_channels, out_channels: multiples of `groups`.
        kernel_size, stride, dilation: an int, or a pair for rows and columns.
        padding: how many rows and columns are added at each side, an int or a pair. "valid" adds none. "same" keeps the
            size, needs stride 1, and adds the odd one of d (kernel_size - 1) rows at the end.
        groups: into how many groups, which do not see each other, the channels are split.
        bias: whether there is a b.
        padding_mode: what is added before the first row: "zeros"; "reflect", the rows that follow it, in reverse order;
            "replicate", the row itself; "circular", the last rows. Likewise at the end, and for columns.
        device: accepted as torch's: the processor.
        dtype: float32 or float64 (the default).
        generator: source of the initial values; torch's defaults, U(-1/sqrt(k), 1/sqrt(k)) for both, bit for bit.

    Raises:
        TypeError: a size is not an integer; input and parameters are not floats of one dtype.
        ValueError: an argument is out of range; the input has the wrong axes or channels, or is too small for kernel or
            padding.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        stride: int | Pair = 1,
        padding: int | Pair | str = 0,
        dilation: int | Pair = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
        *,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        _check.one_of("Conv2d", "padding_mode", padding_mode, PADDING_MODES)
        _check.integer("Conv2d", "groups", groups)
        _check.integer("Conv2d", "in_channels", in_channels)
        _check.integer("Conv2d", "out_channels", out_channels)
        for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if groups < 1 or channels < 1 or channels % groups:
                raise ValueError(
                    f"Conv2d: expected {name} to be a positive multiple of groups >= 1, "
                    f"got {channels} with groups = {groups}"
                )
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.padding_mode = padding_mode
        self.kernel_size = _pair("kernel_size", kernel_size, 1)
        self.stride = _pair("stride", stride, 1)
        self.dilation = _pair("dilation", dilation, 1)
        self.padding: Pair | str
        if isinstance(padding, str):
            _check.one_of("Conv2d", "padding", padding, ("same", "valid"))
            if padding == "same" and self.stride != (1, 1):
                raise ValueError(f"Conv2d: expected stride 1 with padding='same', got {self.stride}")
            self.padding = padding
        else:
            self.padding = _pair("padding", padding, 0)
        W = np.empty((out_channels, in_channels // groups, *self.kernel_size), _check.dtype_of("Conv2d", dtype, device))
        self.params["weight"] = init.kaiming_uniform_(W, a=math.sqrt(5), generator=generator)
        if bias:
            bound = 1 / math.sqrt(math.prod(W.shape[1:]))
            self.params["bias"] = init.uniform_(np.empty(out_channels, W.dtype), -bound, bound, generator=generator)

    def extra_repr(self) -> str:
        more = [f"kernel_size={self.kernel_size}, stride={self.stride}"]
        for name, default in (("padding", (0, 0)), ("dilation", (1, 1)), ("groups", 1)):
            if getattr(self, name) != default:
                more.append(f"{name}={getattr(self, name)}")
        if "bias" not in self.params:
            more.append("bias=False")
        if self.padding_mode != "zeros":
            more.append(f"padding_mode={self.padding_mode}")
        return ", ".join([f"{self.in_channels}, {self.out_channels}", *more])

    def margins(self) -> tuple[Pair, Pair]:
        """How many rows are added before and after, how many columns before and after."""
        if self.padding == "same":
            total_h, total_w = (d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True))
            return (total_h // 2, total_h - total_h // 2), (total_w // 2, total_w - total_w // 2)
        rows, columns = (0, 0) if isinstance(self.padding, str) else self.padding
        return (rows, rows), (columns, columns)

    def forward(self, input: Array) -> tuple[Array, Conv2dSaved]:
        X, W, gc = input, self.params["weight"], self.in_channels
        _check.floating("Conv2d", input=X, **self.params)
        if X.ndim not in (3, 4) or X.shape[-3] != gc or 0 in X.shape[-2:]:
            raise ValueError(
                f"Conv2d: expected input of shape (N, {gc}, H, W) or ({gc}, H, W), in_channels = {gc}, "
                f"H and W positive, got {tuple(X.shape)}"
            )
        single = X.ndim == 3
        if single:
            X = np.expand_dims(X, -4)
        P = X
        for axis, margin in zip((-2, -1), self.margins(), strict=True):
            P = _extend(P, axis, margin, self.padding_mode)
        reach = tuple(d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel_size, strict=True))
        if P.shape[-2] < reach[0] or P.shape[-1] < reach[1]:
            raise ValueError(
                f"Conv2d: expected padded height and width of at least dilation * (kernel_size - 1) + 1 = {reach}, "
                f"got {tuple(P.shape[-2:])}"
            )
        A = _taps(P, self.kernel_size, self.stride, self.dilation)
        n, h, w = A.shape[0], A.shape[-2], A.shape[-1]
        g, o, k, p = self.groups, self.out_channels // self.groups, math.prod(W.shape[1:]), h * w
        A = A.reshape(n, g, k, p)
        # Y[n,g,o,p] = sum_k W[g,o,k] A[n,g,k,p] + b[g,o]
        Y = special.product(W.reshape(g, o, k), A)
        if "bias" in self.params:
            Y = Y + self.params["bias"].reshape(g, o, 1)
        Y = Y.reshape(g * o, h, w) if single else Y.reshape(n, g * o, h, w)
        return Y, Conv2dSaved(A, X.shape, P.shape, single, Y.shape)

    def backward(self, grad_output: Array, saved: Conv2dSaved) -> tuple[Array, Params]:
        dY, (A, X_shape, P_shape, single, Y_shape) = grad_output, saved
        dY = _check.upstream("Conv2d", dY, Y_shape, A.dtype)
        W = self.params["weight"]
        h, w = dY.shape[-2], dY.shape[-1]
        n, g, k, p = A.shape
        o = self.out_channels // g
        dY = dY.reshape(n, g, o, p)
        # dW[g,o,k] = sum_n,p dY[n,g,o,p] A[n,g,k,p]
        grads = {"weight": special.total(special.over_samples(dY.mT, A.mT), -4).reshape(*W.shape)}
        if "bias" in self.params:
            # db[g,o] = sum_n,p dY[n,g,o,p]
            grads["bias"] = special.total(dY, (-4, -1)).reshape(g * o)
        # dA[n,g,k,p] = sum_o W[g,o,k] dY[n,g,o,p]
        dA = special.product(W.reshape(g, o, k).mT, dY).reshape(n, self.in_channels, *self.kernel_size, h, w)
        dX = _taps_adjoint(dA, P_shape, self.stride, self.dilation)
        for axis, margin in zip((-2, -1), self.margins(), strict=True):
            dX = _extend_adjoint(dX, axis, margin, self.padding_mode, X_shape[axis])
        return dX.reshape(*X_shape[1:]) if single else dX, grads


def _pair(name: str, value: Any, least: int) -> Pair:
    """`value`, an int or a pair of them, as a pair of ints of at least `least`."""
    pair = tuple(value) if isinstance(value, tuple | list) else (value, value)
    if len(pair) != 2:
        raise ValueError(f"Conv2d: expected {name} to be an int or a pair, got {value!r}")
    try:
        first, second = operator.index(pair[0]), operator.index(pair[1])
    except TypeError:
        raise TypeError(f"Conv2d: expected {name} to be an int or a pair of ints, got {value!r}") from None
    if min(first, second) < least:
        raise ValueError(f"Conv2d: expected {name} >= {least}, got {value!r}")
    return first, second


# Below, `axis` is -1 or -2. The adjoint of a slice puts a gradient of the slice into zeros of the size of the whole.


def _along(axis: int, cut: slice) -> tuple[Any, ...]:
    """The index that cuts `axis` and leaves the others whole."""
    return (..., cut, *(slice(None),) * (-1 - axis))


def _place(X: Array, axis: int, before: int, after: int) -> Array:
    """X with `before` zeros in front of it along `axis`, and `after` zeros behind it."""
    if before == after == 0:
        return X
    widths = [(0, 0)] * X.ndim
    widths[axis] = (before, after)
    return np.pad(X, widths)


def _pieces(margin: Pair, mode: str, size: int) -> list[tuple[int, int, bool]]:
    """The slices (start, stop, flipped) of an axis of `size` that make up the padded axis, in order."""
    before, after = margin
    if mode == "reflect":
        first, last = [(1, before + 1, True)], [(size - 1 - after, size - 1, True)]
    elif mode == "circular":
        first, last = [(size - before, size, False)], [(0, after, False)]
    else:
        first, last = [(0, 1, False)] * before, [(size - 1, size, False)] * after
    return [*first, (0, size, False), *last]


def _extend(X: Array, axis: int, margin: Pair, mode: str) -> Array:
    """P: X along `axis` with `margin` rows (or columns) before and after it."""
    if mode == "zeros" or margin == (0, 0):
        return _place(X, axis, *margin)
    size = X.shape[axis]
    most = {"reflect": size - 1, "circular": size}.get(mode)
    if most is not None and max(margin) > most:
        raise ValueError(
            f"Conv2d: expected padding of at most {most} with padding_mode='{mode}' and an axis of size {size}, "
            f"got {max(margin)}"
        )
    parts = []
    for start, stop, flipped in _pieces(margin, mode, size):
        part = X[_along(axis, slice(start, stop))]
        parts.append(part[_along(axis, slice(None, None, -1))] if flipped else part)
    return np.concatenate(parts, axis=axis)


def _extend_adjoint(dP: Array, axis: int, margin: Pair, mode: str, size: int) -> Array:
    """dX[a] = the sum of dP over the places of P that hold X[a]."""
    if mode == "zeros" or margin == (0, 0):
        return dP[_along(axis, slice(margin[0], margin[0] + size))]
    dX, place = None, 0
    for start, stop, flipped in _pieces(margin, mode, size):
        part = dP[_along(axis, slice(place, place + stop - start))]
        part = _place(part[_along(axis, slice(None, None, -1))] if flipped else part, axis, start, size - stop)
        dX = part if dX is None else dX + part
        place += stop - start
    return dX


def _taps(P: Array, kernel: Pair, stride: Pair, dilation: Pair) -> Array:
    """A[n,c,i,j,h,w] = P[n,c,h s + i d,w s + j d]."""
    (ki, kj), (si, sj), (di, dj) = kernel, stride, dilation
    # A window is what one tap sees as the kernel moves over P in single steps. Windows begin at 0 to d (k - 1): every
    # d-th at a tap; and every s-th place in a window belongs to an output.
    size = (P.shape[-2] - di * (ki - 1), P.shape[-1] - dj * (kj - 1))
    windows = np.lib.stride_tricks.sliding_window_view(P, size, axis=(-2, -1))
    return windows[..., ::di, ::dj, ::si, ::sj]


def _taps_adjoint(dA: Array, shape: tuple[int, ...], stride: Pair, dilation: Pair) -> Array:
    """dP[n,c,y,x] = the sum of dA[n,c,i,j,h,w] over all h s + i d = y, w s + j d = x."""
    (si, sj), (di, dj) = stride, dilation
    # dQ[n,c,i,h,x] = sum over j, w with w s + j d = x
    dA = _spread(dA, -1, sj)
    dQ = _sum_shifted([dA[..., j, :, :] for j in range(dA.shape[-3])], -1, dj, shape[-1])
    # dP[n,c,y,x] = sum over i, h with h s + i d = y
    dQ = _spread(dQ, -2, si)
    return _sum_shifted([dQ[..., i, :, :] for i in range(dQ.shape[-3])], -2, di, shape[-2])


def _spread(X: Array, axis: int, s: int) -> Array:
    """S[a s] = X[a] along `axis`, with s - 1 zeros between neighbours."""
    if s == 1:
        return X
    shape = list(X.shape)
    size = shape[axis]
    shape[axis] = size * s
    # A new axis behind `axis`, filled up with zeros from 1 to s, then joined to it.
    X = _place(np.expand_dims(X, axis), axis, 0, s - 1)
    return X.reshape(*shape)[_along(axis, slice(0, (size - 1) * s + 1))]


def _sum_shifted(parts: list[Array], axis: int, d: int, size: int) -> Array:
    """S[y] = sum_i parts[i][y - i d] along `axis` of `size`."""
    whole = None
    for i, part in enumerate(parts):
        placed = _place(part, axis, i * d, size - part.shape[axis] - i * d)
        whole = placed if whole is None else whole + placed
    return whole
