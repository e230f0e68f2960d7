"""What became of refnet's mutants, as a table for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from parity.report.console import percent, standard_output
from parity.run.mutating import Survival


def show(found: Sequence[Survival], of: str = "class") -> None:
    """Print a line for each class, or module, then those that survived and the excused, and the totals."""
    out = standard_output()
    made = Table(header_style="bold", box=None, padding=(0, 1))
    made.add_column(of)
    for heading in ("mutants", "killed", "survived", "excused", "share"):
        made.add_column(heading, justify="right")
    for s in found:
        figures = (s.count, len(s.killed), len(s.survived), len(s.excused), percent(100 * s.share))
        made.add_row(s.type, *map(str, figures), style="" if s.ok else "bold red")
    out.print(made)
    for s in found:
        for mutant in s.survived:
            out.print(Text(f"survived: {mutant}"), soft_wrap=True)
        for mutant, reason in s.excused.items():
            out.print(Text(f"excused: {mutant}: {reason}", "dim"), soft_wrap=True)
    killed, excused = sum(len(s.killed) for s in found), sum(len(s.excused) for s in found)
    count = sum(s.count for s in found)
    out.print(f"{killed} of {count} mutants killed, {excused} excused", soft_wrap=True)
