"""The certified figures of the worked example as citations: `example/FIGURE`, `example/FIGURE (RECIPE)`."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from difflib import get_close_matches
from typing import NamedTuple

from parity.example.certified_example import FILE, GIVEN, POSITIONS, SERIES, load, stored
from parity.example.hand_computation import CONSTANTS, FIGURES, Figure
from parity.example.perceptron import CORRECT, RECIPES, Recipe
from parity.records.record import UsageError
from parity.report.citation import Citation, check_digest, elements, need_balls, split
from parity.vectors import store

PREFIX = "example/"
PATTERN = re.compile(r"example/(?P<figure>\S+)(?: \((?P<recipe>[a-z/]+)\))?")
ABOUT = {
    "simultaneous": "all gradients are taken at the old weights, then all weights move",
    "sequential": "the bug: the hidden layer's gradients come through output weights that have already moved",
}
BIASES = {"frozen": "the biases stay", "unit": "one bias a unit", "layer": "one bias a layer"}


class Cited(NamedTuple):
    """A figure by a recipe."""

    figure: Figure
    recipe: Recipe

    def __str__(self) -> str:
        return PREFIX + self.figure.key + ("" if self.recipe == CORRECT else f" ({self.recipe.key})")


def find(text: str) -> Cited:
    """The figure of that name.

    Raises:
        UsageError: there is none.
    """
    match = PATTERN.fullmatch(text)
    key = match["figure"] if match else text.removeprefix(PREFIX)
    if match is None or key not in FIGURES:
        near = ", ".join(PREFIX + k for k in get_close_matches(key, FIGURES, 3)) or f"{PREFIX}E@1"
        raise UsageError(f"cite: expected a figure of the worked example (perhaps {near}), got {text}")
    recipes = {recipe.key: recipe for recipe in RECIPES}
    if match["recipe"] and match["recipe"] not in recipes:
        raise UsageError(f"cite: expected one of {', '.join(recipes)} in brackets, got {match['recipe']}")
    return Cited(FIGURES[key], recipes.get(match["recipe"], CORRECT))


def names(pattern: str = "") -> Iterator[str]:
    """The names of all figures, by all recipes, that contain `pattern`."""
    for figure in FIGURES.values():
        for recipe in RECIPES:
            if pattern.lower() in (text := str(Cited(figure, recipe))).lower():
                yield text


def digest(cited: Cited) -> str:
    """The first 16 digits of the SHA-256 of what the figure is made from: numbers, recipe, updates and formula."""
    figure, recipe = cited
    made_from = {
        "numbers": {name: str(number) for name, number in CONSTANTS.items()},
        "recipe": recipe.key,
        "updates": figure.updates,
        "figure": figure.key,
    }
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:16]


def answer(text: str, again: bool = False) -> tuple[Citation, bool | None]:
    """What there is to say of the figure of that id; and, if asked, whether its bits are the same `again`.

    Raises:
        UsageError: as `find`, `check_digest`, `cite` and `verify`.
    """
    name, asked = split(text)
    cited = find(name)
    check_digest(str(cited), asked, digest(cited))
    return cite(cited), verify(cited) if again else None


def cite(cited: Cited) -> Citation:
    """What there is to say of it.

    Raises:
        UsageError: the kept file is refused.
    """
    figure, recipe = cited
    after = f" after {figure.updates:,} update{'' if figure.updates == 1 else 's'}" if figure.updates else ""
    formula = [f"{figure.key} = {figure.spelled()}"] if figure.formula else []
    formula.append(f"recipe: {ABOUT[recipe.order]}; {BIASES[recipe.biases]}")
    return Citation(
        id=f"{cited} #{digest(cited)}",
        about=f"{figure.key.partition('@')[0]}{after} in the worked example: two inputs, two hidden and two output "
        "units, sigmoids, E = (t1 - out_o1)^2 / 2 + (t2 - out_o2)^2 / 2.",
        formula=tuple(formula),
        inputs={name: f"{float(number):g}, the decimal" for name, number in CONSTANTS.items()},
        elements=elements(load().figure(figure.key, recipe), str(cited)),
        proof="Enclosed in ball arithmetic (Arb) of 256 bits. The first round's derivatives overlap those of a tape.",
        kept=f"{FILE}.safetensors, SHA-256 {store.sha256(FILE)}",
    )


def verify(cited: Cited) -> bool:
    """Train in balls up to the figure's update again; whether its bits are the kept ones. Needs python-flint."""
    need_balls()
    from parity.example import certification

    figure, recipe = cited
    if figure.tensor in GIVEN:
        return True
    computed, kept = certification.trajectory(recipe, figure.updates), stored()
    group = "series" if figure.tensor in SERIES else "steps"
    place = figure.updates if group == "series" else POSITIONS.index(figure.updates)
    r = RECIPES.index(recipe)
    names = [f"{group}.{figure.tensor}.{half}" for half in ("hi", "lo")]
    return all(
        certification.same(kept[name][r, place][figure.index], computed[name][place][figure.index]) for name in names
    )
