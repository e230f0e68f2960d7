"""The study's figures, drawn from its tables alone: a file for each family, `reading` for tables, `style` for looks."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.convergence.figures import cost, curves, descent, rates, targets, theory, twin
from benchmarks.convergence.figures.reading import Study
from benchmarks.convergence.figures.style import Absent, Figure

FAMILIES = (descent, curves, targets, rates, theory, twin, cost)


def figures(study: Study) -> Iterator[Figure | Absent]:
    """Every figure of the study, and those that it can't have."""
    for family in FAMILIES:
        yield from family.figures(study)
