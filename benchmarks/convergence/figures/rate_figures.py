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
from benchmarks.convergence.study import RISE, TIE

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
    spread = " (above the least possible, as shown here, they may lie far apart)" if study.least(problem) else ""
    return Figure(
        name=f"rates-{problem}",
        problem=problem,
        title=f"{about['title']}: sensitivity to the learning rate",
        caption=f"Final training loss against the learning rate in the sweep: median of {seeds} pilot runs, bars from "
        "the least to the largest. The full line ends at the largest stable rate. From the next rate on, where some "
        f"run’s loss rose above {RISE} times its value before training, the line is thin and no rate is chosen. Ring: "
        "the rate chosen, the lowest point of the full line. Larger dots: rates whose losses are within a thousandth "
        f"of the lowest and count as equal{spread}; of these the ring marks the one whose loss was lower on the way. "
        f"Crosses at the upper edge: the median run diverged, or ended higher than ten times where it began.{limit}",
        alt=f"{about['title']}: final training loss against learning rate, a line for each regime, the chosen rates "
        "ringed.",
        draw=lambda narrow: _draw(study, problem, narrow),
    )


def panels(arms: list[Arm]) -> dict[str, list[Arm]]:
    """Constant rates, decaying ones, other orders: what there is of them."""
    found = {
        SCHEDULES["constant"]: [arm for arm in arms if arm.plain],
        SCHEDULES["decay"]: [arm for arm in arms if arm.schedule == "decay"],
        "other orders, constant rate": [arm for arm in arms if arm.order != "epoch" and arm.schedule == "constant"],
    }
    return {title: members for title, members in found.items() if members}


def _draw(study: RecordedStudy, problem: str, narrow: bool) -> Canvas:
    arms, colours = study.arms(problem), style.colours(study.sizes(problem))
    shown = panels(arms)
    width = 1.1 + 1.97 * len(shown) if len(shown) > 1 else style.NARROW
    figure, axes = style.row(len(shown), narrow, height=2.0, width=width)
    low, high = _range(study, problem, arms)
    for panel, (title, members) in zip(axes, shown.items(), strict=True):
        for place, arm in enumerate(members):
            _arm(panel, study, problem, arm, colours[arm.batch_size], (high, 0.97 - 0.045 * place))
        panel.set_title(title, loc="left")
        panel.grid(True)
    limits = study.rows("stability", problem=problem)
    if len(limits):
        _limits(axes[0], float(limits["limit_low"].iloc[0]), float(limits["mean_square_limit"].iloc[0]), low)
    rates = study.rows("sweep", problem=problem)["rate"]
    style.logarithmic(axes[0].xaxis, style.extent([rates], 0.05), most=4)
    # Room for the crosses.
    style.logarithmic(axes[0].yaxis, (low, high * (high / low) ** 0.25))
    for panel in axes if narrow else axes[:1]:
        panel.set_ylabel("final " + study.loss_label(problem))
    for panel in axes[-1:] if narrow else axes:
        panel.set_xlabel("learning rate")
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
    row = study.rows("rates", problem=problem, arm=arm.name).iloc[0]
    # Where no rate is known to be stable, the line is full.
    steady = rates <= (math.inf if math.isnan(row["largest_stable_rate"]) else row["largest_stable_rate"])
    line: dict[str, Any] = {"color": colour, "linestyle": style.DASHES[arm.order], "marker": "o"}
    axes.plot(rates, np.where(seen, median, np.nan), **{**line, "linewidth": 0.5, "markersize": 1.2, "alpha": 0.7})
    axes.plot(rates, np.where(seen & steady, median, np.nan), **{**line, "markersize": 2.2})
    axes.vlines(rates[seen], least[seen], np.minimum(most[seen], top), color=colour, linewidth=0.8, alpha=0.6)
    finals = sweep["final_train_loss"].fillna(math.inf).groupby(sweep["rate"]).median().to_numpy()
    equal = seen & steady & (finals <= (1 + TIE) * finals[steady].min())
    if equal.sum() > 1:
        axes.plot(rates[equal], median[equal], "o", color=colour, markersize=4)
    lost = rates[~seen]
    cross: dict[str, Any] = {"marker": "x", "markersize": 3.5, "markeredgewidth": 0.9, "linestyle": "none"}
    axes.plot(lost, np.full(len(lost), height), transform=axes.get_xaxis_transform(), color=colour, **cross)
    at = (rates == row["rate"]) & seen
    axes.plot(rates[at], median[at], "o", markersize=6.5, markerfacecolor="none", markeredgecolor=colour, zorder=4)


def _limits(axes: Axes, descent: float, single: float, low: float) -> None:
    axes.axvline(descent, color=style.INK, linewidth=0.9, zorder=1)
    axes.axvline(single, color=style.STOCHASTIC, linewidth=0.9, linestyle=":", zorder=1)
    axes.annotate("2/L", (descent, low), (3, 3), textcoords="offset points", fontsize=7)
