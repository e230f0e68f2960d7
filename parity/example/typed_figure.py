"""A figure that somebody worked out by hand: what it is, and which known mistake explains it.

The page judges in the same way, in `page/judge.js`; a test holds the two together.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any

from parity.example import mistakes as known
from parity.example.digits import fixed
from parity.example.hand_arithmetic import BIASES, CARRIED, FLOATS, LOSS, Numbers, binary, carry, program
from parity.example.hand_computation import Figure, figures
from parity.example.mistakes import Mistake
from parity.example.model import Model
from parity.example.perceptron import Recipe
from parity.example.published import Published
from parity.records.record import UsageError as UsageError

LIMIT = 1000
"""The largest number that is taken."""
PLACES = 100
MOST = 12
"""Decimals: as many as are read, and as many as anybody is thought to carry."""
TELLING = 6
"""With as many significant digits a figure does not meet another one by chance."""


@dataclass(frozen=True)
class Typed:
    """A number as it was typed: `text` with a decimal point, its exact value, and its number of decimals."""

    text: str
    exact: Fraction
    places: int

    @property
    def digits(self) -> int:
        """Significant digits; zeros at the end count."""
        return len(re.sub(r"e.*|[-+.]", "", self.text.lower()).lstrip("0"))


def parse(typed: str) -> Typed:
    """Read a number; a decimal comma and a printed minus sign will do.

    Raises:
        UsageError: it is no number, too large, or has too many decimals.
    """
    text = re.sub("[−–]", "-", typed.strip()).replace(",", ".", 1)
    found = re.fullmatch(r"([+-]?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d{1,4}))?", text, re.ASCII)
    if not found or not (found[2] or found[3]):
        raise UsageError(f"expected a number, such as 0.35, got {typed.strip()[:40]!r}")
    places = len(found[3] or "") - int(found[4] or 0)
    if places > PLACES or len(text) > PLACES:
        raise UsageError(f"expected at most {PLACES} decimals, got more")
    digits = int((found[2] or "") + (found[3] or ""))
    exact = (-1 if found[1] == "-" else 1) * digits * Fraction(10) ** -places
    if abs(exact) > LIMIT:
        raise UsageError(f"expected a number from -{LIMIT} to {LIMIT}, got {typed.strip()[:40]}")
    return Typed(text, exact, max(places, 0))


@dataclass(frozen=True)
class Explanation:
    """A known mistake that yields a typed figure.

    Attributes:
        key, hint, answer: of the mistake. carried: the most decimals on the way with which it does; infinite for all.
        cut: whether the figure is cut off there instead of rounded.
    """

    key: str
    hint: str
    answer: str
    carried: float = math.inf
    cut: bool = False


@dataclass(frozen=True)
class Judgement:
    """What a typed figure is at a step.

    Attributes:
        kind: `right`, the truth rounded to the decimals that were typed; `cut`, the truth cut off there; `carried`,
            explained by decimals kept on the way, and by no mistake better; `mistake`, explained by known mistakes
            better than by decimals; `unexplained`.
        truth, off: the truth, and how far the typed figure is above it.
        carried, cut: the most decimals kept on the way that explain it, rounded and cut off; 0 for none.
        blind: with so few decimals 0 would pass as well.
        mistakes: all that yield every digit; if none does, those that need more decimals than rounding alone does, or
            as many as were typed; the best first.
    """

    kind: str
    truth: Fraction
    off: float
    carried: int
    cut: int
    blind: bool
    mistakes: tuple[Explanation, ...]


@dataclass(frozen=True)
class Place:
    """A figure that has the digits of a typed one.

    Attributes:
        figure: its key. kind: `right`, `printed` or `mistake`. cut: whether the digits are cut off instead of rounded.
        published: the printed figure. mistake: what yields it.
    """

    figure: str
    kind: str
    cut: bool = False
    published: Published | None = None
    mistake: Explanation | None = None


Certified = Callable[[str, Recipe], Fraction | None]


class Judge:
    """Judges figures of a network's first round, of the one after it, and of the end of its training.

    Args:
        model: the network's kind. constants: its numbers, as in `hand_computation.constants`.
        biases: how its biases move. The truth is that of simultaneous updates.
        certified: the certified value of a figure by a recipe; None where there is none, and binary64 has to do.
        published: printed figures of this network.
    """

    def __init__(
        self,
        model: Model,
        constants: Mapping[str, Fraction],
        biases: str = "frozen",
        certified: Certified = lambda key, recipe: None,
        published: tuple[Published, ...] = (),
    ) -> None:
        self.model = model
        self.figures: dict[str, Figure] = {figure.key: figure for figure in figures(model)}
        self.start: Numbers = {name: float(number) for name, number in constants.items()}
        self.start |= dict(zip(BIASES, (self.start[b] for b in ("b1", "b1", "b2", "b2")), strict=True))
        self.recipe = Recipe("simultaneous", biases)
        self._certified, self._published = certified, published
        self._kept: dict[Any, Any] = {}

    @cached_property
    def mistakes(self) -> tuple[tuple[Mistake, Recipe], ...]:
        """The known mistakes, seen from the recipe; each with the recipe that it follows."""
        found = []
        for biases in known.BIASES:
            other = biases != self.recipe.biases
            hint, answer = known.WHICH_BIASES
            answer = answer.format(theirs=known.BIASES[biases], ours=known.BIASES[self.recipe.biases])
            if other:
                found.append((Mistake(f"biases-{biases}", hint, answer, ()), Recipe("simultaneous", biases)))
            early, late = known.TOO_EARLY
            key = f"updated-weights-biases-{biases}" if other else "updated-weights"
            words = (f"{early} {hint}", f"{late} {answer}") if other else (early, late)
            found.append((Mistake(key, *words, ()), Recipe("sequential", biases)))
        return (*found, *((mistake, self.recipe) for mistake in known.of_model(self.figures.values())))

    # Values

    def _rounds(self, how: str, lift: Callable[[float], Any], recipe: Recipe, mistake: Mistake | None) -> list[Numbers]:
        """The first two rounds: figures, and the numbers that they start from."""
        rules = mistake.rules if mistake else ()
        key = (how, recipe, rules)
        if key not in self._kept:
            stable = how in ("floats", "binary")
            evaluate = program(self.model, recipe, rules, stable).evaluate
            functions = FLOATS if how == "floats" else CARRIED
            given = {name: lift(number) for name, number in self.start.items()}
            rounds = []
            for _ in range(2):
                found = evaluate(given, functions)
                rounds.append(given | found)
                given = given | {name.removesuffix("@1"): x for name, x in found.items() if name.endswith("@1")}
            self._kept[key] = rounds
        return list(self._kept[key])

    def _after(self, updates: int, recipe: Recipe, mistake: Mistake | None) -> Numbers:
        """The round after a number of updates, in binary64."""
        rules = mistake.rules if mistake else ()
        key = (updates, recipe, rules)
        if key not in self._kept:
            made = program(self.model, recipe, rules)
            self._kept[key] = made.evaluate(made.advance(self.start, updates), FLOATS)
        found: Numbers = self._kept[key]
        return found

    def value(
        self, key: str, recipe: Recipe | None = None, mistake: Mistake | None = None, updates: int | None = None
    ) -> float:
        """A figure in binary64; `updates`: after another number of them than its own."""
        n = self.figures[key].updates if updates is None else updates
        at = self._rounds("floats", float, recipe or self.recipe, mistake)[n] if n < 2 else None
        if at is None:
            at = self._after(n, recipe or self.recipe, mistake)
        return float(at[key.partition("@")[0]])

    def bound(
        self, key: str, kept: float, recipe: Recipe | None = None, mistake: Mistake | None = None, cut: bool = False
    ) -> float:
        """How far a figure may be off with this many decimals kept, rounded or cut off; infinite: those of binary64.

        Past the second round, anything.
        """
        n = self.figures[key].updates
        if n > 1:
            return 0.0 if kept == math.inf else math.inf
        how = "binary" if kept == math.inf else f"{kept} {cut}"
        lift = binary if kept == math.inf else carry(int(kept), cut)
        return float(self._rounds(how, lift, recipe or self.recipe, mistake)[n][key.partition("@")[0]].e)

    def truth(self, key: str) -> tuple[Fraction, Fraction]:
        """The truth of a figure, and how far it may be off: by nothing if it is certified."""
        certified = self._certified(key, self.recipe)
        if certified is not None:
            return certified, Fraction(0)
        blur = self.bound(key, math.inf)
        x = self.value(key)
        return Fraction(x if math.isfinite(x) else 0), Fraction(blur if math.isfinite(blur) else LIMIT)

    # Verdicts

    def judge(self, key: str, typed: Typed) -> Judgement:
        """What a typed figure is at the step `key`."""
        truth, blur = self.truth(key)
        float_ = self.value(key)
        said: dict[str, Any] = {"truth": truth, "off": float(typed.exact - truth), "carried": 0, "cut": 0}
        if _rounds_to(truth, typed, blur):
            return Judgement("right", blind=False, mistakes=(), **said)
        if _cuts_to(truth, typed):
            return Judgement("cut", blind=False, mistakes=(), **said)
        last = 10.0**-typed.places / 2
        distance = abs(said["off"])
        said["carried"] = self._carried(key, distance, last, typed, cut=False)
        said["cut"] = self._carried(key, distance, last, typed, cut=True)
        kept = max(said["carried"], said["cut"])
        blind = kept > 0 and self.bound(key, kept, cut=said["carried"] < said["cut"]) >= abs(float_)
        mistakes = self._mistaken(key, typed, last, float_, max(1, min(kept + 1, typed.places)))
        if kept < typed.places:
            mistakes += self._misprinted(key, typed)
        better = any(mistake.carried > kept for mistake in mistakes)
        # What is written with more than twice the decimals was not made of them: a product of two has twice as many.
        enough = 2 * kept >= typed.places
        if kept and enough and (kept >= typed.places or (not better and not blind)):
            kind = "carried"
        else:
            kind = "mistake" if mistakes else "unexplained"
        return Judgement(kind, blind=blind, mistakes=tuple(mistakes), **said)

    def recognise(self, key: str, typed: Typed) -> tuple[Judgement, list[Place]]:
        """The same, and where else in the computation the figure stands.

        The kind is `elsewhere` where that explains it and no mistake at this step does. A figure of few digits is not
        looked for elsewhere.
        """
        said = self.judge(key, typed)
        if said.kind in ("right", "cut") or typed.digits < TELLING:
            return said, []
        exactly = any(mistake.carried == math.inf for mistake in said.mistakes)
        places = [place for place in self.places(typed, key) if place.kind == "right" or not exactly]
        return (replace(said, kind="elsewhere") if places and not exactly else said), places

    def _carried(
        self,
        key: str,
        distance: float,
        last: float,
        typed: Typed,
        recipe: Recipe | None = None,
        mistake: Mistake | None = None,
        cut: bool = False,
        least: int = 1,
    ) -> int:
        """The most decimals, of those from `least`, that explain a distance from a figure; or 0."""

        def explains(kept: int) -> bool:
            return distance <= self.bound(key, kept, recipe, mistake, cut) + last

        if self.figures[key].updates > 1 or not explains(least):
            return 0
        kept = least
        while kept < MOST and explains(kept + 1):
            kept += 1
        return kept

    def _mistaken(self, key: str, typed: Typed, last: float, truth: float, least: int) -> list[Explanation]:
        """The mistakes that yield a figure, each with the most decimals kept on the way, from `least`."""
        found = []
        given = float(typed.exact)
        figure = self.figures[key]

        def consider(mistake: Mistake, recipe: Recipe, made: Mistake | None, updates: int | None = None) -> None:
            x = self.value(key, recipe, made, updates)
            if x == truth or not math.isfinite(x):
                return
            distance = abs(given - x)
            blur = 0.0 if updates is not None else self.bound(key, math.inf, recipe, made)
            exactly = distance <= last * (1 + LOSS) + blur
            words = mistake.key, mistake.hint, mistake.answer
            if exactly or _cuts_to(Fraction(x), typed):
                found.append(Explanation(*words, cut=not exactly))
                return
            if updates is not None:
                return
            carried = self._carried(key, distance, last, typed, recipe, made, False, max(least, -(-typed.places // 2)))
            if carried and self.bound(key, carried, recipe, made) < abs(x):
                found.append(Explanation(*words, carried))

        for mistake, recipe in self.mistakes:
            consider(mistake, recipe, mistake)
        if figure.updates > 0 and figure.section == "after":
            for by, words in ((-1, "one too few"), (1, "one too many")):
                n = figure.updates + by
                answer = f"It is this recipe's figure after {n:,} update{'' if n == 1 else 's'}, {words}."
                consider(Mistake(f"updates{by}", "How many updates were made?", answer, ()), self.recipe, None, n)
        exactly = [mistake for mistake in found if mistake.carried == math.inf]
        return exactly or sorted(found, key=lambda mistake: -mistake.carried)

    def _misprinted(self, key: str, typed: Typed) -> list[Explanation]:
        """A digit too many: with one decimal less, it would be some recipe's figure."""
        text = typed.text
        point = text.find(".")
        if point < 0 or "e" in text.lower() or typed.digits < TELLING:
            return []
        shorter = dict.fromkeys(text[:k] + text[k + 1 :] for k in range(point + 1, len(text)))
        found = []
        for order in ("simultaneous", "sequential"):
            x = self.value(key, Recipe(order, self.recipe.biases))
            if not math.isfinite(x) or fixed(Fraction(x), len(text) - point - 1) == text:
                continue
            for other in shorter:
                if fixed(Fraction(x), len(other) - point - 1) == other:
                    early = "the figure that one gets with weights updated too early"
                    words = "the right figure" if order == "simultaneous" else early
                    answer = f"One digit too many: {other} is {words}."
                    found.append(Explanation(f"misprint-{order}", "Count the digits.", answer))
        return found

    # Anywhere

    def places(self, typed: Typed, but: str = "") -> list[Place]:
        """Every figure that has the digits of a typed one, except the step `but`.

        First the right ones, else those in print, and those that a known mistake yields. Mistakes are looked for if
        the typed figure has enough digits not to meet one by chance. Of fewer digits, a figure cut off is looked for
        where none is rounded to them.
        """
        others = [key for key in self.figures if key != but]
        found = list(self._right(typed, others))
        if found:
            return found
        if typed.digits < TELLING:
            return [Place(key, "right", cut=True) for key in others if _cuts_to(self.truth(key)[0], typed)]
        keys = set(others)
        printed = [p for p in self._published if p.key in keys and p.value == typed.exact]
        found = [Place(p.key, "printed", published=p) for p in printed]
        there = {place.figure for place in found}
        return [*found, *(place for place in self._by_mistake(typed, others) if place.figure not in there)]

    def _right(self, typed: Typed, keys: list[str]) -> Iterator[Place]:
        for key in keys:
            truth, blur = self.truth(key)
            if _rounds_to(truth, typed, blur):
                yield Place(key, "right")
            elif typed.digits >= TELLING and _cuts_to(truth, typed):
                yield Place(key, "right", cut=True)

    def _by_mistake(self, typed: Typed, keys: list[str]) -> Iterator[Place]:
        last = Fraction(10) ** -typed.places / 2
        told = set()
        for mistake, recipe in self.mistakes:
            for key in keys:
                # What takes a whole training is looked for in the recipes alone.
                if key in told or (self.figures[key].updates > 1 and mistake.rules):
                    continue
                x = self.value(key, recipe, mistake)
                if not math.isfinite(x) or x == self.value(key):
                    continue
                exactly = abs(typed.exact - Fraction(x)) <= last
                if exactly or _cuts_to(Fraction(x), typed):
                    told.add(key)
                    why = Explanation(mistake.key, mistake.hint, mistake.answer, cut=not exactly)
                    yield Place(key, "mistake", not exactly, mistake=why)


def _rounds_to(truth: Fraction, typed: Typed, blur: Fraction = Fraction(0)) -> bool:
    """Whether the truth, known but for `blur`, rounds to the typed figure."""
    return abs(typed.exact - truth) <= Fraction(10) ** -typed.places / 2 + blur


def _cuts_to(truth: Fraction, typed: Typed) -> bool:
    """Whether the truth, cut off after the typed decimals, is the typed figure, and that is not 0."""
    unit = Fraction(10) ** -typed.places
    return typed.exact != 0 and math.trunc(truth / unit) * unit == typed.exact
