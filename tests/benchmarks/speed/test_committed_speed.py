"""The committed measurement, and what the README says of it."""

import csv
import math
import re
from pathlib import Path

import pytest

from benchmarks.speed.speed_tables import figure

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SECTION = README[README.index("## Speed") : README.index("## What sets it apart")]


@pytest.fixture(scope="module")
def floors():
    with open(ROOT / "benchmarks" / "results" / "speed" / "floors.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_readme_shows_the_floors_that_were_measured(floors):
    lines = [re.split(r"\s{2,}", line.strip()) for line in SECTION.splitlines() if "refnet-" in line and "  " in line]
    shown = [line for line in lines if len(line) >= 6]
    found = {(row["network"], row["over"], row["under"]): row for row in floors}
    assert len(shown) == len([row for row in floors if "same bits" not in row["asked"]]) == 14
    for network, over, under, asked, ratio, spread, *verdict in shown:
        row = found[network, over, under]
        least, most = (figure(float(row[f"ratio_{end}"])) for end in ("least", "most"))
        assert (asked, ratio, spread) == (row["asked"], figure(float(row["ratio"])), f"({least} to {most})")
        assert verdict == {"True": ["met"], "False": ["not met"], "": []}[row["met"]]


NAMES = {"LSTM": "lstm", "encoder layer": "encoder"}
"""What the README calls networks."""


def test_the_readme_shows_the_whole_trainings_that_were_measured():
    with open(ROOT / "benchmarks" / "results" / "speed" / "trainings.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    block = SECTION[SECTION.index("    network       updates") :].split("\n\n")[0].splitlines()[1:]
    assert len(block) == 5
    for line in block:
        network, updates, *shown = re.split(r"\s{2,}", line.strip())
        of = [row for row in rows if row["network"] == NAMES.get(network, network)]
        assert updates == f"{int(of[0]['updates']):,}"
        names = ("refnet-captured", "torch-eager", "torch-compile", "jax-loop")
        found = {row["contender"]: row for row in of}
        for text, name in zip(shown, names, strict=True):
            row = found[name]
            assert text == f"{figure(float(row['fresh']))} ({figure(float(row['loaded']))})"
        assert {row["rounds"] for row in of} == {"3"}


def test_every_floor_was_measured(floors):
    assert all(math.isfinite(float(row["ratio"])) for row in floors)
