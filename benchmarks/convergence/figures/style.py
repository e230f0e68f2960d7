"""What all figures have in common: colours, sizes, axes, files.

Colours belong to regimes and mean the same in every figure: the whole set is ink, single samples are vermilion, and a
problem's mini-batches are green, blue and orchid as they grow. They are told apart under every common kind of colour
blindness, and most carry no meaning that a label, a dash or a marker does not carry too.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from refnet.files import write_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure as Canvas
    from matplotlib.lines import Line2D

INK, SOFT, LINE, PAPER = "#1c1e21", "#5b616a", "#d5d7d2", "#ffffff"
STOCHASTIC = "#d1490c"
MINI_BATCHES = ("#13ae80", "#1746d1", "#b04fb0")
OTHER = "#8a6d00"
"""What is set against ink where nothing is a regime."""

ENGINES = {"refnet": INK, "torch": OTHER}
DARK = {
    PAPER: "#1b1e24",
    STOCHASTIC: "#f2763d",
    **dict(zip(MINI_BATCHES, ("#7df0a8", "#8fb0ee", "#b84df0"), strict=True)),
}
"""What colours become on a dark ground, where their like would not be told apart."""

DASHES: dict[str, Any] = {"constant": "-", "decay": (0, (4, 1.6)), "epoch": "-", "once": (0, (1.2, 1.2))}
DASHES["replacement"] = (0, (4, 1.2, 1, 1.2))
DASHES |= {"sgd": "-", "momentum": (0, (4, 1.6)), "adam": (0, (1.2, 1.2))}

WIDE, NARROW = 7.0, 3.4
"""Inches: a page's width of text, and a column's."""

RC: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "legend.handlelength": 2.2,
    "legend.columnspacing": 1.4,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": SOFT,
    "axes.linewidth": 0.6,
    "axes.titlepad": 4,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "figure.facecolor": PAPER,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "grid.color": LINE,
    "grid.linewidth": 0.4,
    "lines.linewidth": 1.3,
    "lines.solid_capstyle": "round",
    "patch.linewidth": 0.6,
    "figure.constrained_layout.h_pad": 0.03,
    "figure.constrained_layout.w_pad": 0.03,
    "savefig.dpi": 200,
    # Text stays text: it can be searched and read aloud, and outlines of letters would be half of a page's bytes.
    "svg.fonttype": "none",
    # Names of clipping paths are drawn from this, not at random.
    "svg.hashsalt": "refnet",
}


@dataclass(frozen=True)
class Figure:
    """A figure of the study, not drawn yet.

    Attributes:
        name: of its files. problem: whose, or None. title: a few words.
        caption: what is seen. alt: the same for one who does not see it.
        draw: draws it, within `RC`: for a page, or narrow, for a column or a telephone.
    """

    name: str
    title: str
    caption: str
    alt: str
    draw: Callable[[bool], Canvas]
    problem: str | None = None


@dataclass(frozen=True)
class Absent:
    """A figure that this study does not have, and why."""

    title: str
    why: str


def colours(sizes: Sequence[int]) -> dict[int | None, str]:
    """A colour for each size of batch of a problem whose mini-batches have these sizes, ascending.

    The whole set is None, single samples are 1. One mini-batch alone has the middle colour.
    """
    import numpy as np

    stops = np.array([[int(colour[k : k + 2], 16) for k in (1, 3, 5)] for colour in MINI_BATCHES])
    places = np.linspace(0, len(stops) - 1, len(sizes)) if len(sizes) > 1 else np.array([1.0])
    mixed = np.stack([np.interp(places, np.arange(len(stops)), stops[:, c]) for c in range(3)], axis=-1)
    named = ["#{:02x}{:02x}{:02x}".format(*rgb) for rgb in np.rint(mixed).astype(int)]
    return {None: INK, **dict(zip(sizes, named[: len(sizes)], strict=True)), 1: STOCHASTIC}


def canvas(width: float, height: float) -> Canvas:
    from matplotlib.figure import Figure as Canvas

    return Canvas(figsize=(width, height), layout="constrained")


def panels(
    count: int, narrow: bool, *, height: float = 1.9, most: int = 4, share: bool = False
) -> tuple[Canvas, list[Axes]]:
    """A figure of `count` equal panels, in even rows of at most `most`, two if it is narrow; `height` is that of a row.

    If the panels share their axes, upright labels stand at the first of each row alone.
    """
    rows = -(-count // min(most, 2 if narrow else most))
    columns = -(-count // rows)
    width = NARROW if narrow else max(NARROW, min(WIDE, 0.3 + 1.675 * columns))
    figure = canvas(width, 0.55 + height * rows)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=share, sharey=share).ravel()
    for place, panel in enumerate(axes):
        if share:
            # Below a panel that has none under it there would be no labels else.
            panel.tick_params(labelbottom=True)
        if place >= count:
            panel.set_axis_off()
    return figure, list(axes[:count])


def row(
    count: int, narrow: bool, *, height: float, width: float = WIDE, share: bool = True
) -> tuple[Canvas, list[Axes]]:
    """A figure of `count` panels side by side, or one below the other if it is narrow; `height` is that of a panel."""
    if narrow:
        figure = canvas(NARROW, 0.55 + height * count)
        return figure, list(figure.subplots(count, 1, squeeze=False, sharex=share, sharey=share).ravel())
    figure = canvas(width, 0.5 + height)
    return figure, list(figure.subplots(1, count, squeeze=False, sharex=share, sharey=share).ravel())


def line(colour: str, label: str, **options: Any) -> Line2D:
    """An entry of a legend."""
    from matplotlib.lines import Line2D

    return Line2D([], [], color=colour, label=label, **options)


def legend(figure: Canvas, entries: Sequence[Line2D]) -> None:
    """Above all axes, left to right, in as few and as even rows as the figure's width allows."""
    # At the legend's size of letters: a letter, and a sample of a line with the space around it.
    widths = [0.056 * len(str(entry.get_label())) + 0.46 for entry in entries]
    rows = next(
        rows
        for rows in range(1, len(entries) + 1)
        if sum(max(widths[c :: -(-len(entries) // rows)]) for c in range(-(-len(entries) // rows)))
        < figure.get_figwidth()
        or rows == len(entries)
    )
    columns = -(-len(entries) // rows)
    # matplotlib fills columns first.
    filled = [entries[k] for c in range(columns) for k in range(c, len(entries), columns)]
    figure.legend(handles=filled, loc="outside upper center", ncols=columns)


def by_size(sizes: Iterable[int | None]) -> list[int | None]:
    """Each once, from the whole set (None) down to single samples."""
    return sorted(set(sizes), key=lambda size: -math.inf if size is None else -size)


def logarithmic(axis: Axis, ends: tuple[float, float], most: int = 5) -> None:
    """A logarithmic axis between these ends with at most `most` labelled ticks, at round numbers."""
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    axes, horizontal = axis.axes, axis is axis.axes.xaxis
    (axes.set_xscale if horizontal else axes.set_yscale)("log")
    (axes.set_xlim if horizontal else axes.set_ylim)(ends)
    ticks = round_numbers(*ends, most)
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(FixedFormatter(labels(ticks)))
    axis.set_minor_locator(NullLocator())


def round_numbers(low: float, high: float, most: int) -> list[float]:
    """Up to `most` round numbers within a range of positive ones: powers of ten if it has two, else parts of them."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    if last - first >= 1:
        step = -(-(last - first + 1) // most)
        # So that 10^0 is among them, and equal ranges have equal ticks.
        powers = [k for k in range(first, last + 1) if k % step == 0]
        if len(powers) > 1:
            return [10.0**k for k in powers]
    for steps in ((1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)):
        numbers = [float(f"{s}e{k}") for k in range(first - 1, last + 1) for s in steps]
        inside = [number for number in numbers if low <= number <= high]
        if 3 <= len(inside) <= most:
            return inside
    from matplotlib.ticker import MaxNLocator

    locators = (MaxNLocator(parts, steps=[1, 2, 5, 10], min_n_ticks=1) for parts in range(most, 0, -1))
    even = ([float(tick) for tick in locator.tick_values(low, high) if low <= tick <= high] for locator in locators)
    return next(ticks for ticks in even if len(ticks) <= most)


def labels(ticks: Sequence[float]) -> list[str]:
    """Plain numbers where they are short, else powers of ten."""
    return [
        f"{tick:,.9g}".replace("-", "−") if tick == 0 or 1e-3 <= abs(tick) <= 1e3 else power(tick) for tick in ticks
    ]


def power(number: float) -> str:
    """Such as 10^-3 or 3·10^4, as mathematics."""
    if number == 0:
        return "0"
    sign, exponent = "-" if number < 0 else "", math.floor(math.log10(abs(number)) + 1e-9)
    factor = f"{abs(number) / 10.0**exponent:.9g}"
    return f"${sign}10^{{{exponent}}}$" if factor == "1" else rf"${sign}{factor}\cdot10^{{{exponent}}}$"


def extent(values: Iterable[Any], margin: float = 0.06) -> tuple[float, float]:
    """The range of the finite positive numbers among the arrays, a little wider on a logarithmic axis.

    0.1 to 1 if there are none.
    """
    import numpy as np

    flat = np.concatenate([np.ravel(np.asarray(v, dtype=float)) for v in values])
    flat = flat[np.isfinite(flat) & (flat > 0)]
    if not len(flat):
        return 0.1, 1.0
    low, high = math.log10(flat.min()), math.log10(flat.max())
    more = max(margin * (high - low), 0.02)
    return 10 ** (low - more), 10 ** (high + more)


class Drawn(NamedTuple):
    """A figure's SVG elements: as wide as a page, and narrow."""

    figure: Figure
    wide: str
    narrow: str


ABOUT: dict[str, dict[str, Any]] = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}
"""What a file says of its making: nothing, so that equal tables give equal bytes."""


def save(figure: Figure, folder: Path) -> Drawn:
    """Draw a figure into `folder`, as PNG and SVG under its name, and return its SVG elements.

    Equal tables give equal bytes.
    """
    files = _files(figure, narrow=False, kinds=("png", "svg"))
    for kind, content in files.items():
        write_bytes(folder / f"{figure.name}.{kind}", content)
    narrow = _files(figure, narrow=True, kinds=("svg",))
    return Drawn(figure, *(_element(svg) for svg in (files["svg"], narrow["svg"])))


def _files(figure: Figure, *, narrow: bool, kinds: Iterable[str]) -> dict[str, bytes]:
    import matplotlib

    with matplotlib.rc_context(RC):
        drawn = figure.draw(narrow)
        # Laid out once, not anew for each kind of file.
        if layout := drawn.get_layout_engine():
            layout.execute(drawn)
        drawn.set_layout_engine("none")
        files = {}
        for kind in kinds:
            buffer = io.BytesIO()
            drawn.savefig(buffer, format=kind, metadata=ABOUT[kind])
            files[kind] = _plain(buffer.getvalue()) if kind == "svg" else buffer.getvalue()
    return files


FONTS = b"'DejaVu Sans', Verdana, sans-serif"
"""For text of an SVG, where it is read without the first of them: Verdana's letters are as wide."""


def _plain(svg: bytes) -> bytes:
    """An SVG with the fonts that may stand in for ours, and with hundredths of a point: a printer shows no more, and
    they are half of a file."""
    return re.sub(rb' d="[^"]+', _rounded, svg.replace(b"'DejaVu Sans'", FONTS))


def _rounded(path: re.Match[bytes]) -> bytes:
    return re.sub(rb"(\.\d\d)\d+", rb"\1", path[0])


def _element(svg: bytes) -> str:
    return re.sub(r".*?(?=<svg)", "", svg.decode(), count=1, flags=re.DOTALL)
