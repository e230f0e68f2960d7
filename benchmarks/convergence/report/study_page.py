"""The page of a study: one HTML file, made of `study_page.html`, the sentences, the figures and the tables."""

from __future__ import annotations

import colorsys
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.convergence.arms import arms
from benchmarks.convergence.figures.course_figures import axes_of
from benchmarks.convergence.figures.style import DARK, Absent, Drawn, Figure
from benchmarks.convergence.problems import load
from benchmarks.convergence.recorded_study import RecordedStudy
from benchmarks.convergence.report import sentences
from benchmarks.convergence.report.sentences import number, percent, rate, reached, seconds
from benchmarks.convergence.study import RISE
from benchmarks.convergence.update_times import CORES
from parity.report.shell import html_page

if TYPE_CHECKING:
    from pandas import DataFrame

ASSETS = Path(__file__).parent

TABLES = {
    "problems": "the problems",
    "sweep": "every run of the sweep: its final training loss",
    "rates": "the rate chosen for each arm",
    "targets": "the target of each problem",
    "curves": "every final run at every checkpoint, on all axes",
    "bands": "the same, as median, 20% and 80% quantile over the runs",
    "times_to_target": "where each run came to the target",
    "summary": "each arm at its end, and its time to the target",
    "pairs": "differences between arms, seed by seed, with intervals",
    "path": "w and b of the straight line at the checkpoints",
    "surface": "the cost of the straight line: optimum and Hessian",
    "stability": "which rates descent on the straight line bears",
    "moments": "mean and deviation of w and b, exact and measured",
    "gradient_variance": "the variance of a batch's gradient, measured and predicted",
    "twin": "how far refnet and torch drift apart",
    "timing": "the time of an update, by batch size",
    "cost": "overhead and cost a sample, fitted to it",
    "rates_again": "the rates chosen with other last bits of the initial weights",
    "times_to_target_again": "where those runs came to the target",
    "summary_again": "each arm at its end, with other last bits",
    "pairs_again": "differences between arms, with other last bits",
}
"""What each file of the folder `tables` holds."""


@dataclass(frozen=True)
class Table:
    """A table of the page, its cells as they are shown."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Embedded:
    """A figure on the page, drawn for a wide and for a narrow one: class, SVG and width in inches of each."""

    figure: Figure
    drawings: Sequence[tuple[str, str, float]]


def build(
    study: RecordedStudy, drawn: Sequence[Drawn], absent: Sequence[Absent], files: Mapping[str, str] | None = None
) -> str:
    """The page with these figures. files: those of the tables, if they are not all NAME.csv."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    embedded = [_embedded(one) for one in drawn]
    svgs = [svg for one in drawn for svg in (one.wide, one.narrow)]
    colours = sorted({colour for svg in svgs for colour in re.findall(r"#[0-9a-f]{6}\b", svg)})
    body = environment.get_template("study_page.html").render(
        study=study,
        runs=int(study.frames["summary"]["seeds"].max()),
        pilots=study.frames["sweep"]["seed"].nunique(),
        timing=_timing(study),
        timed=any(map(study.timed, study.problems)),
        intervals=_intervals(study),
        left_out=_left_out(study),
        rise=RISE,
        steady=bool(study.frames["rates"]["largest_stable_rate"].notna().any()),
        engines=sentences.listed(sorted(set(study.frames["summary"]["engine"]))),
        short=sentences.survival(study),
        repeated=study.repeated is not None,
        glance=_glance(study),
        problems=[_problem(study, problem, embedded) for problem in study.problems],
        beside=[
            ("theory", "Theory beside it", _general(embedded, "gradient-variance", "moments"), _found(study, "theory")),
            ("twin", "The twin", _general(embedded, "twin"), _found(study, "twin")),
            ("cost", "What an update costs", _general(embedded, "cost"), _found(study, "cost")),
        ],
        absent=absent,
        tables={name: (words, (files or {}).get(name, f"{name}.csv")) for name, words in TABLES.items()},
        lengths={name: len(frame) for name, frame in study.frames.items()},
        facts=_facts(study.environment),
    )
    body, classes = as_classes(body)
    style = (ASSETS / "study_page.css").read_text(encoding="utf-8") + classes + _dark_rules(colours)
    title = f"Batch, mini-batch and stochastic gradient descent at {study.iterations:,} iterations"
    return html_page(title, body, style)


def _dark_rules(colours: Iterable[str]) -> str:
    """What the figures' colours become on a dark ground."""
    rules = "".join(f"    --x{colour[1:]}: {dark(colour)};\n" for colour in colours)
    return f"@media screen and (prefers-color-scheme: dark) {{\n  :root {{\n{rules}  }}\n}}\n"


def _timing(study: RecordedStudy) -> str:
    """How well the times could be measured."""
    times = study.frames["timing"]
    if times.empty:
        return "Wall-clock was not measured."
    known = int((times["unmeasured"] == "").sum())
    problems = [sentences.title(study, problem) for problem in study.problems if study.timed(problem)]
    return (
        "Wall-clock is measured apart from the runs: how long an update takes, which a run adds up. A time is "
        f"published if this process had at least {CORES:g} of a core and the rounds agree; {known:,} of {len(times):,} "
        "are. Seconds to the target are shown where those of all regimes are known: "
        f"{sentences.listed(problems) if problems else 'nowhere'}."
    )


def _intervals(study: RecordedStudy) -> str:
    """The coverage of the intervals."""
    pairs = study.frames["pairs"]
    known = pairs[pairs["low"].abs() < math.inf]
    if known.empty:
        return "There are too few runs for an interval, which takes six."
    return f"The intervals cover the true median with a probability of {sentences.coverage(known)}."


def _left_out(study: RecordedStudy) -> str:
    """What a study of fewer arms says less of."""
    every = sum(len(arms(load(problem), "full")) for problem in study.problems)
    here = sum(len(study.arms(problem)) for problem in study.problems)
    if here == every:
        return ""
    return (
        f"This study has {here} of the {every} arms that the full one has on these problems. Targets are the same, so "
        "that an arm comes to its target alike in both; but in the full one a size of batch that is missing here may "
        "come first, and with another number of runs other differences are told apart."
    )


def _general(embedded: Sequence[Embedded], *names: str) -> list[Embedded]:
    return [one for one in embedded if one.figure.name in names]


def _found(study: RecordedStudy, what: str) -> list[str]:
    return list({"theory": sentences.of_theory, "twin": sentences.of_twin, "cost": sentences.of_cost}[what](study))


def _problem(study: RecordedStudy, problem: str, embedded: Sequence[Embedded]) -> dict[str, Any]:
    return {
        "name": problem,
        "about": study.about(problem),
        "findings": list(sentences.of_problem(study, problem)),
        "figures": [one for one in embedded if one.figure.problem == problem and one.figure.name != "moments"],
        "tables": [_times(study, problem), _ends(study, problem), _rates(study, problem), _pairs(study, problem)],
    }


def _glance(study: RecordedStudy) -> Table:
    """For each problem the plain regimes that come first on each axis, and what they all end with."""
    axes = [axis for axis in sentences.UNITS if axis != "seconds" or any(map(study.timed, study.problems))]
    rows = []
    for problem in study.problems:
        measure, words = study.outcome(problem)
        show = percent if measure.endswith("accuracy") else number
        medians = [
            float(row[f"{measure}_median"]) for row in sentences.summary(study, problem, study.plain(problem)).values()
        ]
        rows.append(
            [
                sentences.title(study, problem),
                *(_first(study, problem, axis) for axis in axes),
                f"{words} {show(min(medians))} to {show(max(medians))}" if medians else "–",
            ]
        )
    return Table(
        "At a glance: the regime whose median comes to the target first, and the lowest and highest of all regimes’ "
        "medians at the end. ≈: the runs do not tell that regime apart from some other one.",
        ["problem", *(f"by {sentences.UNITS[axis]}" for axis in axes), f"after {study.iterations:,} updates"],
        rows,
    )


def _first(study: RecordedStudy, problem: str, axis: str) -> str:
    """The cell of a regime that comes first."""
    if axis == "seconds" and not study.timed(problem):
        return "not measured"
    if len(study.regimes(problem)) < 2:
        return "nothing to compare"
    lead = sentences.leader(study, problem, axis)
    return "no regime" if lead is None else f"{'≈ ' * bool(lead.level)}{lead.arm.name}: {_at(lead.median, axis)}"


def _at(value: float, axis: str) -> str:
    return seconds(value) if axis == "seconds" else number(value)


def _rows(frame: DataFrame, cells: Sequence[Callable[[Any], str]]) -> list[list[str]]:
    return [[cell(row) for cell in cells] for _, row in frame.iterrows()]


def _banded(row: Mapping[str, Any], name: str, show: Callable[[float], str]) -> str:
    """Median (low to high)."""
    median, low, high = (float(row[f"{name}_{part}"]) for part in ("median", "low", "high"))
    return f"{show(median)} ({show(low)} to {show(high)})" if median == median else "–"


def _times(study: RecordedStudy, problem: str) -> Table:
    frame = study.rows("summary", problem=problem)
    shown = list(axes_of(study, problem))
    names = {"update": "updates", "epoch": "epochs", "samples": "samples", "seconds": "time"}
    show = {"seconds": seconds}

    def cell(axis: str) -> Callable[[Any], str]:
        return lambda row: _banded(row, f"{axis}_to_target", reached(show.get(axis, number)))

    return Table(
        "To the target: median (20% to 80%) over the runs, those that miss it counted as later than all others.",
        ["arm", "engine", "runs at the target", *(names[axis] for axis in shown)],
        _rows(
            frame,
            [
                lambda row: row["arm"],
                lambda row: row["engine"],
                lambda row: "–" if row["reached"] != row["reached"] else percent(row["reached"]),
                *map(cell, shown),
            ],
        ),
    )


def _ends(study: RecordedStudy, problem: str) -> Table:
    frame = study.rows("summary", problem=problem)
    measures = {
        "train_loss": ("training loss", number),
        "train_accuracy": ("training accuracy", percent),
        "test_loss": ("held-out loss", number),
        "test_accuracy": ("held-out accuracy", percent),
    }
    measures = {name: how for name, how in measures.items() if frame[f"{name}_median"].notna().any()}

    def cell(name: str) -> Callable[[Any], str]:
        return lambda row: _banded(row, name, measures[name][1])

    return Table(
        f"After {study.iterations:,} updates: median (20% to 80%) over the runs.",
        ["arm", "engine", *(words for words, _ in measures.values()), "diverged"],
        _rows(
            frame,
            [
                lambda row: row["arm"],
                lambda row: row["engine"],
                *map(cell, measures),
                lambda row: f"{int(row['diverged'])} of {int(row['seeds'])}",
            ],
        ),
    )


def _rates(study: RecordedStudy, problem: str) -> Table:
    return Table(
        "The learning rate of each arm, chosen as told above, and the median final training loss of its pilot runs.",
        ["arm", "rate", "largest stable rate", "median final training loss", "grid", "inside it"],
        _rows(
            study.rows("rates", problem=problem),
            [
                lambda row: row["arm"],
                lambda row: rate(row["rate"]),
                lambda row: "–" if math.isnan(row["largest_stable_rate"]) else rate(row["largest_stable_rate"]),
                lambda row: number(row["median_final_train_loss"]),
                lambda row: f"{rate(row['lowest_rate_tried'])} to {rate(row['highest_rate_tried'])}",
                lambda row: "yes" if row["inside"] else "no",
            ],
        ),
    )


def _pairs(study: RecordedStudy, problem: str) -> Table:
    frame = study.rows("pairs", problem=problem)
    frame = frame[frame["measure"].isin(["train_loss", study.outcome(problem)[0]])]
    # The full batch is what a full batch of a decaying rate is compared with twice.
    frame = frame.drop_duplicates(["arm", "other", "engine", "measure"])

    def show(row: Any, part: str) -> str:
        value = float(row[part])
        finite = value - value == 0
        return sentences.points(value) if row["measure"].endswith("accuracy") and finite else number(value)

    words = {"train_loss": "training loss", study.outcome(problem)[0]: study.outcome(problem)[1]}
    return Table(
        "Differences at the end, seed by seed: median and interval.",
        ["arm", "minus", "engine", "of", "median", "interval", "pairs", "lower / higher"],
        _rows(
            frame,
            [
                lambda row: row["arm"],
                lambda row: row["other"],
                lambda row: row["engine"],
                lambda row: words[row["measure"]],
                lambda row: show(row, "median"),
                lambda row: f"{show(row, 'low')} to {show(row, 'high')}",
                lambda row: f"{row['n']}",
                lambda row: f"{row['below']} / {row['above']}",
            ],
        ),
    )


def _facts(environment: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Nested values too, under their names in turn."""
    facts = []
    for name, value in environment.items():
        if isinstance(value, dict):
            facts += [(f"{name}: {inner}", words) for inner, words in _facts(value)]
        else:
            facts.append((name, sentences.listed(map(str, value)) if isinstance(value, list) and value else str(value)))
    return facts


def _embedded(drawn: Drawn) -> Embedded:
    from markupsafe import Markup

    drawings = []
    for kind, svg in (("wide", drawn.wide), ("narrow", drawn.narrow)):
        width = re.search(r'<svg[^>]* width="([\d.]+)pt"', svg)
        if width is None:
            raise ValueError(f"{drawn.figure.name}.svg: expected a width in points, got {svg[:200]!r}")
        drawings.append((kind, Markup(inline(svg, f"{drawn.figure.name}.{kind}")), float(width[1]) / 72))
    return Embedded(drawn.figure, drawings)


def inline(svg: str, name: str) -> str:
    """A figure's SVG as an element of a page that has others: with names of its own, without metadata, and with
    colours that a dark page may replace."""
    svg = re.sub(r"<metadata>.*?</metadata>\s*|<style.*?</style>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r' (width|height)="[^"]*pt"', "", svg, count=2)
    svg = re.sub(r": #([0-9a-f]{6})\b", r": var(--x\1, #\1)", svg)
    return re.sub(r'( id="|href="#|url\(#)', rf"\1{name}.", svg)


def as_classes(body: str) -> tuple[str, str]:
    """A page in which each style of its SVGs stands once, as a class, and the rules of these classes. Thousands of
    marks have the same few styles, which would be a third of the page."""
    names: dict[str, str] = {}

    def named(style: re.Match[str]) -> str:
        return f' class="{names.setdefault(style[1], f"v{len(names)}")}"'

    def drawing(svg: re.Match[str]) -> str:
        return re.sub(r' style="([^"]*)"', named, svg[0])

    body = re.sub(r"<svg.*?</svg>", drawing, body, flags=re.DOTALL)
    return body, "".join(f".{name} {{ {style} }}\n" for style, name in names.items())


def dark(colour: str) -> str:
    """What stands for a colour on a dark ground: if nothing else is said, the same hue, light for dark."""
    if colour in DARK:
        return DARK[colour]
    hue, lightness, saturation = colorsys.rgb_to_hls(*(int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)))
    rgb = colorsys.hls_to_rgb(hue, 1 - 0.9 * lightness, saturation)
    return "#{:02x}{:02x}{:02x}".format(*(round(255 * channel) for channel in rgb))
