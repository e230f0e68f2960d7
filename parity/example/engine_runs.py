"""Engines that train the worked example, and the judgement of their figures.

The first two rounds are judged in every step, within a rounding budget that the conversion of the decimals to the
format is part of. The free run to UPDATES is judged in its error and outputs for as long as its budget lasts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from parity.example.certified_example import DTYPES, POSITIONS, SERIES, Certified
from parity.example.hand_computation import FIGURES
from parity.example.perceptron import CORRECT, RECIPES, UPDATES, Example, Recipe, Tensors, budgets, floats
from parity.records.record import Unsupported, UsageError
from parity.verdict.tensor import Enclosure, TensorVerdict, judge

Array = np.ndarray[Any, Any]

ENGINES = ("refnet", "torch")
WHOLE = (0, 1, UPDATES)
"""Numbers of updates at which every step is kept, not only the error and the outputs."""


@dataclass(frozen=True)
class Run:
    """What an engine found: `rounds[n]` is `Example.round` after n updates, for each of POSITIONS."""

    engine: str
    dtype: str
    recipe: Recipe
    rounds: Mapping[int, Tensors]

    def figure(self, key: str) -> Array:
        """A figure, as a 0-d array."""
        figure = FIGURES[key]
        return np.asarray(self.rounds[figure.updates][figure.tensor][figure.index])


def train_all(dtype: str) -> tuple[dict[str, Run], dict[str, str]]:
    """The training of each engine by the correct recipe; and for each engine that cannot do it, the reason.

    Raises:
        UsageError: no such dtype.
    """
    if dtype not in DTYPES:
        raise UsageError(f"example: expected a dtype {' or '.join(DTYPES)}, got {dtype}")
    runs, missing = {}, {}
    for engine in ENGINES:
        try:
            runs[engine] = train(engine, dtype, CORRECT)
        except Unsupported as reason:
            missing[engine] = str(reason)
    return runs, missing


def train(engine: str, dtype: str, recipe: Recipe = CORRECT) -> Run:
    """Train UPDATES times.

    Raises:
        Unsupported: torch is not installed, or asked for another recipe than the correct one.
    """
    example = _torch(dtype, recipe) if engine == "torch" else Example(recipe, floats(dtype))
    rounds = {}
    for n in range(UPDATES + 1):
        found = example.round(steps=n in WHOLE)
        if n in POSITIONS:
            rounds[n] = {name: np.array(t) for name, t in found.items()}
    return Run(engine, dtype, recipe, rounds)


def _torch(dtype: str, recipe: Recipe) -> Any:
    if recipe != CORRECT:
        raise Unsupported(f"torch: expected the recipe {CORRECT}, which is what its optimizers do, got {recipe}")
    try:
        from parity.example.with_torch import TorchExample
    except ImportError as error:
        raise Unsupported(f"torch is not installed ({error})") from None
    return TorchExample(dtype)


@lru_cache(maxsize=4)
def _budgets(recipe: Recipe, dtype: str) -> tuple[Tensors, Tensors]:
    """The first two rounds as budgets."""
    example = Example(recipe, budgets(dtype))
    return example.round(), example.round()


def bound(run: Run, key: str, certified: Certified) -> Array | None:
    """How far a right run may be from the truth in a figure (0-d); None where the run's budget is spent before it."""
    figure = FIGURES[key]
    if figure.updates < 2:
        return np.asarray(_budgets(run.recipe, run.dtype)[figure.updates][figure.tensor].e[figure.index])
    if figure.updates < certified.spent(run.recipe, run.dtype):
        bounds = certified.bound(run.recipe, run.dtype, figure.tensor)
        return np.asarray(bounds[POSITIONS.index(figure.updates)][figure.index])
    return None


def verdict(run: Run, key: str, certified: Certified) -> TensorVerdict | None:
    """The judgement of a figure; None where the run's budget is spent before it."""
    limit = bound(run, key, certified)
    if limit is None:
        return None
    return judge(key, run.figure(key), Enclosure(certified.figure(key, run.recipe), limit), run.dtype)


def judged_to(run: Run, certified: Certified) -> int:
    """The number of updates up to which the free run is judged."""
    return min(certified.spent(run.recipe, run.dtype) - 1, UPDATES)


def free_run(run: Run, certified: Certified) -> dict[str, TensorVerdict]:
    """The judgement of the error and the outputs at all positions before the budget is spent."""
    lasting = [n for n in POSITIONS if n <= judged_to(run, certified)]
    verdicts = {}
    for name in SERIES:
        got = np.stack([run.rounds[n][name] for n in lasting])
        truth = certified.truth(f"series.{name}")[RECIPES.index(run.recipe), lasting]
        limits = certified.bound(run.recipe, run.dtype, name)[: len(lasting)]
        verdicts[name] = judge(name, got, Enclosure(truth, limits), run.dtype)
    return verdicts
