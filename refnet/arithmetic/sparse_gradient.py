"""Gradients of which only some rows are there."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from refnet.arithmetic import special

Shape = tuple[int, ...]


class SparseGradient(NamedTuple):
    """A gradient that is 0 but for some slices along the first axes of its parameter: torch's `sparse_coo_tensor`.

    Attributes:
        indices: which slices. Of shape (n,), along the first axis (the rows of a table); or (k, n), along the first k
            axes. One that comes twice counts twice: the values are added up.
        values: (n, *rest), the slices; `rest` is the shape of the parameter without the axes of the indices.
    """

    indices: NDArray[np.int64]
    values: Any

    def axes(self) -> int:
        """How many axes the indices are along."""
        return 1 if self.indices.ndim == 1 else len(self.indices)

    def check(self, operation: str, name: str, P: Any) -> None:
        """Raise TypeError or ValueError unless it is a gradient of the parameter P of that name."""
        K, V = self
        if not isinstance(K, np.ndarray) or K.dtype.kind != "i":
            got = getattr(K, "dtype", type(K).__name__)
            raise TypeError(f"{operation}: expected the indices of {name} to be an array of integers, got {got}")
        if K.ndim not in (1, 2) or not 1 <= self.axes() <= P.ndim:
            raise ValueError(
                f"{operation}: expected indices of shape (n,) or (axes, n) for {name} of shape {tuple(P.shape)}, "
                f"got {K.shape}"
            )
        expected = (K.shape[-1], *P.shape[self.axes() :])
        if tuple(V.shape) != expected:
            raise ValueError(f"{operation}: expected values of shape {expected} for {name}, got {tuple(V.shape)}")
        if V.dtype != P.dtype:
            raise TypeError(f"{operation}: expected values of dtype {P.dtype} for {name}, got {V.dtype}")
        for along, size in zip(np.atleast_2d(K), P.shape, strict=False):
            outside = (along < 0) | (along >= size)
            if outside.any():
                raise ValueError(
                    f"{operation}: expected indices of {name} from 0 to {size - 1}, got {along[outside][0]}"
                )

    def coalesced(self, shape: Shape) -> tuple[tuple[NDArray[np.int64], ...], NDArray[np.int64], Any]:
        """The different slices: their places, as an index and as numbers in C order; and their values, one row each,
        with those of one slice added up."""
        sizes = shape[: self.axes()]
        flat = np.ravel_multi_index(tuple(np.atleast_2d(self.indices)), sizes)
        rows, which = np.unique(flat, return_inverse=True)
        width = math.prod(shape[self.axes() :])
        # g[r,.] = sum of v[n,.] over the n of row r
        G = special.scatter(self.values.reshape(len(flat), width), which.reshape(-1), len(rows))
        return np.unravel_index(rows, sizes), rows, G
