"""How long the regimes take to a target, and how their ends differ, seed by seed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.convergence.arms import Arm
from benchmarks.convergence.figures import style
from benchmarks.convergence.figures.course_figures import BEYOND, SCHEDULES, axes_of
from benchmarks.convergence.figures.style import Absent, Figure
from benchmarks.convergence.order_statistics import LEVEL
from benchmarks.convergence.recorded_study import RecordedStudy
from benchmarks.convergence.report.sentences import listed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas


def figures(study: RecordedStudy) -> Iterator[Figure | Absent]:
    for problem in study.problems:
        yield _times(study, problem)
        yield _pairs(study, problem)


def _times(study: RecordedStudy, problem: str) -> Figure | Absent:
    title, times = study.about(problem)["title"], study.rows("times_to_target", problem=problem, engine=study.engine)
    target = float(study.rows("targets", problem=problem)["target_train_loss"].max())
    if times.empty or math.isnan(target):
        return Absent(f"{title}: time to target", "No target is fixed for this problem.")
    shown = [words for axis, words in axes_of(study, problem).items() if axis != "epoch"]
    return Figure(
        name=f"targets-{problem}",
        problem=problem,
        title=f"{title}: {listed(shown)} to the target",
        caption=f"Share of the runs that have come to the target, a training loss of {target:.4g}, against "
        f"{listed(shown)}. A run is there from the first checkpoint on at which its loss is not higher. Runs that "
        "never get there stay in the count; a curve that ends below 100% ends in an open circle, where its runs ended.",
        alt=f"{title}: share of runs that reached the target against {listed(shown)}, a step curve for each regime "
        "and schedule.",
        draw=lambda narrow: _draw_times(study, problem, narrow),
    )


def _draw_times(study: RecordedStudy, problem: str, narrow: bool) -> Canvas:
    arms = [arm for arm in study.arms(problem) if arm.order == "epoch"]
    colours = style.colours(study.sizes(problem))
    shown = {axis: words for axis, words in axes_of(study, problem).items() if axis != "epoch"}
    figure, panels = style.row(len(shown), narrow, height=1.7, share=False)
    for axes, (axis, words) in zip(panels, shown.items(), strict=True):
        spans = []
        for arm in arms:
            times = study.rows("times_to_target", problem=problem, engine=study.engine, arm=arm.name)
            bands = study.course(problem, arm)[axis]
            line = {"color": colours[arm.batch_size], "linestyle": style.DASHES[arm.schedule]}
            spans += [_steps(axes, times[axis].dropna().to_numpy(), len(times), float(bands.max()), **line)]
        style.logarithmic(axes.xaxis, style.extent(spans), most=4)
        axes.set_xlabel(words)
        axes.grid(True)
    for place, axes in enumerate(panels):
        axes.set_ylim(-0.03, 1.03)
        _percent(axes)
        if narrow or not place:
            axes.set_ylabel("runs at the target")
    entries = [style.line(colours[size], Arm(size).name) for size in style.by_size(arm.batch_size for arm in arms)]
    if any(arm.schedule == "decay" for arm in arms):
        entries += [style.line(style.SOFT, words, linestyle=style.DASHES[name]) for name, words in SCHEDULES.items()]
    style.legend(figure, entries)
    return figure


def _steps(axes: Axes, arrived: Any, runs: int, end: float, **line: Any) -> Any:
    """Draw the share that has arrived, from the first arrival to where the runs end; returns where that is."""
    # Runs that arrive before their first update do so at 0, which a logarithmic axis does not have.
    at = np.sort(np.maximum(arrived, np.min(arrived, initial=end, where=arrived > 0)))
    shares = np.arange(1, len(at) + 1) / runs
    first = at[:1] if len(at) else np.array([end])
    course = np.concatenate([[0.0], shares])
    axes.step(np.concatenate([first, at, [end]]), np.append(course, course[-1]), where="post", **line)
    if len(at) < runs:
        mark = {"markersize": 4, "markerfacecolor": style.PAPER, "markeredgecolor": line["color"], "clip_on": False}
        axes.plot(end, len(at) / runs, "o", **mark)
    return np.append(at, end)


def _percent(axes: Axes) -> None:
    from matplotlib.ticker import PercentFormatter

    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))


def _pairs(study: RecordedStudy, problem: str) -> Figure | Absent:
    title, pairs = study.about(problem)["title"], _differences(study, problem)
    if pairs.empty:
        return Absent(f"{title}: paired differences", "The study has no two regimes to compare.")
    others = dict(sorted(zip(pairs["against"], pairs["other"], strict=True)))
    words = " and ".join(others.values())
    n = int(pairs["n"].max())
    coverage = float(pairs["coverage"].min())
    interval = (
        f"Bar: an exact {coverage:.1%} interval of the sign test for the median difference, free of assumptions about "
        "its distribution."
        if np.isfinite(pairs[["low", "high"]]).any(axis=None)
        else f"{n} pairs are too few for an interval of {float(LEVEL):.0%}, which takes six."
    )
    measures = ("train_loss", study.outcome(problem)[0])
    axes = [_many_decades(_drawn(pairs[pairs["measure"] == m]), 100 if "accuracy" in m else 1) for m in measures]
    scale = (
        f" {'Both axes are' if all(axes) else 'The first axis is' if axes[0] else 'The second axis is'} logarithmic on "
        "both sides of a linear middle; a mark for each power of ten."
        if any(axes)
        else ""
    )
    return Figure(
        name=f"pairs-{problem}",
        problem=problem,
        title=f"{title}: differences, seed by seed",
        caption=f"Each arm minus {words}, at the end of {n} runs with equal initial weights: median difference of the "
        f"final training loss and of the {study.outcome(problem)[1]}. {interval}{scale}",
        alt=f"{title}: for each arm a dot and a bar, its difference from {words}.",
        draw=lambda narrow: _draw_pairs(study, problem, others, narrow),
    )


def _differences(study: RecordedStudy, problem: str) -> Any:
    """The rows of `pairs` of the arms under the first optimizer, against the full batch and a mini-batch."""
    pairs = study.rows("pairs", problem=problem, engine=study.engine)
    pairs = pairs[pairs["against"] != "constant rate"]
    return pairs[pairs["arm"].isin([arm.name for arm in study.arms(problem)])]


def _drawn(rows: Any) -> Any:
    return rows[["median", "low", "high"]].to_numpy().ravel()


def _draw_pairs(study: RecordedStudy, problem: str, others: dict[str, str], narrow: bool) -> Canvas:
    pairs, colours = _differences(study, problem), style.colours(study.sizes(problem))
    named = {arm.name: arm for arm in study.arms(problem)}
    arms = [name for name in named if name in set(pairs["arm"])]
    measure, words = study.outcome(problem)
    height = 0.35 + 0.24 * len(arms)
    if narrow:
        figure = style.canvas(style.NARROW, 0.8 + 2 * height)
        panels = figure.subplots(2, 1, sharey=True)
    else:
        figure = style.canvas(style.WIDE, 0.4 + height)
        panels = figure.subplots(1, 2, sharey=True)
    looks = dict(zip(others, (("o", -0.17), ("D", 0.17)) if len(others) > 1 else (("o", 0.0),), strict=True))
    for axes, what in zip(panels, ("train_loss", measure), strict=True):
        rows = pairs[pairs["measure"] == what]
        edge = _signed(axes, _drawn(rows), 100 if "accuracy" in what else 1, narrow)
        axes.axvline(0, color=style.SOFT, linewidth=0.8, zorder=1)
        for against, (marker, offset) in looks.items():
            for row in rows[rows["against"] == against].itertuples():
                y = arms.index(row.arm) + offset
                colour = colours[named[row.arm].batch_size]
                low, median, high = np.clip([row.low, row.median, row.high], -edge, edge)
                if math.isfinite(row.low) or math.isfinite(row.high):
                    axes.plot([low, high], [y, y], color=colour, linewidth=1.1, solid_capstyle="butt")
                face = colour if marker == "o" else style.PAPER
                axes.plot(median, y, marker, markersize=4, markerfacecolor=face, markeredgecolor=colour, zorder=3)
        axes.grid(True, axis="x")
        for y in range(1, len(arms), 2):
            axes.axhspan(y - 0.5, y + 0.5, color=style.LINE, alpha=0.3, linewidth=0, zorder=0)
    panels[0].set_yticks(range(len(arms)), arms)
    panels[0].set_ylim(len(arms) - 0.5, -0.5)
    for axes in panels:
        axes.tick_params(axis="y", length=0)
    points = ",\npercentage points" if measure.endswith("accuracy") else ""
    for axes, what in zip(panels, ("training loss", f"{words}{points}"), strict=True):
        axes.set_xlabel(f"difference of the final{chr(10) if narrow else ' '}{what}")
    faces = {"o": style.SOFT, "D": style.PAPER}
    entries = [
        style.line(style.SOFT, f"minus {others[against]}", marker=marker, markersize=4, markerfacecolor=faces[marker])
        for against, (marker, _) in looks.items()
    ]
    style.legend(figure, entries)
    return figure


def _sizes(values: Any) -> tuple[float, float]:
    """Of the finite differences that are not zero, the largest size and the 20% quantile."""
    sizes = np.abs(values[values != 0])
    sizes = sizes[sizes < BEYOND]
    return (float(sizes.max()), float(np.quantile(sizes, 0.2))) if len(sizes) else (1.0, 1.0)


def _many_decades(values: Any, unit: int) -> bool:
    """Whether they have more than two, and are no shares."""
    most, inside = _sizes(values)
    return unit == 1 and most >= 100 * inside


def _signed(axes: Axes, values: Any, unit: int, narrow: bool) -> float:
    """Scale the axis for differences of both signs; returns how far it goes: what is infinite ends there.

    Linear, unless they have more than two decades: then logarithmic on both sides of a linear middle. Shares, which
    are shown in hundredths (`unit` 100), have few decades always.
    """
    from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, MaxNLocator, NullFormatter

    most, inside = _sizes(values)
    if not _many_decades(values, unit):
        edge = 1.1 * most
        axes.xaxis.set_major_locator(MaxNLocator(4, symmetric=True))
        axes.xaxis.set_major_formatter(
            FuncFormatter(lambda x, _: f"{unit * x:+.3g}".replace("-", "−") if abs(x) > 1e-12 * edge else "0")
        )
    else:
        last = math.ceil(math.log10(most))
        first = max(math.floor(math.log10(inside)), last - 4)
        edge = 1.6 * 10.0**last
        axes.set_xscale("symlog", linthresh=10.0**first, linscale=1)
        powers = [10.0**k for k in range(last - (last - first) % 2, first - 1, -2)]
        # A narrow figure has no room for the labels of more.
        powers = powers[:1] if narrow else powers
        ticks = [*(-p for p in powers), 0.0, *powers]
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_major_formatter(FixedFormatter(style.labels(ticks)))
        decades = [10.0**k for k in range(first, last + 1)]
        axes.xaxis.set_minor_locator(FixedLocator([*(-d for d in decades), *decades]))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlim(-edge, edge)
    return edge
