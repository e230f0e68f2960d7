"""The study's figures, drawn from its tables alone: a file for each kind, and `style` for what all of them share."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.convergence.figures import (
    course_figures,
    descent_figure,
    drift_figure,
    rate_figures,
    target_figures,
    theory_figures,
    update_cost_figure,
)
from benchmarks.convergence.figures.style import Absent, Figure
from benchmarks.convergence.recorded_study import RecordedStudy

FAMILIES = (
    descent_figure,
    course_figures,
    target_figures,
    rate_figures,
    theory_figures,
    drift_figure,
    update_cost_figure,
)


def figures(study: RecordedStudy) -> Iterator[Figure | Absent]:
    """Every figure of the study, and those that it can't have."""
    for family in FAMILIES:
        yield from family.figures(study)
