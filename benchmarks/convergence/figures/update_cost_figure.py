"""What an update costs: an overhead, and a price a sample."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.convergence.figures import style
from benchmarks.convergence.figures.style import Absent, Figure
from benchmarks.convergence.recorded_study import RecordedStudy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

TITLE = "Time an update, by the size of its batch"
MARKERS = {"refnet": "o", "torch": "s"}


def figures(study: RecordedStudy) -> Iterator[Figure | Absent]:
    timing, cost = study.frames["timing"], study.frames["cost"]
    if timing.empty or cost.empty:
        yield Absent(TITLE, "The study was not timed.")
        return
    lost = int((timing["unmeasured"] != "").sum())
    missing = f" {lost} of {len(timing)} times could not be measured well enough and are left out." if lost else ""
    fitted = cost[cost["unmeasured"] == ""]
    fits = (
        f"lines: overhead and cost a sample, within {fitted['worst_residual'].max():.0%} of every given time, for "
        f"{len(fitted)} of {len(cost)} problems and engines; vertical: the batch size from which on the samples cost "
        "more than the overhead"
        if len(fitted)
        else "no overhead and cost a sample describe the times"
    )
    yield Figure(
        name="cost",
        title=TITLE,
        caption="Microseconds an update, median and 20% to 80% of the rounds, on batches that are drawn (full marks) "
        f"and on one that is given (open marks); {fits}. Batches are drawn from a new random permutation every epoch, "
        "which for small networks takes longer than the rest of the update; the time is the mean over an epoch, whose "
        f"last batch may be smaller.{missing}",
        alt="For each problem, time an update against batch size on logarithmic axes, on drawn and on given batches, "
        "for each engine.",
        draw=lambda narrow: _draw(study, narrow),
    )


def _draw(study: RecordedStudy, narrow: bool) -> Canvas:
    timing = study.frames["timing"]
    problems = [problem for problem in study.problems if problem in set(timing["problem"])]
    figure, panels = style.panels(len(problems), narrow)
    low, high = style.extent([timing["low"], timing["high"]])
    for axes, problem in zip(panels, problems, strict=True):
        _problem(axes, study, problem)
        axes.set_title(study.about(problem)["title"], loc="left")
        style.logarithmic(axes.yaxis, (low, high))
        axes.grid(True)
    figure.supxlabel("samples an update", fontsize=8)
    figure.supylabel("microseconds", fontsize=8)
    entries = [
        style.line(style.ENGINES[engine], f"{engine}, {words}", marker=MARKERS[engine], markersize=3, **looks)
        for engine in dict.fromkeys(timing["engine"])
        for words, looks in (
            ("drawn", {"linestyle": "none"}),
            ("given", {"linewidth": 1, "markerfacecolor": style.PAPER}),
        )
    ]
    entries.append(style.line(style.SOFT, "samples cost as much as overhead", linestyle=":"))
    style.legend(figure, entries)
    return figure


def _problem(axes: Axes, study: RecordedStudy, problem: str) -> None:
    timing = study.rows("timing", problem=problem)
    sizes = timing["batch_size"]
    n = np.geomspace(sizes.min(), sizes.max(), 100)
    for fit in study.rows("cost", problem=problem, unmeasured="").itertuples():
        colour = style.ENGINES[str(fit.engine)]
        axes.plot(n, fit.overhead_us + fit.per_sample_us * n, color=colour, linewidth=1)
        if sizes.min() <= fit.overtakes_at <= sizes.max() and math.isfinite(fit.overtakes_at):
            axes.axvline(fit.overtakes_at, color=colour, linewidth=0.8, linestyle=":")
    if (timing["unmeasured"] != "").all():
        axes.text(0.5, 0.5, "not measured", color=style.SOFT, ha="center", va="center", transform=axes.transAxes)
    for (engine, drawn), rows in timing[timing["unmeasured"] == ""].groupby(["engine", "drawn"], sort=False):
        colour = style.ENGINES[str(engine)]
        axes.errorbar(
            rows["batch_size"],
            rows["microseconds"],
            yerr=[rows["microseconds"] - rows["low"], rows["high"] - rows["microseconds"]],
            color=colour,
            fmt=MARKERS[str(engine)],
            markersize=2.8,
            markerfacecolor=colour if drawn else style.PAPER,
            elinewidth=0.8,
            linestyle="none",
        )
    style.logarithmic(axes.xaxis, style.extent([sizes], 0.05), most=4)
