"""The table of reported bugs says of each how it is told: by a known mistake, or a convention, or why it is not."""

from __future__ import annotations

import json
from pathlib import Path

import parity
from parity.families.listing import CONVENTIONS, FAULTS

REPORTED = json.loads((Path(parity.__file__).parent / "families/reported_bugs.json").read_text(encoding="utf-8"))


def test_each_names_mistakes_or_a_convention_that_there_are_or_says_why_none() -> None:
    faults, conventions = {fault.name for fault in FAULTS}, {variant.name for variant in CONVENTIONS}
    for entry in REPORTED:
        (how,) = entry.keys() - {"report", "wrong"}
        if how == "seeded":
            assert entry[how], entry
            assert set(entry[how]) <= faults, entry
        elif how == "convention":
            assert entry[how] in conventions, entry
        else:
            assert how in ("out of scope", "not yet"), entry
            assert entry[how], entry


def test_most_are_told() -> None:
    told = [entry for entry in REPORTED if "seeded" in entry or "convention" in entry]
    assert len(REPORTED) == 111
    assert len(told) >= 75
