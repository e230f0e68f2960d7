"""An arithmetic with some operations carried out otherwise: another order of summation, fewer bits, another exp."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from refnet.arithmetic import functions, special
from refnet.arithmetic.array_like import MEMBERS, ArrayLike, Rule, named

Rules = Mapping[str, Rule]
"""By the name of a listed NumPy function or special function: what is done in its place, on the inner arrays."""


class Altered(ArrayLike, inner="a"):
    """An array of another arithmetic (floats or budgets) in which some operations follow other rules."""

    __slots__ = ("a", "rules")

    def __init__(self, a: Any, rules: Rules) -> None:
        self.a, self.rules = (np.asarray(a) if isinstance(a, np.generic) else a), rules

    __follows__ = property(lambda self: "sigmoid" not in self.rules)

    def __repr__(self) -> str:
        return f"Altered({self.a!r}, {', '.join(self.rules)})"

    def _moved(self, f: Rule) -> Any:
        return self._wrapped(f(self.a))

    def __setitem__(self, index: Any, value: Any) -> None:
        self.a[index] = bare(value)

    def sum(self, axis: Any = None, keepdims: bool = False) -> Any:
        return self._wrapped(self.rules.get("sum", np.sum)(self.a, axis=axis, keepdims=keepdims))

    def _wrapped(self, result: Any) -> Any:
        """Truth values and integers are the same in every arithmetic."""
        return Altered(result, self.rules) if result.dtype.kind == "f" else result

    def _each(self, ufunc: np.ufunc, inputs: tuple[Any, ...]) -> Any:
        return self._wrapped(self.rules.get(ufunc.__name__, ufunc)(*bare(inputs)))


def bare(value: Any) -> Any:
    """Without the wrapping, also inside tuples and lists."""
    if isinstance(value, Altered):
        return value.a
    return type(value)(bare(v) for v in value) if isinstance(value, tuple | list) else value


def _altered(function: Any) -> Rule:
    def rule(*args: Any, **kwargs: Any) -> Any:
        arrays = args[0] if isinstance(args[0], tuple | list) else args
        like = next(a for a in arrays if isinstance(a, Altered))
        return like._wrapped(like.rules.get(function.__name__, function)(*bare(args), **kwargs))

    return rule


def _primitive(name: str) -> Rule:
    return lambda X, *args: X.rules.get(name, getattr(special, name))(X.a, *args)


# Any ufunc may follow another rule: see `_each`.
Altered.FUNCTIONS = {**MEMBERS, **{f: _altered(f) for f in named(functions.FUNCTIONS)}}

Altered.SPECIALS = {
    "lift": lambda like, value: special.lift(value, like.a),
    "shift": lambda X, axis: X._wrapped(_primitive("shift")(X, axis)),
    "largest": lambda X, axis: special.largest(X.a, axis),
    "total": lambda X, axis, keepdims: (
        X.sum(axis, keepdims) if "sum" in X.rules else X._wrapped(special.total(X.a, axis, keepdims))
    ),
    "sigmoid": lambda X: X._wrapped(_primitive("sigmoid")(X)),
    "sigmoids": lambda X: tuple(map(X._wrapped, _primitive("sigmoids")(X))),
    "log_sigmoid": lambda X: X._wrapped(_primitive("log_sigmoid")(X)),
    "erf": lambda X: X._wrapped(_primitive("erf")(X)),
    "erfc": lambda X: X._wrapped(_primitive("erfc")(X)),
    "erf_derivative": lambda X: X._wrapped(_primitive("erf_derivative")(X)),
    "maximum": lambda X, a, b: X._wrapped(X.rules.get("maximum", special.maximum)(bare(a), bare(b))),
    "amax": lambda X, *how: X._wrapped(_primitive("amax")(X, *how)),
    "amax_weights": lambda X, axis: X._wrapped(_primitive("amax_weights")(X, axis)),
    "gather": lambda X, *how: X._wrapped(X.rules.get("gather", special.gather)(*bare(how))),
    "scatter": lambda X, *how: X._wrapped(X.rules.get("scatter", special.scatter)(*bare(how))),
}
