"""The formulas of the hand computation, evaluated: in binary64, or as somebody does who keeps a few decimals.

A formula is Python, so that it runs on any numbers with operators and the functions of an arithmetic: on floats, or on
`Carried`, a number with a bound on how far a person's may be from it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from graphlib import TopologicalSorter
from typing import Any

from parity.example.hand_computation import figures
from parity.example.mistakes import Rule, recipe_rules, rewrite
from parity.example.model import Model
from parity.example.perceptron import WEIGHTS, Recipe

Numbers = dict[str, Any]

BIASES = ("b_h1", "b_h2", "b_o1", "b_o2")
"""Each unit's bias; they start as b1, b1, b2, b2."""

MOVING = (*WEIGHTS, *BIASES)

# More than binary64 loses in an operation (half of 2^-52 of its result), and in exp, ln or tanh (4 units in the last
# place).
LOSS = 2.0**-51
FUNCTION_LOSS = 2.0**-50


# In binary64


def _exp(x: float) -> float:
    return math.exp(x) if x < 709 else math.inf if x == x else x


def _ln(x: float) -> float:
    return math.log(x) if x > 0 else -math.inf if x == 0 else math.nan


def _softplus(x: float) -> float:
    """ln(1 + exp(x)), without overflow."""
    return max(x, 0.0) + math.log1p(_exp(-abs(x)))


FLOATS: Mapping[str, Callable[[Any], Any]] = {
    "exp": _exp,
    "ln": _ln,
    "tanh": math.tanh,
    "sigmoid": lambda x: 1 / (1 + _exp(-x)),
    "softplus": _softplus,
    "relu": lambda x: 0.0 if x <= 0 else x,
    "step": lambda x: 1.0 if x > 0 else 0.0,
    "square": lambda x: x * x,
}


# With a few decimals


@dataclass(frozen=True, slots=True)
class Carried:
    """A number x with a bound e: whoever keeps decimals on the way ends within e of the exact figure.

    Each result of an operation is either kept in full or rounded, by at most `unit`; so is a given number that has more
    decimals than are kept. The model, operation by operation:

    - Product, quotient and functions: the errors of the operands passed on, and one rounding of the result, unless
      exact operands yield a result that needs none.
    - Sum: the bounds of the operands added. If every operand was rounded, the sum has no more decimals than they; if
      one was not, the rounding that its bound allows for pays for that of the sum.

    With `unit` 0 the bound is that of binary64 itself.

    Attributes:
        places: the decimals that are kept. unit: the most that keeping them moves a number by.
    """

    x: float
    e: float
    places: int
    unit: float

    def _lift(self, other: Carried | float) -> Carried:
        return other if isinstance(other, Carried) else Carried(float(other), 0.0, self.places, self.unit)

    def _made(self, x: float, e: float) -> Carried:
        return Carried(x, math.inf if e != e else e, self.places, self.unit)

    def rounded(self, x: float, e: float) -> Carried:
        """A result x whose operands leave it within e."""
        exact = e == 0 and _fits(x, self.places)
        return self._made(x, 0.0 if exact else e + self.unit + LOSS * abs(x))

    def _sum(self, other: Carried, x: float) -> Carried:
        exact = self.e + other.e == 0
        return self._made(x, 0.0 if exact else self.e + other.e + LOSS * abs(x))

    def __neg__(self) -> Carried:
        return self._made(-self.x, self.e)

    def __add__(self, other: Carried | float) -> Carried:
        o = self._lift(other)
        return self._sum(o, self.x + o.x)

    def __sub__(self, other: Carried | float) -> Carried:
        o = self._lift(other)
        return self._sum(o, self.x - o.x)

    def __rsub__(self, other: float) -> Carried:
        return self._lift(other) - self

    def __mul__(self, other: Carried | float) -> Carried:
        a, b = self, self._lift(other)
        for one, x in ((a, b), (b, a)):
            if one.e == 0 and one.x == 1:
                return x
        return self.rounded(a.x * b.x, abs(a.x) * b.e + abs(b.x) * a.e + a.e * b.e)

    def __truediv__(self, other: Carried | float) -> Carried:
        a, b = self, self._lift(other)
        size = abs(b.x)
        if not b.e < size:
            return self._made(math.nan if size == 0 else a.x / b.x, math.inf)
        return self.rounded(a.x / b.x, (abs(a.x) * b.e / size + a.e) / (size - b.e))

    __radd__, __rmul__ = __add__, __mul__

    def __rtruediv__(self, other: float) -> Carried:
        return self._lift(other) / self


def _fits(x: float, places: int) -> bool:
    """Whether a number has no more decimals than are kept."""
    scaled = x * 10.0**places
    return abs(scaled - math.floor(scaled + 0.5)) <= 4 * LOSS * abs(scaled) if math.isfinite(scaled) else False


def _carried_exp(a: Carried) -> Carried:
    z = _exp(a.x)
    return a._made(z, z * math.expm1(min(a.e, 700)) + a.unit + FUNCTION_LOSS * z)


def _carried_ln(a: Carried) -> Carried:
    y = _ln(a.x)
    moved = -math.log1p(-a.e / a.x) if a.e < a.x else math.inf
    return a._made(y, moved + a.unit + FUNCTION_LOSS * abs(y))


def _carried_tanh(a: Carried) -> Carried:
    y, slope = math.tanh(a.x), 1 - math.tanh(max(abs(a.x) - a.e, 0.0)) ** 2
    return a._made(y, min(a.e * slope, 2.0) + a.unit + FUNCTION_LOSS)


def _carried_sigmoid(a: Carried) -> Carried:
    z = _carried_exp(-a)
    y = 1 / (1 + z.x)
    e = z.e * y * y / (1 - z.e * y) if z.e * y < 1 else 1.0
    # Whatever z became, the quotient lies between 0 and 1.
    return a._made(y, min(1.0, 1.0 if e != e else e) + a.unit + LOSS)


def _carried_softplus(a: Carried) -> Carried:
    y = _softplus(a.x)
    return a._made(y, a.e + a.unit + FUNCTION_LOSS * (1 + y))


def _carried_relu(a: Carried) -> Carried:
    return a._made(max(a.x, 0.0), 0.0 if a.x <= -a.e else a.e)


def _carried_step(a: Carried) -> Carried:
    decided = a.x > a.e or a.x <= -a.e
    return a._made(1.0 if a.x > 0 else 0.0, 0.0 if decided else 1.0)


CARRIED: Mapping[str, Callable[[Any], Any]] = {
    "exp": lambda a: _carried_exp(a) if isinstance(a, Carried) else _exp(a),
    "ln": lambda a: _carried_ln(a) if isinstance(a, Carried) else _ln(a),
    "tanh": _carried_tanh,
    "sigmoid": _carried_sigmoid,
    "softplus": _carried_softplus,
    "relu": _carried_relu,
    "step": _carried_step,
    "square": lambda a: a * a,
}


def carry(places: int, cut: bool = False) -> Callable[[float], Carried]:
    """Takes given numbers to `Carried` with this many decimals, rounded or `cut` off."""
    unit = 10.0**-places
    return partial(_given, places=places, unit=unit if cut else unit / 2)


def binary(x: float) -> Carried:
    """Takes a given number to one whose bound is that of binary64."""
    return _given(x, places=0, unit=0.0)


def _given(x: float, places: int, unit: float) -> Carried:
    return Carried(0.0, 0.0, places, unit).rounded(float(x), 0.0)


# A round


@dataclass(frozen=True)
class Program:
    """A round of backpropagation as one function.

    Attributes:
        evaluate: from a network's numbers by name to every figure of the round, and what the next round starts from
            under the names with @1.
        advance: the network's moving numbers after a number of rounds.
    """

    evaluate: Callable[[Numbers, Mapping[str, Any]], Numbers]
    advance: Callable[[Numbers, int], Numbers]


@lru_cache(maxsize=256)
def program(model: Model, recipe: Recipe, rules: tuple[Rule, ...] = (), stable: bool = True) -> Program:
    """The round of a model by a recipe, its formulas rewritten by `rules`.

    `stable`: evaluated as a computer does, where the formula would lose digits.
    """
    formulas = round_formulas(model, recipe, rules, stable)
    names = _names(formulas)
    assigned = [f"{names[key]} = {_code(formulas[key], names)}" for key in _order(formulas)]
    given = sorted(key for key in names if key not in formulas)
    unpack = [f"{names[key]} = given[{key!r}]" for key in given]
    result = ", ".join(f"{key!r}: {names[key]}" for key in formulas)
    moving = [key for key in MOVING if f"{key}@1" in formulas]
    moves = [f"{names[key]} = {names[f'{key}@1']}" for key in moving]
    back = ", ".join(f"{key!r}: {names[key]}" for key in moving)
    source = "\n".join(
        [
            "def evaluate(given):",
            *(f"    {line}" for line in (*unpack, *assigned)),
            f"    return {{{result}}}",
            "def advance(given, rounds):",
            *(f"    {line}" for line in unpack),
            "    for _ in range(rounds):",
            *(f"        {line}" for line in (*assigned, *moves)),
            f"    return {{**given, {back}}}",
        ]
    )
    code = compile(source, f"<{model.key} {recipe.key}>", "exec")

    def bound(functions: Mapping[str, Any]) -> dict[str, Any]:
        space = dict(functions)
        exec(code, space)
        return space

    floats = bound(FLOATS)
    carried = bound(CARRIED)
    return Program(
        lambda given, functions: (floats if functions is FLOATS else carried)["evaluate"](given),
        lambda given, rounds: floats["advance"](given, rounds),
    )


def round_formulas(model: Model, recipe: Recipe, rules: tuple[Rule, ...] = (), stable: bool = True) -> dict[str, str]:
    """Every formula of a round, each unit's own bias in it, and how the biases move."""
    listed = {figure.key: figure for figure in figures(model) if figure.formula}
    moves = {f"{b}@1": f"{{{b}}} - {{eta}} * {{dE/d{b}}}" for b in BIASES} if recipe.biases != "frozen" else {}
    shown = {key: figure.formula for key, figure in listed.items()} | moves
    found = rewrite(shown, (*recipe_rules(recipe), *rules))
    if stable:
        better = {key: figure.stable for key, figure in listed.items() if figure.stable}
        found |= {key: text for key, text in better.items() if found[key] == shown[key]}
    return {key: re.sub(r"\{b\d\}", f"{{b_{key[4:6]}}}", formula) for key, formula in found.items()}


def _names(formulas: Mapping[str, str]) -> dict[str, str]:
    used = {operand for formula in formulas.values() for operand in re.findall(r"\{(.*?)\}", formula)}
    return {key: f"v{n}" for n, key in enumerate(sorted({*formulas, *used, *MOVING}))}


def _code(formula: str, names: Mapping[str, str]) -> str:
    code = re.sub(r"\{(.*?)\}", lambda match: names[match[1]], formula)
    return re.sub(r"(v\d+|\([^()]*\)) \*\* 2", r"square(\1)", code)


def _order(formulas: Mapping[str, str]) -> list[str]:
    """The keys, each after those that its formula needs."""
    needs = {key: [x for x in re.findall(r"\{(.*?)\}", text) if x in formulas] for key, text in formulas.items()}
    return list(TopologicalSorter(needs).static_order())
