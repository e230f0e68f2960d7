"""Results as tables for a terminal."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich import progress as bars
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from parity.report.report import digits, share
from parity.run.results import CaseResult, Comparison, Results, Summary, total
from parity.verdict.tensor import TensorVerdict

STYLES = {
    "exact": "green",
    "rounding": "green",
    "unstable": "yellow",
    "convention": "cyan",
    "imprecise": "bold yellow",
    "blind": "magenta",
    "undecided": "magenta",
    "unsupported": "dim",
    "FAIL": "bold red",
}

LEGEND = """\
exact: the correctly rounded truth in every element. rounding: within the derived budget.
unstable: within that of a weaker formula; convention: another documented choice; both are named below.
blind: zeros would pass too, or some element has no bound: this record proves nothing of the tensor.
digits: of accuracy, of the tensor's largest element. ulps: largest elementwise error.
budget: largest share of one that was used, 1 is the limit. sees: the largest budget over the largest element, of the
formula that accepts the tensor. dtype: how the engine says that it computes.
bits: tensors of the group with the same bits as the first engine's.
grid: inputs on which sums and products are exact in any order; full: inputs that use every bit of the dtype."""


FAILURES = 40
"""This many failures are told in words; the table and the files have them all."""

REASONS = 4
"""The most lines in which an engine's reasons for not answering are told."""

Line = tuple[CaseResult, TensorVerdict | None, Comparison | None]

HEADINGS = ("dtype", "engine", "verdict", "digits", "ulps", "budget", "sees", "bits")
WORDS = 3
"""The number of headings, from the first, that are words: those columns are flush left."""

WIDE = 100
"""From this width on, a case and its tensor stand beside their figures; else above them."""


def standard_output() -> Console:
    """Standard output."""

    class Pipe(Console):
        def on_broken_pipe(self) -> None:
            # The reader of a pipe has gone: nothing more to flush. The shell's code for that, as 1 means a failure.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(141)

    # A pipe has no width of its own, unless the environment names one.
    own = sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdecimal()
    return Pipe(width=None if own else 120, highlight=False, markup=False, emoji=False)


@contextmanager
def progress(
    what: str, total: int | None = None, about: str = ""
) -> Iterator[tuple[Callable[[int], None], Callable[[], None]]]:
    """How far the work is, on standard error: a bar, or, where that is no terminal, a line now and then.

    Gives what is told how many steps there are, and what is called after each. `about` says first what is to be done
    and how long that may take; a terminal shows it in the bar's own figures.
    """
    errors = Console(stderr=True)
    if not errors.is_terminal:
        lines = PlainProgress(what, total, about)
        yield lines.start, lines.done
        return
    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TimeElapsedColumn(),
        bars.TimeRemainingColumn(),
    )
    with bars.Progress(*columns, console=errors, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda n: bar.update(task, total=n), lambda: bar.advance(task)


class PlainProgress:
    """Progress in lines of text, at most one in EVERY seconds."""

    EVERY = 15.0

    def __init__(self, what: str, total: int | None, about: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.what, self.total, self._clock = what, total, clock
        self._steps = 0
        self._begun = self._told = clock()
        if about:
            self._tell(about)

    def start(self, total: int) -> None:
        """How many steps there are."""
        self.total = total

    def done(self) -> None:
        """A step is done."""
        self._steps += 1
        now = self._clock()
        if now - self._told < self.EVERY or self._steps == self.total:
            return
        self._told, passed = now, now - self._begun
        text = f"{self._steps}{f' of {self.total}' if self.total else ''} after {passed:.0f} s"
        # What takes long comes first: from a few steps nothing follows.
        if self.total and self.total / 20 <= self._steps < self.total:
            text += f", about {passed / self._steps * (self.total - self._steps):.0f} s left"
        self._tell(f"{self.what}: {text}")

    def _tell(self, text: str) -> None:
        print(f"parity: {text}", file=sys.stderr, flush=True)


def show(results: Results, verbose: bool) -> None:
    """Print what a run found."""
    out = standard_output()
    out.print(table(results, verbose, out.width))
    out.print()
    out.print(LEGEND, style="dim")
    out.print()
    if not results.conforms or (verbose and any(not case.conforms for case in results.cases)):
        out.print(failures(results, None if verbose else FAILURES), soft_wrap=True)
        out.print()
    out.print(notes(results), soft_wrap=True)
    out.print(summary(results), soft_wrap=True)


def table(results: Results, verbose: bool = False, width: int = WIDE) -> Table | Group:
    """A line for each group of cases, dtype and engine: its worst tensor; or, verbose, a line for each tensor."""
    lines = list(_all(results) if verbose else _worst(results))
    return _beside(lines) if width >= WIDE else _above(lines)


def _beside(lines: Sequence[Line]) -> Table:
    made = Table(header_style="bold", box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in ("case", "tensor"):
        made.add_column(heading, overflow="fold")
    for k, heading in enumerate(HEADINGS):
        made.add_column(heading, justify="left" if k < WORDS else "right", no_wrap=True)
    group = ""
    for case, verdict, bits in lines:
        if case.group != group:
            group = case.group
            made.add_row(Text(group, "bold"))
        made.add_row(Text(f"  {_place(case)}"), Text(verdict.name if verdict else ""), *_figures(case, verdict, bits))
    return made


def _above(lines: Sequence[Line]) -> Group:
    rows = [_figures(*line) for line in lines]
    widths = [max(len(cell) for cell in column) for column in zip(map(Text, HEADINGS), *rows, strict=True)]

    def laid_out(cells: Sequence[Text]) -> Text:
        line = Text("    ")
        for k, (cell, width) in enumerate(zip(cells, widths, strict=True)):
            space = Text(" " * (width - len(cell)))
            line += (cell + space if k < WORDS else space + cell) + Text(" ")
        line.rstrip()
        return line

    made = [laid_out([Text(heading, "bold") for heading in HEADINGS])]
    before, group = "", ""
    for (case, verdict, _), row in zip(lines, rows, strict=True):
        if case.group != group:
            group, before = case.group, ""
            made.append(Text(group, "bold"))
        place = f"  {_place(case)}" + (f": {verdict.name}" if verdict else "")
        if place != before:
            before = place
            made.append(Text(place))
        made.append(laid_out(row))
    return Group(*made)


def _all(results: Results) -> Iterator[Line]:
    for case in results.cases:
        for verdict in case.verdicts or (None,):
            yield case, verdict, case.comparison


def _worst(results: Results) -> Iterator[Line]:
    groups: dict[tuple[str, str, str], list[CaseResult]] = {}
    for case in results.cases:
        groups.setdefault((case.group, case.dtype, case.engine), []).append(case)
    for cases in groups.values():
        # What an engine does not answer says nothing about what it does answer.
        judged = [case for case in cases if not case.unsupported] or cases
        worst = max(judged, key=lambda c: c.severity)
        yield worst, worst.worst_tensor, total(cases)


def _place(case: CaseResult) -> str:
    """A case under the heading of its group."""
    return f"{case.case.removeprefix(f'{case.group}/')}, {case.family}"


def _figures(case: CaseResult, verdict: TensorVerdict | None, comparison: Comparison | None) -> list[Text]:
    """What stands under HEADINGS."""
    said = case.verdict if verdict is None else verdict.verdict
    figures, of = ["", "", "", ""], ""
    if verdict is not None:
        sees = "all" if verdict.detection_limit == 0 else _short(verdict.detection_limit)
        figures = [digits(verdict.digits), _short(verdict.ulps), share(verdict.share), sees]
        of = f", {verdict.coverage.partition(' elements')[0]}" if verdict.coverage else ""
    same = "" if comparison is None else f"{comparison.same_bits}/{comparison.tensors}"
    return [
        *map(Text, (case.profile or case.dtype, case.engine)),
        Text(f"{said}{of}", STYLES[said]),
        *map(Text, (*figures, same)),
    ]


def failures(results: Results, limit: int | None = None) -> Group:
    """Failures in words: each of them; or the first `limit` that no finding explains, and the number of the others."""
    failing = [(case, v) for case in results.cases for v in _bad(case) if not case.finding or limit is None]
    lines: list[RenderableType] = []
    for case, verdict in failing[:limit]:
        head = f"{case.engine}: {case.case} ({case.family}, {case.dtype}), {verdict.name}"
        lines.append(Text(f"{verdict.verdict} {head}", STYLES[verdict.verdict]))
        worst = f"; at worst {share(verdict.share)} budgets" if math.isfinite(verdict.share) else ""
        lines.append(Text(f"     {verdict.reason}{worst}"))
        if verdict.name == "answer":
            lines += [Text(f"     {line}", "dim") for line in case.traceback.splitlines()]
            lines.append(Text(f"     this record alone: {case.command}"))
        if verdict is _bad(case)[-1]:
            lines += [Text(f"     consistent with: {d}") for d in case.diagnosis]
    if limit is not None and len(failing) > limit:
        lines.append(Text(f"... and {len(failing) - limit} more: all of them with --verbose or --json FILE"))
    return Group(*lines)


def _bad(case: CaseResult) -> list[TensorVerdict]:
    """The tensors that speak against the engine."""
    return [v for v in case.verdicts if not v.ok and v.verdict != "blind"]


def notes(results: Results) -> Group:
    """What else is to be said, once for all engines and dtypes of which it is true: named, unless they are all."""
    found: dict[tuple[str, str], dict[str, None]] = {}
    everyone = {_who(case) for case in results.cases}
    for case in results.cases:
        for note in case.notes:
            found.setdefault((case.case, note), {})[_who(case)] = None
    return Group(
        *(
            Text(f"{name}: {note}" + (f" ({', '.join(who)})" if who.keys() != everyone else ""), "dim")
            for (name, note), who in found.items()
        )
    )


def _who(case: CaseResult) -> str:
    return f"{case.engine} {case.dtype}"


def summary(results: Results) -> Group:
    """The engines' totals and the conclusion."""
    return Group(
        *(line for engine in results.engines for line in _summary(results.summary(engine), results.engines[0]))
    )


def _summary(s: Summary, first: str) -> Iterator[Text]:
    counts = ", ".join(f"{n} {name}" for name, n in s.verdicts.items() if n)
    judged = f"{_many(s.records, 'record')} of {_many(s.cases, 'case')}, {_many(s.tensors, 'tensor')}: {counts}"
    part = (
        f"{s.judged} of {_many(s.records, 'record')} ({percent(s.coverage)}), in {s.classes_judged} of "
        f"{s.classes} {'class' if s.classes == 1 else 'classes'}, {_many(s.tensors, 'tensor')}: {counts}"
    )
    unproved = f"; nothing is proved of {', '.join(s.unseen)}" if s.unseen else ""
    known = ", each a known finding (docs/findings.md), and conforms on the others" if s.conforms and s.known else ""
    if not s.judged:
        yield _line(s.engine, f"answers none of {_many(s.records, 'record')}")
    elif s.unsupported and s.conforms and not s.known:
        yield _line(s.engine, f"conforms on {part}")
    elif s.unseen and not s.failed:
        yield _line(s.engine, f"is not judged throughout: {part}{unproved}")
    elif s.unsupported:
        yield _line(s.engine, f"FAILS in {s.failed}{known}, judged on {part}")
    elif s.conforms and not s.known:
        yield _line(s.engine, f"conforms on all {judged}")
    else:
        yield _line(s.engine, f"FAILS in {s.failed}{known + ',' if known else ''} of {judged}")
    if s.sampled:
        yield _line("", f"of {s.sampled} of these tensors some elements are judged, as --verbose and --json say")
    for finding, n in s.findings.items():
        yield _line("", f"{_many(n, 'record')}: {finding}")
    if s.verdicts.get("blind") and not s.unseen:
        yield _line("", f"{_many(s.verdicts['blind'], 'tensor')} blind, each of which another record of its class sees")
    yield from _unsupported(s)
    for formula, n in s.formulas.items():
        yield _line("", f"{_many(n, 'tensor')} by: {formula}")
    if s.largest_share_at:
        yield _line(
            "", f"largest share of a budget that a right result used: {share(s.largest_share)} ({s.largest_share_at})"
        )
    if s.weaker_share_at:
        yield _line("", f"likewise where it uses a weaker formula: {share(s.weaker_share)} ({s.weaker_share_at})")
    if c := s.comparison:
        due = f"; where every right engine has the same values: {c.identical} of {c.due}" if c.due else ""
        yield _line("", f"same bits as {first}: {c.same_bits} of {c.tensors} tensors{due}")


def _unsupported(s: Summary) -> Iterator[Text]:
    """The most frequent reasons, a line each, and the number of the others."""
    reasons = sorted(s.reasons.items(), key=lambda item: -item[1])
    shown = reasons if len(reasons) <= REASONS else reasons[: REASONS - 1]
    for reason, n in shown:
        yield _line("", f"{_many(n, 'record')} unsupported: {reason}")
    if rest := reasons[len(shown) :]:
        records = _many(sum(n for _, n in rest), "record")
        yield _line("", f"{records} unsupported for {len(rest)} other reasons: all of them with --json FILE")


def uncovered(results: Results, required: float) -> Group:
    """The engines that were judged on less than this percentage of the records."""
    summaries = [results.summary(name) for name in results.engines]
    return Group(
        *(
            _line(s.engine, f"is judged on {percent(s.coverage)} of the records, {required:g}% is required")
            for s in summaries
            if s.coverage < required
        )
    )


def percent(value: float) -> str:
    """Rounded down: only all is 100%."""
    return f"{math.floor(10 * value) / 10:g}%"


def _many(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _line(engine: str, text: str) -> Text:
    return Text.assemble((engine, "bold"), f" {text}" if engine else f"  {text}")


def _short(value: float) -> str:
    if value == 0:
        return "0"
    if value == math.inf:
        return "inf"
    return f"{value:.1f}" if 0.05 <= value < 1000 else f"{value:.0e}"
