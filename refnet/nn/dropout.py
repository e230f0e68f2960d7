"""Dropout."""

from __future__ import annotations

from typing import Any

import numpy as np

from refnet import _check
from refnet.arithmetic import special
from refnet.generator import Generator, resolve
from refnet.nn.module import Array, Module, Params


class Dropout(Module):
    """y = x / (1 - p) where an element is kept, 0 where it is dropped; evaluation mode hands the input on.

    With p = 1 every element is dropped, whatever the mask. A dropped infinity or NaN gives 0 (NaN in torch, which
    multiplies by 0). There is no `inplace`: inputs are never written.

    Args:
        p: probability of an element to be dropped, 0 <= p <= 1.
        generator: source of the masks that are not given: an element is kept where its float64 draw from [0, 1) is at
            least p. These are not torch's masks; to compare, give the mask.

    Raises:
        TypeError: the input is not of floats, or the mask not of booleans.
        ValueError: p is outside [0, 1], or the mask has another shape than the input.
    """

    def __init__(self, p: float = 0.5, *, generator: Generator | None = None) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"Dropout: expected 0 <= p <= 1, got {p}")
        self.p = p
        self.generator = resolve(generator)

    def forward(self, X: Array, mask: Array | None = None) -> tuple[Array, Any]:
        """`mask`: a boolean array, True where an element is kept; None draws one, in training mode."""
        _check.floating("Dropout", input=X)
        given = mask is not None
        if mask is not None:
            if mask.dtype.kind != "b":
                raise TypeError(f"Dropout: expected mask of dtype bool, got {mask.dtype}")
            _check.same_shape("Dropout", input=X, mask=mask)
        if not self.training:
            return X, (None, None, given)
        if self.p == 1:
            kept, q = np.zeros(X.shape, np.bool_), special.lift(1.0, X)
        else:
            kept = special.rand(self.generator, X) >= self.p if mask is None else mask
            q = 1 - special.lift(self.p, X)
        # Y[.] = [kept[.]] X[.] / (1 - p)
        return np.where(kept, X / q, 0), (kept, q, given)

    def backward(self, dY: Array, saved: Any) -> tuple[Array, Params]:
        """The gradient of the input, or, where a mask was given, of both inputs: (gradient, None)."""
        kept, q, given = saved
        # dX[.] = [kept[.]] dY[.] / (1 - p)
        dX = dY if kept is None else np.where(kept, dY / q, 0)
        return (dX, None) if given else dX, {}
