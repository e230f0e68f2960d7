"""Arrays of any arithmetic that take NumPy as people write it: `.T`, `np.mean`, assignment to a slice, and so on.

And the derivatives of an expression that another one may ask for."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from parity.budget.condition import Condition
from parity.rearrangements import inner
from parity.records.record import UsageError
from parity.translations import CREATION, FUNCTIONS, REDUCTIONS, UFUNCS, same_dtype
from parity.truth.taped import Taped, along, backward
from refnet.arithmetic import functions, special
from refnet.arithmetic.array_like import ArrayLike, NoRule, Rule, named


@dataclass
class Meter:
    """What is noted while an expression runs.

    Attributes:
        elements, products: how many elements its operations made, and how many products its contractions took.
        shifts: how often `special.shift` was asked for. offset: what is added to a shift.
        each: is given every result, and gives what stands in its place.
    """

    elements: int = 0
    products: int = 0
    shifts: int = 0
    offset: float = 0.0
    each: Callable[[Any], Any] | None = None


class Written(ArrayLike, inner="inner"):
    """An array in an expression.

    Attributes:
        inner: an array of the arithmetic that the expression runs in. meter: what is noted.
    """

    __slots__ = ("__weakref__", "_base", "_of_base", "_views", "inner", "meter")

    def __init__(self, inner: Any, meter: Meter) -> None:
        self.inner, self.meter = inner, meter
        # What it is a view of, and how it is made from that; its own views.
        self._base: Written | None = None
        self._of_base: Rule | None = None
        self._views: list[Any] = []

    def _like(self, inner: Any) -> Any:
        """A result. What decides stays as it is."""
        if isinstance(inner, ArrayLike) and not isinstance(inner, Condition):
            self.meter.elements += inner.size
            return Written(inner if self.meter.each is None else self.meter.each(inner), self.meter)
        return inner

    def _moved(self, f: Rule) -> Written:
        moved = f(self.inner)
        view = Written(moved if self.meter.each is None else self.meter.each(moved), self.meter)
        self.meter.elements += view.size
        view._base, view._of_base = self, f
        self._views = [ref for ref in self._views if ref() is not None] + [weakref.ref(view)]
        return view

    def __repr__(self) -> str:
        return f"Written({self.inner!r})"

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise TypeError(
            "expected NumPy's functions of arrays, got a Python number or a plain array made of one; write np.exp "
            "instead of math.exp, and np.zeros(shape, like=x) or np.zeros_like(x) for an array that is filled"
        )

    __bool__ = __float__ = __int__ = __index__ = __array__ = __complex__ = _refuse

    def __getattr__(self, name: str) -> Any:
        raise NoRule(f".{name}")

    def _refused(self, function: Any, how: str = "") -> Any:
        module = getattr(function, "__module__", None) or "numpy"
        raise NoRule(f"{module.replace('numpy', 'np', 1)}.{function.__name__}{how}")

    def __iter__(self) -> Any:
        return (self[k] for k in range(len(self)))

    def __getitem__(self, index: Any) -> Written:
        parts = _plain(index) if isinstance(index, tuple) else (_plain(index),)
        basic = all(p is None or p is Ellipsis or isinstance(p, (int, np.integer, slice)) for p in parts)
        return self._moved(lambda a: a[index]) if basic else self._like(self.inner[index])

    def __setitem__(self, index: Any, value: Any) -> None:
        places = np.arange(self.size).reshape(self.shape)[_plain(index)]
        self._assign(places, inner(np.broadcast_to(value, np.shape(places))))

    def _assign(self, places: Any, given: Any) -> None:
        """Put the elements of `given` at these places of the flat order."""
        table = np.arange(self.size)
        table[np.ravel(places)] = self.size + np.arange(np.size(places))
        joined = np.concatenate([self.inner.reshape(-1), given.reshape(-1)], axis=-1)
        self._write(joined[table].reshape(self.shape))

    def _write(self, inner: Any) -> None:
        """A view is written by way of what it is a view of, and what is written shows in its views."""
        if self._base is not None and self._of_base is not None:
            base = self._base
            base._assign(self._of_base(np.arange(base.size).reshape(base.shape)), inner)
        else:
            self.inner = inner
            self._refresh()

    def _refresh(self) -> None:
        for view in (ref() for ref in self._views):
            if view is not None:
                view.inner = view._of_base(self.inner)
                view._refresh()

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **kwargs: Any) -> Any:
        if method != "__call__":
            if method in REDUCTIONS.get(ufunc, {}) and out is None:
                return REDUCTIONS[ufunc][method](*inputs, **({"axis": 0} | kwargs))
            if method == "outer":
                a, b = inputs
                return ufunc(a.reshape(*a.shape, *(1,) * np.ndim(b)), b, **kwargs)
            return self._refused(ufunc, f".{method}")
        if kwargs:
            return self._refused(ufunc, f"({next(iter(kwargs))}=...)")
        if out is not None and not (isinstance(out[0], Written) and out[0] is inputs[0]):
            return self._refused(ufunc, "(out=...)")
        if ufunc in UFUNCS:
            result = UFUNCS[ufunc](*inputs)
        elif ufunc in LISTED:
            if ufunc is np.matmul:
                self.meter.products += _products(*inputs)
            result = self._like(ufunc(*map(inner, inputs)))
        else:
            return self._refused(ufunc)
        if out is None:
            return result
        if result.shape != out[0].shape:
            raise ValueError(f"np.{ufunc.__name__}: expected a result of shape {out[0].shape}, got {result.shape}")
        out[0]._write(result.inner)
        return out[0]

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if function in CREATION:  # with like=, which NumPy keeps to itself
            return CREATION[function](self, *args, **kwargs)
        if function not in FUNCTIONS:
            return self._refused(function)
        return FUNCTIONS[function](*args, **kwargs)

    def __special__(self, name: str, *args: Any) -> Any:
        plain = [inner(a) for a in args]
        made = getattr(special, name)(*plain) if name in _OF_ARGUMENTS else self.inner.__special__(name, *plain)
        if name == "shift":
            self.meter.shifts += 1
            made = made + self.meter.offset if self.meter.offset else made
        return self._like(made)

    # ---- members

    T = property(lambda self: self.transpose())

    def transpose(self, *axes: Any) -> Written:
        if len(axes) == 1 and isinstance(axes[0], (tuple, list)):
            axes = tuple(axes[0])
        order = tuple(range(self.ndim))[::-1] if not axes or axes[0] is None else tuple(a % self.ndim for a in axes)
        return self._moved(lambda a: a.transpose(order))

    def reshape(self, *shape: Any, order: str = "C") -> Written:
        if order != "C":
            raise NoRule(".reshape(order=...)")
        return self._moved(lambda a: a.reshape(*shape))

    def copy(self, order: str = "C") -> Written:
        return Written(self.inner.copy(), self.meter)

    def sum(self, axis: Any = None, keepdims: bool = False, dtype: Any = None, out: None = None) -> Any:
        same_dtype(self, "np.sum", dtype)
        return self._like(self.inner.sum(axis=axis, keepdims=keepdims))

    def astype(self, dtype: Any, copy: bool = True) -> Written:
        same_dtype(self, ".astype", dtype)
        return self.copy()


def _plain(index: Any) -> Any:
    if isinstance(index, Written) or (isinstance(index, tuple) and any(isinstance(i, Written) for i in index)):
        raise TypeError("index: expected integers, slices or arrays of integers or booleans, got an array of floats")
    return index


def _products(a: Any, b: Any) -> int:
    return int(np.size(a)) * int(np.shape(b)[-1] if np.ndim(b) > 1 else 1)


_OF_ARGUMENTS = {"maximum", "gather", "scatter"}
LISTED = {*named(functions.UFUNCS)}


def _member(function: Any) -> Callable[..., Any]:
    return lambda self, *args, **kwargs: FUNCTIONS[function](self, *args, **kwargs)


for _name, _function in {
    **{f.__name__: f for f in (np.mean, np.var, np.std, np.prod, np.clip, np.dot, np.cumsum, np.take, np.swapaxes)},
    **{f.__name__: f for f in (np.ravel, np.squeeze, np.repeat, np.trace, np.diagonal)},
    "max": np.max,
    "min": np.min,
    "flatten": np.ravel,
}.items():
    setattr(Written, _name, _member(_function))


def gradient(f: Callable[..., Any], argument: int = 0) -> Callable[..., Any]:
    """The gradient of a scalar expression by one of its arguments, as an expression: for use inside `enclose`.

        parity.enclose(lambda x, v: np.sum(parity.gradient(f)(x) * v), x, v)

    is the directional derivative of f, and its gradient by x the product of f's Hessian and v.
    """

    def derivative(*arrays: Any) -> Any:
        x = arrays[argument]
        if not isinstance(x, Written):
            raise UsageError(f"gradient: expected an array of an expression in enclose, got {type(x).__name__}")
        leaf = Taped(x.inner)
        result = f(*arrays[:argument], Written(leaf, x.meter), *arrays[argument + 1 :])
        y = result.inner if isinstance(result, Written) else result
        if getattr(y, "shape", None) != ():
            raise UsageError(f"gradient: expected a scalar, got shape {np.shape(y)}; write np.sum(y * grad_output)")
        if getattr(y, "level", 0) == leaf.level:
            backward(y, special.lift(1.0, x.inner))
        grad = leaf.grad if isinstance(leaf.grad, type(x.inner)) or hasattr(leaf.grad, "shape") else None
        return x * 0.0 if grad is None else Written(grad, x.meter)

    return derivative


def jvp(f: Callable[..., Any], argument: int = 0) -> Callable[..., Any]:
    """The derivative of an expression along a tangent of one of its arguments, by forward mode, inside `enclose`:
    `parity.jvp(f)(x, v)` is the product of f's Jacobian at x and v. The tangent is the last argument.
    """

    def derivative(*arrays: Any) -> Any:
        *given, v = arrays
        x = given[argument]
        for name, a in (("the argument", x), ("the tangent", v)):
            if not isinstance(a, Written):
                raise UsageError(
                    f"jvp: expected {name} as an array of an expression in enclose, got {type(a).__name__}"
                )
        if v.shape != x.shape:
            raise UsageError(f"jvp: expected a tangent of shape {x.shape}, got {v.shape}")

        def bare(moved: Any) -> Any:
            y = f(*given[:argument], Written(moved, x.meter), *given[argument + 1 :])
            return y.inner if isinstance(y, Written) else y

        y, tangent = along(bare, x.inner, v.inner)
        return Written(y * 0.0 if tangent is None else tangent, x.meter)

    return derivative
