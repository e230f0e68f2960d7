"""Arrays, of another arithmetic, that remember how they were made.

The derivative of an operation is made of listed functions again, so a `Taped` over `Taped` arrays is differentiated
twice. Each has a level, one above that of the arrays inside it. An operation is remembered by its operands of the
highest level; those below are constants to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from parity.truth.forward import Dual
from parity.truth.pullbacks import PULLBACKS, Value
from parity.truth.tape import Made, Pull, differentiate, together
from refnet.arithmetic import special
from refnet.arithmetic.array_like import MEMBERS, ArrayLike, Rule, named


class Taped(ArrayLike, Made, inner="value"):
    """One array. Its value must not be written.

    Attributes:
        level: how many tapes are inside each other: 1 over an array without one.
    """

    __slots__ = ("level",)

    def __init__(self, value: Value, parents: tuple[Taped, ...] = (), pull: Pull | None = None) -> None:
        super().__init__(value, parents, pull)
        self.level: int = getattr(value, "level", 0) + 1

    def __getitem__(self, index: Any) -> Taped:
        places = np.arange(self.size).reshape(self.shape)[index]
        basic = all(p is None or p is Ellipsis or isinstance(p, (int, slice)) for p in _tuple(index))
        if not basic or any(isinstance(p, bool) for p in _tuple(index)):
            return _gathered(self, places)

        def pull(g: Value) -> Sequence[Value]:
            # Each element went to one place at most; the others get the zero behind the last.
            back = np.full(self.size, g.size)
            back[np.ravel(places)] = np.arange(g.size)
            return [np.concatenate([g.reshape(-1), np.zeros(1)], axis=-1)[back].reshape(self.shape)]

        return Taped(self.value[index], (self,), pull)

    def __setitem__(self, index: Any, value: Any) -> None:
        raise TypeError("item assignment: expected np.where or np.concatenate in what is differentiated")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        # An array with a tangent has this one inside it.
        if any(isinstance(value, Dual) for value in inputs):
            return NotImplemented
        return super().__array_ufunc__(ufunc, method, *inputs, **kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if any(issubclass(t, Dual) for t in types):
            return NotImplemented
        return super().__array_function__(function, types, args, kwargs)

    mT = property(lambda self: Taped(self.value.mT, (self,), lambda g: [g.mT]))  # noqa: N815  NumPy's name

    def copy(self) -> Taped:
        return Taped(self.value.copy(), (self,), lambda g: [g])

    def reshape(self, *shape: Any) -> Taped:
        return Taped(self.value.reshape(*shape), (self,), lambda g: [g.reshape(self.shape)])

    def transpose(self, axes: tuple[int, ...]) -> Taped:
        back = tuple(int(k) for k in np.argsort(axes))
        return Taped(self.value.transpose(axes), (self,), lambda g: [g.transpose(back)])

    def sum(self, axis: Any = None, keepdims: bool = False) -> Taped:
        axes = range(self.ndim) if axis is None else [a % self.ndim for a in np.atleast_1d(axis).tolist()]
        kept = tuple(1 if a in axes else n for a, n in enumerate(self.shape))
        from_last = tuple(a - self.ndim for a in axes)

        def pull(g: Value) -> Sequence[Value]:
            return [np.broadcast_to(g.reshape(kept), self.shape)]

        return Taped(self.value.sum(axis=from_last, keepdims=keepdims), (self,), pull)


def backward(result: Any, seed: Value) -> None:
    """Set `grad` of every array behind a result to the derivative of sum(seed * result)."""
    differentiate([result], [seed], total=together)


def gradients(
    result: Any, seed: Value, leaves: Sequence[Any], zeros: Callable[[tuple[int, ...]], Value]
) -> dict[str, Value]:
    """That derivative by each of some arrays that is taped, as `gradients[K]`; zeros where nothing depends on it."""
    backward(result, seed)
    return {
        f"gradients[{k}]": leaf.grad if isinstance(leaf.grad, type(leaf.value)) else zeros(leaf.shape)
        for k, leaf in enumerate(leaves)
        if isinstance(leaf, Taped)
    }


def along(f: Callable[[Any], Any], value: Value, tangent: Value) -> tuple[Any, Value | None]:
    """f at a value, and its derivative along a tangent, by forward mode; None where it does not depend on the value."""
    y = f(Dual(value, tangent))
    return (y.value, y.tangent) if isinstance(y, Dual) else (y, None)


def _tuple(index: Any) -> tuple[Any, ...]:
    return index if isinstance(index, tuple) else (index,)


class _Operands:
    """The operands of an operation, with their values as it sees them.

    Attributes:
        live: positions of those that it is remembered by. values: theirs, and the others as they are.
    """

    def __init__(self, operands: Sequence[Any]) -> None:
        level = max(getattr(o, "level", 0) for o in operands)
        self.operands = operands
        self.live = [k for k, o in enumerate(operands) if getattr(o, "level", 0) == level]
        self.values = [o.value if k in self.live else o for k, o in enumerate(operands)]

    def made(self, y: Value, pull: Callable[[int, Value], Value]) -> Taped:
        """The result y; `pull(k, g)` is what operand k has from the gradient g of y."""
        return Taped(y, tuple(self.operands[k] for k in self.live), lambda g: [pull(k, g) for k in self.live])


def _elementwise(operation: str, function: Rule) -> Rule:
    pulls = PULLBACKS[operation]

    def rule(*operands: Any) -> Taped:
        of = _Operands(operands)
        y = function(*of.values)
        return of.made(y, lambda k, g: _fitted(pulls[k](g, y, *of.values), operands[k].shape))

    return rule


def _fitted(g: Value, shape: tuple[int, ...]) -> Value:
    """A gradient summed over the axes along which an operand of this shape was spread."""
    missing = g.ndim - len(shape)
    padded = (1,) * missing + shape
    spread = tuple(a - g.ndim for a, n in enumerate(g.shape) if a < missing or (padded[a] == 1 and n != 1))
    return g.sum(axis=spread, keepdims=True).reshape(shape) if spread else g


def _gathered(x: Taped, places: Any) -> Taped:
    """The elements of x at these places of its flat order. One that went to several has the sum of their gradients."""

    def pull(g: Value) -> Sequence[Value]:
        rows = special.scatter(g.reshape(np.size(places), 1), np.ravel(places), x.size)
        return [rows.reshape(x.shape)]

    return Taped(x.value.reshape(-1)[places], (x,), pull)


def _windows(x: Taped, window: Any, axis: Any = None) -> Taped:
    return _gathered(x, sliding_window_view(np.arange(x.size).reshape(x.shape), window, axis))


def _matmul(a: Any, b: Any) -> Any:
    if np.ndim(b) == 1:
        return _matmul(a, np.expand_dims(b, -1))[..., 0]
    if np.ndim(a) == 1:
        return _matmul(np.expand_dims(a, -2), b)[..., 0, :]
    of = _Operands((a, b))
    v, w = of.values

    def pull(k: int, g: Value) -> Value:
        return _fitted(v.mT @ g if k else g @ w.mT, of.operands[k].shape)

    return of.made(v @ w, pull)


def _einsum(subscripts: str, *operands: Any) -> Taped:
    inputs, output = subscripts.replace(" ", "").split("->")
    terms = inputs.split(",")
    of = _Operands(operands)

    def pull(k: int, g: Value) -> Value:
        others = [(term, v) for i, (term, v) in enumerate(zip(terms, of.values, strict=True)) if i != k]
        known = output + "".join(term for term, _ in others)
        own = "".join(c for c in terms[k] if c in known)
        small = np.einsum(f"{','.join([output, *(term for term, _ in others)])}->{own}", g, *(v for _, v in others))
        # An index of this operand alone was summed over: its gradient is the same all along it.
        shape = [n if c in own else 1 for c, n in zip(terms[k], of.values[k].shape, strict=True)]
        return np.broadcast_to(small.reshape(tuple(shape)), of.values[k].shape)

    return of.made(np.einsum(subscripts, *of.values), pull)


def _where(condition: Any, a: Any, b: Any) -> Taped:
    of = _Operands((a, b))

    def pull(k: int, g: Value) -> Value:
        return _fitted(np.where(condition, *((0.0, g) if k else (g, 0.0))), of.operands[k].shape)

    return of.made(np.where(condition, *of.values), pull)


def _concatenate(arrays: Sequence[Any], axis: int = 0) -> Taped:
    of = _Operands(arrays)
    axis = axis % np.ndim(arrays[0])
    ends = np.cumsum([np.shape(part)[axis] for part in arrays]).tolist()

    def pull(k: int, g: Value) -> Value:
        return g[(*[slice(None)] * axis, slice(ends[k] - np.shape(arrays[k])[axis], ends[k]))]

    return of.made(np.concatenate(of.values, axis), pull)


def _pad(a: Taped, width: Any) -> Taped:
    inside = tuple(
        slice(before, before + n)
        for (before, _), n in zip(np.broadcast_to(width, (a.ndim, 2)).tolist(), a.shape, strict=True)
    )
    return Taped(np.pad(a.value, width), (a,), lambda g: [g[inside]])


def _expand_dims(a: Taped, axis: Any) -> Taped:
    return Taped(np.expand_dims(a.value, axis), (a,), lambda g: [g.reshape(a.shape)])


def _broadcast_to(a: Taped, shape: Any) -> Taped:
    return Taped(np.broadcast_to(a.value, shape), (a,), lambda g: [_fitted(g, a.shape)])


def _cumsum(a: Taped, axis: int) -> Taped:
    """y_k = sum of a_j, j <= k, so that the gradient of a_j is the sum of those of y_k, k >= j."""
    back = tuple(slice(None, None, -1) if k == axis % a.ndim else slice(None) for k in range(a.ndim))
    return Taped(np.cumsum(a.value, axis), (a,), lambda g: [np.cumsum(g[back], axis)[back]])


def _plain(ufunc: np.ufunc) -> Rule:
    """What decides has no derivative."""
    return lambda *operands: ufunc(*_Operands(operands).values)


def _asked(primitive: str) -> Rule:
    """A lifted constant, a shift and the weights of a maximum have no derivative."""
    return lambda like, *args: like.value.__special__(primitive, *args)


def _primitive(name: str) -> Rule:
    return _elementwise(name, lambda x: x.__special__(name))


def _amax(x: Taped, axis: int, keepdims: bool) -> Taped:
    kept = tuple(1 if k == axis % x.ndim else n for k, n in enumerate(x.shape))
    y = special.amax(x.value, axis, keepdims)
    return Taped(y, (x,), lambda g: [g.reshape(kept) * special.amax_weights(x.value, axis)])


def _gather(_: Taped, x: Taped, index: Any) -> Taped:
    return Taped(special.gather(x.value, index), (x,), lambda g: [special.scatter(g, index, x.shape[-2])])


def _scatter(_: Taped, x: Taped, index: Any, rows: int) -> Taped:
    return Taped(special.scatter(x.value, index, rows), (x,), lambda g: [special.gather(g, index)])


_DIFFERENTIABLE = (
    *("add", "subtract", "negative", "multiply", "divide", "exp", "log", "log1p", "sqrt", "tanh"),
    *("absolute", "sin", "cos", "expm1", "power"),
)
_COMPARISONS = ("greater", "greater_equal", "less", "less_equal", "equal", "not_equal")

Taped.UFUNCS = {
    np.matmul: _matmul,
    **{ufunc: _elementwise(ufunc.__name__, ufunc) for ufunc in named(_DIFFERENTIABLE)},
    **{ufunc: _plain(ufunc) for ufunc in named(_COMPARISONS)},
}

Taped.FUNCTIONS = {
    **MEMBERS,
    np.where: _where,
    np.concatenate: _concatenate,
    np.pad: _pad,
    np.einsum: _einsum,
    np.cumsum: _cumsum,
    np.expand_dims: _expand_dims,
    np.broadcast_to: _broadcast_to,
    sliding_window_view: _windows,
}

Taped.SPECIALS = {
    "lift": _asked("lift"),
    "shift": _asked("shift"),
    "largest": _asked("largest"),
    "sigmoid": _primitive("sigmoid"),
    "log_sigmoid": _primitive("log_sigmoid"),
    "erf": _primitive("erf"),
    "erfc": _primitive("erfc"),
    "erf_derivative": _primitive("erf_derivative"),
    "maximum": lambda _, a, b: _elementwise("maximum", special.maximum)(a, b),
    "amax": _amax,
    "amax_weights": _asked("amax_weights"),
    "gather": _gather,
    "scatter": _scatter,
}
