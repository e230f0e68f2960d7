"""Other forms of what an expression computes: where the numbers of an engine are all there is, and lie outside its
budget.

An engine need not compute an expression as it is written: torch has a gradient of its own for the sigmoid, its
logarithm and so on (`parity.verdict.function_forms`). Which functions an expression is made of is seen in its values: a
result that is one of them of an earlier result, in every element, is that function. It is then computed in the other
form, and all that depends on it, in budgets. What that allows is an enclosure of the same truth, or, of a convention,
of another.

A name is never enough: a form whose budget does not hold the certified truth vouches for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import numpy as np

from parity.verdict.function_forms import FUNCTIONS, Form, Function
from parity.verdict.tensor import Enclosure, Other
from refnet.arithmetic.array_like import NoRule, Undecided

Array = np.ndarray[Any, Any]
Taped = Any
"""A budget that remembers how it was made."""

Budgets = dict[str, Any]
Each = Callable[[Any], Any]
Run = Callable[[Sequence[Any], Each], Budgets]
"""The expression's value and gradients in budgets, from its taped arrays; `Each` is given every result on the way, and
gives what stands in its place."""

USERS = ("torch", "jax")

MOST = 400
"""How many results behind one are looked at."""


@dataclass(frozen=True)
class Place:
    """Where a function stands: `made[k]` of a run is outer * f(inner * x), x being `made[of]`, or a leaf below 0.

    Attributes:
        axis: that f goes along, of x.
    """

    function: Function
    of: int
    inner: int
    outer: int
    axis: int

    def applied(self, form: Form, x: Taped, shape: tuple[int, ...]) -> Taped:
        """The function of x in this form."""
        v = x.value if self.inner > 0 else -x.value
        order = [a for a in range(x.ndim) if a != self.axis] + [self.axis] if self.function.along else []
        v = v.transpose(tuple(order)) if order else v
        y = form.value(v)
        sign = self.inner * self.outer

        def pull(g: Any) -> list[Any]:
            there = g.transpose(tuple(order)) if order and self.function.keeps else g.reshape(y.shape)
            back = form.pull(there, v, y)
            back = back.transpose(tuple(int(k) for k in np.argsort(order))) if order else back
            return [back if sign > 0 else -back]

        z = y.transpose(tuple(int(k) for k in np.argsort(order))) if order and self.function.keeps else y.reshape(shape)
        made: Taped = type(x)(z if self.outer > 0 else -z, (x,), pull)
        return made


def others(
    run: Run, tape: Callable[[], list[Any]], own: Mapping[str, Enclosure], added: Mapping[str, Array]
) -> Iterator[Other]:
    """The forms that bear on an expression, one at a time, then all of an engine's together.

    Args:
        tape: gives the expression's arrays anew. own: the truths, with the expression's own bounds. added: what the
            truths' own bounds add to any.
    """
    leaves = tape()
    made: list[Any] = []

    def keep(inner: Any) -> Any:
        made.append(inner)
        return inner

    run(leaves, keep)
    found = {k: places for k in range(len(made)) if (places := _places(made, leaves, k))}
    functions = {place.function.name: place.function for places in found.values() for place in places}
    for forms in _chosen(list(functions.values())):

        @cache
        def enclosures(forms: tuple[tuple[str, Form], ...] = tuple(forms.items())) -> Mapping[str, Enclosure]:
            try:
                # Another form may overflow where the expression does not: its bound is infinite there.
                with np.errstate(all="ignore"):
                    budgets = _computed(run, tape(), found, dict(forms), len(made))
            except (Undecided, NoRule, ValueError, OverflowError):
                return {}
            if any(form.kind == "convention" for _, form in forms):
                return {name: Enclosure.around(b.x, b.e) for name, b in budgets.items()}
            return _around_truths(budgets, own, added)

        kind = "convention" if any(form.kind == "convention" for form in forms.values()) else "unstable"
        yield Other(kind, ", ".join(form.name for form in forms.values()), enclosures)


def _chosen(functions: Sequence[Function]) -> Iterator[dict[str, Form]]:
    """Choices of a form for some functions, by their names."""
    every = [(f.name, form) for f in functions for form in f.forms]
    yield from ({name: form} for name, form in every)
    for user in USERS:
        first = {f.name: form for f in functions for form in reversed(f.forms) if _weaker_of(form, user)}
        for name, form in every:
            if len(first) > 1 and _weaker_of(form, user):
                yield first | {name: form}


def _weaker_of(form: Form, user: str) -> bool:
    return user in form.users and form.kind == "unstable"


def _computed(
    run: Run,
    leaves: Sequence[Any],
    found: Mapping[int, Sequence[Place]],
    forms: Mapping[str, Form],
    count: int,
) -> Budgets:
    """Value and gradients where these functions are computed in these forms."""
    made: list[Any] = []

    def replace(inner: Any) -> Any:
        for place in found.get(len(made), ()):
            form = forms.get(place.function.name)
            if form is not None:
                inner = place.applied(form, made[place.of] if place.of >= 0 else leaves[-1 - place.of], inner.shape)
                break
        made.append(inner)
        return inner

    budgets = run(leaves, replace)
    # Other than before if the expression is not the same from call to call.
    return budgets if len(made) == count else {}


def _around_truths(budgets: Budgets, own: Mapping[str, Enclosure], added: Mapping[str, Array]) -> dict[str, Enclosure]:
    found = {}
    for name, budget in budgets.items():
        truth, sample = own[name].truth, own[name].sample
        x, e = (budget.x, budget.e) if sample is None else (sample.of(budget.x), sample.of(budget.e))
        with np.errstate(all="ignore"):
            bound = np.where(np.isnan(e), np.inf, e + added.get(name, 0.0))
            apart = ~(truth.error(x) <= bound) & ~truth.undecided & np.isfinite(bound)
        if not apart.any():
            found[name] = Enclosure(truth, bound, sample)
    return found


# ---- recognizing


def _places(made: Sequence[Any], leaves: Sequence[Any], k: int) -> list[Place]:
    """What functions a result is of earlier ones, the nearest first."""
    y = made[k]
    if not _is_plain(y) or not np.isfinite(y.value.e).all():
        return []
    known = {id(x): j for j, x in enumerate(made[:k])} | {id(x): -1 - j for j, x in enumerate(leaves)}
    found: dict[str, Place] = {}
    for x in _behind(y):
        j = known.get(id(x))
        if j is None or not _is_plain(x):
            continue
        for function in FUNCTIONS:
            if function.name not in found and (place := _place(function, x.value.x, y.value, j)):
                found[function.name] = place
    return list(found.values())


def _is_plain(x: Any) -> bool:
    """Whether it is a taped budget, and of no tape inside another."""
    return hasattr(x, "parents") and hasattr(x.value, "profile") and x.size > 0


def _behind(y: Taped) -> Iterator[Taped]:
    """What a result was made of, the nearest first."""
    seen, waiting = {id(y)}, list(y.parents)
    while waiting and len(seen) < MOST:
        x = waiting.pop(0)
        if id(x) not in seen:
            seen.add(id(x))
            yield x
            waiting += x.parents


def _place(function: Function, x: Array, y: Any, of: int) -> Place | None:
    for inner, outer, axis in product((1, -1), (1, -1), range(x.ndim) if function.along else (0,)):
        kept = tuple(1 if function.along and not function.keeps and a == axis else n for a, n in enumerate(x.shape))
        if int(np.prod(kept)) != y.size or (function.keeps and x.shape != y.shape):
            continue
        if function.kinks and not ((x > 0).any() and (x < 0).any() and (x == 0).any()):
            continue
        if not function.keeps and y.shape not in (kept, tuple(n for a, n in enumerate(x.shape) if a != axis)):
            continue
        with np.errstate(all="ignore"):
            given = np.moveaxis(inner * x, axis, -1) if function.along else inner * x
            values = outer * function.values(given)
            values = np.moveaxis(values, -1, axis) if function.along else values
            values = values.reshape(y.shape)
            same = abs(values - y.x) <= y.e + 1e-9 * abs(values)
        if same.all() and not np.array_equal(values, np.broadcast_to(x, y.shape) if x.shape == y.shape else np.nan):
            return Place(function, of, inner, outer, axis)
    return None
