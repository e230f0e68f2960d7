"""The verdicts, in one table: when each is given, whether it is good enough, and whether it convicts an engine.

What comes first in the table and applies is the verdict of a tensor. Everything that a report, an exit code or the
score of the yardstick concludes is derived here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["SEVERITY", "TABLE", "VERDICTS", "Verdict", "all_ok", "is_caught", "is_ok", "worst"]


@dataclass(frozen=True)
class Verdict:
    """A row of the table.

    Attributes:
        name: the word that is said. when: it is said of a tensor.
        ok: whether a report that has it is good; None where it does not count.
        caught: whether it says that the engine is at fault: what a known mistake must end in.
    """

    name: str
    when: str
    ok: bool | None
    caught: bool = False


TABLE = (
    Verdict("unsupported", "the engine, or this machine, cannot do it; the reason is given", None),
    Verdict(
        "FAIL",
        "missing, misnamed, of another shape or dtype, not finite where the truth is, inputs changed, another answer "
        "when asked twice; or none of the following",
        False,
        caught=True,
    ),
    Verdict("undecided", "the truth of an element is not settled", False),
    Verdict("exact", "the correctly rounded truth", True),
    Verdict("blind", "zeros would pass though the truth is not zero, or a bound is not finite", False),
    Verdict("rounding", "every element is within its budget", True),
    Verdict("imprecise", "the right formula with less precision than declared", False, caught=True),
    Verdict("unstable", "within the budget of a weaker formula, which is named and sees the tensor", True),
    Verdict("convention", "a documented other choice, which is named and the same throughout the tensor", True),
)
"""In the order in which the verdicts are tried. `unsupported` is said of a whole record; `imprecise` where all failing
tensors together have the errors of a narrower format (`parity.verdict.narrower_formats`)."""

VERDICTS = tuple(row.name for row in TABLE)

_ROWS = {row.name: row for row in TABLE}

SEVERITY = (
    *(row.name for row in TABLE if row.ok),
    *(row.name for row in TABLE if row.ok is None),
    *(row.name for row in reversed(TABLE) if row.ok is False),
)
"""From best to worst: what of several verdicts is shown is the last of them here."""


def is_ok(verdict: str) -> bool:
    """Whether a tensor of this verdict is good, or does not count."""
    return _ROWS[verdict].ok is not False


def is_caught(verdict: str) -> bool:
    """Whether this verdict says that the engine is at fault."""
    return _ROWS[verdict].caught


def all_ok(verdicts: Iterable[str]) -> bool:
    """Whether a report with these verdicts is good: none is bad, and at least one counts."""
    found = [_ROWS[v].ok for v in verdicts]
    return True in found and False not in found


def worst(verdicts: Iterable[str]) -> str:
    """The worst of some verdicts; `exact` for none."""
    return max(verdicts, key=SEVERITY.index, default="exact")
