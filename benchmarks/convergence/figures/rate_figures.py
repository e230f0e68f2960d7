"""How the final loss depends on the learning rate."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.convergence.arms import Arm
from benchmarks.convergence.figures import style
from benchmarks.convergence.figures.course_figures import ORDERS, SCHEDULES, loss_range
from benchmarks.convergence.figures.style import Absent, Figure
from benchmarks.convergence.recorded_study import RecordedStudy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas


def figures(study: RecordedStudy) -> Iterator[Figure | Absent]:
    for problem in study.problems:
        yield _sensitivity(study, problem)


def _sensitivity(study: RecordedStudy, problem: str) -> Figure:
    about, limits = study.about(problem), study.rows("stability", problem=problem)
    seeds = study.rows("sweep", problem=problem)["seed"].nunique()
    limit = ""
    if len(limits):
        limit = (
            f" Vertical: 2/L = {limits['limit_low'].iloc[0]:.6g}, certified, from which on descent with the full batch "
            "diverges; dotted, the rate from which on the variance of single samples drawn with replacement does."
        )
    return Figure(
        name=f"rates-{problem}",
        problem=problem,
        title=f"{about['title']}: sensitivity to the learning rate",
        caption=f"Final training loss against the learning rate in the sweep: median of {seeds} pilot runs, bars from "
        "the least to the largest. Ringed: the rate chosen for the final runs. Crosses at the upper edge: the median "
        f"run diverged, or ended higher than ten times where it began.{limit}",
        alt=f"{about['title']}: final training loss against learning rate, a line for each regime, the chosen rates "
        "ringed.",
        draw=lambda: _draw(study, problem),
    )


def panels(arms: list[Arm]) -> dict[str, list[Arm]]:
    """Constant rates, decaying ones, other orders: what there is of them."""
    found = {
        SCHEDULES["constant"]: [arm for arm in arms if arm == Arm(arm.batch_size)],
        SCHEDULES["decay"]: [arm for arm in arms if arm.schedule == "decay"],
        "other orders, constant rate": [arm for arm in arms if arm.order != "epoch" and arm.schedule == "constant"],
    }
    return {title: members for title, members in found.items() if members}


def _draw(study: RecordedStudy, problem: str) -> Canvas:
    arms, colours = study.arms(problem), style.colours(study.sizes(problem))
    shown = panels(arms)
    figure = style.canvas(1.1 + 1.97 * len(shown) if len(shown) > 1 else style.NARROW, 2.5)
    axes = figure.subplots(1, len(shown), sharex=True, sharey=True, squeeze=False)[0]
    low, high = _range(study, problem, arms)
    for panel, (title, members) in zip(axes, shown.items(), strict=True):
        for place, arm in enumerate(members):
            _arm(panel, study, problem, arm, colours[arm.batch_size], (high, 0.97 - 0.045 * place))
        panel.set_title(title, loc="left")
        panel.set_xlabel("learning rate")
        panel.grid(True)
    limits = study.rows("stability", problem=problem)
    if len(limits):
        _limits(axes[0], float(limits["limit_low"].iloc[0]), float(limits["mean_square_limit"].iloc[0]), low)
    rates = study.rows("sweep", problem=problem)["rate"]
    style.logarithmic(axes[0].xaxis, style.extent([rates], 0.05), most=4)
    # Room for the crosses.
    style.logarithmic(axes[0].yaxis, (low, high * (high / low) ** 0.25))
    axes[0].set_ylabel("final " + study.loss_label(problem))
    entries = [
        style.line(colours[size], Arm(size).name, marker="o", markersize=3)
        for size in style.by_size(arm.batch_size for arm in arms)
    ]
    orders = dict.fromkeys(arm.order for arm in arms if arm.order != "epoch")
    entries += [style.line(style.SOFT, ORDERS[order], linestyle=style.DASHES[order]) for order in orders]
    style.legend(figure, entries)
    return figure


def _range(study: RecordedStudy, problem: str, arms: list[Arm]) -> tuple[float, float]:
    """From the best loss to ten times the initial one, which is as bad as diverged."""
    losses = study.excess(problem, study.rows("sweep", problem=problem)["final_train_loss"])
    top = loss_range(study, problem, arms)[1]
    low, high = style.extent([losses[losses <= top], [top]])
    return low, high


def _arm(axes: Axes, study: RecordedStudy, problem: str, arm: Arm, colour: str, edge: tuple[float, float]) -> None:
    """The medians of one arm, bars, ring and crosses; `edge` is the highest loss shown and where crosses stand."""
    top, height = edge
    sweep = study.rows("sweep", problem=problem, arm=arm.name)
    # A missing loss is one that is not finite.
    losses = study.excess(problem, sweep["final_train_loss"].fillna(math.inf)).groupby(sweep["rate"])
    rates = np.array(sorted(losses.groups))
    median, least, most = (getattr(losses, part)().to_numpy() for part in ("median", "min", "max"))
    seen = median <= top
    line = {"color": colour, "linestyle": style.DASHES[arm.order]}
    axes.plot(rates, np.where(seen, median, np.nan), marker="o", markersize=2.2, **line)
    axes.vlines(rates[seen], least[seen], np.minimum(most[seen], top), color=colour, linewidth=0.8, alpha=0.6)
    lost = rates[~seen]
    cross: dict[str, Any] = {"marker": "x", "markersize": 3.5, "markeredgewidth": 0.9, "linestyle": "none"}
    axes.plot(lost, np.full(len(lost), height), transform=axes.get_xaxis_transform(), color=colour, **cross)
    chosen = study.rows("rates", problem=problem, arm=arm.name)["rate"]
    at = np.isin(rates, chosen) & seen
    axes.plot(rates[at], median[at], "o", markersize=6.5, markerfacecolor="none", markeredgecolor=colour, zorder=4)


def _limits(axes: Axes, descent: float, single: float, low: float) -> None:
    axes.axvline(descent, color=style.INK, linewidth=0.9, zorder=1)
    axes.axvline(single, color=style.STOCHASTIC, linewidth=0.9, linestyle=":", zorder=1)
    axes.annotate("2/L", (descent, low), (3, 3), textcoords="offset points", fontsize=7)
