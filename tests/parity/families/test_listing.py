"""Every family is a line of the table, and what it lists is where the table looks for it."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import parity.families
from parity.families.listing import CASES, CONVENTIONS, DERIVATIVES, FAULTS, FILES, NO_OTHER, REWRITINGS, TABLE, WEAKER

ROOM = Path(parity.families.__path__[0])
LISTS = {
    "cases": {"CASES": CASES},
    "faults": {"FAULTS": FAULTS},
    "formulas": {"WEAKER": WEAKER, "CONVENTIONS": CONVENTIONS, "DERIVATIVES": DERIVATIVES, "NO_OTHER": NO_OTHER},
    "transcription": {},
}


BESIDE = {
    "nn.normalization": {"other_factors"},
    "whole.arithmetic": {"rewritings"},
    "whole.training": {"dropout_faults", "loops", "rate_faults"},
}
"""What the lists of a family are made of, or, of the rewritings, another list."""


def files(family: str) -> list[str]:
    return sorted(path.stem for path in ROOM.joinpath(*family.split(".")).glob("*.py") if path.stem != "__init__")


def test_every_family_is_in_the_table_once() -> None:
    folders = {".".join(path.parent.relative_to(ROOM).parts) for path in ROOM.glob("*/*/*.py")}
    assert folders == set(TABLE)
    assert len(set(TABLE)) == len(TABLE)


@pytest.mark.parametrize("family", TABLE)
def test_a_family_has_only_files_that_the_table_reads(family: str) -> None:
    assert files(family)
    assert set(files(family)) - set(FILES) == BESIDE.get(family, set())


@pytest.mark.parametrize("family", TABLE)
def test_what_a_family_lists_is_in_the_table(family: str) -> None:
    for file in set(files(family)) & set(FILES):
        module = import_module(f"parity.families.{family}.{file}")
        names = {name for name in vars(module) if name in {*LISTS[file], "LAYERS", "OPTIMIZERS"}}
        assert names, f"{family}.{file} lists nothing"
        for name in names & LISTS[file].keys():
            assert all(any(one is known for known in LISTS[file][name]) for one in getattr(module, name))


@pytest.mark.parametrize(
    "listed", [CASES, FAULTS + REWRITINGS, WEAKER + CONVENTIONS], ids=["cases", "faults", "formulas"]
)
def test_names_are_unique(listed: tuple) -> None:
    names = [one.name for one in listed]
    assert len(set(names)) == len(names)


def test_transcriptions_are_read_where_they_are_needed() -> None:
    code = "import parity.families.listing, parity.run.judging, sys; print('mpmath' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
