"""Stacks of matrix products, which NumPy hands to the BLAS one by one.

Each product alone is small, and a BLAS that wakes its threads for every one spends its time on that: 64 products of
128 x 64 with 64 x 128 matrices took 0.5 s on two busy cores, and 0.01 s on one.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np

from parity.budget.formats import Floats


def matmul(a: Floats, b: Floats) -> Floats:
    """np.matmul; a stack of products by one thread, where NumPy has its own OpenBLAS."""
    if (a.ndim <= 2 and b.ndim <= 2) or (found := _threads()) is None or found[0]() == 1:
        return np.matmul(a, b)
    with one_thread():
        return np.matmul(a, b)


@contextmanager
def one_thread() -> Iterator[None]:
    """NumPy's OpenBLAS has one thread meanwhile, in all threads of Python."""
    found = _threads()
    if found is None:
        yield
        return
    get, put = found
    before = get()
    put(1)
    try:
        yield
    finally:
        put(before)


@cache
def _threads() -> tuple[Callable[[], int], Callable[[int], object]] | None:
    """How the library that comes with NumPy's wheels is asked for its number of threads, and told."""
    package = Path(np.__file__).parent
    for path in sorted([*package.parent.glob("numpy.libs/*openblas*"), *package.glob(".dylibs/*openblas*")]):
        try:
            library = ctypes.CDLL(str(path))
        except OSError:
            continue
        for prefix in ("scipy_openblas", "openblas"):
            for suffix in ("64_", ""):
                names = (f"{prefix}_get_num_threads{suffix}", f"{prefix}_set_num_threads{suffix}")
                if all(hasattr(library, name) for name in names):
                    return getattr(library, names[0]), getattr(library, names[1])
    return None
