"""Theory beside the runs: how batch gradients scatter, and how single-sample descent on a line does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.convergence.figures import style
from benchmarks.convergence.figures.course_figures import SCHEDULES
from benchmarks.convergence.figures.style import Absent, Figure
from benchmarks.convergence.recorded_study import RecordedStudy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

VARIANCE = "Variance of a batch's gradient, measured and by the formula"
MOMENTS = "Stochastic descent on least squares: exact moments and measured ones"


def figures(study: RecordedStudy) -> Iterator[Figure | Absent]:
    variance, moments = (study.frames[name] for name in ("gradient_variance", "moments"))
    if variance.empty:
        yield Absent(VARIANCE, "The study did not measure it.")
    else:
        yield _variance(study)
    if moments.empty:
        yield Absent(MOMENTS, "The study has no straight line, on which alone they are known.")
    else:
        yield _moments(study)


def _variance(study: RecordedStudy) -> Figure:
    rows = study.frames["gradient_variance"]
    z = (rows["measured"] - rows["predicted"]) / rows["standard_error"]
    z = z[(rows["batch_size"] < rows["samples"]) & (rows["standard_error"] > 0)].abs()
    later = ", ".join(f"{update:,}" for update in sorted(set(rows["updates"]) - {0}))
    return Figure(
        name="gradient-variance",
        title=VARIANCE,
        caption="Mean squared distance of a batch's gradient from the full one against the size n of a batch drawn "
        f"without replacement: {int(rows['draws'].max()):,} draws (points, bars of two standard errors, mostly smaller "
        "than the points) and the formula (σ²/n)(N − n)/(N − 1) (lines), at the initial weights and after "
        f"{later or 'no further'} updates. No parameter is fitted. At n = N both are zero, off the axis. "
        f"{(z <= 2).mean():.0%} of the {len(z)} points lie within two standard errors of the formula.",
        alt="For each problem, the gradient's variance against batch size on logarithmic axes: points on the curves of "
        "the formula.",
        draw=lambda narrow: _draw_variance(study, narrow),
    )


def _draw_variance(study: RecordedStudy, narrow: bool) -> Canvas:
    rows = study.frames["gradient_variance"]
    problems = [problem for problem in study.problems if problem in set(rows["problem"])]
    figure, panels = style.panels(len(problems), narrow, height=1.75)
    stages = sorted(set(rows["updates"]))
    looks = dict(zip(stages, [(style.INK, "o"), (style.OTHER, "s")], strict=False))
    for axes, problem in zip(panels, problems, strict=True):
        mine = rows[(rows["problem"] == problem) & (rows["batch_size"] < rows["samples"])]
        for updates, (colour, marker) in looks.items():
            _formula(axes, mine[mine["updates"] == updates], colour, marker)
        axes.set_title(study.about(problem)["title"], loc="left")
        style.logarithmic(axes.xaxis, style.extent([mine["batch_size"], mine["samples"]], 0.05), most=4)
        values = mine[["measured", "predicted"]].to_numpy()
        style.logarithmic(axes.yaxis, style.extent([values]), most=5)
        axes.grid(True)
    figure.supxlabel("batch size n", fontsize=8)
    figure.supylabel("variance of the gradient", fontsize=8)
    words = {0: "at the initial weights"}
    entries = [
        style.line(colour, words.get(u, f"after {u:,} updates"), marker=m, markersize=3, linewidth=0.8)
        for u, (colour, m) in looks.items()
    ]
    style.legend(figure, entries)
    return figure


def _formula(axes: Axes, rows: Any, colour: str, marker: str) -> None:
    if rows.empty:
        return
    first, N = rows.iloc[0], float(rows["samples"].iloc[0])
    # sigma^2 / n (N - n) / (N - 1), sigma^2 from its value at the first n
    n = np.geomspace(rows["batch_size"].min(), rows["batch_size"].max(), 80)
    per = (N - n) / n
    scale = first["predicted"] / ((N - first["batch_size"]) / first["batch_size"])
    axes.plot(n, scale * per, color=colour, linewidth=0.8)
    bars = {"yerr": 2 * rows["standard_error"], "elinewidth": 0.8, "linestyle": "none"}
    axes.errorbar(rows["batch_size"], rows["measured"], fmt=marker, markersize=2.8, color=colour, **bars)


def _moments(study: RecordedStudy) -> Figure:
    rows = study.frames["moments"]
    every = np.concatenate(_distances(rows[rows["update"] > 0]))
    every = every[np.isfinite(every)]
    rates = " and ".join(
        f"a {SCHEDULES[schedule]} of {rate:.4g}" + ("" if schedule == "constant" else " at first")
        for schedule, rate in rows[["schedule", "rate"]].drop_duplicates().itertuples(index=False)
    )
    return Figure(
        name="moments",
        problem=str(rows["problem"].iloc[0]),
        title=MOMENTS,
        caption=f"Single samples drawn with replacement at {rates}, all runs from one start. Top: exact mean (line) "
        f"and ±1 standard deviation (band), and the same of {int(rows['runs'].max()):,} runs (points and bars). "
        "Bottom: how far the measured mean and standard deviation are from the exact ones, in their standard errors; "
        f"{(np.abs(every) <= 2).mean():.0%} of these lie within ±2 (grey).",
        alt="Mean and standard deviation of w and b against updates: measured points and bars on the exact line and "
        "band; below, their distances in standard errors, about zero.",
        draw=lambda narrow: _draw_moments(study, narrow),
    )


def _distances(rows: Any) -> tuple[Any, Any]:
    """Of measured means and deviations from the exact ones, in standard errors."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return tuple(
            (rows[what] - rows[f"exact_{what}"]).to_numpy() / rows[f"{what}_error"].to_numpy()
            for what in ("mean", "sd")
        )


def _draw_moments(study: RecordedStudy, narrow: bool) -> Canvas:
    rows = study.frames["moments"]
    rows = rows[rows["update"] > 0]
    groups = [mine for _, mine in rows.groupby(["schedule", "parameter"], sort=False)]
    blocks = -(-len(groups) // 2) if narrow else 1
    columns = -(-len(groups) // blocks)
    figure = style.canvas(style.NARROW if narrow else style.WIDE, 0.6 + 2.8 * blocks)
    grid = figure.subplots(2 * blocks, columns, sharex=True, height_ratios=(2, 1) * blocks, squeeze=False)
    places = [divmod(k, columns) for k in range(len(groups))]
    panels = [(grid[2 * block, column], grid[2 * block + 1, column]) for block, column in places]
    furthest = np.concatenate(_distances(rows))
    bound = max(3.2, 1.1 * np.abs(furthest[np.isfinite(furthest)]).max(initial=0))
    for (top, bottom), mine in zip(panels, groups, strict=True):
        mean, sd = mine["exact_mean"], mine["exact_sd"]
        top.fill_between(mine["update"], mean - sd, mean + sd, color=style.STOCHASTIC, alpha=0.25, linewidth=0)
        top.plot(mine["update"], mean, color=style.STOCHASTIC)
        bars = {"yerr": mine["sd"], "elinewidth": 0.6, "linestyle": "none"}
        top.errorbar(mine["update"], mine["mean"], fmt="o", markersize=1.6, color=style.INK, **bars)
        top.set_title(f"{mine['parameter'].iloc[0]}, {SCHEDULES[mine['schedule'].iloc[0]]}", loc="left")
        means, sds = _distances(mine)
        bottom.axhspan(-2, 2, color=style.LINE, alpha=0.5, linewidth=0)
        bottom.plot(mine["update"], means, "o", color=style.INK, markersize=2.2)
        bottom.plot(mine["update"], sds, "D", color=style.OTHER, markersize=2.4, markerfacecolor=style.PAPER)
        bottom.set(xlabel="updates", ylim=(-bound, bound))
    for top, bottom in panels[::columns]:
        top.set_ylabel("weight")
        bottom.set_ylabel("standard errors")
    style.logarithmic(panels[0][0].xaxis, (1 / 1.15, 1.15 * rows["update"].max()), most=3)
    figure.align_ylabels()
    mark = {"linestyle": "none", "markersize": 3.5}
    entries = [
        style.line(style.STOCHASTIC, "exact mean ± 1 sd"),
        style.line(style.INK, "measured mean ± 1 sd", marker="o", **mark),
        style.line(style.OTHER, "measured sd (bottom)", marker="D", markerfacecolor=style.PAPER, **mark),
    ]
    style.legend(figure, entries)
    return figure
