"""How far refnet and torch drift apart."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.convergence.figures import style
from benchmarks.convergence.figures.style import Absent, Figure
from benchmarks.convergence.recorded_study import RecordedStudy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

TITLE = "The twin: how far refnet and torch drift apart"


def figures(study: RecordedStudy) -> Iterator[Figure | Absent]:
    rows = study.frames["twin"]
    if rows.empty:
        yield Absent(TITLE, "The study did not train refnet and torch side by side.")
        return
    last = int(rows["update"].max())
    within = (rows["budget_share"].dropna() <= 1).all()
    verdict = (
        f"Every weight stayed within its own budget; the most that one used of it is {rows['budget_share'].max():.2g}."
        if within
        else f"A weight left its own budget by a factor of {rows['budget_share'].max():.3g}."
    )
    yield Figure(
        name="twin",
        title=TITLE,
        caption=f"Largest difference between the weights of refnet and of torch over {last:,} updates, on equal "
        "batches in equal order, in units in the last place of the largest weight (solid; linear below 1), and what "
        "rounding can make of it at most, by parity's derived budget (dotted). The cross, at the upper edge if the "
        "budget has left the axis, is at the update where the budget ends: grown beyond the weights, or carried no "
        f"further. {verdict}",
        alt="For each problem, the drift between two engines in ULPs against updates, below a budget that grows faster "
        "and ends in a cross.",
        draw=lambda narrow: _draw(study, narrow),
    )


def _draw(study: RecordedStudy, narrow: bool) -> Canvas:
    rows = study.frames["twin"]
    problems = [problem for problem in study.problems if problem in set(rows["problem"])]
    figure, panels = style.panels(len(problems), narrow)
    ulps = rows["drift_ulps"].to_numpy()
    # Four decades more, so that the budget is seen as it leaves; but nothing is left of a weight at 2^53 of its ULPs.
    top = min(10.0 ** (math.ceil(math.log10(float(ulps[np.isfinite(ulps)].max(initial=1)))) + 4), 1e17)
    used = set()
    for axes, problem in zip(panels, problems, strict=True):
        mine = rows[(rows["problem"] == problem) & (rows["update"] > 0)]
        colours = style.colours(study.sizes(problem))
        for arm in study.arms(problem):
            if len(course := mine[mine["arm"] == arm.name]):
                used.add(colours[arm.batch_size])
                _course(axes, course, colours[arm.batch_size], top)
        axes.set_title(study.about(problem)["title"], loc="left")
        style.logarithmic(axes.xaxis, (1 / 1.15, 1.15 * mine["update"].max()), most=5)
        _ulps(axes, top)
        axes.grid(True)
    figure.supxlabel("updates", fontsize=8)
    figure.supylabel("drift, ULPs", fontsize=8)
    small, middle, large = style.MINI_BATCHES
    roles = {"large": large, "middle": middle, "small": small}
    names = {
        style.INK: "batch",
        **{c: f"mini-batch, {role}" for role, c in roles.items()},
        style.STOCHASTIC: "stochastic",
    }
    entries = [style.line(colour, name) for colour, name in names.items() if colour in used]
    entries += [
        style.line(style.SOFT, "drift"),
        style.line(style.SOFT, "budget", linestyle=(0, (1, 1.2)), marker="x", markersize=3.5),
    ]
    style.legend(figure, entries)
    return figure


def _course(axes: Axes, rows: Any, colour: str, top: float) -> None:
    axes.plot(rows["update"], rows["drift_ulps"], color=colour)
    budget = rows[np.isfinite(rows["budget_ulps"])]
    axes.plot(budget["update"], budget["budget_ulps"], color=colour, linewidth=0.9, linestyle=(0, (1, 1.2)))
    if len(budget):
        end = min(float(budget["budget_ulps"].iloc[-1]), top)
        axes.plot(budget["update"].iloc[-1], end, "x", color=colour, markersize=4.5, zorder=4, clip_on=False)


def _ulps(axes: Axes, top: float) -> None:
    """Linear from 0 to 1, then logarithmic."""
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    # So that 0 and 1 keep their distance, however many decades there are.
    axes.set_yscale("symlog", linthresh=1, linscale=max(1.0, math.log10(top) / 7))
    axes.set_ylim(-0.1, top)
    ticks = [0.0, *style.round_numbers(1, max(top, 100), 5)]
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_major_formatter(FixedFormatter(style.labels(ticks)))
    axes.yaxis.set_minor_locator(NullLocator())
