"""What an update costs: an overhead, and a price a sample."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.convergence.figures import style
from benchmarks.convergence.figures.style import Absent, Figure
from benchmarks.convergence.recorded_study import RecordedStudy

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

TITLE = "Time an update, by the size of its batch"
MARKERS = {"refnet": "o", "torch": "s"}


def figures(study: RecordedStudy) -> Iterator[Figure | Absent]:
    if study.frames["timing"].empty or study.frames["cost"].empty:
        yield Absent(TITLE, "The study was not timed.")
        return
    yield Figure(
        name="cost",
        title=TITLE,
        caption="Microseconds an update (points: median, bars: 20% to 80% of the rounds) and the fitted overhead plus "
        "cost a sample of drawn batches (lines); the last point is the whole set, which is not drawn. Vertical: the "
        "batch size from which on the samples cost more than the overhead. "
        f"The fit is within {study.frames['cost']['worst_residual'].max():.0%} of every other point.",
        alt="For each problem, time an update against batch size on logarithmic axes, level at first, then rising in "
        "proportion, for each engine, with the batch size where that changes.",
        draw=lambda: _draw(study),
    )


def _draw(study: RecordedStudy) -> Canvas:
    timing, cost = study.frames["timing"], study.frames["cost"]
    problems = [problem for problem in study.problems if problem in set(timing["problem"])]
    figure, panels = style.panels(len(problems))
    low, high = style.extent([timing["low"], timing["high"]])
    for axes, problem in zip(panels, problems, strict=True):
        sizes = timing[timing["problem"] == problem]["batch_size"]
        n = np.geomspace(sizes.min(), sizes.max(), 100)
        for fit in cost[cost["problem"] == problem].itertuples():
            colour = style.ENGINES[str(fit.engine)]
            axes.plot(n, fit.overhead_us + fit.per_sample_us * n, color=colour, linewidth=1)
            if sizes.min() <= fit.overtakes_at <= sizes.max() and math.isfinite(fit.overtakes_at):
                axes.axvline(fit.overtakes_at, color=colour, linewidth=0.8, linestyle=":")
            rows = timing[(timing["problem"] == problem) & (timing["engine"] == fit.engine)]
            bars = [rows["microseconds"] - rows["low"], rows["high"] - rows["microseconds"]]
            look: dict[str, Any] = {
                "fmt": MARKERS[str(fit.engine)],
                "markersize": 2.8,
                "elinewidth": 0.8,
                "linestyle": "none",
            }
            axes.errorbar(rows["batch_size"], rows["microseconds"], yerr=bars, color=colour, **look)
        axes.set_title(study.about(problem)["title"], loc="left")
        style.logarithmic(axes.xaxis, style.extent([sizes], 0.05), most=4)
        style.logarithmic(axes.yaxis, (low, high))
        axes.grid(True)
    figure.supxlabel("samples an update", fontsize=8)
    figure.supylabel("microseconds", fontsize=8)
    entries = [
        style.line(style.ENGINES[engine], engine, marker=MARKERS[engine], markersize=3, linewidth=1)
        for engine in dict.fromkeys(timing["engine"])
    ]
    entries.append(style.line(style.SOFT, "samples cost as much as overhead", linestyle=":"))
    style.legend(figure, entries)
    return figure
