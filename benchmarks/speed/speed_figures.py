"""The figure: how far each contender is from the matrix products alone, against the size of the network; and what a
training's step costs, against how many are trained at once. If growth was measured, a second figure of it.

Colours: C. Wong, "Points of view: Color blindness", Nature Methods 8 (2011), which can be told apart by everyone.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks.speed.contenders import LIMIT
from benchmarks.speed.cost_growth import OF, Point
from benchmarks.speed.timed_rounds import Outcome, ratios

FAMILIES = {
    "refnet": "#D55E00",
    "torch": "#0072B2",
    "jax": "#009E73",
    "autograd": "#CC79A7",
    "mygrad": "#E69F00",
    "sklearn": "#56B4E9",
    "tinygrad": "#000000",
}

WAYS: dict[str, Any] = {
    "plain": ":",
    "replayed": "--",
    "captured": "-",
    "ensemble": (0, (5, 1)),
    "eager": "-",
    "fused": "--",
    "compile": ":",
    "func": "-.",
    "func-compile": (0, (3, 1, 1, 1, 1, 1)),
    "step": "--",
    "loop": "-",
    "vmap": "-.",
}
"""The line of each way to use a library."""

STYLE: Any = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 3,
    "svg.fonttype": "none",
    "svg.hashsalt": "refnet",
}

METADATA: dict[str, dict[str, Any]] = {"png": {"Software": None}, "svg": {"Date": None}}
"""So that the same results give the same file."""


def drawn(outcomes: Sequence[Outcome], points: Sequence[Point]) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the files."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        for name, made in (("speed", _speed(Figure(layout="constrained"), outcomes)), ("growth", _growth(points))):
            for kind, metadata in METADATA.items():
                if made is not None:
                    content = io.BytesIO()
                    made.savefig(content, format=kind, dpi=300, metadata=metadata)
                    yield f"{name}.{kind}", content.getvalue()


def _speed(figure: Any, outcomes: Sequence[Outcome]) -> Any:
    groups = [[o for o in outcomes if o.network.many is many] for many in (False, True)]
    shown = [(draw, group) for draw, group in zip((_sizes, _runs), groups, strict=True) if group]
    if not shown:
        return None
    figure.set_size_inches(3.3 + 3.6 * len(shown), 4.2)
    for k, (draw, group) in enumerate(shown):
        draw(figure.add_subplot(1, len(shown), k + 1), group)
    return figure


def _sizes(axes: Any, outcomes: Sequence[Outcome]) -> None:
    """Ratio to the limit, one place for each network in the order of its multiplications."""
    networks = sorted({o.network for o in outcomes}, key=lambda network: network.multiplications)
    limits = {o.network: o for o in outcomes if o.contender is LIMIT}
    ends = []
    for name, group in _by_contender(outcomes):
        each = {o.network: ratios(o, limits[o.network]) for o in group}
        places = [k for k, network in enumerate(networks) if network in each and each[network].size]
        if places:
            values = [each[networks[k]] for k in places]
            ends.append((name, places[-1], _line(axes, name, places, values)))
    axes.axhline(1, color="0.4", linewidth=0.8)
    axes.annotate("the matrix products alone", (0, 1), (2, 3), textcoords="offset points", color="0.4", fontsize=7)
    _logarithmic_up(axes)
    axes.set_xticks(range(len(networks)), [f"{n.name}\nbatch {n.batch}" for n in networks], rotation=30, ha="right")
    axes.set_ylabel("time of a training step / time of its matrix products")
    axes.set_title(f"One training, {outcomes[0].network.dtype}", fontsize=8, loc="left")
    _label(axes, ends)


def _runs(axes: Any, outcomes: Sequence[Outcome]) -> None:
    """Microseconds of a training's step against how many are trained."""
    ends = []
    for name, group in (*_by_contender(outcomes), (LIMIT.name, [o for o in outcomes if o.contender is LIMIT])):
        measured = [o for o in group if o.status == "measured"]
        if measured:
            places = [o.network.trainings for o in measured]
            ends.append((name, places[-1], _line(axes, name, places, [o.seconds * 1e6 for o in measured])))
    _logarithmic(axes, sorted({o.network.trainings for o in outcomes}))
    axes.set_xlabel("trainings of 2-2-2, batch 1")
    axes.set_ylabel("microseconds a training and step")
    axes.set_title("Many trainings", fontsize=8, loc="left")
    _label(axes, ends)


def _by_contender(outcomes: Sequence[Outcome]) -> list[tuple[str, list[Outcome]]]:
    names = dict.fromkeys(o.contender.name for o in outcomes if o.contender is not LIMIT)
    return [(name, [o for o in outcomes if o.contender.name == name]) for name in names]


def _looks(name: str) -> dict[str, Any]:
    family, _, way = name.partition("-")
    looks: dict[str, Any] = {"color": FAMILIES.get(family, "0.4"), "linestyle": WAYS.get(way, "-")}
    return {**looks, "linewidth": 2.2, "zorder": 3} if way in ("captured", "ensemble") else looks


def _line(axes: Any, name: str, places: Sequence[float], values: Sequence[Any]) -> float:
    """Medians joined, least to most as a thin bar; returns the height of the last."""
    medians = [float(np.median(v)) for v in values]
    looks = _looks(name)
    axes.plot(places, medians, marker="o", **looks)
    axes.vlines(places, [v.min() for v in values], [v.max() for v in values], color=looks["color"], linewidth=0.6)
    return medians[-1]


def _label(axes: Any, ends: Sequence[tuple[str, float, float]]) -> None:
    """Names at the right, each as near to the end of its line as the others leave room, with a thin line to it."""
    axes.figure.canvas.draw()
    low, high = (math.log10(limit) for limit in axes.get_ylim())
    points = axes.get_window_extent().height * 72 / axes.figure.dpi
    gap = 8.5 * (high - low) / points
    ordered = sorted(ends, key=lambda end: end[2])
    heights = _apart([math.log10(height) for _, _, height in ordered], gap)
    for (name, place, height), level in zip(ordered, heights, strict=True):
        axes.annotate(
            name,
            (place, height),
            (1.06, (level - low) / (high - low)),
            textcoords="axes fraction",
            color=_looks(name)["color"],
            fontsize=7,
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": _looks(name)["color"],
                "linewidth": 0.4,
                "relpos": (0, 0.5),
                "shrinkA": 0,
                "shrinkB": 3,
            },
        )


def _apart(wanted: Sequence[float], gap: float) -> list[float]:
    """Ascending places at least `gap` apart and, in total, as near to the wanted ones as that allows.

    Neighbours that would come too close are pooled around their mean (pool adjacent violators).
    """
    pools: list[list[float]] = []
    for k, value in enumerate(wanted):
        pools.append([value - k * gap])
        while len(pools) > 1 and np.mean(pools[-2]) > np.mean(pools[-1]):
            pools[-2:] = [pools[-2] + pools[-1]]
    levels = [float(np.mean(pool)) for pool in pools for _ in pool]
    return [level + k * gap for k, level in enumerate(levels)]


def _growth(points: Sequence[Point]) -> Any:
    from matplotlib.figure import Figure

    axes_of = list(dict.fromkeys(point.axis for point in points))
    if not axes_of:
        return None
    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    named: set[str] = set()
    for k, axis in enumerate(axes_of):
        axes = figure.add_subplot(2, 3, k + 1)
        here = [point for point in points if point.axis == axis and point.seconds.size]
        for name in dict.fromkeys(point.contender for point in here):
            line = [point for point in here if point.contender == name]
            _line(axes, name, [point.value for point in line], [point.seconds * 1e3 for point in line])
            axes.lines[-1].set_label("_" * (name in named) + name)
            named.add(name)
        _logarithmic(axes, sorted({point.value for point in here}))
        axes.set_xlabel(axis)
        axes.set_ylabel("milliseconds")
        axes.set_title(OF[axis].partition(",")[0], fontsize=7, loc="left")
        if axes.get_legend_handles_labels()[1]:
            axes.legend(frameon=False, fontsize=6)
    return figure


def _logarithmic(axes: Any, values: Sequence[int]) -> None:
    """Both axes; across, a tick for each value."""
    from matplotlib.ticker import NullLocator

    axes.set_xscale("log")
    axes.set_xticks(values, [f"{value:,}" for value in values], fontsize=6)
    axes.xaxis.set_minor_locator(NullLocator())
    _logarithmic_up(axes)


def _logarithmic_up(axes: Any) -> None:
    """The upright axis, with plain numbers; those between powers of ten only where there is room for them."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 1e4 else (1,), numticks=15))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.12g}"))
    axes.yaxis.set_minor_locator(NullLocator())
