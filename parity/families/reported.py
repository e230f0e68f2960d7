"""Publicly documented gradient bugs, and how each is told. The table is `reported_bugs.json`, a row for each:

{"report": where it can be read, "wrong": what was wrong, and one of
 "seeded": names of mistakes of `parity.families.listing.FAULTS`, each the same wrong term in the same operation,
 "convention": the name of a documented other choice, which it was,
 "tested": the name of a program or schedule in tests/parity/families, of no covered class, which has to fail,
 "harmless": the name of a rewriting, or of a program there, which must not be flagged: the report was of no bug,
 "out of scope" or "not yet": why not}
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

HOW = ("seeded", "convention", "tested", "harmless", "out of scope", "not yet")


@dataclass(frozen=True)
class Reported:
    """One of them.

    Attributes:
        report: threads, as OWNER/REPOSITORY#NUMBER. wrong: in short.
        how: one of HOW. names: of what tells it; the reason, where nothing does.
    """

    report: str
    wrong: str
    how: str
    names: tuple[str, ...]


def _reported(row: dict[str, str | list[str]]) -> Reported:
    (how,) = row.keys() - {"report", "wrong"}
    names = row[how]
    return Reported(str(row["report"]), str(row["wrong"]), how, tuple([names] if isinstance(names, str) else names))


REPORTED: tuple[Reported, ...] = tuple(
    sorted(
        map(_reported, json.loads((Path(__file__).parent / "reported_bugs.json").read_text(encoding="utf-8"))),
        key=lambda reported: HOW.index(reported.how),
    )
)
