"""The yardstick's own score as a table for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from parity.report.console import standard_output
from parity.report.report import share
from parity.verdict.score import Score, Scores


def show(scores: Scores, each: bool, reported: Sequence[Any] = ()) -> None:
    """Print the totals; and, if each mistake was made in every case, a line for each, and by how much it was caught; or
    a line for each publicly documented bug."""
    out = standard_output()
    if reported:
        out.print(table_of_reports(scores, reported))
        out.print(summary_of_reports(scores, reported), soft_wrap=True)
    elif each:
        out.print(table(scores))
    out.print(summary(scores, each), soft_wrap=True)


def table_of_reports(scores: Scores, reported: Sequence[Any]) -> Table:
    """A line for each publicly documented bug: what was wrong, and how it is told."""
    made = Table(header_style="bold", box=None, padding=(0, 1))
    for heading in ("documented bug", "report", "told by", ""):
        made.add_column(heading, overflow="fold")
    for report in reported:
        said = _told(report, scores)
        style = "bold red" if said == "not caught" else ""
        made.add_row(report.wrong, report.report, "; ".join(report.names), said, style=style)
    return made


def _told(report: Any, scores: Scores) -> str:
    """What was found of the mistakes that a bug is told by; and how else it is told."""
    if report.how != "seeded":
        return str(report.how)
    found = {s.fault.name: s for s in scores.faults}
    if not any(name in found for name in report.names):
        return "in no case"
    return "caught" if any(found[name].caught for name in report.names if name in found) else "not caught"


def summary_of_reports(scores: Scores, reported: Sequence[Any]) -> str:
    """How many bugs there are of each kind."""
    said = [_told(report, scores) for report in reported]
    seeded, caught = sum(report.how == "seeded" for report in reported), said.count("caught")
    return (
        f"{len(reported)} publicly documented bugs: {seeded} seeded in refnet, {caught} of them caught in these cases; "
        f"{said.count('tested')} programs that the project's tests show failing; {said.count('convention')} documented "
        f"conventions; {said.count('harmless')} reports of no bug; {said.count('out of scope')} out of scope, "
        f"{said.count('not yet')} not yet"
    )


def table(scores: Scores) -> Table:
    """A line for each mistake, the least caught first, then one for each rewriting."""
    made = Table(header_style="bold", box=None, padding=(0, 1))
    for heading, justify in (
        ("mistake", "left"),
        ("caught", "right"),
        ("budgets", "right"),
        ("most revealing", "left"),
    ):
        made.add_column(heading, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for score in sorted(scores.faults, key=lambda s: (s.share, s.fault.name)):
        style = "" if score.caught else "bold red"
        budgets = "exact" if _beyond_share(score) else share(score.share)
        made.add_row(score.fault.name, f"{score.caught}/{score.tried}", budgets, _place(score), style=style)
    made.add_section()
    for score in sorted(scores.rewritings, key=lambda s: (-s.share, s.fault.name)):
        style = "bold red" if score.caught else "dim"
        made.add_row(
            f"harmless: {score.fault.name}",
            f"{score.caught}/{score.tried}",
            share(score.share),
            _place(score),
            style=style,
        )
    return made


def summary(scores: Scores, each: bool = True) -> Group:
    """The totals, and what they rest on."""
    measured = [s for s in scores.faults if s.caught and not _beyond_share(s)]
    beyond = [s for s in scores.faults if s.caught and _beyond_share(s)]
    least = min(measured, key=lambda s: s.share, default=None)
    lines = [
        Text.assemble(
            ("the yardstick itself", "bold"),
            f": {scores.caught} of {len(scores.faults)} known mistakes caught, "
            f"{scores.flagged} of {len(scores.rewritings)} harmless rewritings flagged ({scores.dtype})"
            + (f"; mistakes that can't be made in these cases: {scores.unmade}" if scores.unmade else ""),
        )
    ]
    if least and each:
        lines.append(
            Text(
                f"  in its most revealing case and element each is caught by at least {share(least.share)} budgets "
                f"({least.fault.name})"
                + (f"; {len(beyond)} are caught by NaN, a shape or a missed exact result" if beyond else "")
            )
        )
    used = max(scores.rewritings, key=lambda s: s.share, default=None)
    if used:
        lines.append(
            Text(f"  the largest share of a budget that a rewriting used: {share(used.share)} ({used.fault.name})")
        )
    lines += [Text(f"  not caught: {names}") for names in [_names(s for s in scores.faults if not s.caught)] if names]
    lines += [Text(f"  flagged: {names}") for names in [_names(s for s in scores.rewritings if s.caught)] if names]
    return Group(*lines)


def _beyond_share(score: Score) -> bool:
    """Caught, and only where no share can be measured."""
    return score.caught > 0 and score.share <= 1


def _place(score: Score) -> str:
    return f"{score.case}, {score.family}, {score.tensor}" if score.case else "in no case"


def _names(scores: Iterable[Score]) -> str:
    return ", ".join(s.fault.name for s in scores)
