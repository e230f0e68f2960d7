"""The certified worked example, as it is kept in `parity/vectors/example.safetensors`.

Leading axes: r recipe (as in RECIPES), k update 0 to UPDATES, p position (as in POSITIONS), w weight. Certified values
are pairs, `NAME.hi` the value rounded to binary64, `NAME.lo` the rest; together at least 32 digits.

- `position` (p,): the numbers of updates in POSITIONS;
- `series.E` (r, k), `series.out_o` (r, k, o): after each update;
- `steps.NAME` (r, p, ...): every step of the round that follows update p;
- `moved.E` (w, 2): the error with one weight made smaller, and larger, by MOVE, the others as they are at the start;
- `bound.DTYPE.E` (r, p), `bound.DTYPE.out_o` (r, p, o): how far a right run in that dtype may be from the truth,
  infinite once its budget is spent;
- `spent.DTYPE` (r,): the number of updates after which it is spent, UPDATES + 1 where it lasts;
- `found.KEY=TEXT` (n, 3): where a published figure is the rounded truth: recipe, first and last of consecutive numbers
  of updates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from parity.example.hand_computation import CONSTANTS, FIGURES
from parity.example.perceptron import CORRECT, INPUT, RECIPES, TARGET, UPDATES, Recipe
from parity.example.published import PUBLISHED, Published
from parity.records.record import UsageError
from parity.truth.value import Truth
from parity.vectors import store

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]

FILE = "example"
DTYPES = ("float64", "float32")
MOVE = Fraction("0.01")
GIVEN = {"input": INPUT, "target": TARGET}
SERIES = ("E", "out_o")
TASKS = len(RECIPES) * (1 + len(DTYPES))
"""The parts that certifying it consists of."""


ROUND = tuple(sorted({digit * 10**power for digit in range(1, 10) for power in range(4)} | {UPDATES}))
"""Numbers of updates that people ask for: one digit and zeros."""


def _positions() -> tuple[int, ...]:
    found = {*ROUND, UPDATES - 1}
    k = 0
    while k < UPDATES:
        found.add(k)
        k += max(1, k // 29)
    return tuple(sorted(found))


POSITIONS = _positions()
"""Numbers of updates: each up to 58, then in steps of about a thirtieth; the last two; and those in ROUND."""


@dataclass(frozen=True)
class Stretch:
    """Consecutive numbers of updates, first to last, of a recipe."""

    recipe: Recipe
    first: int
    last: int


@dataclass(frozen=True)
class Certified:
    """What is kept; see the module's text for the names and shapes."""

    arrays: Mapping[str, Array]

    def truth(self, name: str) -> Truth:
        """A certified array, as `series.E`."""
        hi, lo = self.arrays[f"{name}.hi"], self.arrays[f"{name}.lo"]
        return Truth(hi, lo, np.zeros(hi.shape, bool))

    @property
    def steps(self) -> tuple[str, ...]:
        """The tensors that are kept at the positions only."""
        names = (name for name in self.arrays if name.startswith("steps.") and name.endswith(".hi"))
        return tuple(sorted(name.removeprefix("steps.").removesuffix(".hi") for name in names))

    def tensor(self, name: str, updates: int, recipe: Recipe = CORRECT) -> Truth:
        """A tensor of `Example.round` after `updates`: any number for SERIES, one of POSITIONS for the others."""
        r = RECIPES.index(recipe)
        if name in GIVEN:
            return rational(GIVEN[name])
        if name in SERIES:
            return self.truth(f"series.{name}")[r, updates]
        return self.truth(f"steps.{name}")[r, POSITIONS.index(updates)]

    def figure(self, key: str, recipe: Recipe = CORRECT) -> Truth:
        """A figure, or a constant, as a 0-d truth."""
        if key in CONSTANTS:
            return rational(np.array(CONSTANTS[key], dtype=object))
        figure = FIGURES[key]
        return self.tensor(figure.tensor, figure.updates, recipe)[figure.index]

    def bound(self, recipe: Recipe, dtype: str, name: str) -> Array:
        """(p, ...): how far a right run in `dtype` may be from `series.NAME` at the positions."""
        bounds: Array = self.arrays[f"bound.{dtype}.{name}"][RECIPES.index(recipe)]
        return bounds

    def spent(self, recipe: Recipe, dtype: str) -> int:
        """After how many updates the budget of a run is spent; more than UPDATES where it lasts."""
        return int(self.arrays[f"spent.{dtype}"][RECIPES.index(recipe)])

    def found(self, published: Published) -> tuple[Stretch, ...]:
        """Every recipe and number of updates, 0 to UPDATES, that yields a published figure."""
        rows = self.arrays[found_name(published)]
        return tuple(Stretch(RECIPES[r], first, last) for r, first, last in rows.tolist())


def found_name(published: Published) -> str:
    """The name under which it is kept where a published figure was found."""
    return f"found.{published.key}={published.text}"


def rational(exact: Any) -> Truth:
    """An array of Fractions as certified values."""
    hi = exact.astype(np.float64)
    lo = np.reshape([float(x - Fraction(float(h))) for x, h in zip(exact.flat, hi.flat, strict=True)], exact.shape)
    return Truth(hi, lo, np.zeros(hi.shape, bool))


def keep(arrays: Arrays) -> None:
    """Write the kept file; the module's text says what `arrays` must hold."""
    store.write(FILE, arrays, {"about": "the certified worked example; see parity.example.certified_example"})


def stored() -> Arrays:
    """The arrays of the kept file as they are, whichever version of the example they are of."""
    return store.read(FILE)[0]


@lru_cache(maxsize=4)
def load(folder: Path = store.FOLDER) -> Certified:
    """The kept file.

    Raises:
        UsageError: it is missing, truncated, corrupt or edited, of another version, or of another example than this.
    """
    arrays, _ = store.read(FILE, folder)
    wanted = {found_name(published) for published in PUBLISHED}
    if not np.array_equal(arrays.get("position", np.zeros(0)), POSITIONS) or not wanted <= arrays.keys():
        raise UsageError(
            f"{FILE}.safetensors: expected the certified example of this version, got that of another. "
            "Reinstall the package, or compute it again with: parity certify"
        )
    return Certified(arrays)


def readable(folder: Path = store.FOLDER) -> bool:
    """Whether `load` gives something."""
    try:
        load(folder)
    except UsageError:
        return False
    return True
