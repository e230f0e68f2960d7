"""What became of the published figures, found by computing: who yields each, which are a bug's, which are unsettled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from parity.example.certified_example import Certified, Stretch
from parity.example.digits import exact, fixed, places
from parity.example.hand_computation import FIGURES
from parity.example.perceptron import BUG, CORRECT, RECIPES, UPDATES, Recipe
from parity.example.published import PUBLISHED, SOURCES, Published

SAYS = {
    "right": "right",
    "bug": "the bug's",
    "unsettled": "not settled",
    "slip": "a slip",
}
"""Of a published figure: the correct recipe yields it, after as many updates as it is said to; only another recipe
does; none does, but one would with another number of updates, or with a digit less; nothing explains it."""


@dataclass(frozen=True)
class Misprint:
    """A recipe yields the text, which is a published figure with one digit left out, where the figure is said to be."""

    text: str
    recipe: Recipe


@dataclass(frozen=True)
class Finding:
    """What was found of a published figure.

    Attributes:
        says: a key of SAYS. found: every recipe and number of updates that yields it.
        misprints: sought where no recipe yields it as announced.
        true: the correct recipe's figure, rounded as it should have been printed.
        off: units of its last digit from there to the unrounded truth; rounding makes at most half of one.
    """

    published: Published
    says: str
    found: tuple[Stretch, ...]
    misprints: tuple[Misprint, ...]
    true: str
    off: Fraction

    @property
    def by(self) -> str:
        """Every recipe that yields it, in words."""
        n = FIGURES[self.published.key].updates
        if [(s.first, s.last) for s in self.found] == [(0, UPDATES)] * len(RECIPES):
            return "every recipe, always: it does not move"
        here = [s.recipe for s in self.found if s.first <= n <= s.last]
        parts = [f"{_recipes(here)}, {_count(n, n)}"] if here else []
        for recipe in RECIPES:
            elsewhere = [_count(*part) for s in self.found if s.recipe == recipe for part in _without(s, n)]
            if elsewhere:
                parts.append(f"{recipe}, {' and '.join(elsewhere)}")
        parts += [f"one digit shorter, as {m.text}: {m.recipe}, {_count(n, n)}" for m in self.misprints]
        return "; ".join(parts) or f"no recipe, after any number of updates to {UPDATES:,}"


def _without(stretch: Stretch, n: int) -> list[tuple[int, int]]:
    """What is left of a stretch on either side of the number n."""
    sides = ((stretch.first, min(stretch.last, n - 1)), (max(stretch.first, n + 1), stretch.last))
    return [(first, last) for first, last in sides if first <= last]


def _recipes(recipes: Sequence[Recipe]) -> str:
    if set(recipes) == set(RECIPES):
        return "every recipe"
    for order in (CORRECT.order, BUG.order):
        if set(recipes) == {recipe for recipe in RECIPES if recipe.order == order}:
            return f"{order}, any biases"
    return " and ".join(map(str, recipes))


def _count(first: int, last: int) -> str:
    if first == last:
        return "before training" if first == 0 else f"after {first:,} update{'s' if first > 1 else ''}"
    return f"after {first:,} to {last:,} updates"


def findings(certified: Certified) -> tuple[Finding, ...]:
    """One for each of PUBLISHED."""
    return tuple(_finding(published, certified) for published in PUBLISHED)


def _finding(published: Published, certified: Certified) -> Finding:
    updates, found = FIGURES[published.key].updates, certified.found(published)
    here = {stretch.recipe for stretch in found if stretch.first <= updates <= stretch.last}
    truth = exact(certified.figure(published.key))
    misprints = () if here else _misprints(published, certified)
    says = "right" if CORRECT in here else "bug" if here else "unsettled" if found or misprints else "slip"
    off = (published.value - truth) / published.unit
    return Finding(published, says, found, misprints, fixed(truth, places(published.text)), off)


def _misprints(published: Published, certified: Certified) -> tuple[Misprint, ...]:
    text, start = published.text, published.text.index(".") + 1
    values = {recipe: exact(certified.figure(published.key, recipe)) for recipe in RECIPES}
    shorter = dict.fromkeys(text[:k] + text[k + 1 :] for k in range(start, len(text)))
    return tuple(Misprint(t, r) for t in shorter for r, value in values.items() if fixed(value, places(t)) == t)


def words(certified: Certified) -> dict[str, str]:
    """What happened to the article's numbers, in plain words, paragraph by paragraph."""
    found = findings(certified)
    said = {says: [finding for finding in found if finding.says == says] for says in SAYS}
    E_1, E_n, o1, o2 = (
        fixed(exact(certified.figure(f"{name}@{n}")), 9)
        for name, n in (("E", 1), ("E", UPDATES), ("out_o1", UPDATES), ("out_o2", UPDATES))
    )
    return {
        "yours": (
            "If you took every gradient at the old weights, then moved all weights at once, and left the biases "
            f"alone, you found {E_1} after one update and {E_n} after {UPDATES:,}, with outputs {o1} and {o2}. You "
            "are right and the text is not: its figures after training come from a program with a bug."
        ),
        "right": (
            f"Right: {len(said['right'])} of {len(found)} printed figures. Everything before the first update, every "
            "derivative but one, and all eight updated weights are the correct recipe's, rounded."
        ),
        "bug": (
            f"The bug's: {', '.join(f.published.text for f in said['bug'])}. A program updated w5 to w8 first, and "
            "then sent the outputs' deltas back to the hidden units through the new w5 to w8 instead of those that "
            "the forward pass went through. The text says in words that the original weights are used, and the hidden "
            "weights that the original prints are the correct recipe's: its own figures do not follow one recipe."
        ),
        "unsettled": "\n".join(
            f"Not settled: {f.published.text}. Either the updates were miscounted by one and there was no bug (a "
            "program that prints the error before each update prints this one last), or there was the bug, and a "
            f"digit too many in print{_elsewhere(f)}. Yielded by: {f.by}. The outputs beside it are the bug's; no more "
            "than that can be told from the text."
            for f in said["unsettled"]
        ),
        "slip": "\n".join(
            f"A slip: {f.published.text}, printed for {f.published.key}. It is {abs(float(f.off)):.2f} units of its "
            f"last digit away from the truth, where rounding makes at most 0.5; it should read {f.true}. As printed, "
            "it makes the sum of rounded figures in the next line come out."
            for f in said["slip"]
        ),
    }


def _elsewhere(finding: Finding) -> str:
    """Where the figure with a digit less is in print, if it is."""
    texts = {misprint.text for misprint in finding.misprints}
    return "".join(f" ({SOURCES[p.source]} have {p.text})" for p in PUBLISHED if p.text in texts)
