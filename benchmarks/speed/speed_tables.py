"""Results as tables for a terminal, and as rows for files."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Group
from rich.table import Table
from rich.text import Text

from benchmarks.speed.contenders import CAPTURED, ENSEMBLE, LIMIT
from benchmarks.speed.cost_growth import OF, Point
from benchmarks.speed.floors import Finding
from benchmarks.speed.networks import STUDY
from benchmarks.speed.timed_rounds import AGREEMENT, COMPARED, Outcome, ratios
from benchmarks.speed.whole_training import WholeTraining

LEGEND = f"""\
us: microseconds of a training's step: forward, loss, backward, update, on the same full batch each time.
limit, refnet: how many times as long as the matrix products alone, and as refnet-captured (refnet-ensemble where
many are trained). All are medians of the rounds, ratios taken within a round; (least to most).
differs: from refnet-plain in weights and loss after {COMPARED} or more updates, relative to a tensor's largest change;
above {AGREEMENT["float64"]:g} in float64 or {AGREEMENT["float32"]:g} in float32 it is not comparable.
start: seconds to build it and make the first step, compiling included.
call: milliseconds that a call costs beside its steps (checks, recording, translating). us includes its share of them,
in a training of {STUDY:,} updates or what the note says; alone is us without that share.
cores: processor seconds in a second. More than the threads: others were at work for it; less: it was kept waiting."""

STYLES = {"not installed": "dim", "unsupported": "yellow", "not comparable": "bold red"}


def figure(value: float) -> str:
    """Three digits, and all of those before the point."""
    if math.isnan(value):
        return ""
    places = 2 - math.floor(math.log10(abs(value))) if value else 0
    return f"{value:,.{max(0, places)}f}"


def spread(values: NDArray[np.float64]) -> str:
    """Least and most."""
    return f"({figure(float(values.min()))} to {figure(float(values.max()))})"


def _table(*columns: str) -> Table:
    made = Table(header_style="bold", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for k, column in enumerate(columns):
        made.add_column(column, justify="right" if k else "left", no_wrap=True)
    return made


def speed(outcomes: Sequence[Outcome]) -> Group:
    """One network: a line for each contender, and below them why some have no figures."""
    network = outcomes[0].network
    named = {outcome.contender.name: outcome for outcome in outcomes}
    limit, own = named.get(LIMIT.name), named.get((ENSEMBLE if network.many else CAPTURED).name)
    made = _table("  contender", "us", "", "limit", "refnet", "differs", "start", "call", "alone", "cores")
    notes = []
    for outcome in outcomes:
        name = outcome.contender.name
        if outcome.status != "measured":
            made.add_row(f"  {name}", Text(outcome.status, STYLES[outcome.status]))
            notes.append(f"  {name} is {outcome.status}: {outcome.reason}")
            continue
        if outcome.reason:
            notes.append(f"  {name}: {outcome.reason}")
        made.add_row(
            f"  {name}",
            figure(outcome.median * 1e6),
            spread(outcome.seconds * 1e6),
            figure(_middle(outcome, limit)),
            figure(_middle(outcome, own)),
            _differs(outcome),
            f"{outcome.set_up:.2f}",
            figure(outcome.call * 1e3),
            figure(outcome.alone * 1e6),
            f"{outcome.cores:.2f}",
        )
    head = f"{network.title}, {network.dtype}" + ": for a training's step" * network.many
    return Group(Text(head, "bold"), made, *(Text(note, "dim") for note in notes), Text())


def _middle(over: Outcome, under: Outcome | None) -> float:
    """The median of the rounds' ratios, NaN if there is none."""
    found = ratios(over, under) if under else np.empty(0)
    return float(np.median(found)) if found.size else math.nan


def _differs(outcome: Outcome) -> str:
    if math.isnan(outcome.difference):
        return ""
    return "same bits" if outcome.same_bits else f"{outcome.difference:.0e}"


def trainings(found: Sequence[WholeTraining]) -> Group:
    """A table of whole trainings in a fresh process, one of what comes after the loading, and one of as many updates
    once more: a line a network."""
    made: list[Any] = []
    for what, words in (
        ("fresh", "in a fresh process: its start, loading, building, compiling and all updates"),
        ("loaded", "with the libraries loaded: building, compiling and all updates"),
        ("again", "once more in the same process"),
    ):
        names = list(dict.fromkeys(one.contender for one in found))
        # (the spread of the rounds is in trainings.csv: beside the medians there is no room for it)
        table = _table("  network", "updates", *(f"{name}, s" for name in names))
        for network in dict.fromkeys(one.network for one in found):
            cells: list[str] = []
            updates = max(one.updates for one in found if one.network == network)
            for one in (one for one in found if one.network == network):
                values = getattr(one, what)
                cells.append(figure(float(np.median(values))) if one.measured else "")
            table.add_row(f"  {network.name}", f"{updates:,}", *cells)
        made += [Text(f"A training {words}", "bold"), table, Text()]
    notes = [f"{one.contender} on {one.network.name}: {one.reason}" for one in found if one.reason]
    return Group(*made, *(Text(f"  {note}", "dim") for note in notes))


def training_rows(found: Sequence[WholeTraining]) -> Iterator[dict[str, Any]]:
    """A row for each contender on each network; seconds of a whole training."""
    nothing = np.empty(0)
    for one in found:
        yield {
            "network": one.network.name,
            "batch": one.network.batch,
            "dtype": one.network.dtype,
            "updates": one.updates,
            "contender": one.contender,
            **_spread("fresh", one.fresh if one.measured else nothing),
            **_spread("loaded", one.loaded if one.measured else nothing),
            **_spread("again", one.again if one.measured else nothing),
            "rounds": len(one.fresh),
            "cores": _known(one.cores),
            "loss": _known(one.loss),
            "reason": one.reason,
        }


def busy(cores: float) -> str:
    return (
        f"The machine was busy with something else: this process had {cores:.2f} of a core while it worked. "
        "Its ratios are worth less than those of a quiet machine, and its times nothing."
    )


def growth(points: Sequence[Point]) -> Group:
    """A table for each axis: a line for each value, columns for each contender."""
    made: list[Any] = []
    for axis in dict.fromkeys(point.axis for point in points):
        here = [point for point in points if point.axis == axis]
        names = list(dict.fromkeys(point.contender for point in here))
        remembers = any(not math.isnan(point.memory) for point in here)
        table = _table(
            f"  {axis}", *(c for name in names for c in (f"{name}, ms", "", "power", "KiB")[: 3 + remembers])
        )
        for value in dict.fromkeys(point.value for point in here):
            cells = []
            for point in (p for p in here if p.value == value):
                if not point.seconds.size:
                    cells += [point.reason, "", "", ""][: 3 + remembers]
                    continue
                cells += [figure(point.median * 1e3), spread(point.seconds * 1e3), figure(point.exponent)]
                cells += [figure(point.memory / 1024)] * remembers
            table.add_row(f"  {value:,}", *cells)
        made += [Text(f"growth with {axis}: {OF[axis]}", "bold"), table, Text()]
    made.append(
        Text(
            "power: p of time ~ value^p from the value above. KiB: the most that a call held at once, beside network, "
            "data and losses.",
            "dim",
        )
    )
    return Group(*made)


def floors(found: Sequence[Finding]) -> Table:
    """What was asked, what was found, met or not."""
    made = _table("network", "time of", "over that of", "asked", "ratio", "", "")
    for column in (1, 2, 3, 6):
        made.columns[column].justify = "left"
    for finding in found:
        floor = finding.floor
        if not finding.ratios.size or finding.met is None:
            verdict = Text(finding.reason, "yellow")
        else:
            verdict = Text("met", "green") if finding.met else Text(f"not met {finding.reason}".strip(), "bold red")
        ratio = [figure(float(np.median(finding.ratios))), spread(finding.ratios)] if finding.ratios.size else ["", ""]
        made.add_row(floor.network, floor.over, floor.under, floor.says, *ratio, verdict)
    return made


def speed_rows(outcomes: Sequence[Outcome]) -> Iterator[dict[str, Any]]:
    """A row for each contender on each network; times in seconds."""
    limits = {outcome.network: outcome for outcome in outcomes if outcome.contender is LIMIT}
    for outcome in outcomes:
        network = outcome.network
        limit = limits.get(network)
        yield {
            "network": network.name,
            "batch": network.batch,
            "trainings": network.trainings,
            "many": network.many,
            "dtype": network.dtype,
            "multiplications": network.multiplications,
            "contender": outcome.contender.name,
            "about": outcome.contender.about,
            "status": outcome.status,
            "reason": outcome.reason,
            "differs": _known(outcome.difference),
            "same_bits": outcome.same_bits,
            "start": _known(outcome.set_up),
            "warm_up": _known(outcome.warm_up),
            "call": _known(outcome.call),
            "alone": _known(outcome.alone),
            "steps": outcome.steps,
            "cores": _known(outcome.cores),
            "rounds": len(outcome.seconds),
            **_spread("seconds", outcome.seconds),
            **_spread("limit", ratios(outcome, limit) if limit else np.empty(0)),
        }


def growth_rows(points: Sequence[Point]) -> Iterator[dict[str, Any]]:
    for point in points:
        yield {
            "axis": point.axis,
            "value": point.value,
            "of": OF[point.axis],
            "contender": point.contender,
            **_spread("seconds", point.seconds),
            "power": _known(point.exponent),
            "bytes": _known(point.memory),
            "reason": point.reason,
        }


def floor_rows(found: Sequence[Finding]) -> Iterator[dict[str, Any]]:
    for finding in found:
        floor = finding.floor
        yield {
            "network": floor.network,
            "over": floor.over,
            "under": floor.under,
            "asked": floor.says,
            **_spread("ratio", finding.ratios),
            "met": finding.met,
            "reason": finding.reason,
        }


def _spread(name: str, values: NDArray[np.float64]) -> dict[str, float | None]:
    if not values.size:
        return {name: None, f"{name}_least": None, f"{name}_most": None}
    return {name: float(np.median(values)), f"{name}_least": float(values.min()), f"{name}_most": float(values.max())}


def _known(value: float) -> float | None:
    """None stands for NaN, which JSON has not."""
    return None if math.isnan(value) else value
