"""Loss and accuracy on four axes; constant and decaying rates; orders of the data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.convergence.arms import OPTIMIZERS, Arm
from benchmarks.convergence.figures import style
from benchmarks.convergence.figures.style import Absent, Figure
from benchmarks.convergence.recorded_study import RecordedStudy
from benchmarks.convergence.report.sentences import listed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

AXES = {"update": "updates", "epoch": "epochs", "samples": "samples", "seconds": "seconds"}
BEYOND = 1e100
"""Higher than any axis goes, and far from where matplotlib's arithmetic ends."""

ORDERS = {"epoch": "shuffled every epoch", "once": "shuffled once", "replacement": "drawn with replacement"}
SCHEDULES = {"constant": "constant rate", "decay": "decaying rate"}
VARIANTS = {"schedule": "a constant and a decaying rate", "order": "orders of the data", "optimizer": "optimizers"}
"""In what arms differ besides the size of their batch."""


def axes_of(study: RecordedStudy, problem: str) -> dict[str, str]:
    """Those of AXES that the problem has: there are no seconds where those of some arm are not known."""
    return {name: words for name, words in AXES.items() if name != "seconds" or study.timed(problem)}


def figures(study: RecordedStudy) -> Iterator[Figure | Absent]:
    """For each problem: the regimes on all axes, then what schedules do, what orders do, and what optimizers do in a
    study of several."""
    for problem in study.problems:
        yield _courses(study, problem)
        for kind in VARIANTS if len(study.optimizers) > 1 else ("schedule", "order"):
            yield _variants(study, problem, kind)


def _courses(study: RecordedStudy, problem: str) -> Figure:
    about, arms, outcome = study.about(problem), study.plain(problem), study.outcome(problem)[1]
    runs = study.rows("summary", problem=problem, engine=study.engine)["seeds"].max()
    shown = list(axes_of(study, problem).values())
    untimed = (
        "" if study.timed(problem) else " There are no seconds: how long an update takes is not known for every regime."
    )
    least = " above the least that any weights have" if study.least(problem) else ""
    return Figure(
        name=f"curves-{problem}",
        problem=problem,
        title=f"{about['title']}: training loss and {outcome}",
        caption=f"Loss on the full training set{least} and {outcome} of the same {runs:.0f} runs of "
        f"each regime, against {listed(shown)}. Line: median; band: 20% to 80% of the runs. Each regime has the "
        f"constant rate that its own sweep chose. Dashed: the target.{untimed}",
        alt=f"{about['title']}: training loss and {outcome} of {', '.join(arm.name for arm in arms)} against "
        f"{listed(shown)}.",
        draw=lambda narrow: _draw_courses(study, problem, arms, narrow),
    )


def course(axes: Axes, study: RecordedStudy, problem: str, arm: Arm, against: str, measure: str, **line: Any) -> None:
    """Median and band of one arm, from its first update on (a logarithmic axis has no 0)."""
    rows = study.course(problem, arm)
    rows = rows[rows["update"] > 0]
    shown: Callable[[Any], Any] = (lambda v: study.excess(problem, v)) if measure == "train_loss" else (lambda v: v)
    median, low, high = (shown(rows[f"{measure}_{part}"]).to_numpy() for part in ("median", "low", "high"))
    # A band that ends in infinity (a run that diverged) goes on beyond the axes.
    low, high = (np.where(np.isfinite(median), np.minimum(ends, BEYOND), np.nan) for ends in (low, high))
    axes.plot(rows[against], np.where(np.isfinite(median), np.minimum(median, BEYOND), np.nan), **line)
    axes.fill_between(rows[against], low, high, color=line["color"], alpha=0.14, linewidth=0)


def loss_range(study: RecordedStudy, problem: str, arms: list[Arm]) -> tuple[float, float]:
    """That of the training losses of these arms, none higher than ten times where they began.

    Where losses are shown above the least one, a descent that goes on to rounding would take up all of the axis: it
    ends four decades below the target.
    """
    rows = study.rows("bands", problem=problem, engine=study.engine)
    rows = rows[rows["arm"].isin([arm.name for arm in arms])]
    columns = [study.excess(problem, rows[f"train_loss_{part}"]) for part in ("low", "median", "high")]
    top = 10 * float(columns[1][rows["update"] == 0].max())
    bottom = 1e-4 * target_of(study, problem) if study.least(problem) else 0.0
    return style.extent([column[(column <= top) & (column >= bottom)] for column in columns])


def target_of(study: RecordedStudy, problem: str) -> float:
    """As losses are shown; NaN if there is none."""
    return float(study.excess(problem, study.rows("targets", problem=problem)["target_train_loss"]).max())


def target(axes: Axes, study: RecordedStudy, problem: str) -> None:
    """A dashed line at the problem's target."""
    if math.isfinite(value := target_of(study, problem)):
        axes.axhline(value, color=style.SOFT, linewidth=0.7, linestyle=(0, (3, 3)), zorder=0.5)


def _draw_courses(study: RecordedStudy, problem: str, arms: list[Arm], narrow: bool) -> Canvas:
    colours, (measure, words) = style.colours(study.sizes(problem)), study.outcome(problem)
    shown = axes_of(study, problem)
    if narrow:
        figure = style.canvas(style.NARROW, 0.7 + 1.6 * len(shown))
        panels = figure.subplots(len(shown), 2, sharex="row", sharey="col", squeeze=False).T
    else:
        figure = style.canvas(style.WIDE, 3.9)
        panels = figure.subplots(2, len(shown), sharex="col", sharey="row", squeeze=False)
    rows = study.rows("bands", problem=problem, engine=study.engine)
    rows = rows[rows["arm"].isin([arm.name for arm in arms]) & (rows["update"] > 0)]
    for column, (against, unit) in enumerate(shown.items()):
        for arm in arms:
            for row, what in enumerate(("train_loss", measure)):
                line = {"color": colours[arm.batch_size], "zorder": 3 if arm.batch_size is None else 2}
                course(panels[row, column], study, problem, arm, against, what, **line)
        target(panels[0, column], study, problem)
        for axes in panels[:, column] if narrow else panels[1:, column]:
            axes.set_xlabel(unit)
        style.logarithmic(panels[1, column].xaxis, style.extent([rows[against]], 0.03), most=3 if narrow else 4)
    style.logarithmic(panels[0, 0].yaxis, loss_range(study, problem, arms))
    _scale_outcome(panels[1, 0], rows, measure)
    for axes, label in zip(panels[:, 0], (study.loss_label(problem), words), strict=True):
        if narrow:
            axes.set_title(label, loc="left")
        else:
            axes.set_ylabel(label)
    for axes in panels.flat:
        axes.grid(True)
    figure.align_ylabels()
    style.legend(figure, [style.line(colours[arm.batch_size], Arm(arm.batch_size).name) for arm in arms])
    return figure


def _scale_outcome(axes: Axes, rows: Any, measure: str) -> None:
    from matplotlib.ticker import PercentFormatter

    if measure.endswith("accuracy"):
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.set_ylim(top=1.02)
        return
    values = [rows[f"{measure}_{part}"] for part in ("low", "median")]
    style.logarithmic(axes.yaxis, style.extent(values))


def _variants(study: RecordedStudy, problem: str, kind: str) -> Figure | Absent:
    """What schedules do, or orders."""
    title, what = study.about(problem)["title"], VARIANTS[kind]
    families = _families(study.every_arm(problem) if kind == "optimizer" else study.arms(problem), kind)
    if not families:
        return Absent(f"{title}: {kind}s", f"The study has no two {kind}s with the same size of batch.")
    floor = " Where a course levels off at a constant rate is the noise floor of its batches." * (kind == "schedule")
    return Figure(
        name=f"{kind}s-{problem}",
        problem=problem,
        title=f"{title}: {what}",
        caption=f"Training loss against updates under {what}, one panel for each size of batch. Line: median; band: "
        f"20% to 80% of the runs; every arm at the rate of its own sweep. Dashed: the target.{floor}",
        alt=f"{title}: training loss against updates, panels for {', '.join(Arm(size).name for size in families)}, "
        f"lines for {what}.",
        draw=lambda narrow: _draw_variants(study, problem, kind, families, narrow),
    )


def _families(arms: list[Arm], kind: str) -> dict[int | None, list[Arm]]:
    """For each size of batch, the arms that differ in their schedule alone (or in their order, or optimizer), if there
    are two."""
    alike = [arm for arm in arms if (arm.order == "epoch" if kind == "schedule" else arm.schedule == "constant")]
    if kind == "optimizer":
        alike = [arm for arm in alike if arm.plain]
    families = {
        size: [arm for arm in alike if arm.batch_size == size]
        for size in style.by_size(arm.batch_size for arm in alike)
    }
    return {size: same for size, same in families.items() if len(same) > 1}


def _draw_variants(
    study: RecordedStudy, problem: str, kind: str, families: dict[int | None, list[Arm]], narrow: bool
) -> Canvas:
    colours = style.colours(study.sizes(problem))
    figure, panels = style.panels(len(families), narrow, height=1.75, most=5, share=True)
    for axes, (size, members) in zip(panels, families.items(), strict=True):
        for arm in members:
            dash = style.DASHES[getattr(arm, kind)]
            course(axes, study, problem, arm, "update", "train_loss", color=colours[size], linestyle=dash)
        target(axes, study, problem)
        axes.set_title(Arm(size).name, loc="left")
        axes.grid(True)
        axes.set_xlabel("updates")
    for axes in panels:
        if (place := axes.get_subplotspec()) is not None and place.is_first_col():
            axes.set_ylabel(study.loss_label(problem))
    used = [arm for members in families.values() for arm in members]
    made: dict[str, str] = {name: words for name, (_, _, words) in OPTIMIZERS.items()}
    words = {"schedule": SCHEDULES, "order": ORDERS, "optimizer": made}[kind]
    present = {getattr(arm, kind) for arm in used}
    style.legend(
        figure, [style.line(style.SOFT, text, linestyle=style.DASHES[k]) for k, text in words.items() if k in present]
    )
    style.logarithmic(panels[0].xaxis, (1, study.iterations * 1.1), most=3)
    style.logarithmic(panels[0].yaxis, loss_range(study, problem, used))
    return figure
