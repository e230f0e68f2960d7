"""The figures: whole trainings; a training's step against its matrix products, network by network; what a step costs
against how many are trained at once; and, if growth was measured, that.

Networks have no order that a line could follow, so each is a panel, in which a contender has a row. Colours: C. Wong,
"Points of view: Color blindness", Nature Methods 8 (2011), which can be told apart by everyone.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks.speed.contenders import LIMIT
from benchmarks.speed.cost_growth import OF, Point
from benchmarks.speed.networks import Network
from benchmarks.speed.timed_rounds import Outcome, ratios
from benchmarks.speed.whole_training import WholeTraining

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


def drawn(
    trained: Sequence[WholeTraining], outcomes: Sequence[Outcome], points: Sequence[Point]
) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the files."""
    import matplotlib as mpl

    made: dict[str, Callable[[], Any]] = {
        "trainings": lambda: _trainings(trained),
        "speed": lambda: _steps([o for o in outcomes if not o.network.many]),
        "speed-many": lambda: _many([o for o in outcomes if o.network.many]),
        "growth": lambda: _growth(points),
    }
    with mpl.rc_context(STYLE):
        for name, draw in made.items():
            figure = draw()
            for kind, metadata in METADATA.items() if figure is not None else ():
                content = io.BytesIO()
                figure.savefig(content, format=kind, dpi=200, metadata=metadata)
                yield f"{name}.{kind}", content.getvalue()


def _rows(networks: Sequence[Network], names: Sequence[str]) -> tuple[Any, list[Any]]:
    """A figure with a panel for each network, at most three side by side, and in it a row for each name."""
    from matplotlib.figure import Figure

    columns = min(3, len(networks))
    lines = -(-len(networks) // columns)
    figure = Figure(figsize=(1.3 + 1.9 * columns, 0.5 + lines * (0.55 + 0.17 * len(names))), layout="constrained")
    panels = list(figure.subplots(lines, columns, squeeze=False, sharey=True).ravel())
    for panel in panels[len(networks) :]:
        panel.set_axis_off()
    for panel, network in zip(panels, networks, strict=False):
        panel.set_title(network.title, fontsize=8, loc="left")
        panel.set_yticks(range(len(names)), names)
        panel.set_ylim(len(names) - 0.5, -0.5)
        panel.tick_params(axis="y", length=0)
        # Only the first of a row has labels.
        for label, name in zip(panel.get_yticklabels(), names, strict=False):
            label.set_color(_looks(name)["color"])
        for y in range(1, len(names), 2):
            panel.axhspan(y - 0.5, y + 0.5, color="0.95", linewidth=0, zorder=0)
    return figure, panels[: len(networks)]


def _dot(axes: Any, name: str, y: float, values: Any, *, filled: bool = True) -> None:
    """The median, and a bar from the least to the most."""
    colour = _looks(name)["color"]
    axes.plot([values.min(), values.max()], [y, y], color=colour, linewidth=0.9, solid_capstyle="butt")
    face = colour if filled else "white"
    axes.plot(float(np.median(values)), y, "o", markersize=4, markeredgecolor=colour, markerfacecolor=face, zorder=3)


def _along(axes: Any) -> None:
    """A logarithmic axis along the rows, with plain numbers: at most four."""
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    axes.set_xscale("log")
    low, high = axes.get_xlim()
    decades = range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)
    finer: Sequence[float] = (1, 2, 5) if math.log10(high / low) > 0.7 else (1, 1.5, 2, 3, 5, 7)
    steps = (1,) if len(decades) > 1 else finer
    first = math.floor(math.log10(low))
    ticks = [s * 10.0**k for k in range(first, first + 12) for s in steps if low <= s * 10.0**k <= high]
    ticks = ticks[:: -(-len(ticks) // 4)] if ticks else []
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FixedFormatter([f"{tick:,.6g}" for tick in ticks]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(True, axis="x", color="0.85", linewidth=0.4)
    axes.set_axisbelow(True)


def _trainings(found: Sequence[WholeTraining]) -> Any:
    """Seconds of a whole training: in a fresh process, and after the libraries are loaded."""
    from matplotlib.lines import Line2D

    measured = [one for one in found if one.measured]
    if not measured:
        return None
    names = list(dict.fromkeys(one.contender for one in found))
    networks = list(dict.fromkeys(one.network for one in measured))
    figure, panels = _rows(networks, names)
    for axes, network in zip(panels, networks, strict=True):
        for one in (one for one in measured if one.network == network):
            y = names.index(one.contender)
            _dot(axes, one.contender, y - 0.18, one.fresh, filled=False)
            _dot(axes, one.contender, y + 0.18, one.loaded)
        _along(axes)
    updates = max(one.updates for one in found)
    figure.supxlabel(f"seconds of a training of up to {updates:,} updates", fontsize=8)
    marks = {"fresh process": "white", "libraries loaded": "0.3"}
    entries = [
        Line2D([], [], linestyle="none", marker="o", markersize=4, color="0.3", markerfacecolor=face, label=words)
        for words, face in marks.items()
    ]
    figure.legend(handles=entries, loc="outside upper center", ncols=2, frameon=False, fontsize=7.5)
    return figure


def _steps(outcomes: Sequence[Outcome]) -> Any:
    """Time of a step over that of its matrix products."""
    limits = {o.network: o for o in outcomes if o.contender is LIMIT and o.status == "measured"}
    each = {(o.network, o.contender.name): ratios(o, limits[o.network]) for o in outcomes if o.network in limits}
    each = {key: values for key, values in each.items() if values.size and key[1] != LIMIT.name}
    if not each:
        return None
    names = list(dict.fromkeys(o.contender.name for o in outcomes if any(o.contender.name == name for _, name in each)))
    networks = list(dict.fromkeys(network for network, _ in each))
    figure, panels = _rows(networks, names)
    for axes, network in zip(panels, networks, strict=True):
        for y, name in enumerate(names):
            if (network, name) in each:
                _dot(axes, name, y, each[network, name])
        axes.axvline(1, color="0.4", linewidth=0.8, zorder=1)
        _along(axes)
    figure.supxlabel(
        f"time of a training's step over that of its matrix products (line at 1), {networks[0].dtype}", fontsize=8
    )
    return figure


def _many(outcomes: Sequence[Outcome]) -> Any:
    from matplotlib.figure import Figure

    if not any(o.status == "measured" for o in outcomes):
        return None
    figure = Figure(figsize=(5.4, 3.8), layout="constrained")
    _runs(figure.add_subplot(), outcomes)
    return figure


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
