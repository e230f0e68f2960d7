"""The descent of w and b on their cost: the article's picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.convergence.arms import Arm
from benchmarks.convergence.figures import style
from benchmarks.convergence.figures.style import Absent, Figure
from benchmarks.convergence.recorded_study import RecordedStudy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

TITLE = "Descent on the cost of a straight line"
MARKERS = {"batch": "o", "mini-batch": "s", "stochastic": "^"}


def figures(study: RecordedStudy) -> Iterator[Figure | Absent]:
    """One figure, for the problem whose two weights and cost the tables hold."""
    path, surface = (study.frames[name] for name in ("path", "surface"))
    if path.empty or surface.empty:
        missing = "weights" if path.empty else "cost surface"
        yield Absent(TITLE, f"The study has no {missing} of a straight line.")
        return
    problem = str(surface["problem"].iloc[0])
    arms = regimes(study.arms(problem))
    names = "; ".join(arm.name for arm in arms)
    runs = path["seed"].nunique()
    yield Figure(
        name="descent",
        title=TITLE,
        problem=problem,
        caption=f"The first picture: one run of each regime ({names}) from the same initial weights, each at its own "
        f"rate, on the contours of the cost; the cross is the least-squares optimum. Dots are checkpoints, ten a "
        f"decade of updates. The second, enlarged around the optimum: where each of the {runs} runs of a regime is "
        f"after {study.iterations:,} updates. Median distance from the optimum: {_distances(study, arms)}.",
        alt=f"Contour map of the cost over w and b with the paths of {names} from one start to the optimum, and an "
        "enlargement of the final weights of all runs around the optimum.",
        draw=lambda narrow: _draw(study, problem, arms, narrow),
    )


def regimes(arms: list[Arm]) -> list[Arm]:
    """The whole set, the middle size of mini-batch, single samples, and these at a decaying rate: what is there."""
    sizes = [arm.batch_size for arm in arms if arm.plain and arm.regime == "mini-batch"]
    middle = [Arm(sizes[len(sizes) // 2])] if sizes else []
    shown = [Arm(None), *middle, Arm(1), Arm(1, schedule="decay")]
    return [arm for other in shown for arm in arms if replace(arm, optimizer="sgd") == other]


def _look(arm: Arm, colour: str) -> dict[str, Any]:
    """How its points are marked: filled, unless they would hide the optimum or their like."""
    plain = arm.batch_size is not None and arm.schedule == "constant"
    return {"marker": MARKERS[arm.regime], "facecolor": colour if plain else "none", "edgecolor": colour}


def _distances(study: RecordedStudy, arms: list[Arm]) -> str:
    best = study.frames["surface"][["w", "b"]].iloc[0].to_numpy()
    medians = []
    for arm in arms:
        last = study.rows("path", engine=study.engine, arm=arm.name, update=study.iterations)[["w", "b"]].to_numpy()
        # Weights that are not finite are further away than all others.
        lengths = np.nan_to_num(np.linalg.norm(last - best, axis=1), nan=np.inf)
        medians.append(f"{np.median(lengths):.2g} ({arm.name})")
    return ", ".join(medians)


def _draw(study: RecordedStudy, problem: str, arms: list[Arm], narrow: bool) -> Canvas:
    colours, surface = style.colours(study.sizes(problem)), study.rows("surface", problem=problem).iloc[0]
    path = study.rows("path", engine=study.engine)
    figure, (left, right) = style.row(2, narrow, height=2.8, share=False)

    first = path[path["seed"] == path["seed"].min()]
    courses = {arm: first[first["arm"] == arm.name][["w", "b"]].to_numpy() for arm in arms}
    start, best = next(iter(courses.values()))[0], surface[["w", "b"]].to_numpy(float)
    # What diverges is shown while it is in the neighbourhood.
    reach = 10 * np.linalg.norm(start - best)
    courses = {arm: points[np.linalg.norm(points - best, axis=1) <= reach] for arm, points in courses.items()}
    _frame(left, list(courses.values()), surface)
    for arm, points in courses.items():
        line = {"color": colours[arm.batch_size], "linestyle": style.DASHES[arm.schedule], "linewidth": 1.1}
        left.plot(*points.T, marker="o", markersize=1.8, **line)
    # On the side that the paths leave free.
    side, away = ("right", -6) if best[0] > start[0] else ("left", 6)
    left.annotate("start", tuple(start), (away, 0), textcoords="offset points", fontsize=7, ha=side, va="center")
    left.set_title("one run of each", loc="left")

    last = path[path["update"] == study.iterations]
    ends = {arm: last[last["arm"] == arm.name][["w", "b"]].to_numpy() for arm in arms}
    ends = {arm: points[np.linalg.norm(points - best, axis=1) <= reach] for arm, points in ends.items()}
    _frame(right, list(ends.values()), surface)
    for arm, points in ends.items():
        right.scatter(points[:, 0], points[:, 1], s=14, linewidth=0.8, **_look(arm, colours[arm.batch_size]))
    right.set_title(f"all {path['seed'].nunique()} runs after {study.iterations:,} updates", loc="left")

    optimum = style.line(style.INK, "optimum", marker="+", linestyle="none", markersize=8)
    entries = []
    for arm in arms:
        look, dash = _look(arm, colours[arm.batch_size]), style.DASHES[arm.schedule]
        mark = {"marker": look["marker"], "markerfacecolor": look["facecolor"], "markersize": 3.5}
        entries.append(style.line(look["edgecolor"], arm.name, linestyle=dash, **mark))
    style.legend(figure, [*entries, optimum])
    return figure


def _frame(axes: Axes, courses: list[Any], surface: Any) -> None:
    """Contours of the cost above its least, on a window that holds all courses and the optimum."""
    best = np.array([surface["w"], surface["b"]], dtype=float)
    points = np.concatenate([*courses, best[None]])
    low, high = points.min(axis=0), points.max(axis=0)
    size = np.maximum(high - low, 1e-12 * np.abs(best).max())
    low, high = low - 0.15 * size, high + 0.15 * size
    w, b = (np.linspace(low[k], high[k], 160) for k in (0, 1))
    dw, db = np.meshgrid(w - best[0], b - best[1])
    cost = (surface["hessian_ww"] * dw**2 + surface["hessian_bb"] * db**2) / 2 + surface["hessian_wb"] * dw * db
    # Eight levels that double: even steps would leave the valley's floor empty.
    levels = cost.max() * 2.0 ** np.arange(-9, 0)
    axes.contour(w, b, cost, levels=levels, colors=style.LINE, linewidths=0.7, zorder=0)
    axes.plot(*best, color=style.INK, marker="+", markersize=9, markeredgewidth=1.2, zorder=5)
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), xlabel="w", ylabel="b")
    axes.locator_params(nbins=5)
