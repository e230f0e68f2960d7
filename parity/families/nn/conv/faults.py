"""Mistakes in Conv2d. Letters and axes as there: A taps (n, g, k, p), n sample, g group, k tap, p position."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.families.fault import Fault, Unsupported, replaced


def _averaged(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    A, *_ = saved
    dX, grads = right(dY, saved)
    # dW[g,o,k] = sum_n,p dY[n,g,o,p] A[n,g,k,p] / (N P)
    return dX, {**grads, "weight": grads["weight"] / (A.shape[0] * A.shape[-1] or 1)}


def _bias_averaged(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    A, *_ = saved
    dX, grads = right(dY, saved)
    # db[g,o] = sum_n,p dY[n,g,o,p] / P
    return dX, grads | ({"bias": grads["bias"] / A.shape[-1]} if "bias" in grads else {})


def _kernel_flipped(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    _, grads = right(dY, saved)
    params = module.params
    # dX as with W[g,o,c,I - i,J - j] in place of W[g,o,c,i,j]
    module.params = {**params, "weight": params["weight"][..., ::-1, ::-1]}
    dX, _ = right(dY, saved)
    module.params = params
    return dX, grads


def _first_group_for_all(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    A, *_ = saved
    n, g, _, p = A.shape
    dX, grads = right(dY, saved)
    # dW[g,o,k] = sum_n,p dY[n,g,o,p] A[n,0,k,p]
    dW = dY.reshape(n, g, module.out_channels // g, p) @ A[:, :1].mT
    return dX, {**grads, "weight": dW.sum(axis=-4).reshape(*module.params["weight"].shape)}


def _channels_taken_in_turn(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    A, *_ = saved
    n, g, k, p = A.shape
    c, o = module.in_channels // g, module.out_channels // g
    if g == 1 or c == 1:
        raise Unsupported("channels in groups are channels in turn")
    dX, grads = right(dY, saved)
    # The input channel c of group g is c G + g, against g C + c.
    turned = A.reshape(n, c, g, k // c, p)
    taps = np.concatenate([turned[:, :, j].reshape(n, 1, k, p) for j in range(g)], axis=-3)
    # dW[g,o,c,i,j] = sum_n,p dY[n,g,o,p] A[n,c G + g,i,j,p]
    dW = (dY.reshape(n, g, o, p) @ taps.mT).sum(axis=-4)
    return dX, {**grads, "weight": dW.reshape(*module.params["weight"].shape)}


def _circular_along_the_other_axis(module: Any, right: Any, X: Any) -> Any:
    margins = module.margins
    if module.padding_mode != "circular" or margins()[0] == margins()[1]:
        raise Unsupported("rows and columns are padded alike, or not by the other end")
    Y, _ = right(X)
    # P = X with the margins of the columns around its rows, and those of the rows around its columns
    module.margins = lambda: margins()[::-1]
    turned, saved = right(X)
    if turned.shape != Y.shape:
        raise Unsupported("the output has another size, to which no upstream gradient belongs")
    return turned, saved


def _cropped_by_one(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    margins = module.margins
    (top, bottom), columns = margins()
    if module.padding_mode != "zeros" or top == 0:
        raise Unsupported("there is no padding of zeros to be cropped wrongly")
    # dX[y,x] = dP[y + top - 1,x + left]
    module.margins = lambda: ((top - 1, bottom + 1), columns)
    result = right(dY, saved)
    module.margins = margins
    return result


def _padding_is_zero(module: Any) -> None:
    if module.padding_mode == "zeros":
        raise Unsupported("padding by zeros is what is asked for")
    module.padding_mode = "zeros"


def _conv(name: str, what: str, reveal: str, source: str, by: Any) -> Fault:
    return Fault(name, what, reveal, source, {"Conv2d": replaced("backward", by)})


def _stride_forgotten(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    if module.stride == (1, 1):
        raise Unsupported("the stride is 1")
    _, grads = right(dY, saved)
    stride = module.stride
    # dP[y,x] = the sum of dA[i,j,h,w] over h + i d = y, w + j d = x
    module.stride = (1, 1)
    dX, _ = right(dY, saved)
    module.stride = stride
    return dX, grads


def _height_for_width(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    margins = module.margins
    rows, columns = margins()
    if module.padding_mode != "zeros" or rows[0] >= columns[0]:
        raise Unsupported("the padding of the height is not the smaller one of zeros")
    # dX[y,x] = dP[y + top,x + top] against dP[y + top,x + left]
    module.margins = lambda: (rows, (rows[0], columns[1] + columns[0] - rows[0]))
    result = right(dY, saved)
    module.margins = margins
    return result


def _rows_floored(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    dX, grads = right(dY, saved)
    reach = module.dilation[0] * (module.kernel_size[0] - 1) + 1
    rows = (dY.shape[-2] - 1) * module.stride[0] + reach - sum(module.margins()[0])
    if rows >= dX.shape[-2]:
        raise Unsupported("the stride leaves no row over")
    dX = dX.copy()
    # dX[y] = 0 for y >= (H - 1) s + (I - 1) d + 1 - top - bottom
    dX[..., max(rows, 0) :, :] = 0
    return dX, grads


FAULTS = (
    _conv(
        "kernel gradient averaged",
        "dW / (N H W) against dW",
        "any",
        "sebgao/cTensor#3",
        _averaged,
    ),
    _conv(
        "channel bias gradient averaged",
        "db / (H W) against db",
        "an output of more than one position",
        "kind of bug: mean for sum",
        _bias_averaged,
    ),
    _conv(
        "kernel flipped backward",
        "dX with W[I - i, J - j] against W[i, j]",
        "a kernel of more than one tap",
        "kind of bug: convolution for cross-correlation",
        _kernel_flipped,
    ),
    _conv(
        "kernel gradient of the first group",
        "dW[g] = sum dY[g] A[0] against sum dY[g] A[g]",
        "groups > 1",
        "kind of bug: the first of several",
        _first_group_for_all,
    ),
    _conv(
        "kernel gradient of channels taken in turn",
        "dW[g,o,c] = sum dY[g,o] A[c G + g] against sum dY[g,o] A[g C + c]",
        "groups > 1 of more than one channel each",
        "pytorch/pytorch#51430",
        _channels_taken_in_turn,
    ),
    Fault(
        "circular padding along the other axis",
        "the padding of the columns around the rows, and the other way",
        "circular padding that is not the same for rows and columns",
        "pytorch/pytorch#37844",
        {"Conv2d": replaced("forward", _circular_along_the_other_axis)},
    ),
    _conv(
        "padding cropped one row off",
        "dX = dP[top - 1 :] against dP[top :]",
        "padding",
        "kind of bug: an index off by one",
        _cropped_by_one,
    ),
    Fault(
        "padding mode ignored",
        "rows of zeros against reflected, repeated or wrapped rows",
        "a padding mode other than zeros",
        "kind of bug: an option ignored",
        {"Conv2d": _padding_is_zero},
    ),
    _conv(
        "stride left out backward",
        "dP[h + i d] against dP[h s + i d]",
        "a stride other than 1",
        "kind of bug: an option ignored backward",
        _stride_forgotten,
    ),
    _conv(
        "padding of the height used for the width",
        "dX = dP[top :, top :] against dP[top :, left :]",
        "paddings that differ",
        "kind of bug: one of a pair used for both",
        _height_for_width,
    ),
    _conv(
        "rows that the stride leaves over without a gradient",
        "dX of as many rows as the output spans without padding, zeros below, against all rows",
        "padding, and a stride that does not divide the height",
        "kind of bug: an output size rounded down taken for the input's",
        _rows_floored,
    ),
)
