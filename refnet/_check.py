"""The checks a layer makes at its door, and the words it refuses with.

An error names the operation, what it expected and what it got. Arrays of the other arithmetics (balls, budgets, runs)
pass: they have no NumPy float dtype of their own, or carry one that is compared like any other.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable
from functools import partial
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

FLOATS = ("float32", "float64")
_FLOAT32, _FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)  # NumPy has one object of each, so that `is` will do


def floating(operation: str, **arrays: Any) -> None:
    """Raise TypeError unless every array is float32 or float64 in the machine's byte order, all of them alike."""
    dtype = None
    for name, array in arrays.items():
        try:
            own = array.dtype
        except AttributeError:
            raise no_array(operation, name, array) from None
        if own is dtype:
            continue
        if own is not _FLOAT64 and own is not _FLOAT32 and (kind(operation, name, array) not in "fO" or odd(own)):
            raise TypeError(f"{operation}: expected {name} of dtype {' or '.join(FLOATS)}, got {own}")
        if dtype is None:
            first, dtype = name, own
        elif own != dtype:
            raise TypeError(f"{operation}: expected {first} and {name} of one dtype, got {dtype} and {own}")


def odd(dtype: Any) -> bool:
    """Whether a dtype of floats is none that is computed in: of another width, or in the other byte order."""
    return dtype.char not in "fdO" or not dtype.isnative


def kind(operation: str, name: str, array: Any) -> str:
    """The kind of an array's dtype, in NumPy's letters; TypeError unless it is an array of NumPy's or of another
    arithmetic."""
    found: str | None = getattr(getattr(array, "dtype", None), "kind", None)
    if found is None:
        raise no_array(operation, name, array)
    return found


def no_array(operation: str, name: str, given: Any) -> TypeError:
    """The error where something else than an array came, such as a list or a tensor of torch's."""
    what = "an array" if type(given).__module__ == "builtins" else "a NumPy array"
    return TypeError(f"{operation}: expected {name} to be {what}, got {_dtype_or_type(given)}")


def _dtype_or_type(given: Any) -> str:
    """What to say of an array of another dtype than was expected, or of what is no array."""
    dtype, own = getattr(given, "dtype", None), type(given)
    if hasattr(dtype, "kind"):
        return str(dtype)
    return own.__name__ if own.__module__ == "builtins" else f"{own.__module__}.{own.__qualname__}"


def arrays(operation: str, **given: Any) -> None:
    """Raise TypeError unless all are arrays, of whatever dtype."""
    for name, array in given.items():
        kind(operation, name, array)


def upstream(operation: str, dY: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """An upstream gradient in the dtype of the output. Real numbers are cast, as by torch.

    Raises ValueError unless it has the output's shape, TypeError if it is no array of real numbers.
    """
    try:
        if dY.dtype is dtype and dY.shape == shape:
            return dY
    except AttributeError:
        if shape == () and isinstance(dY, (int, float)):
            return dY
        raise TypeError(f"{operation}: expected an array as upstream gradient, got {type(dY).__name__}") from None
    if dY.shape != shape:
        raise ValueError(
            f"{operation}: expected an upstream gradient of the output's shape {tuple(shape)}, got {tuple(dY.shape)}"
        )
    if dY.dtype == dtype:
        return dY
    if not isinstance(dY, (np.ndarray, np.generic)) or dY.dtype.kind not in "biuf" or np.dtype(dtype).kind != "f":
        raise TypeError(f"{operation}: expected an upstream gradient of dtype {dtype}, got {dY.dtype}")
    return dY.astype(dtype)


def integer(operation: str, name: str, value: Any) -> int:
    """`value` as an int; TypeError unless it is an integer."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{operation}: expected {name} to be an integer, got {value!r}")
    return operator.index(value)


def size(operation: str, name: str, value: Any, least: int = 0) -> int:
    """`value` as an int; TypeError unless it is an integer, ValueError if it is below `least`."""
    made = integer(operation, name, value)
    if made < least:
        raise ValueError(f"{operation}: expected {name} to be at least {least}, got {value!r}")
    return made


def listed(operation: str, name: str, value: Any) -> list[Any]:
    """`value` as a list; TypeError if it has no elements to go through."""
    try:
        return list(value)
    except TypeError:
        raise TypeError(f"{operation}: expected {name} to be a list, got {type(value).__name__}") from None


def dtype_of(operation: str, dtype: Any, device: Any = None) -> np.dtype[Any]:
    """The dtype of a layer's parameters: float64 unless another is given; `device` can only be the processor."""
    if device is not None and str(device).partition(":")[0] != "cpu":
        raise ValueError(f"{operation}: expected device to be cpu or None, got {device!r}")
    name = str(dtype).removeprefix("torch.")  # torch.float32, too
    made = np.dtype(np.float64 if dtype is None else name if name in FLOATS else dtype)
    if made.name not in FLOATS or not made.isnative:
        raise TypeError(f"{operation}: expected dtype to be {' or '.join(FLOATS)}, got {dtype!r}")
    return made


def last_axis(operation: str, array: Any, size: int, what: str) -> None:
    """Raise ValueError unless `array` has at least one axis and `size` elements along the last."""
    if array.ndim == 0 or array.shape[-1] != size:
        raise ValueError(
            f"{operation}: expected input of shape (..., {size}), {what} = {size}, got {tuple(array.shape)}"
        )


def same_shape(operation: str, **arrays: Any) -> None:
    """Raise ValueError unless all arrays have one shape: nothing is broadcast behind the user's back."""
    (first, reference), *rest = arrays.items()
    for name, array in rest:
        if getattr(array, "shape", None) is None:
            raise no_array(operation, name, array)
        if array.shape != reference.shape:
            raise ValueError(
                f"{operation}: expected {first} and {name} of one shape, "
                f"got {tuple(reference.shape)} and {tuple(array.shape)}"
            )


def one_of(operation: str, name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise ValueError unless `value` is among `choices`."""
    if value not in choices:
        raise ValueError(f"{operation}: expected {name} to be one of {', '.join(choices)}, got {value!r}")


def number(operation: str, name: str, value: Any, least: float | None = None) -> None:
    """Raise TypeError unless `value` is a number or an array without axes, ValueError if it is NaN, infinite or below
    `least`.

    A value for each run (of `Runs`), or of another arithmetic, passes unseen.
    """
    is_number(operation, name, value)
    if isinstance(value, np.ndarray) and value.ndim:
        raise ValueError(f"{operation}: expected {name} to be one number, got an array of shape {value.shape}")
    plain: Any = value
    if isinstance(value, Real) or (isinstance(value, np.ndarray) and value.dtype.kind in "fiu"):
        right = np.asarray(plain == plain if least is None else plain >= least)
        if not right.all():
            what = "a number" if least is None else f"at least {least:g}"
            raise ValueError(f"{operation}: expected {name} to be {what}, got {value}")
        if not np.asarray(abs(plain) < math.inf).all():
            raise ValueError(f"{operation}: expected {name} to be finite, got {value}")


def is_number(operation: str, name: str, value: Any) -> None:
    """Raise TypeError unless `value` is a number or an array."""
    if not isinstance(value, Real) and not hasattr(getattr(value, "dtype", None), "kind"):
        raise TypeError(f"{operation}: expected {name} to be a number, got {value!r}")


def not_negative(operation: str, name: str, value: Any) -> None:
    """Raise as `number` does, and ValueError below 0."""
    number(operation, name, value, 0)


def flag(operation: str, name: str, value: Any) -> None:
    """Raise TypeError unless `value` is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{operation}: expected {name} to be True or False, got {value!r}")


def always(operation: str, name: str, value: Any) -> None:
    """Raise ValueError unless `value` is True: an option that a class has for others to read."""
    if value is not True:
        raise ValueError(f"{operation}: expected {name} to be True, got {value!r}")


def between(low: float, high: float, low_too: bool = True, high_too: bool = True) -> Callable[[str, str, Any], None]:
    """A check that a value is a number between the two; ValueError if it is not, TypeError if it is no number."""

    def check(operation: str, name: str, value: Any) -> None:
        number(operation, name, value)
        if not (low < value < high or (low_too and value == low) or (high_too and value == high)):
            ends = f"{'at least' if low_too else 'above'} {low:g} and {'at most' if high_too else 'below'} {high:g}"
            raise ValueError(f"{operation}: expected {name} to be {ends}, got {value!r}")

    return check


def pair(operation: str, name: str, value: Any) -> None:
    """Raise TypeError unless `value` is two numbers."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise TypeError(f"{operation}: expected {name} to be a pair of numbers, got {value!r}")
    for one in value:
        number(operation, name, one)


def decays(operation: str, name: str, value: Any) -> None:
    """Raise TypeError unless `value` is two numbers, ValueError unless both are in [0, 1)."""
    pair(operation, name, value)
    for beta in value:
        if not 0 <= beta < 1:
            raise ValueError(f"{operation}: expected {name} to be at least 0 and below 1, got {value!r}")


def axis(operation: str, array: Any, dim: int) -> int:
    """`dim` as a negative axis, the form that means the same with a hidden run axis in front; ValueError where there
    is no such axis.
    """
    dim = integer(operation, "dim", dim)
    if not -array.ndim <= dim < array.ndim:
        raise ValueError(f"{operation}: expected an input with an axis {dim}, got shape {tuple(array.shape)}")
    return dim if dim < 0 else dim - int(array.ndim)


def broadcast_to(operation: str, shape: tuple[int, ...], **arrays: Any) -> None:
    """Raise ValueError unless each array can be spread over `shape`: each axis, from the last, as long or of size 1."""
    for name, array in arrays.items():
        own = tuple(array.shape)
        fits = (size in (1, full) for size, full in zip(reversed(own), reversed(shape), strict=False))
        if len(own) > len(shape) or not all(fits):
            raise ValueError(f"{operation}: expected {name} of a shape that broadcasts to {tuple(shape)}, got {own}")


def probabilities(operation: str, **arrays: Any) -> None:
    """Raise ValueError unless all elements are in [0, 1]; NaN is not."""
    for name, array in arrays.items():
        on_values(array, partial(_probabilities, operation, name))


def _probabilities(operation: str, name: str, array: NDArray[Any]) -> None:
    outside = ~((array >= 0) & (array <= 1))
    if np.count_nonzero(outside):
        raise ValueError(f"{operation}: expected {name} between 0 and 1, got {array[outside][0]}")


def finite(operation: str, what: str, array: Any) -> None:
    """Raise RuntimeError, as torch does, if an element is NaN or infinite."""
    on_values(array, partial(_finite, operation, what))


def _finite(operation: str, what: str, array: NDArray[Any]) -> None:
    if np.count_nonzero(outside := ~np.isfinite(array)):
        raise RuntimeError(f"{operation}: expected {what} to be finite, got {array[outside][0]}")


def no_negative(operation: str, **arrays: Any) -> None:
    """Raise ValueError unless all elements are at least 0, or NaN."""
    for name, array in arrays.items():
        on_values(array, partial(_no_negative, operation, name))


def _no_negative(operation: str, name: str, array: NDArray[Any]) -> None:
    below = array < 0
    if np.count_nonzero(below):
        raise ValueError(f"{operation}: expected {name} of at least 0, got {array[below][0]}")


def class_indices(operation: str, target: Any, classes: int, ignored: int) -> None:
    """Raise TypeError unless `target` is of integers, ValueError unless each is in [0, classes) or `ignored`."""
    if kind(operation, "target", target) not in "iu":
        raise TypeError(f"{operation}: expected target of an integer dtype for class indices, got {target.dtype}")
    on_values(target, partial(_class_indices, operation, classes, ignored))


def _class_indices(operation: str, classes: int, ignored: int, target: NDArray[Any]) -> None:
    outside = ((target < 0) | (target >= classes)) & (target != ignored)
    if np.count_nonzero(outside):
        got = target[outside][0]
        raise ValueError(f"{operation}: expected class indices from 0 to {classes - 1} or {ignored}, got {got}")


def row_indices(operation: str, name: str, K: Any, rows: int) -> None:
    """Raise TypeError unless K is an array of int64 or int32, IndexError unless each is in [0, rows)."""
    if not hasattr(getattr(K, "dtype", None), "kind") or K.dtype not in (np.int64, np.int32):
        raise TypeError(f"{operation}: expected {name} to be an array of int64 or int32, got {_dtype_or_type(K)}")
    on_values(K, partial(_row_indices, operation, name, rows))


def _row_indices(operation: str, name: str, rows: int, K: NDArray[Any]) -> None:
    outside = (K < 0) | (rows <= K)
    if np.count_nonzero(outside):
        raise IndexError(f"{operation}: expected {name} from 0 to {rows - 1}, got {K[outside][0]}")


def offsets(operation: str, begins: Any, n: int, last: bool) -> None:
    """Raise TypeError unless the offsets are of int64 or int32, ValueError unless they rise from 0 to at most n, or,
    with the last bag's end among them, to n.
    """
    if not hasattr(getattr(begins, "dtype", None), "kind") or begins.dtype not in (np.int64, np.int32):
        raise TypeError(f"{operation}: expected offsets to be an array of int64 or int32, got {_dtype_or_type(begins)}")
    if begins.ndim != 1:
        raise ValueError(f"{operation}: expected offsets of one axis, got shape {tuple(begins.shape)}")
    on_values(begins, partial(_offsets, operation, n, last))


def _offsets(operation: str, n: int, last: bool, begins: NDArray[Any]) -> None:
    known = begins.tolist()
    ends = known[-1] if known else None
    if (
        known != sorted(known)
        or (known[:1] or [0]) != [0]
        or (last and ends != n)
        or (n > 0 and not known)
        or (ends or 0) > n
    ):
        to = f"to {n}" if last else f"to at most {n}"
        raise ValueError(f"{operation}: expected offsets that rise from 0 {to}, the number of indices, got {known}")


def on_values(array: Any, check: Callable[[NDArray[Any]], None]) -> None:
    """Call `check` on an array of numbers; one of another arithmetic, whose elements are no numbers, passes unseen, or
    answers through `__on_values__` for the numbers inside.
    """
    if isinstance(array, (np.ndarray, np.generic)):
        if array.dtype != object:
            check(np.asarray(array))
    elif (answer := getattr(array, "__on_values__", None)) is not None:
        answer(check)


def writable(operation: str, arrays: Iterable[Any]) -> None:
    """Raise before the first is written where one cannot be, such as what NumPy's `broadcast_to` gives."""
    if any(isinstance(G, np.ndarray) and not G.flags.writeable for G in arrays):
        raise ValueError(f"{operation}: expected gradients that can be written to, got one that is read-only")
