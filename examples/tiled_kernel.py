"""A kernel in the manner of Triton, emulated on the CPU: a product of matrices in tiles, forward and backward.

A program works on one tile, loads its elements by their rows and columns, and masks what lies outside.
`tile=` makes the sweep try lengths of one below, at and one above the tile: python examples/tiled_kernel.py
"""

import sys

import numpy as np

import parity

TILE = 4


class Pointer:
    """An array as a kernel sees it: elements are loaded and stored in blocks, under a mask."""

    def __init__(self, array):
        self.array = array

    def load(self, offsets, mask):
        """The elements at these rows and columns; 0 where the mask is off."""
        rows, columns = self._indices(offsets, mask)
        return np.where(mask, self.array[rows, columns], 0)

    def store(self, offsets, values, mask):
        rows, columns = self._indices(offsets, mask)
        self.array[rows[mask], columns[mask]] = values[mask]

    def _indices(self, offsets, mask):
        rows, columns = np.broadcast_arrays(*offsets)
        return np.where(mask, rows, 0), np.where(mask, columns, 0)


def product_kernel(i, j, a, b, out, m, n, k):
    """The program of tile (i, j): out = a b, with a of m rows, b of n columns, and k in between."""
    rows = i * TILE + np.arange(TILE)[:, None]
    columns = j * TILE + np.arange(TILE)[None, :]
    total = np.zeros((TILE, TILE), out.array.dtype)
    for start in range(0, k, TILE):
        inner = start + np.arange(TILE)
        left = a.load((rows, inner[None, :]), (rows < m) & (inner[None, :] < k))
        right = b.load((inner[:, None], columns), (inner[:, None] < k) & (columns < n))
        total += left @ right
    out.store((rows, columns), total, (rows < m) & (columns < n))


def product(a, b):
    """Launches a program for each tile."""
    (m, k), n = a.shape, b.shape[1]
    out = np.zeros((m, n), a.dtype)
    if k:
        for i in range(-(-m // TILE)):
            for j in range(-(-n // TILE)):
                product_kernel(i, j, Pointer(a), Pointer(b), Pointer(out), m, n, k)
    return out


def forward(x, weight):
    return product(x, weight.T), (x, weight)


def backward(grad_output, saved):
    x, weight = saved
    return product(grad_output, weight), product(grad_output.T, x)


if __name__ == "__main__":
    draws = np.random.default_rng(0)
    x, weight = draws.standard_normal((3, 6)), draws.standard_normal((5, 6))
    report = parity.check((forward, backward), "linear", x, weight, sweep=True, tile=TILE)
    print(report)
    sys.exit(not report.ok)
