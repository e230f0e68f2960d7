"""Dropout."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from refnet import _check
from refnet.arithmetic import special
from refnet.generator import Generator, resolve
from refnet.nn.module import Array, Module, Params


class DropoutSaved(NamedTuple):
    """Where an element is kept and q = 1 - p, None where the input is handed on; whether the mask was given; the
    input's shape and dtype."""

    kept: Array
    q: Array
    given: bool
    shape: tuple[int, ...]
    dtype: Any


class Dropout(Module):
    """y = x / (1 - p) where an element is kept, 0 where it is dropped; evaluation mode hands the input on.

    With p = 1 every element is dropped, whatever the mask. A dropped element is multiplied by 0, as in torch: a NaN or
    an infinity gives NaN.

    Args:
        p: probability of an element to be dropped, 0 <= p <= 1.
        inplace: accepted as torch's; inputs are never written.
        generator: source of the masks that are not given: an element is kept where its float64 draw from [0, 1) is
            below 1 - p. These are the masks of torch on the CPU, for an input that is contiguous. With p = 0 or 1
            nothing is drawn, as in torch.

    Raises:
        TypeError: the input is not of floats, or the mask not of booleans.
        ValueError: p is outside [0, 1], or the mask has another shape than the input.
    """

    def __init__(self, p: float = 0.5, inplace: bool = False, *, generator: Generator | None = None) -> None:
        super().__init__()
        _check.is_number("Dropout", "p", p)
        if not 0 <= p <= 1:
            raise ValueError(f"Dropout: expected 0 <= p <= 1, got {p}")
        self.p, self.inplace = p, inplace
        self.generator = resolve(generator)

    @property
    def draws(self) -> bool:
        return super().draws and 0 < self.p < 1

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"

    def forward(self, input: Array, mask: Array | None = None) -> tuple[Array, DropoutSaved]:
        """`mask`: a boolean array, True where an element is kept; None draws one, in training mode."""
        X = input
        _check.floating("Dropout", input=X)
        given = mask is not None
        if mask is not None:
            if _check.kind("Dropout", "mask", mask) != "b":
                raise TypeError(f"Dropout: expected mask of dtype bool, got {mask.dtype}")
            _check.same_shape("Dropout", input=X, mask=mask)
        if not self.training or (self.p == 0 and not given):
            return X, DropoutSaved(None, None, given, X.shape, X.dtype)
        if self.p == 1:
            kept, q = np.zeros(X.shape, np.bool_), special.lift(1.0, X)
        else:
            kept = special.rand(self.generator, X) < 1 - self.p if mask is None else mask
            q = 1 - special.lift(self.p, X)
        # Y[.] = [kept[.]] X[.] / (1 - p)
        return np.where(kept, X / q, X * 0), DropoutSaved(kept, q, given, X.shape, X.dtype)

    def backward(self, grad_output: Array, saved: DropoutSaved) -> tuple[Any, Params]:
        """The gradient of the input, or, where a mask was given, of both inputs: (gradient, None)."""
        dY, (kept, q, given, shape, dtype) = grad_output, saved
        dY = _check.upstream("Dropout", dY, shape, dtype)
        # dX[.] = [kept[.]] dY[.] / (1 - p)
        dX = dY if kept is None else np.where(kept, dY / q, dY * 0)
        return (dX, None) if given else dX, {}
