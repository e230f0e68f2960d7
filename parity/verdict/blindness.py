"""Why a budget sees nothing: the operation that took its sight, and a stable form of it where one is known.

The formula is run on budgets that remember, array by array, at which operation the relative bound grew most; where a
bound is lost altogether, that operation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from parity.budget.array import Budget
from parity.verdict.evaluation import Patches, Request
from parity.verdict.tensor import TensorVerdict
from refnet.arithmetic import functions, special
from refnet.arithmetic.array_like import MEMBERS, ArrayLike, Rule, named

__all__ = ["causes", "causes_in_expression", "told"]

STABLE = {
    ("exp",): "exp may overflow: subtract the largest argument first, exp(x - special.shift(x, -1))",
    ("subtract", "exp"): "a difference with exp cancels: exp(x) - 1 is expm1(x)",
    ("subtract", "sigmoid"): "a difference with the sigmoid cancels: 1 - s(x) is s(-x)",
    ("subtract", "tanh"): "a difference with tanh cancels: 1 - tanh(x) is 2 s(-2x)",
    (
        "subtract",
        "multiply",
    ): "a difference of products cancels: subtract before multiplying; a variance is the mean of "
    "(x - mean)^2, and 1 - tanh(x)^2 is 4 s(2x) s(-2x)",
    ("add", "erf"): "a sum with erf cancels: 1 + erf(x) is erfc(-x)",
    ("subtract", "erf"): "a difference with erf cancels: 1 - erf(x) is erfc(x)",
    ("subtract", "divide"): "a difference with a quotient cancels: 1 - 1 / (1 + E) is E / (1 + E)",
    ("multiply",): "a product may overflow: scale its factors first, or add their logarithms",
    ("divide",): "the divisor may be zero: keep it away from zero, or divide earlier",
    ("log",): "the argument of the logarithm has lost its digits: log(1 + x) is log1p(x), log s(x) is log_sigmoid(x)",
    ("sqrt",): "the argument of the root may be zero or negative",
}
"""By the operation, and the one that its operand comes from: what happens, and what to write instead."""


class _Loss(NamedTuple):
    """How much an operation has cost: the factor by which the relative bound grew, infinity where it was lost."""

    growth: float
    operation: str
    operands: tuple[str, ...]

    def __str__(self) -> str:
        known = next((how for made, how in STABLE.items() if made[1:] and self._is(*made)), "")
        known = known or (STABLE.get((self.operation,), "") if math.isinf(self.growth) else "")
        lost = "no bound holds after" if math.isinf(self.growth) else "most is lost in"
        return f"{lost} {self.operation}" + (f"; {known}" if known else "")

    def _is(self, operation: str, source: str) -> bool:
        return self.operation == operation and source in self.operands


NOTHING = _Loss(1.0, "", ())


class _Watched(ArrayLike, inner="a"):
    """A budget that remembers the operation which made it, and the one before it which cost most."""

    __slots__ = ("a", "made_by", "worst")

    def __init__(self, a: Any, made_by: str = "", worst: _Loss = NOTHING) -> None:
        self.a, self.made_by, self.worst = a, made_by, worst

    def _moved(self, f: Rule) -> Any:
        return _Watched(f(self.a), self.made_by, self.worst)

    def __setitem__(self, index: Any, value: Any) -> None:
        self.a[index] = _bare(value)
        if isinstance(value, _Watched):
            self.worst = max(self.worst, value.worst, key=lambda loss: loss.growth)

    def sum(self, axis: Any = None, keepdims: bool = False) -> Any:
        return _result("sum", self.a.sum(axis=axis, keepdims=keepdims), (self,))

    def _each(self, ufunc: np.ufunc, inputs: tuple[Any, ...]) -> Any:
        return _result(ufunc.__name__, ufunc(*_bare(inputs)), inputs)


def _bare(value: Any) -> Any:
    if isinstance(value, _Watched):
        return value.a
    return type(value)(_bare(v) for v in value) if isinstance(value, tuple | list) else value


def _result(operation: str, made: Any, operands: Sequence[Any]) -> Any:
    if not isinstance(made, Budget):
        return made
    watched = [o for o in operands if isinstance(o, _Watched)]
    before = max((o.worst for o in watched), key=lambda loss: loss.growth, default=NOTHING)
    sources = tuple(o.made_by for o in watched)
    had, has = max((_relative(o.a) for o in watched), default=0.0), _relative(made)
    u = made.profile.storage.u
    growth = math.inf if math.isinf(has) and not math.isinf(had) else has / max(had, u) if math.isfinite(had) else 1.0
    # What a product or quotient is made of tells more than that it is one.
    name = next((s for s in sources if s), operation) if operation == "negative" else operation
    own = _Loss(growth, operation, sources)
    return _Watched(made, name, own if growth > before.growth else before)


def _relative(b: Budget) -> float:
    """The largest bound over the element; infinity where there is no bound. A zero that may be none has lost all."""
    with np.errstate(all="ignore"):
        if not np.isfinite(b.e).all():
            return math.inf
        share = np.where(b.x == 0, np.where(b.e > 0, 1 / b.profile.storage.u, 0.0), b.e / abs(b.x))
        return float(np.max(share, initial=0.0, where=np.isfinite(share)))


def _function(function: Any) -> Rule:
    def rule(*args: Any, **kwargs: Any) -> Any:
        operands = args[0] if isinstance(args[0], tuple | list) else args
        made, watched = function(*_bare(args), **kwargs), [o for o in operands if isinstance(o, _Watched)]
        if function.__name__ == "einsum":
            return _result("einsum", made, operands)
        # Elements are only moved about.
        worst = max((o.worst for o in watched), key=lambda loss: loss.growth, default=NOTHING)
        return _Watched(made, watched[0].made_by, worst) if isinstance(made, Budget) else made

    return rule


SEVERAL = ("maximum", "gather", "scatter")
"""Primitives that are handed all their operands behind the array that answers."""


def _special(name: str) -> Rule:
    def rule(x: Any, *args: Any) -> Any:
        operands = args if name in SEVERAL else (x, *args)
        return _result(name, getattr(special, name)(*_bare(operands)), operands)

    return rule


_Watched.FUNCTIONS = {**MEMBERS, **{f: _function(f) for f in named(functions.FUNCTIONS) if f not in MEMBERS}}
_Watched.SPECIALS = {
    **{name: _special(name) for name in functions.SPECIALS},
    "lift": lambda like, value: special.lift(value, like.a),
}


def causes(request: Request, patches: Patches) -> dict[str, str]:
    """For each tensor of an answer to a VJP the operation that cost most of its sight, in words."""
    with np.errstate(all="ignore"):
        tensors = request.watched(_Watched, patches)
    return {name: str(t.worst) for name, t in tensors.items() if isinstance(t, _Watched) and t.worst.operation}


def causes_in_expression(f: Callable[..., Any], budgets: Sequence[Any]) -> str:
    """Likewise of an expression's value."""
    with np.errstate(all="ignore"):
        value = f(*(_Watched(b) if isinstance(b, Budget) else b for b in budgets))
    return str(value.worst) if isinstance(value, _Watched) and value.worst.operation else ""


def wider_sums(profile: str, verdicts: Sequence[TensorVerdict]) -> tuple[str, ...]:
    """What to say of how a function sums, where all is said to be in a format of two bytes and a verdict is blind."""
    if profile not in ("bfloat16", "float16") or all(v.verdict != "blind" for v in verdicts):
        return ()
    due = f'profile="{profile}, accumulate float32"'
    return (f"sums in {profile} may be that far off: if the function keeps its sums in float32, say so by {due}",)


def told(blind: TensorVerdict, cause: str) -> TensorVerdict:
    """A blind verdict with the operation that made it so."""
    return replace(blind, reason=f"{blind.reason}; {cause}") if cause else blind
