"""The inner loops of NumPy's ufuncs, found in their public C structure (`PyUFuncObject` in numpy/ufuncobject.h:
`functions`, `data`, `types`)."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from refnet.train.capture.native.translator import NotNative


class _UFunc(ctypes.Structure):
    """The beginning of NumPy's PyUFuncObject."""

    _fields_ = (
        ("head", ctypes.c_byte * object.__basicsize__),
        *((name, ctypes.c_int) for name in ("nin", "nout", "nargs", "identity")),
        *((name, ctypes.POINTER(ctypes.c_void_p)) for name in ("functions", "data")),
    )


class Loop(NamedTuple):
    """A loop by its address, or by its kernel's text, and the address of its data."""

    function: int | str
    data: int = 0


def loop_of(ufunc: np.ufunc, arrays: Sequence[NDArray[Any]]) -> Loop:
    """The inner loop of a ufunc for operands of these dtypes, and the data that it is called with."""
    return _loop_of(ufunc, "".join(array.dtype.char for array in arrays))


@functools.cache
def _loop_of(ufunc: np.ufunc, chars: str) -> Loop:
    types = f"{chars[: ufunc.nin]}->{chars[ufunc.nin :]}"
    if types not in ufunc.types:
        raise NotNative(f"np.{ufunc.__name__} has no loop {types}")
    at = ufunc.types.index(types)
    fields = _UFunc.from_address(id(ufunc))
    return Loop(fields.functions[at] or 0, fields.data[at] or 0)


def loops_of(ufunc: np.ufunc) -> list[int]:
    """The addresses of a ufunc's inner loops."""
    fields = _UFunc.from_address(id(ufunc))
    return [fields.functions[at] or 0 for at in range(len(ufunc.types))]
